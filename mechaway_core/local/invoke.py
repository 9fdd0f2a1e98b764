"""Runs that nobody waits for, in threads of this process.

What waits here is on record, so it is only the order of things that is lost with the process. No more than half of the runs that a process
may have at a time are of this kind: callers that wait are not to stand behind a heap of others.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

from mechaway_core.errors import Unavailable
from mechaway_core.logs import about

log = logging.getLogger("mechaway.runs")

Job = Callable[[], None]
Work = Callable[[str, str], None]
"""Runs an open run of a project to its end and puts that on record."""


class LocalInvoke:
    """An `Invoke` with so many runs at a time at most; more wait in line, up to `waiting`. `serve` says what runs them.

    `at` is entered with the id of a run for as long as that goes on.
    """

    here = True

    def __init__(self, most: int, waiting: int, at: Callable[[str], AbstractContextManager[None]] = lambda _run_id: nullcontext()) -> None:
        self._at = at
        self._most = most
        self._waiting = waiting
        self._lock = threading.Lock()  # over the next three
        self._line: deque[tuple[str, str]] = deque()
        self._going = 0
        self._closed = False
        self._work: Work | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._submit: Callable[[Job], object] = self._in_pool

    def serve(self, work: Work, submit: Callable[[Job], object] | None = None) -> None:
        """Hand what is started to this; `submit` has a job done in a thread, else there are threads of our own for it."""
        self._work = work
        self._submit = submit or self._submit

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """See `Invoke.start`."""
        with self._lock:
            if self._closed:
                raise Unavailable("the server is shutting down")
            self._line.append((project, run_id))
            if self._going >= self._most:
                return
            self._going += 1
        self._submit(self._go)

    def check(self) -> None:
        """Raise `Unavailable` when there is no room in the line."""
        if len(self._line) >= self._waiting:
            raise Unavailable("too many accepted runs wait to begin; try again later (MECHAWAY_MAX_ACCEPTED)")

    def close(self) -> None:
        """See `Invoke.close`. What has not begun is for another process."""
        with self._lock:
            self._closed = True
            self._line.clear()
        if self._pool is not None:
            self._pool.shutdown()

    def _go(self) -> None:
        """Run one, and have the next one run behind whatever else waits for a thread."""
        with self._lock:
            if not self._line:
                self._going -= 1
                return
            project, run_id = self._line.popleft()
        try:
            if self._work is not None:
                with self._at(run_id):
                    self._work(project, run_id)
        except Exception:
            log.exception("run %s in project %s ended by a mistake of ours", run_id, project, extra=about(project=project, run_id=run_id))
        with self._lock:
            if not self._line:
                self._going -= 1
                return
        self._submit(self._go)

    def _in_pool(self, job: Job) -> None:
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self._most, thread_name_prefix="mechaway-started")
        try:
            self._pool.submit(job)
        except RuntimeError:  # closed at this moment
            log.info("runs that were accepted wait for the next server")
