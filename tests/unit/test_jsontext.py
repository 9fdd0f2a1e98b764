"""JSON text: what is read, what is refused, and that whatever was read can be written again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.errors import Malformed
from mechaway_core.jsontext import MAX_DEPTH, decode, depth, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
)


@given(JSON)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    assert decode(encode(value)) == value
    assert repr(decode(encode(value))) == repr(value)
    assert decode(encode(value).decode()) == value


@given(JSON)
def test_others_read_the_same_from_what_is_written(value: Any) -> None:
    assert json.loads(encode(value)) == value
    assert decode(json.dumps(value)) == value


@given(st.binary() | st.text())
def test_whatever_bytes_come_they_are_a_value_or_malformed(data: bytes | str) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"[1,]", b"{'a':1}", b"nul", b"1 2", b"NaN", b"Infinity", b"-Infinity", b"[1e999]", b"01", b'"\\ud800"', b'"\xff"',
     b"\xef\xbb\xbf{}", b'"\xed\xa0\x80"', b'"\t"', b"// x\n1", '"\ud800"', "{\0}"],
)  # fmt: skip
def test_what_is_no_json_is_malformed(data: bytes | str) -> None:
    with pytest.raises(Malformed, match="is not valid JSON"):
        decode(data)


def test_the_sentence_names_what_it_was_and_the_place() -> None:
    with pytest.raises(Malformed, match=r"^the body is not valid JSON: .+ \(line 2, column \d+\)$"):
        decode(b'{"a": 1,\n b}', "the body")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_an_end(opening: str, closing: str) -> None:
    inside = "1" if opening != "[" else ""
    good = decode(opening * MAX_DEPTH + inside + closing * MAX_DEPTH)
    assert depth(good) == MAX_DEPTH
    assert decode(encode(good)) == good
    for levels in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(Malformed):
            decode(opening * levels + inside + closing * levels)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert decode("[" + "[],{}," * 500 + "1]") == [[], {}] * 500 + [1]
    assert decode(json.dumps("[" * 500)) == "[" * 500


@pytest.mark.parametrize(("value", "expected"), [(1, 0), ([], 1), ({}, 1), ([[]], 2), ({"a": [{"b": 1}]}, 3), ([1, [2], {"a": {}}], 3)])
def test_depth_counts_lists_and_objects(value: Any, expected: int) -> None:
    assert depth(value) == expected


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_whole_numbers_of_64_bits_stay_what_they_are(number: int) -> None:
    assert decode(encode(number)) == number
    assert isinstance(decode(str(number)), int)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {1: 2}, 2**70, "\ud800"])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)
