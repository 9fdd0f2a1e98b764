"""Runs of a process that is gone are taken over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from mechaway_core.node import RunInfo
from mechaway_core.runs import Later
from mechaway_core.runs.runs import MOST_ATTEMPTS
from mechaway_core.web.answers import serve
from tests.unit.runs.home import (
    ACT,
    FAIL,
    GATE,
    PATIENCE,
    Act,
    Gate,
    Home,
    accept,
    accepting,
    by_hand,
    call,
    going,
    heard,
    listener,
    on_record,
    run_id_in,
)


def test_an_accepted_run_is_begun_again_by_who_takes_over_so_often_and_not_more(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    app.put("default", listener())
    run_id = accept(app, {"n": 7})
    names = ["a", *(f"p{number}" for number in range(2, MOST_ATTEMPTS + 2))]
    for attempt, (before, name) in enumerate(pairwise(names), 2):
        other = home.app(name)
        assert other.runs.take_over("default", "nobody", 9e9) == 0
        assert other.runs.take_over("default", before, 9e9) == 1
        record = other.history.get("default", run_id)
        if attempt <= MOST_ATTEMPTS:
            assert (record["status"], record["attempt"], home.held[name].started) == ("queued", attempt, [("default", run_id)])
    assert (record["status"], record["error"]["type"]) == ("failed", "lost")
    assert record["error"]["message"] == f"its process ended {MOST_ATTEMPTS} times while the run went on; it is not begun again"
    assert record["input"] == [{"n": 7}]
    assert Act.done == []
    [event] = heard(home, names[-1])
    assert (event["event"], event["run_id"], event["input"]) == ("lost", run_id, [{"n": 7}])


def test_what_is_begun_again_is_the_same_run(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    answer = serve(app, "default", "w", call({"n": 7}, query=b"q=x"))
    assert isinstance(answer, Later)
    answer.pending.wait()
    run_id = run_id_in(answer.value)
    app.put("default", by_hand(FAIL) | {"active": False})  # neither matters: the version that was accepted runs
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    assert home.work("b") == [run_id]
    record = other.history.get("default", run_id)
    assert (record["status"], record["version"], record["attempt"], record["request"]["query"]) == ("succeeded", 1, 2, {"q": "x"})
    assert record["output"][0]["key"] == RunInfo(run_id, "w", "default", "", "").key("act", 0)


@pytest.mark.parametrize(("on_lost", "again"), [(None, False), ("fail", False), ("again", True)])
def test_a_run_that_nobody_was_promised_is_begun_again_only_where_its_workflow_says_so(
    home: Home, on_lost: str | None, again: bool
) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT, **({} if on_lost is None else {"on_lost": on_lost})))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        other = home.app("b")
        assert other.runs.take_over("default", "a", 9e9) == 1
        record = other.history.get("default", run_id)
        if again:
            assert (record["status"], record["attempt"]) == ("queued", 2)
        else:
            assert (record["status"], record["error"]["type"]) == ("failed", "lost")
            assert "its nodes may have acted" in record["error"]["message"]
        Gate.open.set()
        future.result()
    assert home.work("b") == ([run_id] if again else [])


def test_an_accepted_run_that_must_not_be_begun_twice_is_begun_once(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(GATE, ACT, on_lost="fail"))
    run_id = accept(app)
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1, "nothing of it has acted: it begins"
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(home.work, "b")
        assert Gate.came.acquire(timeout=PATIENCE)
        third = home.app("c")
        assert third.runs.take_over("default", "b", 9e9) == 1
        assert third.history.get("default", run_id)["error"]["type"] == "lost"
        Gate.open.set()
        future.result()
    assert home.work("c") == []


def test_a_run_whose_workflow_is_gone_ends_with_a_sentence(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    app.delete("default", "w")
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    record = other.history.get("default", run_id)
    assert (record["status"], record["error"]["type"]) == ("failed", "lost")
    assert 'there is no workflow "w"' in record["error"]["message"]


def test_a_server_that_is_told_to_end_leaves_accepted_runs_to_the_next_and_no_others(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(GATE, ACT))
    app.put("default", by_hand(GATE, ACT, workflow_id="hand"))
    run_id = accept(app)
    with ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(home.work)
        waited = pool.submit(app.start, "default", "hand")
        for _ in range(2):
            assert Gate.came.acquire(timeout=PATIENCE)
        assert app.cancel_all() == 2
        Gate.open.set()
        accepted.result()
        assert waited.result().status == "cancelled"
    assert app.history.get("default", run_id)["status"] == "queued"
    assert app.history.get("default", waited.result().info.id)["status"] == "cancelled"
    assert home.app("b").runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    assert app.history.get("default", run_id)["status"] == "succeeded"


def test_an_accepted_run_that_ended_although_the_server_was_to_end_is_not_begun_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT, GATE))
    run_id = accept(app)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(home.work)
        assert Gate.came.acquire(timeout=PATIENCE)
        app.cancel_all()  # too late for it to matter: no node is left
        Gate.open.set()
        future.result()
    assert home.app("b").history.get("default", run_id)["status"] == "succeeded"
    assert home.app("b").runs.take_over("default", "a", 9e9) == 0
