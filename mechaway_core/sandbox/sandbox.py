"""What callers see of the sandbox: run a script, evaluate expressions, check sources."""

from __future__ import annotations

import os
import re
import struct
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import OutOfTime, ScriptError
from mechaway_core.sandbox.pool import Pool
from mechaway_core.sandbox.process import Gone, Late, ended_by_timer
from mechaway_core.sandbox.worker import MB

CHECK_SECONDS = 10.0
CHECK_MB = 64
REMEMBERED = 65_536  # characters of a script; what is made of a longer one is made again each time
BATCH = MB  # bytes of arguments that are evaluated in one call: decoded, they take several times that

# What an expression can use. A test holds this against the box.
LUA_BASICS = {
    "_G",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "print",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
}
LUA_BASICS |= {"select", "setmetatable", "tonumber", "tostring", "type", "xpcall"}
LUA_LIBRARIES = {"coroutine", "math", "os", "string", "table", "utf8"}
OURS = {"array", "date", "hash", "json", "log", "now", "null", "time", "uuid"}
NAMES = frozenset(LUA_BASICS | LUA_LIBRARIES | OURS)

# Those of them that the box only makes for a script in which they stand. A test holds this against the box, too.
WORLD = frozenset({"_G", "getmetatable", "os", "print", "rawset", "setmetatable"} | OURS - {"null"})


class Limits(NamedTuple):
    """What one execution may use: `memory_mb` of Lua memory beside its input, `timeout` seconds of wall time."""

    memory_mb: int = 16
    timeout: float = 5.0


class Outcome(NamedTuple):
    """What a script returned (JSON; None for nothing), and the lines it gave to `log`."""

    value: Any
    log: list[str]


class Chunk(NamedTuple):
    """A source to check. `name` is what it is called; `kind` is "script" (a chunk or an expression) or "expression" (only that)."""

    source: str
    name: str
    kind: Literal["script", "expression"]


class LuaExpression(NamedTuple):
    """A Lua expression over the local names p1 … pN; N is `parameters`. `name` is what errors call it."""

    source: str
    parameters: int
    name: str


