"""Tables as one SQLite file for each project, in a bucket: `tables/{slug}/{generation}/simpletable.db`.

A process works on a copy in its own folder (copies.py). To read: ask whether the copy is still what the bucket holds (one conditional
GET), take the new one if not, and read. To write: run the jobs on the copy without committing, put the outcome into the bucket on the
condition that what the copy came from is still there (one conditional PUT), and only then make it the copy. When somebody else was
quicker, take theirs and run the same jobs on that. Files are never merged, and the copy never holds what the bucket does not.

A job that fails on the copy may fail because the copy is old. So it fails for good only when the bucket says that the copy is current.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mechaway_core.aws.copies import Copy
from mechaway_core.aws.projects import Moved, S3Projects
from mechaway_core.aws.s3 import S3, BucketUnavailable
from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import Cancelled, OutOfTime, Unavailable
from mechaway_core.ports import Session
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Options

T = TypeVar("T")

ATTEMPTS = 5  # at a job that fails each time on a copy that turns out to be old, or whose project is made anew

_FOLDER = "mechaway-tables-"


class S3Tables:
    """`Tables` in a bucket. Copies take `settings.cache_max_mb` together; those used longest ago are given up first."""

    def __init__(self, s3: S3, projects: S3Projects, settings: Settings) -> None:
        self._s3 = s3
        self._projects = projects
        self._revalidate = settings.revalidate_seconds
        self._options = _options(settings)
        self._most_bytes = settings.cache_max_mb * 1_000_000
        self._most_copies = settings.max_open_projects
        self._root = settings.cache_dir
        self._folder: _Folder | None = None
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()  # by place; those used last at the end

    def read(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """See `Tables.read`. One conditional GET, or none inside `MECHAWAY_REVALIDATE_SECONDS`."""
        for _ in range(ATTEMPTS):
            with self._copy(project) as copy, contextlib.suppress(Moved):
                copy.freshen(self._revalidate, deadline)
                return copy.database.read(job, deadline, cancellation)
        raise _restless(project)

    def write(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """See `Tables.write`. One PUT when nobody else wrote meanwhile; the first write of a process also reads."""
        for attempt in range(ATTEMPTS):
            with self._copy(project) as copy, contextlib.suppress(Moved):
                copy.ready(deadline)
                taken = copy.taken
                try:
                    return copy.database.write(job, deadline, cancellation)
                except (Moved, Unavailable, OutOfTime, Cancelled):
                    raise
                except Exception:
                    copy.freshen(0, deadline)
                    if copy.taken == taken or attempt + 1 == ATTEMPTS:
                        raise
        raise _restless(project)

    def close(self) -> None:
        """Give up all copies. Used again, it makes new ones."""
        with self._lock:
            copies = list(self._copies.values())
            self._copies.clear()
            folder, self._folder = self._folder, None
        for copy in copies:
            copy.database.close()
        if folder is not None:
            folder.delete()

    # -- copies

    @contextlib.contextmanager
    def _copy(self, project: str) -> Iterator[Copy]:
        """The copy of a project's tables, which stays as long as it is used."""
        place = self._projects.place(project)
        with self._lock:
            copy = self._copies.get(place)
            if copy is None:
                copy = self._copies[place] = self._make(project, place)
            self._copies.move_to_end(place)
            copy.users += 1
        sound = True
        try:
            yield copy
        except Unavailable as error:
            sound = isinstance(error, BucketUnavailable)
            raise
        finally:
            for old in self._returned(place, copy, sound):
                old.forget()

    def _returned(self, place: str, copy: Copy, sound: bool) -> list[Copy]:
        """Count down who uses a copy; the copies that are to be deleted by now. One that is not sound is not used again."""
        with self._lock:
            copy.users -= 1
            if not sound and self._copies.get(place) is copy:
                del self._copies[place]
            surplus = self._surplus()
            if copy.users == 0 and self._copies.get(place) is not copy and copy not in surplus:
                surplus.append(copy)
            return surplus

    def _make(self, project: str, place: str) -> Copy:
        if self._folder is None:
            self._folder = _Folder(self._root)
        try:
            folder = Path(tempfile.mkdtemp(dir=self._folder.path))
        except OSError as error:
            raise _no_place(self._root, error) from error
        return Copy(self._s3, self._projects, project, place, folder, self._options)

    def _surplus(self) -> list[Copy]:
        """Take copies that nobody uses out of those that are kept, until the rest fits."""
        surplus: list[Copy] = []
        sizes = {place: copy.size() for place, copy in self._copies.items()}
        total = sum(sizes.values())
        for place in list(self._copies):
            if len(self._copies) == 1 or (total <= self._most_bytes and len(self._copies) <= self._most_copies):
                break
            if self._copies[place].users == 0:
                surplus.append(self._copies.pop(place))
                total -= sizes[place]
        return surplus


def _options(settings: Settings) -> Options:
    options = Options(
        journal="memory",
        busy_timeout=settings.busy_timeout,
        guarded=True,
        max_mb=settings.tables_max_mb,
        sql_timeout=settings.sql_timeout,
        sql_max_rows=settings.sql_max_rows,
        sql_max_mb=settings.sql_max_mb,
    )
    if settings.s3_tables_max_mb >= settings.tables_max_mb:
        return options
    advice = "MECHAWAY_S3_TABLES_MAX_MB; larger ones belong on EFS, by deploying with Storage=efs, or in PostgreSQL"
    return options._replace(max_mb=settings.s3_tables_max_mb, max_setting=advice)


class _Folder:
    """A folder for the copies of this process, locked as long as they are used. Those of processes that are over are deleted."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            for old in root.glob(f"{_FOLDER}*"):
                _delete_left(old)
            self.path, self._lock = _locked_folder(root)
        except OSError as error:
            raise _no_place(root, error) from error

    def delete(self) -> None:
        """Delete it with all copies."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked_folder(root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=root))
        with contextlib.suppress(FileNotFoundError):  # before it was locked, another process took it for a leftover
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _delete_left(folder: Path) -> None:
    with contextlib.suppress(OSError):
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(held)


def _no_place(root: Path, error: OSError) -> Unavailable:
    return Unavailable(f"the copies of tables cannot be kept: {error.strerror or error}: {root} (MECHAWAY_CACHE_DIR)")


def _restless(project: str) -> Unavailable:
    return Unavailable(f'project "{project}" is being made anew all the time; nothing was saved')
