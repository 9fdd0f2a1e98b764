"""What the sandbox promises to those who write scripts, and to the server that runs them."""

from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.errors import OutOfTime, ScriptError, Unavailable
from mechaway_core.sandbox import Chunk, Limits, LuaExpression, Sandbox, ScriptFailed
from mechaway_core.sandbox.sandbox import NAMES, WORLD

Run = Callable[..., Any]
CONTEXT: dict[str, Any] = {"query": {}, "headers": {}, "path": {}, "run": {}}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(workers=2)
    yield box
    box.close()


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    def value(script: str, *items: Any, limits: Limits | None = None, **context: Any) -> Any:
        return sandbox.run(script, list(items), CONTEXT | context, limits or Limits()).value

    return value


def message_of(run: Run, script: str, *items: Any) -> str:
    with pytest.raises(ScriptError) as caught:
        run(script, *items)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(WORLD))
def test_what_only_some_scripts_need_is_there_for_each_that_names_it(run: Run, name: str) -> None:
    assert run(f"return {name} ~= nil") is True
    assert run(f"local f = function() return({name})end; return f() ~= nil") is True


@pytest.mark.parametrize("way", ["_G[name]", "_ENV[name]", "rawget(_G, name)", "(function() local e = _ENV return e[name] end)()"])
def test_no_way_to_a_global_shows_what_a_script_has_not_named(run: Run, way: str) -> None:
    script = "local found = {} for _, item in ipairs(data) do local name = item found[name] = " + way + " ~= nil end return found"
    assert run(script, *sorted(NAMES)) == dict.fromkeys(NAMES, True)


# Scripts and their input -----------------------------------------------------------------------------------------------------------------


def test_the_documented_sample_grades_a_student(run: Run) -> None:
    script = """
        local s = data[1]
        return {student_id = s.student_id, original_score = s.score, doubled_score = s.score * 2, passed = s.score >= 70}
    """
    assert run(script, {"student_id": "s123", "score": 85}) == {
        "student_id": "s123",
        "original_score": 85,
        "doubled_score": 170,
        "passed": True,
    }


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ("data[1].score + 1", 86),
        ("return data[1].score + 1", 86),
        ("local x = 1\nreturn x", 1),
        ("data.score", 85),
        ("item.score", 85),
        ("#data", 2),
        ("data[2]", {"score": 1}),
        ("data[3]", None),
        ("data.nothing", None),
        ("", None),
        ("local x = 1", None),
        ("-- only a comment", None),
        ("1 -- and a comment", 1),
        ("1, 2", 1),
        ("{}", {}),
        ("array{}", []),
        ("{{}, array{}}", [{}, []]),
        ("array()", []),
        ("null", None),
        ("{1, null, 3}", [1, None, 3]),
        ("{1, nil, 3}", [1, None, 3]),
        ("{a = null}", {"a": None}),
        ("tostring(null)", "null"),
        ("'a\\0b'", "a\0b"),
        ("2^53", 2.0**53),
        ("7 // 2", 3),
        ("1e15", 1e15),
        ("math.maxinteger", 2**63 - 1),
        ("math.mininteger", -(2**63)),
        ("0.1 + 0.2", 0.1 + 0.2),
    ],
)
def test_a_script_is_an_expression_or_a_chunk(run: Run, script: str, value: Any) -> None:
    result = run(script, {"score": 85}, {"score": 1})
    assert result == value
    assert type(result) is type(value)


def test_a_field_of_data_is_read_from_and_written_to_the_first_item(run: Run) -> None:
    assert run("data.a = data.a + 1; data.b = 2; return data", {"a": 1}, {"a": 9}) == [{"a": 2, "b": 2}, {"a": 9}]


def test_without_items_fields_are_nil_and_cannot_be_written(run: Run) -> None:
    assert run("{data.score == nil, item == nil, #data}") == [True, True, 0]
    assert message_of(run, "\ndata.x = 1") == "line 2: data.x cannot be set: the first item is not an object"
    assert message_of(run, "data.x = 1", [1]) == "line 1: data.x cannot be set: the first item is not an object"
    assert message_of(run, "data.x = 1", None) == "line 1: data.x cannot be set: the first item is not an object"


