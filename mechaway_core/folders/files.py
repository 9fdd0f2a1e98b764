"""Files of runs as files in the folders of projects: `{data_dir}/{project}/files/{run id}/{chance}`.

What a caller sent never becomes part of a path: names are made here, and a handle is matched whole before it is looked up. The folder
of a run is opened without following links and its files are opened below it, so no link that somebody put there leads out.

A run that keeps files holds a shared lock on its folder until it is over, in whatever process. The sweep takes only folders that nobody
holds; the lock of a process that was killed is gone with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mechaway_core.errors import MechawayError, NotFound, TooLarge, Unavailable
from mechaway_core.names import shorten
from mechaway_core.ports import FileInfo
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.sqlite.files import DEFAULT

HANDLE = re.compile(r"file:([0-9a-f-]{36})/([0-9a-f]{32})", re.ASCII)
RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # whatever was put there, opening it waits for nobody
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # the last two: a link, or something else that is not what it should be


class FolderFiles:
    """`Files` in the folders of projects. With `durable`, a file that was kept survives loss of power.

    Locks of folders hold on one machine. Where several share the folders, `least` is the seconds from its start for which a run may go on
    on another one, and no younger files are swept.
    """

    def __init__(self, files: ProjectFiles, *, durable: bool = True, least: float = 0.0) -> None:
        self._projects = files
        self._durable = durable
        self._least = least
        self._held: dict[tuple[str, str], int] = {}  # the open, locked folders of runs; each call on it is one step

    def write(self, project: str, run_id: str, filename: str, content_type: str, chunks: Iterable[bytes], most: int) -> FileInfo:
        """See `Files.write`."""
        name = uuid.uuid4().hex
        with _disk("kept"):
            folder = self._hold(project, run_id)
            file = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            size = self._fill(file, filename, chunks, most)
            with _disk("kept"):
                self._sync(file)
                self._sync(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(file)
        return FileInfo(filename, content_type, size, f"file:{run_id}/{name}")

    def open(self, project: str, handle: str) -> BinaryIO:
        """See `Files.open`."""
        found = HANDLE.fullmatch(handle)
        if found is None:
            raise no_file()
        area = self._area(project)
        with _disk("read"):
            try:
                file = _open(area / found[1], found[2])
            except OSError as error:
                if error.errno in _NOT_THERE:
                    raise no_file() from None
                raise
            if stat.S_ISREG(os.fstat(file).st_mode):
                return os.fdopen(file, "rb")
            os.close(file)
            raise no_file()

    def release(self, project: str, run_id: str) -> None:
        """See `Files.release`."""
        folder = self._held.pop((project, run_id), None)
        if folder is not None:
            os.close(folder)
            with contextlib.suppress(OSError):  # only a folder that stayed empty goes
                os.rmdir(self._place(project) / run_id)

    def delete(self, project: str, run_id: str) -> None:
        """See `Files.delete`."""
        with contextlib.suppress(MechawayError):
            shutil.rmtree(self._area(project) / checked(run_id), ignore_errors=True)
        self.release(project, run_id)

    def delete_older(self, seconds: float, until: float | None = None) -> int:
        """See `Files.delete_older`."""
        before = time.time() - max(seconds, self._least)
        gone = 0
        for slug in self._projects.slugs():
            with contextlib.suppress(OSError), os.scandir(self._place(slug)) as runs:
                for run in runs:
                    if until is not None and time.monotonic() >= until:
                        return gone
                    if RUN_ID.fullmatch(run.name) and began(run.name) < before:
                        gone += _delete(Path(run.path))
        return gone

    # -- folders

    def _hold(self, project: str, run_id: str) -> int:
        """The open folder of a run, made when it is not there, and locked until the run is released."""
        key = (project, run_id)
        held = self._held.get(key)
        if held is not None:
            return held
        folder = _locked(self._make(project, run_id))
        held = self._held.setdefault(key, folder)
        if held != folder:  # another branch of the run was quicker
            os.close(folder)
        return held

    def _make(self, project: str, run_id: str) -> Path:
        area = self._area(project)
        if project == DEFAULT:  # which always exists, but has no folder before something is saved in it
            self._projects.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._mkdir(area.parent)
        place = area / checked(run_id)
        self._mkdir(area)
        self._mkdir(place)
        return place

    def _mkdir(self, place: Path) -> None:
        """Make a folder for this user alone, in one that is there."""
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
            if self._durable:
                above = os.open(place.parent, os.O_RDONLY)
                try:
                    os.fsync(above)
                finally:
                    os.close(above)

    def _area(self, project: str) -> Path:
        """Where the files of a project are. A project that was deleted must not come back by a file of its last run."""
        if not self._projects.exists(project):
            raise NotFound(f'there is no project "{shorten(project)}"')
        return self._place(project)

    def _place(self, project: str) -> Path:
        return self._projects.root / project / "files"

    # -- one file

    @staticmethod
    def _fill(file: int, filename: str, chunks: Iterable[bytes], most: int) -> int:
        size = 0
        for chunk in chunks:  # what fails in here is not the disk
            size += len(chunk)
            if size > most:
                raise TooLarge(f'the file "{shorten(filename)}" is larger than {most / 1_000_000:g} MB')
            with _disk("kept"):
                _write(file, chunk)
        return size

    def _sync(self, descriptor: int) -> None:
        if self._durable:
            os.fsync(descriptor)


def checked(run_id: str) -> str:
    """An id of a run as it is. Nothing becomes part of a path before it was asked here."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is not the id of a run")
    return run_id


def _locked(place: Path) -> int:
    folder = os.open(place, _FOLDER)
    fcntl.flock(folder, fcntl.LOCK_SH)
    return folder


def _open(place: Path, name: str) -> int:
    folder = os.open(place, _FOLDER)
    try:
        return os.open(name, _OLD, dir_fd=folder)
    finally:
        os.close(folder)


def _write(file: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(file, rest) :]


def _delete(place: Path) -> bool:
    """Delete the folder of a run unless a run holds it; whether it went."""
    try:
        folder = os.open(place, _FOLDER)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place)
        return True
    except OSError:  # held, or being deleted by another process at this moment
        return False
    finally:
        os.close(folder)


def began(run_id: str) -> float:
    """When a run began, in seconds since 1970: its id is a UUID of version 7 (RFC 9562) and says so."""
    return int(run_id[:8] + run_id[9:13], 16) / 1000


def no_file() -> NotFound:
    """The error for a handle that finds nothing."""
    return NotFound("there is no such file, or it was deleted by now")


@contextlib.contextmanager
def _disk(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the file cannot be {done}: {error.strerror or error}") from error
