"""Do the adapters that keep files keep their promises when the world does not?"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mechaway_core.errors import NotFound, Unavailable
from mechaway_core.ports import Column, Session
from tests.contracts.adapters import FACTORIES, IN_FOLDERS, Adapters, elsewhere, finish
from tests.contracts.worker import insert_large, insert_one

# What may happen to a bucket is in the folder bucket.
pytestmark = pytest.mark.parametrize("make", IN_FOLDERS, indirect=True)


def rows(adapters: Adapters, project: str = "default") -> list[dict[str, object]]:
    return adapters.tables.read(project, lambda session: session.read_table("t", order_by="id")).rows


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; those of pytest are closed to them."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_what_was_acknowledged_survives_the_death_of_the_process(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=60.0)
    acknowledged: list[int] = []
    for _ in range(8):
        process = elsewhere(adapters, "insert_for_ever", "w", len(acknowledged) and acknowledged[-1] + 1)
        assert process.stdout is not None
        for _ in range(15):
            acknowledged.append(int(process.stdout.readline()))
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        process.communicate()
        found = [row["n"] for row in rows(adapters)]
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1  # one may have been saved without the word reaching us
        if len(found) > len(acknowledged):
            acknowledged.append(acknowledged[-1] + 1)
    integrity = adapters.tables.read("default", lambda session: session.query("SELECT count(*) AS n, count(DISTINCT n) AS d FROM t"))
    assert integrity.rows == [{"n": len(acknowledged), "d": len(acknowledged)}]


@pytest.mark.parametrize("file", ["project.db", "simpletable.db"])
def test_a_database_that_another_process_holds_is_unavailable_until_it_lets_go(make: Callable[..., Adapters], file: str) -> None:
    adapters = make(busy_timeout=0.1)
    adapters.store.put("default", "k", b"1")
    adapters.tables.write("default", insert_one)
    holder = elsewhere(adapters, "hold", "default", file)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Unavailable, match="another process holds the database"):
        _ = adapters.store.put("default", "k", b"2") if file == "project.db" else adapters.tables.write("default", insert_one)
    finish(holder)
    adapters.store.put("default", "k", b"3")
    adapters.tables.write("default", insert_one)
    assert len(rows(adapters)) == 2


def test_files_that_may_not_be_written_are_unavailable_and_keep_their_content(make: Callable[..., Adapters], open_folder: Path) -> None:
    name = make().name
    adapters = FACTORIES[name](open_folder)
    adapters.projects.create("shop")
    version = adapters.store.put("shop", "k", b"1")
    adapters.tables.write("shop", insert_one)
    adapters.close()
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    [output] = finish(elsewhere(adapters, "put_as_nobody", "shop"))
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == ["Unavailable", "Unavailable"], output
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    found = adapters.store.get("shop", "k")
    assert getattr(found, "version", None) == version
    assert adapters.store.keys("shop", "") == ["k"]
    assert len(rows(adapters, "shop")) == 1
    adapters.close()


def test_a_folder_that_may_not_be_entered_is_unavailable(make: Callable[..., Adapters], open_folder: Path) -> None:
    adapters = FACTORIES[make().name](open_folder)
    adapters.projects.create("shop")
    adapters.close()
    (open_folder / "shop").chmod(0o700)
    open_folder.chmod(0o700)
    if os.getuid() != 0:
        open_folder.chmod(0o000)
    [output] = finish(elsewhere(adapters, "put_as_nobody", "shop"))
    assert [line.split()[0] for line in output.splitlines()] == ["Unavailable", "Unavailable"], output


def test_a_file_in_the_place_of_the_folder_is_unavailable(make: Callable[..., Adapters], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    adapters = make()
    calls: list[Callable[[], object]] = [
        partial(adapters.store.put, "default", "k", b"1"),
        partial(adapters.store.get, "default", "k"),
        partial(adapters.tables.write, "default", insert_one),
        partial(adapters.projects.create, "shop"),
        adapters.projects.list,
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="project"):
            call()
    assert (tmp_path / "data").read_text() == "not a folder"


@pytest.mark.parametrize("limit", [30_000, 1_000_000])
def test_a_file_that_cannot_grow_is_unavailable_and_keeps_its_content(adapters: Adapters, limit: int) -> None:
    adapters.store.put("default", "k", b"1")
    adapters.tables.write("default", insert_one)
    adapters.close()
    [output] = finish(elsewhere(adapters, "put_beyond_a_limit", "default", limit))
    assert [line.split()[0] for line in output.splitlines()] == ["Unavailable", "Unavailable"], output
    assert adapters.store.keys("default", "") == ["after", "k"]
    assert len(rows(adapters)) == 2


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.strip()}); the limit of a file's size was tested instead")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_unavailable_says_so_and_keeps_its_content(make: Callable[..., Adapters], small_disk: Path) -> None:
    adapters = FACTORIES[make().name](small_disk / "data")
    try:
        adapters.store.put("default", "k", b"1")
        adapters.tables.write("default", insert_one)
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            fill(filler)
        with pytest.raises(Unavailable, match='the disk that holds project "default" is full; nothing was saved'):
            adapters.store.put("default", "large", bytes(5_000_000))
        with pytest.raises(Unavailable, match="is full"):
            adapters.tables.write("default", insert_large)
        with pytest.raises(Unavailable):
            adapters.projects.create("shop")
        filler.unlink()
        assert adapters.projects.list() == ["default"]
        assert adapters.store.keys("default", "") == ["k"]
        adapters.store.put("default", "k2", b"1")
        adapters.tables.write("default", insert_one)
        assert len(rows(adapters)) == 2
    finally:
        adapters.close()


@pytest.mark.parametrize("file", ["project.db", "simpletable.db"])
def test_a_damaged_file_is_unavailable_and_named(adapters: Adapters, file: str) -> None:
    adapters.store.put("default", "k", b"1")
    adapters.tables.write("default", insert_one)
    adapters.close()
    path = adapters.place / "default" / file
    path.write_bytes(b"this is not a database at all" * 500)
    for _ in range(2):
        with pytest.raises(Unavailable, match=file):
            _ = adapters.store.get("default", "k") if file == "project.db" else rows(adapters)
        with pytest.raises(Unavailable, match=file):
            _ = adapters.store.put("default", "k", b"") if file == "project.db" else adapters.tables.write("default", insert_one)


def test_folders_of_projects_are_closed_to_others(adapters: Adapters) -> None:
    adapters.projects.create("shop")
    adapters.store.put("default", "k", b"1")
    for slug in ("shop", "default"):
        assert (adapters.place / slug).stat().st_mode & 0o777 == 0o700


def test_what_a_cut_off_creation_or_deletion_left_is_no_project_and_is_swept(make: Callable[..., Adapters]) -> None:
    adapters = make()
    adapters.projects.create("shop")
    old, fresh, trash = (adapters.place / name for name in (".new-a-1", ".new-b-2", ".trash-c-3"))
    for folder in (old, fresh, trash):
        folder.mkdir()
        (folder / "project.db").touch()
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    assert adapters.projects.list() == ["default", "shop"]
    assert make().projects.list() == ["default", "shop"]
    assert sorted(path.name for path in adapters.place.iterdir()) == [".new-b-2", "shop"]  # somebody may still be making it


def test_a_folder_without_a_database_is_no_project_and_can_become_one(adapters: Adapters) -> None:
    for slug in ("shop", "default"):
        (adapters.place / slug).mkdir(parents=True)
        (adapters.place / slug / "notes.txt").write_text("mine")
    assert not adapters.projects.exists("shop")
    with pytest.raises(NotFound):
        adapters.store.get("shop", "k")
    adapters.projects.create("shop")
    for slug in ("shop", "default"):
        adapters.store.put(slug, "k", b"1")
        assert (adapters.place / slug / "notes.txt").read_text() == "mine"


def test_reading_makes_no_files(adapters: Adapters) -> None:
    adapters.store.get("default", "k")
    adapters.store.keys("default", "")
    rows(adapters)
    assert not adapters.place.exists()
    adapters.projects.create("shop")
    rows(adapters, "shop")
    assert not (adapters.place / "shop" / "simpletable.db").exists()


def test_a_table_that_a_file_was_removed_from_is_empty_again(adapters: Adapters) -> None:
    adapters.tables.write("default", insert_one)
    assert len(rows(adapters)) == 1
    for path in (adapters.place / "default").glob("simpletable.db*"):
        path.unlink()
    assert rows(adapters) == []
    stored = adapters.tables.write("default", lambda session: _insert(session))
    assert stored == [(1, 1)]


def _insert(session: Session) -> list[tuple[int, int]]:
    return session.insert_rows("t", [{"a": 1}], [Column("a")])
