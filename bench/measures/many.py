"""Ten thousand stored workflows beside ten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from bench import client, load
from bench.report import Row, at_most, information
from bench.servers import mechaway
from bench.setup import BODY, Bench, check_answer, copy_id, interleaved, poc, poc_path, store

FEW, MANY = 10, 10_000
STARTS = 4
FIRST_CALLS = 300


def measure(bench: Bench) -> Iterator[Row]:
    """Latency of one webhook, and how long the server takes to start, among few and among many."""
    few, many = bench.folder / "few", bench.folder / "many"
    store(few, poc(), FEW - 1)
    store(many, poc(), MANY - 1)
    yield from _latency(bench, few, many)
    starts = interleaved(STARTS, [partial(first_answers, folder) for folder in (few, many)])
    for place, what in ((0, "/healthz"), (1, "webhook")):
        with_few, with_many = (median(side[place] for side in one) for one in starts)
        detail = f"{with_many * 1000:.0f} ÷ {with_few * 1000:.0f} ms"
        yield at_most(f"start → first {what} answer, {MANY:,} ÷ {FEW} workflows", with_many / with_few, 2, detail=detail)


def first_answers(folder: Path) -> tuple[float, float]:
    """Seconds from the start of the server's process to its first answer on /healthz, and to its first webhook answer."""
    with mechaway(folder) as server:
        client.call_ok(server.port, "GET", "/healthz")
        healthy = time.perf_counter() - server.spawned
        check_answer(client.call_ok(server.port, "POST", poc_path(), BODY))
        return healthy, time.perf_counter() - server.spawned


def _latency(bench: Bench, few: Path, many: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        servers = [stack.enter_context(mechaway(folder, sync="normal")) for folder in (few, many)]
        for server in servers:
            for _ in range(200):
                check_answer(client.call_ok(server.port, "POST", poc_path(), BODY))
        jobs = [partial(load.post, server, poc_path(), BODY, 1, bench.seconds, own=True) for server in servers]
        seen_few, seen_many = interleaved(bench.rounds, jobs)
        ratio = median(after.p50 / before.p50 for before, after in zip(seen_few, seen_many, strict=True))
        detail = f"p50 {load.middle(seen_many).p50 * 1000:.3g} ÷ {load.middle(seen_few).p50 * 1000:.3g} ms"
        yield at_most(f"webhook latency, {MANY:,} ÷ {FEW} workflows", ratio, 1.1, detail=detail)
        yield information(f"first call of each of {FIRST_CALLS} among {MANY:,} workflows, median", _first_calls(servers[1].port), " ms")


def _first_calls(port: int) -> float:
    times = []
    with client.Connection(port) as connection:
        for number in range(FIRST_CALLS):
            began = time.perf_counter()
            check_answer(connection.call("POST", poc_path(copy_id(number)), BODY).body)
            times.append((time.perf_counter() - began) * 1000)
    return median(times)
