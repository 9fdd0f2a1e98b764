"""Runs that take long are on record while they go on."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mechaway_core.errors import Conflict
from mechaway_core.runs.replay import Wish
from tests.unit.runs.home import ACT, GATE, PATIENCE, Gate, Home, by_hand, going, listed, on_record, statuses


def test_a_run_that_takes_long_is_on_record_while_it_goes_on(home: Home) -> None:
    app, other = home.app(), home.app("b")
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        app.runs.look_after()
        home.settled()
        assert listed(app) == [], "it does not take long yet"
        run_id = on_record(home, app)
        assert statuses(app.history.get("default", run_id)) == {"go": "succeeded", "gate": "running"}
        elsewhere = other.history.get("default", run_id)
        assert (elsewhere["status"], elsewhere["input"], elsewhere["nodes"]) == ("running", [{}], [])
        with pytest.raises(Conflict, match="goes on"):
            app.history.replay("default", run_id, Wish())
        Gate.open.set()
        run = future.result()
    assert run.info.id == run_id
    assert [one["status"] for one in listed(other)] == ["succeeded"]
    assert statuses(other.history.get("default", run_id)) == {"go": "succeeded", "gate": "succeeded", "act": "succeeded"}
    assert home.records["a"].abandoned("default", "a", 9e9) == []


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_a_long_run_that_is_not_to_be_kept_leaves_nothing(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, record=policy))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        home.time.seconds += 2
        app.runs.look_after()
        home.settled()
        assert len(listed(app)) == (policy == "errors")
        Gate.open.set()
        future.result()
    assert listed(app) == []


@pytest.mark.parametrize("policy", ["all", "errors"])
def test_a_run_that_ends_as_it_is_put_on_record_for_taking_long_has_ended(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, record=policy))
    home.time.hurry = True
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            app.runs.look_after()

    with ThreadPoolExecutor(5) as pool:
        looking = pool.submit(look)
        ids = [one.info.id for one in pool.map(lambda _number: app.start("default", "w"), range(200))]
        over.set()
        looking.result()
    home.settled()
    lines = listed(app, limit=1000)
    assert {one["status"] for one in lines} <= {"succeeded"}
    assert {one["run_id"] for one in lines} == (set(ids) if policy == "all" else set())
    assert home.records["a"].abandoned("default", "a", 9e12) == []


def test_what_is_to_stay_hidden_is_hidden_while_a_run_goes_on(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, redact=["card"]))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(app.start, "default", "w", items=[{"card": "c4nary"}])
        assert Gate.came.acquire(timeout=PATIENCE)
        run_id = on_record(home, app)
        assert "c4nary" not in json.dumps([app.history.get("default", run_id), home.app("b").history.get("default", run_id)])
        Gate.open.set()
        future.result()
    assert "c4nary" not in json.dumps(app.history.get("default", run_id))
