"""Documents that are large, or written to keep the check busy. Whatever they hold, an answer comes soon and others are served meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.server import Server, chain, echo, hook, lua, problem

SOON = 10.0  # seconds; each of these takes well below one where its time grows with its size
MANY = 10_000
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hostile") / "data") as made:
        made.http.get("/api/node-types").raise_for_status()
        yield made


def passing(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"n{number}", "node_type": "Respond", "params": {}, **fields} for number in range(count)]


def fan(count: int) -> dict[str, Any]:
    middle = passing(count)
    edges = [edge for node in middle for edge in ({"from": "hook", "to": node["id"]}, {"from": node["id"], "to": "end"})]
    return {"id": "fan", "nodes": [hook(), *middle, {"id": "end", "node_type": "Respond", "params": {}}], "edges": edges}


def webhooks(count: int, methods: list[str]) -> dict[str, Any]:
    nodes = [{"id": f"n{number}", "node_type": "Webhook", "params": {"path": f"/{number}", "method": methods}} for number in range(count)]
    return {"id": "hooks", "nodes": nodes}


def misnamed(count: int) -> dict[str, Any]:
    nodes = [hook(), *[lua(f"node{number:05}", "1") for number in range(count)]]
    return {"id": "misnamed", "nodes": nodes, "edges": [{"from": "hook", "to": f"nodf{number:05}"} for number in range(count)]}


def query(**fields: Any) -> dict[str, Any]:
    return chain("query", hook(), {"id": "q", "node_type": "SimpleTableQuery", "params": {"query": "SELECT 1"}, **fields})


DOCUMENTS: dict[str, Callable[[], Any]] = {
    "a chain": lambda: chain("chain", hook(), *passing(MANY - 1)),
    "scripts": lambda: chain("scripts", hook(), *[lua(f"n{number}", "return data") for number in range(MANY - 1)]),
    "a fan": lambda: fan(MANY - 2),
    "webhooks with every method": lambda: webhooks(MANY, METHODS),
    "paths back to the start": lambda: chain("back", hook(), *passing(MANY - 1, outputs={"a": "$node.hook.a"})),
    "edges to names that nearly exist": lambda: misnamed(3000),
    "edges that are none": lambda: {"id": "zeros", "nodes": [], "edges": [0] * 2_000_000},
    "nodes that are none": lambda: {"id": "zeros", "nodes": [0] * 2_000_000},
    "columns that are none": lambda: chain(
        "zeros", hook(), {"id": "w", "node_type": "SimpleTableWriter", "params": {"table": "t", "columns": [0] * 1_000_000}}
    ),
    "fields that are unknown": lambda: {"id": "unknown", "nodes": [hook() | {f"u{number}": 1 for number in range(300_000)}]},
    "edges that are the same": lambda: {"id": "same", "nodes": [hook(), lua("a", "1")], "edges": [{"from": "hook", "to": "a"}] * 200_000},
    "nodes that are the same": lambda: {"id": "same", "nodes": [hook()] * 100_000},
    "a cycle": lambda: (
        chain("cycle", hook(), *passing(MANY)) | {"edges": [{"from": f"n{n}", "to": f"n{(n + 1) % MANY}"} for n in range(MANY)]}
    ),
    "expressions": lambda: query(inputs=["x + 1"] * 100_000),
    "long strings that never end": lambda: query(inputs=["x + [=[ " + "[=[ " * 100_000]),
    "quotes that never end": lambda: query(inputs=["x + 'a" + "\\" * 400_001]),
    "paths without end": lambda: query(inputs=["$json" + ".a" * 400_000 + "!"]),
    "keys in brackets that never end": lambda: query(inputs=['$json["' + "a" * 400_000]),
    "templates that never end": lambda: chain("t", hook(), {"id": "r", "node_type": "Respond", "params": {"body": "{{ " * 200_000}}),
    "templates full of brackets": lambda: chain(
        "t", hook(), {"id": "r", "node_type": "Respond", "params": {"body": "{{ " + "[=[ " * 100_000}}
    ),
    "brackets in Lua": lambda: echo("deep", "return " + "(" * 200_000 + "1" + ")" * 200_000),
    "brackets in SQL": lambda: query(params={"query": "SELECT " + "(" * 400_000}),
    "quotes in SQL": lambda: query(params={"query": "SELECT " + "'" * 900_001}),
    "comments in SQL": lambda: query(params={"query": "SELECT 1 " + "/* " * 300_000}),
    "outputs of one name": lambda: query(outputs=["$json.a"] * 100_000),
    "outputs of many names": lambda: query(outputs=[f"$json.a{number}" for number in range(19_999)]),
    "a long id": lambda: echo("a" * 5_000_000),
    "much to keep": lambda: echo("meta") | {"meta": ["x" * 100] * 90_000},
}


class Judge:
    """A server that is replaced when a document kept it too busy, so that the next one is judged by itself."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.server: Server | None = None

    def get(self) -> Server:
        if self.server is None:
            self.server = Server(self.data)
            self.server.http.get("/api/node-types").raise_for_status()
        return self.server

    def drop(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.close()
            self.server = None


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    made = Judge(tmp_path_factory.mktemp("judge") / "data")
    yield made
    made.drop()


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_a_hostile_document_is_judged_soon(judge: Judge, name: str) -> None:
    body = json.dumps(DOCUMENTS[name](), separators=(",", ":")).encode()
    assert len(body) < 10_000_000
    server = judge.get()
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak of memory counts from here
    try:
        answer = server.http.post("/api/validate", content=body, timeout=SOON)
        if answer.status_code != 200:
            problem(answer, 504)
        assert len(answer.content) < 2_000_000
        assert _peak(server.process.pid) < 1000, f"the server took {_peak(server.process.pid)} MB for it"
    except BaseException:
        judge.drop()
        raise


def _peak(pid: int) -> int:
    """The most memory that a process has held, in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1000


def test_a_chain_of_ten_thousand_nodes_is_saved_and_runs(judge: Judge) -> None:
    server = judge.get()
    server.save(chain("long", hook(), *passing(9_999)))
    assert server.http.post("/webhook/long", json={"a": 1}).json() == {"a": 1}


def test_a_fan_of_ten_thousand_nodes_is_saved_and_runs(judge: Judge) -> None:
    server = judge.get()
    server.save(fan(9_998))
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    try:
        answer = server.http.post("/api/workflows/fan/run", json={"items": [{"a": 1}]}, timeout=SOON)
        assert answer.json()["nodes"][-1]["items_in"] == 9_998
        assert _peak(server.process.pid) < 1000, f"the server took {_peak(server.process.pid)} MB for it"
    except BaseException:
        judge.drop()
        raise


def test_a_document_of_nearly_the_limit_is_saved_and_comes_back(server: Server) -> None:
    document = echo("large") | {"meta": ["ü" * 1000] * 4_800}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    assert 9_500_000 < len(body) < 10_000_000
    assert server.http.post("/api/workflows", content=body).status_code == 201
    assert server.http.get("/api/workflows/large").json() == document
    problem(server.http.post("/api/workflows", content=body + b" " * 1_000_000), 413)


def test_others_are_served_while_a_large_document_is_judged(server: Server) -> None:
    server.save(echo("echo"))
    body = json.dumps(chain("scripts", hook(), *[lua(f"n{number}", "return data") for number in range(30_000)])).encode()
    with ThreadPoolExecutor(1) as pool:
        judged = pool.submit(server.http.post, "/api/validate", content=body)
        longest = 0.0
        while not judged.done():
            began = time.monotonic()
            assert server.http.get("/healthz").status_code == 200
            longest = max(longest, time.monotonic() - began)
        assert judged.result().status_code in (200, 504)
    assert longest < 3
