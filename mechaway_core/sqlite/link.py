"""The one place that opens connections, and what belongs to a connection."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import apsw

from mechaway_core.sqlite import guard as guards
from mechaway_core.sqlite.guard import Guard

PAGE = 4096
Identity = tuple[int, int]  # device and inode of a file


class Options(NamedTuple):
    """How a file is opened.

    `journal` is "wal" on a local disk, "delete" (a rollback journal, no shared memory, no mmap) on a network one, and "memory" for a
    copy that is only ever replaced whole: nothing that is not committed reaches the file. `guarded` connections may run users' SQL.
    `shrinks`: a new file is made so that room can be given back with `PRAGMA incremental_vacuum`.
    Sizes in MB, times in seconds. `max_setting` is what sets `max_mb`, for messages. `setup` makes the tables of a new file.
    """

    sync: Literal["full", "normal"] = "full"
    journal: Literal["wal", "delete", "memory"] = "wal"
    busy_timeout: float = 5.0
    readers: int = 8
    guarded: bool = False
    max_mb: int | None = None
    max_setting: str = "MECHAWAY_TABLES_MAX_MB"
    sql_timeout: float = 5.0
    sql_max_rows: int = 10_000
    sql_max_mb: float = 16.0
    setup: tuple[str, ...] = ()
    shrinks: bool = False


class Moved(Exception):
    """The file at this path is not the one that was opened: its project was deleted, or deleted and made again."""


class Unmade(Exception):
    """The file is there, but whoever makes it has not made its tables yet."""


class Link:
    """A connection with its cursor for our own statements, its guard, and what it knows of the tables."""

    __slots__ = ("busy_ms", "connection", "execute", "guard", "identity", "plans", "schema_version", "writable")

    def __init__(self, connection: apsw.Connection, guard: Guard, identity: Identity | None, writable: bool, busy_ms: int) -> None:
        self.connection = connection
        self.guard = guard
        self.identity = identity
        self.writable = writable
        self.busy_ms = busy_ms
        self.execute: Callable[..., Any] = connection.cursor().execute  # for our own statements: cached, never guarded
        self.schema_version = -1
        self.plans: dict[Any, Any] = {}

    def wait_at_most(self, seconds: float) -> None:
        """How long the next statements wait for a lock that another process holds."""
        milliseconds = max(0, int(seconds * 1000))
        if milliseconds != self.busy_ms:
            self.connection.set_busy_timeout(milliseconds)
            self.busy_ms = milliseconds

    def forget_tables(self) -> None:
        """What was learnt of the tables may not be so."""
        self.schema_version = -1
        self.plans.clear()

    def close(self) -> None:
        """Close; a transaction that is open is rolled back."""
        with contextlib.suppress(apsw.Error):
            self.connection.close(True)


def identity_of(path: str) -> Identity | None:
    """Which file is at this path; None when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def open_link(path: Path, options: Options, *, write: bool) -> Link:
    """Open the file; for writing it is made when it is missing.

    Raises `apsw.Error`, `OSError`, `Moved` when the file was replaced meanwhile, and `Unmade` for reading.
    """
    before = identity_of(str(path))
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if write else _read_flags(options)
    link = _configured(apsw.Connection(str(path), flags), options, write)
    try:
        if write:
            _prepare_file(link, options)
        else:
            link.execute("PRAGMA query_only=ON")
            link.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            if options.setup and link.execute("PRAGMA user_version").fetchall() == [(0,)]:
                raise Unmade
        # The file of the write-ahead log is opened by its name. Whoever finds another database there by now must not use it.
        link.identity = identity_of(str(path))
        if link.identity is None or before not in (None, link.identity):
            raise Moved
    except BaseException:
        link.close()
        raise
    return link


def open_nothing(options: Options) -> Link:
    """An empty database in memory: what there is to read where no file is."""
    return _configured(apsw.Connection(":memory:"), options, False)


def _read_flags(options: Options) -> int:
    # A rollback journal that a killed process left must be played back, and that is writing.
    return apsw.SQLITE_OPEN_READWRITE if options.journal == "delete" else apsw.SQLITE_OPEN_READONLY


def _configured(connection: apsw.Connection, options: Options, write: bool) -> Link:
    guard = Guard()
    milliseconds = int(options.busy_timeout * 1000)
    connection.set_busy_timeout(milliseconds)
    if options.guarded:
        guards.confine(connection, guard, int(options.sql_max_mb * 1_000_000))
    return Link(connection, guard, None, write, milliseconds)


def _prepare_file(link: Link, options: Options) -> None:
    if options.shrinks:  # only counts before anything is written
        link.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
    _set_journal(link, options)
    link.execute(f"PRAGMA synchronous={options.sync}")
    if options.sync == "full":  # where fsync only reaches the disk's own memory (macOS); elsewhere it changes nothing
        link.execute("PRAGMA fullfsync=ON")
    if options.journal == "memory":
        link.execute("PRAGMA cache_spill=OFF").fetchall()
    link.execute("PRAGMA mmap_size=0").fetchall()
    link.execute("PRAGMA journal_size_limit=67108864").fetchall()
    if options.max_mb is not None:
        link.execute(f"PRAGMA max_page_count={options.max_mb * 1024 * 1024 // PAGE}").fetchall()
    if options.setup and link.execute("PRAGMA user_version").fetchall() == [(0,)]:
        link.execute("BEGIN IMMEDIATE")
        if link.execute("PRAGMA user_version").fetchall() == [(0,)]:
            for statement in options.setup:
                link.execute(statement)
            link.execute("PRAGMA user_version=1")
        link.execute("COMMIT")


def _set_journal(link: Link, options: Options) -> None:
    """Switch the journal. Several processes that open a new file at once get BUSY here without being made to wait."""
    until = time.monotonic() + options.busy_timeout
    while True:
        try:
            link.execute(f"PRAGMA journal_mode={options.journal}").fetchall()
        except apsw.BusyError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.005)
        else:
            return
