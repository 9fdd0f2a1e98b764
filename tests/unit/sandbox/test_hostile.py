"""Scripts that mean harm do no harm: each ends as it must, and the next run knows nothing of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.errors import OutOfTime, ScriptError
from mechaway_core.sandbox import Limits, LuaExpression, Sandbox

SCRIPTS: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "hostile.toml").read_text())["script"]
SHORT = 0.25  # seconds for what never ends by itself

ORDINARY = """
local s = data[1]
log("score", s.score)
return {
  passed = s.score >= 70, upper = ("x"):upper(), text = string.format("%.2f", s.score / 3),
  clean = leaked == nil and left == nil and over == nil,
  held = held == nil and keep == nil, joined = table.concat({"a", "b"}, "-"), seeded = math.random(0), null_key = s.none == nil,
}
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(workers=1)
    yield box
    box.close()


@pytest.mark.parametrize("script", SCRIPTS, ids=[script["name"] for script in SCRIPTS])
def test_a_hostile_script_ends_as_it_must_and_harms_no_later_run(sandbox: Sandbox, script: dict[str, Any]) -> None:
    # What must end by time gets little of it; what must not, gets so much that a slow machine is no reason to fail.
    limits = Limits(memory_mb=script.get("memory_mb", 16), timeout=SHORT if script.get("ends") == "time" else 5.0)
    if str(script.get("ends", "")).startswith("stopped"):
        limits = Limits(timeout=1.0)
    ending = how_it_ends(sandbox, script, limits)

    if "error" in script:
        assert isinstance(ending, ScriptError)
        assert script["error"] in str(ending)
        assert len(str(ending)) < 3000
    elif "value" in script:
        assert ending == nulls(script["value"])
    else:
        assert ending in ACCEPTED[script["ends"]] or (script["ends"] == "stopped-or-error" and isinstance(ending, ScriptError))

    after = sandbox.run(ORDINARY, [{"score": 85, "none": None}], {}, Limits())
    assert {**after.value, "seeded": 0} == {
        "clean": True,
        "held": True,
        "joined": "a-b",
        "null_key": True,
        "passed": True,
        "seeded": 0,
        "text": "28.33",
        "upper": "X",
    }
    assert after.log == ["score 85"]


ACCEPTED: dict[str, tuple[Any, ...]] = {
    "time": ("time",),
    "memory": ("memory",),
    "stopped": ("time", "memory"),
    "stopped-or-error": ("time", "memory"),
    "memory-or-1": ("memory", 1),
}


def how_it_ends(sandbox: Sandbox, script: dict[str, Any], limits: Limits) -> Any:
    """ "time", "memory", the error, or the value."""
    try:
        return sandbox.run(script["lua"], script.get("input", []), {}, limits).value
    except OutOfTime:
        return "time"
    except ScriptError as error:
        if str(error) == f"the script needs more than {limits.memory_mb} MB (memory_mb)" and "error" not in script:
            return "memory"
        return error


def nulls(value: Any) -> Any:
    """TOML has no null; the corpus writes "<null>" and "nothing"."""
    if isinstance(value, list):
        return [nulls(one) for one in value]
    return None if value in ("<null>", "nothing") else {k: nulls(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    "source",
    [
        "while true do end",
        "(function() while true do end end)()",
        "string.rep('', 1 << 53)",
        "string.rep('x', 1 << 30)",
        "('x'):rep(1000, function() end)",
        "setmetatable({}, {__gc = print})",
        "1, 2",
        ") evil(",
        "\x1bLua",
        "x = 1",
        "p1 end",
        "error(error)",
    ],
)
def test_a_hostile_expression_fails_and_harms_no_later_one(sandbox: Sandbox, source: str) -> None:
    try:
        (row,) = sandbox.evaluate([LuaExpression(source, 1, "pin")], [[[1]]], Limits(timeout=SHORT))
    except (OutOfTime, ScriptError) as error:
        row = ScriptError(str(error))
    assert isinstance(row, ScriptError) or row == [1]  # "1, 2" gives its first value
    assert sandbox.evaluate([LuaExpression("p1 + 1", 1, "pin")], [[[1]], [[2]]], Limits()) == [[2], [3]]


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(SCRIPTS) >= 100
    assert len({script["name"] for script in SCRIPTS}) == len(SCRIPTS)
    assert all(len({"error", "value", "ends"} & script.keys()) == 1 for script in SCRIPTS)
