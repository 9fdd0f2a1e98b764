"""The POC through the real server, beside the floor."""

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
    floor_command = ["bench.floor", str(floor_folder / "simpletable.db"), str(script), "--sync", sync]
    with ExitStack() as stack:
        floor = stack.enter_context(serving(floor_command, floor_folder))
        server = stack.enter_context(mechaway(folder, sync=sync))
        servers = (floor, server)
        for one in servers:
            for _ in range(50):
                check_answer(client.call_ok(one.port, "POST", poc_path(), BODY))
        for connections in (1, 32):
            yield from _throughput(bench, sync, connections, servers)
        yield from _spread(bench, sync, servers)


def _throughput(bench: Bench, sync: str, connections: int, servers: Sequence[Server]) -> Iterator[Row]:
    below, above = _loads(bench, connections, servers, own=False)
    where = f"sync {sync}, {_lines(connections)}"
    ratios = [mine.rate / floors.rate for floors, mine in zip(below, above, strict=True)]
    yield at_least(f"server ÷ floor, req/s, {where}", median(ratios), 0.5, detail=f"rounds from {min(ratios):.2f} to {max(ratios):.2f}")
    for name, seen in (("server", load.middle(above)), ("floor", load.middle(below))):
        yield information(
            f"· {name}",
            seen.rate,
            " req/s",
            f"p50 {seen.p50 * 1000:.3g}, p99 {seen.p99 * 1000:.3g} ms; CPU {seen.cpu * 1e6:.0f} µs a request",
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
