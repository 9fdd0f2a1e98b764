"""Accepted runs in the stack: they are on record before the caller hears of them, and begun until they are over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mechaway_core.aws.projects import S3Projects
from mechaway_core.aws.records import S3Records
from mechaway_core.aws.s3 import S3, place_of
from mechaway_core.aws.signing import Keys
from mechaway_core.aws.store import S3Store
from mechaway_core.leases import Leases
from mechaway_core.ports import RunLine, RunRecord
from mechaway_core.record import new_run_id
from mechaway_core.runs.runs import MOST_ATTEMPTS
from tests.cloud.emulator import REGION, WORD
from tests.cloud.runner import Letters, ask, kill, send
from tests.cloud.stack import Cloud, Stack
from tests.journeys.server import chain, hook, lua, until

SAVE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "accepted", "columns": ["who"]}}
NOTE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "heard", "columns": ["event", "run"]}}
FOREVER = "while true do end"
HOURS = 3 * 3600.0
PATIENCE = 60.0


@pytest.fixture(scope="module")
def caller(server: Cloud) -> Cloud:
    """Workflows that accept calls, one that takes for ever, and one that hears of what was lost."""
    server.save(chain("noter", hook(mode="accept"), lua("say", "return {who = item.who}"), SAVE))
    server.save(chain("slow", hook(mode="accept"), {**lua("say", FOREVER), "params": {"script": FOREVER, "timeout": 60}}, SAVE))
    server.save(chain("bad", hook(), lua("say", "if item.who == 'bad' then error('no luck') end return item"), SAVE))
    hears = {"id": "hears", "node_type": "ErrorTrigger", "params": {"events": ["lost"]}}
    server.save(chain("ear", hears, lua("say", "return {event = item.event, run = item.run_id}"), NOTE))
    return server


class Bucket:
    """The stack's bucket, through our own adapters: for what a function that was cut off leaves there."""

    def __init__(self, stack: Stack) -> None:
        self.s3 = S3(place_of(stack.bucket, REGION, stack.emulator.url), lambda: Keys(WORD, WORD))
        projects = S3Projects(self.s3)
        self.records = S3Records(self.s3, projects)
        self.leases = Leases(S3Store(self.s3, projects))

    def leave_open(self, workflow_id: str, who: str) -> dict[str, Any]:
        """A run that was accepted hours ago and whose event got lost; what that event would have been."""
        began = time.time() - HOURS
        line = RunLine(new_run_id(began), workflow_id, 1, "queued", "webhook", "hook", began)
        self.records.write("default", [RunRecord(line, orjson.dumps({"start": [{"who": who}], "nodes": [], "promised": True}))])
        return {"kind": "run", "project": "default", "run_id": line.id, "workflow": workflow_id}

    def let_time_pass(self, run_id: str) -> None:
        """Until nobody can be at a run any more."""
        held = self.leases.find("default", run_id)
        assert held is not None
        assert self.leases.take_over(held, held.holder, 0.0) is not None


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Iterator[Bucket]:
    made = Bucket(stack)
    yield made
    made.s3.close()


