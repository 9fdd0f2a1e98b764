"""Do the tables of this adapter come back from a dump as they were?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from mechaway_core.errors import Conflict, Invalid, QueryError
from mechaway_core.ports import Column, InsertRows, Projects, Session, Tables

VALUES: list[Any] = [
    None, 0, -(2**63), 2**63 - 1, 2**80, 1.0, 0.1, 1e308, 5e-324, -0.0, True, False, "", "text", "12", "1.0", "ä\u0000ö\U0001f600",
    '{"a": 1}', '"quoted"', {"a": [1, None, {"b": 2.0}]}, [], {}, ["x"], "\x00", "$json", "x" * 10_000,
]  # fmt: skip
KINDS = ("", "TEXT", "INTEGER", "REAL", "NUMERIC", "BOOLEAN", "JSON")
MADE = (
    "CREATE TABLE plain (x, y TEXT)",
    "CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE TABLE derived (a INTEGER, b AS (a * 2) STORED, c AS (a + 1))",
    'CREATE TABLE "od""d na|me" (rowid TEXT, "se lect" DEFAULT (1 + 1))',
    "CREATE UNIQUE INDEX one ON plain (x) WHERE x IS NOT NULL",
    "CREATE VIEW seen AS SELECT x FROM plain",
    "INSERT INTO plain VALUES (9e999, CAST(x'ff00' AS TEXT)), (x'00ff', 'ok' || char(0) || 'z'), (-9e999, NULL)",
    "INSERT INTO plain (rowid, x) VALUES (77, 'far')",
    "INSERT INTO plain (rowid, x) VALUES (-5, 'before')",
    "INSERT INTO keyed VALUES ('b', 1), ('a', x'00')",
    "INSERT INTO derived (a) VALUES (21)",
    """INSERT INTO "od""d na|me" (rowid) VALUES ('its own')""",
    "CREATE TABLE empty (a)",
)


def fill(tables: Tables, project: str = "default") -> None:
    rows = [dict.fromkeys("abcdefg", value) for value in VALUES]
    columns = [Column(name, kind or None) for name, kind in zip("abcdefg", KINDS, strict=True)]
    tables.write(project, InsertRows("values", rows, columns))

    def make(session: Session) -> None:
        for sql in MADE:
            session.query(sql, write=True)

    tables.write(project, make)


def dump(tables: Tables, project: str = "default") -> list[bytes]:
    return tables.read(project, lambda session: list(session.dump()))


def load(tables: Tables, lines: list[bytes], project: str = "copy") -> int:
    return tables.write(project, lambda session: session.load(lines))


def names(tables: Tables, project: str = "copy") -> list[str]:
    return tables.read(project, lambda session: [table.name for table in session.tables()])


@pytest.fixture(autouse=True)
def copy(projects: Projects) -> None:
    projects.create("copy")


def test_every_cell_comes_back_as_it_was(tables: Tables) -> None:
    fill(tables)
    lines = dump(tables)
    assert load(tables, lines) == len(VALUES) + 9
    assert dump(tables, "copy") == lines
    for sql in (
        "SELECT * FROM [values]",
        "SELECT *, typeof(b), typeof(d) FROM [values]",
        "SELECT rowid, x FROM plain",
        "SELECT * FROM derived",
    ):
        there, here = (tables.read(project, lambda session, sql=sql: session.query(sql).rows) for project in ("default", "copy"))  # type: ignore[misc]
        assert here == there
        assert here


def test_an_id_is_not_given_twice_after_a_move(tables: Tables) -> None:
    tables.write("default", InsertRows("t", [{"a": 1}, {"a": 2}], [Column("a")]))
    tables.write("default", lambda session: session.query("DELETE FROM t WHERE id = 2", write=True))
    load(tables, dump(tables))
    assert tables.write("copy", InsertRows("t", [{"a": 3}], [Column("a")])) == [(3, 1)]


def test_indexes_and_views_move_too(tables: Tables) -> None:
    fill(tables)
    load(tables, dump(tables))
    assert "seen" in names(tables)
    with pytest.raises(QueryError, match="UNIQUE"):
        tables.write("copy", lambda session: session.query("INSERT INTO plain (x) VALUES ('far')", write=True))


def test_no_tables_are_a_dump_too(tables: Tables) -> None:
    assert load(tables, dump(tables)) == 0
    assert names(tables) == []


def test_a_dump_goes_only_where_no_tables_are(tables: Tables) -> None:
    fill(tables)
    with pytest.raises(Conflict, match="tables already"):
        load(tables, dump(tables), "default")


def test_clearing_leaves_nothing_and_a_dump_can_come_again(tables: Tables) -> None:
    fill(tables)
    lines = dump(tables)
    load(tables, lines)
    tables.write("copy", lambda session: session.clear())
    assert names(tables) == []
    load(tables, lines)
    assert dump(tables, "copy") == lines


def test_a_dump_that_ends_early_stores_nothing(tables: Tables) -> None:
    fill(tables)
    lines = dump(tables)
    for end in (0, 1, 3, len(lines) // 2, len(lines) - 1):
        with pytest.raises(Invalid, match="in the middle"):
            load(tables, lines[:end])
    assert names(tables) == []


def test_reading_sessions_take_no_dump(tables: Tables) -> None:
    with pytest.raises(QueryError, match="only reads"):
        tables.read("copy", lambda session: session.load([]))
    with pytest.raises(QueryError, match="only reads"):
        tables.read("copy", lambda session: session.clear())


HEAD = {"format": "mechaway tables 1"}
TABLE = {"schema": "table", "name": "t", "sql": "CREATE TABLE t (id INTEGER PRIMARY KEY, a)"}
ROWS = {"rows": "t", "columns": ["id", "a"]}


def made(kind: str, name: str, sql: str) -> dict[str, str]:
    return {"schema": kind, "name": name, "sql": sql}


@pytest.mark.parametrize(
    "lines",
    [
        [{"format": "mechaway tables 2"}],
        [HEAD, 1],
        [HEAD, "x"],
        [HEAD, {}],
        [HEAD, {"end": 1}],
        [HEAD, {"end": 0}, {"end": 0}],
        [HEAD, [1]],
        [HEAD, made("trigger", "x", "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END")],
        [HEAD, made("table", "x", "CREATE VIRTUAL TABLE x USING fts5(a)")],
        [HEAD, made("table", "x", "CREATE TEMP TABLE x (a)")],
        [HEAD, made("table", "x", "ATTACH 'other.db' AS x")],
        [HEAD, made("table", "x", "CREATE TABLE y (a)")],
        [HEAD, made("table", "x", "CREATE TABLE x (a); DROP TABLE x")],
        [HEAD, made("table", "x", "CREATE TABLE x (a DEFAULT (load_extension('x')))")],
        [HEAD, made("view", "x", "PRAGMA writable_schema = 1")],
        [HEAD, made("view", "x", "CREATE TABLE x (a)")],
        [HEAD, made("table", "sqlite_x", "CREATE TABLE sqlite_x (a)")],
        [HEAD, {"schema": "table", "name": "x", "sql": None}],
        [HEAD, {"rows": "sqlite_schema", "columns": ["type"]}],
        [HEAD, {"rows": "sqlite_master", "columns": ["type", "name", "tbl_name", "rootpage", "sql"]}],
        [HEAD, {"rows": "t", "columns": ["id", "a"]}],
        [HEAD, TABLE, {"rows": "t", "columns": ["id", 'a") SELECT 1; --']}],
        [HEAD, TABLE, {"rows": "t", "columns": ["id"]}],
        [HEAD, TABLE, ROWS | {"last_id": "x"}],
        [HEAD, TABLE, ROWS | {"last_id": 7}],
        [HEAD, TABLE, ROWS, [1]],
        [HEAD, TABLE, ROWS, [1, 2, 3]],
        [HEAD, TABLE, ROWS, [1, True]],
        [HEAD, TABLE, ROWS, [1, [2]]],
        [HEAD, TABLE, ROWS, [1, {}]],
        [HEAD, TABLE, ROWS, [1, {"blob": "!"}]],
        [HEAD, TABLE, ROWS, [1, {"blob": 1}]],
        [HEAD, TABLE, ROWS, [1, {"real": "nan"}]],
        [HEAD, TABLE, ROWS, [1, {"other": ""}]],
        [HEAD, TABLE, ROWS, [1, 18446744073709551615]],
        [HEAD, TABLE, ROWS, ["x", 1], {"end": 1}],
        [HEAD, TABLE, ROWS, [1, 1], [1, 2], {"end": 2}],
        [HEAD, TABLE, ROWS, [1, 1], ROWS, [2, 1], {"end": 2}],
        [HEAD, TABLE, ROWS, made("table", "later", "CREATE TABLE later (a)")],
    ],
    ids=lambda lines: json.dumps(lines[-1])[:60],
)
def test_what_is_no_dump_is_refused_with_its_line_and_stores_nothing(tables: Tables, lines: list[Any]) -> None:
    with pytest.raises(Invalid, match=r"line \d+ of the tables"):
        load(tables, [json.dumps(line).encode() + b"\n" for line in lines])
    assert names(tables) == []


def test_a_line_that_is_not_json_is_told_with_its_number(tables: Tables) -> None:
    with pytest.raises(Invalid, match="line 2 of the tables cannot be read"):
        load(tables, [json.dumps(HEAD).encode(), b"{"])
