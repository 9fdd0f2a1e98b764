"""Several server processes on one socket."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.journeys.server import PATIENCE, Server, alive, echo, family, lua_workers, problem, server_workers, until


@pytest.fixture
def pair(data: Path) -> Iterator[Server]:
    with Server(data, "--workers", "2") as server:
        until(lambda: httpx.get(f"{server.url}/healthz", timeout=PATIENCE, verify=False).status_code == 200, "the first answer")
        yield server


def call(server: Server, method: str, path: str, **options: object) -> httpx.Response:
    """By a connection of its own, so that any worker may get it."""
    return httpx.request(method, server.url + path, timeout=PATIENCE, verify=False, **options)  # type: ignore[arg-type]


def test_a_save_is_live_on_every_worker_for_the_next_request(pair: Server) -> None:
    assert len(server_workers(pair.process.pid)) == 2
    call(pair, "POST", "/api/workflows", json=echo("live", "return 0")).raise_for_status()
    for number in range(1, 101):
        saved = call(pair, "PUT", "/api/workflows/live", json=echo("live", f"return {number}"))
        assert saved.json()["version"] == number + 1
        assert call(pair, "POST", "/webhook/live").json() == number
        assert call(pair, "GET", "/api/workflows/live").headers["etag"] == saved.headers["etag"]
    call(pair, "DELETE", "/api/workflows/live").raise_for_status()
    for _ in range(10):
        problem(call(pair, "POST", "/webhook/live"), 404)


def test_a_project_that_one_worker_deletes_is_gone_for_the_others(pair: Server) -> None:
    for generation in range(6):
        call(pair, "POST", "/api/projects", json={"slug": "p"}).raise_for_status()
        call(pair, "POST", "/p/p/api/workflows", json=echo("w", f"return {generation}")).raise_for_status()
        for _ in range(4):
            assert call(pair, "POST", "/p/p/webhook/w").json() == generation
        call(pair, "DELETE", "/api/projects/p").raise_for_status()
        for _ in range(4):
            problem(call(pair, "POST", "/p/p/webhook/w"), 404)
            assert "p" not in [one["slug"] for one in call(pair, "GET", "/api/projects").json()["projects"]]


def test_a_worker_that_is_killed_is_replaced_and_the_service_goes_on(pair: Server) -> None:
    call(pair, "POST", "/api/workflows", json=echo("steady")).raise_for_status()
    before = server_workers(pair.process.pid)
    os.kill(before[0], signal.SIGKILL)
    after = until(lambda: _two_others(pair, before[0]), "a new worker")
    assert before[1] in after
    for number in range(20):
        assert call(pair, "POST", "/webhook/steady", json=number).json() == number


def _two_others(server: Server, killed: int) -> list[int] | None:
    workers = server_workers(server.process.pid)
    return workers if len(workers) == 2 and killed not in workers else None


def test_the_end_of_the_supervisor_is_the_end_of_all(pair: Server) -> None:
    call(pair, "POST", "/api/workflows", json=echo("end")).raise_for_status()
    until(lambda: [call(pair, "POST", "/webhook/end") for _ in range(10)] and lua_workers(pair.process.pid), "a Lua worker")
    everybody = family(pair.process.pid)
    assert len(everybody) >= 3
    pair.signal(signal.SIGTERM)
    assert pair.process.wait(PATIENCE) == 0
    until(lambda: not any(alive(pid) for pid in everybody), "the end of all processes")


def test_workers_do_not_outlive_a_supervisor_that_is_killed(pair: Server) -> None:
    call(pair, "POST", "/api/workflows", json=echo("end")).raise_for_status()
    call(pair, "POST", "/webhook/end").raise_for_status()
    everybody = family(pair.process.pid)
    pair.kill()
    until(lambda: not any(alive(pid) for pid in everybody), "the end of all processes")
