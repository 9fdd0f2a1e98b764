"""Which process of a data folder an open run belongs to, and whether that process is still there.

    .running/{owner}    the projects in which it has, or had, open runs; locked as long as the process lives

The system gives up the lock when the process ends, however it ends. Who finds a file without a lock knows whose runs to take over, and
where; it holds the lock itself meanwhile, so that nobody else does the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from mechaway_core.errors import Unavailable

FOLDER = ".running"


class Owner:
    """This process, for its open runs. `durable`: what is noted survives loss of power."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder / FOLDER
        self._durable = durable
        self._file = -1
        self._projects: set[str] = set()
        self._lock = threading.Lock()

    def note(self, project: str) -> None:
        """Note that there will be open runs of this process in a project. Raises `Unavailable`."""
        if project in self._projects:
            return
        with self._lock:
            try:
                if self._file < 0:
                    self._file = self._make()
                os.write(self._file, f"{project}\n".encode())
                self._sync(self._file)
            except OSError as error:
                raise Unavailable(f"the data folder cannot be used: {error.strerror}: {self._folder}") from error
            self._projects.add(project)

    def gone(self) -> Iterator[tuple[str, list[str]]]:
        """Processes that are gone, as (owner, projects); who comes back for the next has taken over all runs of the one before."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(f"the data folder cannot be used: {error.strerror}: {self._folder}") from error
        for name in names:
            if name == self.id or not name.isalnum():
                continue
            with self._held(name) as file:
                if file >= 0:
                    yield name, os.pread(file, 1 << 20, 0).decode(errors="replace").split()
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._folder / name)

    def close(self) -> None:
        """Let others take over what this process leaves open."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                self._projects.clear()

    def _make(self) -> int:
        """The file of this process, locked before anybody else can see it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = self._folder / f".{self.id}"
        file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.rename(hidden, self._folder / self.id)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                self._sync(folder)
            finally:
                os.close(folder)
        except BaseException:
            os.close(file)
            raise
        return file

    def _sync(self, file: int) -> None:
        if self._durable:
            os.fsync(file)

    @contextlib.contextmanager
    def _held(self, name: str) -> Iterator[int]:
        """The file of another process, locked; -1 while that process lives, or another one takes over its runs."""
        try:
            file = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            yield -1
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            yield -1
            return
        try:
            yield file
        finally:
            os.close(file)