def test_items_can_be_added_to_data_and_removed(run: Run) -> None:
    assert run("data[#data + 1] = {n = 2}; table.insert(data, {n = 3}); table.remove(data, 1); return data", {"n": 1}) == [
        {"n": 2},
        {"n": 3},
    ]


def test_items_need_not_be_objects(run: Run) -> None:
    assert run("{data[1], data[2], data[3] == null, data[4][1], item}", "text", 2, None, [True]) == ["text", 2, True, True, "text"]


def test_the_request_and_the_run_are_globals(run: Run) -> None:
    context = {"query": {"q": "1"}, "headers": {"x-a": "b"}, "path": {"id": "7"}, "run": {"id": "r"}}
    assert run("{query.q, headers['x-a'], path.id, run.id}", **context) == ["1", "b", "7", "r"]


def test_a_list_that_is_sorted_filtered_and_grown_stays_a_list(run: Run) -> None:
    assert run("table.sort(data[1]); table.insert(data[1], 9); table.remove(data[1], 1) return data[1]", [3, 1, 2]) == [2, 3, 9]
    assert run("table.remove(item.list) return item", {"list": [1]}) == {"list": []}


def test_a_list_with_a_metatable_of_the_script_stays_a_list(run: Run) -> None:
    assert run("local t = setmetatable(array{}, {__index = table}) t:insert(1) t:remove() return t") == []
    assert run("local t = setmetatable(data[1], {__index = table}) return {t:concat('-'), t, setmetatable(t, nil)}", [1, 2]) == [
        "1-2",
        [1, 2],
        [1, 2],
    ]


# JSON ------------------------------------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=40,
)


def exact(value: Any) -> Any:
    """The value in a form in which 1, 1.0 and True differ, and 0.0 and -0.0 too."""
    if isinstance(value, dict):
        return {"object": {key: exact(inner) for key, inner in value.items()}}
    if isinstance(value, list):
        return [exact(inner) for inner in value]
    return (type(value).__name__, repr(value))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=5))
def test_an_echo_is_lossless(sandbox: Sandbox, items: list[Any]) -> None:
    assert exact(sandbox.run("return data", items, CONTEXT, Limits()).value) == exact(items)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=5))
def test_json_encode_and_decode_are_lossless(sandbox: Sandbox, items: list[Any]) -> None:
    assert exact(sandbox.run("return json.decode(json.encode(data))", items, CONTEXT, Limits()).value) == exact(items)


def test_whole_numbers_beyond_64_bits_become_floats(run: Run) -> None:
    assert run("{item, math.type(item)}", 2**64 - 1) == [float(2**64 - 1), "float"]


def test_null_in_an_object_is_nil_and_survives_until_it_is_written(run: Run) -> None:
    assert run("{item.a == nil, item}", {"a": None, "b": 1}) == [True, {"a": None, "b": 1}]
    assert run("item.a = 5 return item", {"a": None}) == {"a": 5}
    assert run("next(item) == nil", {"a": None}) is True


