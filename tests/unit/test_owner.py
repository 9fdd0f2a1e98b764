"""Whose open runs are whose: processes that live, that are killed, and that take over."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.errors import Unavailable
from mechaway_core.local.owner import FOLDER, PLACES, Owner
from mechaway_core.record import new_run_id

PROCESS = """
import sys
from pathlib import Path
from mechaway_core.local.owner import Owner

owners = []
for _ in range(int(sys.argv[2])):
    owner = Owner(Path(sys.argv[1]), durable=False)
    owners.append(owner)
    for project in sys.argv[3:]:
        owner.note(project)
print(owners[-1].id, flush=True)
sys.stdin.read()
"""


class Process:
    """A process with open runs in these projects, as so many owners. Its last owner is `id`."""

    def __init__(self, folder: Path, *projects: str, owners: int = 1) -> None:
        command = [sys.executable, "-c", PROCESS, str(folder), str(owners), *projects]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.id = ""

    def begun(self) -> Process:
        """Wait until it is there."""
        assert self._process.stdout is not None
        self.id = self._process.stdout.readline().decode().strip()
        assert self.id
        return self

    @property
    def making(self) -> bool:
        """Whether it still makes owners, or is about to."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return not selector.select(0)

    def kill(self) -> None:
        """End it as a loss of power would."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def me(folder: Path) -> Iterator[Owner]:
    owner = Owner(folder, durable=True)
    yield owner
    owner.close()


@contextlib.contextmanager
def process(folder: Path, *projects: str) -> Iterator[Process]:
    made = Process(folder, *projects).begun()
    try:
        yield made
    finally:
        made.kill()


def taken_by(owner: Owner) -> Generator[Any, None, None]:
    """Processes that are gone, one after the other as they are taken over."""
    taking = owner.gone()
    assert isinstance(taking, Generator)
    return taking


def gone(owner: Owner) -> list[tuple[str, list[str]]]:
    """Processes that are gone, taken over."""
    return [(found[0], found[1]) for found in owner.gone()]


def test_nothing_of_a_process_that_lives_is_taken(folder: Path, me: Owner) -> None:
    assert gone(me) == [], "there is no folder yet"
    me.note("default")
    with process(folder, "default") as other:
        assert other.id != me.id
        for _ in range(3):
            assert gone(me) == []
    assert gone(Owner(folder, durable=False))[0][0] == other.id
    assert gone(me) == []


def test_a_killed_process_is_found_with_its_projects_and_only_once(folder: Path, me: Owner) -> None:
    with process(folder, "shop", "default", "shop") as other:
        pass
    assert gone(me) == [(other.id, ["shop", "default"])]
    assert gone(me) == []
    assert [path for path in (folder / FOLDER).iterdir() if other.id in path.name] == []


def test_a_process_without_open_runs_leaves_no_trace(folder: Path, me: Owner) -> None:
    with process(folder):
        assert not (folder / FOLDER).exists()
    assert gone(me) == []


def test_who_is_cut_off_while_it_takes_over_leaves_the_rest_to_the_next(folder: Path, me: Owner) -> None:
    with process(folder, "default") as other:
        pass
    for end in (RuntimeError("the disk is away"), GeneratorExit()):
        taking = taken_by(me)
        assert next(taking)[0] == other.id
        with pytest.raises(type(end)):
            taking.throw(end)
    assert gone(me) == [(other.id, ["default"])]


def test_only_one_takes_over(folder: Path, me: Owner) -> None:
    with process(folder, "default") as other:
        pass
    rival = Owner(folder, durable=False)
    with contextlib.closing(taken_by(me)) as taking:
        assert next(taking)[0] == other.id
        assert gone(rival) == []
    assert [owner for owner, _ in gone(rival)] == [other.id]


def test_of_many_that_died_each_is_found(folder: Path, me: Owner) -> None:
    ids = []
    for number in range(4):
        with process(folder, f"p{number}") as other:
            ids.append((other.id, [f"p{number}"]))
    assert sorted(gone(me)) == sorted(ids)


def test_a_file_that_is_being_made_is_never_seen_without_its_lock(folder: Path, me: Owner) -> None:
    other = Process(folder, "default", owners=400)
    try:
        taken = []
        while other.making:
            taken += gone(me)
        other.begun()
        assert taken + gone(me) == []
    finally:
        other.kill()
    assert len(gone(me)) == 400


def test_who_closes_lets_others_take_over(folder: Path, me: Owner) -> None:
    other = Owner(folder, durable=False)
    other.note("default")
    assert gone(me) == []
    other.close()
    other.close()
    assert gone(me) == [(other.id, ["default"])]


def test_what_else_lies_there_is_let_be(folder: Path, me: Owner) -> None:
    me.note("default")
    (folder / FOLDER / ".hidden").write_text("default\n")
    (folder / FOLDER / "read.me").write_text("default\n")
    (folder / FOLDER / "folder").mkdir()
    assert gone(me) == []
    assert (folder / FOLDER / "read.me").exists()


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    owner = Owner(tmp_path / "data", durable=False)
    with pytest.raises(Unavailable, match="the data folder cannot be used"):
        owner.note("default")
    with pytest.raises(Unavailable, match="the data folder cannot be used"):
        gone(owner)


def test_a_process_that_is_gone_tells_what_it_was_at(folder: Path, me: Owner) -> None:
    other = Owner(folder, durable=False)
    at, done = new_run_id(1e9), new_run_id(2e9)
    other.note("default")
    with other.at(done):
        pass
    with other.at(at):
        other.close()
        assert [begun for _, _, begun in me.gone()] == [{at}]
    assert list((folder / FOLDER).iterdir()) == []


def test_more_runs_than_there_is_room_for_go_on_all_the_same(folder: Path, me: Owner) -> None:
    other = Owner(folder, durable=False)
    other.note("default")
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES + 1):
            stack.enter_context(other.at(new_run_id(1e9)))
    other.close()
    assert [begun for _, _, begun in me.gone()] == [set()]


def test_a_process_that_ends_opens_nothing_any_more(folder: Path) -> None:
    owner = Owner(folder, durable=False)
    owner.note("default")
    owner.close()
    with pytest.raises(Unavailable, match="shutting down"):
        owner.note("shop")