class ScriptFailed(ScriptError):
    """A script failed; `log` holds the lines it had given to `log` by then."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log


class Sandbox:
    """Runs Lua in processes that can be killed. Thread-safe; starts nothing until first used; close it.

    `workers` is how many executions run at a time, `spawn_timeout` how many seconds a process gets to start.
    """

    def __init__(self, *, workers: int, spawn_timeout: float = 10.0) -> None:
        if workers < 1:
            raise ValueError("a sandbox needs at least one worker")
        self._pool = Pool(workers=workers, spawn_timeout=spawn_timeout)
        # Also when it was forgotten, and at the end of the program.
        self._close = weakref.finalize(self, self._pool.close)

    def run(
        self,
        script: str,
        items: list[Any],
        context: Mapping[str, Any],
        limits: Limits,
        *,
        name: str = "script",
        wait: float | None = None,
        deadline: float | None = None,
        cancellation: Cancellation = NEVER,
    ) -> Outcome:
        """Run a script over items; `context` holds the objects `query`, `headers`, `path` and `run`.

        `name` is what Lua calls the script in messages that the script itself catches. `wait`: seconds to wait for a free process (default:
        6, or 1 more than `limits.timeout`). `deadline`: a `time.monotonic()` that bounds waiting and running.
        `cancellation`: of the run that it is for; its process is killed when that is cancelled.
        Raises `ScriptError` (`ScriptFailed` with the log), `OutOfTime`, `Unavailable`, `Cancelled`.
        """
        prepared = _prepared if len(script) <= REMEMBERED else _prepared.__wrapped__
        source, called, needs = prepared(script, name)
        given = _json({name: context[name] for name in needs.context if name in context}, "the context") if needs.context else b"{}"
        parts = [b"run", source, called, _json(items, "the items"), given, needs.world, *_chances()]
        record, answer = self._call(parts, limits, "the script", len(parts[3]), wait, deadline, cancellation)
        return Outcome(orjson.loads(b"".join(answer)), _lines(record))

    def evaluate(
        self,
        expressions: Sequence[LuaExpression],
        rows: Sequence[Sequence[Sequence[Any]]],
        limits: Limits,
        *,
        wait: float | None = None,
        deadline: float | None = None,
        cancellation: Cancellation = NEVER,
    ) -> list[list[Any] | ScriptError]:
        """Evaluate every expression for every row; `rows[r][e]` are the arguments of expression `e`, JSON values, None being nil.

        Gives the values of each row, or a `ScriptError` in the place of a row where one of its expressions failed. `limits` hold for all
        rows together (memory: for about a megabyte of arguments at a time). Raises as `run` does for what concerns all of it.
        """
        if not rows or not expressions:
            return [[] for _ in rows]
        wait = _default_wait(limits) if wait is None else wait
        sources = _json([list(expression) for expression in expressions], "the expressions")
        world = next((needs.world for one in expressions if (needs := _needs(one.source)).world), b"")
        return self._evaluate([sources, world], rows, limits, wait, deadline, cancellation)

    def _evaluate(
        self,
        asked: list[bytes],
        rows: Sequence[Sequence[Sequence[Any]]],
        limits: Limits,
        wait: float,
        deadline: float | None,
        cancellation: Cancellation,
    ) -> list[list[Any] | ScriptError]:
        packed = _json(rows, "the values")
        if len(packed) > BATCH and len(rows) > 1:
            half = len(rows) // 2
            if deadline is None:
                deadline = time.monotonic() + wait + limits.timeout
            return [
                *self._evaluate(asked, rows[:half], limits, wait, deadline, cancellation),
                *self._evaluate(asked, rows[half:], limits, wait, deadline, cancellation),
            ]
        parts = [b"evaluate", asked[0], packed, asked[1], *_chances()]
        _, answer = self._call(parts, limits, "the expression", len(packed), wait, deadline, cancellation)
        results: list[Any] = orjson.loads(b"".join(answer))
        return [ScriptError(_row_message(row, limits)) if isinstance(row, str) else row for row in results]

    def check(self, chunks: Sequence[Chunk]) -> list[tuple[int | None, str] | None]:
        """Compile, and only that: for each source None, or the line (None when Lua names none) and Lua's message.

        Raises `OutOfTime` when that takes more than 10 s, `ScriptError` and `Unavailable` as `run` does.
        """
        if not chunks:
            return []
        packed = b"".join(_sized(text) for chunk in chunks for text in (chunk.kind, chunk.source))
        limits = Limits(CHECK_MB + 10 * len(packed) // MB, CHECK_SECONDS)
        _, answer = self._call([b"check", packed], limits, "the check of the source", 0, None, None, NEVER)
        return _verdicts(b"".join(answer))

    def names(self) -> frozenset[str]:
        """The global names that an expression can use."""
        return NAMES

    def prepare(self) -> None:
        """Start a process in the background, so that the first call need not wait for one."""
        self._pool.prepare()

    def close(self) -> None:
        """End all processes. Calls under way and later ones raise `Unavailable`. May be called again."""
        self._close()

    def stats(self) -> dict[str, int]:
        """Processes now (`alive idle busy starting`) and so far (`spawned killed failed`)."""
        return self._pool.stats()

    def _call(
        self,
        parts: list[bytes],
        limits: Limits,
        what: str,
        input_size: int,
        wait: float | None,
        deadline: float | None,
        cancellation: Cancellation,
    ) -> tuple[bytes, list[bytes]]:
        """The log and the pieces of the answer."""
        asked = max(limits.timeout, 0.001)
        if wait is None:
            wait = _default_wait(limits)
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise OutOfTime("no time was left to run it")
        try:
            status, record, *answer = self._pool.call(
                parts, limits.memory_mb * MB, asked, wait=wait, deadline=deadline, cancellation=cancellation
            )
        except Late:
            raise OutOfTime(_late(what, asked, left)) from None
        except Gone as gone:
            if ended_by_timer(gone.status):
                raise OutOfTime(_late(what, asked, left)) from None
            raise ScriptError(f"the Lua process was killed ({gone}) while {what} ran") from None
        if status == b"ok":
            return record, answer
        if status == b"memory":
            raise ScriptError(_needs_memory(what, limits, answer[0] == b"input", input_size))
        raise ScriptFailed(answer[0].decode(errors="replace"), _lines(record))


def _default_wait(limits: Limits) -> float:
    return max(limits.timeout, 5.0) + 1.0


def _late(what: str, timeout: float, left: float | None) -> str:
    if left is not None and left < timeout:
        return f"{what} ran longer than the {left:.3g} s that were left"
    return f"{what} ran longer than {timeout:g} s (timeout)"


def _needs_memory(what: str, limits: Limits, at_input: bool, size: int) -> str:
    if at_input:
        return f"the input, {size / MB:.1f} MB as JSON, does not fit: it needs more than {limits.memory_mb} MB (memory_mb)"
    return f"{what} needs more than {limits.memory_mb} MB (memory_mb)"


def _row_message(message: str, limits: Limits) -> str:
    return _needs_memory("the expression", limits, False, 0) if message == "not enough memory" else message


class _Needs(NamedTuple):
    """What a script can look at. A name that does not stand in it is never read, so what is behind it need not be made over there."""

    context: tuple[str, ...]
    world: bytes  # empty when the script does with the plain language


CONTEXT = ("query", "headers", "path", "run")
_WORLD = re.compile(rf"\b(?:{'|'.join(sorted(WORLD))}|_ENV)\b", re.ASCII)
_ALL = re.compile(r"\b(?:_G|_ENV)\b", re.ASCII)


@lru_cache(maxsize=1024)
def _needs(script: str) -> _Needs:
    everything = _ALL.search(script) is not None
    context = tuple(name for name in CONTEXT if everything or name in script)
    return _Needs(context, b"all" if _WORLD.search(script) else b"")


@lru_cache(maxsize=1024)
def _prepared(script: str, name: str) -> tuple[bytes, bytes, _Needs]:
    """What is the same for every run of a script: its source, what it is called, and what it can look at."""
    plain = re.sub(r"[^\w. -]", "_", name, flags=re.ASCII)[:50] or "script"
    return _utf8(script, "the script"), plain.encode(), _needs(script)


_draws = struct.iter_unpack("48s", b"")


def _chances() -> tuple[bytes, bytes]:
    """The time in milliseconds, and 48 bytes that scripts cannot guess.

    These are drawn from the system a page at a time: a call each would give up the interpreter's lock each time.
    """
    global _draws  # noqa: PLW0603 - one page for the process; the worst a race can do is to draw one more
    drawn = next(_draws, None)
    while drawn is None:  # another thread may use a fresh page up before this one gets its turn
        _draws = struct.iter_unpack("48s", os.urandom(48 * 64))
        drawn = next(_draws, None)
    return str(time.time_ns() // 1_000_000).encode(), drawn[0]


def _json(value: Any, what: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ScriptError(f"{what} cannot be written as JSON: {error}") from error


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ScriptError(f"{what} is not valid text: {error.reason}") from error


def _sized(text: str) -> bytes:
    """The text with its length before it, as `string.unpack("<s4")` reads it."""
    data = text.encode(errors="replace")
    return len(data).to_bytes(4, "little") + data


def _lines(record: bytes) -> list[str]:
    lines, at = [], 0
    while at < len(record):
        size = int.from_bytes(record[at : at + 4], "little")
        lines.append(record[at + 4 : at + 4 + size].decode(errors="replace"))
        at += 4 + size
    return lines


def _verdicts(answer: bytes) -> list[tuple[int | None, str] | None]:
    verdicts: list[tuple[int | None, str] | None] = []
    at = 0
    while at < len(answer):
        if answer[at] == 0:
            verdicts.append(None)
            at += 1
            continue
        line = int.from_bytes(answer[at + 1 : at + 5], "little")
        size = int.from_bytes(answer[at + 5 : at + 9], "little")
        verdicts.append((line or None, answer[at + 9 : at + 9 + size].decode(errors="replace")))
        at += 9 + size
    return verdicts
