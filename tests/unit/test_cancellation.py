"""Does what is in flight end when its run is cancelled, and nothing else?"""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import Cancelled

PATIENCE = 30.0


def test_asking_ends_all_that_is_in_flight_and_nothing_that_was() -> None:
    cancellation, ended = Cancellation(), list[str]()
    acts = {name: partial(ended.append, name) for name in ("over", "one", "two")}
    for act in acts.values():
        cancellation.begin(act)
    cancellation.end(acts["over"])
    cancellation.ask()
    assert sorted(ended) == ["one", "two"]
    cancellation.ask()
    cancellation.end(acts["one"])
    cancellation.end(acts["two"])
    assert len(ended) == 2


def test_nothing_begins_any_more_once_it_was_asked_for() -> None:
    cancellation, ended = Cancellation(), list[str]()
    cancellation.ask()
    assert cancellation.asked
    with pytest.raises(Cancelled):
        cancellation.begin(partial(ended.append, "late"))
    with pytest.raises(Cancelled):
        cancellation.check()
    with pytest.raises(Cancelled):
        cancellation.acquire(threading.Lock(), time.monotonic() + PATIENCE)
    assert ended == []


def test_being_cancelled_takes_the_place_of_what_a_block_came_to() -> None:
    for error, seen in ((OSError("the connection broke"), Cancelled), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(seen):
            _interrupted(error)


def _interrupted(error: BaseException) -> None:
    cancellation = Cancellation()
    with cancellation.during(lambda: None):
        cancellation.ask()
        raise error


def test_an_act_that_fails_does_not_keep_the_others_from_being_done() -> None:
    cancellation, ended = Cancellation(), list[int]()

    def fail(number: int) -> None:
        ended.append(number)
        raise OSError("already gone")

    for number in range(3):
        cancellation.begin(partial(fail, number))
    cancellation.ask()
    assert sorted(ended) == [0, 1, 2]


def test_who_ends_waits_until_its_act_has_been_done() -> None:
    cancellation = Cancellation()
    acting, go, done = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        acting.set()
        assert go.wait(PATIENCE)
        done.set()

    cancellation.begin(act)
    asking = threading.Thread(target=cancellation.ask)
    asking.start()
    assert acting.wait(PATIENCE)
    threading.Timer(0.05, go.set).start()
    cancellation.end(act)
    assert done.is_set()
    asking.join(PATIENCE)


def test_no_act_is_done_after_its_end_however_the_threads_meet() -> None:
    for _ in range(300):
        cancellation = Cancellation()
        faults: list[str] = []
        ready = threading.Barrier(3)
        workers = [threading.Thread(target=_work, args=(cancellation, ready, faults)) for _ in range(2)]
        for worker in workers:
            worker.start()
        ready.wait(PATIENCE)
        cancellation.ask()
        for worker in workers:
            worker.join(PATIENCE)
        assert faults == []


def _work(cancellation: Cancellation, ready: threading.Barrier, faults: list[str]) -> None:
    """Begin and end until it is cancelled; what is ended must be in flight, and what is cancelled must have been ended or not begun."""
    state = {"mine": False}

    def act() -> None:
        if not state["mine"]:
            faults.append("ended what was another's by then")

    ready.wait(PATIENCE)
    while True:
        state["mine"] = True
        try:
            cancellation.begin(act)
        except Cancelled:
            return
        cancellation.end(act)
        state["mine"] = False


def test_waiting_for_a_lock_ends_with_the_run_or_with_the_time() -> None:
    cancellation, lock = Cancellation(), threading.Lock()
    assert cancellation.acquire(lock, time.monotonic() - 1)
    assert not cancellation.acquire(lock, time.monotonic() + 0.01)
    threading.Timer(0.05, cancellation.ask).start()
    with pytest.raises(Cancelled):
        cancellation.acquire(lock, time.monotonic() + PATIENCE)
