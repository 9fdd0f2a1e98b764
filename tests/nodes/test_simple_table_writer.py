"""SimpleTableWriter: items become rows, all of them or none, and read back as what they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.nodes.bench import Bench, Document, node


def writer(columns: list[Any], inputs: list[Any] | None = None, about: Document | None = None, **params: Any) -> Document:
    return node("SimpleTableWriter", id="save", inputs=inputs, about=about, table="t", columns=columns, **params)


READ = node("SimpleTableReader", id="read", table="t", limit=1000, order_by="id", output="items")


def stored(bench: Bench, *names: str) -> list[Any]:
    """The rows of the table, only these columns."""
    return [{name: row[name] for name in names} if names else row for row in bench.gives(READ)]


VALUES: list[Any] = [
    0, 1, -1, 2**63 - 1, -(2**63), 0.5, -1e300, 1.0, "", "text", "5", "1.0", "true", "null", "{}",
    '{"a":1}', "[1]", "[", "ünï 日本 🎉", "a\nb",
    "'; DROP TABLE t; --", True, False, None, {}, [], {"a": [1, {"b": None}], "t": True}, [1, "x", None, [], {}], [True], "a" * 10_000,
]  # fmt: skip


def test_the_sample_of_the_contract(bench: Bench) -> None:
    item = {"student_id": "s123", "original_score": 85, "doubled_score": 170, "passed": True}
    given = bench.gives(writer(list(item)), items=[item])
    assert given == [item | {"_inserted_id": 1, "_rows_affected": 1}]
    assert list(given[0]) == [*item, "_inserted_id", "_rows_affected"]
    assert stored(bench) == [{"id": 1} | item]


def test_the_table_is_made_with_an_id_first(bench: Bench) -> None:
    bench.gives(writer(["b", "a"]), items=[{"a": 1, "b": 2}])
    assert list(bench.types("t")) == ["id", "b", "a"]
    [row] = bench.sql("SELECT sql FROM sqlite_schema WHERE name = 't'")
    assert "id INTEGER PRIMARY KEY AUTOINCREMENT" in row["sql"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:20])
def test_a_value_reads_back_as_what_it_was(bench: Bench, value: Any) -> None:
    bench.gives(writer(["v"]), items=[{"v": value}])
    [row] = stored(bench, "v")
    assert json.dumps(row["v"]) == json.dumps(value)


def test_values_of_all_types_live_in_one_column(bench: Bench) -> None:
    bench.gives(writer(["v"]), items=[{"v": value} for value in VALUES])
    assert [json.dumps(row["v"]) for row in stored(bench, "v")] == [json.dumps(value) for value in VALUES]
    bench.gives(writer(["w"]), items=[{"w": value} for value in reversed(VALUES)])
    assert [json.dumps(row["w"]) for row in stored(bench, "w")[len(VALUES) :]] == [json.dumps(value) for value in reversed(VALUES)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)


@given(rows=st.lists(JSON, max_size=5))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_json_it_is_it_reads_back_the_same(bench: Bench, rows: list[Any]) -> None:
    bench.gives(node("SimpleTableQuery", query="DROP TABLE IF EXISTS t", write=True))
    bench.gives(writer(["v"]), items=[{"v": value} for value in rows])
    after = [row["v"] for row in stored(bench)]
    assert json.dumps(after, sort_keys=True) == json.dumps(rows, sort_keys=True)


@pytest.mark.parametrize(
    ("column_type", "value", "read"),
    [
        ("TEXT", "5", "5"),
        ("TEXT", '{"a":1}', '{"a":1}'),
        ("TEXT", 5, "5"),
        ("INTEGER", 5, 5),
        ("REAL", 0.5, 0.5),
        ("BOOLEAN", True, True),
        ("BOOLEAN", None, None),
        ("JSON", {"a": [1]}, {"a": [1]}),
        ("JSON", "text", "text"),
        ("JSON", "5", "5"),
        ("JSON", True, True),
        ("ANY", "5", "5"),
        ("ANY", [1], [1]),
        ("NUMERIC", 5, 5),
    ],
)
def test_a_column_may_say_its_type(bench: Bench, column_type: str, value: Any, read: Any) -> None:
    bench.gives(writer([{"name": "v", "type": column_type}]), items=[{"v": value}])
    assert stored(bench, "v") == [{"v": read}]
    assert type(stored(bench, "v")[0]["v"]) is type(read)


def test_values_of_a_missing_field_are_null(bench: Bench) -> None:
    bench.gives(writer(["a", "b"]), items=[{"a": 1}, {"b": 2, "c": 3}])
    assert stored(bench, "a", "b") == [{"a": 1, "b": None}, {"a": None, "b": 2}]


def test_a_missing_column_is_added_and_older_rows_have_null_there(bench: Bench) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}])
    bench.gives(writer(["A", "b"]), items=[{"A": 2, "b": True}])
    assert stored(bench, "a", "b") == [{"a": 1, "b": None}, {"a": 2, "b": True}]


def test_a_reader_that_read_before_sees_a_column_that_was_added_since(bench: Bench) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}])
    assert stored(bench) == [{"id": 1, "a": 1}]
    bench.gives(writer(["a", "b"]), items=[{"a": 2, "b": 3}])
    assert stored(bench) == [{"id": 1, "a": 1, "b": None}, {"id": 2, "a": 2, "b": 3}]


def test_a_reader_that_read_before_sees_that_a_table_was_made_anew(bench: Bench) -> None:
    bench.gives(writer(["a", "b"]), items=[{"a": 1, "b": 2}])
    assert stored(bench) == [{"id": 1, "a": 1, "b": 2}]
    bench.gives(node("SimpleTableQuery", query="DROP TABLE t", write=True))
    bench.gives(writer([{"name": "c", "type": "BOOLEAN"}]), items=[{"c": True}])
    assert stored(bench) == [{"id": 1, "c": True}]


def test_each_item_comes_back_with_its_own_id(bench: Bench) -> None:
    items = [{"a": number, "extra": [number]} for number in range(3)]
    assert bench.gives(writer(["a"]), items=items) == [
        item | {"_inserted_id": number, "_rows_affected": 1} for number, item in enumerate(items, start=1)
    ]


def test_no_items_make_no_rows(bench: Bench) -> None:
    assert bench.gives(writer(["a"]), items=[]) == []


def test_an_id_that_was_used_is_never_given_again(bench: Bench) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}, {"a": 2}])
    bench.sql("DELETE FROM t")
    assert bench.gives(writer(["a"]), items=[{"a": 3}])[0]["_inserted_id"] == 3


def test_the_id_may_be_given(bench: Bench) -> None:
    assert bench.gives(writer(["id", "a"]), items=[{"id": 7, "a": 1}])[0]["_inserted_id"] == 7
    assert stored(bench) == [{"id": 7, "a": 1}]


# -- inputs


def test_with_inputs_values_go_to_columns_by_position(bench: Bench) -> None:
    inputs = ["$json.b", "$json.a.x * 2", '"text"', "1 < 2", "$node.hook.b", {"k": 1}, "$run.trigger", "null"]
    columns = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    given = bench.gives(writer(columns, inputs), items=[{"a": {"x": 4}, "b": "B"}, {"a": {"x": 5}, "b": "C"}])
    expected = {"three": "text", "four": True, "five": "B", "six": {"k": 1}, "seven": "manual", "eight": None}
    assert stored(bench, *columns) == [{"one": "B", "two": 8} | expected, {"one": "C", "two": 10} | expected]
    assert given[1] == {"a": {"x": 5}, "b": "C", "_inserted_id": 2, "_rows_affected": 1}


def test_with_inputs_an_item_need_not_be_an_object(bench: Bench) -> None:
    given = bench.gives(writer(["v"], ["$json"]), items=[1, "x", None, [1, 2]])
    assert [row["v"] for row in stored(bench, "v")] == [1, "x", None, [1, 2]]
    assert [row["_inserted_id"] for row in given] == [1, 2, 3, 4]


@pytest.mark.parametrize("item", [None, 5, "text", [1], True])
def test_without_inputs_an_item_must_be_an_object(bench: Bench, item: Any) -> None:
    message = bench.fails(writer(["a"]), items=[{"a": 1}, item])
    assert 'node "save"' in message
    assert "item 2" in message
    assert "not an object" in message
    assert bench.app.tables(bench.project) == []


def test_an_expression_that_fails_stores_nothing(bench: Bench) -> None:
    message = bench.fails(writer(["a"], ["$json.a + 1"]), items=[{"a": 1}, {}])
    assert 'node "save"' in message
    assert "$json.a" in message
    assert bench.app.tables(bench.project) == []


# -- all or nothing


def test_when_one_item_cannot_be_stored_none_is(bench: Bench) -> None:
    bench.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)")
    message = bench.fails(writer(["a", "b"]), items=[{"a": 1}, {"a": 2}, {"a": 1}])
    assert 'node "save"' in message
    assert "UNIQUE" in message.upper()
    assert stored(bench) == []
    assert list(bench.types("t")) == ["id", "a"]


def test_the_rows_of_a_later_node_that_fails_do_not_undo_those_of_an_earlier_one(bench: Bench) -> None:
    bench.fails(writer(["a"]), node("FunLogic", script="error('no')"), items=[{"a": 1}])
    assert stored(bench, "a") == [{"a": 1}]


# -- on_conflict


def test_on_conflict_updates_the_row_that_is_there(bench: Bench) -> None:
    upsert = writer(["slug", "title", "views"], on_conflict={"columns": ["slug"]})
    assert (
        bench.gives(upsert, items=[{"slug": "a", "title": "A", "views": 1}, {"slug": "b", "title": "B", "views": 1}])[1]["_inserted_id"]
        == 2
    )
    given = bench.gives(upsert, items=[{"slug": "a", "title": "A2"}])
    assert (given[0]["_inserted_id"], given[0]["_rows_affected"]) == (1, 1)
    assert stored(bench) == [{"id": 1, "slug": "a", "title": "A2", "views": None}, {"id": 2, "slug": "b", "title": "B", "views": 1}]


def test_on_conflict_with_a_list_updates_only_those_columns(bench: Bench) -> None:
    upsert = writer(["slug", "title", "views"], on_conflict={"columns": ["slug"], "update": ["title"]})
    bench.gives(upsert, items=[{"slug": "a", "title": "A", "views": 1}])
    bench.gives(upsert, items=[{"slug": "a", "title": "A2", "views": 9}])
    assert stored(bench, "title", "views") == [{"title": "A2", "views": 1}]


def test_on_conflict_without_update_keeps_the_row_that_is_there(bench: Bench) -> None:
    upsert = writer(["slug", "title"], on_conflict={"columns": ["slug"], "update": False})
    bench.gives(upsert, items=[{"slug": "a", "title": "A"}])
    given = bench.gives(upsert, items=[{"slug": "a", "title": "A2"}, {"slug": "b", "title": "B"}])
    assert [(row["_inserted_id"], row["_rows_affected"]) for row in given] == [(1, 0), (given[1]["_inserted_id"], 1)]
    assert stored(bench, "slug", "title") == [{"slug": "a", "title": "A"}, {"slug": "b", "title": "B"}]


def test_on_conflict_over_several_columns_needs_all_of_them_to_be_the_same(bench: Bench) -> None:
    upsert = writer(["a", "b", "n"], on_conflict={"columns": ["a", "b"]})
    bench.gives(upsert, items=[{"a": 1, "b": 1, "n": 1}, {"a": 1, "b": 2, "n": 1}, {"a": 1, "b": 1, "n": 2}])
    assert stored(bench, "a", "b", "n") == [{"a": 1, "b": 1, "n": 2}, {"a": 1, "b": 2, "n": 1}]


def test_on_conflict_says_why_when_rows_that_are_there_are_the_same_already(bench: Bench) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}, {"a": 1}])
    message = bench.fails(writer(["a"], on_conflict={"columns": ["a"]}), items=[{"a": 2}])
    assert 'node "save"' in message
    assert len(stored(bench)) == 2


# -- what goes wrong


def test_names_that_only_quoting_makes_possible_are_good(bench: Bench) -> None:
    columns = ['quo"te', "with space", "select", "Größe", "a;b", "x.y", "$z", "-"]
    item = dict.fromkeys(columns, 1)
    document = node("SimpleTableWriter", table='my "odd" table', columns=columns)
    bench.gives(document, items=[item])
    read = node("SimpleTableReader", table='my "odd" table', output="items")
    assert bench.gives(read) == [{"id": 1} | item]


def test_a_failing_writer_may_go_on_with_the_error(bench: Bench) -> None:
    [item] = bench.gives(writer(["a"], about={"on_error": "continue"}), items=["text"])
    assert item["error"]["node"] == "save"
    assert "not an object" in item["error"]["message"]


def test_projects_do_not_see_each_others_rows(bench: Bench) -> None:
    bench.gives(writer(["a"]), items=[{"a": 1}])
    bench.app.create_project(f"{bench.project}-other")
    other = Bench(bench.app, f"{bench.project}-other", bench._tables)
    assert other.gives(READ) == []
    assert other.app.tables(other.project) == []
