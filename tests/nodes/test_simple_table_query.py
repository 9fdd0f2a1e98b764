"""SimpleTableQuery: one SQL statement on the project's tables, for each item."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nodes.bench import Bench, Document, node


def query(sql: str, inputs: list[Any] | None = None, about: Document | None = None, **params: Any) -> Document:
    return node("SimpleTableQuery", id="ask", inputs=inputs, about=about, query=sql, **params)


@pytest.fixture(autouse=True)
def rows(bench: Bench) -> None:
    items = [{"name": "ann", "n": 1, "ok": True, "j": {"k": [1]}}, {"name": "bob", "n": 2, "ok": False, "j": []}]
    bench.gives(node("SimpleTableWriter", table="t", columns=["name", "n", "ok", "j"]), items=items)


# -- values


def test_inputs_are_bound_to_question_marks_in_order(bench: Bench) -> None:
    assert bench.gives(query("SELECT ? AS a, ? AS b, ? AS c", ["$json.x", "1 + 1", "null"]), items=[{"x": "X"}]) == [
        {"a": "X", "b": 2, "c": None}
    ]


def test_inputs_are_bound_to_names_in_the_order_in_which_these_stand(bench: Bench) -> None:
    assert bench.gives(query("SELECT :b AS b, :a AS a, :b AS again", ["1", "2"])) == [{"b": 1, "a": 2, "again": 1}]


@pytest.mark.parametrize("sign", [":", "@", "$"])
def test_one_input_that_is_an_object_is_bound_by_its_keys(bench: Bench, sign: str) -> None:
    sql = f"SELECT {sign}b AS b, {sign}a AS a"
    assert bench.gives(query(sql, ["$json"]), items=[{"a": 1, "b": 2, "c": 3}]) == [{"b": 2, "a": 1}]


def test_without_inputs_names_take_the_values_of_the_item(bench: Bench) -> None:
    assert bench.gives(query("SELECT name FROM t WHERE n = :n"), items=[{"n": 2}, {"n": 1, "other": {}}]) == [
        {"name": "bob"},
        {"name": "ann"},
    ]


def test_an_object_for_a_question_mark_is_json(bench: Bench) -> None:
    assert bench.gives(query("SELECT ? AS v", ["$json"]), items=[{"a": [1]}]) == [{"v": {"a": [1]}}]
    assert bench.gives(query("SELECT json_extract(?, '$.a[0]') AS v", ["$json"]), items=[{"a": [1]}]) == [{"v": 1}]


@pytest.mark.parametrize("text", ["note:important", "a@example.org", "costs $five", "12:a"])
def test_a_colon_inside_a_text_is_not_the_name_of_a_value(bench: Bench, text: str) -> None:
    assert bench.gives(query(f"SELECT '{text}' AS t, ? AS v", ["$json"]), items=[{"a": 1}]) == [{"t": text, "v": {"a": 1}}]
    assert bench.gives(query(f"SELECT '{text}' AS t"), items=[{"a": 1}]) == [{"t": text}]
    assert bench.gives(query(f"SELECT ? AS v -- {text}", ["$json"]), items=[{"a": 1}]) == [{"v": {"a": 1}}]


def test_booleans_find_what_a_writer_stored(bench: Bench) -> None:
    assert bench.gives(query("SELECT name FROM t WHERE ok = ?", ["$json.ok"]), items=[{"ok": False}]) == [{"name": "bob"}]


def test_a_value_from_outside_stays_a_value(bench: Bench) -> None:
    assert bench.gives(query("SELECT name FROM t WHERE name = ?", ["$json.n"]), items=[{"n": "x' OR '1'='1"}]) == []


@pytest.mark.parametrize(
    ("sql", "inputs", "words"),
    [
        ("SELECT ?", None, ["1", "0"]),
        ("SELECT ?, ?", ["1"], ["2", "1"]),
        ("SELECT ?", ["1", "2"], ["1", "2"]),
        ("SELECT :missing", None, ["missing"]),
        ("SELECT :missing", ["$json"], ["missing"]),
    ],
)
def test_values_that_do_not_fit_the_statement_fail_and_say_so(bench: Bench, sql: str, inputs: list[Any] | None, words: list[str]) -> None:
    message = bench.fails(query(sql, inputs), items=[{"a": 1}])
    assert 'node "ask"' in message
    for word in words:
        assert word in message


# -- what it gives


def test_it_gives_an_item_for_each_row(bench: Bench) -> None:
    assert bench.gives(query("SELECT * FROM t ORDER BY id")) == [
        {"id": 1, "name": "ann", "n": 1, "ok": True, "j": {"k": [1]}},
        {"id": 2, "name": "bob", "n": 2, "ok": False, "j": []},
    ]


def test_it_gives_one_item_that_holds_the_rows_when_asked(bench: Bench) -> None:
    assert bench.gives(query("SELECT name FROM t WHERE n = 1", table="t", output="list")) == [
        {"results": [{"name": "ann"}], "count": 1, "table": "t"}
    ]
    assert bench.gives(query("SELECT 1 AS one WHERE 0", output="list")) == [{"results": [], "count": 0, "table": None}]


def test_it_runs_once_for_each_item(bench: Bench) -> None:
    assert bench.gives(query("SELECT ? * 2 AS v", ["$json"]), items=[1, 2, 3]) == [{"v": 2}, {"v": 4}, {"v": 6}]
    assert bench.gives(query("SELECT 1 AS v", output="list"), items=[1, 2]) == [{"results": [{"v": 1}], "count": 1, "table": None}] * 2
    assert bench.gives(query("SELECT 1 AS v"), items=[]) == []


def test_columns_of_one_name_are_kept_apart(bench: Bench) -> None:
    assert bench.gives(query("SELECT 1 AS a, 2 AS a, 3 AS b")) == [{"a": 1, "a_2": 2, "b": 3}]


def test_a_table_that_is_not_there_yet_has_no_rows(bench: Bench) -> None:
    assert bench.gives(query("SELECT * FROM new", table="new")) == []
    assert bench.gives(query("SELECT * FROM new", table="new", output="list")) == [{"results": [], "count": 0, "table": "new"}]


def test_a_table_that_is_not_there_and_was_not_named_fails(bench: Bench) -> None:
    message = bench.fails(query("SELECT * FROM nothing_here"))
    assert 'node "ask"' in message
    assert "nothing_here" in message


# -- writing


def test_a_statement_that_writes_says_how_many_rows_it_changed(bench: Bench) -> None:
    assert bench.gives(query("UPDATE t SET n = n + 10", write=True)) == [{"_rows_affected": 2, "_inserted_id": None}]
    assert bench.gives(query("INSERT INTO t (name) VALUES (?)", ["$json.x"], write=True), items=[{"x": "cee"}, {"x": "dan"}]) == [
        {"_rows_affected": 1, "_inserted_id": 3},
        {"_rows_affected": 1, "_inserted_id": 4},
    ]
    assert bench.gives(query("DELETE FROM t WHERE name = 'nobody'", write=True)) == [{"_rows_affected": 0, "_inserted_id": None}]
    assert [row["n"] for row in bench.sql("SELECT n FROM t ORDER BY id")] == [11, 12, None, None]


def test_returning_gives_rows(bench: Bench) -> None:
    assert bench.gives(query("UPDATE t SET n = 0 WHERE id = 1 RETURNING id, n", write=True)) == [{"id": 1, "n": 0}]
    assert bench.gives(query("DELETE FROM t WHERE id = 99 RETURNING id", write=True)) == []
    assert [row["n"] for row in bench.sql("SELECT n FROM t ORDER BY id")] == [0, 2]


def test_it_may_make_and_drop_tables_when_it_may_write(bench: Bench) -> None:
    bench.gives(query("CREATE TABLE IF NOT EXISTS made (a)", write=True))
    assert "made" in [info.name for info in bench.app.tables(bench.project)]
    bench.gives(query("DROP TABLE made", write=True))
    assert "made" not in [info.name for info in bench.app.tables(bench.project)]


def test_a_statement_that_fails_changes_nothing(bench: Bench) -> None:
    bench.sql("CREATE TABLE u (a UNIQUE)")
    message = bench.fails(query("INSERT INTO u VALUES (1), (2), (1)", write=True))
    assert 'node "ask"' in message
    assert bench.sql("SELECT * FROM u") == []


# -- items that fail


def test_items_that_fail_leave_the_others_alone(bench: Bench) -> None:
    failing = query("SELECT abs(?) AS v", ["$json.v"], about={"on_error": "continue"})
    given = bench.gives(failing, items=[{"v": 1}, {"v": -(2**63)}, {"v": -3}])
    assert given[0] == {"v": 1}
    assert given[2] == {"v": 3}
    assert given[1]["error"]["type"] == "query"
    assert given[1]["error"]["node"] == "ask"
    assert given[1]["error"]["item"] == {"v": -(2**63)}


def test_an_item_whose_expression_fails_is_an_item_that_fails(bench: Bench) -> None:
    failing = query("SELECT ? AS v", ["$json.v + 1"], about={"on_error": "continue"})
    given = bench.gives(failing, items=[{"v": 1}, {}, {"v": 3}])
    assert [item.get("v") for item in given] == [2, None, 4]
    assert given[1]["error"]["type"] == "script"


def test_the_first_item_that_fails_stops_the_run(bench: Bench) -> None:
    bench.sql("CREATE TABLE u (a UNIQUE)")
    message = bench.fails(query("INSERT INTO u VALUES (?)", ["$json"], write=True), items=[1, 1, 2])
    assert 'node "ask"' in message
    assert bench.sql("SELECT * FROM u") == [{"a": 1}]


def test_a_statement_that_gives_too_many_rows_fails(bench: Bench) -> None:
    sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    message = bench.fails(query(sql))
    assert 'node "ask"' in message
    assert "1000 rows" in message


def test_a_statement_that_does_not_end_is_ended(bench: Bench) -> None:
    sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c"
    run = bench.run(query(sql, about={"timeout": 0.1}))
    assert run.failure is not None
    assert (run.failure.kind, run.failure.node) == ("timeout", "ask")
