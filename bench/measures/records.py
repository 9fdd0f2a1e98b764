"""What it costs to put runs on record, to list a million of them, and to accept a run instead of waiting for it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from bench import client, load
from bench.report import Row, at_least, at_most, information
from bench.servers import Server, mechaway
from bench.setup import BODY, PROJECT, Bench, check_answer, interleaved, poc, poc_path, store
from mechaway_core.folders import FolderRecords
from mechaway_core.ports import RunLine, RunRecord
from mechaway_core.record import new_run_id
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

CONNECTIONS = 32
FEW, MANY = 1000, 1_000_000
WORKFLOWS = 10
FAILED = 0.05  # of all runs
TOGETHER = 2000  # runs that are stored in one transaction
PAGES = 200  # calls of each kind of page
LIMIT = 100  # runs of a page
PATIENCE = 300.0  # seconds until accepted runs must have ended

ACCEPTING = "accepting"


def measure(bench: Bench) -> Iterator[Row]:
    """Records, lists of them, and accepted runs."""
    for sync in ("full", "normal"):
        yield from _cost(bench, sync)
    for sync in ("full", "normal"):
        yield from _accepted(bench, sync)
    yield from _lists(bench)


# -- what a record costs


def _cost(bench: Bench, sync: str) -> Iterator[Row]:
    with ExitStack() as stack:
        servers = []
        for record in ("all", "none"):
            folder = bench.folder / sync / record
            store(folder, poc())
            servers.append(stack.enter_context(mechaway(folder, sync=sync, record=record)))
            _warm(servers[-1])
        jobs = [partial(load.post, server, poc_path(), BODY, CONNECTIONS, bench.seconds) for server in servers]
        kept, unkept = interleaved(bench.rounds, jobs)
    ratios = [one.rate / other.rate for one, other in zip(kept, unkept, strict=True)]
    what = f"POC with records ÷ without, req/s, sync {sync}, {CONNECTIONS} connections"
    yield at_least(what, median(ratios), 0.8, detail=f"rounds from {min(ratios):.2f} to {max(ratios):.2f}")
    for name, seen in (("record all", load.middle(kept)), ("record none", load.middle(unkept))):
        yield _rate(name, seen)


def _warm(server: Server) -> None:
    for _ in range(50):
        check_answer(client.call_ok(server.port, "POST", poc_path(), BODY))


def _rate(name: str, seen: load.Load) -> Row:
    detail = f"p50 {seen.p50 * 1000:.3g}, p99 {seen.p99 * 1000:.3g} ms; CPU {seen.cpu * 1e6:.0f} µs a request"
    return information(f"· {name}", seen.rate, " req/s", detail)


# -- accepted runs


def _accepted(bench: Bench, sync: str) -> Iterator[Row]:
    folder = bench.folder / sync / "accepted"
    store(folder, poc())
    document = poc() | {"id": ACCEPTING}
    document["nodes"] = [
        {**node, "params": {**node["params"], "mode": "accept"}} if node["node_type"] == "Webhook" else node for node in document["nodes"]
    ]
    store(folder, document)
    with mechaway(folder, sync=sync) as server:
        _warm(server)
        rounds = interleaved(bench.rounds, [partial(_waited, server, bench.seconds), partial(_until_over, server, bench.seconds)])
    waiting, accepting = rounds
    pairs = list(zip(waiting, accepting, strict=True))
    ratios = [over / waited for (_, waited), (_, over) in pairs]
    what = f"accepted webhook until its run is over ÷ waiting one, req/s, sync {sync}, {CONNECTIONS} connections"
    yield at_least(what, median(ratios), 0.8, detail=f"rounds from {min(ratios):.2f} to {max(ratios):.2f}")
    yield information("· accepted, until over", median(over for _, over in accepting), " req/s")
    yield information("· answered 202", median(seen.rate for seen, _ in accepting), " req/s")
    yield information("· waiting", median(rate for _, rate in waiting), " req/s")


def _waited(server: Server, seconds: int) -> tuple[load.Load, float]:
    """What callers that wait saw, and their requests a second."""
    seen = load.post(server, poc_path(), BODY, CONNECTIONS, seconds)
    return seen, seen.rate


def _until_over(server: Server, seconds: int) -> tuple[load.Load, float]:
    """What the callers saw, and how many runs a second were accepted and came to their end."""
    before = _rows(server)
    seen = load.post(server, poc_path(ACCEPTING), BODY, CONNECTIONS, seconds)
    end = time.perf_counter()
    while _open(server):
        if time.perf_counter() - end > PATIENCE:
            raise RuntimeError("accepted runs do not end")
        time.sleep(0.05)
    count = _rows(server) - before
    return seen, count / (count / seen.rate + time.perf_counter() - end)


def _open(server: Server) -> bool:
    page = client.call_ok(server.port, "GET", "/api/runs?status=queued&status=running&limit=1")
    return bool(json.loads(page)["runs"])


def _rows(server: Server) -> int:
    """How many rows all runs have written."""
    return int(json.loads(client.call_ok(server.port, "POST", poc_path(), BODY))["_inserted_id"])


# -- lists


def _lists(bench: Bench) -> Iterator[Row]:
    few, many = bench.folder / "few", bench.folder / "many"
    took = [_store_runs(folder, count) for folder, count in ((few, FEW), (many, MANY))]
    with mechaway(few, sync="normal", runs_max_mb=100_000) as small, mechaway(many, sync="normal", runs_max_mb=100_000) as large:
        for name, query in _queries():
            asked = [(server, _middle(query, count)) for server, count in ((small, FEW), (large, MANY))]
            lines = _page(*asked[0], LIMIT)[1]  # among few there may be few of a kind: the same number is asked of both
            [whole] = interleaved(PAGES, [partial(_milliseconds, *asked[1], LIMIT)])
            with_few, with_many = interleaved(PAGES, [partial(_milliseconds, *one, lines) for one in asked])
            yield at_most(f"page of {LIMIT} runs, {name}, of {MANY:,}, median", median(whole), 20, " ms", detail=f"most {max(whole):.3g}")
            detail = f"{median(with_many):.3g} ÷ {median(with_few):.3g} ms"
            ratio = median(one / other for one, other in zip(with_many, with_few, strict=True))
            yield at_most(f"· page of {lines}, ÷ of {FEW:,}", ratio, 1.5, detail=detail)
    yield information(f"storing {MANY:,} runs, {TOGETHER:,} at a time", MANY / took[1], " runs/s")


def _queries() -> Iterator[tuple[str, dict[str, str]]]:
    yield "newest", {}
    yield "of a workflow", {"workflow": "workflow-7"}
    yield "failed", {"status": "failed"}
    yield "of a workflow and failed", {"workflow": "workflow-7", "status": "failed"}
    yield "from the middle", {"cursor": ""}


def _middle(query: dict[str, str], count: int) -> dict[str, str]:
    """The same with the place that is meant, where so many runs are on record."""
    return query | {"cursor": new_run_id(_moment(count, count // 2))} if "cursor" in query else query


def _milliseconds(server: Server, query: dict[str, str], limit: int) -> float:
    return _page(server, query, limit)[0] * 1000


def _page(server: Server, query: dict[str, str], limit: int) -> tuple[float, int]:
    """Seconds that a page took, and its runs."""
    asked = {**query, "limit": str(limit)}
    began = time.perf_counter()
    page = json.loads(client.call_ok(server.port, "GET", f"/api/runs?{urlencode(asked)}"))
    took = time.perf_counter() - began
    if not page["runs"]:
        raise RuntimeError(f"a page of runs is empty: {asked}")
    return took, len(page["runs"])


def _moment(count: int, number: int) -> float:
    """When a run began; the last of them began an hour ago."""
    return time.time() - 3600 - (count - number)


def _store_runs(folder: Path, count: int) -> float:
    """Put so many runs on record as the recorder would; seconds that took."""
    files = ProjectFiles(Settings(data_dir=folder / "data", sync="normal"))
    records, chance = FolderRecords(files, "bench", 100_000), random.Random(1)
    data = b'{"nodes":[{"id":"hook","node_type":"Webhook","status":"succeeded","attempts":1,"at_ms":0.0,"took_ms":0.01,"input":[{}]}]}'
    began = time.perf_counter()
    for at in range(0, count, TOGETHER):
        some = range(at, min(count, at + TOGETHER))
        records.write(PROJECT, [RunRecord(_line(_moment(count, number), chance), data) for number in some])
    took = time.perf_counter() - began
    files.close()
    return took


def _line(began: float, chance: random.Random) -> RunLine:
    failed = chance.random() < FAILED
    return RunLine(
        new_run_id(began),
        f"workflow-{chance.randrange(WORKFLOWS)}",
        1,
        "failed" if failed else "succeeded",
        "webhook",
        "hook",
        began,
        began + 0.01,
        "it failed" if failed else None,
        None,
        1,
    )
