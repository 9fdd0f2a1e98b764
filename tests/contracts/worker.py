"""What another process does to the same data: run by `adapters.elsewhere`."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from mechaway_core.errors import MechawayError, Stale
from mechaway_core.ports import Column, RunLine, RunRecord, Session, Stored
from mechaway_core.record import new_run_id
from tests.contracts.adapters import FACTORIES, Adapters

COLUMNS = (Column("who"), Column("n"))


def inserting(row: dict[str, Any]) -> Callable[[Session], object]:
    """A job that inserts a row."""
    return lambda session: session.insert_rows("t", [row], [Column(name) for name in row])


def count_up(adapters: Adapters, times: str) -> None:
    """Add one to a document, so often, by compare-and-set."""
    for _ in range(int(times)):
        while True:
            found = adapters.store.get("default", "counter")
            assert isinstance(found, Stored)
            try:
                adapters.store.put("default", "counter", b"%d" % (int(found.data) + 1), found.version)
            except Stale:
                continue
            break


def insert(adapters: Adapters, who: str, times: str) -> None:
    """Insert rows, one by one."""
    for number in range(int(times)):
        adapters.tables.write("default", inserting({"who": who, "n": number}))


def insert_for_ever(adapters: Adapters, who: str, first: str) -> None:
    """Insert rows and print the number of each once it is saved, until killed."""
    number = int(first)
    while True:
        adapters.tables.write("default", inserting({"who": who, "n": number}))
        print(number, flush=True)
        number += 1


def hold(adapters: Adapters, project: str, file: str) -> None:
    """Hold the write lock of a file until stdin closes."""
    connection = apsw.Connection(str(adapters.place / project / file))
    connection.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    sys.stdin.read()
    connection.close(True)


def create(adapters: Adapters, slug: str) -> None:
    """Make a project and say whether that worked."""
    try:
        adapters.projects.create(slug)
    except MechawayError as error:
        print(type(error).__name__)
    else:
        print("created")


def delete(adapters: Adapters, slug: str) -> None:
    """Delete a project."""
    print(adapters.projects.delete(slug))


def replace(adapters: Adapters, slug: str) -> None:
    """Delete a project, make it again and put something in."""
    adapters.projects.delete(slug)
    adapters.projects.create(slug)
    adapters.store.put(slug, "key", b"new")
    adapters.tables.write(slug, lambda session: session.insert_rows("t", [{"who": "new", "n": 1}], COLUMNS))


def put_as_nobody(adapters: Adapters, slug: str) -> None:
    """Try to write without the right to; print the error."""
    if os.getuid() == 0:
        os.setuid(65534)
    _attempt(adapters, slug)


def put_beyond_a_limit(adapters: Adapters, slug: str, limit: str) -> None:
    """Try to write more than a file may hold; print the error, and whether small things still work afterwards."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    _attempt(adapters, slug)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    adapters.store.put(slug, "after", b"1")
    adapters.tables.write(slug, insert_one)


def _attempt(adapters: Adapters, slug: str) -> None:
    try:
        adapters.store.put(slug, "large", bytes(5_000_000))
    except MechawayError as error:
        print(type(error).__name__, error)
    try:
        adapters.tables.write(slug, insert_large)
    except MechawayError as error:
        print(type(error).__name__, error)


def insert_one(session: Session) -> None:
    """A row."""
    session.insert_rows("t", [{"who": "after", "n": 0}], COLUMNS)


def insert_large(session: Session) -> None:
    """A row of 5 MB."""
    session.insert_rows("t", [{"who": "x" * 5_000_000, "n": 0}], COLUMNS)


def some_run(who: int, number: int) -> RunRecord:
    """The record of a run that tells who wrote it."""
    now = time.time()
    line = RunLine(new_run_id(now), f"of-{who}", number, "succeeded", "manual", "hook", now, now)
    return RunRecord(line, b'{"nodes": []}')


def write_runs(adapters: Adapters, who: str, times: str) -> None:
    """Put runs on record, one by one."""
    for number in range(int(times)):
        adapters.records.write("default", [some_run(int(who), number)])


ACTIONS = (count_up, insert, insert_for_ever, hold, create, delete, replace, put_as_nobody, put_beyond_a_limit, write_runs)

if __name__ == "__main__":
    _, name, place, action, *arguments = sys.argv
    opened = FACTORIES[name](Path(place), busy_timeout=60.0)
    {each.__name__: each for each in ACTIONS}[action](opened, *arguments)
