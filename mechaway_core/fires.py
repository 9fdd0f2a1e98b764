"""What became of the due times of schedules: the last one that ran, and those that were missed.

    fires/{workflow}/{node}    {"due", "run_due", "run", "status", "started", "ended", "missed", "last_missed", "skipped"}

Moments are seconds since 1970. Whoever keeps time writes here; it is what a schedule is caught up from after nobody looked for a while.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson

from mechaway_core.errors import Conflict, NotFound
from mechaway_core.logs import about
from mechaway_core.ports import ABSENT, Schedule, Store, Stored
from mechaway_core.record import Run, iso

_FIRES = "fires/"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Fired:
    """What is known of a schedule.

    `missed` counts due times for which no run began, `skipped` those that an earlier run stood in the way of.
    """

    due: float = 0.0  # the last that somebody looked at
    run_due: float = 0.0  # that of the run
    run: str | None = None
    status: str | None = None
    started: float | None = None
    ended: float | None = None
    missed: int = 0
    last_missed: float | None = None
    skipped: int = 0


class Fires:
    """What became of the schedules of all projects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, project: str, workflow_id: str, node_id: str) -> Fired:
        """What is known; nothing of a schedule that has not been due yet."""
        stored = self._store.get(project, _key(workflow_id, node_id))
        return _read(stored) if isinstance(stored, Stored) else Fired()

    def ran(self, project: str, workflow_id: str, node_id: str, due: float, run: Run) -> None:
        """Note the run of a due time. The newest due time stays the last one, in whatever order runs end."""

        def noted(known: Fired) -> Fired:
            if due < known.due:
                return known
            return dataclasses.replace(known, due=due, run_due=due, run=run.info.id, status=run.status, started=run.began, ended=run.ended)

        self._change(project, workflow_id, node_id, noted)

    def missed(self, project: str, workflow_id: str, node_id: str, due: float, count: int) -> None:
        """Note that so many due times, up to this one, began no run."""

        def noted(known: Fired) -> Fired:
            return dataclasses.replace(known, due=max(known.due, due), missed=known.missed + count, last_missed=due)

        self._change(project, workflow_id, node_id, noted)

    def skipped(self, project: str, workflow_id: str, node_id: str, due: float) -> None:
        """Note that a due time was skipped because the run of an earlier one went on."""

        def noted(known: Fired) -> Fired:
            return dataclasses.replace(known, due=max(known.due, due), skipped=known.skipped + 1)

        self._change(project, workflow_id, node_id, noted)

    def forget(self, project: str, workflow_id: str) -> None:
        """Forget the schedules of a workflow."""
        with contextlib.suppress(NotFound):  # the project went with it
            for key in self._store.keys(project, f"{_FIRES}{workflow_id}/"):
                self._store.delete(project, key)

    def _change(self, project: str, workflow_id: str, node_id: str, change: Any) -> None:
        key = _key(workflow_id, node_id)
        for attempt in range(_ATTEMPTS):
            stored = self._store.get(project, key)
            known, version = (_read(stored), stored.version) if isinstance(stored, Stored) else (Fired(), ABSENT)
            try:
                self._store.put(project, key, orjson.dumps(dataclasses.asdict(change(known))), version)
            except Conflict:  # `Stale` is one, too: another run of the same schedule ended at this moment
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return


def about_schedule(project: str, schedule: Schedule, due: float | None = None) -> dict[str, Any]:
    """The fields of a line of the log about a schedule, or one of its due times."""
    scheduled_for = None if due is None else iso(due)
    return about(project=project, workflow_id=schedule.workflow_id, node_id=schedule.node_id, scheduled_for=scheduled_for)


def missed_sentence(project: str, schedule: Schedule, count: int, last: float) -> str:
    """What the log says of due times that nobody started a run for."""
    where = f"node {schedule.node_id} of workflow {schedule.workflow_id} in project {project}"
    return (
        f'the schedule "{schedule.expression}" ({schedule.timezone}) of {where} was due {count} times, up to {iso(last)}, '
        "and nobody started a run"
    )


def _key(workflow_id: str, node_id: str) -> str:
    return f"{_FIRES}{workflow_id}/{node_id}"


def _read(stored: Stored) -> Fired:
    said = orjson.loads(stored.data)
    return Fired(**{field.name: said[field.name] for field in dataclasses.fields(Fired) if field.name in said})