def record(caller: Cloud, run_id: str) -> dict[str, Any]:
    answer = caller.http.get(f"/api/runs/{run_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def over(caller: Cloud, run_id: str) -> dict[str, Any]:
    """The record of a run, once it is over."""

    def found() -> dict[str, Any] | None:
        now = record(caller, run_id)
        return now if now["ended_at"] is not None else None

    return until(found, f"the end of run {run_id}", PATIENCE)


def rows(caller: Cloud, table: str, column: str, value: str) -> int:
    answer = caller.http.get(f"/api/tables/{table}/rows", params={"limit": 1000})
    return 0 if answer.status_code == 404 else sum(row[column] == value for row in answer.json()["rows"])


def test_a_call_is_answered_when_its_run_is_on_record_and_the_runner_runs_it(caller: Cloud) -> None:
    answer = caller.http.post("/webhook/noter", json={"who": "one"})
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"/api/runs/{run_id}"
    found = over(caller, run_id)
    assert (found["status"], found["trigger"], found["workflow_id"]) == ("succeeded", "webhook", "noter")
    assert rows(caller, "accepted", "who", "one") == 1
    listed = caller.http.get("/api/runs", params={"workflow": "noter", "status": "succeeded"}).json()["runs"]
    assert run_id in [one["run_id"] for one in listed]


def test_the_same_idempotency_key_gives_the_first_run(caller: Cloud) -> None:
    answers = [caller.http.post("/webhook/noter", json={"who": "twice"}, headers={"Idempotency-Key": "twice"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    first, second = (answer.json()["run_id"] for answer in answers)
    assert first == second
    over(caller, first)
    assert rows(caller, "accepted", "who", "twice") == 1


def test_a_run_that_somebody_waits_for_is_on_record_and_can_be_run_again(caller: Cloud) -> None:
    caller.http.post("/webhook/bad", json={"who": "bad"})
    [failed] = caller.http.get("/api/runs", params={"workflow": "bad", "status": "failed", "text": "NO luck"}).json()["runs"]
    answer = caller.http.post(f"/api/runs/{failed['run_id']}/replay", json={"from": "start", "items": [{"who": "again"}]})
    assert answer.status_code == 202, answer.text
    again = over(caller, answer.json()["run_id"])
    assert (again["status"], again["trigger"], again["parent"]) == ("succeeded", "replay", failed["run_id"])
    assert rows(caller, "accepted", "who", "again") == 1


def test_a_run_of_a_workflow_that_says_how_long_to_keep_it_is_tagged_for_the_bucket(caller: Cloud, stack: Stack) -> None:
    caller.save(chain("kept", hook(), settings={"keep_days": 5}))
    run_id = caller.http.post("/webhook/kept", json={}).headers["mechaway-run-id"]
    assert record(caller, run_id)["status"] == "succeeded"
    s3 = stack.emulator.client("s3")
    [found] = s3.list_objects_v2(Bucket=stack.bucket, Prefix="kept/")["Contents"]
    assert s3.get_object_tagging(Bucket=stack.bucket, Key=found["Key"])["TagSet"] == [{"Key": "days", "Value": "7"}]


def test_a_run_whose_event_got_lost_is_found_by_the_look_every_15_minutes(caller: Cloud, stack: Stack, bucket: Bucket) -> None:
    event = bucket.leave_open("noter", "lost event")
    assert record(caller, event["run_id"])["status"] == "queued"
    assert ask(stack, {"kind": "watch"})["taken_over"] == 1
    assert over(caller, event["run_id"])["status"] == "succeeded"
    assert rows(caller, "accepted", "who", "lost event") == 1
    assert ask(stack, {"kind": "watch"})["taken_over"] == 0


def test_an_accepted_run_can_be_cancelled_while_it_goes_on(caller: Cloud, bucket: Bucket) -> None:
    run_id = caller.http.post("/webhook/slow", json={"who": "cancelled"}).json()["run_id"]
    until(lambda: bucket.leases.find("default", run_id), "the runner to begin", PATIENCE)
    assert caller.http.post(f"/api/runs/{run_id}/cancel").status_code == 202
    assert over(caller, run_id)["status"] == "cancelled"
    assert rows(caller, "accepted", "who", "cancelled") == 0
    assert caller.http.post(f"/api/runs/{run_id}/cancel").status_code == 409


def test_a_run_that_ends_its_function_again_and_again_is_lost_and_its_event_is_a_dead_letter(
    caller: Cloud, stack: Stack, bucket: Bucket, letters: Letters
) -> None:
    event = bucket.leave_open("slow", "deadly")
    run_id = event["run_id"]
    send(stack, event)
    for attempt in range(1, MOST_ATTEMPTS + 1):

        def is_at_it(attempt: int = attempt) -> bool:
            return bucket.leases.find("default", run_id) is not None and record(caller, run_id).get("attempt", 1) == attempt

        until(is_at_it, f"attempt {attempt}", PATIENCE)
        time.sleep(1)  # so that it is in the middle of the script, and not before: either way it counts
        assert kill(stack) > 0
    assert until(letters.take, "the dead letter", PATIENCE) == event
    assert record(caller, run_id)["status"] == "queued"
    bucket.let_time_pass(run_id)
    assert ask(stack, {"kind": "watch"})["taken_over"] == 1
    lost = over(caller, run_id)
    assert (lost["status"], lost["error"]["type"], lost["attempt"]) == ("failed", "lost", MOST_ATTEMPTS)
    until(lambda: rows(caller, "heard", "run", run_id) == 1, "the workflow that hears of it", PATIENCE)
    assert rows(caller, "accepted", "who", "deadly") == 0
