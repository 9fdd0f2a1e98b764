"""Schedules on a server: they start runs, each due time once, whoever is killed; and people see what is due and what was missed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests.journeys.server import Server, alive, chain, environment, family, problem, until

SAVE = {
    "id": "save",
    "node_type": "SimpleTableWriter",
    "params": {"table": "seen", "columns": ["scheduled_for", "timestamp", "trigger_type"]},
}


def ticking(name: str = "tick", schedule: str = "* * * * * *", **params: Any) -> dict[str, Any]:
    return chain(name, {"id": "clock", "node_type": "CronTrigger", "params": {"schedule": schedule, **params}}, SAVE)


def dues(server: Server) -> list[str]:
    """The due times that had a run, in the order of their rows."""
    while True:
        with contextlib.suppress(httpx.TransportError):  # the process at the other end was killed
            answer = server.http.get("/api/tables/seen/rows", params={"limit": 1000})
            break
    return [row["scheduled_for"] for row in answer.json()["rows"]] if answer.status_code == 200 else []


def gaps(times: list[str]) -> set[float]:
    """The seconds between one due time and the next."""
    moments = [datetime.fromisoformat(one).timestamp() for one in times]
    return {after - before for before, after in pairwise(moments)}


def leader(server: Server) -> int:
    """The process that keeps time: the one that listens to the bell."""
    for pid in [server.process.pid, *family(server.process.pid)]:
        try:
            opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if str(server.data / ".clock-bell") in opened:
            return pid
    return 0


def kill_leader(server: Server) -> None:
    """Kill the process that keeps time, and wait for two runs by another."""
    killed = until(lambda: leader(server), "a leader")
    before = len(dues(server))
    os.kill(killed, signal.SIGKILL)
    until(lambda: not alive(killed), "the end of the leader")
    until(lambda: len(dues(server)) >= before + 2, "runs by the next leader")


def test_a_schedule_starts_runs_and_its_leader_may_be_killed_at_any_time(data: Path) -> None:
    with Server(data, "--workers", "3", sync="full") as server:
        server.save(ticking())
        until(lambda: len(dues(server)) >= 2, "two runs")
        for _ in range(2):
            kill_leader(server)
        times = dues(server)
    assert len(times) == len(set(times))
    assert max(gaps(sorted(times))) <= 5, times  # runs whose process was killed in the middle may have stored nothing


def test_what_was_due_while_the_server_was_down_is_told_and_not_run_twice(data: Path) -> None:
    with Server(data) as server:
        server.save(ticking(schedule="*/2 * * * * *", grace=1))
        until(lambda: len(dues(server)) >= 1, "a run")
        server.kill()
    time.sleep(6.5)
    with Server(data) as server:
        count = len(dues(server))
        until(lambda: len(dues(server)) > count, "a run after the start")
        [shown] = server.http.get("/api/schedules").json()["schedules"]
        assert shown["missed"] >= 2
        assert shown["last_status"] == "succeeded"
        assert "nobody started a run" in server.err
        times = dues(server)
    assert len(times) == len(set(times))


def test_people_see_what_is_due_next_by_the_api_and_on_a_screen(data: Path) -> None:
    with Server(data) as server:
        server.save(ticking("report", "0 9 * * MON-FRI", timezone="Europe/Berlin"))
        server.save(ticking("off", "@hourly", enabled=False))
        answer = server.http.get("/api/schedules").json()
        [shown] = answer["schedules"]
        assert answer["next"] is None
        assert shown["sentence"] == "at 09:00 on Monday to Friday, Europe/Berlin"
        assert [one["local"][11:19] for one in shown["next"]] == ["09:00:00"] * 5
        assert shown["last_run"] is None
        assert (shown["kept"], shown["overdue"], shown["missed"]) == (True, False, 0)
        assert server.http.get("/p/nowhere/api/schedules").status_code == 404
    command = [sys.executable, "-m", "mechaway_core.cli", "schedules", "--data-dir", str(data)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment({})).stdout
    assert "report · clock\n  at 09:00 on Monday to Friday, Europe/Berlin  (0 9 * * MON-FRI)" in said
    assert said.count("  next  ") == 5
    listed = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=environment({})).stdout)
    assert [one["workflow_id"] for one in listed] == ["report"]


def test_times_that_are_past_are_run_when_asked_and_once(data: Path) -> None:
    with Server(data) as server:
        server.save(ticking("hourly", "@hourly"))
        today = datetime.now().astimezone().strftime("%Y-%m-%d")
        span = {"from": f"{today}T00:00:00Z", "to": f"{today}T00:00:01Z"}
        place = "/api/workflows/hourly/backfill"
        looked = server.http.post(place, json=span)
        assert (looked.status_code, looked.json()["count"], looked.json()["started"]) == (200, 1, 0)
        assert dues(server) == []
        done = server.http.post(place, json=span | {"dry_run": False})
        assert (done.status_code, done.json()["started"]) == (202, 1)
        until(lambda: dues(server) == [f"{today}T00:00:00.000Z"], "the run")
        again = server.http.post(place, json=span | {"dry_run": False}).json()
        assert (again["ran_before"], again["started"]) == (1, 0)
        problem(server.http.post(place, json={"from": f"{today}T00:00:00Z", "to": "2999-01-01"}), 422)
        problem(server.http.post(place, json={"from": "2020-01-01", "to": "2026-01-01"}), 422)
        problem(server.http.post(place, json={"from": 5, "to": None}), 422)
        problem(server.http.post(place, json=span | {"node": "nobody"}), 422)
        problem(server.http.post(place, json=span | {"dry_run": "yes"}), 422)
        problem(server.http.post("/api/workflows/nothing/backfill", json=span), 404)


def test_a_server_that_is_told_to_stop_lets_a_scheduled_run_end(data: Path) -> None:
    busy = {"id": "work", "node_type": "FunLogic", "params": {"script": "local e = os.clock() + 1 while os.clock() < e do end return data"}}
    clock = {"id": "clock", "node_type": "CronTrigger", "params": {"schedule": "* * * * * *", "overlap": "skip"}}
    with Server(data) as server:
        server.save(chain("slow", clock, busy, SAVE))
        until(lambda: server.http.get("/api/schedules").json()["schedules"][0]["skipped"] >= 1, "a run that takes its time")
        server.signal(signal.SIGTERM)
        server.process.wait()
        assert "cancelled" not in server.err
    with Server(data) as server:
        assert len(dues(server)) >= 1
