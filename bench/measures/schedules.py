"""Ten thousand schedules on one server: what they cost while nothing is due, and how late runs begin when many are due at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import client
from bench.processes import MIB, cpu_seconds_of, memory_of
from bench.report import Row, at_most
from bench.servers import Server, mechaway
from bench.setup import PROJECT, Bench
from mechaway_core.cron.expression import read
from mechaway_core.folders import FolderProjects, FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.schedules import LocalSchedules
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.storage import Workflows
from mechaway_core.timetable import schedules_of

FEW, MANY = 10, 10_000
TOGETHER = 100  # of them due in the same second
IDLE = 20.0  # seconds of looking at a server that has nothing to do
AHEAD = 8.0  # seconds from the last save to the due time
SECONDS_TO_LOAD = 120.0


def measure(bench: Bench) -> Iterator[Row]:
    """What schedules cost, and what they promise."""
    yield _compile()
    few, many = bench.folder / "few", bench.folder / "many"
    _store(few, FEW)
    _store(many, MANY)
    with mechaway(few, sync="normal") as server:
        _await_load(server, FEW)
        before = memory_of(server.pid).pss
    with mechaway(many, sync="full") as server:
        _await_load(server, MANY)
        more = (memory_of(server.pid).pss - before) / MIB
        yield at_most(f"memory, {MANY:,} schedules more than {FEW}, PSS", more, 60, " MiB")
        used, began = cpu_seconds_of(server.pid), time.perf_counter()
        time.sleep(IDLE)
        share = (cpu_seconds_of(server.pid) - used) / (time.perf_counter() - began)
        yield at_most(f"idle CPU with {MANY:,} schedules, of one processor", share * 100, 1, " %")
        saves = _save_together(server)
        yield at_most(f"save of one of {MANY:,}, sync full, median", median(saves) * 1000, 5, " ms", detail=f"most {max(saves) * 1000:.3g}")
        lags = _lags(server)
        detail = f"median {median(lags):.3g}, most {max(lags):.3g}"
        yield at_most(f"start after the due time, {TOGETHER} due in one second, p99", quantiles(lags, n=100)[98], 100, " ms", detail=detail)


def _compile() -> Row:
    texts = [f"{n % 60} {n // 60 % 24} */{2 + n % 5} {1 + n % 12} * " + f"20{26 + n % 70}" for n in range(500)]
    texts += [f"0 {n % 60} 9-17/2 ? * MON-FRI,SAT#2 *" for n in range(500)]
    times = []
    for text in [f"0 {one}" if len(one.split()) == 6 else one for one in texts]:
        began = time.perf_counter()
        read(text).next_local(1_795_608_000)
        times.append((time.perf_counter() - began) * 1000)
    return at_most(
        "reading an expression and its first time, median", median(times), 1, " ms", detail=f"p99 {quantiles(times, n=100)[98]:.3g}"
    )


def _document(number: int, schedule: str) -> dict[str, Any]:
    columns = ["workflow_id", "scheduled_for", "timestamp"]
    return {
        "id": f"clock-{number:05}",
        "nodes": [
            {"id": "tick", "node_type": "CronTrigger", "params": {"schedule": schedule}},
            {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": columns}},
        ],
        "edges": [{"from": "tick", "to": "save"}],
    }


def _store(folder: Path, count: int) -> None:
    """Workflows whose schedules are due on some day of February."""
    files = ProjectFiles(Settings(data_dir=folder / "data", sync="normal"))
    store = FolderStore(files)
    workflows = Workflows(store, LocalClock())
    schedules = LocalSchedules(store, FolderProjects(files), LocalClock())
    for number in range(count):
        document = _document(number, f"{number % 60} {number // 60 % 24} {1 + number % 28} 2 *")
        for schedule in schedules_of(document):
            schedules.put(PROJECT, schedule)
        workflows.create(PROJECT, document)
    files.close()


def _await_load(server: Server, count: int) -> None:
    """Wait until the server keeps the time of all: a schedule that is due soon runs only then."""
    end = time.monotonic() + SECONDS_TO_LOAD
    _put(server, _document(count, "* * * * * *"))
    while client.call(server.port, "GET", "/api/tables/seen/rows").status != 200:
        if time.monotonic() > end:
            raise RuntimeError("the server does not keep time")
        time.sleep(0.1)
    client.call_ok(server.port, "DELETE", f"/api/workflows/{_document(count, '')['id']}")


def _put(server: Server, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    path = f"/api/workflows/{document['id']}"
    if client.call(server.port, "PUT", path, body).status == 404:
        client.call_ok(server.port, "POST", "/api/workflows", body)


def _save_together(server: Server) -> list[float]:
    """Save so many that are due in the same second, soon; seconds that each save took."""
    due = datetime.fromtimestamp(int(time.time() + AHEAD) + 1, UTC)
    schedule = f"{due.second} {due.minute} {due.hour} {due.day} {due.month} *"
    times = []
    for number in range(TOGETHER):
        body = json.dumps(_document(number, schedule)).encode()
        began = time.perf_counter()
        client.call_ok(server.port, "PUT", f"/api/workflows/clock-{number:05}", body)
        times.append(time.perf_counter() - began)
    if time.time() > due.timestamp():
        raise RuntimeError("the saves took longer than there was time for")
    return times


def _lags(server: Server) -> list[float]:
    """Milliseconds between due time and start of the runs that were due together."""
    end = time.monotonic() + 60
    rows: list[dict[str, str]] = []
    while len(rows) < TOGETHER:
        if time.monotonic() > end:
            raise RuntimeError(f"only {len(rows)} runs of {TOGETHER} began")
        time.sleep(0.2)
        page = json.loads(client.call_ok(server.port, "GET", "/api/tables/seen/rows?limit=1000"))
        rows = [row for row in page["rows"] if row["workflow_id"] < f"clock-{TOGETHER:05}"]
    return [(_moment(row["timestamp"]) - _moment(row["scheduled_for"])) * 1000 for row in rows]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
