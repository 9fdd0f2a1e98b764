"""Who looks after runs in a server process: every second, in a thread of its own.

Runs that take long are put on record, those that somebody asked to stop are stopped, those of a process that is gone are taken over, and
records are kept from growing without end.
"""

from __future__ import annotations

import logging
import threading

from mechaway_core.app import App
from mechaway_core.errors import MechawayError
from mechaway_core.local.owner import Owner

EVERY = 1.0  # seconds
PRUNE_EVERY = 30.0  # seconds between two looks at the size of what is on record

log = logging.getLogger("mechaway.runs")


class Caretaker:
    """Looks after the runs of an app. `start` and `stop` once each."""

    def __init__(self, app: App, owner: Owner) -> None:
        self._app = app
        self._owner = owner
        self._stopped = threading.Event()
        self._prune_at = 0.0
        self._thread = threading.Thread(target=self._serve, name="mechaway-caretaker", daemon=True)

    def start(self) -> None:
        """Begin, with what earlier processes left."""
        self._thread.start()

    def stop(self) -> None:
        """Take over nothing any more."""
        self._stopped.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            for look in (self._app.runs.look_after, self._take_over, self._prune):
                try:
                    look()
                except MechawayError as error:  # a disk that is away for now; the next look tries again
                    log.warning("runs could not be looked after: %s", error)
                except Exception:
                    log.exception("runs could not be looked after by a mistake of ours")
            self._stopped.wait(EVERY)

    def _take_over(self) -> None:
        for owner, projects, begun in self._owner.gone():
            for project in dict.fromkeys(projects):
                if self._app.projects.exists(project):
                    count = self._app.runs.take_over(project, owner, self._app.clock.now(), begun)
                    if count:
                        log.info("took over %d open runs in project %s of a process that is gone", count, project)

    def _prune(self) -> None:
        now = self._app.clock.monotonic()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            self._app.trim_records()