def test_null_in_a_list_is_the_value_null(run: Run) -> None:
    assert run("{item[2] == null, #item, tostring(item[2]), type(null), null == nil}", [1, None]) == [True, 2, "null", "table", False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\u00e9\ud83d\ude00\u2028\/\b\f\n\r\t\"\\"', 'é😀\u2028/\b\f\n\r\t"\\'),
        (r'"\ud83d"', "\ufffd"),
        (r'"\ud83dx"', "\ufffdx"),
        (r'"\ude00"', "\ufffd"),
        ('"\x7f"', "\x7f"),
        (' [ 1 , 2.5 , { "a" : null , "b" : [ ] } ] ', [1, 2.5, {"a": None, "b": []}]),
        ("\t{\n}\r\n", {}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":null,"a":2}', {"a": 2}),
        ('{"a":2,"a":null}', {"a": None}),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1E5", 1e5),
        ("-1.5e-3", -1.5e-3),
        ("0", 0),
        ("null", None),
        ("9223372036854775808", 9223372036854775808.0),
    ],
)
def test_json_decode_reads_what_json_allows(run: Run, text: str, value: Any) -> None:
    assert exact(run("return json.decode(item)", text)) == exact(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "[",
            "{",
            '{"a"',
            '{"a":',
            '{"a":1',
            '{"a":1,',
            '{"a":1,}',
            "[1,]",
            "[1 2]",
            "[,1]",
            '{"a" 1}',
            "{1:2}",
            '{"a":1 "b":2}',
        ),
        *("01", "-", "-01", "1.", ".5", "-.5", "+1", "1e", "1e+", "0x1", "1.e5", "--1", "1-1", "Infinity", "nul", "tru", "nullx", "'a'"),
        *('"', '"\\', '"\\x"', '"\\u12"', '"\\u12g4"', '"\n"', '"\x1f"', "[1]]", "{}{}", "[1", "1e400", "\ufeff1", "//", "[1,\n"),
    ],
)
def test_json_decode_refuses_what_json_does_not_allow_and_says_where(run: Run, text: str) -> None:
    message = message_of(run, "return json.decode(item)", text)
    assert message.startswith(("line 1: json.decode: ", "json.decode: "))
    assert "byte" in message


def test_the_depth_limit_is_100_levels_for_an_item_both_ways(run: Run) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert run("return data", deep) == [deep]
    assert run("return item", deep) == deep
    assert "deeper than 100 levels" in message_of(run, "return 1", [deep])
    assert "result[1]" in message_of(run, "return {{item}}", deep)
    assert run("local t = {} for _ = 1, 99 do t = {a = t} end return json.encode(t) ~= nil") is True
    assert "deeper than 100" in message_of(run, "local t = {} for _ = 1, 100 do t = {a = t} end return json.encode(t)")


def test_keys_are_written_sorted(run: Run) -> None:
    assert run('json.encode{b = 1, a = 2, ["é"] = 3, B = 4}') == '{"B":4,"a":2,"b":1,"é":3}'


def test_floats_are_written_so_that_they_read_back_the_same(run: Run) -> None:
    assert run("json.encode{0.1, 1.0, -0.0, 1e300, 5e-324, 2^53, 2^63, 1/3, 1e15, 123456789.123}") == (
        "[0.1,1.0,-0.0,1e+300,4.9406564584125e-324,9007199254740992.0,9.223372036854776e+18,0.3333333333333333,1e+15,123456789.123]"
    )


def test_numbers_and_text_keep_their_type(run: Run) -> None:
    assert run("{item.a + 0, item.b .. '', item.c}", {"a": 1, "b": "1", "c": 1.0}) == [1, "1", 1.0]
    assert math.copysign(1, run("-0.0")) == -1


def test_an_error_in_a_result_names_its_place(run: Run) -> None:
    assert message_of(run, "return {1, {['odd key'] = {print}}}") == 'result[2]["odd key"][1] is a function, which JSON cannot hold'
    assert message_of(run, "return json.encode({x = 0/0})").endswith("json.encode: the value.x is not a number JSON can hold (NaN)")


# What scripts can use --------------------------------------------------------------------------------------------------------------------


def test_dates_are_utc(run: Run) -> None:
    assert run("date('%Y-%m-%d %H:%M:%S', 0)") == "1970-01-01 00:00:00"
    assert run("os.date('%H', 3600)") == "01"
    assert run("os.time{year = 2026, month = 11, day = 23, hour = 12}") == int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
    assert run("os.date('*t', 86400).day") == 2
    assert "invalid conversion specifier" in message_of(run, "return date('%Q')")


def test_now_time_and_date_are_this_moment(run: Run) -> None:
    before = int(time.time() * 1000)
    now, seconds, kind, date = run("{now(), time(), math.type(time()), os.time(date('*t'))}")
    after = time.time()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now)
    assert before / 1000 <= datetime.fromisoformat(now).timestamp() <= after
    assert before // 1000 <= seconds <= date <= after
    assert kind == "integer"


