"""FunLogic: Lua in, items out, within its limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.nodes.bench import Bench, Document, node


def script(source: str, **params: Any) -> Document:
    return node("FunLogic", id="calc", script=source, **params)


def test_the_script_of_the_contract_grades_a_student(bench: Bench) -> None:
    source = (
        "local s = data[1]; "
        "return {student_id = s.student_id, original_score = s.score, doubled_score = s.score * 2, passed = s.score >= 70}"
    )
    given = bench.gives(script(source), items=[{"student_id": "s123", "score": 85}])
    assert given == [{"student_id": "s123", "original_score": 85, "doubled_score": 170, "passed": True}]


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("data", [{"score": 1, "n": None}, 2]),
        ("return data", [{"score": 1, "n": None}, 2]),
        ("item", [{"score": 1, "n": None}]),
        ("data.score", [1]),
        ("data[2]", [2]),
        ("#data", [2]),
        ("return {1, 2, 3}", [1, 2, 3]),
        ("return {a = 1}", [{"a": 1}]),
        ("return 'x'", ["x"]),
        ("return nil", [None]),
        ("return", [None]),
        ("local a = 1", [None]),
        ("-- nothing", [None]),
        ("return array{}", []),
        ("return {}", [{}]),
        ("return {array{}}", [[]]),
        ("return false", [False]),
    ],
)
def test_a_returned_list_is_the_items_and_anything_else_is_one(bench: Bench, source: str, given: list[Any]) -> None:
    assert bench.gives(script(source), items=[{"score": 1, "n": None}, 2]) == given


def test_an_echo_loses_nothing(bench: Bench) -> None:
    items: list[Any] = [
        {"e": [], "o": {}, "n": None, "i": 2**63 - 1, "l": -(2**63), "f": 1.0, "t": "ünï\u0000", "d": [[None, {"x": []}]]},
        [],
        None,
        "x",
    ]
    assert bench.gives(script("return data"), items=items) == items
    as_text = json.dumps(bench.gives(script("return data"), items=items), sort_keys=True)
    assert as_text == json.dumps(items, sort_keys=True)


def test_the_script_runs_once_for_all_items_even_when_there_are_none(bench: Bench) -> None:
    assert bench.gives(script("return #data"), items=[]) == [0]
    assert bench.gives(script("return item == nil"), items=[]) == [True]


def test_the_script_sees_the_request_and_the_run(bench: Bench) -> None:
    source = (
        "return {q = query.a, h = headers['x-id'], p = path.who, w = run.workflow_id, t = run.trigger, project = run.project, id = run.id}"
    )
    hook = node("Webhook", id="hook", path="/:who", method="any")
    answered = bench.call(script(source), hook=hook, path="/ann%20b", query=b"a=1&a=2", headers=[(b"X-Id", b"7")])
    expected = {"q": ["1", "2"], "h": "7", "p": "ann b", "w": "w", "t": "webhook", "project": bench.project, "id": answered.run.info.id}
    assert answered.run.output == [expected]


def test_without_a_request_there_is_nothing_in_its_names(bench: Bench) -> None:
    assert bench.gives(script("return {q = (query or {}).a == nil, t = run.trigger}")) == [{"q": True, "t": "manual"}]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("local a = {}\nlocal b = a.x.y\nreturn b", ["line 2", "index", "nil"]),
        ("\n\nerror('no such student')", ["line 3", "no such student"]),
        ("return data.missing + 1", ["line 1", "arithmetic", "nil"]),
        ("error({code = 5})", ["code", "5"]),
        ("return print ~= nil and io.open('x')", ["line 1", "io"]),
    ],
)
def test_an_error_names_the_node_the_line_and_what_lua_says(bench: Bench, source: str, words: list[str]) -> None:
    message = bench.fails(script(source), items=[{}])
    assert 'node "calc"' in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("return function() end", "function"),
        ("return 0/0", "NaN"),
        ("return math.huge", "infinit"),
        ("local t = {} t.t = t return t", "cycle"),
        ("return {1, a = 2}", "key"),
        ("local t = {} for i = 1, 200 do t = {t} end return t", "100"),
    ],
)
def test_what_json_cannot_hold_is_an_error_that_says_so(bench: Bench, source: str, words: str) -> None:
    message = bench.fails(script(source))
    assert 'node "calc"' in message
    assert words.lower() in message.lower(), message


def test_a_script_that_does_not_end_is_ended(bench: Bench) -> None:
    message = bench.fails(script("while true do end", timeout=0.1))
    assert 'node "calc"' in message
    assert "0.1 s" in message


def test_a_script_that_catches_everything_is_ended_all_the_same(bench: Bench) -> None:
    assert "0.1 s" in bench.fails(script("while true do pcall(function() while true do end end) end", timeout=0.1))


def test_a_script_that_takes_all_memory_is_stopped(bench: Bench) -> None:
    source = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end"
    message = bench.fails(script(source, memory_mb=8))
    assert 'node "calc"' in message
    assert "8 MB" in message


def test_a_script_may_ask_for_more_memory_than_is_usual(bench: Bench) -> None:
    source = "return #('x'):rep(24 * 1024 * 1024)"
    assert "16 MB" in bench.fails(script(source))
    assert bench.gives(script(source, memory_mb=64)) == [24 * 1024 * 1024]


def test_nothing_survives_from_one_run_to_the_next(bench: Bench) -> None:
    source = "counter = (counter or 0) + 1; string.counter = (string.counter or 0) + 1; return {counter, string.counter}"
    run = bench.run(script(f"local ok, made = pcall(function() {source} end); return ok and made or array{{}}"))
    assert bench.run(script(f"local ok, made = pcall(function() {source} end); return ok and made or array{{}}")).output == run.output


def test_lines_given_to_log_are_on_record_also_when_the_script_fails(bench: Bench) -> None:
    run = bench.run(script("log('one', 2, {a = 1}); log(nil); error('over')"))
    [record] = [record for record in run.nodes if record.id == "calc"]
    assert record.status == "failed"
    assert len(record.log) == 2
    assert "one" in record.log[0]
    assert "2" in record.log[0]


def test_a_script_cannot_change_what_another_branch_holds(bench: Bench) -> None:
    document = {
        "id": "fan",
        "nodes": [
            node("Webhook", id="hook", path="/"),
            node("FunLogic", id="a", script="data[1].x = 2; return data"),
            node("FunLogic", id="b", script="return data"),
            node("FunLogic", id="both", script="return {data[1].x, data[2].x}"),
        ],
        "edges": [{"from": "hook", "to": "a"}, {"from": "hook", "to": "b"}, {"from": "a", "to": "both"}, {"from": "b", "to": "both"}],
    }
    bench.app.put(bench.project, document)
    assert bench.app.start(bench.project, "fan", items=[{"x": 1}]).output == [2, 1]


def test_output_pins_shape_what_it_gives(bench: Bench) -> None:
    outputs = {"outputs": {"sum": "$json.a + $json.b", "who": "$node.hook.who", "all": "$json"}}
    assert bench.gives(node("FunLogic", id="calc", script="return data", about=outputs), items=[{"a": 1, "b": 2, "who": "ann"}]) == [
        {"sum": 3, "who": "ann", "all": {"a": 1, "b": 2, "who": "ann"}}
    ]


def test_a_failing_script_may_go_on_or_branch(bench: Bench) -> None:
    failing = node("FunLogic", id="calc", script="error('no')", about={"on_error": "continue"})
    [item] = bench.gives(failing, items=[{"a": 1}])
    assert item["error"]["type"] == "script"
    assert "line 1" in item["error"]["message"]
    assert item["error"]["node"] == "calc"
