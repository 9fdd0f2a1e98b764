"""Statements for PostgreSQL: where their parameters are, and what is wrong with them before any server sees them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.postgres import parse


@pytest.mark.parametrize(
    ("sql", "rewritten", "count"),
    [
        ("SELECT 1", "SELECT 1", 0),
        ("SELECT $1, $2, $1", "SELECT $1, $2, $1", 2),
        ("SELECT ?, ?", "SELECT $1, $2", 2),
        ("SELECT a=?,b<>?,-?", "SELECT a=$1,b<>$2,-$3", 3),
        ("SELECT '?', 'it''s ?', ?", "SELECT '?', 'it''s ?', $1", 1),
        (r"SELECT E'\'?', e'\\', ?", r"SELECT E'\'?', e'\\', $1", 1),
        (r"SELECT '\', ?", r"SELECT '\', $1", 1),
        ('SELECT "a?""?" FROM t WHERE b = ?', 'SELECT "a?""?" FROM t WHERE b = $1', 1),
        ("SELECT 1 -- ? '\n, ?", "SELECT 1 -- ? '\n, $1", 1),
        ("SELECT 1 /* ? /* ? */ ' ? */, ?", "SELECT 1 /* ? /* ? */ ' ? */, $1", 1),
        ("SELECT $$?'$$, $x$ ? $$ ? $x$, ?", "SELECT $$?'$$, $x$ ? $$ ? $x$, $1", 1),
        ("SELECT $é$?$é$, ?", "SELECT $é$?$é$, $1", 1),
        ("SELECT a$1, b FROM t$2 WHERE c = $1", "SELECT a$1, b FROM t$2 WHERE c = $1", 1),
        ("SELECT doc ?? 'a', doc ??| ?, doc @? '$.a'", "SELECT doc ? 'a', doc ?| $1, doc @? '$.a'", 1),
        ("SELECT doc ?? $1", "SELECT doc ? $1", 1),
        ("SELECT 1;", "SELECT 1;", 0),
        ("SELECT 1; -- done\n ;", "SELECT 1; -- done\n ;", 0),
        ("SELECT ARRAY[$1]::int[]", "SELECT ARRAY[$1]::int[]", 1),
        ("PREPARE x AS SELECT 1", "PREPARE x AS SELECT 1", 0),
        ("DO $$BEGIN PERFORM 1; END$$", "DO $$BEGIN PERFORM 1; END$$", 0),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
            0,
        ),
        ("(SELECT 1)", "(SELECT 1)", 0),
        ("SELECT\u00a0$1", "SELECT\u00a0$1", 0),  # to PostgreSQL a no-break space is a letter, and so the $ is one too
    ],
)
def test_parameters_are_found_where_they_are(sql: str, rewritten: str, count: int) -> None:
    statement = parse(sql)
    assert (statement.sql, statement.count, statement.problem) == (rewritten, count, None)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("", "the statement is empty"),
        (" ; -- x\n /* y */", "the statement is empty"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT 1; DROP TABLE t -- ;", "more than one statement"),
        ("SELECT ? WHERE a = $1", "both $1 and ?"),
        ("SELECT $0", "parameters begin with $1"),
        ("SELECT $2", "has $2 but no $1"),
        ("SELECT $65536", "65535 parameters at most"),
        ("SELECT $99999999999999999999999", "65535 parameters at most"),
        ("SELECT 'a", "a text begins with ' and does not end"),
        (r"SELECT E'a\'", "a text begins with ' and does not end"),
        ('SELECT "a', 'a quoted name begins with " and does not end'),
        ("SELECT /* /* */", "a comment begins with /* and does not end"),
        ("SELECT $x$ $X$", "a text begins with $x$ and does not end"),
        ("begin", "BEGIN is not for a single statement"),
        ("/* x */ Start Transaction", "START is not for a single statement"),
        ("ROLLBACK", "ROLLBACK is not"),
        ("SAVEPOINT x", "SAVEPOINT is not"),
        ("PREPARE TRANSACTION 'x'", "PREPARE is not"),
        ("COPY t FROM STDIN", "COPY from or to the client"),
        ("COPY (SELECT 1) TO STDOUT", "COPY from or to the client"),
        ("SELECT '\0'", "NUL"),
        ("SELECT '\ud800'", "surrogate"),
        ("SELECT " + "1," * 600_000, "1000000 characters at most"),
    ],
)
def test_what_is_wrong_is_one_sentence(sql: str, sentence: str) -> None:
    problem = parse(sql).problem
    assert problem is not None
    assert sentence in problem


FRAGMENTS = ["'", '"', "$$", "$a$", "$1", "?", "??", "--", "/*", "*/", "\n", ";", "\\", "E", "a", "1", " ", "é", "@"]


@given(st.lists(st.sampled_from(FRAGMENTS)).map("".join) | st.text())
def test_any_text_is_read_without_an_accident(sql: str) -> None:
    statement = parse(sql)
    assert statement.problem is None or statement.problem
    assert statement.count >= 0


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(["'", '"']))
def test_nothing_inside_quotes_is_a_parameter(inside: str, mark: str) -> None:
    sql = f"SELECT {mark}{inside.replace(mark, mark * 2)}{mark}"
    statement = parse(sql)
    assert (statement.sql, statement.count, statement.problem) == (sql, 0, None)


@pytest.mark.parametrize("part", ["'", "$a", "/*", "--", "((", "?", "$1 ", "E'\\", '"'])
def test_long_statements_take_time_that_grows_with_their_length(part: str) -> None:
    sql = "SELECT " + part * (900_000 // len(part))
    began = time.process_time()
    parse(sql)
    assert time.process_time() - began < 20
