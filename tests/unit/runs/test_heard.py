"""Workflows that hear of failures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mechaway_core.errors import Conflict, Unavailable
from tests.unit.runs.home import (
    ACT,
    FAIL,
    GATE,
    Act,
    Gate,
    Home,
    by_hand,
    chain,
    going,
    heard,
    listed,
    listener,
    node,
    on_record,
    statuses,
)


def test_a_listener_gets_the_record_of_the_run_that_failed(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(ACT, FAIL))
    run = app.start("default", "w", items=[{"n": n} for n in range(50)])
    [event] = heard(home)
    assert (event["event"], event["run_id"], event["workflow_id"], event["status"]) == ("failed", run.info.id, "w", "failed")
    assert event["error"] == {"type": "error", "message": 'node "fail": no luck', "node": "fail"}
    assert statuses(event) == {"go": "succeeded", "act": "succeeded", "fail": "failed"}
    assert len(event["nodes"][0]["input"]) == 10, "it may be large"
    [line] = listed(app, workflow_id="alarm")
    assert (line["parent"], line["start_node"]) == (run.info.id, "hear")


def test_well_ended_runs_are_told_to_nobody(home: Home) -> None:
    app = home.app()
    app.put("default", listener(events=["failed", "timed_out", "lost", "missed", "cancelled"]))
    app.put("default", by_hand(ACT))
    app.start("default", "w")
    assert heard(home) == []


def failing(home: Home, event: str) -> str:
    """Have a run end in this way; the app that starts what hears of it."""
    app = home.app()
    if event == "failed":
        app.start("default", "w")
    elif event == "timed_out":
        app.start("default", "w", timeout=1e-9)
    elif event == "missed":
        app.runs.missed("default", "w", "go", 1_700_000_000.0, 3, "nobody kept the time")
    else:
        with ThreadPoolExecutor(1) as pool:
            future = going(app, pool, "gated")
            run_id = on_record(home, app)
            if event == "lost":
                home.app("b").runs.take_over("default", "a", 9e9)
            else:
                app.history.cancel("default", run_id)
            Gate.open.set()
            future.result()
    return "b" if event == "lost" else "a"


@pytest.mark.parametrize("event", ["failed", "timed_out", "lost", "missed", "cancelled"])
def test_a_listener_hears_of_the_events_it_chose(home: Home, event: str) -> None:
    app = home.app()
    others = [one for one in ("failed", "timed_out", "lost", "missed", "cancelled") if one != event]
    app.put("default", listener("by-default"))
    app.put("default", listener("chosen", events=[event]))
    app.put("default", listener("others", events=others))
    app.put("default", by_hand(FAIL))
    app.put("default", by_hand(GATE, ACT, workflow_id="gated"))
    teller = failing(home, event)
    told = {name: [one["event"] for one in heard(home, teller, workflow_id=name)] for name in ("by-default", "chosen", "others")}
    assert told == {"by-default": [] if event == "cancelled" else [event], "chosen": [event], "others": []}


def test_due_times_that_were_missed_are_told_as_such(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(ACT))
    for _ in range(2):  # two processes may find the same
        app.runs.missed("default", "w", "go", 1_700_000_000.0, 3, "nobody kept the time")
        assert len(heard(home)) == 1
    [event] = heard(home)
    assert event == {
        "event": "missed",
        "workflow_id": "w",
        "project": "default",
        "node": "go",
        "due": "2023-11-14T22:13:20.000Z",
        "missed": 3,
        "error": {"type": "missed", "message": "nobody kept the time"},
    }
    assert len(Act.done) == 1
    app.runs.missed("default", "w", "go", 1_700_000_060.0, 1, "nobody kept the time")
    assert len(heard(home)) == 2


def test_a_listener_hears_of_the_workflows_it_chose_and_of_those_that_chose_it(home: Home) -> None:
    app = home.app()
    app.put("default", listener("all"))
    app.put("default", listener("one", workflows=["first"]))
    app.put("default", listener("named", workflows=[]))
    app.put("default", by_hand(FAIL, workflow_id="first"))
    app.put("default", by_hand(FAIL, workflow_id="second", on_failure="named"))
    for workflow_id in ("first", "second"):
        home.time.seconds += 1
        app.start("default", workflow_id)
    told = {name: [one["workflow_id"] for one in heard(home, workflow_id=name)] for name in ("all", "one", "named")}
    assert told == {"all": ["first", "second"], "one": ["first"], "named": ["second"]}


def test_a_listener_hears_neither_of_itself_nor_of_runs_that_failures_started(home: Home) -> None:
    app = home.app()
    both = chain("both", node("go", "Begin"), node("fail", "Fail"))
    both["nodes"].append(node("hear", "ErrorTrigger"))
    both["edges"].append({"from": "hear", "to": "fail"})
    app.put("default", both | {"settings": {"on_failure": "both"}})
    app.put("default", listener())
    app.start("default", "both")
    assert [event["workflow_id"] for event in heard(home)] == ["both"]
    assert [one["trigger"] for one in listed(app, workflow_id="both")] == ["manual"]
    app.put("default", by_hand(FAIL, workflow_id="other"))
    home.time.seconds += 1
    app.start("default", "other")
    assert [event["workflow_id"] for event in heard(home)] == ["both", "other"]
    assert [one["trigger"] for one in listed(app, workflow_id="both")] == ["error", "manual"], "it failed, and nobody was told"


def notes(home: Home, project: str = "default") -> list[str]:
    """Which workflows are noted as listeners."""
    assert home.store is not None
    return [key.removeprefix("listeners/") for key in home.store.keys(project, "listeners/")]


def test_only_listeners_that_are_there_and_on_hear_of_anything(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(FAIL, on_failure="alarm"))
    deaf = listener()
    deaf["nodes"][0]["disabled"] = True
    changes: list[tuple[Callable[[], Any], bool]] = [
        (lambda: app.create("default", listener()), True),
        (lambda: app.update("default", "alarm", listener() | {"active": False}), False),
        (lambda: app.update("default", "alarm", listener()), True),
        (lambda: app.update("default", "alarm", deaf), False),
        (lambda: app.restore("default", "alarm", 1), True),
        (lambda: app.put("default", by_hand(ACT, workflow_id="alarm")), False),
        (lambda: app.put("default", listener()), True),
        (lambda: app.delete("default", "alarm"), False),
    ]
    for number, (change, hears) in enumerate(changes):
        change()
        assert notes(home) == (["alarm"] if hears else []), number
        before = len(listed(app, trigger="error"))
        home.time.seconds += 1
        app.start("default", "w")
        home.work()
        assert len(listed(app, trigger="error")) == before + hears, number


def test_a_save_that_fails_makes_nobody_deaf(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    with pytest.raises(Conflict):
        app.create("default", by_hand(ACT, workflow_id="alarm"))
    with pytest.raises(Conflict):
        app.update("default", "alarm", by_hand(ACT, workflow_id="alarm"), ['"stale"'])
    assert notes(home) == ["alarm"]


def test_every_listener_hears_of_it_once(home: Home) -> None:
    app = home.app()
    two = listener("two")
    two["nodes"].append(node("hear-too", "ErrorTrigger"))
    two["edges"].append({"from": "hear-too", "to": "act"})
    app.put("default", listener("one"))
    app.put("default", two)
    app.put("default", by_hand(FAIL))
    app.start("default", "w")
    home.work()
    assert sorted((one["workflow_id"], one["start_node"]) for one in listed(app, trigger="error")) == [
        ("one", "hear"), ("two", "hear"), ("two", "hear-too"),
    ]  # fmt: skip
    assert len(Act.done) == 3


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_whether_a_run_is_kept_does_not_matter_to_listeners(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL, record=policy))
    app.start("default", "w")
    assert len(heard(home)) == 1


def test_what_is_hidden_is_not_told(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL, redact=["card"]))
    app.start("default", "w", items=[{"card": "c4nary"}])
    assert "c4nary" not in json.dumps(heard(home))


def test_a_listener_is_heard_of_by_every_project_for_itself_and_moves_with_it(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL))
    file = io.BytesIO()
    app.export_project("default", file)
    file.seek(0)
    app.import_project(file, "moved")
    assert notes(home, "moved") == ["alarm"]
    app.start("moved", "w")
    assert [event["workflow_id"] for event in heard(home, project="moved")] == ["w"]
    assert heard(home) == []


def test_a_failure_and_what_it_starts_are_on_record_together_or_not_at_all(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL))
    home.records["a"].full = True
    with pytest.raises(Unavailable):
        app.start("default", "w")
    home.records["a"].full = False
    assert listed(app) == []
    assert heard(home) == []
