"""Which process of a data folder an open run belongs to, and whether that process is still there.

    .running/{owner}    the projects in which it has, or had, open runs; locked as long as the process lives
    .running/.{owner}   the accepted runs that it is at, in places of `ID` bytes

The system gives up the lock when the process ends, however it ends. Who finds a file without a lock knows whose runs to take over, and
where; it holds the lock itself meanwhile, so that nobody else does the same. Which runs had begun is told by memory that is shared through
the other file: that costs no system call, and outlives the process, if not a loss of power.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mechaway_core.errors import Unavailable

FOLDER = ".running"
ID = 36  # bytes of a run's id
PLACES = 1024  # of accepted runs at a time; MECHAWAY_MAX_RUNS goes no further


class Owner:
    """This process, for its open runs. `durable`: what is noted survives loss of power."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder / FOLDER
        self._durable = durable
        self._file = -1
        self._going: mmap.mmap | None = None
        self._places = deque(range(PLACES))
        self._closed = False
        self._projects: set[str] = set()
        self._lock = threading.Lock()

    def note(self, project: str) -> None:
        """Note that there will be open runs of this process in a project. Raises `Unavailable`."""
        if project in self._projects:
            return
        with self._lock:
            if self._closed:
                raise Unavailable("the server is shutting down")
            try:
                if self._file < 0:
                    self._file = self._make()
                os.write(self._file, f"{project}\n".encode())
                self._sync(self._file)
            except OSError as error:
                raise Unavailable(f"the data folder cannot be used: {error.strerror}: {self._folder}") from error
            self._projects.add(project)

    @contextlib.contextmanager
    def at(self, run_id: str) -> Iterator[None]:
        """Note that an accepted run goes on as long as the block does."""
        going = self._going
        if going is None or len(run_id) != ID or not self._places:
            yield
            return
        place = self._places.popleft() * ID
        going[place : place + ID] = run_id.encode()
        try:
            yield
        finally:
            going[place : place + ID] = bytes(ID)
            self._places.append(place // ID)

    def gone(self) -> Iterator[tuple[str, list[str], set[str]]]:
        """Processes that are gone, as (owner, projects, accepted runs that had begun).

        Who comes back for the next has taken over all runs of the one before.
        """
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
                    yield name, os.pread(file, 1 << 20, 0).decode(errors="replace").split(), self._begun(name)
                    for path in (self._folder / name, self._folder / f".{name}"):
                        path.unlink(missing_ok=True)

    def _begun(self, name: str) -> set[str]:
        try:
            data = (self._folder / f".{name}").read_bytes()
        except OSError:
            return set()
        places = (data[at : at + ID] for at in range(0, len(data), ID))
        return {place.decode(errors="replace") for place in places if place.strip(b"\0")}

    def close(self) -> None:
        """Let others take over what this process leaves open."""
        with self._lock:
            self._closed = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                self._projects.clear()

    def _make(self) -> int:
        """The file of this process, locked before anybody else can see it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._going = self._share()
        hidden = self._folder / f".new-{self.id}"
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

    def _share(self) -> mmap.mmap:
        file = os.open(self._folder / f".{self.id}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made long: else a full disk would end the process when it notes a run.
            if os.write(file, bytes(PLACES * ID)) < PLACES * ID:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return mmap.mmap(file, PLACES * ID)
        finally:
            os.close(file)

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
