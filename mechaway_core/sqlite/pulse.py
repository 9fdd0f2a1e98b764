"""Whether any document of a data folder was changed, told without a system call.

Every webhook asks whether the workflow it has compiled is still current. A query for that gives up the interpreter's lock several times,
and beside other busy threads each time costs more than the query does. So whoever changes a document counts that in memory that all
processes of a data folder share, the file `{data_dir}/.pulse` with two numbers: changes begun, and changes ended. (The file
`.pulse-at-work` is only there to be locked.)

*Begun* is counted up before a change is committed, *ended* after. A reader notes the number before it asks the database: as long as both
are still that number, so is the answer. While they differ, a change is under way, and readers ask the database. So they do when a process
was killed in the middle, until the next change finds nobody at work and makes the numbers even, at one that never stood there before.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from mechaway_core.errors import Unavailable

NAME, AT_WORK = ".pulse", ".pulse-at-work"
SIZE = 4096
LOOK_AGAIN = 0.05  # seconds after which a file is looked at whatever the pulse says: somebody may have removed the folder by hand
BEGUN, ENDED = 0, 1


class Pulse:
    """The numbers of one data folder. Thread-safe. The file is made by the first `changing`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._at_work_path = folder / AT_WORK
        self._lock = threading.Lock()
        self._page: mmap.mmap | None = None
        self._numbers: memoryview[int] | None = None  # the page as numbers of 8 bytes, each read and written in one go
        self._mutex = -1  # a descriptor locked while the numbers are changed
        self._at_work = -1  # one locked, together with others, while a change is under way
        self._changes = 0  # under way in this process

    def epoch(self) -> int | None:
        """A number that stays the same as long as nothing changes; None when that cannot be said now."""
        numbers = self._numbers
        if numbers is None:
            with self._lock:
                numbers = self._numbers or self._open(make=False)
            if numbers is None:
                return None
        try:
            begun: int = numbers[BEGUN]
            return begun if numbers[ENDED] == begun else None
        except ValueError:  # closed just now
            return None

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Around a change of documents. Raises `Unavailable` when others could not be told; then nothing may be changed."""
        with self._lock:
            numbers = self._numbers or self._open(make=True)
            assert numbers is not None
            with _locked(self._mutex):
                if self._changes == 0:
                    self._begin_work(numbers)
                numbers[BEGUN] += 1
            self._changes += 1
        try:
            yield
        finally:
            with self._lock:
                with _locked(self._mutex):
                    numbers[ENDED] += 1
                self._changes -= 1
                if self._changes == 0:
                    fcntl.flock(self._at_work, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file. Used again, it is opened again. No change may be under way."""
        with self._lock:
            numbers, page = self._numbers, self._page
            self._numbers = self._page = None
            if numbers is not None and page is not None:
                numbers.release()
                page.close()
                os.close(self._mutex)
                os.close(self._at_work)

    def _begin_work(self, numbers: memoryview[int]) -> None:
        """Say that this process is at work. One that can have the lock for itself knows that nobody else is."""
        try:
            fcntl.flock(self._at_work, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if numbers[BEGUN] != numbers[ENDED]:
                numbers[BEGUN] = numbers[ENDED] = max(numbers[BEGUN], numbers[ENDED]) + 1
        fcntl.flock(self._at_work, fcntl.LOCK_SH)

    def _open(self, *, make: bool) -> memoryview[int] | None:
        opened: list[int] = []
        try:
            if make:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self._path, self._at_work_path):
                opened.append(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600))
            with _locked(opened[0]):
                if os.fstat(opened[0]).st_size < SIZE:
                    os.pwrite(opened[0], bytes(SIZE), 0)  # a hole in the file could not be filled on a full disk
            self._page = mmap.mmap(opened[0], SIZE)
            self._numbers = memoryview(self._page).cast("Q")
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            if make:
                raise Unavailable(f"the folder of the projects cannot be used: {error.strerror}: {self._path.parent}") from error
            return None
        self._mutex, self._at_work = opened
        return self._numbers


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
