"""What a script is, what it can use, and how one that fails or needs too much ends."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from mechaway_core.errors import OutOfTime, ScriptError
from mechaway_core.sandbox import Limits, Sandbox, ScriptFailed
from mechaway_core.sandbox.sandbox import NAMES, WORLD
from tests.unit.sandbox.scripts import CONTEXT, Run, message_of


@pytest.mark.parametrize("name", sorted(WORLD))
def test_what_only_some_scripts_need_is_there_for_each_that_names_it(run: Run, name: str) -> None:
    assert run(f"return {name} ~= nil") is True
    assert run(f"local f = function() return({name})end; return f() ~= nil") is True


@pytest.mark.parametrize("way", ["_G[name]", "_ENV[name]", "rawget(_G, name)", "(function() local e = _ENV return e[name] end)()"])
def test_no_way_to_a_global_shows_what_a_script_has_not_named(run: Run, way: str) -> None:
    script = "local found = {} for _, item in ipairs(data) do local name = item found[name] = " + way + " ~= nil end return found"
    assert run(script, *sorted(NAMES)) == dict.fromkeys(NAMES, True)


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
