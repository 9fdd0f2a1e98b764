"""Claims, which make one of many deliveries the one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mechaway_core.errors import Stale
from mechaway_core.folders import FolderStore
from mechaway_core.handover import Claim, Handover, Taken
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

NOON = 1_767_355_200.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(ProjectFiles(Settings(data_dir=tmp_path, sync="normal")))


@pytest.fixture
def handover(store: FolderStore) -> Handover:
    return Handover(store)


def test_of_many_that_claim_at_once_exactly_one_has_it(handover: Handover) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: handover.claim("default", NOON, ("wf", "tick"), str(number)), range(40)))
    [claim] = [answer for answer in answers if isinstance(answer, Claim)]
    holders = {answer.holder for answer in answers if isinstance(answer, Taken)}
    assert holders == {str(answers.index(claim))}


def test_another_minute_node_or_project_is_another_claim(handover: Handover) -> None:
    for project, moment, what in (
        ("default", NOON, ("wf", "tick")),
        ("default", NOON + 60, ("wf", "tick")),
        ("default", NOON, ("wf", "tick2")),
        ("default", NOON, ("wft", "ick")),
    ):
        assert isinstance(handover.claim(project, moment, what, "me"), Claim)


def test_seconds_of_one_minute_are_claims_of_their_own(handover: Handover) -> None:
    for moment in (NOON, NOON + 1, NOON + 59):
        assert isinstance(handover.claim("default", moment, ("wf", "tick"), "me"), Claim)


def test_what_was_settled_stays_claimed_and_its_holder_has_nothing_to_ask_about(handover: Handover) -> None:
    claim = handover.claim("default", NOON, ("wf",), "one")
    assert isinstance(claim, Claim)
    handover.settle(claim)
    assert handover.claim("default", NOON, ("wf",), "one") == Taken("")


def test_what_was_released_can_be_claimed_again(handover: Handover) -> None:
    claim = handover.claim("default", NOON, ("wf",), "one")
    assert isinstance(claim, Claim)
    handover.release(claim)
    assert isinstance(handover.claim("default", NOON, ("wf",), "two"), Claim)


def test_a_sweep_takes_what_no_event_can_ask_for_and_nothing_else(handover: Handover, store: FolderStore) -> None:
    for hours in range(0, 24 * 6, 2):
        handover.claim("default", NOON - hours * 3600, ("wf",), "me")
    store.put("default", "workflows/wf", b"{}")
    assert handover.sweep("default", NOON) == 35
    assert handover.sweep("default", NOON) == 0
    assert len(store.keys("default", "claims/")) == 37
    assert store.keys("default", "workflows/") == ["workflows/wf"]


def test_the_claim_of_who_did_nothing_under_it_is_taken_over_by_one(handover: Handover) -> None:
    handover.claim("default", NOON, ("wf",), "gone")
    taken = handover.claim("default", NOON, ("wf",), "one")
    assert isinstance(taken, Taken)
    assert handover.holder("default", NOON, ("wf",)) == "gone"
    mine = handover.take_over("default", NOON, ("wf",), taken, "one")
    with pytest.raises(Stale):
        handover.take_over("default", NOON, ("wf",), taken, "another")
    assert handover.holder("default", NOON, ("wf",)) == "one"
    handover.release(mine)
    assert handover.holder("default", NOON, ("wf",)) is None
