"""Runs that nobody waits for, in threads of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from mechaway_core.errors import MechawayError, Unavailable
from mechaway_core.logs import about
from mechaway_core.record import Run

log = logging.getLogger("mechaway.runs")

Start = Callable[[str, str, str, Any], Run]
"""Runs the workflow of a project from a node with these items, and waits for its end."""


class LocalInvoke:
    """An `Invoke` with so many threads at most; more starts wait in line. `serve` says what starts a run."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._run: Start | None = None

    def serve(self, start: Start) -> None:
        """Hand what is started to this."""
        self._run = start

    def start(self, project: str, workflow_id: str, node_id: str, items: Sequence[Any]) -> None:
        """See `Invoke.start`."""
        with self._lock:
            if self._closed:
                raise Unavailable("the server is shutting down; try again soon")
            self._pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="mechaway-started")
            self._pool.submit(copy_context().run, self._go, project, workflow_id, node_id, list(items))

    def close(self) -> None:
        """See `Invoke.close`."""
        with self._lock:
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown()

    def _go(self, project: str, workflow_id: str, node_id: str, items: list[Any]) -> None:
        place = about(project=project, workflow_id=workflow_id, node_id=node_id)
        if self._closed:
            log.error("a run of workflow %s in project %s was not begun: the server shuts down", workflow_id, project, extra=place)
            return
        assert self._run is not None
        try:
            run = self._run(project, workflow_id, node_id, items)
        except MechawayError as error:  # deleted meanwhile
            log.error("a run of workflow %s in project %s was not begun: %s", workflow_id, project, error, extra=place)
            return
        except Exception:
            log.exception("a run of workflow %s in project %s ended by a mistake of ours", workflow_id, project, extra=place)
            return
        if run.failure is not None:
            log.error("%s", run.told(), extra=run.about())
