"""What nobody waits for: runs that were handed over, rules that fire, and what becomes of events that cannot be done."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import pytest

from mechaway_core.aws.schedules import Place, RuleSchedules
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings
from tests.cloud.clockwork import PATIENCE, clock, fires, soon
from tests.cloud.runner import Letters, ask, send
from tests.cloud.stack import Cloud, Stack
from tests.journeys.server import chain, hook, lua, until

WRITER = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "notes", "columns": ["who"]}}


@pytest.fixture(scope="module")
def noter(server: Cloud) -> Cloud:
    """A workflow that writes down who started it."""
    server.save(chain("noter", hook(), lua("say", "return {who = item.who}"), WRITER))
    return server


def notes(server: Cloud, who: str) -> int:
    answer = server.http.get("/api/tables/notes/rows", params={"limit": 1000})
    return 0 if answer.status_code == 404 else sum(row["who"] == who for row in answer.json()["rows"])


def handed_over(who: str) -> dict[str, Any]:
    """The event of a run that somebody asked for and does not wait for."""
    about = {"kind": "run", "id": uuid4().hex, "asked_at": time.time(), "project": "default", "workflow": "noter", "node": "hook"}
    return {**about, "items": [{"who": who}]}


def rules(stack: Stack, workflow_id: str) -> list[str]:
    """The names of the rules that are there for a workflow."""
    pages = stack.emulator.client("events").get_paginator("list_rules").paginate()
    found = [rule for page in pages for rule in page["Rules"]]
    return [rule["Name"] for rule in found if f'"{workflow_id}"' in rule.get("Description", "")]


def leave_a_rule(stack: Stack, workflow_id: str) -> None:
    """A rule as a deploy or a delete leaves it behind when it is cut off in the middle."""
    settings = Settings(runner_function=stack.arn("RunnerFunction"))
    schedules = RuleSchedules(lambda: stack.emulator.client("events"), Place.of(settings))
    schedules.put("default", Schedule(workflow_id, "clock", "* * * * *"))
    assert len(rules(stack, workflow_id)) == 1


def test_a_run_that_was_handed_over_is_made(noter: Cloud, stack: Stack) -> None:
    send(stack, handed_over("handed over"))
    until(lambda: notes(noter, "handed over") == 1, "the row of the run that was handed over")


def test_an_event_that_is_delivered_twice_runs_once(noter: Cloud, stack: Stack) -> None:
    event = handed_over("twice")
    assert ask(stack, event)["status"] == "succeeded"
    assert ask(stack, event)["status"] == "delivered before"
    assert notes(noter, "twice") == 1


def test_a_rule_fires_and_the_runner_removes_it_when_no_workflow_asks_for_it(server: Cloud, stack: Stack) -> None:
    leave_a_rule(stack, "deleted-meanwhile")
    until(lambda: rules(stack, "deleted-meanwhile") == [], "the rule to fire, which it does after 67 s, and to go", patience=150)
    until(lambda: "was due, and there is nothing that asks for it" in server.err, "the line in the log, which follows its function")


def test_saved_schedules_start_each_due_time_once_and_nothing_when_they_are_gone(server: Cloud, stack: Stack) -> None:
    server.save(clock("minutely", "*/1 * * * *"))
    server.save(clock("thirds", "*/20 * * * * *", "Europe/Berlin"))
    server.save(clock("zoned", soon("Asia/Kolkata"), "Asia/Kolkata"))
    server.save(clock("never", soon("Asia/Kolkata")))  # the same in UTC is hours from now
    until(lambda: len(fires(server, "minutely")) > 1, "two runs of a rule of each minute", PATIENCE)
    until(lambda: len(fires(server, "thirds")) > 5, "six runs of a rule with seconds", PATIENCE)
    until(lambda: len(fires(server, "zoned")) > 1, "two runs of a rule in a zone", PATIENCE)
    for workflow_id in ("minutely", "thirds", "zoned", "never"):
        server.http.delete(f"/api/workflows/{workflow_id}").raise_for_status()
        assert rules(stack, workflow_id) == []
    time.sleep(90)  # what was under way may end; then a whole minute
    assert fires(server, "never") == []
    for workflow_id, seconds in (("minutely", {0}), ("thirds", {0, 20, 40}), ("zoned", {0})):
        due = fires(server, workflow_id)
        assert len(set(due)) == len(due)
        assert {one.second for one in due} == seconds
        assert due[-1].timestamp() < time.time() - 60


def test_the_daily_look_removes_what_no_workflow_asks_for(stack: Stack) -> None:
    leave_a_rule(stack, "left-behind")
    ask(stack, {"kind": "reconcile"})
    assert rules(stack, "left-behind") == []


def test_an_event_that_nobody_understands_ends_in_the_dead_letter_queue(server: Cloud, stack: Stack, letters: Letters) -> None:
    event = {"kind": "surprise", "about": "not for the log"}
    send(stack, event)
    assert until(letters.take, "the dead letter") == event
    assert "an event came that means nothing here" in server.err
    assert "not for the log" not in server.err


def test_the_api_function_refuses_an_event_of_another_shape(stack: Stack) -> None:
    answer = stack.emulator.client("lambda").invoke(FunctionName=stack.physical("ApiFunction"), Payload=b'{"kind": "surprise"}')
    assert "payload format 2.0" in json.loads(answer["Payload"].read())["errorMessage"]
