"""The contract of `Files`: what is kept comes back, nobody finds what is not theirs, and what is old goes unless it is in use."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.aws import efs
from mechaway_core.aws.clients import clients
from mechaway_core.aws.files import S3Files
from mechaway_core.aws.projects import S3Projects
from mechaway_core.errors import NotFound, TooLarge, Unavailable
from mechaway_core.folders import FolderFiles, FolderProjects
from mechaway_core.ports import FileInfo, Files, Projects
from mechaway_core.record import new_run_id
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests import s3_server
from tests.contracts.adapters import FACTORIES, bucket_of
from tests.s3_server import Fault, Kind, Request

ROOT = Path(__file__).parents[2]
HOUR = 3600.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data"


Make = Callable[[], Files]

_buckets: set[str] = set()  # places that are buckets


def _in_folders(place: Path, closing: ExitStack, *, durable: bool) -> Files:
    projects = ProjectFiles(Settings(data_dir=place, sync="normal"))
    closing.callback(projects.close)
    _have_projects(FolderProjects(projects))
    return FolderFiles(projects, durable=durable)


def _on_efs(place: Path, closing: ExitStack) -> Files:
    projects = efs.open_projects(Settings(data_dir=place))
    closing.callback(projects.close)
    _have_projects(FolderProjects(projects))
    return efs.efs_files(projects)


def _in_a_bucket(place: Path, closing: ExitStack) -> Files:
    _buckets.add(bucket_of(place))
    adapters = FACTORIES["s3"](place)
    closing.callback(adapters.close)
    _have_projects(adapters.projects)
    return S3Files(clients(Settings(bucket=bucket_of(place))).s3, cast(S3Projects, adapters.projects))


def _have_projects(projects: Projects) -> None:
    for slug in ("one", "two"):
        if not projects.exists(slug):
            projects.create(slug)


PLACES: dict[str, Callable[[Path, ExitStack], Files]] = {
    "durable": partial(_in_folders, durable=True),
    "quick": partial(_in_folders, durable=False),
    "efs": _on_efs,
    "s3": _in_a_bucket,
}
in_folders = pytest.mark.parametrize("make", ["durable", "quick", "efs"], indirect=True)


@pytest.fixture(params=list(PLACES))
def make(request: pytest.FixtureRequest, place: Path) -> Iterator[Make]:
    """Makes adapters over one place, as several processes would."""
    with ExitStack() as closing:
        yield lambda: PLACES[request.param](place, closing)


@pytest.fixture
def files(make: Make) -> Files:
    return make()


def run_id(age: float = 0.0) -> str:
    return new_run_id(time.time() - age)


def keep(files: Files, *chunks: bytes, project: str = "one", run: str | None = None, most: int = 1000) -> FileInfo:
    return files.write(project, run or run_id(), "name.txt", "text/plain", chunks, most)


def content(files: Files, info: FileInfo, project: str = "one") -> bytes:
    with files.open(project, info.handle) as file:
        return file.read()


def all_files(place: Path) -> list[Path]:
    """What is kept, wherever that is."""
    if bucket_of(place) in _buckets:
        return [place / line.key for line in clients(Settings(bucket=bucket_of(place))).s3.listing("files/")]
    return [path for path in place.rglob("files/*/*") if path.is_file()]


# -- keeping


@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"a", b"", b"bc"], [b"x" * 500, b"y" * 500]])
def test_what_is_kept_comes_back(files: Files, chunks: list[bytes]) -> None:
    info = keep(files, *chunks)
    assert (info.filename, info.content_type, info.size) == ("name.txt", "text/plain", len(b"".join(chunks)))
    for _ in range(2):
        assert content(files, info) == b"".join(chunks)


def test_another_process_finds_it_too(make: Make) -> None:
    info = keep(make(), b"abc")
    assert content(make(), info) == b"abc"


def test_the_default_project_keeps_files_before_anything_was_saved_in_it(files: Files) -> None:
    assert content(files, keep(files, b"abc", project="default"), "default") == b"abc"


def test_one_file_does_not_touch_another_whatever_they_are_called(files: Files) -> None:
    run = run_id()
    infos = [keep(files, b"%d" % number, run=run) for number in range(5)]
    assert len({info.handle for info in infos}) == 5
    assert [content(files, info) for info in infos] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a\0b", "", "x" * 10_000, "..", "\ud800"])
def test_a_filename_is_only_data(files: Files, place: Path, name: str) -> None:
    info = files.write("one", run_id(), name, "text/plain", [b"x"], 10)
    assert info.filename == name
    assert content(files, info) == b"x"
    assert len(all_files(place)) == 1
    assert not (place.parent / "escape").exists()


@in_folders
def test_files_and_their_folders_are_for_the_owner_alone(files: Files, place: Path) -> None:
    keep(files, b"x")
    [file] = all_files(place)
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o700]


def test_branches_of_one_run_keep_files_at_the_same_time(files: Files) -> None:
    run = run_id()
    with ThreadPoolExecutor(8) as pool:
        infos = list(pool.map(lambda number: keep(files, b"%d" % number, run=run), range(64)))
    assert [content(files, info) for info in infos] == [b"%d" % number for number in range(64)]
    files.release("one", run)


# -- what cannot be kept


def test_a_file_over_the_limit_is_refused_and_nothing_is_kept(files: Files, place: Path) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    with pytest.raises(TooLarge, match=r'"name\.txt" is larger than 0\.001 MB'):
        files.write("one", run_id(), "name.txt", "text/plain", chunks(), 1000)
    assert taken == 11
    assert all_files(place) == []


def test_chunks_that_fail_leave_nothing_and_their_error_is_theirs(files: Files, place: Path) -> None:
    def chunks(error: BaseException) -> Iterator[bytes]:
        yield b"x"
        raise error

    for error in (OSError(errno.ECONNRESET, "the other side went away"), ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            files.write("one", run_id(), "n", "t/t", chunks(error), 100)
        assert caught.value is error
    assert all_files(place) == []


def test_an_unknown_project_is_not_found_and_not_made(files: Files, place: Path) -> None:
    for slug in ("none", "../one", "", "ONE"):
        with pytest.raises(NotFound):
            keep(files, b"x", project=slug)
        with pytest.raises(NotFound):
            files.open(slug, f"file:{run_id()}/{'0' * 32}")
    assert all_files(place) == []


DISK = """
import resource, sys
from pathlib import Path
from mechaway_core.errors import Unavailable
from mechaway_core.folders import FolderFiles, FolderProjects
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

