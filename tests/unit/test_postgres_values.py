"""Values through a real server and back, whatever they are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechaway_core.errors import QueryError
from mechaway_core.postgres import Postgres
from mechaway_core.settings import Settings
from tests.postgres import Server

Ask = Callable[..., Any]

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
WHOLE = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.booleans() | WHOLE | TEXT, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3), max_leaves=8
)


@pytest.fixture(scope="module")
def ask(server: Server) -> Iterator[Ask]:
    """The only value of the only row of a query."""
    postgres = Postgres(Settings())

    def value(sql: str, *values: Any) -> Any:
        [row] = postgres.query(server.url(), sql, values, deadline=time.monotonic() + 60).rows
        return next(iter(row.values()))

    yield value
    postgres.close()


@given(value=JSON)
@settings(max_examples=100, deadline=None)
def test_json_comes_back_as_it_went(ask: Ask, value: Any) -> None:
    back = ask("SELECT $1::jsonb", value)
    assert json.dumps(back, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(value=st.lists(st.none() | TEXT))
@settings(max_examples=100, deadline=None)
def test_arrays_of_text_come_back_as_they_went(ask: Ask, value: list[Any]) -> None:
    assert ask("SELECT $1::text[]", value) == value


@given(value=st.lists(st.lists(st.none() | WHOLE, min_size=2, max_size=2), min_size=1))
@settings(max_examples=50, deadline=None)
def test_arrays_of_arrays_come_back_as_they_went(ask: Ask, value: list[Any]) -> None:
    assert ask("SELECT $1::bigint[]", value) == value


@given(value=st.lists(JSON))
@settings(max_examples=50, deadline=None)
def test_arrays_of_json_come_back_as_they_went(ask: Ask, value: list[Any]) -> None:
    back = ask("SELECT $1::jsonb[]", value)
    assert json.dumps(back, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=100, deadline=None)
def test_floats_come_back_as_they_went(ask: Ask, value: float) -> None:
    assert ask("SELECT $1::float8", value) == value


@given(value=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=12))
@settings(max_examples=100, deadline=None)
def test_a_numeric_is_a_number_only_where_that_is_exact(ask: Ask, value: Any) -> None:
    back = ask("SELECT $1::numeric", format(value, "f"))
    assert type(value)(repr(back) if isinstance(back, float) else back) == value


@given(value=st.datetimes())
@settings(max_examples=100, deadline=None)
def test_moments_come_back_in_iso_8601(ask: Ask, value: Any) -> None:
    assert type(value).fromisoformat(ask("SELECT $1::timestamp", value.isoformat())) == value


def test_whole_numbers_beyond_64_bits_inside_json_stay_exact(ask: Ask) -> None:
    assert ask("SELECT $1::jsonb", {"n": 2**80}) == {"n": 2**80}


def test_json_that_is_nested_too_deeply_is_refused_and_the_connection_lives_on(ask: Ask) -> None:
    with pytest.raises(QueryError, match="nested deeper than 100 levels"):
        ask("SELECT (repeat('[', 200) || repeat(']', 200))::jsonb")
    assert ask("SELECT 1") == 1


def test_a_value_that_is_no_text_is_refused(ask: Ask) -> None:
    with pytest.raises(QueryError, match="half of a surrogate pair"):
        ask("SELECT $1::text", "\ud800")


def test_the_number_of_values_must_be_that_of_the_parameters(ask: Ask) -> None:
    with pytest.raises(QueryError, match="has 1 parameters, but there are 2 values"):
        ask("SELECT $1::int", 1, 2)
