"""Due times for which no run began are noticed, counted, and caught up by the rule."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.clock import SystemClock
from mechaway_core.errors import Unavailable
from mechaway_core.handover import Claim
from mechaway_core.late import LateRuns
from mechaway_core.ports import RunQuery
from mechaway_core.record import iso
from mechaway_core.watchdog import SLACK, Watchdog
from tests.clockwork import clockwork

HOUR = 3600.0


class Later(SystemClock):
    """A clock that is ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def started() -> list[str]:
    return []


@pytest.fixture
def heard() -> list[Any]:
    """What those hear who listen."""
    return []


@pytest.fixture
def watchdog(app: App, clock: Later, started: list[str], heard: list[Any]) -> Watchdog:
    def start(_project: str, _workflow: str, _node: str, items: list[Any]) -> None:
        started.append(items[0]["scheduled_for"])

    return Watchdog(app.timetable, app.fires, clock, LateRuns(app.handover, clock, start), lambda *missed: heard.append(missed))


def hourly(**params: Any) -> dict[str, Any]:
    document = clockwork("wf", ("tick", "0 * * * *"))
    document["nodes"][0]["params"].update(params)
    return document


def hours_after(moment: float, count: int) -> list[str]:
    first = moment // HOUR * HOUR + HOUR
    return [iso(first + number * HOUR) for number in range(count)]


@pytest.mark.parametrize(("catch_up", "again"), [("skip", slice(0, 0)), ("last", slice(-1, None)), ("all", slice(0, None))])
def test_what_nobody_started_is_told_once_and_caught_up_by_the_rule(
    app: App,
    clock: Later,
    watchdog: Watchdog,
    started: list[str],
    heard: list[Any],
    caplog: pytest.LogCaptureFixture,
    catch_up: str,
    again: slice,
) -> None:
    app.create("default", hourly(catch_up=catch_up))
    saved = clock.now()
    assert watchdog.look("default") == []
    clock.ahead = saved // HOUR * HOUR + 3 * HOUR + 60 + SLACK + 1 - saved
    due = hours_after(saved, 3)
    with caplog.at_level(logging.ERROR):
        [missed] = watchdog.look("default")
    assert [iso(one) for one in missed.due] == due
    assert started == due[again]
    assert missed.caught_up == len(started)
    assert app.fires.get("default", "wf", "tick").missed == 3 - len(started)
    assert "nobody started a run" in caplog.text
    assert watchdog.look("default") == []
    assert started == due[again]
    told = [("default", "wf", "tick", missed.due[-1], 3 - len(started))] if len(started) < 3 else []
    assert [one[:5] for one in heard] == told
    assert all("nobody started a run" in one[5] for one in heard)


def test_a_workflow_with_an_error_trigger_hears_of_what_was_missed(app: App, clock: Later) -> None:
    app.create("default", hourly())
    app.create("default", {"id": "ear", "nodes": [{"id": "hear", "node_type": "ErrorTrigger", "params": {}}], "edges": []})
    saved = clock.now()
    clock.ahead = saved // HOUR * HOUR + 2 * HOUR + 60 + SLACK + 1 - saved
    late = LateRuns(app.handover, clock, lambda *_: None)
    Watchdog(app.timetable, app.fires, clock, late, app.runs.missed).look("default")
    [line] = app.runs.records.find("default", RunQuery(workflow_id="ear")).lines
    record = app.history.get("default", line.id)
    [item] = record["nodes"][0]["input"] if record["nodes"] else record["input"]
    assert (item["event"], item["workflow_id"], item["node"], item["missed"]) == ("missed", "wf", "tick", 2)
    assert "nobody started a run" in item["error"]["message"]


def test_what_was_begun_or_is_only_late_is_not_missed(app: App, clock: Later, watchdog: Watchdog) -> None:
    app.create("default", hourly())
    saved = clock.now()
    first = saved // HOUR * HOUR + HOUR
    clock.ahead = first + 60 + SLACK - 5 - saved
    assert watchdog.look("default") == []
    claim = app.handover.claim("default", first, ("schedule", "wf", "tick"), "who keeps time")
    assert isinstance(claim, Claim)
    clock.ahead += 60
    assert watchdog.look("default") == []


def test_a_schedule_is_not_missed_before_it_was_saved(app: App, clock: Later, watchdog: Watchdog) -> None:
    app.create("default", hourly())
    clock.ahead = SLACK + 61
    assert len(watchdog.look("default")) <= 1  # the hour may have turned since


def test_a_run_that_cannot_be_started_is_left_to_the_next_look(app: App, clock: Later, watchdog: Watchdog, started: list[str]) -> None:
    def start(*_: Any) -> None:
        raise Unavailable("told to fail")

    app.create("default", hourly(catch_up="all"))
    saved = clock.now()
    clock.ahead = 2 * HOUR + SLACK
    with pytest.raises(Unavailable):
        Watchdog(app.timetable, app.fires, clock, LateRuns(app.handover, clock, start), app.runs.missed).look("default")
    assert app.fires.get("default", "wf", "tick").missed == 0
    [missed] = watchdog.look("default")
    assert started == hours_after(saved, len(missed.due))
