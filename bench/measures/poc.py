"""The POC through the real server, beside the floor: as users get it, and without records, which the floor does not keep either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from bench import client, load
from bench.report import Row, at_least, at_most, information
from bench.servers import Server, mechaway, serving
from bench.setup import BODY, Bench, check_answer, interleaved, poc, poc_path, poc_script, store


def measure(bench: Bench) -> Iterator[Row]:
    """Throughput of the server as a share of the floor's, and the spread of its latencies."""
    for sync in ("full", "normal"):
        yield from _with_sync(bench, sync)


def _with_sync(bench: Bench, sync: str) -> Iterator[Row]:
    folder = bench.folder / sync
    floor_folder = folder / "floor"
    floor_folder.mkdir(parents=True)
    script = floor_folder / "script.lua"
    script.write_text(poc_script())
    store(folder, poc())
    store(folder / "unrecorded", poc())
    floor_command = ["bench.floor", str(floor_folder / "simpletable.db"), str(script), "--sync", sync]
    with ExitStack() as stack:
        floor = stack.enter_context(serving(floor_command, floor_folder))
        server = stack.enter_context(mechaway(folder, sync=sync))
        unrecorded = stack.enter_context(mechaway(folder / "unrecorded", sync=sync, record="none"))
        servers = (floor, server, unrecorded)
        for one in servers:
            for _ in range(50):
                check_answer(client.call_ok(one.port, "POST", poc_path(), BODY))
        for connections in (1, 32):
            yield from _throughput(bench, sync, connections, servers)
        yield from _spread(bench, sync, servers[:2])


def _throughput(bench: Bench, sync: str, connections: int, servers: Sequence[Server]) -> Iterator[Row]:
    below, above, unrecorded = _loads(bench, connections, servers, own=False)
    where = f"sync {sync}, {_lines(connections)}"
    for name, seen in (("server", above), ("server without records", unrecorded)):
        ratios = [mine.rate / floors.rate for floors, mine in zip(below, seen, strict=True)]
        yield at_least(f"{name} ÷ floor, req/s, {where}", median(ratios), 0.5, detail=f"rounds from {min(ratios):.2f} to {max(ratios):.2f}")
    for name, middle in (("server", load.middle(above)), ("without records", load.middle(unrecorded)), ("floor", load.middle(below))):
        yield information(
            f"· {name}",
            middle.rate,
            " req/s",
            f"p50 {middle.p50 * 1000:.3g}, p99 {middle.p99 * 1000:.3g} ms; CPU {middle.cpu * 1e6:.0f} µs a request",
        )


def _spread(bench: Bench, sync: str, servers: Sequence[Server]) -> Iterator[Row]:
    """Latencies as our own client saw them: wrk adds those that it thinks it missed."""
    below, above = (load.middle(seen) for seen in _loads(bench, 1, servers, own=True))
    detail = f"{above.p99 * 1000:.3g} ÷ {above.p50 * 1000:.3g} ms; the floor's {below.p99 / below.p50:.3g} ×"
    yield at_most(f"server p99 ÷ p50, sync {sync}, 1 connection", above.p99 / above.p50, 3, " ×", detail)


def _loads(bench: Bench, connections: int, servers: Sequence[Server], *, own: bool) -> list[list[load.Load]]:
    """Rounds of load on each server, interleaved."""
    jobs = [partial(load.post, server, poc_path(), BODY, connections, bench.seconds, own=own) for server in servers]
    return interleaved(bench.rounds, jobs)


def _lines(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"
