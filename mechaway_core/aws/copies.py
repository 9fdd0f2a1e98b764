"""The copy of one project's tables: how it is renewed, and how what was written gets into the bucket.

The file of a copy is, byte for byte, what is or was in the bucket under the entity tag `_held.etag`, and is only ever replaced whole. A
writer works in a transaction that is never committed here; its pages stay in memory. Each object carries the marks of its last saves
(random, newest first), so that a save whose answer was lost can be found again, also below those of others.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mechaway_core.aws.projects import Moved, S3Projects
from mechaway_core.aws.s3 import S3, BucketUnavailable, Found, Mismatch
from mechaway_core.errors import OutOfTime
from mechaway_core.ports import ABSENT, Unchanged
from mechaway_core.sqlite import Database, Options
from mechaway_core.sqlite.link import Identity, identity_of

MARKS = 20  # saves that an object remembers
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0  # seconds between tries of writers that meet; each is a random part of these


class _Held(NamedTuple):
    """What the copy is. No `etag`: nothing was there."""

    etag: str | None
    saves: tuple[str, ...]


class Copy:
    """The copy, in a `folder` of its own. `users` is kept by whoever holds several; `taken` counts how often the bucket had another one."""

    def __init__(self, s3: S3, projects: S3Projects, project: str, place: str, folder: Path, options: Options) -> None:
        self.users = 0
        self.taken = 0
        self.path = folder / "simpletable.db"
        self.database = Database(self.path, options, f'project "{project}"', origin=self)
        self._s3 = s3
        self._projects = projects
        self._project = project
        self._place = place
        self._key = f"tables/{place}/simpletable.db"
        self._folder = folder
        self._held = _Held(None, ())
        self._asked: float | None = None  # when what the copy is was asked for last, with an answer
        self._asking = threading.Lock()
        self._installing = threading.Lock()

    def size(self) -> int:
        """Bytes it takes."""
        with contextlib.suppress(OSError):
            return os.stat(self.path).st_size
        return 0

    def forget(self) -> None:
        """Close and delete it. Nobody may use it."""
        self.database.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- from the bucket

    def ready(self, deadline: float | None) -> None:
        """Have a copy, however old."""
        if self._asked is None:
            self.freshen(0, deadline)

    def freshen(self, seconds: float, deadline: float | None) -> None:
        """Have what the bucket held at most so many seconds before this call, or later. Threads that meet share one question.

        Raises `NotFound` when there is no such project any more, `Moved`, `OutOfTime`, `Unavailable`.
        """
        wanted = time.monotonic() - seconds
        with _held_in_time(self._asking, deadline, self._project):
            if self._asked is None or self._asked < wanted:
                self._ask(deadline)

    def _ask(self, deadline: float | None = None) -> None:
        while True:
            held, asked = self._held, time.monotonic()
            new = self._folder / uuid.uuid4().hex
            try:
                found = self._s3.get(self._key, held.etag, into=new, deadline=deadline)
                if found is None:
                    self._check_place()
                if self._install(found, new, held, asked):
                    return
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new)

    def _install(self, found: Found | Unchanged | None, new: Path, instead_of: _Held, asked: float) -> bool:
        """Make what was found the copy; False when a writer of this process replaced meanwhile what it was to replace."""
        with self._installing:
            if self._held is not instead_of:
                return False
            if isinstance(found, Found):
                _unlog(new)
                os.replace(new, self.path)
                self._held = _Held(found.etag, tuple(found.saves.split()))
                self.taken += 1
            elif found is None and instead_of.etag is not None:
                os.unlink(self.path)
                self._held = _Held(None, ())
                self.taken += 1
            self._asked = asked
            return True

    def _check_place(self) -> None:
        if self._projects.ask(self._project) != self._place:
            raise Moved(f'project "{self._project}" was made anew')

    # -- into the bucket

    def publish(self, content: bytes, base: Identity | None, since: float, tries: int) -> bool:
        """See `sqlite.database.Origin`."""
        with self._installing:
            if identity_of(str(self.path)) != base:
                return False
            held = self._held
        if self._is_same(content):
            taken = self.taken
            self.freshen(0, None)
            return self.taken == taken
        mark = uuid.uuid4().hex
        saves = (mark, *held.saves[: MARKS - 1])
        asked = time.monotonic()
        try:
            etag = self._s3.put(self._key, content, ABSENT if held.etag is None else held.etag, " ".join(saves))
        except Mismatch as met:
            return self._renew(mark, unsure=met.unsure, since=since, tries=tries)
        if held.etag is None:
            self._projects.confirm(self._project, self._place, self._key)
        self._keep(content, _Held(etag, saves), held, asked)
        return True

    def _renew(self, mark: str, *, unsure: bool, since: float, tries: int) -> bool:
        """Take what somebody else put there. True when it holds what was saved under this mark after all."""
        if not unsure:
            pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries))
            if time.monotonic() + pause - since > self._s3.timeout:
                waited = f"within {self._s3.timeout:g} s (MECHAWAY_S3_TIMEOUT)"
                raise BucketUnavailable(f'too many write the tables of project "{self._project}": no turn came {waited}; nothing was saved')
            time.sleep(pause)
        with self._asking:
            self._ask()
        return unsure and mark in self._held.saves

    def _keep(self, content: bytes, held: _Held, instead_of: _Held, asked: float) -> None:
        """Make what was saved the copy. It is saved: what fails here only costs the copy."""
        new = self._folder / uuid.uuid4().hex
        with self._installing:
            if self._held is not instead_of:
                return
            try:
                new.write_bytes(content)
                os.replace(new, self.path)
            except OSError:
                self._asked = None
                with contextlib.suppress(OSError):
                    os.unlink(new)
            else:
                self._held, self._asked = held, asked

    def _is_same(self, content: bytes) -> bool:
        """Whether nothing was changed at all."""
        return self.size() == len(content) and self.path.read_bytes() == content


def _unlog(path: Path) -> None:
    """Say in a file's head that it has no write-ahead log, as one that came from elsewhere may have had (SQLite file format, 1.3.3)."""
    with path.open("r+b") as file:
        file.seek(18)
        if file.read(2) == b"\2\2":
            file.seek(18)
            file.write(b"\1\1")


@contextlib.contextmanager
def _held_in_time(lock: threading.Lock, deadline: float | None, project: str) -> Iterator[None]:
    rest = -1.0 if deadline is None else max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
    if not lock.acquire(timeout=rest):
        raise OutOfTime(f'waited for the tables of project "{project}" longer than its timeout allows')
    try:
        yield
    finally:
        lock.release()
