# ruff: noqa: S608 - names of columns and marks are put into statements here, values are bound
"""Runs on record in a SQLite file: what `runs.db` holds.

    runs       a line for each run, in the order of ids, which is that of time; narrow, so that a list reads few pages
    records    all the rest, as JSON, in the order in which it was put on record
    stops      runs that somebody asked to stop

The file gives room back as it is pruned. What a statement has to look through is bounded: a page of a list that finds little among
some thousands of runs says so and where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mechaway_core.names import least_run_id
from mechaway_core.ports import RunLine, RunPage, RunQuery, RunRecord
from mechaway_core.sqlite.database import Database
from mechaway_core.sqlite.link import PAGE
from mechaway_core.sqlite.session import SqliteSession

LOOKED_THROUGH = 5000  # runs of one page
READ_THROUGH = 500  # records of one page that are searched for a text
ROWS = 50  # of one statement that writes
BATCH = 200  # runs that one transaction deletes
LOW = 0.9  # of the size allowed: down to there the oldest runs go once there are too many

SETUP = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL, trigger TEXT NOT NULL,
        node TEXT NOT NULL, began REAL NOT NULL, ended REAL, error TEXT, parent TEXT, attempt INTEGER NOT NULL,
        seq INTEGER NOT NULL, owner TEXT
    ) WITHOUT ROWID""",
    "CREATE TABLE records (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE stops (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE INDEX runs_of_workflow ON runs (workflow, id)",
    "CREATE INDEX runs_unlike_most ON runs (status, id) WHERE status <> 'succeeded'",
    "CREATE INDEX runs_of_workflow_unlike_most ON runs (workflow, status, id) WHERE status <> 'succeeded'",
    "CREATE INDEX runs_open ON runs (owner, id) WHERE ended IS NULL",
)
_COLUMNS = "id, workflow, version, status, trigger, node, began, ended, error, parent, attempt"


def write(database: Database, records: Sequence[RunRecord], gone: Sequence[str], owner: str) -> None:
    """See `Records.write`."""

    def job(session: SqliteSession) -> None:
        _forget(session, [*(record.line.id for record in records if record.known and record.line.ended is not None), *gone])
        _replace(session, [record.line.id for record in records if record.known and record.line.ended is None])
        for at in range(0, len(records), ROWS):
            _insert(session, records[at : at + ROWS], owner)

    database.write(job)


def get(database: Database, run_id: str) -> RunRecord | None:
    """See `Records.get`."""
    sql = f"SELECT {_qualified()}, data FROM runs JOIN records USING (seq) WHERE runs.id = ?"
    found = _read(database, lambda session: session.execute(sql, (run_id,)))
    return _record(found[0]) if found else None


def find(database: Database, query: RunQuery) -> RunPage:
    """See `Records.find`."""
    return database.read(lambda session: _find(session, query), if_missing=lambda: RunPage([]))


def since(database: Database, mark: int | None, limit: int) -> tuple[list[RunLine], int]:
    """See `Records.since`."""

    def job(session: SqliteSession) -> tuple[list[RunLine], int]:
        last = session.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        if mark is None:
            return [], last[0][0] if last else 0
        rows = session.execute(
            f"SELECT {_qualified()}, seq FROM records JOIN runs USING (seq) WHERE records.seq > ? ORDER BY records.seq LIMIT ?",
            (mark, limit),
        )
        return [_line(row) for row in rows], rows[-1][-1] if rows else mark

    nothing: Callable[[], tuple[list[RunLine], int]] = lambda: ([], mark or 0)  # noqa: E731
    return database.read(job, if_missing=nothing)


def ask_to_stop(database: Database, run_id: str) -> None:
    """See `Records.ask_to_stop`."""
    database.write(lambda session: session.execute("INSERT OR IGNORE INTO stops VALUES (?)", (run_id,)))


def asked_to_stop(database: Database, run_ids: Sequence[str]) -> set[str]:
    """See `Records.asked_to_stop`."""
    return {found for (found,) in _read(database, lambda session: session.execute("SELECT id FROM stops"))} & set(run_ids)