def test_the_clocks_of_a_script_agree_at_the_turn_of_a_second(run: Run) -> None:
    for _ in range(3):
        time.sleep(1 - time.time() % 1)
        turned = int(time.time())
        seconds, date, of_os = run("{time(), os.time(os.date('*t')), os.time()}")
        assert turned <= seconds <= date <= of_os


@pytest.mark.parametrize("length", [0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000])
def test_hash_is_sha_256(run: Run, length: int) -> None:
    text = ("abcé" * 400)[:length]
    assert run("hash(item)", text) == hashlib.sha256(text.encode()).hexdigest()


def test_uuids_are_of_version_4_and_never_the_same(run: Run) -> None:
    script = "math.randomseed(1) local t = {} for i = 1, 50 do t[i] = uuid() end return t"
    ids = [uuid.UUID(one) for one in run(script) + run(script)]
    assert all(one.version == 4 and one.variant == uuid.RFC_4122 for one in ids)
    assert len(set(ids)) == 100


def test_random_numbers_differ_from_run_to_run(run: Run) -> None:
    assert len({run("math.random(0)") for _ in range(5)}) == 5


def test_the_log_is_lines_and_has_an_end(sandbox: Sandbox) -> None:
    outcome = sandbox.run("log('a', 1, {b = {null}}, nil, true) print(('x'):rep(5000)) log()", [], CONTEXT, Limits())
    assert outcome.log == ['a 1 {"b":[null]} nil true', "x" * 2000 + "…", ""]
    many = sandbox.run("for i = 1, 1000 do log(i) end", [], CONTEXT, Limits()).log
    assert len(many) == 201
    assert many[-1] == "(800 more lines were dropped)"


def test_a_script_that_fails_keeps_its_log(sandbox: Sandbox) -> None:
    with pytest.raises(ScriptFailed) as caught:
        sandbox.run("log('so far') error('no')", [], CONTEXT, Limits())
    assert caught.value.log == ["so far"]


def test_log_takes_what_json_cannot_hold(sandbox: Sandbox) -> None:
    log = sandbox.run("local t = {} t.t = t log(t) log('\\255')", [], CONTEXT, Limits()).log
    assert "cycle" in log[0]
    assert log[1] == "\ufffd"


# Errors ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("local s\n\nreturn s.x", "line 3: attempt to index a nil value (local 's')"),
        ("x =", "line 1: unexpected symbol near <eof>"),
        ("\nlocal x = = 1", "line 2: unexpected symbol near '='"),
        ("error('no')", "line 1: no"),
        ("error('no', 0)", "no"),
        ("error{message = 'told'}", "told"),
        ("error{code = 7}", '{"code":7}'),
        ("error(42)", "42"),
        ("assert(false, 'claim')", "line 1: claim"),
        ("local t = nil + 1", "line 1: attempt to perform arithmetic on a nil value"),
        ("return null + 1", "line 1: attempt to perform arithmetic on a null value (global 'null')"),
    ],
)
def test_an_error_names_the_line_and_luas_message(run: Run, script: str, message: str) -> None:
    assert message_of(run, script) == message


def test_a_script_can_have_a_name_of_its_own_in_messages_it_catches(sandbox: Sandbox) -> None:
    assert sandbox.run(
        "select(2, pcall(error, 'x')) .. select(2, pcall(function() error('y') end))", [], CONTEXT, Limits(), name="grade"
    ).value == ("xgrade:1: y")
    with pytest.raises(ScriptError, match=r"^line 1: no$"):
        sandbox.run("error('no')", [], CONTEXT, Limits(), name="an: odd\nname " * 20)


def test_what_cannot_be_sent_is_refused(run: Run) -> None:
    with pytest.raises(ScriptError, match="the items cannot be written as JSON"):
        run("return 1", object())
    with pytest.raises(ScriptError, match="the script is not valid text"):
        run("return '\ud800'")


# Limits ----------------------------------------------------------------------------------------------------------------------------------


