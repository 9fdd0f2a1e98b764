"""How long a request is on its way before its first node starts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import client
from bench.report import Row, at_most, information
from bench.servers import serving
from bench.setup import BODY, Bench, percentile, store

CALLS = 2000
WARM_UP = 200
DOCUMENT: dict[str, Any] = {
    "id": "watched",
    "nodes": [{"id": "hook", "node_type": "Webhook", "params": {"path": "/grade", "method": "POST"}}],
    "edges": [],
}


def measure(bench: Bench) -> Iterator[Row]:
    """From the client's send to the node, over a real socket; and the part of it that lies behind the HTTP server."""
    store(bench.folder, DOCUMENT)
    with serving(["bench.probe", str(bench.folder / "data")], bench.folder) as server:
        rounds = [_times(server.port) for _ in range(bench.rounds)]
    way, tail, inside, inside_tail = (median(column) for column in zip(*map(_summary, rounds), strict=True))
    detail = f"1 connection, medians of {bench.rounds} rounds of {CALLS} calls"
    if sys.platform == "linux":  # elsewhere the clocks of two processes cannot be compared
        yield at_most("client sends → node starts, median", way, 0.3, " ms", detail)
        yield at_most("client sends → node starts, p99", tail, 1, " ms")
    yield information("ASGI application called → node starts, median", inside, " ms", "part of the above")
    yield information("ASGI application called → node starts, p99", inside_tail, " ms")


def _summary(times: tuple[list[float], list[float]]) -> tuple[float, float, float, float]:
    on_the_way, inside = times
    return median(on_the_way), percentile(on_the_way, 0.99), median(inside), percentile(inside, 0.99)


def _times(port: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the send, and from the call of the ASGI application, until the node started."""
    request = client.request_bytes("POST", "/webhook/watched/grade", BODY)
    on_the_way, inside = [], []
    with client.Connection(port) as connection:
        for number in range(WARM_UP + CALLS):
            sent = time.perf_counter_ns()
            answer = json.loads(connection.exchange(request).body)
            if number >= WARM_UP:
                on_the_way.append((answer["started"] - sent) / 1e6)
                inside.append((answer["started"] - answer["entered"]) / 1e6)
    return on_the_way, inside