def abandoned(database: Database, owner: str | None, before: float, limit: int) -> list[RunRecord]:
    """See `Records.abandoned`."""
    whose, params = ("owner = ?", [owner]) if owner is not None else ("runs.id < ?", [least_run_id(before)])
    sql = f"SELECT {_qualified()}, data FROM runs JOIN records USING (seq) WHERE {whose} AND ended IS NULL ORDER BY runs.id LIMIT ?"
    return [_record(row) for row in _read(database, lambda session: session.execute(sql, [*params, limit]))]


# -- lists


def _find(session: SqliteSession, query: RunQuery) -> RunPage:
    bounds, params = _bounds(query)
    exact = _status_by_status(query)
    if exact:
        found = [row for status in query.statuses for row in _of_status(session, query, status, bounds, params)]
        ids = sorted((row[0] for row in found), reverse=True)[: query.limit]
        after = ids[-1] if len(found) > len(ids) or len(ids) == query.limit else None
    else:
        most = READ_THROUGH if query.text else LOOKED_THROUGH if query.statuses or query.trigger is not None else query.limit
        looked = [row[0] for row in session.execute(f"SELECT id FROM runs WHERE {bounds} ORDER BY id DESC LIMIT ?", [*params, most])]
        ids = looked if most == query.limit else _fitting(session, query, looked) if looked else []
        after = ids[-1] if len(ids) == query.limit else looked[-1] if len(looked) == most else None
    return RunPage(_lines(session, ids), after)


def _bounds(query: RunQuery) -> tuple[str, list[Any]]:
    """The part of a condition that an index answers."""
    terms, params = ["id > ?"], [least_run_id(query.since) if query.since is not None else ""]
    ends = [end for end in (query.after, None if query.until is None else least_run_id(query.until)) if end is not None]
    if ends:
        terms.append("id < ?")
        params.append(min(ends))
    if query.workflow_id is not None:
        terms.append("workflow = ?")
        params.append(query.workflow_id)
    return " AND ".join(terms), params


def _status_by_status(query: RunQuery) -> bool:
    """Whether an index has exactly what is asked for."""
    return bool(query.statuses) and "succeeded" not in query.statuses and query.trigger is None and query.text is None


