"""What was promised is kept, whatever is killed and whatever the disk does. For longer: python -m tests.killing --minutes 5 --workers 2."""

from __future__ import annotations

import random
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import killing
from tests.journeys.server import PATIENCE, Server, chain, echo, hook, lua, problem, until


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_answered_or_accepted_is_on_record_once_whatever_is_killed(data: Path, workers: int) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    ledger, holes = killing.kill_for(5, workers, seed, data, patience=2)
    print(ledger)
    assert holes == []


def _status(server: Server, run_id: str) -> str | int:
    """That of a run, or of the answer when it is none."""
    status: str | int = server.http.get(f"/api/runs/{run_id}").json()["status"]
    return status


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No file of the server grows or changes inside."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


def test_where_nothing_can_be_written_no_run_is_accepted_and_no_answer_given_and_the_server_goes_on_later(data: Path) -> None:
    with Server(data) as server:
        server.save(echo("wait"))
        server.save(chain("take", hook("/", "POST", mode="accept"), lua("work", "return data")))
        assert server.http.post("/webhook/wait", json=1).status_code == 200
        with full_disk(server):
            unwritten = problem(server.http.post("/webhook/wait", json=1), 503)
            refused = problem(server.http.post("/webhook/take", json=1), 503)
        for answer in (unwritten, refused):
            assert answer["run_id"] in answer["detail"]
            assert "could not be put on record: " in answer["detail"]
            assert "File too large" in answer["detail"] or "disk" in answer["detail"]
        assert server.http.post("/webhook/wait", json=1).status_code == 200
        taken = server.http.post("/webhook/take", json=1).json()["run_id"]
        until(lambda: _status(server, taken) == "succeeded", "the end of the run")
        assert server.http.get(f"/api/runs/{refused['run_id']}").status_code == 404
        assert server.http.get("/api/runs", params={"workflow": "take"}).json()["runs"][0]["run_id"] == taken


class Gate:
    """A server that answers when the test says so."""

    def __init__(self) -> None:
        self.came, self.opened = threading.Event(), threading.Event()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gate.came.set()
                gate.opened.wait(PATIENCE)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()
    made.server.shutdown()
    made.server.server_close()


def test_the_end_of_an_accepted_run_that_cannot_be_written_is_written_when_there_is_room(data: Path, gate: Gate) -> None:
    with Server(data) as server:
        call = {"id": "call", "node_type": "HTTPClient", "params": {"url": gate.url}}
        server.save(chain("take", hook("/", "POST", mode="accept"), call))
        run_id = server.http.post("/webhook/take", json=1).json()["run_id"]
        assert gate.came.wait(PATIENCE)
        with full_disk(server):
            gate.opened.set()
            until(lambda: _status(server, run_id) in ("queued", 503), "the end of the run here")  # it may be that nothing can be read, too
        until(lambda: _status(server, run_id) == "succeeded", "the end of the run on record")


def test_a_server_that_is_told_to_stop_leaves_what_it_accepted_to_the_next(data: Path, gate: Gate) -> None:
    call = {"id": "call", "node_type": "HTTPClient", "params": {"url": gate.url}}
    with Server(data, grace=0.2, max_runs=8) as server:
        server.save(chain("take", hook("/", "POST", mode="accept"), call, lua("last", "return data")))
        accepted = [server.http.post("/webhook/take", json={"n": number}).json()["run_id"] for number in range(12)]
        assert gate.came.wait(PATIENCE)  # some go on, some wait in line
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    gate.opened.set()
    with Server(data) as server:
        for run_id in accepted:
            until(lambda run_id=run_id: _status(server, run_id) == "succeeded", f"the end of run {run_id}")  # type: ignore[misc]
