"""Runs of one schedule that meet in AWS, in functions that know nothing of each other; and the look for what had no run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.aws.runner import dispatch
from mechaway_core.errors import Unavailable
from mechaway_core.node import Context as NodeContext
from mechaway_core.node import Items, Node
from mechaway_core.record import Run
from mechaway_core.turns import Turn
from tests.house.tree import ROOT
from tests.unit.test_aws_wakeups import Context, Time, app, clock, flow, moment, runs, wake

__all__ = ["app", "clock"]  # fixtures of that file

MINUTE = "2026-07-01T07:00:00Z"
PATIENCE = 30.0
WATCH = json.loads((ROOT / "events" / "watch.json").read_text())


def ask_with(app: App, **params: Any) -> None:
    document = flow("0 9 * * *")
    document["nodes"][0]["params"].update(params)
    app.update("default", "wf", document)


def taken(app: App, seconds: float = 600) -> Turn:
    """The turn of a run that goes on elsewhere."""
    turn = app.turns.take("default", "wf", "tick", seconds)
    assert turn is not None
    return turn


def test_a_time_that_meets_an_earlier_run_is_skipped_and_counted(app: App) -> None:
    ask_with(app, overlap="skip")
    turn = taken(app)
    assert wake(app, MINUTE) == {"status": "skipped"}
    assert (runs(app), app.fires.get("default", "wf", "tick").skipped) == ([], 1)
    assert wake(app, MINUTE)["status"] == "delivered before"
    app.turns.give_back(turn)


def test_a_time_that_is_queued_runs_when_the_run_before_has_ended(app: App, clock: Time) -> None:
    ask_with(app, overlap="queue")
    turn = taken(app)

    def end_in_a_while() -> None:
        if len(clock.waits) == 3:
            app.turns.give_back(turn)

    clock.meanwhile = end_in_a_while
    assert wake(app, MINUTE)["status"] == "succeeded"
    assert runs(app) == ["07:00:00.000"]
    assert len(clock.waits) == 3
    assert app.turns.take("default", "wf", "tick", 1) is not None, "the run gave its turn back"


def test_who_waits_too_long_is_sent_again_and_then_runs(app: App, clock: Time) -> None:
    ask_with(app, overlap="queue")
    turn = taken(app)
    context = Context(seconds=20)
    with pytest.raises(Unavailable, match="its run before still goes on"):
        wake(app, MINUTE, context)
    assert len(clock.waits) >= 5
    app.turns.give_back(turn)
    assert wake(app, MINUTE, Context(context.aws_request_id))["status"] == "succeeded"


def test_a_run_that_was_cut_off_holds_its_turn_no_longer_than_its_time(app: App, clock: Time) -> None:
    ask_with(app, overlap="skip")
    taken(app, seconds=30)
    clock.seconds += 31
    assert wake(app, MINUTE)["status"] == "succeeded"


class Held(Node):
    """Holds items until the test lets them go."""

    came: ClassVar[threading.Event] = threading.Event()
    go: ClassVar[threading.Event] = threading.Event()

    def run(self, items: Items, ctx: NodeContext) -> Items:
        self.came.set()
        assert self.go.wait(PATIENCE)
        return items


def test_the_run_before_is_cancelled_before_its_next_node(
    app: App, clock: Time, monkeypatch: pytest.MonkeyPatch, add_node_type: Callable[[type[Node]], None]
) -> None:
    add_node_type(Held)
    for event in (Held.came, Held.go):
        event.clear()
    cancelled = threading.Event()
    cancel = Run.cancel

    def heard(run: Run) -> None:
        cancel(run)
        cancelled.set()

    monkeypatch.setattr(Run, "cancel", heard)
    document = flow("0,1 9 * * *")
    document["nodes"][0]["params"]["overlap"] = "cancel_previous"
    document["nodes"].insert(1, {"id": "hold", "node_type": "Held", "params": {}})
    document["edges"] = [{"from": "tick", "to": "hold"}, {"from": "hold", "to": "save"}]
    app.update("default", "wf", document)
    clock.meanwhile = lambda: time.sleep(0.01)  # who waits for a turn lets the others go on
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(wake, app, MINUTE)
        assert Held.came.wait(PATIENCE)
        second = pool.submit(wake, app, "2026-07-01T07:01:00Z")
        assert cancelled.wait(PATIENCE)
        Held.go.set()
        assert first.result()["status"] == "cancelled"
        assert second.result()["status"] == "succeeded"
    assert runs(app) == ["07:01:00.000"]


def test_a_start_is_put_off_by_chance_and_the_due_time_stays(app: App, clock: Time) -> None:
    ask_with(app, jitter=40)
    assert wake(app, MINUTE)["status"] == "succeeded"
    assert runs(app) == ["07:00:00.000"]
    [began] = runs(app, "timestamp")
    assert "07:00:02.300" <= began <= "07:00:40.000"
    clock.seconds = moment("2026-07-02T07:00:00Z")
    wake(app, "2026-07-02T07:00:00Z", Context(seconds=15))
    assert max(runs(app, "timestamp")) <= "07:00:40.000"
    assert sum(clock.waits[-1:]) <= 40


def test_what_a_run_came_to_is_known_to_who_asks(app: App) -> None:
    wake(app, MINUTE)
    [shown], _ = app.schedules("default")
    assert (shown["last_due"], shown["last_status"]) == ("2026-07-01T07:00:00.000Z", "succeeded")
    assert shown["lag_ms"] == pytest.approx(2300, abs=5)


def test_the_look_for_what_had_no_run_fails_when_there_is_some_and_once(app: App, clock: Time) -> None:
    assert dispatch(WATCH, Context(), app) == {"caught_up": 0, "taken_over": 0}
    clock.seconds = moment("2026-07-01T09:00:00Z")
    app.create("default", flow("0 * * * *") | {"id": "other"})
    clock.seconds = moment("2026-07-01T10:20:00Z")
    with pytest.raises(Unavailable, match="due 1 times"):
        dispatch(WATCH, Context(), app)
    assert dispatch(WATCH, Context(), app) == {"caught_up": 0, "taken_over": 0}
    assert app.fires.get("default", "other", "tick").missed == 1
