"""What it takes to save a change, and who sees it when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from bench import client
from bench.report import Row, at_most, information
from bench.servers import mechaway
from bench.setup import PROJECT, Bench, percentile, store
from mechaway_core.app import App
from mechaway_core.errors import Conflict, Stale
from mechaway_core.folders import FolderFiles, FolderProjects, FolderRecords, FolderTables
from mechaway_core.local import make_sandbox
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Expect, Stored, Unchanged
from mechaway_core.registry import Registry
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.storage import Workflows

SAVES = 300
LIVE_SAVES = 20
CALLS_AFTER = 4


class MemoryStore:
    """A `Store` in a dict, for one thread: what is left of a save when there is no disk."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Stored] = {}
        self._last = 0

    def get(self, project: str, key: str, known: str | None = None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        """See `Store.get`."""
        stored = self._held.get((project, key))
        return UNCHANGED if stored is not None and stored.version == known else stored

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        """See `Store.put`."""
        current = self._held.get((project, key))
        if expect is ABSENT and current is not None:
            raise Conflict(f"there is {key} already")
        if isinstance(expect, str) and (current is None or current.version != expect):
            raise Stale(f"{key} was changed")
        self._last += 1
        self._held[project, key] = Stored(data, str(self._last))
        return str(self._last)

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        """See `Store.delete`."""
        current = self._held.pop((project, key), None)
        if current is not None and isinstance(expect, str) and current.version != expect:
            raise Stale(f"{key} was changed")
        return current is not None

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.keys`."""
        found = (key for owner, key in self._held if owner == project and key.startswith(prefix) and key > after)
        return sorted(found)[:limit]


def document(version: int) -> dict[str, Any]:
    """Ten nodes of every kind, four of them Lua; the answer tells the version."""
    nodes = [
        ("hook", "Webhook", {"path": "/version", "method": "POST"}, {}),
        ("clean", "FunLogic", {"script": f"return {{student_id = data.student_id, score = data.score, version = {version}}}"}, {}),
        ("double", "FunLogic", {"script": "item.doubled = item.score * 2; return item"}, {}),
        ("grade", "FunLogic", {"script": "item.passed = item.score >= 70; return item"}, {}),
        ("save", "SimpleTableWriter", {"table": "grades", "columns": ["student_id", "score", "passed"]}, {}),
        ("count", "SimpleTableQuery", {"query": "SELECT count(*) AS n FROM grades WHERE student_id = ?"}, {"inputs": ["$json.student_id"]}),
        ("read", "SimpleTableReader", {"table": "grades", "order_by": "id DESC", "limit": 3}, {}),
        ("note", "SimpleTableWriter", {"table": "notes", "columns": ["at", "version"]}, {"inputs": ["$run.started_at", str(version)]}),
        ("answer", "FunLogic", {"script": f"return {{version = {version}}}"}, {}),
        ("respond", "Respond", {"status": 200, "body": {"version": "{{ $json.version }}"}}, {}),
    ]
    return {
        "id": "changing",
        "name": f"Version {version}",
        "nodes": [{"id": name, "node_type": kind, "params": params, **more} for name, kind, params, more in nodes],
        "edges": [{"from": above[0], "to": below[0]} for above, below in pairwise(nodes)],
    }


def measure(bench: Bench) -> Iterator[Row]:
    """Check, compile and swap over a store in memory; then saves on a real server with two processes, and what callers get."""
    yield from _without_disk(bench)
    yield from _live(bench)


def _without_disk(bench: Bench) -> Iterator[Row]:
    settings = Settings(data_dir=bench.folder / "memory")
    memory, clock, files = MemoryStore(), LocalClock(), ProjectFiles(settings)
    sandbox = make_sandbox(settings)
    app = App(
        settings,
        store=memory,
        tables=FolderTables(files),
        projects=FolderProjects(files),
        files=FolderFiles(files),
        records=FolderRecords(files, "the bench", settings.runs_max_mb),
        keyring=LocalKeyRing(settings),
        clock=clock,
        sandbox=sandbox,
    )
    registry = Registry(Workflows(memory, clock), settings.max_plans)
    times: list[float] = []
    compiling: list[float] = []
    with closing(app):
        app.create(PROJECT, document(0))
        for version in range(1, SAVES + 20):
            changed = document(version)
            began = time.perf_counter()
            app.update(PROJECT, "changing", changed)
            saved = time.perf_counter()
            plan = registry.get(PROJECT, "changing")
            ended = time.perf_counter()
            if plan.name != f"Version {version}":
                raise RuntimeError("the registry gave an old version")
            if version >= 20:
                times.append((ended - began) * 1000)
                compiling.append((ended - saved) * 1000)
    detail = f"p99 {percentile(times, 0.99):.2f}; {SAVES} saves, store in memory"
    yield at_most("saving 10 nodes: check + compile + swap, median", median(times), 1, " ms", detail)
    yield information("of that, compile + swap (by the next request)", median(compiling), " ms")


def _live(bench: Bench) -> Iterator[Row]:
    store(bench.folder, document(0))
    times: list[float] = []
    stale = 0
    with mechaway(bench.folder, workers=2) as server:
        client.call_ok(server.port, "GET", "/api/workflows")  # imports the API
        for version in range(1, LIVE_SAVES + 1):
            body = json.dumps(document(version)).encode()
            began = time.perf_counter()
            client.call_ok(server.port, "PUT", "/api/workflows/changing", body)
            times.append((time.perf_counter() - began) * 1000)
            for _ in range(CALLS_AFTER):
                answer = json.loads(client.call_ok(server.port, "POST", "/webhook/changing/version", b'{"student_id": "s1", "score": 85}'))
                stale += answer != {"version": version}
    detail = f"of {LIVE_SAVES * CALLS_AFTER} calls right after {LIVE_SAVES} saves, 2 server processes"
    yield at_most("answers with an old version after a save", stale, 0, detail=detail)
    yield information("PUT of 10 nodes over HTTP, sync full, median", median(times), " ms")
