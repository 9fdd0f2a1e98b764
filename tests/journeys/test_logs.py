"""The log of a server: what its lines say about runs and requests, and in which form."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house.tree import ROOT
from tests.journeys.server import Caller, Server, chain, echo, environment, lua, mechaway, problem, until

BROKEN = "error('first line\\nsecond \"quoted\" line ü')"


def lines(server: Caller) -> list[dict[str, Any]]:
    """The log of a server as its objects."""
    return [json.loads(line) for line in server.err.split("\n")[:-1]]


def line(server: Caller, said: str) -> dict[str, Any]:
    """The line whose sentence holds this, as soon as it is there."""
    return until(lambda: next((one for one in lines(server) if said in one["message"]), None), f"a line with {said}")


def test_a_run_that_fails_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.http.post("/api/projects", json={"slug": "shop"}).raise_for_status()
        saved = server.save(echo("sale", BROKEN), "shop")
        answer = server.http.post("/p/shop/webhook/sale/", headers={"X-Request-Id": "order-17"})
        told = problem(answer, 422)
        said = line(server, "run ")
    assert said["level"] == "WARNING"
    assert said["run_id"] == told["run_id"] == answer.headers["mechaway-run-id"]
    assert said["node_id"] == told["node_id"] == "work"
    about = {name: said[name] for name in ("project", "workflow_id", "version", "trigger", "status", "request_id")}
    assert about == {
        "project": "shop",
        "workflow_id": "sale",
        "version": saved["version"],
        "trigger": "webhook",
        "status": "failed",
        "request_id": "order-17",
    }
    assert "first line\nsecond" in said["message"]


def test_so_is_one_that_was_started_by_hand(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.save(echo("sale", BROKEN))
        answer = server.http.post("/api/workflows/sale/run", json={})
        said = line(server, "run ")
    assert said["run_id"] == answer.json()["run_id"]
    assert said["trigger"] == "manual"
    assert said["request_id"] == answer.headers["x-request-id"]


def test_so_is_one_that_a_schedule_started(tmp_path: Path) -> None:
    clock = {"id": "clock", "node_type": "CronTrigger", "params": {"schedule": "* * * * * *"}}
    with Server(tmp_path / "data") as server:
        server.save(chain("tick", clock, lua("work", "error('no: ' .. data.scheduled_for)")))
        said = line(server, "run ")
    assert said["level"] == "ERROR"
    assert (said["project"], said["workflow_id"], said["node_id"], said["trigger"]) == ("default", "tick", "work", "cron")
    assert said["scheduled_for"].endswith(".000Z")
    assert said["run_id"] in said["message"]
    assert "request_id" not in said


def test_who_is_refused_is_found_by_request_reason_and_source(tmp_path: Path) -> None:
    with Server(tmp_path / "data", api_token="t" * 24) as server:
        answer = httpx.get(f"{server.url}/api/workflows", headers={"authorization": "Bearer no"})
        assert answer.status_code == 401
        said = line(server, "refused")
    assert (said["reason"], said["source"], said["request_id"]) == ("token_wrong", "127.0.0.1", answer.headers["x-request-id"])


def test_runs_that_succeed_leave_no_line(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.save(echo("echo"))
        for _ in range(3):
            assert server.http.post("/webhook/echo/", json={"x": 1}).status_code == 200
        server.record("echo")
    assert server.err == ""


def test_every_process_of_a_server_writes_the_form_that_was_asked_for(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "2", log="text") as server:
        server.save(echo("sale", BROKEN))
        run_id = problem(server.http.post("/webhook/sale/", headers={"X-Request-Id": "order-17"}), 422)["run_id"]
        until(lambda: run_id in server.err, "the line")
    [said] = [one for one in server.err.split("\n") if run_id in one]
    assert f" WARNING mechaway.runs: run {run_id} of workflow sale in project default failed: " in said
    assert said.endswith(" version=1 trigger=webhook request_id=order-17")
    assert "first line\\nsecond" in said


def test_the_form_is_one_of_three() -> None:
    done = mechaway("settings", settings={"log": "xml"})
    assert done.returncode != 0
    assert "MECHAWAY_LOG must be one of auto, text, json, not 'xml'" in done.stderr


LOGS = """
import logging, sys
from mechaway_core.local.logs import set_up
set_up(sys.argv[1])
logging.getLogger("mechaway.test").error("two\\nlines", extra={"project": "shop"})
raise SystemExit(1 / 0)
"""


def logged_on(descriptor: int, form: str) -> None:
    """Have a process log to this, and end by a mistake."""
    command = [sys.executable, "-c", LOGS, form]
    subprocess.run(command, cwd=ROOT, env=environment({}), stderr=descriptor, stdin=subprocess.DEVNULL, check=False)
    os.close(descriptor)


def on_a_terminal(form: str) -> list[str]:
    ours, theirs = pty.openpty()
    logged_on(theirs, form)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that nobody is at the other end
            piece = b""
        if not piece:
            break
        said += piece
    os.close(ours)
    return said.decode().replace("\r\n", "\n").split("\n")[:-1]


def in_a_pipe(form: str) -> list[str]:
    ours, theirs = os.pipe()
    logged_on(theirs, form)
    with open(ours) as reading:
        return reading.read().split("\n")[:-1]


@pytest.mark.parametrize(("read", "form"), [(on_a_terminal, "auto"), (on_a_terminal, "text"), (in_a_pipe, "text")])
def test_people_read_text(read: Any, form: str) -> None:
    first, second, *traceback = read(form)
    assert first.endswith(" ERROR mechaway.test: two\\nlines project=shop")
    assert second.endswith(" CRITICAL mechaway: the process ends by a mistake")
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("read", "form"), [(in_a_pipe, "auto"), (in_a_pipe, "json"), (on_a_terminal, "json")])
def test_programs_read_json(read: Any, form: str) -> None:
    first, second = [json.loads(one) for one in read(form)]
    assert (first["message"], first["project"], first["logger"]) == ("two\nlines", "shop", "mechaway.test")
    assert (second["level"], second["exception_name"]) == ("CRITICAL", "ZeroDivisionError")
    assert second["exception"].endswith("ZeroDivisionError: division by zero")
