"""Statements of users, read closely enough to find their parameters.

PostgreSQL's own parameters are `$1`, `$2`, …; `?` is rewritten to them in order. Neither is looked for in texts, quoted names,
comments and dollar quotes. `??` stands for the operator `?` (of jsonb), and `@?` is the operator that it is. Nothing here needs a
server: what is wrong is said when a workflow is saved. The rules of the lexer are those of
https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mechaway_core.names import shorten

MOST_CHARACTERS = 1_000_000
MOST_PARAMETERS = 65_535  # of the protocol

# Quantifiers are possessive: a long statement that is nearly a text must not be read over and over.
_TOKEN = re.compile(
    r"""
      (?P<text>     [eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' | "(?:[^"]|"")*+" )
    | (?P<open>     [eE]?' | " )
    | (?P<comment>  --[^\r\n]*+ | /\* )
    | (?P<quote>    \$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*+)?+\$ )
    | (?P<number>   \$[0-9]++ )
    | (?P<word>     [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*+ )
    | (?P<figure>   [0-9][\w.]*+ )
    | (?P<operator> \?\? | @\? )
    | (?P<mark>     \? )
    | (?P<end>      ; )
    | (?P<space>    [ \t\r\n\f\v]++ )
    | (?P<other>    . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_COMMENT_PART = re.compile(r"/\*|\*/")
_TRANSACTION = ("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release")
_TICK = "'"
_QUIET = ("comment", "space", "end")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the server takes it: `sql` with `$1` … `$count`. `problem` is why it cannot be run, as one sentence."""

    sql: str
    count: int = 0
    problem: str | None = None


class _Unreadable(Exception):
    """The statement ends inside of something; the message says what."""


@dataclass(slots=True)
class _Reading:
    """What was found so far."""

    parts: list[str]
    words: list[str]  # the first few, in lower case
    numbers: set[int]
    empty: bool = True
    marks: int = 0
    ended: bool = False  # a semicolon was met
    several: bool = False  # and something behind it


@lru_cache(maxsize=1024)
def parse(sql: str) -> Statement:
    """Read one statement. Never raises; what is wrong is in `problem`."""
    if "\0" in sql:
        return Statement(sql, problem="SQL cannot hold a NUL character")
    if len(sql) > MOST_CHARACTERS:
        return Statement(sql, problem=f"a statement has {MOST_CHARACTERS} characters at most")
    if any("\ud800" <= character <= "\udfff" for character in sql):
        return Statement(sql, problem="SQL cannot hold half of a surrogate pair")
    found = _Reading([], [], set())
    try:
        _read(sql, found)
    except _Unreadable as error:
        return Statement(sql, problem=str(error))
    count = found.marks or max(found.numbers, default=0)
    return Statement("".join(found.parts), count, _problem(found))


def _read(sql: str, found: _Reading) -> None:
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        assert match is not None  # the last alternative takes anything
        kind, part = str(match.lastgroup), match[0]
        at = match.end()
        if part == "/*":
            at = _comment_end(sql, at)
        elif kind == "quote":
            at = _quote_end(sql, at, part)
        elif kind == "open":
            raise _Unreadable(f"a {'text' if part.endswith(_TICK) else 'quoted name'} begins with {part[-1]} and does not end")
        found.parts.append(_written(kind, sql[match.start() : at], found))
        if kind == "end":
            found.ended = True
        elif kind not in _QUIET:
            found.empty = False
            found.several = found.ended
        if kind == "word" and len(found.words) < 200:
            found.words.append(part.lower())


def _written(kind: str, part: str, found: _Reading) -> str:
    """What becomes of a part; parameters are counted."""
    if kind == "mark":
        found.marks += 1
        return f"${found.marks}"
    if kind == "number":
        found.numbers.add(int(part[1:8]))  # so many digits are too many anyway
    return "?" if part == "??" else part


def _comment_end(sql: str, at: int) -> int:
    """Where a comment ends; comments nest."""
    depth = 1
    while depth:
        match = _COMMENT_PART.search(sql, at)
        if match is None:
            raise _Unreadable("a comment begins with /* and does not end")
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return at


def _quote_end(sql: str, at: int, tag: str) -> int:
    end = sql.find(tag, at)
    if end < 0:
        raise _Unreadable(f"a text begins with {shorten(tag, 30)} and does not end")
    return end + len(tag)


def _problem(found: _Reading) -> str | None:
    if found.empty:
        return "the statement is empty"
    first = found.words[0] if found.words else ""
    # The body of a function in standard SQL holds statements of its own; there the server judges.
    if found.several and not ("begin" in found.words and "atomic" in found.words):
        return "there is more than one statement; give each a node of its own"
    if first in _TRANSACTION or found.words[:2] == ["prepare", "transaction"]:
        return f"{first.upper()} is not for a single statement: each is a transaction of its own"
    if first == "copy" and ("stdin" in found.words or "stdout" in found.words):
        return "COPY from or to the client is not possible here; use INSERT or SELECT"
    return _parameter_problem(found)


def _parameter_problem(found: _Reading) -> str | None:
    if found.marks and found.numbers:
        return "the statement has both $1 and ? as parameters; use one kind, and write ?? for the operator ?"
    most = found.marks or max(found.numbers, default=0)
    if most > MOST_PARAMETERS:
        return f"a statement has {MOST_PARAMETERS} parameters at most"
    if 0 in found.numbers:
        return "parameters begin with $1"
    missing = next((number for number in range(1, most) if number not in found.numbers), None) if found.numbers else None
    return f"the statement has ${most} but no ${missing}" if missing else None
