"""A `Store` in a SQLite file: what `project.db` holds.

A document's version is its row number. Each `put` makes a new row, and AUTOINCREMENT never gives a number twice, not even after
a delete. Numbers start at a random place, so that those of a project that was deleted and made again do not meet the old ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from mechaway_core.errors import Conflict, Stale
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Expect, Stored, Unchanged
from mechaway_core.sqlite.database import Database
from mechaway_core.sqlite.session import SqliteSession

SETUP = (
    "CREATE TABLE documents (version INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, data BLOB NOT NULL)",
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('documents', abs(random() % 4611686018427387904))",
)


def get(database: Database, key: str, known: str | None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
    """See `Store.get`."""

    def job(session: SqliteSession) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        if known is not None:
            found = session.execute("SELECT version FROM documents WHERE key = ?", (key,))
            if not found:
                return None
            if str(found[0][0]) == known:
                return UNCHANGED
        found = session.execute("SELECT data, version FROM documents WHERE key = ?", (key,))
        return Stored(found[0][0], str(found[0][1])) if found else None

    return database.read(job, snapshot=False, if_missing=_nothing)


def put(database: Database, key: str, data: bytes, expect: str | Expect) -> str:
    """See `Store.put`."""

    def job(session: SqliteSession) -> str:
        if expect is not ANY:
            current = _version(session, key)
            if expect is ABSENT:
                if current is not None:
                    raise Conflict(f"there is {key} already")
            elif current != expect:
                raise Stale(f"{key} was changed by somebody else" if current is not None else f"{key} was deleted by somebody else")
        session.execute("REPLACE INTO documents (key, data) VALUES (?, ?)", (key, data))
        return str(session.last_id)

    return database.write(job)


def delete(database: Database, key: str, expect: str | Expect) -> bool:
    """See `Store.delete`."""

    def job(session: SqliteSession) -> bool:
        current = _version(session, key)
        if current is None:
            return False
        if expect is not ANY and current != expect:
            raise Stale(f"{key} was changed by somebody else")
        session.execute("DELETE FROM documents WHERE key = ?", (key,))
        return True

    return database.write(job)


def keys(database: Database, prefix: str, after: str, limit: int) -> list[str]:
    """See `Store.keys`."""
    end = _after_all(prefix)
    sql = "SELECT key FROM documents WHERE key >= ? AND key > ?"
    sql += " AND key < ? ORDER BY key LIMIT ?" if end is not None else " ORDER BY key LIMIT ?"
    params: list[Any] = [prefix, after, *([] if end is None else [end]), limit]
    nothing: Callable[[], list[str]] = list
    return database.read(lambda session: [key for (key,) in session.execute(sql, params)], snapshot=False, if_missing=nothing)


def _nothing() -> None:
    return None


def _version(session: SqliteSession, key: str) -> str | None:
    found = session.execute("SELECT version FROM documents WHERE key = ?", (key,))
    return str(found[0][0]) if found else None


def _after_all(prefix: str) -> str | None:
    """The least text that comes after all texts with this prefix; None when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code == 0xD800:  # surrogates are not text
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None
