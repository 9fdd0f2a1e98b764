"""JSON on its way into a script and out of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.sandbox import Limits, Sandbox
from tests.unit.sandbox.scripts import CONTEXT, Run, message_of

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
