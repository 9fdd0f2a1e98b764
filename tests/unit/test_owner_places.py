"""Whose runs are whose, told by locks that the system gives up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechaway_core.errors import Unavailable
from mechaway_core.local.owner import PLACES, Owner
from mechaway_core.record import new_run_id


def test_a_process_that_is_gone_is_told_once_with_its_projects_and_what_it_was_at(tmp_path: Path) -> None:
    gone, next_one, third = (Owner(tmp_path, durable=False) for _ in range(3))
    at, done = new_run_id(1e9), new_run_id(2e9)
    gone.note("default")
    gone.note("shop")
    with gone.at(done):
        pass
    with gone.at(at):
        assert list(next_one.gone()) == []  # it lives
        gone.close()
        [(name, projects, begun)] = next_one.gone()
    assert (name, projects, begun) == (gone.id, ["default", "shop"], {at})
    assert list(third.gone()) == []
    assert list((tmp_path / ".running").iterdir()) == []


def test_what_was_not_taken_over_whole_is_told_again(tmp_path: Path) -> None:
    gone, next_one = Owner(tmp_path, durable=False), Owner(tmp_path, durable=False)
    gone.note("default")
    gone.close()
    looked = next_one.gone()
    assert next(looked)[0] == gone.id
    looked.close()  # type: ignore[attr-defined]
    assert [name for name, _, _ in next_one.gone()] == [gone.id]


def test_more_runs_than_there_is_room_for_go_on_all_the_same(tmp_path: Path) -> None:
    owner = Owner(tmp_path, durable=False)
    owner.note("default")
    blocks = [owner.at(new_run_id(1e9)) for _ in range(PLACES + 1)]
    for block in blocks:
        block.__enter__()
    for block in blocks:
        block.__exit__(None, None, None)
    owner.close()
    [(_, _, begun)] = Owner(tmp_path, durable=False).gone()
    assert begun == set()


def test_a_process_that_ends_opens_nothing_any_more(tmp_path: Path) -> None:
    owner = Owner(tmp_path, durable=False)
    owner.note("default")
    owner.close()
    with pytest.raises(Unavailable, match="shutting down"):
        owner.note("default")