def test_a_script_that_takes_too_long_is_ended_and_says_so(run: Run) -> None:
    with pytest.raises(OutOfTime, match=r"^the script ran longer than 0\.2 s \(timeout\)$"):
        run("while true do end", limits=Limits(timeout=0.2))


def test_a_deadline_bounds_a_script_too(sandbox: Sandbox) -> None:
    with pytest.raises(OutOfTime, match=r"^the script ran longer than the 0\.\d+ s that were left$"):
        sandbox.run("while true do end", [], CONTEXT, Limits(timeout=60), deadline=time.monotonic() + 0.2)
    with pytest.raises(OutOfTime, match="no time was left"):
        sandbox.run("return 1", [], CONTEXT, Limits(), deadline=time.monotonic() - 1)


def test_a_script_that_needs_too_much_memory_is_ended_and_says_so(run: Run) -> None:
    with pytest.raises(ScriptError, match=r"^the script needs more than 16 MB \(memory_mb\)$"):
        run("return ('x'):rep(20000000)")
    assert run("return #('x'):rep(20000000)", limits=Limits(memory_mb=64)) == 20_000_000


def test_input_too_large_for_the_memory_is_refused_in_a_sentence(run: Run) -> None:
    with pytest.raises(ScriptError, match=r"the input, 8\.\d MB as JSON, does not fit: it needs more than 16 MB \(memory_mb\)"):
        run("return 1", *[{"id": i, "text": "some text"} for i in range(280_000)])


def test_large_values_go_in_and_come_out(run: Run) -> None:
    rows = [{"id": i, "name": f"name {i}", "tags": ["a", "b"]} for i in range(100_000)]
    limits = Limits(memory_mb=128, timeout=60)
    assert run("return data", *rows, limits=limits) == rows
    text = "é\n" * 2_500_000
    assert run("return {item, item}", text, limits=limits) == [text, text]


def test_memory_that_input_takes_does_not_count_twice(run: Run) -> None:
    text = "x" * 7_000_000
    assert run("#item", text) == len(text)


# Expressions -----------------------------------------------------------------------------------------------------------------------------


def test_expressions_give_a_value_for_each_row(sandbox: Sandbox) -> None:
    expressions = [
        LuaExpression("p1 * 2", 1, "inputs[0]"),
        LuaExpression("string.upper(p1) .. (p2 or '?')", 2, "inputs[1]"),
        LuaExpression("p1", 1, "inputs[2]"),
        LuaExpression("nil", 0, "inputs[3]"),
    ]
    rows: list[list[list[Any]]] = [[[21], ["a", None], [{"a": None, "b": []}], []], [[1.5], ["b", "c"], [None], []]]
    assert sandbox.evaluate(expressions, rows, Limits()) == [[42, "A?", {"a": None, "b": []}, None], [3.0, "Bc", None, None]]


def test_an_expression_that_fails_fails_its_row_only(sandbox: Sandbox) -> None:
    rows: list[list[list[Any]]] = [[[{"x": 1}]], [[{}]], [[{"x": 2}]]]
    first, second, third = sandbox.evaluate([LuaExpression("p1.x + 1", 1, "inputs[0]")], rows, Limits())
    assert (first, third) == ([2], [3])
    assert isinstance(second, ScriptError)
    assert str(second) == "inputs[0]: attempt to perform arithmetic on a nil value (field 'x')"


def test_a_value_that_json_cannot_hold_fails_its_row_only(sandbox: Sandbox) -> None:
    rows: list[list[list[Any]]] = [[[1], [1]], [[0], [0]], [[2], [2]]]
    expressions = [LuaExpression("{1, {1 / p1 * 0}}", 1, "a"), LuaExpression("json.encode{p1}", 1, "b")]
    first, second, third = sandbox.evaluate(expressions, rows, Limits())
    assert (first, third) == ([[1, [0.0]], "[1]"], [[1, [0.0]], "[2]"])
    assert str(second) == "a: the value[2][1] is not a number JSON can hold (NaN)"


