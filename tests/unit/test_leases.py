"""Leases, by which one process at a time runs an accepted run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mechaway_core.folders import FolderStore
from mechaway_core.leases import KEEP, Held, Lease, Leases
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

NOON = 1_767_355_200.0


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(FolderStore(ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))))


def test_of_many_who_want_a_lease_exactly_one_has_it(leases: Leases) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: leases.take("default", "one", str(number), NOON), range(40)))
    [lease] = [answer for answer in answers if isinstance(answer, Lease)]
    held = {(answer.holder, answer.until) for answer in answers if isinstance(answer, Held)}
    assert held == {(str(answers.index(lease)), NOON)}


def test_a_lease_that_was_given_back_can_be_had(leases: Leases) -> None:
    lease = leases.take("default", "one", "me", NOON)
    assert isinstance(lease, Lease)
    assert isinstance(leases.take("default", "two", "me", NOON), Lease)
    leases.give_back(lease)
    leases.give_back(lease)
    assert leases.find("default", "one") is None
    assert isinstance(leases.take("default", "one", "you", NOON), Lease)


def test_one_who_is_gone_is_followed_by_one_and_gives_nothing_back(leases: Leases) -> None:
    first = leases.take("default", "one", "gone", NOON)
    held = leases.find("default", "one")
    assert isinstance(first, Lease)
    assert held is not None
    second = leases.take_over(held, "next", NOON + 60)
    assert second is not None
    assert leases.take_over(held, "another", NOON + 60) is None
    leases.give_back(first)
    found = leases.find("default", "one")
    assert found == Held("next", NOON + 60, second)


def test_a_sweep_takes_what_is_long_past_and_nothing_else(leases: Leases) -> None:
    for number in range(5):
        leases.take("default", f"old{number}", "me", NOON - KEEP - 1)
    leases.take("default", "young", "me", NOON - KEEP + 1)
    assert leases.sweep("default", NOON) == 5
    assert leases.sweep("default", NOON) == 0
    assert leases.find("default", "young") is not None