files = FolderFiles(ProjectFiles(Settings(data_dir=Path(sys.argv[1]))))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    files.write("one", sys.argv[2], "n", "t/t", [b"x" * 60_000] * 3, 1_000_000)
except Unavailable as error:
    print(error)
"""


@in_folders
def test_a_disk_that_takes_no_more_is_unavailable_and_nothing_is_kept(files: Files, place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DISK, str(place), run_id()], cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.startswith("the file cannot be kept: ")
    assert all_files(place) == []


# -- finding


def test_another_project_does_not_find_it(files: Files) -> None:
    info = keep(files, b"x")
    with pytest.raises(NotFound):
        files.open("two", info.handle)


@pytest.mark.parametrize(
    "change",
    [
        lambda handle: "",
        lambda handle: handle[5:],
        lambda handle: handle + "\n",
        lambda handle: handle + "/..",
        lambda handle: handle.upper(),
        lambda handle: f"file:../../two/{handle[5:]}",
        lambda handle: f"file:{handle[5:41]}/../{handle[5:]}",
        lambda handle: handle[:-1],
        lambda handle: handle[:-1] + ("0" if handle[-1] != "0" else "1"),
        lambda handle: handle.replace("file:", "/"),
        lambda handle: "file:" + "-" * 36 + "/" + "0" * 32,
    ],
)
def test_a_handle_that_is_not_just_so_finds_nothing(files: Files, change: Callable[[str], str]) -> None:
    with pytest.raises(NotFound, match="no such file"):
        files.open("one", change(keep(files, b"x").handle))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text() | st.from_regex(r"file:[0-9a-f./-]{0,40}/[0-9a-f./]{0,33}"))
def test_no_text_leads_out_of_the_area(files: Files, handle: str) -> None:
    with pytest.raises(NotFound):
        files.open("one", handle)


@in_folders
@pytest.mark.parametrize("what", ["file", "folder", "pipe", "directory"])
def test_what_somebody_put_in_its_place_is_not_followed(files: Files, place: Path, tmp_path: Path, what: str) -> None:
    info = keep(files, b"x")
    [file] = all_files(place)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / file.name).write_text("secret")
    file.unlink()
    if what == "file":
        file.symlink_to(tmp_path / "outside" / file.name)
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "directory":
        file.mkdir()
    else:
        file.parent.rmdir()
        file.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(NotFound):
        files.open("one", info.handle)


@in_folders
def test_a_linked_folder_is_not_written_through(files: Files, place: Path, tmp_path: Path) -> None:
    run = run_id()
    (place / "one" / "files").mkdir()
    (tmp_path / "outside").mkdir()
    (place / "one" / "files" / run).symlink_to(tmp_path / "outside")
    with pytest.raises(Unavailable):
        keep(files, b"x", run=run)
    assert list((tmp_path / "outside").iterdir()) == []


# -- going


def test_old_files_go_and_new_ones_stay(files: Files, place: Path) -> None:
    old, new = run_id(2 * HOUR), run_id()
    infos = [keep(files, b"x", run=run, project=project) for run, project in ((old, "one"), (old, "two"), (new, "one"))]
    for run, project in ((old, "one"), (old, "two"), (new, "one")):
        files.release(project, run)
    assert files.delete_older(HOUR) == 2
    assert files.delete_older(HOUR) == 0
    for info, project in zip(infos[:2], ("one", "two"), strict=True):
        with pytest.raises(NotFound):
            files.open(project, info.handle)
    assert content(files, infos[2]) == b"x"


def test_when_time_is_over_what_is_left_is_for_the_next_time(files: Files) -> None:
    old = [keep(files, b"x", run=run_id(2 * HOUR)) for _ in range(2)]
    for one in old:
        files.release("one", one.handle[5:41])
    assert files.delete_older(HOUR, time.monotonic()) == 0
    assert [content(files, one) for one in old] == [b"x", b"x"]
    assert files.delete_older(HOUR, time.monotonic() + 60) == 2


@in_folders
def test_the_files_of_a_run_that_goes_on_stay_however_old_it_is(make: Make) -> None:
    mine, other, run = make(), make(), run_id(100 * HOUR)
    info = keep(mine, b"x", run=run)
    assert other.delete_older(HOUR) == 0
    assert mine.delete_older(HOUR) == 0
    assert content(other, info) == b"x"
    mine.release("one", run)
    assert other.delete_older(HOUR) == 1


@in_folders
def test_a_run_whose_process_was_killed_does_not_go_on(files: Files, place: Path) -> None:
    script = (
        DISK.split("resource.setrlimit")[0]
        + "files.write('one', sys.argv[2], 'n', 't/t', [b'x'], 10)\nprint('kept', flush=True)\nsys.stdin.read()"
    )
    run = run_id(2 * HOUR)
    other = subprocess.Popen([sys.executable, "-c", script, str(place), run], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == b"kept\n"
    assert files.delete_older(HOUR) == 0
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    assert files.delete_older(HOUR) == 1
    assert all_files(place) == []


@in_folders
def test_several_sweep_at_the_same_time(make: Make, place: Path) -> None:
    writer = make()
    for _ in range(30):
        run = run_id(2 * HOUR)
        keep(writer, b"x", run=run)
        writer.release("one", run)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda files: files.delete_older(HOUR), [make() for _ in range(4)]))
    assert list((place / "one" / "files").iterdir()) == []


@in_folders
def test_only_runs_are_swept(files: Files, place: Path, tmp_path: Path) -> None:
    keep(files, b"x")
    area = place / "one" / "files"
    (area / "notes").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("x")
    (area / run_id(9 * HOUR)).symlink_to(tmp_path / "outside")
    assert files.delete_older(HOUR) == 0
    assert (area / "notes").is_dir()
    assert (tmp_path / "outside" / "x").exists()


def test_a_run_that_is_not_to_be_leaves_nothing(files: Files, place: Path) -> None:
    run = run_id()
    kept = keep(files, b"stays")
    keep(files, b"x", run=run)
    files.delete("one", run)
    assert len(all_files(place)) == 1
    assert content(files, kept) == b"stays"
    for again in (("one", run), ("none", run), ("one", run_id())):
        files.delete(*again)


@in_folders
def test_a_run_that_kept_nothing_leaves_no_folder(files: Files, place: Path) -> None:
    run = run_id()
    with pytest.raises(TooLarge):
        keep(files, b"x" * 11, run=run, most=10)
    files.release("one", run)
    files.release("one", run)
    files.release("none", run_id())
    assert list((place / "one" / "files").iterdir()) == []


@in_folders
def test_a_released_run_gives_its_descriptors_back(files: Files) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run = run_id()
        keep(files, b"x", run=run)
        files.release("one", run)
    for _ in range(20):
        run = run_id()
        keep(files, b"x", run=run)
        files.delete("one", run)
    assert len(os.listdir("/proc/self/fd")) == before


@in_folders
def test_a_project_that_is_deleted_takes_its_files_along_and_does_not_come_back_by_a_late_one(files: Files, place: Path) -> None:
    projects = ProjectFiles(Settings(data_dir=place, sync="normal"))
    run = run_id()
    info = keep(files, b"x", run=run)
    projects.delete("one")
    with pytest.raises(Unavailable):
        keep(files, b"x", run=run)
    with pytest.raises(NotFound):
        keep(files, b"x")
    with pytest.raises(NotFound):
        files.open("one", info.handle)
    files.release("one", run)
    assert not (place / "one").exists()
    projects.create("one")
    with pytest.raises(NotFound):
        files.open("one", info.handle)
    projects.close()


@pytest.mark.parametrize("make", ["efs", "s3"], indirect=True)
def test_what_a_run_on_another_machine_may_still_use_is_not_swept(make: Make) -> None:
    info = keep(make(), b"x", run=run_id(900.0))  # a function may go on for 15 minutes, and its lock is not seen elsewhere
    assert make().delete_older(0) == 0
    assert content(make(), info) == b"x"


# -- large files in a bucket

in_a_bucket = pytest.mark.parametrize("make", ["s3"], indirect=True)
PIECE = bytes(range(256)) * 4096  # 1 MiB


def multipart(request: Request) -> bool:
    return "uploadId" in request.query or request.query.startswith("uploads")


def unfinished(place: Path) -> int:
    found = clients(Settings(bucket=bucket_of(place))).boto3("s3").list_multipart_uploads(Bucket=bucket_of(place))
    return len(found.get("Uploads", []))


@in_a_bucket
def test_a_large_file_goes_in_parts_and_is_read_in_pieces(files: Files) -> None:
    with s3_server.server().counting() as requests:
        info = keep(files, *[PIECE] * 20, most=10**9)
    assert sum(multipart(request) for request in requests) == 5  # begin, three parts, end
    assert info.size == 20 * len(PIECE)
    with files.open("one", info.handle) as file:
        assert file.read() == PIECE * 20
        assert file.seek(0, os.SEEK_END) == info.size
        assert file.read() == b""
        for at in (5, 8 * 1024 * 1024 - 3, 19 * 1024 * 1024):
            file.seek(at)
            assert file.read(7) == (PIECE * 20)[at : at + 7]
        assert file.seek(-1, os.SEEK_END) == info.size - 1
        assert file.read() == PIECE[-1:]


@in_a_bucket
@pytest.mark.parametrize("kind", ["before", "after", "answer"])
def test_parts_that_were_lost_are_sent_again(files: Files, place: Path, kind: Kind) -> None:
    with s3_server.server().failing(*[Fault(kind, is_part(name)) for name in ("1", "2", "end")]):
        info = keep(files, *[PIECE] * 20, most=10**9)
    assert content(files, info) == PIECE * 20
    with s3_server.server().failing(Fault(kind, lambda request: request.method == "GET", 1)):
        assert content(files, info) == PIECE * 20
    assert unfinished(place) == 0


def is_part(name: str) -> Callable[[Request], bool]:
    """Fits the request for a part by its number, or for the end."""

    def fits(request: Request) -> bool:
        fields = dict(parse_qsl(request.query))
        return name == fields.get("partNumber", "end" if request.method == "POST" and "uploadId" in fields else "")

    return fits


@in_a_bucket
def test_a_large_file_that_fails_leaves_no_parts(files: Files, place: Path) -> None:
    with pytest.raises(TooLarge):
        keep(files, *[PIECE] * 20, most=15 * len(PIECE))

    def broken() -> Iterator[bytes]:
        yield from [PIECE] * 10
        raise ValueError("the other side went away")

    with pytest.raises(ValueError, match="went away"):
        files.write("one", run_id(), "n", "t/t", broken(), 10**9)
    denied = Fault("answer", is_part("2"), 1, 403, "AccessDenied")
    with pytest.raises(Unavailable, match="AccessDenied"), s3_server.server().failing(denied):
        keep(files, *[PIECE] * 20, most=10**9)
    assert unfinished(place) == 0
    assert all_files(place) == []


@in_a_bucket
def test_a_run_that_kept_nothing_asks_nothing(files: Files) -> None:
    with s3_server.server().counting() as requests:
        files.delete("one", run_id())
        files.release("one", run_id())
    assert requests == []