def _of_status(session: SqliteSession, query: RunQuery, status: str, bounds: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    sql = f"SELECT id FROM runs WHERE {bounds} AND status = ? AND status <> 'succeeded' ORDER BY id DESC LIMIT ?"
    return session.execute(sql, [*params, status, query.limit])


def _fitting(session: SqliteSession, query: RunQuery, looked: Sequence[str]) -> list[str]:
    """Those of the runs that fit, of one span of ids, newest first."""
    terms, params = ["runs.id BETWEEN ? AND ?"], [looked[-1], looked[0]]
    if query.workflow_id is not None:
        terms.append("workflow = ?")
        params.append(query.workflow_id)
    if query.statuses:
        terms.append(f"status IN ({', '.join('?' * len(query.statuses))})")
        params += query.statuses
    if query.trigger is not None:
        terms.append("trigger = ?")
        params.append(query.trigger)
    source = "runs"
    if query.text is not None:
        source = "runs JOIN records USING (seq)"
        terms.append("(instr(lower(CAST(data AS TEXT)), ?) OR instr(lower(coalesce(error, '')), ?) OR instr(runs.id, ?))")
        params += [_lower(query.text)] * 3
    sql = f"SELECT runs.id FROM {source} WHERE {' AND '.join(terms)} ORDER BY runs.id DESC LIMIT ?"
    return [found for (found,) in session.execute(sql, [*params, query.limit])]


def _lower(text: str) -> str:
    """Text in lower case as SQLite's `lower` has it, which knows the letters of ASCII alone: others must stay what they are, too."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _lines(session: SqliteSession, ids: Sequence[str]) -> list[RunLine]:
    if not ids:
        return []
    sql = f"SELECT {_COLUMNS} FROM runs WHERE id IN ({', '.join('?' * len(ids))}) ORDER BY id DESC"
    return [_line(row) for row in session.execute(sql, ids)]


# -- pruning


def prune(database: Database, keep: Callable[[str], float] | None, now: float, max_mb: float, over: Callable[[], bool]) -> int:
    """See `Records.prune`; `max_mb` is what all records together may take."""
    count = 0
    workflow = ""
    while keep is not None and (workflow := _next_workflow(database, workflow)) and not over():
        count += _delete_all(database, "workflow = ? AND id < ?", (workflow, least_run_id(now - keep(workflow))), over)
    if _size(database) > max_mb:
        count += _delete_all(database, "id > ?", ("",), lambda: over() or _size(database) <= max_mb * LOW)
    if count:
        database.write(lambda session: session.execute("PRAGMA incremental_vacuum(10000)"))
    return count


def _next_workflow(database: Database, after: str) -> str:
    sql = "SELECT workflow FROM runs WHERE workflow > ? ORDER BY workflow LIMIT 1"
    found = _read(database, lambda session: session.execute(sql, (after,)))
    return str(found[0][0]) if found else ""


def _delete_all(database: Database, which: str, params: Sequence[Any], over: Callable[[], bool]) -> int:
    """Delete ended runs, oldest first, in small transactions: whoever writes meanwhile waits for one of them at most."""
    sql = f"SELECT id FROM runs WHERE {which} AND ended IS NOT NULL ORDER BY id LIMIT {BATCH}"
    count = 0
    while not over():
        ids = [found for (found,) in _read(database, lambda session: session.execute(sql, params))]
        if not ids:
            break
        database.write(lambda session, ids=ids: _forget(session, ids))  # type: ignore[misc]
        count += len(ids)
    return count


def _size(database: Database) -> float:
    """What records take now, in MB; pages that are free are not counted."""
    sql = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
    found = _read(database, lambda session: session.execute(sql))
    return float(found[0][0] * PAGE / 1_000_000) if found else 0.0


def _forget(session: SqliteSession, ids: Sequence[str]) -> None:
    """Delete runs, and that somebody asked them to stop."""
    _replace(session, ids)
    for at in range(0, len(ids), BATCH):
        some = ids[at : at + BATCH]
        session.execute(f"DELETE FROM stops WHERE id IN ({', '.join('?' * len(some))})", some)


def _replace(session: SqliteSession, ids: Sequence[str]) -> None:
    """Delete what is on record of runs that are put on record anew; who asked them to stop goes on asking."""
    for at in range(0, len(ids), BATCH):
        some = ids[at : at + BATCH]
        marks = ", ".join("?" * len(some))
        session.execute(f"DELETE FROM records WHERE seq IN (SELECT seq FROM runs WHERE id IN ({marks}))", some)
        session.execute(f"DELETE FROM runs WHERE id IN ({marks})", some)


# -- rows


def _insert(session: SqliteSession, records: Sequence[RunRecord], owner: str) -> None:
    lines, data = _inserts(len(records))
    last = session.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
    first = (last[0][0] if last else 0) + 1
    values: list[Any] = []
    bodies: list[Any] = []
    for seq, record in enumerate(records, first):
        line = record.line
        values += (
            line.id, line.workflow_id, line.version, line.status, line.trigger, line.node, line.began, line.ended, line.error, line.parent,
            line.attempt, seq, owner if line.ended is None else None,
        )  # fmt: skip
        bodies += (seq, line.id, record.data)
    session.execute(data, bodies)
    session.execute(lines, values)


@lru_cache(maxsize=ROWS)
def _inserts(count: int) -> tuple[str, str]:
    line = f"({', '.join('?' * 13)})"
    return (
        f"INSERT OR REPLACE INTO runs ({_COLUMNS}, seq, owner) VALUES {', '.join([line] * count)}",
        f"INSERT INTO records (seq, id, data) VALUES {', '.join(['(?, ?, ?)'] * count)}",
    )


@lru_cache(maxsize=1)
def _qualified() -> str:
    return ", ".join(f"runs.{name}" for name in _COLUMNS.split(", "))


def _read(database: Database, job: Callable[[SqliteSession], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    nothing: Callable[[], list[tuple[Any, ...]]] = list
    return database.read(job, snapshot=False, if_missing=nothing)


def _line(row: tuple[Any, ...]) -> RunLine:
    return RunLine(*row[:11])


def _record(row: tuple[Any, ...]) -> RunRecord:
    return RunRecord(_line(row), row[11], known=True)
