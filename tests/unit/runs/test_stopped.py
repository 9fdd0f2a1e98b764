"""Runs that somebody asks to stop, in whatever process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mechaway_core.errors import Conflict, NotFound
from mechaway_core.runs import runs
from mechaway_core.runs.replay import Wish
from tests.unit.runs.home import ACT, GATE, Act, Gate, Home, accept, accepting, by_hand, going, heard, listener, on_record


def test_a_run_is_stopped_by_the_app_that_it_goes_on_in(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        app.history.cancel("default", run_id)
        Gate.open.set()
        assert future.result().status == "cancelled"
    assert app.history.get("default", run_id)["status"] == "cancelled"
    assert Act.done == []
    with pytest.raises(Conflict, match=r"is over already \(cancelled\)"):
        app.history.cancel("default", run_id)


def test_a_run_is_stopped_by_any_other_app(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        home.app("b").history.cancel("default", run_id)
        app.runs.look_after()
        Gate.open.set()
        assert future.result().status == "cancelled"
    with pytest.raises(Conflict):
        home.app("b").history.cancel("default", run_id)


@pytest.mark.parametrize("held", [0, 1000])
@pytest.mark.parametrize("by", ["a", "b"])
def test_a_run_that_has_not_begun_is_stopped_before_its_first_node(home: Home, by: str, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HELD", held)  # whether it waits in memory, or only on record
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    home.app(by).history.cancel("default", run_id)
    app.runs.look_after()
    home.work()
    assert home.app("b").history.get("default", run_id)["status"] == "cancelled"
    assert Act.done == []


def test_a_run_that_was_to_stop_when_its_process_ended_is_not_begun_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    app.put("default", listener(events=["cancelled"]))
    run_id = accept(app)
    app.history.cancel("default", run_id)
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    record = other.history.get("default", run_id)
    assert (record["status"], record["error"]["type"], record["input"]) == ("cancelled", "cancelled", [{"n": 1}])
    assert Act.done == []
    assert [event["event"] for event in heard(home, "b")] == ["cancelled"]


def test_a_run_that_is_not_there_cannot_be_stopped(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT))
    app.create_project("other")
    run = app.start("default", "w")
    for project, run_id in (("default", "nope"), ("other", run.info.id), ("default", "\0"), ("nowhere", run.info.id)):
        with pytest.raises(NotFound):
            app.history.cancel(project, run_id)
        with pytest.raises(NotFound):
            app.history.get(project, run_id)
        with pytest.raises(NotFound):
            app.history.replay(project, run_id, Wish("start"))
