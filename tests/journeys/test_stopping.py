"""How servers and Lua processes end, and what callers see of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.server import PATIENCE, Server, alive, chain, echo, family, hook, lua, lua_workers, problem, until

SECOND = "local t = os.clock() while os.clock() - t < 1 do end return {done = true}"
FOREVER = "while true do end"


def post(server: Server, path: str) -> httpx.Response | None:
    """The answer, by a connection of its own; None when there is none."""
    try:
        return httpx.post(server.url + path, json={}, timeout=PATIENCE, verify=False)
    except httpx.TransportError:
        return None


def started(server: Server, path: str, pool: ThreadPoolExecutor) -> Any:
    """A call whose run is at work in a Lua process."""
    used = {pid: _cpu(pid) for pid in lua_workers(server.process.pid)}
    future = pool.submit(post, server, path)
    until(lambda: any(_cpu(pid) > used.get(pid, 0) + 10 for pid in lua_workers(server.process.pid)), "a busy Lua process")
    return future


def _cpu(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
    except OSError:
        return 0


def test_a_server_that_is_told_to_stop_lets_its_runs_end_and_starts_no_others(data: Path) -> None:
    with Server(data, lua_timeout=60) as server, ThreadPoolExecutor(1) as pool:
        server.save(echo("slow", SECOND))
        server.save(echo("quick"))
        with httpx.Client(base_url=server.url, timeout=PATIENCE, verify=False) as kept:
            assert kept.get("/healthz").status_code == 200
            slow = started(server, "/webhook/slow", pool)
            server.signal(signal.SIGTERM)
            until(lambda: kept.get("/api/workflows").status_code == 503, "the first 503")
            for path in ("/webhook/quick", "/api/workflows"):
                answer = post(server, path)
                assert answer is not None
                problem(answer, 503)
                assert answer.headers["retry-after"]
        answer = slow.result()
        assert answer is not None
        assert (answer.status_code, answer.json()) == (200, {"done": True})
        assert server.process.wait(PATIENCE) == 0


def test_an_idle_server_ends_at_once_and_leaves_nobody_behind(data: Path) -> None:
    with Server(data) as server:
        server.save(echo("quick"))
        assert server.http.post("/webhook/quick", json=1).json() == 1
        below = family(server.process.pid)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
        until(lambda: not any(alive(pid) for pid in below), "the end of the Lua processes")


def test_a_second_signal_ends_it_at_once(data: Path) -> None:
    with Server(data, lua_timeout=40) as server, ThreadPoolExecutor(1) as pool:
        server.save(echo("forever", FOREVER))
        slow = started(server, "/webhook/forever", pool)
        below = family(server.process.pid)
        _stop_twice(server, signal.SIGINT)
        until(lambda: not any(alive(pid) for pid in below), "the end of the Lua processes")
        assert slow.result() is None or slow.result().status_code >= 500


def test_a_second_signal_ends_it_at_once_when_branches_run_side_by_side(data: Path) -> None:
    with Server(data, lua_timeout=40, lua_workers=2) as server, ThreadPoolExecutor(1) as pool:
        nodes = [hook(), lua("a", FOREVER), lua("b", FOREVER)]
        server.save({"id": "forked", "nodes": nodes, "edges": [{"from": "hook", "to": "a"}, {"from": "hook", "to": "b"}]})
        started(server, "/webhook/forked", pool)
        try:
            _stop_twice(server, signal.SIGTERM)
        finally:
            server.kill()


def test_a_second_signal_ends_it_at_once_while_a_node_waits_for_its_next_attempt(data: Path) -> None:
    with Server(data) as server, ThreadPoolExecutor(1) as pool:
        server.save(_patient("patient"))
        pool.submit(post, server, "/webhook/patient")
        until(lambda: _begun(server), "the run to begin")
        try:
            _stop_twice(server, signal.SIGTERM)
        finally:
            server.kill()


def _patient(workflow_id: str) -> dict[str, Any]:
    """A run that leaves a row and then waits long for its next attempt."""
    mark = {"id": "mark", "node_type": "SimpleTableWriter", "params": {"table": "begun", "columns": ["n"]}}
    return chain(workflow_id, hook(), mark, lua("bad", "error('no')", retry={"attempts": 2, "delay": 100, "max_delay": 100}))


def _begun(server: Server) -> bool:
    answer = server.http.get("/api/tables/begun/rows")
    return answer.status_code == 200 and len(answer.json()["rows"]) == 1


def _stop_twice(server: Server, number: signal.Signals) -> None:
    server.signal(number)
    until(lambda: httpx.get(f"{server.url}/api/workflows", timeout=PATIENCE, verify=False).status_code == 503, "the first 503")
    server.signal(number)
    began = time.monotonic()
    server.process.wait(15)
    assert time.monotonic() - began < 8


def test_runs_that_outlast_the_grace_period_are_cancelled(data: Path) -> None:
    with Server(data, grace=0.2) as server, ThreadPoolExecutor(1) as pool:
        server.save(_patient("patient"))
        waiting = pool.submit(post, server, "/webhook/patient")
        until(lambda: _begun(server), "the run to begin")
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        answer = waiting.result()
        assert answer is not None
        assert problem(answer, 503)["run_id"]


def test_a_server_that_is_told_to_stop_does_not_wait_for_nodes_that_hang(data: Path) -> None:
    with Server(data, grace=0.2, lua_timeout=60, lua_workers=2) as server, ThreadPoolExecutor(1) as pool:
        nodes = [hook(), lua("a", FOREVER), lua("b", FOREVER)]
        server.save({"id": "forked", "nodes": nodes, "edges": [{"from": "hook", "to": "a"}, {"from": "hook", "to": "b"}]})
        hanging = started(server, "/webhook/forked", pool)
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        answer = hanging.result()
        assert answer is not None
        assert "the run was cancelled" in problem(answer, 503)["detail"]


def test_a_lua_process_that_is_killed_costs_its_own_run_only(data: Path) -> None:
    with Server(data) as server, ThreadPoolExecutor(1) as pool:
        server.save(echo("slow", "local t = os.clock() while os.clock() - t < 4 do end return 1"))
        server.save(echo("quick"))
        slow = started(server, "/webhook/slow", pool)
        for pid in lua_workers(server.process.pid):
            os.kill(pid, signal.SIGKILL)
        answer = slow.result()
        assert answer is not None
        assert problem(answer, 422)["node_id"] == "work"
        for number in range(5):
            answer = server.http.post("/webhook/quick", json=number)
            assert (answer.status_code, answer.json()) == (200, number)


def test_idle_lua_processes_that_are_killed_cost_nobody_anything(data: Path) -> None:
    with Server(data, lua_workers=2) as server:
        server.save(echo("quick"))
        for number in range(15):
            answer = server.http.post("/webhook/quick", json=number)
            if answer.status_code != 200:  # one that was only being started was hit: nothing has run, and the caller may come again
                problem(answer, 503)
                assert answer.headers["retry-after"]
                answer = server.http.post("/webhook/quick", json=number)
            assert (answer.status_code, answer.json()) == (200, number)
            for pid in lua_workers(server.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("script", ["return data", FOREVER])
def test_lua_processes_do_not_outlive_a_server_that_is_killed(data: Path, script: str) -> None:
    with Server(data, lua_timeout=2) as server, ThreadPoolExecutor(1) as pool:
        server.save(echo("w", script))
        if script == FOREVER:
            started(server, "/webhook/w", pool)
        else:
            server.http.post("/webhook/w").raise_for_status()
        below = family(server.process.pid)
        assert below
        server.kill()
        until(lambda: not any(alive(pid) for pid in below), "the end of the Lua processes")
