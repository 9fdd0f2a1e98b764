"""Where the threads of a server run, and its Lua processes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mechaway_core import cpus
from tests.journeys.server import PATIENCE, Server, chain, echo, hook, lua_workers, problem, server_workers, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(cpus.allowed()) < 2, reason="there is no choice of processors here, so the server makes none"
)

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def places(pid: int) -> list[set[int]]:
    """Where each thread of a process may run."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        if sys.platform == "linux":
            found.append(os.sched_getaffinity(int(task.name)))
    return found


def together(pid: int) -> set[int] | None:
    """The one processor of all threads; None when there is more than one."""
    first, *others = places(pid)
    return first if len(first) == 1 and all(one == first for one in others) else None


def homes(server: Server) -> set[int]:
    """The processors on which its workers are."""
    return set().union(*(together(pid) or set() for pid in server_workers(server.process.pid)))


def test_a_server_keeps_to_one_processor_and_lua_goes_anywhere(data: Path) -> None:
    with Server(data) as server:
        server.save(echo("w", "return 1"))
        assert server.http.post("/webhook/w").json() == 1
        assert together(server.process.pid)
        assert [places(pid) for pid in lua_workers(server.process.pid)] == [[set(cpus.allowed())]] * len(lua_workers(server.process.pid))


def test_with_the_setting_it_goes_anywhere(data: Path) -> None:
    with Server(data, processors="any") as server:
        server.save(echo("w", "return 1"))
        assert server.http.post("/webhook/w").json() == 1
        assert all(one == set(cpus.allowed()) for one in places(server.process.pid))


def test_two_server_processes_take_two_processors(data: Path) -> None:
    with Server(data, "--workers", "2") as server:
        until(lambda: len(homes(server)) == 2, "two processors with a server process each")
        assert all(one == set(cpus.allowed()) for one in places(server.process.pid))  # the supervisor


def test_a_long_query_may_leave_and_comes_back(data: Path) -> None:
    query = {"id": "query", "node_type": "SimpleTableQuery", "params": {"query": ENDLESS}}
    with Server(data) as server, ThreadPoolExecutor(1) as elsewhere:
        server.save(chain("long", hook(), query))
        server.save(echo("w", "return 1"))
        long = elsewhere.submit(httpx.post, f"{server.url}/webhook/long", timeout=PATIENCE)
        until(lambda: set(cpus.allowed()) in places(server.process.pid), "a thread that may go anywhere")
        assert server.http.post("/webhook/w").json() == 1
        problem(long.result(), 422)
        until(lambda: together(server.process.pid), "the thread to come back")
