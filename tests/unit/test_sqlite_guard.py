"""Does a glance at a statement tell what it is?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.sqlite import check_name, check_sql, check_where
from mechaway_core.sqlite.guard import parse, quote, select


@pytest.mark.parametrize(
    ("sql", "verb"),
    [
        ("select 1", "SELECT"),
        (" \n-- x ; y\n/* ; */ SELECT 1 ; -- end", "SELECT"),
        ("with a as (delete), b(c) as (select 1) insert into t select 1", "INSERT"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT 1", "SELECT"),
        ("EXPLAIN QUERY PLAN WITH a AS (SELECT 1) VALUES (1)", "VALUES"),
        ("explain update t set a = 1", "UPDATE"),
        ('"select" 1', '"SELECT"'),
        ("(SELECT 1)", "("),
        ("/**/pragma x", "PRAGMA"),
        ("", ""),
        ("-- a", ""),
        ("/* a", ""),
        (";;", ""),
    ],
)
def test_the_verb_is_the_word_that_counts(sql: str, verb: str) -> None:
    assert parse(sql).verb.upper() == verb


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1;x", "select 1; ;'", "select ';';;a", "a;/* */b"])
def test_a_second_statement_is_seen(sql: str) -> None:
    assert parse(sql).several


@pytest.mark.parametrize(
    "sql", ["select 1;", "select 1;;; -- x;y\n", "select ';a', \";a\", `;a`, [;a] /* ;a */", "select 'it''s; ok'", ";select 1"]
)
def test_a_semicolon_alone_is_no_second_statement(sql: str) -> None:
    assert not parse(sql).several


@pytest.mark.parametrize("sql", ["select 'a", 'select "a""', "select `", "select [a", "select /* a", "select (1", "select /*/"])
def test_what_is_never_closed_is_seen(sql: str) -> None:
    assert parse(sql).open


@given(st.text("'\"`[]()/*-;\n aS1", max_size=30))
def test_any_text_can_be_looked_at(text: str) -> None:
    parsed = parse(text)
    if not parsed.open and not parsed.several and parsed.verb:
        assert parse(text + "\n;x").several


def test_long_statements_are_looked_at_in_a_moment() -> None:
    for piece in ("'", "''", "/*", "(", "a ", "--\n", "[", "'a", '"b', "`"):
        parse(piece * 200_000)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "empty"),
        ("  -- x", "empty"),
        ("select 1; select 2", "one statement at a time"),
        ("SELEC 1", "SELEC is not allowed"),
        ("select (", "incomplete input"),
        ("select 1 1", "syntax error"),
        ("select 'a", "unrecognized token"),
        ("select * frm t", "syntax error"),
        ("select nothere(1)", "no such function: nothere"),
        ("select upper()", "wrong number of arguments"),
        ("attach 'x' as y", "ATTACH is not allowed"),
        ("select load_extension('x')", "load_extension"),
        ("select a\0", "NUL"),
        ("select " + "1," * 600_000 + "1", "longer"),
    ],
)
def test_a_statement_that_cannot_run_is_named_at_save(sql: str, words: str) -> None:
    problem = check_sql(sql, write=True)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(
    "sql",
    [
        "select * from t where a = ? and b = :b",
        "select a.x, b.y from a join b using (z)",
        "insert into t (a, b) values (?, ?) on conflict (a) do update set b = excluded.b returning *",
        "update t set a = ? where id = ?",
        "delete from t",
        'select * from t where status = "published"',
        "create table t (a)",
        "alter table t add column b",
        "drop table t",
        "drop table if exists t;",
        "create index i on t (a)",
        "select json_extract(a, '$.b') from t",
    ],
)
def test_tables_that_are_not_there_yet_are_no_problem_at_save(sql: str) -> None:
    assert check_sql(sql, write=True) is None


@pytest.mark.parametrize(
    ("where", "order"),
    [
        (None, None),
        ("a = ?", "id DESC"),
        ("a LIKE '%)%' -- b", "a, b COLLATE NOCASE -- c"),
        ("a IN (SELECT 1)", None),
        (":x = y", "random()"),
    ],
)
def test_conditions_and_orders_that_can_run_pass(where: str | None, order: str | None) -> None:
    assert check_where(where, order) is None


@pytest.mark.parametrize(
    ("where", "order", "words"),
    [
        ("", None, "where: it is empty"),
        ("a; b", None, "where: it cannot hold a ';'"),
        ("a = 1;", None, "where: it cannot hold a ';'"),
        ("a) OR (b", None, "where: a ) is never opened"),
        ("(a", None, "where: a ( is never closed"),
        ("'a", None, "where: a ' is never closed"),
        ("a /* b", None, "where: a /* is never closed"),
        ("a = = 1", None, "syntax error"),
        (None, "id DES", "syntax error"),
        (None, "id; DROP TABLE t", "order_by: it cannot hold a ';'"),
    ],
)
def test_conditions_and_orders_that_cannot_run_are_named(where: str | None, order: str | None, words: str) -> None:
    problem = check_where(where, order)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize("name", ["a", "ä", "select", 'a"b', "a b", "x" * 128, "sqlite", "_sqlite_"])
def test_names_that_can_be(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize("name", ["", "x" * 129, "sqlite_", "SQLITE_x", "a\0", "\n", "\x9f", "\udc00"])
def test_names_that_cannot_be(name: str) -> None:
    assert check_name(name) is not None


def test_names_are_quoted() -> None:
    assert quote('a"b') == '"a""b"'
    assert select('a"', "b", "c", 5) == 'SELECT * FROM "a""" WHERE (b\n) ORDER BY c\n LIMIT 5'
