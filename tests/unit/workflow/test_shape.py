"""What is said about the shape of a document: the workflow itself, unknown fields, aliases, nodes."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.sandbox import Sandbox
from mechaway_core.workflow import canonical
from mechaway_core.workflow.check import check
from tests.unit.workflow.documents import (
    SETTINGS,
    Document,
    after_hook,
    assert_has,
    assert_says,
    chain,
    edge,
    errors,
    hook,
    look,
    lua,
    node_of,
    writer,
)

# -- the workflow itself


@pytest.mark.parametrize("document", [None, True, 7, 1.5, "text", [], [{}], ""])
def test_a_document_that_is_no_object_is_one_error_at_its_root(sandbox: Sandbox, document: Any) -> None:
    assert_says(errors(sandbox, document), "", None, "object")


def test_a_good_document_has_nothing_said_about_it(sandbox: Sandbox) -> None:
    checked = look(sandbox, chain(hook(), lua(), writer()))
    assert (checked.errors, checked.warnings) == ((), ())


def test_an_empty_object_misses_its_id_and_its_nodes(sandbox: Sandbox) -> None:
    report = errors(sandbox, {})
    assert_has(report, "/id", None, "id is missing")
    assert_has(report, "/nodes", None, "nodes is missing")


def test_a_workflow_without_nodes_says_so(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, {"id": "w", "nodes": [], "edges": []}), "/nodes", None, "no nodes")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", 5, "id must be a text, not 5"),
        ("id", ["w"], "id must be a text, not a list"),
        ("id", "", "cannot be the id of a workflow"),
        ("id", "-w", "cannot be the id of a workflow"),
        ("id", "a b", "cannot be the id of a workflow"),
        ("id", "a/b", "cannot be the id of a workflow"),
        ("id", "ä", "cannot be the id of a workflow"),
        ("id", "w\n", "cannot be the id of a workflow"),
        ("id", "w" * 129, "cannot be the id of a workflow"),
        ("name", 5, "name must be a text, not 5"),
        ("name", "n" * 501, "name must be at most 500 long"),
        ("name", "a\0b", "NUL"),
        ("description", {}, "description must be a text, not an object"),
        ("active", "yes", 'active must be true or false, not "yes"'),
        ("active", 1, "active must be true or false, not 1"),
        ("nodes", {}, "nodes must be a list, not an object"),
        ("edges", "x", 'edges must be a list, not "x"'),
        ("settings", [], "settings must be an object, not a list"),
    ],
)
def test_the_shape_of_the_workflow_is_checked(sandbox: Sandbox, field: str, value: Any, words: str) -> None:
    assert_has(errors(sandbox, {"id": "w", "nodes": [hook()], "edges": []} | {field: value}), f"/{field}", None, words)


@pytest.mark.parametrize("workflow_id", ["w", "0", "A.b_c-9", "w" * 128])
def test_ids_of_letters_digits_and_some_signs_are_good(sandbox: Sandbox, workflow_id: str) -> None:
    assert errors(sandbox, chain(hook(), lua(workflow_id), id=workflow_id)) == []


@pytest.mark.parametrize(
    ("timeout", "words"), [("x", "a number"), (True, "a number"), (0, "more than 0"), (-1, "more than 0"), (1e9, "at most 86400")]
)
def test_the_timeout_of_a_run_is_a_number_of_seconds_within_a_day(sandbox: Sandbox, timeout: Any, words: str) -> None:
    assert_says(errors(sandbox, chain(hook(), settings={"timeout": timeout})), "/settings/timeout", None, words)


def test_an_id_given_from_outside_takes_the_place_of_that_in_the_document(sandbox: Sandbox) -> None:
    for document in (chain(hook(), id="other"), {"nodes": [hook()]}):
        checked = check(document, sandbox, SETTINGS, workflow_id="mine")
        assert (checked.errors, checked.document["id"]) == ((), "mine")
        assert next(iter(checked.document)) == "id"


# -- unknown fields


@pytest.mark.parametrize(
    ("document", "pointer", "node", "words"),
    [
        (chain(hook(), nme="x"), "/nme", None, ['"nme"', 'did you mean "name"?']),
        (chain(hook(), zz=1), "/zz", None, ['"zz"', "known here: id, name,"]),
        (chain(hook(), zz=None), "/zz", None, ['"zz"']),
        (chain(hook(prams={})), "/nodes/0/prams", "hook", ['"prams"', 'did you mean "params"?']),
        (chain(hook(type="Webhook")), "/nodes/0/type", "hook", ['"type"']),
        (after_hook(lua(retry={"attemps": 3})), "/nodes/1/retry/attemps", "calc", ['"attemps"']),
        (chain(hook(), settings={"tmeout": 3}), "/settings/tmeout", None, ['"tmeout"']),
        (after_hook(node_of("FunLogic", {"script": "1", "scirpt": "1"})), "/nodes/1/params/scirpt", "x", ['did you mean "script"?']),
    ],
)
def test_an_unknown_field_is_an_error_that_names_it(
    sandbox: Sandbox, document: Document, pointer: str, node: str | None, words: list[str]
) -> None:
    assert_says(errors(sandbox, document), pointer, node, *words)


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        (after_hook(lua(retry={"attemps": 3})), "/nodes/1/retry/attemps", 'did you mean "attempts"?'),
        (chain(hook(), settings={"tmeout": 3}), "/settings/tmeout", 'did you mean "timeout"?'),
    ],
)
def test_an_unknown_field_further_in_names_the_nearest_one_too(sandbox: Sandbox, document: Document, pointer: str, words: str) -> None:
    assert words in next(message for where, _, message in errors(sandbox, document) if where == pointer)


def test_an_unknown_field_of_an_edge_is_named_with_the_nearest_one(sandbox: Sandbox) -> None:
    document = {"id": "w", "nodes": [hook(), lua()], "edges": [{"form": "hook", "to": "calc"}]}
    report = errors(sandbox, document)
    assert_has(report, "/edges/0/form", None, '"form"', 'did you mean "from"?')
    assert_has(report, "/edges/0/from", None, "from is missing")


def test_meta_holds_whatever_it_likes_at_every_level(sandbox: Sandbox) -> None:
    anything = {"x": [1, {"y": None}], "$json": "{{", "nodes": "\0"}
    document = {
        "id": "w",
        "nodes": [hook(meta=anything), lua(meta=[1])],
        "edges": [edge("hook", "calc", meta="note")],
        "meta": anything,
    }
    checked = look(sandbox, document)
    assert (checked.errors, checked.warnings) == ((), ())
    assert checked.document["meta"] == anything
    assert checked.document["nodes"][0]["meta"] == anything
    assert checked.document["edges"][0]["meta"] == "note"


# -- aliases and null


@pytest.mark.parametrize("written", [{"type": "Webhook"}, {"type": "WebhookNode"}, {"node_type": "WebhookNode"}])
def test_other_names_of_a_node_type_are_read_and_never_written_back(sandbox: Sandbox, written: Document) -> None:
    checked = look(sandbox, {"id": "w", "nodes": [{"id": "hook", **written, "params": {"path": "/a"}}]})
    assert checked.errors == ()
    assert checked.document["nodes"] == [hook()]


def test_postgres_is_another_name_of_pgquery() -> None:
    for written in ("Postgres", "PostgresNode", "PGQuery", "PGQueryNode"):
        assert canonical({"nodes": [{"id": "x", "type": written}]})["nodes"][0]["node_type"] == "PGQuery"


def test_null_is_another_way_to_leave_an_optional_field_out(sandbox: Sandbox) -> None:
    empty = dict.fromkeys(("name", "disabled", "inputs", "outputs", "secrets", "timeout", "retry", "on_error", "meta"))
    document = chain(hook() | empty, lua(memory_mb=None) | empty)
    document |= dict.fromkeys(("name", "description", "active", "settings", "meta"))
    document["edges"][0] |= {"on": None, "meta": None}
    checked = look(sandbox, document)
    assert checked.errors == ()
    assert checked.document == chain(hook(), lua())


def test_null_inside_retry_and_settings_leaves_the_field_out_too(sandbox: Sandbox) -> None:
    checked = look(sandbox, chain(hook(), lua(retry={"attempts": 2, "on": None}), settings={"timeout": None}))
    assert checked.errors == ()
    assert checked.document["nodes"][1]["retry"] == {"attempts": 2}
    assert "timeout" not in checked.document.get("settings", {})


def test_null_inside_a_param_leaves_the_field_out_too(sandbox: Sandbox) -> None:
    columns = [{"name": "a", "type": None}]
    checked = look(sandbox, chain(hook(), writer(columns=columns, on_conflict={"columns": ["a"], "update": None})))
    assert checked.errors == ()


def test_null_as_the_body_of_an_answer_is_a_value_and_kept(sandbox: Sandbox) -> None:
    checked = look(sandbox, chain(hook(), node_of("Respond", {"body": None, "status": None})))
    assert checked.errors == ()
    assert checked.document["nodes"][1]["params"] == {"body": None}


def test_null_is_no_way_to_leave_a_required_field_out(sandbox: Sandbox) -> None:
    report = errors(
        sandbox, {"id": None, "nodes": [{"id": None, "node_type": None, "params": None}], "edges": [{"from": None, "to": None}]}
    )
    for pointer in ("/id", "/nodes/0/id", "/nodes/0/node_type", "/edges/0/from", "/edges/0/to"):
        assert_has(report, pointer, None, "is missing")


# -- nodes


@pytest.mark.parametrize("node", [None, 1, "hook", [], True])
def test_a_node_that_is_no_object_is_named_by_its_place(sandbox: Sandbox, node: Any) -> None:
    assert_has(errors(sandbox, {"id": "w", "nodes": [hook(), node]}), "/nodes/1", None, "a node is an object")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", 5, "name must be a text"),
        ("name", "a\0", "NUL"),
        ("node_type", 5, "node_type must be a text"),
        ("disabled", "no", "disabled must be true or false"),
        ("params", [], "params must be an object, not a list"),
        ("inputs", {"a": "1"}, "inputs must be a list, not an object"),
        ("outputs", "$json.a", "outputs must be an object or a list"),
        ("timeout", "5", 'timeout must be a number, not "5"'),
        ("timeout", True, "timeout must be a number, not true"),
        ("timeout", 0, "timeout must be more than 0, not 0"),
        ("timeout", 86_401, "timeout must be at most 86400"),
        ("retry", 3, "retry must be an object, not 3"),
        ("on_error", "ignore", 'on_error must be one of "stop", "continue" or "branch", not "ignore"'),
        ("on_error", 1, "on_error must be one of"),
    ],
)
def test_the_shape_of_a_node_is_checked(sandbox: Sandbox, field: str, value: Any, words: str) -> None:
    report = errors(sandbox, after_hook(lua() | {field: value}))
    assert_says(report, f"/nodes/1/{field}", "calc", words)


@pytest.mark.parametrize(
    ("retry", "below", "words"),
    [
        ({"attempts": 0}, "attempts", "at least 1, not 0"),
        ({"attempts": 101}, "attempts", "at most 100, not 101"),
        ({"attempts": 2.5}, "attempts", "a whole number"),
        ({"attempts": True}, "attempts", "a whole number"),
        ({"delay": -1}, "delay", "at least 0"),
        ({"delay": 3601}, "delay", "at most 3600"),
        ({"backoff": 0.5}, "backoff", "at least 1"),
        ({"backoff": 11}, "backoff", "at most 10"),
        ({"max_delay": -0.1}, "max_delay", "at least 0"),
        ({"on": "timeout"}, "on", "a list"),
        ({"on": ["5xx", "tiemout"]}, "on/1", '"timeout"'),
        ({"on": [99]}, "on/0", "100"),
        ({"on": [600]}, "on/0", "599"),
        ({"on": [True]}, "on/0", "true"),
    ],
)
def test_retry_is_kept_within_sense(sandbox: Sandbox, retry: Document, below: str, words: str) -> None:
    assert_says(errors(sandbox, after_hook(lua(retry=retry))), f"/nodes/1/retry/{below}", "calc", words)


def test_the_retry_of_the_contract_is_good(sandbox: Sandbox) -> None:
    retry = {"attempts": 3, "delay": 1, "backoff": 2, "max_delay": 60, "on": ["timeout", 429, "5xx"]}
    assert errors(sandbox, after_hook(lua(retry=retry))) == []


@pytest.mark.parametrize(
    ("written", "nearest"),
    [("Webhok", "Webhook"), ("funlogic", "FunLogic"), ("SimpleTableWrite", "SimpleTableWriter"), ("Zzz", None)],
)
def test_an_unknown_node_type_is_named_with_the_nearest_known_one(sandbox: Sandbox, written: str, nearest: str | None) -> None:
    [message] = [message for where, _, message in errors(sandbox, after_hook(node_of(written, {}))) if where == "/nodes/1/node_type"]
    assert f'"{written}"' in message
    assert (f'did you mean "{nearest}"?' if nearest else "FunLogic") in message


def test_an_unknown_node_type_is_named_as_it_was_written(sandbox: Sandbox) -> None:
    assert_has(errors(sandbox, after_hook(node_of("TelegramNode", {}))), "/nodes/1/node_type", "x", "TelegramNode")


def test_two_nodes_of_one_id_are_an_error_at_the_second(sandbox: Sandbox) -> None:
    report = errors(sandbox, {"id": "w", "nodes": [hook(), lua("a"), lua("a")], "edges": [edge("hook", "a")]})
    assert_says(report, "/nodes/2/id", "a", 'two nodes have the id "a"')


@pytest.mark.parametrize("node_id", ["a b", "", "_a", "a" * 129, "é"])
def test_the_id_of_a_node_keeps_to_the_rule(sandbox: Sandbox, node_id: str) -> None:
    assert_has(errors(sandbox, after_hook(lua(node_id))), "/nodes/1/id", node_id, "cannot be the id of a node")
