"""Workflows that call the outside, beside bare applications that make the same calls; and what it costs to ask who calls."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import client, load
from bench.outside import STATEMENT
from bench.report import Row, at_least, information
from bench.servers import Server, mechaway, serving
from bench.setup import BODY, Bench, interleaved, local_app, poc, poc_path
from tests import postgres as databases

SECRET = "a secret of the bench"
SIGNATURE = f"X-Hub-Signature-256: sha256={hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()}"


def measure(bench: Bench) -> Iterator[Row]:
    """Throughput as a share of the floors'."""
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(databases.Server.start()))
        service = stack.enter_context(serving(["bench.outside", "service"], bench.folder / "service"))
        url = f"http://127.0.0.1:{service.port}/weather"
        conninfo = postgres.url()
        _keep(bench.folder, url, conninfo)
        http = stack.enter_context(serving(["bench.outside", "http", url], bench.folder / "http"))
        rows = stack.enter_context(serving(["bench.outside", "postgres"], bench.folder / "postgres", line=conninfo))
        server = stack.enter_context(mechaway(bench.folder, sync="normal"))
        for connections in (1, 32):
            yield from _beside(bench, "HTTPClient", connections, (http, "/"), (server, "/webhook/call/go"), 0.5)
            yield from _beside(bench, "PGQuery", connections, (rows, "/"), (server, "/webhook/query/go"), 0.5)
            plain, signed = (server, poc_path("plain")), (server, poc_path("signed"))
            yield from _beside(bench, "hmac webhook ÷ the same without", connections, plain, signed, 0.9, (SIGNATURE,))


def _keep(folder: Path, url: str, conninfo: str) -> None:
    """Save the workflows and their secrets."""
    app = local_app(folder, sync="normal")
    try:
        app.put_secret("default", "DB", conninfo)
        app.put_secret("default", "SIGN", SECRET)
        app.create("default", _chain("call", {"node_type": "HTTPClient", "params": {"url": url}}))
        query = {"node_type": "PGQuery", "params": {"query": STATEMENT}, "inputs": ["1"], "secrets": ["$secret.DB"]}
        app.create("default", _chain("query", query))
        app.create("default", _poc("plain", "none"))
        app.create("default", _poc("signed", {"kind": "hmac", "preset": "github", "secret": "$secret.SIGN"}))
    finally:
        app.close()


def _chain(workflow_id: str, node: dict[str, Any]) -> dict[str, Any]:
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": "/go"}}
    return {"id": workflow_id, "nodes": [hook, {"id": "work", **node}], "edges": [{"from": "hook", "to": "work"}]}


def _poc(workflow_id: str, auth: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(poc())) | {"id": workflow_id}
    for node in document["nodes"]:
        if node["node_type"] == "Webhook":
            node["params"]["auth"] = auth
    return document


def _beside(
    bench: Bench,
    what: str,
    connections: int,
    below: tuple[Server, str],
    above: tuple[Server, str],
    target: float,
    headers: Sequence[str] = (),
) -> Iterator[Row]:
    for server, path in (below, above):
        for _ in range(20):
            client.call_ok(server.port, "POST", path, BODY, headers)
    jobs = [partial(load.post, server, path, BODY, connections, bench.seconds, headers=headers) for server, path in (below, above)]
    floors, mine = interleaved(bench.rounds, jobs)
    ratios = [one.rate / floor.rate for floor, one in zip(floors, mine, strict=True)]
    lines = "1 connection" if connections == 1 else f"{connections} connections"
    name = what if "÷" in what else f"{what} workflow ÷ floor"
    yield at_least(f"{name}, req/s, {lines}", median(ratios), target, detail=f"rounds from {min(ratios):.2f} to {max(ratios):.2f}")
    for label, loads in (("server" if "÷" not in what else "with", mine), ("floor" if "÷" not in what else "without", floors)):
        seen = load.middle(loads)
        yield information(f"· {label}", seen.rate, " req/s", f"p50 {seen.p50 * 1000:.3g} ms; CPU {seen.cpu * 1e6:.0f} µs a request")
