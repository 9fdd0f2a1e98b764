"""What the schedules of a project have done and will do, and runs for times that are past."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from mechaway_core.errors import Invalid, NotFound
from mechaway_core.fires import Fires
from mechaway_core.late import LateRuns
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.ports import Clock, Schedule
from mechaway_core.record import iso
from mechaway_core.timetable import Timetable, timings_of

if TYPE_CHECKING:
    from mechaway_core.timing import Timing

SHOWN = 5  # due times to come
MOST_BACKFILLED = 1000  # runs of one backfill


@dataclass(frozen=True, slots=True)
class Backfill:
    """The due times within a span, and how many of them have had their run before. `started`: whether runs for the others were begun."""

    node: str
    due: tuple[int, ...]
    ran_before: int
    started: int

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "node": self.node,
            "due": [iso(due) for due in self.due],
            "count": len(self.due),
            "ran_before": self.ran_before,
            "started": self.started,
        }


class Agenda:
    """The schedules of all projects, as people look at them."""

    def __init__(self, timetable: Timetable, fires: Fires, clock: Clock, late: LateRuns) -> None:
        self._timetable = timetable
        self._fires = fires
        self._clock = clock
        self._late = late

    def find(self, project: str, after: str = "", limit: int = 100) -> tuple[list[dict[str, Any]], str | None]:
        """The schedules of the workflows behind the id `after`, in their order, and where the next page begins, if there is one.

        A workflow with several has them all on one page.
        """
        now = self._clock.now()
        found: list[dict[str, Any]] = []
        last = ""
        for document in self._timetable.documents(project, after):
            if len(found) >= limit:
                return found, last
            last = str(document["id"])
            timings = timings_of(document)
            kept = {one.node_id: one for one in self._timetable.kept(project, last)} if timings else {}
            for (_, node_id), timing in timings.items():
                found.append(self._shown(project, last, node_id, timing, kept.get(node_id), now))
        return found, None

    def backfill(self, project: str, workflow_id: str, start: Any, end: Any, node_id: Any = None, *, act: bool) -> Backfill:
        """The due times of a schedule from `start` up to `end`, times in ISO 8601; with `act`, have their runs begun.

        A due time that has had its run gets no other, as far back as claims are kept (`handover.KEEP`). Raises `NotFound`, `Invalid` for
        what is no time, lies ahead or is too much.
        """
        node, timing = self._trigger(project, workflow_id, node_id)
        first, last = self._moment("from", start, timing), self._moment("to", end, timing)
        if last > self._clock.now():
            raise Invalid("backfill is for the past: to lies ahead")
        due = tuple(islice(timing.cron.between(first, last), MOST_BACKFILLED + 1))
        if len(due) > MOST_BACKFILLED:
            raise Invalid(f"there are more than {MOST_BACKFILLED} due times between from and to; take a shorter span")
        schedule = Schedule(workflow_id, node, timing.cron.expression.text, timing.cron.zone.name)
        before = sum(self._late.had_run(project, schedule, moment) for moment in due)
        started = sum(self._late.begin(project, schedule, moment, "backfill") for moment in due) if act else 0
        return Backfill(node, due, before, started)

    def _trigger(self, project: str, workflow_id: str, node_id: Any) -> tuple[str, Timing]:
        timings = {node: timing for (_, node), timing in self._timetable.timings(project, workflow_id).items()}
        if not timings:
            raise NotFound(f'workflow "{shorten(workflow_id)}" has no schedule, or is switched off')
        if node_id is None and len(timings) == 1:
            return next(iter(timings.items()))
        if not isinstance(node_id, str) or node_id not in timings:
            near = did_you_mean(node_id, timings) if isinstance(node_id, str) else ""
            raise Invalid(f"node must be one of its triggers with a schedule: {', '.join(timings)}{near}")
        return node_id, timings[node_id]

    def _moment(self, name: str, text: Any, timing: Timing) -> float:
        from mechaway_core.timing import moment_of

        moment = moment_of(text, timing.cron.zone.name) if isinstance(text, str) else None
        if moment is None:
            raise Invalid(f"{name} must be a time such as 2026-12-24T18:00:00, in the zone of the schedule, or with an offset")
        return moment

    def _shown(self, project: str, workflow_id: str, node_id: str, timing: Timing, kept: Schedule | None, now: float) -> dict[str, Any]:
        from mechaway_core.cron import sentence

        cron = timing.cron
        fired = self._fires.get(project, workflow_id, node_id)
        coming: list[dict[str, str]] = []
        due = timing.next(now)
        while due is not None and len(coming) < SHOWN:
            coming.append({"utc": iso(due), "local": _local(due, cron.zone.name)})
            due = timing.next(due)
        return {
            "workflow_id": workflow_id,
            "node": node_id,
            "schedule": cron.expression.text,
            "timezone": cron.zone.name,
            "sentence": sentence(cron),
            "catch_up": timing.catch_up,
            "overlap": timing.overlap,
            "next": coming,
            "last_due": iso(fired.due) if fired.due else None,
            "last_run": fired.run,
            "last_status": fired.status,
            "last_started": iso(fired.started) if fired.started is not None else None,
            "lag_ms": round((fired.started - fired.run_due) * 1000, 1) if fired.started is not None else None,
            "missed": fired.missed,
            "last_missed": iso(fired.last_missed) if fired.last_missed is not None else None,
            "skipped": fired.skipped,
            "overdue": self._overdue(project, timing, kept, fired.due, now),
            "kept": kept is not None,
            "rules": [] if kept is None else list(self._timetable.names(project, kept)),
        }

    def _overdue(self, project: str, timing: Timing, kept: Schedule | None, looked: float, now: float) -> bool:
        """Whether it was due since somebody looked, so long ago that its run should have begun, and none has."""
        if kept is None:
            return False
        last = timing.latest(max(looked, kept.since), now - timing.grace - timing.jitter, 1)
        return bool(last) and not self._late.had_run(project, kept, last[0])


def _local(moment: int, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")