def test_an_expression_that_does_not_compile_fails_every_row(sandbox: Sandbox) -> None:
    results = sandbox.evaluate([LuaExpression("p1 +", 1, "pin")], [[[1]], [[2]]], Limits())
    assert [str(result) for result in results] == ["pin: unexpected symbol near <eof>"] * 2


def test_expressions_are_given_back_in_order_however_many_rows_there_are(sandbox: Sandbox) -> None:
    rows = [[[{"n": n, "text": "x" * 100}]] for n in range(30_000)]
    assert sandbox.evaluate([LuaExpression("p1.n + 1", 1, "pin")], rows, Limits(timeout=30)) == [[n + 1] for n in range(30_000)]


def test_without_rows_or_expressions_nothing_is_started() -> None:
    sandbox = Sandbox(workers=1)
    assert sandbox.evaluate([LuaExpression("1", 0, "pin")], [], Limits()) == []
    assert sandbox.evaluate([], [[], []], Limits()) == [[], []]
    assert sandbox.check([]) == []
    assert sandbox.stats()["spawned"] == 0
    sandbox.close()


def test_expressions_that_take_too_long_are_ended(sandbox: Sandbox) -> None:
    with pytest.raises(OutOfTime, match="the expression ran longer than"):
        sandbox.evaluate([LuaExpression("(function() while true do end end)()", 0, "pin")], [[[]]], Limits(timeout=0.2))


def test_an_expression_that_needs_too_much_memory_fails_its_row(sandbox: Sandbox) -> None:
    first, second = sandbox.evaluate([LuaExpression("#('x'):rep(p1)", 1, "pin")], [[[1 << 26]], [[2]]], Limits())
    assert "needs more than 16 MB (memory_mb)" in str(first)
    assert second == [2]


def test_an_expression_can_use_exactly_the_names_that_are_announced(sandbox: Sandbox) -> None:
    script = "local t = {} for name in pairs(_G) do t[#t + 1] = name end return t"
    (row,) = sandbox.evaluate([LuaExpression(f"(function() {script} end)()", 0, "pin")], [[[]]], Limits())
    assert isinstance(row, list)
    assert set(row[0]) == sandbox.names()


# Checking --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kind", "verdict"),
    [
        ("return 1", "script", None),
        ("data.x", "script", None),
        ("", "script", None),
        ("while true do end", "script", None),
        ("local x = 1\nx = = 2", "script", (2, "unexpected symbol near '='")),
        ("p1 + 1", "expression", None),
        ("p1 -- why", "expression", None),
        ("f()", "expression", None),
        ("", "expression", (None, "there is no expression")),
        (" \n ", "expression", (None, "there is no expression")),
        ("1, 2", "expression", (None, "this is not one expression")),
        ("1;", "expression", (None, "this is not one expression")),
        ("x = 1", "expression", (1, "<eof> expected near '='")),
        ("return 1", "expression", (1, "unexpected symbol near 'return'")),
        ("\x1bLua", "script", (None, "attempt to load a binary chunk (mode is 't')")),
        ("goto nowhere", "script", (1, "no visible label 'nowhere' for <goto> at line 1")),
    ],
)
def test_check_says_what_does_not_compile_and_where(sandbox: Sandbox, source: str, kind: Any, verdict: Any) -> None:
    assert sandbox.check([Chunk(source, "pin", kind)]) == [verdict]


def test_check_runs_nothing(sandbox: Sandbox) -> None:
    assert sandbox.check([Chunk("while true do end", "a", "script"), Chunk("error('x')", "b", "expression")]) == [None, None]


def test_ten_thousand_sources_are_checked_in_one_go(sandbox: Sandbox) -> None:
    verdicts = sandbox.check([Chunk(f"return {n}" if n % 2 else f"return {n} +", f"n{n}", "script") for n in range(10_000)])
    assert [verdict is None for verdict in verdicts] == [bool(n % 2) for n in range(10_000)]


def test_a_source_of_ten_megabytes_is_checked(sandbox: Sandbox) -> None:
    source = "x = x + 1\n" * 1_000_000
    assert sandbox.check([Chunk(source, "big", "script"), Chunk(source + "?", "bad", "script")]) == [
        None,
        (1_000_001, "unexpected symbol near '?'"),
    ]


