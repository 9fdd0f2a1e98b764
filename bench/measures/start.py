"""How soon a server answers, and how much memory it holds when it has nothing to do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from statistics import median

from bench import client, processes
from bench.measures.many import first_answers
from bench.report import Row, at_most, information
from bench.servers import mechaway
from bench.setup import BODY, Bench, check_answer, poc, poc_path, store

STARTS = 5
SETTLE = 1.0


def measure(bench: Bench) -> Iterator[Row]:
    """From the start of the process to the POC's answer, its workflow being stored; then memory of the server and its Lua processes."""
    store(bench.folder, poc())
    starts = [first_answers(bench.folder) for _ in range(STARTS)]
    times = [answered for _, answered in starts]
    detail = f"{min(times):.2f}–{max(times):.2f}; /healthz after {median(healthy for healthy, _ in starts):.2f}"
    yield at_most("start → first POC answer, median", median(times), 1, " s", detail)
    if sys.platform == "linux":
        yield from _memory(bench)


def _memory(bench: Bench) -> Iterator[Row]:
    with mechaway(bench.folder) as server:
        check_answer(client.call_ok(server.port, "POST", poc_path(), BODY))
        idle = _idle(server.pid)
        client.call_ok(server.port, "GET", "/api/workflows")
        with_api = _idle(server.pid)
    mib = processes.MIB
    yield at_most("idle memory, PSS", idle.pss / mib, 90, " MiB", f"RSS sum {idle.rss / mib:.0f}; {idle.processes} processes")
    detail = f"RSS sum {with_api.rss / mib:.0f}; {with_api.processes} processes"
    yield information("idle memory once the API was used, PSS", with_api.pss / mib, " MiB", detail)


def _idle(pid: int) -> processes.Memory:
    time.sleep(SETTLE)
    return processes.memory_of(pid)
