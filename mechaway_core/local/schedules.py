"""Schedules as documents of their project, beside the workflows that ask for them, and the bell that tells who keeps time.

schedules/{workflow}/{node}    {"expression", "timezone", "since"}
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import stat
import time
from pathlib import Path

import orjson

from mechaway_core.cron import cron
from mechaway_core.errors import NotFound, Unavailable
from mechaway_core.ports import Clock, Projects, Schedule, Store, Stored

BELL = ".clock-bell"

_SCHEDULES = "schedules/"
_FULL = 32_768  # bytes that were read at once, after which some may have been lost
_PATIENCE = 1.0  # seconds to wait for room in the bell


class LocalSchedules:
    """`Schedules` as documents."""

    def __init__(self, store: Store, projects: Projects, clock: Clock) -> None:
        self._store = store
        self._projects = projects
        self._clock = clock

    def put(self, project: str, schedule: Schedule) -> None:
        """See `Schedules.put`."""
        cron(schedule.expression, schedule.timezone)  # raises `Invalid`
        key = f"{_SCHEDULES}{schedule.workflow_id}/{schedule.node_id}"
        if self._get(project, key) != schedule:
            said = {"expression": schedule.expression, "timezone": schedule.timezone, "since": self._clock.now()}
            self._store.put(project, key, orjson.dumps(said))

    def delete(self, project: str, workflow_id: str, node_id: str | None = None) -> int:
        """See `Schedules.delete`."""
        try:
            keys = self._store.keys(project, f"{_SCHEDULES}{workflow_id}/") if node_id is None else [f"{_SCHEDULES}{workflow_id}/{node_id}"]
            return sum(self._store.delete(project, key) for key in keys)
        except NotFound:  # the project went with all of them
            return 0

    def list(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        """See `Schedules.list`."""
        prefix = _SCHEDULES if workflow_id is None else f"{_SCHEDULES}{workflow_id}/"
        found: list[Schedule] = []
        after = ""
        with contextlib.suppress(NotFound):
            while keys := self._store.keys(project, prefix, after):
                found += [schedule for key in keys if (schedule := self._get(project, key)) is not None]
                after = keys[-1]
        return sorted(found, key=lambda one: (one.workflow_id, one.node_id))

    def projects(self) -> set[str]:
        """See `Schedules.projects`."""
        return {project for project in self._projects.list() if self._store.keys(project, _SCHEDULES, "", 1)}

    def names(self, project: str, schedule: Schedule) -> tuple[str, ...]:
        """See `Schedules.names`."""
        return ()

    def _get(self, project: str, key: str) -> Schedule | None:
        stored = self._store.get(project, key)
        if not isinstance(stored, Stored):
            return None
        said = orjson.loads(stored.data)
        _, workflow_id, node_id = key.split("/")
        return Schedule(workflow_id, node_id, said["expression"], said["timezone"], said["since"])


class Bell:
    """Tells the process that keeps time which workflows were saved, from whatever process of the data folder. A pipe with a name."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BELL
        self._listening = -1
        self._selector: selectors.BaseSelector | None = None

    def ring(self, project: str, workflow_id: str) -> None:
        """Say that the schedules of a workflow may have changed. Where nobody listens there is nobody to tell: who begins, looks."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                self._write(descriptor, f"{project}\t{workflow_id}\n".encode())
            finally:
                os.close(descriptor)

    def listen(self) -> None:
        """Begin to listen, if nobody did. Raises `Unavailable` when the folder cannot be used."""
        if self._listening >= 0:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISFIFO(os.lstat(self._path).st_mode):
                    self._path.unlink()
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            self._listening = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._selector = selectors.DefaultSelector()  # a server may have more files open than select() can name
            self._selector.register(self._listening, selectors.EVENT_READ)
        except OSError as error:
            raise Unavailable(f"the data folder cannot be used: {error.strerror}: {self._path}") from error

    def wait(self, seconds: float) -> set[tuple[str, str]] | None:
        """The workflows, as (project, id), that somebody rang for, after so many seconds at most; None when some may have been lost."""
        ready = self._selector is not None and bool(self._selector.select(max(0.0, seconds)))
        data = b""
        while ready and len(data) < 2 * _FULL:
            try:
                data += os.read(self._listening, _FULL)
            except BlockingIOError:
                break
        if len(data) >= _FULL:
            return None
        rung = (line.split("\t") for line in data.decode(errors="replace").splitlines())
        return {(one[0], one[1]) for one in rung if len(one) == 2}

    def close(self) -> None:
        """Stop listening."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._listening >= 0:
            os.close(self._listening)
            self._listening = -1

    @staticmethod
    def _write(descriptor: int, line: bytes) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                os.write(descriptor, line)
                return
            except OSError as error:
                if error.errno != errno.EAGAIN or time.monotonic() > until:
                    raise
                time.sleep(0.005)
