"""Expressions over many rows, and sources that are only checked."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import OutOfTime, ScriptError
from mechaway_core.sandbox import Chunk, Limits, LuaExpression, Sandbox


def test_expressions_give_a_value_for_each_row(sandbox: Sandbox) -> None:
    expressions = [
        LuaExpression("p1 * 2", 1, "inputs[0]"),
        LuaExpression("string.upper(p1) .. (p2 or '?')", 2, "inputs[1]"),
        LuaExpression("p1", 1, "inputs[2]"),
        LuaExpression("nil", 0, "inputs[3]"),
    ]
    rows: list[list[list[Any]]] = [[[21], ["a", None], [{"a": None, "b": []}], []], [[1.5], ["b", "c"], [None], []]]
    assert sandbox.evaluate(expressions, rows, Limits()) == [[42, "A?", {"a": None, "b": []}, None], [3.0, "Bc", None, None]]


def test_an_expression_that_fails_fails_its_row_only(sandbox: Sandbox) -> None:
    rows: list[list[list[Any]]] = [[[{"x": 1}]], [[{}]], [[{"x": 2}]]]
    first, second, third = sandbox.evaluate([LuaExpression("p1.x + 1", 1, "inputs[0]")], rows, Limits())
    assert (first, third) == ([2], [3])
    assert isinstance(second, ScriptError)
    assert str(second) == "inputs[0]: attempt to perform arithmetic on a nil value (field 'x')"


def test_a_value_that_json_cannot_hold_fails_its_row_only(sandbox: Sandbox) -> None:
    rows: list[list[list[Any]]] = [[[1], [1]], [[0], [0]], [[2], [2]]]
    expressions = [LuaExpression("{1, {1 / p1 * 0}}", 1, "a"), LuaExpression("json.encode{p1}", 1, "b")]
    first, second, third = sandbox.evaluate(expressions, rows, Limits())
    assert (first, third) == ([[1, [0.0]], "[1]"], [[1, [0.0]], "[2]"])
    assert str(second) == "a: the value[2][1] is not a number JSON can hold (NaN)"


def test_an_expression_that_does_not_compile_fails_every_row(sandbox: Sandbox) -> None:
    results = sandbox.evaluate([LuaExpression("p1 +", 1, "pin")], [[[1]], [[2]]], Limits())
    assert [str(result) for result in results] == ["pin: unexpected symbol near <eof>"] * 2


def test_expressions_are_given_back_in_order_however_many_rows_there_are(sandbox: Sandbox) -> None:
    rows = [[[{"n": n, "text": "x" * 100}]] for n in range(30_000)]
    assert sandbox.evaluate([LuaExpression("p1.n + 1", 1, "pin")], rows, Limits(timeout=30)) == [[n + 1] for n in range(30_000)]


def test_without_rows_or_expressions_nothing_is_started() -> None:
    sandbox = Sandbox(workers=1)
    assert sandbox.evaluate([LuaExpression("1", 0, "pin")], [], Limits()) == []
    assert sandbox.evaluate([], [[], []], Limits()) == [[], []]
    assert sandbox.check([]) == []
    assert sandbox.stats()["spawned"] == 0
    sandbox.close()


def test_expressions_that_take_too_long_are_ended(sandbox: Sandbox) -> None:
    with pytest.raises(OutOfTime, match="the expression ran longer than"):
        sandbox.evaluate([LuaExpression("(function() while true do end end)()", 0, "pin")], [[[]]], Limits(timeout=0.2))


def test_an_expression_that_needs_too_much_memory_fails_its_row(sandbox: Sandbox) -> None:
    first, second = sandbox.evaluate([LuaExpression("#('x'):rep(p1)", 1, "pin")], [[[1 << 26]], [[2]]], Limits())
    assert "needs more than 16 MB (memory_mb)" in str(first)
    assert second == [2]


def test_an_expression_can_use_exactly_the_names_that_are_announced(sandbox: Sandbox) -> None:
    script = "local t = {} for name in pairs(_G) do t[#t + 1] = name end return t"
    (row,) = sandbox.evaluate([LuaExpression(f"(function() {script} end)()", 0, "pin")], [[[]]], Limits())
    assert isinstance(row, list)
    assert set(row[0]) == sandbox.names()


@pytest.mark.parametrize(
    ("source", "kind", "verdict"),
    [
        ("return 1", "script", None),
        ("data.x", "script", None),
        ("", "script", None),
        ("while true do end", "script", None),
        ("local x = 1\nx = = 2", "script", (2, "unexpected symbol near '='")),
        ("p1 + 1", "expression", None),
        ("p1 -- why", "expression", None),
        ("f()", "expression", None),
        ("", "expression", (None, "there is no expression")),
        (" \n ", "expression", (None, "there is no expression")),
        ("1, 2", "expression", (None, "this is not one expression")),
        ("1;", "expression", (None, "this is not one expression")),
        ("x = 1", "expression", (1, "<eof> expected near '='")),
        ("return 1", "expression", (1, "unexpected symbol near 'return'")),
        ("\x1bLua", "script", (None, "attempt to load a binary chunk (mode is 't')")),
        ("goto nowhere", "script", (1, "no visible label 'nowhere' for <goto> at line 1")),
    ],
)
def test_check_says_what_does_not_compile_and_where(sandbox: Sandbox, source: str, kind: Any, verdict: Any) -> None:
    assert sandbox.check([Chunk(source, "pin", kind)]) == [verdict]


def test_check_runs_nothing(sandbox: Sandbox) -> None:
    assert sandbox.check([Chunk("while true do end", "a", "script"), Chunk("error('x')", "b", "expression")]) == [None, None]


def test_ten_thousand_sources_are_checked_in_one_go(sandbox: Sandbox) -> None:
    verdicts = sandbox.check([Chunk(f"return {n}" if n % 2 else f"return {n} +", f"n{n}", "script") for n in range(10_000)])
    assert [verdict is None for verdict in verdicts] == [bool(n % 2) for n in range(10_000)]


def test_a_source_of_ten_megabytes_is_checked(sandbox: Sandbox) -> None:
    source = "x = x + 1\n" * 1_000_000
    assert sandbox.check([Chunk(source, "big", "script"), Chunk(source + "?", "bad", "script")]) == [
        None,
        (1_000_001, "unexpected symbol near '?'"),
    ]