# Processes -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox whose processes a test may harm."""
    box = Sandbox(workers=2)
    yield box
    box.close()


def children(of: int | None = None) -> set[int]:
    """Processes whose parent is `of` (default: this one), zombies too."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == (of or os.getpid()) and not row[2].startswith("ps ")}


def eventually(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until it holds."""
    until = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.005)
    return result


def run_in_thread(sandbox: Sandbox, script: str, timeout: float = 30.0) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(sandbox.run(script, [], CONTEXT, Limits(timeout=timeout)).value)
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ended


def test_nothing_is_started_before_the_first_use() -> None:
    before = children()
    sandbox = Sandbox(workers=4)
    sandbox.names()
    assert sandbox.stats()["alive"] == 0
    assert children() == before
    sandbox.close()


def test_one_process_stands_ready_beside_those_at_work(own: Sandbox) -> None:
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    eventually(lambda: own.stats()["idle"] == 2)
    thread, ended = run_in_thread(own, "while true do end", timeout=1)
    for _ in range(20):
        own.run("return 1", [], CONTEXT, Limits())
    thread.join()
    assert isinstance(ended[0], OutOfTime)
    eventually(lambda: own.stats()["idle"] >= 2)
    assert own.stats()["alive"] <= 3


def test_a_busy_process_that_is_killed_fails_its_run_only(own: Sandbox) -> None:
    before = children()
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    thread, ended = run_in_thread(own, "while true do end")
    eventually(lambda: own.stats()["busy"] == 1)
    (busy,) = own._pool._state.busy
    time.sleep(0.05)
    os.kill(busy.pid, signal.SIGKILL)
    thread.join(10)
    assert isinstance(ended[0], ScriptError)
    assert "the Lua process was killed (signal 9)" in str(ended[0])
    assert own.run("return 2", [], CONTEXT, Limits()).value == 2
    assert busy.pid not in children() - before


