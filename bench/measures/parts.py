"""Where the time of the POC goes: the same server with one part after the other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from bench import client, load
from bench.report import Row, information
from bench.servers import mechaway
from bench.setup import BODY, Bench, interleaved, poc, poc_path, store

PARTS = {
    "hook": ("+ thread, registry, engine, JSON", ("hook",)),
    "hook-row": ("the same + row", ("hook", "save")),
    "hook-lua": ("the same + Lua", ("hook", "grade")),
    "hook-lua-row": ("the POC: + Lua + row", ("hook", "grade", "save")),
}


def measure(bench: Bench) -> Iterator[Row]:
    """The POC's workflow without its Lua, without its row, without both; sync normal, so that the disk has no part in it."""
    for name, (_, nodes) in PARTS.items():
        store(bench.folder, _only(name, nodes))
    paths = {"HTTP alone: /healthz": "/healthz"} | {title: poc_path(name) for name, (title, _) in PARTS.items()}
    with mechaway(bench.folder, sync="normal") as server:
        for path in paths.values():
            for _ in range(50):
                client.call_ok(server.port, "POST", path, BODY)
        for connections in (1, 32):
            jobs = [partial(load.post, server, path, BODY, connections, bench.seconds) for path in paths.values()]
            for title, loads in zip(paths, interleaved(min(bench.rounds, 3), jobs), strict=True):
                seen = load.middle(loads)
                detail = f"p50 {seen.p50 * 1e6:,.0f} µs; CPU {seen.cpu * 1e6:.0f} µs a request"
                yield information(f"{connections} conn., {title}", seen.rate, " req/s", detail)


def _only(name: str, nodes: tuple[str, ...]) -> dict[str, Any]:
    """The POC with these of its nodes, in a row."""
    whole = poc()
    kept = [node for node in whole["nodes"] if node["id"] in nodes]
    edges = [{"from": above["id"], "to": below["id"]} for above, below in pairwise(kept)]
    return {**whole, "id": name, "nodes": kept, "edges": edges}
