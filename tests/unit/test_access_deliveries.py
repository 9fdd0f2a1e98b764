"""Claims to deliveries, over a real store, with time that the test moves on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechaway_core.access.deliveries import MOST_BODY, WINDOW, Claim, Delivered, Deliveries, Delivery, Kept, KeptBefore
from mechaway_core.errors import Busy, Conflict, Invalid
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

ANSWER = Kept(201, {"mechaway-run-id": "r1"}, "application/json", b'{"a":1}')


class Time(LocalClock):
    """A clock that a test moves on."""

    seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    yield FolderStore(files)
    files.close()


@pytest.fixture
def deliveries(store: FolderStore, time: Time) -> Deliveries:
    return Deliveries(store, time)


def claim(
    deliveries: Deliveries, key: str = "k", *, run: str = "r1", window: float = 100, seconds: float = 10, refuse: bool = False
) -> Claim:
    return deliveries.claim("default", "w", "hook", Delivery(key, run, seconds, window, "refuse" if refuse else "first"))


def printed(deliveries: Deliveries, said: str, run: str = "r1", *, kept: tuple[str, ...] = ()) -> Claim:
    """The claim to a delivery that says this; the runs `kept` were accepted."""
    return deliveries.claim("default", "w", "hook", Delivery("k", run, 10, 100, print=said), kept.__contains__)


def test_a_delivery_that_was_answered_gets_that_answer_again(deliveries: Deliveries) -> None:
    claim(deliveries).settle(ANSWER)
    for _ in range(2):
        with pytest.raises(Delivered) as again:
            claim(deliveries)
        assert again.value.kept == ANSWER
    with pytest.raises(Conflict, match="answered before"):
        claim(deliveries, refuse=True)
    claim(deliveries, "another")


def test_after_the_window_it_is_a_new_delivery(deliveries: Deliveries, time: Time) -> None:
    claim(deliveries, window=100).settle(ANSWER)
    time.seconds += 99
    with pytest.raises(Delivered):
        claim(deliveries)
    time.seconds += 2
    claim(deliveries).settle(ANSWER)
    with pytest.raises(Delivered):
        claim(deliveries)


def test_while_the_first_runs_the_second_is_told_to_come_back(deliveries: Deliveries) -> None:
    claim(deliveries)
    with pytest.raises(Busy):
        claim(deliveries)


def test_what_failed_may_be_tried_again(deliveries: Deliveries) -> None:
    for status in (400, 422, 500, 504):
        claim(deliveries).settle(Kept(status, {}, None, b""))
    claim(deliveries).release()
    claim(deliveries)


def test_the_claim_of_a_process_that_died_is_taken_over_once_its_run_must_be_over(deliveries: Deliveries, time: Time) -> None:
    lost = claim(deliveries, seconds=10)
    time.seconds += 14
    with pytest.raises(Busy):
        claim(deliveries)
    time.seconds += 2
    mine = claim(deliveries, seconds=10)
    lost.settle(ANSWER)  # it was only slow; its answer must not stand for the run that goes on
    lost.release()
    with pytest.raises(Busy):
        claim(deliveries)
    mine.settle(ANSWER)
    with pytest.raises(Delivered):
        claim(deliveries)


def test_a_run_that_was_cut_off_leaves_its_keys_to_the_one_that_comes_after_it(deliveries: Deliveries, time: Time) -> None:
    assert claim(deliveries, run="first").keys == "first"
    time.seconds += 16
    assert claim(deliveries, run="second").keys == "first"
    time.seconds += 16
    third = claim(deliveries, run="third")
    assert third.keys == "first"
    third.release()  # it failed, and some of its nodes may have acted
    assert claim(deliveries, run="fourth").keys == "first"


def test_a_claim_that_was_cut_off_is_remembered_for_a_day(deliveries: Deliveries, store: FolderStore, time: Time) -> None:
    claim(deliveries, run="first")
    time.seconds += WINDOW + 14
    claim(deliveries, "another").settle(ANSWER)
    assert claim(deliveries, run="second").keys == "first"
    time.seconds += WINDOW + 16
    for number in range(4):
        claim(deliveries, f"others {number}").settle(ANSWER)
    assert claim(deliveries, run="third").keys == "third"


def test_a_key_that_came_with_something_else_is_refused_whatever_became_of_that(deliveries: Deliveries, time: Time) -> None:
    first = printed(deliveries, "one")
    with pytest.raises(Invalid, match="another request"):
        printed(deliveries, "two")
    with pytest.raises(Invalid, match="another request"):
        printed(deliveries, "two", kept=("r1",))
    time.seconds += 16
    with pytest.raises(Invalid, match="another request"):
        printed(deliveries, "two")
    time.seconds -= 16
    first.settle(ANSWER)
    with pytest.raises(Invalid, match="another request"):
        printed(deliveries, "two")
    with pytest.raises(Delivered):
        printed(deliveries, "one")
    time.seconds += 101
    printed(deliveries, "two")


def test_a_run_that_was_accepted_is_found_while_its_claim_still_says_that_it_begins(deliveries: Deliveries, time: Time) -> None:
    printed(deliveries, "one", "r1")
    for later in (0, 16):  # its process may have died before it could settle
        time.seconds += later
        with pytest.raises(KeptBefore) as before:
            printed(deliveries, "one", "r2", kept=("r1",))
        assert before.value.run_id == "r1"
    assert printed(deliveries, "one", "r2", kept=("another",)).keys == "r1"


@pytest.mark.parametrize(("size", "kept"), [(MOST_BODY, True), (MOST_BODY + 1, False)])
def test_a_large_body_is_not_kept(deliveries: Deliveries, size: int, kept: bool) -> None:
    body = b"\x00\xff" * (size // 2) + b"x" * (size % 2)
    claim(deliveries).settle(Kept(200, {}, "text/plain", body))
    with pytest.raises(Delivered) as again:
        claim(deliveries)
    assert again.value.kept == Kept(200, {}, "text/plain", body if kept else None)


def test_any_text_is_a_key(deliveries: Deliveries) -> None:
    for key in ("../../keys/x", "a/b", "ä" * 5000, "\0", " "):
        claim(deliveries, key).settle(ANSWER)
        with pytest.raises(Delivered):
            claim(deliveries, key)


def test_nodes_workflows_and_projects_do_not_share_deliveries(deliveries: Deliveries) -> None:
    claim(deliveries)
    deliveries.claim("default", "w", "other", Delivery("k", "r2", 1))
    deliveries.claim("default", "w2", "hook", Delivery("k", "r3", 1))


def test_a_workflow_that_is_deleted_takes_its_deliveries_along(deliveries: Deliveries, store: FolderStore) -> None:
    for number in range(5):
        claim(deliveries, str(number)).settle(ANSWER)
    deliveries.claim("default", "w2", "hook", Delivery("k", "r3", 1))
    deliveries.forget("default", "w")
    assert [key.split("/")[1] for key in store.keys("default", "deliveries/")] == ["w2"]


def test_old_deliveries_go_bit_by_bit(deliveries: Deliveries, store: FolderStore, time: Time) -> None:
    for number in range(50):
        claim(deliveries, f"old {number}", window=10).settle(ANSWER)
    time.seconds += 1000
    for number in range(60):
        claim(deliveries, f"new {number}").settle(ANSWER)
    assert len(store.keys("default", "deliveries/")) == 60


def test_of_many_at_once_exactly_one_gets_it(store: FolderStore, time: Time) -> None:
    others = [Deliveries(store, time) for _ in range(8)]
    start = threading.Barrier(len(others))
    got: list[Claim] = []
    busy: list[bool] = []

    def go(deliveries: Deliveries) -> None:
        start.wait()
        try:
            got.append(claim(deliveries))
        except Busy:
            busy.append(True)

    threads = [threading.Thread(target=go, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(busy)) == (1, len(others) - 1)


# -- runs that failed or were cut off: the next attempt has the keys of the first


def answering(deliveries: Deliveries, run_id: str, key: str = "k", said: str = "a body") -> Claim:
    """The claim of a run to a delivery that says this, for a window of 1000 s."""
    return deliveries.claim("default", "w", "hook", Delivery(key, run_id, seconds=10, window=1000, print=said))


def test_a_claim_that_was_cut_off_keeps_its_keys_however_many_others_come_before_it_is_taken_over(
    deliveries: Deliveries, time: Time
) -> None:
    answering(deliveries, "first")
    time.seconds += 16
    for number in range(20):
        answering(deliveries, f"other {number}", key=f"other {number}").settle(Kept(200, {}, None, b""))
    assert answering(deliveries, "second").keys == "first"


def test_the_attempt_after_one_that_failed_has_its_keys_since_its_nodes_may_have_acted(deliveries: Deliveries) -> None:
    answering(deliveries, "first").settle(Kept(503, {}, None, b""))
    second = answering(deliveries, "second")
    assert second.keys == "first"
    with pytest.raises(Busy):
        answering(deliveries, "third")
    second.release()
    assert answering(deliveries, "fourth").keys == "first"


def test_another_request_with_the_same_key_has_keys_of_its_own(deliveries: Deliveries) -> None:
    answering(deliveries, "first").release()
    assert answering(deliveries, "second", said="another body").keys == "second"


def test_what_is_kept_of_claims_goes_after_the_window(deliveries: Deliveries, store: FolderStore, time: Time) -> None:
    for number in range(10):
        answering(deliveries, f"old {number}", key=f"old {number}").release()
    time.seconds += 2000
    for number in range(10):
        answering(deliveries, f"new {number}", key=f"new {number}").settle(Kept(200, {}, None, b""))
    assert len(store.keys("default", "deliveries/")) == 10
