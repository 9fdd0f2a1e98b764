"""What is said about a document before it is saved: everything that is wrong, where, about which node and in which words."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow import canonical, compile_plan
from mechaway_core.workflow.check import MOST_PROBLEMS, Checked, check

SETTINGS = Settings()
Document = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    yield sandbox
    sandbox.close()


def hook(node_id: str = "hook", path: Any = "/a", **more: Any) -> Document:
    params = {"path": path} | {name: more.pop(name) for name in ("method", "respond", "mode", "auth") if name in more}
    return {"id": node_id, "node_type": "Webhook", "params": params} | more


def lua(node_id: str = "calc", script: Any = "return data", **more: Any) -> Document:
    params = {"script": script} | {name: more.pop(name) for name in ("memory_mb",) if name in more}
    return {"id": node_id, "node_type": "FunLogic", "params": params} | more


def writer(node_id: str = "save", table: Any = "t", columns: Any = ("a",), inputs: Any = None, **params: Any) -> Document:
    node: Document = {"id": node_id, "node_type": "SimpleTableWriter", "params": {"table": table, "columns": list(columns)} | params}
    return node if inputs is None else node | {"inputs": inputs}


def node_of(node_type: str, params: Document, **more: Any) -> Document:
    return {"id": "x", "node_type": node_type, "params": params} | more


def edge(source: str, target: str, **more: Any) -> Document:
    return {"from": source, "to": target} | more


def chain(*nodes: Document, **more: Any) -> Document:
    """A workflow of nodes one after the other."""
    edges = [edge(before["id"], after["id"]) for before, after in pairwise(nodes)]
    return {"id": "w", "nodes": list(nodes), "edges": edges} | more


def after_hook(*nodes: Document, **more: Any) -> Document:
    """A workflow of one webhook and nodes that each follow it."""
    return {"id": "w", "nodes": [hook(), *nodes], "edges": [edge("hook", node["id"]) for node in nodes]} | more


def look(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Checked:
    return check(document, sandbox, settings)


Report = list[tuple[str, str | None, str]]


def errors(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Report:
    return [(one.pointer, one.node, one.message) for one in look(sandbox, document, settings).errors]


def warnings(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Report:
    return [(one.pointer, one.node, one.message) for one in look(sandbox, document, settings).warnings]


def assert_says(report: Report, pointer: str, node: str | None, *words: str) -> None:
    """That one problem is there, and alone."""
    assert len(report) == 1, report
    assert_has(report, pointer, node, *words)


def assert_has(report: Report, pointer: str, node: str | None, *words: str) -> None:
    """That one problem is among others."""
    here = [message for where, who, message in report if (where, who) == (pointer, node)]
    assert any(all(word in message for word in words) for message in here), report


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


# -- params


@pytest.mark.parametrize(
    ("node", "below", "words"),
    [
        (node_of("Webhook", {}), "path", "path is missing"),
        (node_of("Webhook", {"path": 5}), "path", "path must be a text, not 5"),
        (node_of("Webhook", {"path": "/b", "method": 5}), "method", "method must be a text or a list"),
        (node_of("Webhook", {"path": "/b", "method": ["GET", 5]}), "method/1", "must be a text"),
        (node_of("Webhook", {"path": "/b", "respond": "last"}), "respond", '"first_item", "all_items" or "nothing"'),
        (node_of("FunLogic", {}), "script", "script is missing"),
        (node_of("FunLogic", {"script": ["return 1"]}), "script", "script must be a text, not a list"),
        (node_of("FunLogic", {"script": "1", "memory_mb": 0}), "memory_mb", "at least 1"),
        (node_of("FunLogic", {"script": "1", "memory_mb": 1.5}), "memory_mb", "a whole number"),
        (node_of("FunLogic", {"script": "1", "timeout": 0}), "timeout", "more than 0"),
        (node_of("FunLogic", {"script": "1", "timeout": "1"}), "timeout", "a number"),
        (node_of("SimpleTableWriter", {"columns": ["a"]}), "table", "table is missing"),
        (node_of("SimpleTableWriter", {"table": "t"}), "columns", "columns is missing"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": "a"}), "columns", 'columns must be a list, not "a"'),
        (node_of("SimpleTableWriter", {"table": "t", "columns": []}), "columns", "at least 1"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a", 5]}), "columns/1", "a text or an object, not 5"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": "a"}), "on_conflict", "an object"),
        (node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {}}), "on_conflict/columns", "missing"),
        (
            node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {"columns": []}}),
            "on_conflict/columns",
            "at least 1",
        ),
        (
            node_of("SimpleTableWriter", {"table": "t", "columns": ["a"], "on_conflict": {"columns": [1]}}),
            "on_conflict/columns/0",
            "a text",
        ),
        (node_of("SimpleTableReader", {"table": "t", "limit": 0}), "limit", "at least 1"),
        (node_of("SimpleTableReader", {"table": "t", "limit": "5"}), "limit", "a whole number"),
        (node_of("SimpleTableReader", {"table": "t", "output": "rows"}), "output", '"list" or "items"'),
        (node_of("SimpleTableReader", {"table": "t", "where": {"a": 1}}), "where", "a text"),
        (node_of("SimpleTableQuery", {}), "query", "query is missing"),
        (node_of("SimpleTableQuery", {"query": "SELECT 1", "write": "yes"}), "write", 'true or false, not "yes"'),
        (node_of("Respond", {"status": 199}), "status", "200"),
        (node_of("Respond", {"status": 600}), "status", "599"),
        (node_of("Respond", {"status": True}), "status", "true"),
        (node_of("Respond", {"headers": ["a"]}), "headers", "an object, not a list"),
        (node_of("Respond", {"headers": {"a": 5}}), "headers/a", "a text, not 5"),
    ],
)
def test_every_param_has_its_type(sandbox: Sandbox, node: Document, below: str, words: str) -> None:
    report = [one for one in errors(sandbox, {"id": "w", "nodes": [hook(), node]}) if one[0].startswith("/nodes/1/params")]
    assert_says(report, f"/nodes/1/params/{below}", "x", words)


@pytest.mark.parametrize(
    ("column", "below", "words"),
    [
        ({"name": "c", "typ": "TEXT"}, "typ", '"typ" is not a known field'),
        ({"name": "c", "type": "INT"}, "type", '"INTEGER"'),
        ({"name": 5}, "name", "a text, not 5"),
        ({"type": "TEXT"}, "name", "is missing"),
    ],
)
def test_a_column_that_is_an_object_is_looked_at_as_one(sandbox: Sandbox, column: Document, below: str, words: str) -> None:
    assert_says(errors(sandbox, after_hook(writer(columns=["a", column]))), f"/nodes/1/params/columns/1/{below}", "save", words)


@pytest.mark.parametrize(("memory_mb", "timeout", "words"), [(257, 1, "256 MB"), (1, 61, "60 s")])
def test_a_script_cannot_ask_for_more_than_the_server_gives(sandbox: Sandbox, memory_mb: int, timeout: float, words: str) -> None:
    node = node_of("FunLogic", {"script": "1", "memory_mb": memory_mb, "timeout": timeout})
    below = "memory_mb" if memory_mb > 256 else "timeout"
    assert_says(errors(sandbox, after_hook(node)), f"/nodes/1/params/{below}", "x", words, "MECHAWAY_")


def test_a_reader_cannot_ask_for_more_rows_than_the_server_reads(sandbox: Sandbox) -> None:
    node = node_of("SimpleTableReader", {"table": "t", "limit": 11})
    assert_says(errors(sandbox, after_hook(node), Settings(sql_max_rows=10)), "/nodes/1/params/limit", "x", "10 rows")


# -- tables, columns, SQL


@pytest.mark.parametrize("name", ["", "sqlite_x", "SQLITE_master", "a\0b", "a\nb", "n" * 129])
@pytest.mark.parametrize("node_type", ["SimpleTableWriter", "SimpleTableReader", "SimpleTableQuery"])
def test_a_table_needs_a_name_that_can_be_one(sandbox: Sandbox, node_type: str, name: str) -> None:
    needed: dict[str, Document] = {
        "SimpleTableWriter": {"columns": ["a"]},
        "SimpleTableReader": {},
        "SimpleTableQuery": {"query": "SELECT 1"},
    }
    assert_says(errors(sandbox, after_hook(node_of(node_type, {"table": name} | needed[node_type]))), "/nodes/1/params/table", "x", "name")


@pytest.mark.parametrize("name", ["Schüler", "with space", 'quo"ted', "select", "1st", "a;b"])
def test_a_table_may_have_any_name_that_sqlite_can_quote(sandbox: Sandbox, name: str) -> None:
    assert errors(sandbox, after_hook(writer(table=name, columns=[name]))) == []


def test_columns_need_names_and_each_only_once(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(writer(columns=["a", "", {"name": "A"}, "sqlite_b"])))
    assert_has(report, "/nodes/1/params/columns/1", "save", "empty")
    assert_has(report, "/nodes/1/params/columns/2", "save", '"A"', "twice")
    assert_has(report, "/nodes/1/params/columns/3", "save", "sqlite_")
    assert len(report) == 3


@pytest.mark.parametrize("conflict", [{"columns": ["b"]}, {"columns": ["a"], "update": ["b"]}])
def test_on_conflict_speaks_of_columns_of_the_node(sandbox: Sandbox, conflict: Document) -> None:
    assert_says(errors(sandbox, after_hook(writer(on_conflict=conflict))), "/nodes/1/params/on_conflict", "save", '"b"')


@pytest.mark.parametrize(("columns", "inputs"), [(["a", "b"], ["1"]), (["a"], ["1", "2", "3"])])
def test_inputs_are_counted_against_columns(sandbox: Sandbox, columns: list[str], inputs: list[str]) -> None:
    report = errors(sandbox, after_hook(writer(columns=columns, inputs=inputs)))
    assert_says(report, "/nodes/1/params/columns", "save", f"{len(columns)} column", f"{len(inputs)} input")


@pytest.mark.parametrize(
    ("query", "write", "words"),
    [
        ("", False, "empty"),
        ("  -- nothing", False, "empty"),
        ("SELECT 1; SELECT 2", False, "one statement"),
        ("INSERT INTO t VALUES (1)", False, '"write": true'),
        ("update t set a = 1", False, '"write": true'),
        ("DELETE FROM t", False, '"write": true'),
        ("WITH x AS (SELECT 1) DELETE FROM t", False, '"write": true'),
        ("CREATE TABLE t (a)", False, '"write": true'),
        ("DROP TABLE t", False, '"write": true'),
        ("ATTACH 'x' AS y", True, "ATTACH is not allowed"),
        ("PRAGMA journal_mode = DELETE", True, "PRAGMA is not allowed"),
        ("VACUUM INTO 'x'", True, "VACUUM is not allowed"),
        ("BEGIN", True, "BEGIN is not allowed"),
        ("COMMIT", True, "COMMIT is not allowed"),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1", True, "not allowed"),
        ("CREATE VIRTUAL TABLE x USING fts5(a)", True, "not allowed"),
        ("SELECT load_extension('x')", True, "load_extension"),
        ("DELETE FROM sqlite_schema", True, "not allowed"),
        ("SELEC 1", False, "SELEC is not allowed"),
        ("SELECT FROM", False, "syntax error"),
        ("SELECT (1", False, "incomplete"),
        ("SELECT nonsense(1)", False, "no such function"),
        ("SELECT '\0'", False, "NUL"),
    ],
)
def test_sql_that_the_guard_would_refuse_is_refused_before_it_is_saved(sandbox: Sandbox, query: str, write: bool, words: str) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableQuery", {"query": query, "write": write})))
    assert_says(report, "/nodes/1/params/query", "x", words)


@pytest.mark.parametrize(
    "query", ["SELECT * FROM not_there_yet WHERE a = ?", "SELECT :name", "WITH x AS (SELECT 1) SELECT * FROM x", "VALUES (1)", "SELECT 1;"]
)
def test_sql_that_only_reads_is_good_whether_its_tables_are_there_or_not(sandbox: Sandbox, query: str) -> None:
    assert errors(sandbox, after_hook(node_of("SimpleTableQuery", {"query": query}))) == []


@pytest.mark.parametrize(
    ("params", "below", "words"),
    [
        ({"where": "a = "}, "where", "syntax error"),
        ({"where": "1; DROP TABLE t"}, "where", ";"),
        ({"where": "a = 'x"}, "where", "never closed"),
        ({"where": "1) OR (1"}, "where", ")"),
        ({"order_by": "id; DROP TABLE t"}, "order_by", ";"),
        ({"order_by": "id (("}, "order_by", "never closed"),
        ({"where": "a = 1", "order_by": "id; DROP TABLE t"}, "order_by", ";"),
    ],
)
def test_the_condition_and_order_of_a_reader_are_sql_and_no_more(sandbox: Sandbox, params: Document, below: str, words: str) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableReader", {"table": "t"} | params)))
    assert_says(report, f"/nodes/1/params/{below}", "x", words)


def test_inputs_without_a_condition_have_nothing_to_be_bound_to(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(node_of("SimpleTableReader", {"table": "t"}, inputs=["1"])))
    assert_says(report, "/nodes/1/params/where", "x", "inputs")


@pytest.mark.parametrize("node", [lua(inputs=["1"]), node_of("Respond", {}, inputs=["1"])])
def test_a_node_that_takes_no_inputs_says_so(sandbox: Sandbox, node: Document) -> None:
    assert_says(errors(sandbox, after_hook(node)), "/nodes/1/inputs", node["id"], "takes no inputs")


# -- webhooks


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a b", "character"),
        ("/a?b=1", "character"),
        ("/a#b", "character"),
        ("/a%20b", "character"),
        ("/a\\b", "character"),
        ("/a\n", "character"),
        ("/a//b", "empty segment"),
        ("/a/../b", '".."'),
        ("/./b", '"."'),
        ("/:", "does not name a part"),
        ("/:1a", "does not name a part"),
        ("/:a-b", "does not name a part"),
        ("/:id/x/:id", "stands twice"),
        ("/" + "a" * 1000, "1000"),
    ],
)
def test_the_path_of_a_webhook_can_be_a_path(sandbox: Sandbox, path: str, words: str) -> None:
    assert_says(errors(sandbox, chain(hook(path=path))), "/nodes/0/params/path", "hook", words)


@pytest.mark.parametrize("path", ["/", "", "grade", "/grade/", "/a/:b/c/:d_2", "/ünïcode", "/~a.b-c_d", "/a:b"])
def test_paths_of_webhooks_that_are_good(sandbox: Sandbox, path: str) -> None:
    assert errors(sandbox, chain(hook(path=path))) == []


@pytest.mark.parametrize("method", ["FETCH", "", "CONNECT", ["GET", "PST"], []])
def test_a_webhook_answers_methods_that_there_are(sandbox: Sandbox, method: Any) -> None:
    assert_says(errors(sandbox, chain(hook(method=method))), "/nodes/0/params/method", "hook", "method")


@pytest.mark.parametrize("method", ["get", "any", "ANY", ["GET", "post"], "PATCH"])
def test_methods_may_be_written_in_either_case(sandbox: Sandbox, method: Any) -> None:
    assert errors(sandbox, chain(hook(method=method))) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "a/"}),
        ({"path": "/a"}, {"path": "/a", "method": "any"}),
        ({"path": "/a", "method": "ANY"}, {"path": "/a", "method": "GET"}),
        ({"path": "/a", "method": ["GET", "POST"]}, {"path": "/a", "method": ["PUT", "post"]}),
        ({"path": "/a/:x"}, {"path": "/a/:y"}),
    ],
)
def test_two_webhooks_with_one_address_are_an_error_that_names_the_first(sandbox: Sandbox, one: Document, other: Document) -> None:
    document = {"id": "w", "nodes": [hook("first", **one), hook("second", **other)]}
    assert_says(errors(sandbox, document), "/nodes/1/params/path", "second", '"first"')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "/a", "method": "GET"}),
        ({"path": "/a/b"}, {"path": "/a/:x"}),
        ({"path": "/a/:x"}, {"path": "/:x/a"}),
        ({"path": "/a"}, {"path": "/A"}),
        ({"path": "/a"}, {"path": "/a", "disabled": True}),
        ({"path": "/a", "disabled": True}, {"path": "/a"}),
    ],
)
def test_webhooks_that_differ_in_method_or_path_live_side_by_side(sandbox: Sandbox, one: Document, other: Document) -> None:
    assert errors(sandbox, {"id": "w", "nodes": [hook("first", **one), hook("second", **other)]}) == []


@pytest.mark.parametrize("name", ["a b", "a:b", "", "ä", "a\n"])
def test_a_header_needs_a_name_that_can_be_one(sandbox: Sandbox, name: str) -> None:
    report = errors(sandbox, after_hook(node_of("Respond", {"headers": {name: "x"}})))
    assert len(report) == 1
    assert report[0][0].startswith("/nodes/1/params/headers")
    assert "cannot be the name of a header" in report[0][2]


@pytest.mark.parametrize("name", ["Content-Length", "connection", "Transfer-Encoding"])
def test_headers_that_are_the_servers_own_cannot_be_set(sandbox: Sandbox, name: str) -> None:
    report = errors(sandbox, after_hook(node_of("Respond", {"headers": {name: "x"}})))
    assert "server's own" in report[0][2]


def test_a_status_that_is_text_is_an_expression(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, after_hook(node_of("Respond", {"status": "ok"}))), "/nodes/1/params/status", "x", '"ok"')
    assert errors(sandbox, after_hook(node_of("Respond", {"status": "{{ $json.ok and 200 or 404 }}"}))) == []


# -- Lua and pins


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("return (", ["near"]),
        ("local a = 1\nlocal b = = 2\nreturn a", ["line 2", "'='"]),
        ("return data\nend", ["line 2", "'end'"]),
        ("goto nowhere", ["nowhere"]),
        ("local x <const> = 1; x = 2", ["x"]),
        ("return 'open", ["line 1"]),
        ("\n\n\n  if true then", ["line 4"]),
    ],
)
def test_lua_that_does_not_compile_is_named_with_its_line(sandbox: Sandbox, script: str, words: list[str]) -> None:
    assert_says(errors(sandbox, after_hook(lua(script=script))), "/nodes/1/params/script", "calc", "does not compile", *words)


@pytest.mark.parametrize("script", ["", "  \n "])
def test_an_empty_script_is_an_error(sandbox: Sandbox, script: str) -> None:
    assert_has(errors(sandbox, after_hook(lua(script=script))), "/nodes/1/params/script", "calc", "empty")


@pytest.mark.parametrize("script", ["data", "data.score * 2", "return data", "local a = 1\nreturn a", "-- nothing", "{a = 1}"])
def test_scripts_and_expressions_both_compile(sandbox: Sandbox, script: str) -> None:
    assert errors(sandbox, after_hook(lua(script=script))) == []


@pytest.mark.parametrize("script", [b"\x1bLua".decode("latin-1"), "return 1 -- \0", "return '\0'"])
def test_bytecode_and_strange_characters_in_a_script_are_no_surprise(sandbox: Sandbox, script: str) -> None:
    for where, node, _ in errors(sandbox, after_hook(lua(script=script))):
        assert (where, node) == ("/nodes/1/params/script", "calc")


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("$jsn.a", "did you mean json"),
        ("$", "known"),
        ("published", 'did you mean the string "\\"published\\""?'),
        ("", "empty"),
        ("1\n2", "one line"),
        ("$json.a +", "does not compile"),
        ("hello world", "does not compile"),
        ("$run.nothing", "$run.id"),
        ("$node", "$node needs the id of a node"),
        ("$secret.KEY", "$secret"),
        ("'x' .. $secret.KEY", "$secret"),
        ("$nope.x .. 'a'", "$nope"),
    ],
)
def test_a_pin_that_does_not_parse_is_named_by_its_place(sandbox: Sandbox, pin: str, words: str) -> None:
    report = errors(sandbox, after_hook(writer(columns=["a", "b"], inputs=["1", pin])))
    assert_says(report, "/nodes/1/inputs/1", "save", words)


@pytest.mark.parametrize(
    "pin",
    ["$json", "$json.a[0]['odd key']", "$query.q", "$headers.content-type", "$path.id", "$run.id", "10", "null", '"x"', "[1]", "{}",
     "now()", "date('%Y')", "math.floor($json.a / 10)", "$json.a or 'none'", 5, None, {"a": 1}, [True]],
)  # fmt: skip
def test_pins_that_are_good(sandbox: Sandbox, pin: Any) -> None:
    assert errors(sandbox, after_hook(writer(columns=["a"], inputs=[pin]))) == []


def test_output_pins_are_looked_at_as_well(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(lua(outputs={"a/b": "1 +"})))
    assert_says(report, "/nodes/1/outputs/a~1b", "calc", "does not compile")
    assert_has(errors(sandbox, after_hook(lua(outputs=["$json.a", "1 + 1"]))), "/nodes/1/outputs", "calc", "paths")
    assert_has(errors(sandbox, after_hook(lua(outputs=["$json.a", "$query.a"]))), "/nodes/1/outputs", "calc", '"a"')
    assert errors(sandbox, after_hook(lua(outputs=["$json.a", "$query.b"]))) == []


def test_every_output_pin_that_does_not_parse_is_named_by_its_own_place(sandbox: Sandbox) -> None:
    report = errors(sandbox, after_hook(lua(outputs={"a": "$jsn", "b": "1", "c": "bare"})))
    assert_has(report, "/nodes/1/outputs/a", "calc", "$jsn")
    assert_has(report, "/nodes/1/outputs/c", "calc", "bare")
    assert len(report) == 2


def test_expressions_in_template_params_are_looked_at_however_deep_they_are(sandbox: Sandbox) -> None:
    body = {"a/b": ["{{ $json.ok }}", {"c": "x {{ 1 + }} y"}], "d~e": "{{ $jsn }}", "f": "{{ never closed"}
    report = errors(sandbox, after_hook(node_of("Respond", {"body": body})))
    assert_has(report, "/nodes/1/params/body/a~1b/1/c", "x", "does not compile")
    assert_has(report, "/nodes/1/params/body/d~0e", "x", "$jsn")
    assert_has(report, "/nodes/1/params/body/f", "x", "never closed")
    assert len(report) == 3


def test_a_node_path_may_only_look_back_along_the_edges(sandbox: Sandbox) -> None:
    beside = lua("beside")
    for wanted, words in (
        ("nope", "there is no node"),
        ("beside", "does not come before"),
        ("save", "does not come before"),
        ("later", "before"),
    ):
        document = {
            "id": "w",
            "nodes": [hook(), beside, writer(inputs=[f"$node.{wanted}.x"]), lua("later")],
            "edges": [edge("hook", "beside"), edge("hook", "save"), edge("save", "later")],
        }
        assert_says(errors(sandbox, document), "/nodes/2/inputs/0", "save", f"$node.{wanted}.x", words)


def test_an_unknown_node_in_a_path_is_named_with_the_nearest_one(sandbox: Sandbox) -> None:
    document = chain(hook("order-hook"), writer(inputs=["$node.order-hok.x"]))
    assert_says(errors(sandbox, document), "/nodes/1/inputs/0", "save", 'did you mean "order-hook"?')


def test_node_paths_are_found_in_lua_in_outputs_and_in_templates(sandbox: Sandbox) -> None:
    respond = node_of("Respond", {"body": "{{ $node.gone.a }}"}, outputs={"z": "($node.gone.b or 1) + 1"})
    report = errors(sandbox, after_hook(respond))
    assert_has(report, "/nodes/1/params/body", "x", '"gone"')
    assert_has(report, "/nodes/1/outputs/z", "x", '"gone"')
    assert errors(sandbox, chain(hook(), lua("a"), node_of("Respond", {"body": "{{ $node.hook.a }} {{ $node.a.b }}"}))) == []


# -- edges, cycles, triggers


@pytest.mark.parametrize("value", [None, 1, "hook", [], ["hook", "calc"]])
def test_an_edge_that_is_no_object_is_named_by_its_place(sandbox: Sandbox, value: Any) -> None:
    report = errors(sandbox, {"id": "w", "nodes": [hook()], "edges": [value]})
    assert_says(report, "/edges/0", None, "an edge is an object with from and to")


def test_edges_to_and_from_nothing_are_named_with_the_nearest_node(sandbox: Sandbox) -> None:
    document = {"id": "w", "nodes": [hook(), lua()], "edges": [edge("hok", "calc"), edge("hook", "clac"), edge("hook", "calc")]}
    report = errors(sandbox, document)
    assert_has(report, "/edges/0/from", None, 'no node "hok"', 'did you mean "hook"?')
    assert_has(report, "/edges/1/to", None, 'no node "clac"', 'did you mean "calc"?')
    assert len(report) == 2


def test_the_same_edge_twice_is_an_error_at_the_second(sandbox: Sandbox) -> None:
    document = {"id": "w", "nodes": [hook(), lua()], "edges": [edge("hook", "calc"), edge("hook", "calc", on="main")]}
    assert_says(errors(sandbox, document), "/edges/1", None, '"hook"', '"calc"', "already")


def test_two_edges_by_different_exits_are_two_edges(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a", on_error="branch"), lua("b"))
    document["edges"].append(edge("a", "b", on="error"))
    checked = look(sandbox, document)
    assert (checked.errors, checked.warnings) == ((), ())


@pytest.mark.parametrize("name", ["success", "Main", ""])
def test_an_exit_that_a_node_does_not_have_is_named_with_those_it_has(sandbox: Sandbox, name: str) -> None:
    document = {"id": "w", "nodes": [hook(), lua("a"), lua("b")], "edges": [edge("hook", "a"), edge("a", "b", on=name)]}
    assert_says(errors(sandbox, document), "/edges/1/on", "a", f'"{name}"', "main, error")


def test_an_edge_from_a_node_to_itself_is_a_cycle(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"))
    document["edges"].append(edge("a", "a"))
    assert_says(errors(sandbox, document), "/edges", None, "a → a")


def test_a_cycle_is_named_along_its_edges_from_its_first_node_in_the_document(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"), lua("b"), lua("c"), lua("after"))
    document["edges"].append(edge("c", "a"))
    assert_says(errors(sandbox, document), "/edges", None, "a → b → c → a")
    assert "hook" not in errors(sandbox, document)[0][2]
    assert "after" not in errors(sandbox, document)[0][2]


def test_every_cycle_that_stands_by_itself_is_named(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"), lua("b"), lua("c"), lua("d"))
    document["edges"] += [edge("b", "a"), edge("d", "d")]
    report = errors(sandbox, document)
    assert any("a → b → a" in message for _, _, message in report)
    assert any("d → d" in message for _, _, message in report)


def test_a_very_long_cycle_is_told_in_short(sandbox: Sandbox) -> None:
    document = chain(hook(), *(lua(f"n{number}") for number in range(100)))
    document["edges"].append(edge("n99", "n0"))
    [(_, _, message)] = errors(sandbox, document)
    assert "n0 → n1" in message
    assert message.endswith("→ n0")
    assert "…" in message
    assert len(message) < 300


@given(data=st.data())
def test_what_is_named_as_a_cycle_is_one(sandbox: Sandbox, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    pairs = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))))
    document = {
        "id": "w",
        "nodes": [lua(f"n{number}") for number in range(count)],
        "edges": [edge(f"n{source}", f"n{target}") for source, target in sorted(pairs)],
    }
    rings = [message.partition(": ")[2].split(" → ") for where, _, message in _structure(sandbox, document) if where == "/edges"]
    for ring in rings:
        assert ring[0] == ring[-1]
        assert len(set(ring)) == len(ring) - 1
        for source, target in pairwise(ring):
            assert (int(source[1:]), int(target[1:])) in pairs
    assert bool(rings) == _has_cycle(count, pairs)


def _structure(sandbox: Sandbox, document: Document) -> Report:
    """The errors of a document whose Lua is known to be good: nothing is sent to the sandbox."""
    for node in document["nodes"]:
        node["node_type"], node["params"] = "Respond", {}
    return errors(sandbox, document)


def _has_cycle(count: int, pairs: set[tuple[int, int]]) -> bool:
    left = set(range(count))
    while free := {number for number in left if not any(target == number and source in left for source, target in pairs)}:
        left -= free
    return bool(left)


def test_a_workflow_that_nothing_can_start_says_so(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, chain(lua("a"), lua("b"))), "/nodes", None, "no trigger", "Webhook")


def test_an_edge_into_a_trigger_is_an_error_at_the_trigger(sandbox: Sandbox) -> None:
    document = chain(hook("h1"), lua("a"), hook("h2", path="/b"))
    assert_says(errors(sandbox, document), "/nodes/2", "h2", "no edge can lead to it")


def test_a_trigger_takes_no_inputs(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, chain(hook(inputs=["1"]))), "/nodes/0/inputs", "hook", "takes no inputs")


# -- warnings


def test_a_node_that_no_trigger_leads_to_is_warned_of(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"))
    document["nodes"] += [lua("lost"), lua("lost-too")]
    document["edges"].append(edge("lost", "lost-too"))
    checked = look(sandbox, document)
    assert checked.errors == ()
    assert [(one.pointer, one.node) for one in checked.warnings] == [("/nodes/2", "lost"), ("/nodes/3", "lost-too")]
    assert all("never runs" in one.message for one in checked.warnings)


def test_an_edge_by_error_from_a_node_that_does_not_branch_is_warned_of(sandbox: Sandbox) -> None:
    for on_error in ({}, {"on_error": "stop"}, {"on_error": "continue"}):
        document = chain(hook(), lua("a", **on_error), lua("b"))
        document["edges"].append(edge("a", "b", on="error"))
        assert errors(sandbox, document) == []
        assert_says(warnings(sandbox, document), "/edges/2/on", "a", '"error"', '"branch"')


def test_a_branch_that_no_edge_takes_on_is_warned_of(sandbox: Sandbox) -> None:
    document = after_hook(lua(on_error="branch"))
    assert errors(sandbox, document) == []
    assert_says(warnings(sandbox, document), "/nodes/1/on_error", "calc", '"error"', "no edge")


def test_a_webhook_whose_run_may_outlast_the_front_door_is_warned_of(sandbox: Sandbox) -> None:
    document = chain(hook(), lua(), settings={"timeout": 60})
    assert warnings(sandbox, document) == []
    assert warnings(sandbox, document, Settings(front_door_timeout=60)) == []
    assert_says(warnings(sandbox, document, Settings(front_door_timeout=29)), "/nodes/0", "hook", "60 s", "29 s")


def test_warnings_do_not_stand_among_errors(sandbox: Sandbox) -> None:
    checked = look(sandbox, {"id": "w", "nodes": [hook(), lua("lost", script="return (")]})
    assert_says([(one.pointer, one.node, one.message) for one in checked.errors], "/nodes/1/params/script", "lost", "compile")
    assert [one.node for one in checked.warnings] == ["lost"]


# -- all of it at once


def test_all_problems_of_a_document_are_told_at_once(sandbox: Sandbox) -> None:
    document = {
        "id": "bad id",
        "nme": "x",
        "active": 1,
        "nodes": [
            hook(path="/a b"),
            lua("a", "return ("),
            lua("a"),
            writer("w", "sqlite_x", ["p", "q"], ["$jsn"]),
            node_of("Nothing", {}),
            7,
            lua("r", retry={"attempts": 0}, timeout=-1, on_error="?"),
            node_of("SimpleTableQuery", {"query": "DROP TABLE t"}, id="q"),
        ],
        "edges": [edge("hook", "a"), edge("a", "w"), edge("w", "a"), edge("nowhere", "q"), 7],
    }
    found = {where for where, _, _ in errors(sandbox, document)}
    assert found >= {
        "/id", "/nme", "/active", "/nodes/0/params/path", "/nodes/1/params/script", "/nodes/2/id", "/nodes/3/params/table",
        "/nodes/3/params/columns", "/nodes/3/inputs/0", "/nodes/4/node_type", "/nodes/5", "/nodes/6/retry/attempts", "/nodes/6/timeout",
        "/nodes/6/on_error", "/nodes/7/params/query", "/edges", "/edges/3/from", "/edges/4",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("node", "hidden", "words"),
    [
        (node_of("FunLogic", {"script": "return (", "memory_mb": 0}), "script", "compile"),
        (node_of("SimpleTableQuery", {"query": "DROP TABLE t", "output": "rows"}), "query", "write"),
        (node_of("SimpleTableWriter", {"table": "sqlite_x", "columns": []}), "table", "sqlite_"),
        (node_of("Webhook", {"path": "/a b", "respond": "?"}), "path", "character"),
    ],
)
def test_one_param_of_a_wrong_shape_does_not_hide_what_is_wrong_with_another(
    sandbox: Sandbox, node: Document, hidden: str, words: str
) -> None:
    assert_has(errors(sandbox, {"id": "w", "nodes": [hook(), node]}), f"/nodes/1/params/{hidden}", "x", words)


def test_no_report_is_longer_than_anybody_reads(sandbox: Sandbox) -> None:
    checked = look(sandbox, {"id": "w", "nodes": list(range(3000)), "edges": list(range(3000))})
    assert len(checked.errors) == MOST_PROBLEMS


def test_ten_thousand_nodes_are_checked_and_compiled(sandbox: Sandbox) -> None:
    count = 10_000
    document = chain(hook(), *(lua(f"n{number}", f"return {number}") for number in range(count)))
    document["edges"] += [edge("hook", f"n{number}") for number in range(1, count)]
    checked = look(sandbox, document)
    assert (checked.errors, checked.warnings) == ((), ())
    plan = compile_plan(checked.document)
    assert len(plan.steps) == count + 1
    assert len(plan.start(plan.index["hook"]).order) == count + 1


# Each of these takes a second when every name is looked at once, and many minutes when every name is held against every other.


def heavy_edges() -> Document:
    names = [f"the-node-of-number-{number}" for number in range(5000)]
    edges = [edge("hook", f"teh-nod-of-number-{number}") for number in range(5000)]
    return {"id": "w", "nodes": [hook(), *(node_of("Respond", {}, id=name) for name in names)], "edges": edges}


def heavy_ids() -> Document:
    letters = "".join(chr(0x4E00 + (number * number + number // 7) % 300) for number in range(300_000))
    return {"id": "w", "nodes": [hook(), lua(letters)], "edges": [edge("hook", letters[::-1])]}


def heavy_paths() -> Document:
    nodes = [node_of("SimpleTableQuery", {"query": "SELECT ?"}, id=f"r{number}", inputs=["$node.nobody.x"]) for number in range(5000)]
    return chain(hook(), *nodes)


@pytest.mark.parametrize("heavy", [heavy_edges, heavy_ids, heavy_paths])
def test_a_document_made_to_keep_the_check_busy_is_checked_in_a_moment(tmp_path: Path, heavy: Any) -> None:
    file = tmp_path / "heavy.json"
    file.write_text(json.dumps(heavy()))
    command = [sys.executable, "-m", "mechaway_core.cli", "check", "--json", str(file)]
    checked = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert checked.returncode == 1, checked.stderr
    [report] = json.loads(checked.stdout)
    assert "there is no node" in report["errors"][-1]["message"]


def test_many_webhooks_and_many_node_paths_are_checked(sandbox: Sandbox) -> None:
    count = 1500
    readers = [node_of("SimpleTableQuery", {"query": "SELECT ?"}, id=f"r{number}", inputs=["$node.hook.x"]) for number in range(count)]
    document = chain(hook(), *readers)
    document["nodes"] += [hook(f"h{number}", f"/h{number}") for number in range(count)]
    assert errors(sandbox, document) == []


# -- whatever it is

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)
IDS = st.sampled_from(["hook", "a", "b", "c"])
TYPES = st.sampled_from(
    ["Webhook", "FunLogic", "Respond", "SimpleTableWriter", "SimpleTableReader", "SimpleTableQuery", "WebhookNode", "WebhookNodeNode",
     "Node", "NodeNode", "Postgres", "Nothing"]
)  # fmt: skip
PINS = st.sampled_from(["$json.a", "$jsn", "1", "now()", "bare", "$node.a.x", "", "1 +", "$json['a", '"x"']) | JSON
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "path": st.sampled_from(["/a", "/:x", "/a//b", ""]) | JSON,
        "method": st.sampled_from(["GET", "any", ["POST"]]) | JSON,
        "script": st.sampled_from(["return data", "return (", "1"]) | JSON,
        "memory_mb": JSON,
        "timeout": JSON,
        "table": st.sampled_from(["t", "sqlite_x"]) | JSON,
        "columns": st.lists(st.sampled_from(["a", "b", "A"]) | st.fixed_dictionaries({"name": JSON}) | JSON, max_size=3) | JSON,
        "on_conflict": st.fixed_dictionaries({"columns": st.just(["a"]) | JSON}, optional={"update": JSON}) | JSON,
        "where": st.sampled_from(["a = 1", "a = ("]) | JSON,
        "order_by": JSON,
        "limit": JSON,
        "output": st.sampled_from(["list", "items"]) | JSON,
        "query": st.sampled_from(["SELECT 1", "DROP TABLE t", "SELEC"]) | JSON,
        "write": JSON,
        "status": st.sampled_from([200, "{{ $json.s }}"]) | JSON,
        "headers": st.dictionaries(st.text(max_size=4), PINS, max_size=2) | JSON,
        "body": JSON,
        "extra": JSON,
    },
)
NODES = st.fixed_dictionaries(
    {"id": IDS | JSON, "params": PARAMS | JSON},
    optional={
        "node_type": TYPES | JSON,
        "type": TYPES | JSON,
        "name": JSON,
        "disabled": JSON,
        "inputs": st.lists(PINS, max_size=3) | JSON,
        "outputs": st.dictionaries(st.text(max_size=3), PINS, max_size=3) | st.lists(PINS, max_size=3) | JSON,
        "secrets": JSON,
        "timeout": JSON,
        "retry": st.dictionaries(st.sampled_from(["attempts", "delay", "backoff", "max_delay", "on", "x"]), JSON, max_size=3) | JSON,
        "on_error": st.sampled_from(["stop", "continue", "branch"]) | JSON,
        "meta": JSON,
        "extra": JSON,
    },
)
EDGES = st.fixed_dictionaries(
    {"from": IDS | JSON, "to": IDS | JSON}, optional={"on": st.sampled_from(["main", "error", "x"]) | JSON, "z": JSON}
)
DOCUMENTS = (
    st.fixed_dictionaries(
        {"id": st.just("w") | JSON, "nodes": st.lists(NODES | JSON, max_size=4) | JSON},
        optional={
            "name": JSON,
            "description": JSON,
            "active": JSON,
            "settings": st.fixed_dictionaries({"timeout": JSON}) | JSON,
            "edges": st.lists(EDGES | JSON, max_size=4) | JSON,
            "meta": JSON,
            "extra": JSON,
        },
    )
    | JSON
)


@given(document=DOCUMENTS)
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_the_answer_is_a_report(sandbox: Sandbox, document: Any) -> None:
    before = copy.deepcopy(document)
    checked = look(sandbox, document, Settings(front_door_timeout=5))
    assert document == before
    for problem in (*checked.errors, *checked.warnings):
        assert problem.message
        assert problem.pointer == "" or problem.pointer.startswith("/")
        assert problem.node is None or isinstance(problem.node, str)
    if not checked.errors:
        compile_plan(checked.document)


@given(document=DOCUMENTS)
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_canonical_form_of_a_canonical_form_is_itself(document: Any) -> None:
    once = canonical(document)
    twice = canonical(once)
    assert twice == once
    assert _order(twice) == _order(once)


@given(document=DOCUMENTS)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_document_and_its_canonical_form_are_told_the_same(sandbox: Sandbox, document: Any) -> None:
    first = look(sandbox, document)
    again = look(sandbox, first.document)
    assert (again.errors, again.warnings, again.document) == (first.errors, first.warnings, first.document)


def _order(value: Any) -> Any:
    """The keys of a value as they stand, all the way down."""
    if isinstance(value, dict):
        return [(key, _order(child)) for key, child in value.items()]
    return [_order(child) for child in value] if isinstance(value, list) else None


@pytest.mark.parametrize("written", ["WebhookNodeNode", "FooNodeNodeNode", "NodeNode", "Node", "PostgresNodeNode", ""])
def test_a_node_type_is_read_the_same_way_however_often_it_was_saved(written: str) -> None:
    once = canonical({"nodes": [{"id": "x", "type": written}]})
    assert canonical(once) == once


def test_the_canonical_form_has_its_fields_in_one_order() -> None:
    raw = {
        "edges": [{"to": "b", "on": "main", "from": "a"}],
        "nodes": [
            {"params": {"z": 1, "a": 2}, "type": "FunLogicNode", "id": "a", "meta": 1, "name": "A", "on_error": "stop", "inputs": []}
        ],
        "meta": {},
        "name": "n",
        "id": "w",
    }
    document = canonical(raw)
    assert list(document) == ["id", "name", "nodes", "edges", "meta"]
    assert list(document["nodes"][0]) == ["id", "name", "node_type", "params", "inputs", "on_error", "meta"]
    assert list(document["nodes"][0]["params"]) == ["z", "a"]
    assert list(document["edges"][0]) == ["from", "to", "on"]


def test_nothing_that_was_meant_gets_lost_in_the_canonical_form(sandbox: Sandbox) -> None:
    document = chain(
        hook(method=["GET"], name="In", disabled=True),
        writer(inputs=["$json.a"], on_conflict={"columns": ["a"], "update": False}) | {"outputs": {"x": "$json._inserted_id"}},
        lua(retry={"attempts": 2, "on": [429]}, timeout=1.5, on_error="continue"),
        name="N",
        description="D",
        active=False,
        settings={"timeout": 10},
        meta={"x": 1},
    )
    assert look(sandbox, document).document == document
