"""What is said about a document with many problems, and about whatever else may come as one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow import canonical, compile_plan
from mechaway_core.workflow.check import MOST_PROBLEMS
from tests.unit.workflow.documents import (
    Document,
    assert_has,
    chain,
    edge,
    errors,
    hook,
    look,
    lua,
    node_of,
    writer,
)

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
