"""SimpleTableReader: rows by condition, order and limit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nodes.bench import Bench, Document, node

ROWS: list[Document] = [
    {"name": "ann", "score": 85, "passed": True, "tags": ["a", "b"]},
    {"name": "bob", "score": 40, "passed": False, "tags": []},
    {"name": "c'ee", "score": None, "passed": None, "tags": None},
    {"name": "dan", "score": 70.5, "passed": True, "tags": {"k": 1}},
]


def reader(inputs: list[Any] | None = None, **params: Any) -> Document:
    return node("SimpleTableReader", id="read", inputs=inputs, **({"table": "t"} | params))


@pytest.fixture(autouse=True)
def rows(bench: Bench) -> None:
    bench.gives(node("SimpleTableWriter", table="t", columns=["name", "score", "passed", "tags"]), items=ROWS)


def names(bench: Bench, document: Document, items: Any = None) -> list[str]:
    return [row["name"] for row in bench.gives(document, items=items)]


def test_it_gives_one_item_that_holds_the_rows_newest_first(bench: Bench) -> None:
    expected = [{"id": number} | row for number, row in enumerate(ROWS, start=1)][::-1]
    assert bench.gives(reader()) == [{"results": expected, "count": 4, "table": "t"}]


def test_it_gives_an_item_for_each_row_when_asked(bench: Bench) -> None:
    assert bench.gives(reader(output="items", order_by="id")) == [{"id": number} | row for number, row in enumerate(ROWS, start=1)]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("passed", ["ann", "dan"]),
        ("passed = 1", ["ann", "dan"]),
        ("passed = true", ["ann", "dan"]),
        ("passed IS NULL", ["c'ee"]),
        ("score > 50", ["ann", "dan"]),
        ("score > 50 AND score < 80", ["dan"]),
        ("name = 'bob' OR name = 'ann'", ["ann", "bob"]),
        ("name = 'c''ee'", ["c'ee"]),
        ("\"name\" LIKE '%n' -- the end", ["ann", "dan"]),
        ("json_extract(tags, '$.k') = 1 AND json_valid(tags)", ["dan"]),
        ("name IN (SELECT name FROM t WHERE score < 50)", ["bob"]),
        ("0", []),
        ("name = 'a;b'", []),
    ],
)
def test_a_condition_is_sql(bench: Bench, where: str, found: list[str]) -> None:
    assert names(bench, reader(where=where, order_by="id", output="items")) == found


def test_a_condition_takes_values_from_inputs(bench: Bench) -> None:
    document = reader(["$json.least", "string.upper($json.name)"], where="score >= ? OR upper(name) = ?", order_by="id", output="items")
    assert names(bench, document, [{"least": 80, "name": "bob"}]) == ["ann", "bob"]


def test_a_boolean_from_an_input_finds_what_the_writer_stored(bench: Bench) -> None:
    assert names(bench, reader(["$json.p"], where="passed = ?", output="items"), [{"p": False}]) == ["bob"]


def test_a_value_from_outside_stays_a_value(bench: Bench) -> None:
    assert names(bench, reader(["$json.n"], where="name = ?", output="items"), [{"n": "x' OR '1'='1"}]) == []


def test_it_reads_once_however_many_items_come_in_with_the_values_of_the_first(bench: Bench) -> None:
    document = reader(["$json.n"], where="name = ?", output="items")
    assert names(bench, document, [{"n": "ann"}, {"n": "bob"}]) == ["ann"]
    assert bench.gives(document, items=[]) == []
    assert len(bench.gives(reader(), items=[1, 2, 3])) == 1
    assert len(bench.gives(reader(), items=[])) == 1


@pytest.mark.parametrize(
    ("order_by", "found"),
    [
        ("name", ["ann", "bob", "c'ee", "dan"]),
        ("name DESC", ["dan", "c'ee", "bob", "ann"]),
        ("score IS NULL, score", ["bob", "dan", "ann", "c'ee"]),
        ("length(name) DESC, id", ["c'ee", "ann", "bob", "dan"]),
    ],
)
def test_the_order_is_sql(bench: Bench, order_by: str, found: list[str]) -> None:
    assert names(bench, reader(order_by=order_by, output="items")) == found


@pytest.mark.parametrize(("limit", "found"), [(1, ["dan"]), (2, ["dan", "c'ee"]), (100, ["dan", "c'ee", "bob", "ann"])])
def test_it_reads_no_more_than_the_limit(bench: Bench, limit: int, found: list[str]) -> None:
    assert names(bench, reader(limit=limit, output="items")) == found


def test_by_itself_it_reads_a_hundred_rows(bench: Bench) -> None:
    bench.gives(node("SimpleTableWriter", table="many", columns=["n"]), items=[{"n": number} for number in range(150)])
    [found] = bench.gives(reader(table="many"))
    assert found["count"] == len(found["results"]) == 100
    assert found["results"][0]["n"] == 149


def test_a_table_that_nothing_was_written_to_has_no_rows(bench: Bench) -> None:
    assert bench.gives(reader(table="new")) == [{"results": [], "count": 0, "table": "new"}]
    assert bench.gives(reader(table="new", output="items")) == []
    assert "new" not in [info.name for info in bench.app.tables(bench.project)]


def test_no_rows_let_the_nodes_behind_it_run(bench: Bench) -> None:
    assert bench.gives(reader(where="0", output="items"), node("FunLogic", script="return #data")) == [0]


@pytest.mark.parametrize(("params", "words"), [({"where": "no_such = 1"}, "no_such"), ({"order_by": "no_such"}, "no_such")])
def test_a_column_that_is_not_there_fails_and_names_the_node(bench: Bench, params: Document, words: str) -> None:
    message = bench.fails(reader(**params))
    assert 'node "read"' in message
    assert words in message


def test_too_few_values_for_a_condition_fail_and_name_the_node(bench: Bench) -> None:
    message = bench.fails(reader(["1"], where="score = ? AND name = ?"))
    assert 'node "read"' in message
    assert "2" in message
    assert "1" in message