def test_a_process_whose_own_timer_does_not_end_it_is_ended_from_outside(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    thread, ended = run_in_thread(own, "while true do end", timeout=0.5)
    eventually(lambda: own.stats()["busy"] == 1)
    (busy,) = own._pool._state.busy
    os.kill(busy.pid, signal.SIGSTOP)  # a stopped process takes no signal but the last
    thread.join(10)
    assert isinstance(ended[0], OutOfTime)
    assert own.run("return 2", [], CONTEXT, Limits()).value == 2


def test_an_idle_process_that_is_killed_costs_nobody_anything(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    for process in own._pool._state.idle:
        os.kill(process.pid, signal.SIGKILL)
    for number in range(10):
        assert own.run(f"return {number}", [], CONTEXT, Limits()).value == number


def test_when_the_server_is_killed_its_processes_end(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(
        "import threading, time\n"
        "from mechaway_core.sandbox import Limits, Sandbox\n"
        "box = Sandbox(workers=2)\n"
        "box.run('return 1', [], {}, Limits())\n"
        "threading.Thread(target=lambda: box.run('while true do end', [], {}, Limits(timeout=1))).start()\n"
        "while box.stats()['alive'] < 2 or not box.stats()['busy'] or not box.stats()['idle']: time.sleep(0.01)\n"
        "print(*[p.pid for p in (*box._pool._state.idle, *box._pool._state.busy)], flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(program)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        pids = [int(pid) for pid in server.stdout.readline().split()]
        server.kill()
    assert len(pids) >= 2
    eventually(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False).stdout.strip()
    return bool(listed) and not listed.startswith("Z")


def test_many_threads_share_a_few_processes(own: Sandbox) -> None:
    def work(n: int) -> int:
        if n % 40 == 7:
            with pytest.raises(OutOfTime):
                own.run("while true do end", [], CONTEXT, Limits(timeout=0.05), wait=30)
        if n % 10 == 3:
            with pytest.raises(ScriptError):
                own.run("error('no')", [], CONTEXT, Limits(), wait=30)
        result: int = own.run("return data[1] * 2", [n], CONTEXT, Limits(), wait=30).value
        return result

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(400))) == [n * 2 for n in range(400)]
    assert own.stats()["alive"] <= 3


def test_when_all_are_at_work_a_call_waits_and_then_gives_up(own: Sandbox) -> None:
    running = [run_in_thread(own, "while true do end", timeout=1.0) for _ in range(2)]
    eventually(lambda: own.stats()["busy"] == 2)
    with pytest.raises(Unavailable, match="all 2 Lua processes are at work"):
        own.run("return 1", [], CONTEXT, Limits(), wait=0.05)
    with pytest.raises(Unavailable, match="all 2 Lua processes are at work"):
        own.run("return 1", [], CONTEXT, Limits(), deadline=time.monotonic() + 0.05)
    assert own.run("return 3", [], CONTEXT, Limits(), wait=30).value == 3
    for thread, _ in running:
        thread.join()


def test_close_leaves_no_process_and_no_descriptor() -> None:
    before = children()
    descriptors = len(os.listdir("/dev/fd"))
    sandbox = Sandbox(workers=3)
    running = [run_in_thread(sandbox, "while true do end") for _ in range(2)]
    eventually(lambda: sandbox.stats()["busy"] == 2)
    sandbox.close()
    for thread, ended in running:
        thread.join(10)
        assert isinstance(ended[0], Unavailable)
    assert sandbox.stats()["alive"] == 0
    assert children() == before
    assert len(os.listdir("/dev/fd")) == descriptors
    with pytest.raises(Unavailable, match="closed"):
        sandbox.run("return 1", [], CONTEXT, Limits())
    sandbox.close()


def test_a_sandbox_that_is_closed_while_it_starts_leaves_no_process() -> None:
    before = children()
    for pause in (0, 0.001, 0.005, 0.02):
        sandbox = Sandbox(workers=2)
        thread, ended = run_in_thread(sandbox, "return 1")
        time.sleep(pause)
        sandbox.close()
        thread.join(10)
        assert ended[0] == 1 or isinstance(ended[0], Unavailable)
    assert children() == before


def test_a_sandbox_that_is_forgotten_leaves_no_process() -> None:
    before = children()
    sandbox = Sandbox(workers=1)
    sandbox.run("return 1", [], CONTEXT, Limits())
    del sandbox
    eventually(lambda: children() == before)


def test_a_process_that_cannot_start_is_an_error_that_says_so(own: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="no Lua process could be started"):
        own.run("return 1", [], CONTEXT, Limits())
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable, match="no Lua process could be started"):
        own.run("return 1", [], CONTEXT, Limits())
    monkeypatch.undo()
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1


def test_a_process_ignores_the_signals_that_are_meant_for_the_server(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    spawned = own.stats()["spawned"]
    for process in own._pool._state.idle:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    assert own.stats()["spawned"] == spawned


def test_a_process_is_replaced_after_a_large_run_and_nobody_notices(own: Sandbox) -> None:
    for number in range(4):
        script = f"kept = {{}} for i = 1, 500000 do kept[i] = {{i}} end return {number}"
        assert own.run(script, [], CONTEXT, Limits(memory_mb=128, timeout=30)).value == number
        assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    assert own.stats()["killed"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_has_no_environment_no_files_and_no_rights_to_more(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    for process in own._pool._state.idle:
        proc = Path(f"/proc/{process.pid}")
        environment = proc.joinpath("environ").read_bytes().split(b"\0")
        assert {entry.split(b"=")[0] for entry in environment if entry} <= {b"TZ", b"LC_ALL", b"GLIBC_TUNABLES", b"LD_LIBRARY_PATH"}
        assert {entry.name for entry in proc.joinpath("fd").iterdir()} <= {"0", "1", "2"}
        limits = proc.joinpath("limits").read_text()
        assert re.search(r"Max open files\s+0\s+0", limits)
        assert re.search(r"Max core file size\s+0\s+0", limits)
        assert re.search(r"Max file size\s+0\s+0", limits)
        assert os.readlink(proc / "cwd") == "/"
