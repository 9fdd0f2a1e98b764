"""Is this adapter a true `Tables`?"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from mechaway_core.errors import NotFound, OutOfTime, QueryError, Unavailable
from mechaway_core.ports import Column, InsertRows, OnConflict, Projects, Rows, Session, TablePage, Tables
from tests.contracts.adapters import Adapters, elsewhere, finish
from tests.contracts.worker import insert

GRADES = (Column("student_id"), Column("score"), Column("passed"))
GRADE = {"student_id": "s123", "score": 85, "passed": True}


def put(tables: Tables, rows: list[dict[str, Any]], *columns: Column, conflict: OnConflict | None = None) -> list[tuple[Any, int]]:
    chosen = columns or tuple(Column(name) for name in rows[0])
    return tables.write("default", InsertRows("t", rows, chosen, conflict))


def ask(tables: Tables, sql: str, params: Any = ()) -> Rows:
    return tables.read("default", lambda session: session.query(sql, params))


def change(tables: Tables, sql: str, params: Any = ()) -> Rows:
    return tables.write("default", lambda session: session.query(sql, params, write=True))


def turn(tables: Tables, name: str, after: int, limit: int = 10) -> TablePage | None:
    return tables.read("default", lambda session: session.page(name, after, limit))


def everything(tables: Tables) -> list[dict[str, Any]]:
    return tables.read("default", lambda session: session.read_table("t", order_by="id")).rows


def test_a_row_that_is_stored_reads_back(tables: Tables) -> None:
    assert put(tables, [GRADE]) == [(1, 1)]
    assert everything(tables) == [{"id": 1, **GRADE}]
    assert put(tables, [GRADE, GRADE]) == [(2, 1), (3, 1)]


def test_a_row_without_a_value_holds_null(tables: Tables) -> None:
    put(tables, [{"a": 1}, {}], Column("a"))
    assert everything(tables) == [{"id": 1, "a": 1}, {"id": 2, "a": None}]


def test_no_rows_make_the_table_and_nothing_else(tables: Tables) -> None:
    assert put(tables, [], Column("a")) == []
    assert [table.name for table in tables.read("default", lambda session: session.tables())] == ["t"]


def test_missing_columns_are_added_and_old_rows_hold_null_there(tables: Tables) -> None:
    put(tables, [{"a": 1}])
    put(tables, [{"b": True, "A": 2}])
    assert everything(tables) == [{"id": 1, "a": 1, "b": None}, {"id": 2, "a": 2, "b": True}]


def test_ids_are_never_given_twice(tables: Tables) -> None:
    put(tables, [{"a": 1}, {"a": 2}])
    change(tables, "DELETE FROM t")
    assert put(tables, [{"a": 3}]) == [(3, 1)]


def test_an_id_that_is_given_is_the_rows_id(tables: Tables) -> None:
    assert put(tables, [{"id": 7, "a": 1}, {"id": None, "a": 2}]) == [(7, 1), (8, 1)]
    with pytest.raises(QueryError, match=r"UNIQUE constraint failed: t\.id"):
        put(tables, [{"id": 7, "a": 3}])
    with pytest.raises(QueryError, match="whole number"):
        put(tables, [{"id": "x", "a": 3}])
    with pytest.raises(QueryError, match="whole number"):
        put(tables, [{"id": [1], "a": 3}])
    assert len(everything(tables)) == 2


def test_all_rows_are_stored_or_none(tables: Tables) -> None:
    put(tables, [{"id": 2, "a": 0}])
    with pytest.raises(QueryError):
        put(tables, [{"id": 1, "a": 1}, {"id": 2, "a": 2}])
    assert everything(tables) == [{"id": 2, "a": 0}]


def test_a_conflict_updates_all_other_values(tables: Tables) -> None:
    key = OnConflict(("student_id",))
    assert put(tables, [GRADE], conflict=key) == [(1, 1)]
    assert put(tables, [{**GRADE, "score": 90, "passed": None}], conflict=key) == [(1, 1)]
    assert put(tables, [{**GRADE, "student_id": "other"}], conflict=key)[0][1] == 1
    assert [(row["score"], row["passed"]) for row in everything(tables)] == [(90, None), (85, True)]


def test_a_conflict_updates_the_named_values_only(tables: Tables) -> None:
    key = OnConflict(("student_id",), ("score",))
    put(tables, [GRADE], conflict=key)
    assert put(tables, [{"student_id": "s123", "score": 1, "passed": False}], *GRADES, conflict=key) == [(1, 1)]
    assert everything(tables) == [{"id": 1, "student_id": "s123", "score": 1, "passed": True}]


def test_a_conflict_keeps_the_row_and_answers_its_id(tables: Tables) -> None:
    key = OnConflict(("a", "b"), False)
    assert put(tables, [{"a": 1, "b": {"x": []}, "c": 1}] * 2, conflict=key) == [(1, 1), (1, 0)]
    (one, changed), (two, changed_too) = put(tables, [{"a": None, "b": 1, "c": 1}] * 2, conflict=key)
    assert (changed, changed_too) == (1, 1)
    assert one != two  # null is like nothing, not even like null
    assert everything(tables)[0]["c"] == 1


def test_a_conflict_over_the_only_column_or_over_the_id_works(tables: Tables) -> None:
    assert put(tables, [{"a": 1}, {"a": 1}], conflict=OnConflict(("a",))) == [(1, 1), (1, 1)]
    assert put(tables, [{"id": 1, "a": 9}], conflict=OnConflict(("id",))) == [(1, 1)]
    assert everything(tables) == [{"id": 1, "a": 9}]


def test_a_key_over_rows_that_are_there_twice_is_refused(tables: Tables) -> None:
    put(tables, [{"a": 1}, {"a": 1}])
    with pytest.raises(QueryError, match="UNIQUE"):
        put(tables, [{"a": 2}], conflict=OnConflict(("a",)))
    assert len(everything(tables)) == 2


@pytest.mark.parametrize(
    "name", ["select", 'a"b', "a b", "ä", "Ä", "日本", "a'b", "a;b", "--", "a]b", "%", "\U0001f600", "x" * 128, "rowid", "_rowid_", "oid"]
)
def test_any_text_can_name_a_table_and_a_column(tables: Tables, name: str) -> None:
    columns = [Column(name), Column("other")]
    row = {name: [1], "other": 2}
    stored = tables.write("default", lambda session: session.insert_rows(name, [row], columns, OnConflict((name,))))
    assert stored == [(1, 1)]
    assert tables.read("default", lambda session: session.read_table(name)).rows == [{"id": 1, **row}]
    page = tables.read("default", lambda session: session.page(name))
    assert page is not None
    assert page.rows == [{"id": 1, **row}]
    assert [info.name for info in tables.read("default", lambda session: session.tables())] == [name]


@pytest.mark.parametrize("name", ["", "sqlite_x", "SQLite_sequence", "a\0b", "a\nb", "x" * 129, "\x7f", "\ud800"])
def test_other_names_are_refused(tables: Tables, name: str) -> None:
    with pytest.raises(QueryError):
        tables.write("default", lambda session: session.insert_rows(name, [{"a": 1}], [Column("a")]))
    with pytest.raises(QueryError):
        tables.write("default", lambda session: session.insert_rows("t", [{name: 1}], [Column(name)]))
    assert tables.read("default", lambda session: session.tables()) == []


def test_columns_that_differ_in_case_only_are_the_same(tables: Tables) -> None:
    with pytest.raises(QueryError, match="twice"):
        put(tables, [{"a": 1, "A": 2}])
    put(tables, [{"ä": 1, "Ä": 2}])
    assert everything(tables) == [{"id": 1, "ä": 1, "Ä": 2}]


def test_a_table_has_500_columns_at_most(tables: Tables) -> None:
    wide = {f"c{n}": n for n in range(500)}
    put(tables, [wide])
    assert everything(tables) == [{"id": 1, **wide}]
    with pytest.raises(QueryError, match="500"):
        put(tables, [{f"d{n}": n for n in range(501)}])
    with pytest.raises(QueryError, match="500"):
        put(tables, [{"one more": 1}])


def test_tables_that_sql_made_take_rows_too(tables: Tables) -> None:
    change(tables, "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER, flag BOOL, note VARCHAR(9))")
    assert put(tables, [{"id": "a", "n": True, "flag": True, "note": 5}]) == [("a", 1)]
    assert put(tables, [{"id": "a", "n": "12", "flag": 2, "note": {"x": 1}}], conflict=OnConflict(("id",))) == [("a", 1)]
    assert everything(tables) == [{"id": "a", "n": 12, "flag": 2, "note": '{"x":1}'}]
    change(tables, "CREATE TABLE u (k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    stored = tables.write("default", lambda session: session.insert_rows("u", [{"k": "a", "v": 1}], [Column("k"), Column("v")]))
    assert stored == [(None, 1)]
    change(tables, "CREATE VIEW w AS SELECT 1 AS a")
    with pytest.raises(QueryError, match="view"):
        tables.write("default", lambda session: session.insert_rows("w", [{"a": 1}], [Column("a")]))


def test_given_types_decide(tables: Tables) -> None:
    columns = [Column(kind.lower(), kind) for kind in ("TEXT", "INTEGER", "REAL", "NUMERIC", "BOOLEAN", "JSON", "ANY")]
    put(
        tables,
        [
            {"text": '{"a":1}', "integer": 1, "real": 1, "numeric": 1.5, "boolean": False, "json": "x", "any": True},
            {"text": 5, "integer": "7", "real": "x", "numeric": "2", "boolean": "no", "json": {"a": 1.0}, "any": "7"},
        ],
        *columns,
    )
    assert everything(tables) == [
        {"id": 1, "text": '{"a":1}', "integer": 1, "real": 1.0, "numeric": 1.5, "boolean": False, "json": "x", "any": True},
        {"id": 2, "text": "5", "integer": 7, "real": "x", "numeric": 2, "boolean": "no", "json": {"a": 1.0}, "any": "7"},
    ]
    with pytest.raises(QueryError, match="the type is one of"):
        put(tables, [{"z": 1}], Column("z", "VARCHAR"))


def test_sql_finds_values_as_they_were_stored(tables: Tables) -> None:
    put(tables, [{"ok": True, "n": 2**53 + 1, "s": "ä\0b", "list": [1, {"a": None}], "looks": "[1]", "big": 2**70, "none": None}])
    for column, value in everything(tables)[0].items():
        where = f'"{column}" IS ?' if value is None else f'"{column}" = ?'
        assert ask(tables, f"SELECT count(*) AS n FROM t WHERE {where}", [value]).rows == [{"n": 1}], column


def test_booleans_and_json_survive_aliases_joins_and_views(tables: Tables) -> None:
    put(tables, [{"ok": True, "data": {"a": [1]}}])
    change(tables, "CREATE VIEW v AS SELECT ok AS fine, data FROM t")
    rows = ask(tables, "SELECT x.ok AS yes, y.fine, y.data, json_array(1, 'a') AS made FROM t x JOIN v y").rows
    assert rows == [{"yes": True, "fine": True, "data": {"a": [1]}, "made": [1, "a"]}]


def test_names_that_come_twice_are_numbered(tables: Tables) -> None:
    assert ask(tables, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a").rows == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}]


def test_what_json_cannot_say_reads_as_something_it_can(tables: Tables) -> None:
    row = ask(tables, "SELECT 9e999 AS up, -9e999 AS down, x'0102' AS blob, x'' AS empty").rows[0]
    assert row == {"up": None, "down": None, "blob": "AQI=", "empty": ""}
    with pytest.raises(QueryError, match="Unicode"):
        ask(tables, "SELECT CAST(x'ff' AS TEXT)")
    with pytest.raises(QueryError):
        ask(tables, "SELECT ?", ["\ud800"])


def test_parameters_are_bound_by_place_and_by_name(tables: Tables) -> None:
    assert ask(tables, "SELECT ? AS a, ? AS b", [1, "x"]).rows == [{"a": 1, "b": "x"}]
    assert ask(tables, "SELECT :a AS a, @b AS b", {"a": {"k": 1}, "b": True, "more": 0}).rows == [{"a": {"k": 1}, "b": 1}]
    assert ask(tables, "SELECT :a AS a, :b AS b", [1, 2]).rows == [{"a": 1, "b": 2}]
    for sql, params in (("SELECT ?", []), ("SELECT 1", [1]), ("SELECT ?, ?", [1])):
        with pytest.raises(QueryError, match="parameters, but there are"):
            ask(tables, sql, params)
    with pytest.raises(QueryError, match="no value for the parameter :b"):
        ask(tables, "SELECT :a, :b", {"a": 1})
    with pytest.raises(QueryError, match="without a name"):
        ask(tables, "SELECT ?", {"a": 1})


def test_a_query_that_finds_nothing_still_names_its_columns(tables: Tables) -> None:
    put(tables, [GRADE])
    assert ask(tables, "SELECT id, score AS s FROM t WHERE 0").columns == ["id", "s"]


def test_a_write_tells_what_it_changed(tables: Tables) -> None:
    put(tables, [{"a": 1}, {"a": 2}])
    assert change(tables, "UPDATE t SET a = a + 1") == Rows([], [], changes=2)
    assert change(tables, "INSERT INTO t (a) VALUES (?)", [9]) == Rows([], [], changes=1, last_id=3)
    assert change(tables, "DELETE FROM t WHERE a = 9 RETURNING id") == Rows(["id"], [{"id": 3}], changes=1)
    assert change(tables, "CREATE TABLE u (x)") == Rows([], [])
    assert change(tables, "SELECT 1 AS one") == Rows(["one"], [{"one": 1}])
    assert change(tables, "INSERT INTO t (a) SELECT 1 WHERE 0") == Rows([], [])


def test_a_session_that_reads_cannot_write(tables: Tables) -> None:
    put(tables, [GRADE])
    for write in (
        lambda session: session.query("DELETE FROM t", write=True),
        lambda session: session.insert_rows("t", [GRADE], GRADES),
    ):
        with pytest.raises(QueryError, match="only reads"):
            tables.read("default", write)
    assert len(everything(tables)) == 1


def test_reading_what_was_never_written_gives_nothing(tables: Tables) -> None:
    assert tables.read("default", lambda session: session.tables()) == []
    assert tables.read("default", lambda session: session.has_table("t")) is False
    assert tables.read("default", lambda session: session.page("t")) is None
    found = tables.read("default", lambda session: session.read_table("t", "a = ?", [1], "id DESC", 5))
    assert found == Rows([], [], missing=True)
    with pytest.raises(QueryError, match="no such table: t"):
        ask(tables, "SELECT * FROM t")


def test_a_table_is_read_by_condition_order_and_limit(tables: Tables) -> None:
    put(tables, [{"a": n, "b": n % 2} for n in range(10)])
    rows = tables.read("default", lambda session: session.read_table("T", "b = ? OR a = 0 -- note", [1], "a DESC -- note", 3)).rows
    assert [row["a"] for row in rows] == [9, 7, 5]
    assert len(tables.read("default", lambda session: session.read_table("t")).rows) == 10
    assert tables.read("default", lambda session: session.read_table("t", limit=0)).rows == []


@pytest.mark.parametrize("where", ["1) OR (1", "1; DELETE FROM t", "1) /*", "'", "1 LIMIT 0) --", "(1", "a = 1 /*", "", " "])
def test_a_condition_cannot_leave_its_brackets(tables: Tables, where: str) -> None:
    put(tables, [{"a": 1}, {"a": 2}])
    if where.strip():
        with pytest.raises(QueryError):
            tables.read("default", lambda session: session.read_table("t", where, (), "id", 1))
    assert len(everything(tables)) == 2


def test_a_condition_about_another_missing_table_is_an_error(tables: Tables) -> None:
    put(tables, [{"a": 1}])
    with pytest.raises(QueryError, match="no such table: other"):
        tables.read("default", lambda session: session.read_table("t", "a IN (SELECT a FROM other)"))


def test_tables_are_listed_with_columns_and_counts(tables: Tables) -> None:
    put(tables, [{"a": True, "b": 1}])
    change(tables, "CREATE VIEW v AS SELECT a FROM t")
    table, view = tables.read("default", lambda session: session.tables())
    assert (table.name, table.rows) == ("t", 1)
    assert table.columns == [Column("id", "INTEGER"), Column("a", "BOOLEAN"), Column("b", None)]
    assert (view.name, view.rows) == ("v", 1)


@pytest.mark.parametrize("made", ["t", "CREATE TABLE u (k PRIMARY KEY, a) WITHOUT ROWID", "CREATE VIEW u AS SELECT a FROM t"])
def test_pages_hold_every_row_once(tables: Tables, made: str) -> None:
    put(tables, [{"a": n} for n in range(25)])
    name = "t"
    if made != "t":
        name = "u"
        change(tables, made)
        if "TABLE" in made:
            change(tables, "INSERT INTO u SELECT id, a FROM t")
    found: list[int] = []
    after = 0
    for size in (10, 10, 5):
        page = turn(tables, name, after)
        assert page is not None
        assert len(page.rows) == size
        assert (page.next is None) == (size == 5)
        found += [row["a"] for row in page.rows]
        after = page.next or 0
    assert sorted(found) == list(range(25))


def test_pages_do_not_stumble_over_odd_ids(tables: Tables) -> None:
    put(tables, [{"id": n, "a": n} for n in (-2, -1, 0, 1, 2**63 - 1)])
    found: list[int] = []
    after = 0
    while True:
        page = turn(tables, "t", after, 1)
        assert page is not None
        found += [row["id"] for row in page.rows]
        if page.next is None:
            break
        after = page.next
    assert found == [-2, -1, 0, 1, 2**63 - 1]


def test_a_query_may_not_return_more_than_the_limits(make: Callable[..., Adapters]) -> None:
    tables = make(sql_max_rows=10, sql_max_mb=0.1).tables
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c LIMIT"
    assert len(ask(tables, f"{numbers} 10").rows) == 10
    with pytest.raises(QueryError, match="MECHAWAY_SQL_MAX_ROWS"):
        ask(tables, f"{numbers} 11")
    with pytest.raises(QueryError, match="MECHAWAY_SQL_MAX_MB"):
        ask(tables, "SELECT hex(zeroblob(30000)) AS a UNION ALL SELECT hex(zeroblob(30001))")
    with pytest.raises(QueryError, match="a value is larger than this server allows"):
        ask(tables, "SELECT hex(zeroblob(60000))")
    with pytest.raises(QueryError, match="more than 3 rows"):
        tables.read("default", lambda session: session.query(f"{numbers} 4", max_rows=3))


def test_a_project_may_not_take_more_than_its_quota(make: Callable[..., Adapters]) -> None:
    tables = make(tables_max_mb=1).tables
    put(tables, [{"a": "x" * 100_000}])
    with pytest.raises(QueryError, match=r"may take 1 MB \(MECHAWAY_TABLES_MAX_MB\)"):
        put(tables, [{"a": "x" * 100_000} for _ in range(20)])
    assert len(everything(tables)) == 1
    assert put(tables, [{"a": "small"}]) == [(2, 1)]


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def test_a_statement_that_never_ends_is_stopped(make: Callable[..., Adapters]) -> None:
    tables = make(sql_timeout=0.05).tables
    put(tables, [{"a": 1}])
    with pytest.raises(OutOfTime, match=r"longer than 0\.05 s"):
        ask(tables, ENDLESS)
    with pytest.raises(OutOfTime):
        change(tables, f"INSERT INTO t (a) {ENDLESS}")
    with pytest.raises(OutOfTime):
        change(tables, "INSERT INTO t (a) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c")
    assert everything(tables) == [{"id": 1, "a": 1}]


def test_a_deadline_holds_for_everything_a_job_does(tables: Tables) -> None:
    put(tables, [{"a": 1}])
    with pytest.raises(OutOfTime, match="its timeout"):
        tables.read("default", lambda session: session.query(ENDLESS), time.monotonic() + 0.05)
    with pytest.raises(OutOfTime):
        tables.write("default", lambda session: session.query(f"INSERT INTO t (a) {ENDLESS}", write=True), time.monotonic() + 0.05)
    called: list[Session] = []
    with pytest.raises(OutOfTime):
        tables.write("default", called.append, time.monotonic() - 1)
    assert called == []
    assert len(everything(tables)) == 1


def test_a_job_that_fails_leaves_nothing(tables: Tables) -> None:
    def job(session: Session) -> None:
        session.query("CREATE TABLE other (x)", write=True)
        session.insert_rows("t", [{"a": 1}], [Column("a")])
        raise KeyError("surprise")

    for _ in range(3):
        with pytest.raises(KeyError, match="surprise"):
            tables.write("default", job)
    assert tables.read("default", lambda session: session.tables()) == []
    assert put(tables, [{"a": 1}]) == [(1, 1)]


def test_a_job_that_goes_on_after_an_error_keeps_the_rest(tables: Tables) -> None:
    def job(session: Session) -> None:
        session.insert_rows("t", [{"id": 1}], [Column("id")])
        with pytest.raises(QueryError):
            session.insert_rows("t", [{"id": 1}], [Column("id")])
        session.insert_rows("t", [{"id": 2}], [Column("id")])

    tables.write("default", job)
    assert [row["id"] for row in everything(tables)] == [1, 2]


def test_a_job_cannot_go_on_after_its_transaction_was_undone(tables: Tables) -> None:
    put(tables, [{"id": 1}])

    def job(session: Session) -> None:
        session.query("INSERT INTO t (id) VALUES (2)", write=True)
        with pytest.raises(QueryError):
            session.query("INSERT OR ROLLBACK INTO t (id) VALUES (1)", write=True)
        session.query("INSERT INTO t (id) VALUES (3)", write=True)

    with pytest.raises(QueryError, match="UNIQUE"):
        tables.write("default", job)
    assert everything(tables) == [{"id": 1}]


def test_a_session_is_of_no_use_after_its_job(tables: Tables) -> None:
    put(tables, [{"a": 1}])
    kept = tables.write("default", lambda session: session)
    with pytest.raises(RuntimeError, match="only good for the job"):
        kept.query("SELECT 1")
    kept = tables.read("default", lambda session: session)
    with pytest.raises(RuntimeError):
        kept.tables()


def test_a_read_sees_one_moment(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=0.05)
    put(adapters.tables, [{"a": 1}])

    def job(session: Session) -> tuple[int, int]:
        before = len(session.read_table("t").rows)
        with suppress(Unavailable):  # where a writer waits for readers it does so in vain
            put(adapters.tables, [{"a": 2}])
        return before, len(session.read_table("t").rows)

    assert adapters.tables.read("default", job) == (1, 1)
    assert put(adapters.tables, [{"a": 3}])[0][1] == 1


def test_what_another_process_makes_of_a_table_is_seen(make: Callable[..., Adapters]) -> None:
    one, two = make().tables, make().tables
    put(one, [{"a": True}])
    put(one, [{"a": False}])
    change(two, "DROP TABLE t")
    put(two, [{"a": "text", "b": 1}])
    put(one, [{"a": True}])
    assert everything(one) == [{"id": 1, "a": "text", "b": 1}, {"id": 2, "a": True, "b": None}]
    change(two, "ALTER TABLE t RENAME COLUMN a TO c")
    put(one, [{"a": True}])
    assert everything(two)[2] == {"id": 3, "c": None, "b": None, "a": True}


def test_rows_that_come_alone_and_in_company_are_stored_alike(make: Callable[..., Adapters]) -> None:
    tables, value = make().tables, {"a": [1, {"b": None}], "b": "[text]", "c": True, "d": 2**70}
    columns = tuple(Column(name) for name in value)

    def by_hand(session: Session) -> list[tuple[Any, int]]:
        return session.insert_rows("t", [value], columns)

    jobs = [InsertRows("t", [value], columns)] * 20 + [by_hand] * 20
    with ThreadPoolExecutor(10) as threads:
        stored = list(threads.map(lambda job: tables.write("default", job), jobs))
    assert sorted(row_id for [(row_id, _)] in stored) == list(range(1, 41))
    assert [{**row, "id": 0} for row in everything(tables)] == [{"id": 0, **value}] * 40


def test_a_row_that_cannot_be_stored_costs_its_neighbours_nothing(make: Callable[..., Adapters]) -> None:
    tables = make().tables
    put(tables, [{"a": 0}])
    change(tables, "CREATE UNIQUE INDEX one ON t (a)")
    put(tables, [{"a": 1}])

    def store(number: int) -> str:
        try:
            put(tables, [{"a": number % 30}])
        except QueryError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(10) as threads:
        said = list(threads.map(store, range(60)))
    assert sorted(row["a"] for row in everything(tables)) == list(range(30))
    assert sum(bool(sentence) for sentence in said) == 32
    assert all("UNIQUE" in sentence for sentence in said if sentence)


def test_an_unknown_project_is_not_found(tables: Tables) -> None:
    for slug in ("nobody", "..", "", "A"):
        with pytest.raises(NotFound, match="there is no project"):
            tables.read(slug, lambda session: session.tables())
        with pytest.raises(NotFound):
            tables.write(slug, lambda session: session.tables())


def test_projects_do_not_see_each_other(tables: Tables, projects: Projects) -> None:
    projects.create("one")
    projects.create("two")
    tables.write("one", lambda session: session.insert_rows("secret", [{"a": 1}], [Column("a")]))
    for slug in ("two", "default"):
        assert tables.read(slug, lambda session: session.tables()) == []
        with pytest.raises(QueryError, match="no such table"):
            tables.read(slug, lambda session: session.query("SELECT * FROM secret"))
        with pytest.raises(QueryError):
            tables.write(slug, lambda session: session.query("ATTACH '../one/simpletable.db' AS x", write=True))


def test_threads_and_processes_that_insert_lose_no_row(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=60.0)
    others = [elsewhere(adapters, "insert", f"process {n}", 50) for n in range(3)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(insert, adapters, f"thread {n}", "25") for n in range(8)]:
            done.result()
    finish(*others)
    rows = everything(adapters.tables)
    assert [row["id"] for row in rows] == list(range(1, 351))
    assert len({(row["who"], row["n"]) for row in rows}) == 350


def test_threads_read_while_others_write(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=60.0)
    put(adapters.tables, [{"who": "first", "n": 0}])

    def read(_: int) -> int:
        return len(adapters.tables.read("default", lambda session: session.read_table("t")).rows)

    with ThreadPoolExecutor(12) as pool:
        writers = [pool.submit(insert, adapters, f"thread {n}", "20") for n in range(4)]
        counts = list(pool.map(read, range(100)))
        for done in writers:
            done.result()
    assert all(1 <= count <= 81 for count in counts)
    assert read(0) == 81
