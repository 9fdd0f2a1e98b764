"""Runs that were accepted, in the runner: each is begun once at a time, again when it was cut off, and looked for when its event got lost.

An attempt takes the run's lease, runs it, puts its end on record, and gives the lease back. An event that comes twice meets the lease, or a
run that is over. Who finds the lease of an attempt that was cut off, because it is the next attempt at the same event or because the
lease is past, counts another attempt, or ends the run, as its workflow says (`on_lost`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from mechaway_core.app import App
from mechaway_core.aws.attempt import LONGEST, Attempt, lacked_the_vault, told
from mechaway_core.errors import MechawayError, NotFound, Unavailable
from mechaway_core.leases import Held, Lease
from mechaway_core.ports import RunRecord

SLACK = 60.0  # seconds by which clocks of functions may differ, and a function may outlive what it was told
LOOK_EVERY = 1.0  # seconds between two looks at whether somebody asked a run to stop
VAULT_PATIENCE = 3600.0  # seconds for which an accepted run waits for a vault that is out of reach

log = logging.getLogger("mechaway.runner")


def begin(app: App, attempt: Attempt, project: str, run_id: str) -> dict[str, Any]:
    """Run an open run to its end unless somebody is at it; what was done. What it raises asks for another attempt."""
    try:
        lease = _lease(app, attempt, project, run_id)
        return {"status": "delivered before"} if lease is None else _begin(app, attempt, project, run_id, lease)
    except NotFound:
        log.warning("run %s was to begin, and its project %s is not there any more", run_id, project)
        return {"status": "nothing to do"}


def _lease(app: App, attempt: Attempt, project: str, run_id: str) -> Lease | None:
    """The lease of a run, None while somebody else is at it. When an attempt was cut off under it, another one is counted."""
    now = app.clock.now()
    until = now + (attempt.timeout or LONGEST) + SLACK
    found = app.leases.take(project, run_id, attempt.id, until)
    if isinstance(found, Lease):
        return found
    if found.holder != attempt.id and found.until > now:
        return None
    lease = app.leases.take_over(found, attempt.id, until)
    if lease is not None:
        record = app.runs.records.get(project, run_id)
        if record is not None and record.line.ended is None:
            app.runs.count_attempt(project, record)
    return lease


def _begin(app: App, attempt: Attempt, project: str, run_id: str, lease: Lease) -> dict[str, Any]:
    def asked() -> bool:
        return bool(app.runs.records.asked_to_stop(project, [run_id]))

    try:
        with heeding(asked, lambda: app.runs.cancel(project, run_id)):
            found = app.runs.begin(project, run_id, attempt.timeout)
    except MechawayError:  # it did not begin, so another attempt may
        app.leases.give_back(lease)
        raise
    if found is None:
        app.leases.give_back(lease)
        return {"status": "delivered before"}
    run, pending = found
    if lacked_the_vault(run) and app.clock.now() - run.began < VAULT_PATIENCE:
        app.leases.give_back(lease)
        raise Unavailable(f"run {run_id} waits: {run.failure.message if run.failure is not None else ''}")
    if pending is not None:
        pending.wait()
    app.leases.give_back(lease)
    return told(run)


@contextlib.contextmanager
def heeding(asked: Callable[[], bool], stop: Callable[[], None]) -> Iterator[None]:
    """Look now and then, while what is inside goes on, whether somebody asked it to stop."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            with contextlib.suppress(MechawayError):  # the next look may succeed
                if asked():
                    stop()
                    return

    threading.Thread(target=look, name="mechaway-heed", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def take_over(app: App, attempt: Attempt, project: str) -> int:
    """Begin open runs that nobody is at and nobody can be on the way to, or end them, as their workflows say; how many."""
    now = app.clock.now()
    count = 0
    for record in app.runs.records.abandoned(project, None, now - (attempt.timeout or LONGEST) - SLACK):
        held = app.leases.find(project, record.line.id)
        if held is None or held.until <= now:
            _take_over(app, project, record, held)
            count += 1
    return count


def _take_over(app: App, project: str, record: RunRecord, held: Held | None) -> None:
    """One that never began, since its event got lost or still waits in Lambda, is only handed over again."""
    line = record.line
    began = held is not None or line.status == "running"
    goes_on = app.runs.count_attempt(project, record) if began else True
    if held is not None:
        app.leases.give_back(held.lease)
    if goes_on:
        log.warning("run %s of workflow %s in project %s is handed to the runner again", line.id, line.workflow_id, project)
        app.runs.hand_over(project, record)
