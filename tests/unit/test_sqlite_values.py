"""Does every JSON value read back from a cell as what it was?"""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mechaway_core.errors import QueryError
from mechaway_core.sqlite.values import Kind, bind, decoder, encoder, kind_of, load

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LOOKALIKES = st.sampled_from(
    ["{}", "[]", "[1]", '{"a":1}', "[1", "{", "[", "null", "true", "12", "1.0", "-0", " [1]", "[1] ", "[NaN]", "[1e999]"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT | LOOKALIKES
    | st.integers(-(2**70), 2**70)
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=10)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down: 1 is not 1.0, and neither is true."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def through(declared: str, values: list[Any]) -> list[Any]:
    """Values after a stay in a column that is declared so."""
    kind = kind_of(declared)
    encode, decode = encoder(kind), decoder(kind)
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})")
    for value in values:
        connection.execute("INSERT INTO t (v) VALUES (?)", (encode(value),))
    cells = connection.execute("SELECT v FROM t ORDER BY id").fetchall()
    connection.close()
    return [decode(cell) for (cell,) in cells]


@pytest.mark.parametrize("declared", ["", "BOOLEAN", "JSON", "BLOB"])
@given(values=st.lists(JSON, max_size=5))
@example(values=[True, 1, 1.0, "true", None, "1", [], {}, "[]", 2**63, -(2**63), -(2**63) - 1, -0.0, 1e22, "a\0b", "", [2**64, "x" * 3]])
@example(values=[{"a": [None, True, 1.0, 2**65, "\U0001f600", {"": []}]}, '{"a":[null]}', '"x"', '[12345678901234567890123, "\\ud800"]'])
@example(values=[[10**400], "1" * 30, ["1" * 30], "[" + "9" * 500 + "]"])
def test_any_values_in_any_order_keep_their_type(declared: str, values: list[Any]) -> None:
    assert same(through(declared, values), values)


@given(values=st.lists(TEXT | LOOKALIKES, max_size=5))
def test_text_in_a_text_column_stays_text(values: list[str]) -> None:
    assert same(through("TEXT", values), values)


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.lists(JSON, max_size=3), max_size=5))
def test_whole_numbers_and_json_in_a_number_column_keep_their_type(values: list[Any]) -> None:
    for declared in ("INTEGER", "NUMERIC", "DECIMAL(5,2)"):
        assert same(through(declared, values), values)


def test_a_text_column_makes_text_of_numbers_objects_and_arrays() -> None:
    assert through("TEXT", [1, 1.5, [1], {"a": None}, True, None, 2**70]) == ["1", "1.5", "[1]", '{"a":null}', True, None, str(2**70)]


def test_what_json_does_not_know_is_null() -> None:
    for declared in ("", "BOOLEAN", "TEXT", "JSON", "INTEGER"):
        assert through(declared, [float("nan"), float("inf"), [float("inf")]])[0] is None


@pytest.mark.parametrize("value", [object(), {1: object()}, b"bytes", {"a": object()}, "\ud800[", ["\ud800"], 1j, {1, 2}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    kinds: tuple[Kind, ...] = ("plain", "boolean", "json", "number")
    for kind in kinds:
        if isinstance(value, str) and kind not in ("boolean", "json"):
            continue  # SQLite refuses it when it is bound
        with pytest.raises(QueryError):
            encoder(kind)(value)


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        *[(None, "plain"), ("", "plain"), ("BLOB", "plain"), ("boolean", "boolean"), (" Bool ", "boolean"), ("JSON", "json")],
        *[("TEXT", "text"), ("VARCHAR(20)", "text"), ("CLOB", "text"), ("INT", "number"), ("REAL", "number"), ("DATE", "number")],
        *[("ANY", "number"), ("CHARINT", "number"), ("POINT", "number")],
    ],
)
def test_kinds_follow_sqlites_rules_of_affinity(declared: str | None, kind: str) -> None:
    assert kind_of(declared) == kind


def test_foreign_blobs_read_as_base64() -> None:
    decode = decoder("plain")
    assert [decode(blob) for blob in (b"", b"\x01\x02", b"\0", b"\0\xff", b"\0{", b"\0\0")] == ["", "AQI=", "AA==", "AP8=", "AHs=", "AAA="]


def test_foreign_values_in_boolean_and_json_columns_read_as_they_are() -> None:
    assert [decoder("boolean")(cell) for cell in (0, 1, 2, "x", None, 1.5)] == [False, True, 2, "x", None, 1.5]
    assert [decoder("json")(cell) for cell in ("x", "{", '"x"', "[1]", 5, None)] == ["x", "{", "x", [1], 5, None]


def test_parameters_make_comparisons_work() -> None:
    assert bind([True, False, None, 1, "a", [1], {"a": True}, "[1]"]) == (1, 0, None, 1, "a", "[1]", '{"a":true}', b'\0"[1]"')
    assert bind({"a": True, "b": 2**70}) == {"a": 1, "b": b"\x001180591620717411303424"}


@pytest.mark.parametrize(
    "text", ["[NaN, 1111111111111111111]", "[1e999, 1111111111111111111]", '["\\ud800", 1111111111111111111]', "[1111111111111111111"]
)
def test_long_numbers_do_not_let_in_what_is_not_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        load(text)
    assert decoder("plain")(text) == text
