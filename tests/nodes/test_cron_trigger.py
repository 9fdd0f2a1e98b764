"""CronTrigger: what it gives, and what cannot be saved."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Invalid
from mechaway_core.ports import Schedule
from tests.nodes.bench import Bench, node


def trigger(**params: Any) -> dict[str, Any]:
    return node("CronTrigger", id="tick", **params)


def test_it_gives_the_time_that_was_due_and_the_time_it_started(bench: Bench) -> None:
    workflow = bench.put(node("FunLogic", script="data"), hook=trigger(schedule="0 9 * * *", timezone="Europe/Berlin"))
    run = bench.app.start_scheduled(bench.project, Schedule(workflow, "tick", "0 9 * * *", "Europe/Berlin"), 1_795_593_600)
    assert run.failure is None
    [item] = run.output
    assert item["trigger_type"] == "cron"
    assert item["scheduled_for"] == "2026-11-25T08:00:00.000Z"
    assert item["timestamp"] >= item["scheduled_for"]
    assert (item["workflow_id"], item["project_slug"]) == (workflow, bench.project)
    assert run.info.trigger == "cron"


BAD = [
    ({"schedule": "60 * * * *"}, "schedule", "minute must be within 0 and 59, not 60"),
    ({"schedule": "*/0 * * * *"}, "schedule", 'the step in "\\*/0"'),
    ({"schedule": "* * * * * * *  *"}, "schedule", "it has 8 fields"),
    ({"schedule": "0 0 30 2 *"}, "schedule", "no day that there ever is"),
    ({"schedule": "0 0 0 1 1 ? 2020"}, "schedule", "it never fires again"),
    ({"schedule": "0 9 * * *", "ends_at": "2020-01-01T00:00:00Z"}, "schedule", "it never fires again"),
    ({"schedule": "0 9 * * *", "starts_at": "2031-01-02", "ends_at": "2031-01-01"}, "schedule", "it never fires again"),
    ({"schedule": "0 9 * * *", "timezone": "Europe/Berln"}, "timezone", 'did you mean "Europe/Berlin"'),
    ({"schedule": "0 9 * * *", "starts_at": "tomorrow"}, "starts_at", '"tomorrow" is no time'),
    ({"schedule": "0 9 * * *", "grace": 0}, "grace", "must be at least 1, not 0"),
    ({"schedule": "0 9 * * *", "catch_up": "some"}, "catch_up", 'one of "skip", "last" or "all", not "some"'),
    ({"schedule": "0 9 * * *", "overlap": "wait"}, "overlap", 'or "cancel_previous", not "wait"'),
    ({"schedule": 5}, "schedule", "must be a text, not 5"),
    ({}, "schedule", "schedule is missing"),
]


@pytest.mark.parametrize(("params", "field", "why"), BAD)
def test_what_cannot_be_kept_is_refused_with_the_field_and_the_reason(bench: Bench, params: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        bench.put(hook=trigger(**params))
    [problem] = refused.value.problems
    assert problem.pointer == f"/nodes/0/params/{field}"
    assert problem.node == "tick"
    with pytest.raises(Invalid, match=why):
        bench.put(hook=trigger(**params))


@pytest.mark.parametrize(
    "schedule", ["@hourly", "*/5 * * * *", "0 */3 * * * *", "0 0 9 ? * MON-FRI 2026-2199", "0 9 LW * *", "* * * * * *"]
)
def test_all_forms_of_expressions_can_be_saved(bench: Bench, schedule: str) -> None:
    workflow = bench.put(hook=trigger(schedule=schedule))
    [one], _ = bench.app.schedules(bench.project)
    assert (one["workflow_id"], one["schedule"]) == (workflow, schedule)


def test_one_that_is_not_enabled_is_kept_by_nobody(bench: Bench) -> None:
    bench.put(hook=trigger(schedule="@hourly", enabled=False))
    assert bench.app.schedules(bench.project) == ([], None)
    assert bench.app.timetable.kept(bench.project) == []
