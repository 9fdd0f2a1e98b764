"""Notices due times for which no run began, where nobody keeps the time of all schedules in one place.

In AWS each schedule is a rule of its own: one that was disabled, or whose event got lost, would be missed by nobody. So now and then
somebody looks from here: what was due since the last look, long enough ago, and has no claim, was missed. That is logged as an error and
counted, those who listen for it hear of it, and `catch_up` says what else becomes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from mechaway_core.fires import Fires, about_schedule, missed_sentence
from mechaway_core.late import LateRuns
from mechaway_core.ports import Clock, Schedule
from mechaway_core.storage import Entry
from mechaway_core.timetable import Timetable, timings_of

if TYPE_CHECKING:
    from mechaway_core.timing import Timing

SLACK = 300.0  # seconds beyond the grace that an event may take to get here
BACK = 86_400.0  # seconds that are looked back at most
MOST = 100  # due times of a schedule in one look

Tell = Callable[[str, str, str, float, int, str], None]
"""Lets those hear of missed due times who listen: project, workflow, node, the last of them, how many there were, and a sentence."""

log = logging.getLogger("mechaway.watchdog")


@dataclass(frozen=True, slots=True)
class Missed:
    """Due times of a schedule for which no run began, oldest first, and how many of them are caught up now."""

    project: str
    schedule: Schedule
    due: tuple[int, ...]
    caught_up: int


class Watchdog:
    """Looks at the schedules of all projects."""

    def __init__(self, timetable: Timetable, fires: Fires, clock: Clock, late: LateRuns, tell: Tell) -> None:
        self._timetable = timetable
        self._fires = fires
        self._clock = clock
        self._late = late
        self._tell = tell

    def look(self, project: str) -> list[Missed]:
        """What was missed in a project since the last look. Raises `MechawayError`; what was found by then is noted."""
        return [missed for entry in self._timetable.entries(project) for missed in self._look_at(project, entry)]

    def _look_at(self, project: str, entry: Entry) -> Iterator[Missed]:
        now = self._clock.now()
        saved = datetime.fromisoformat(entry.updated_at).timestamp()
        for (workflow_id, node_id), timing in timings_of(entry.document).items():
            schedule = Schedule(workflow_id, node_id, timing.cron.expression.text, timing.cron.zone.name)
            looked = max(self._fires.get(project, workflow_id, node_id).due, saved, now - BACK)
            end = now - timing.grace - timing.jitter - SLACK
            due = tuple(one for one in islice(timing.between(looked + 1e-3, end), MOST) if not self._late.had_run(project, schedule, one))
            if due:
                yield self._missed(project, schedule, timing, due)

    def _missed(self, project: str, schedule: Schedule, timing: Timing, due: tuple[int, ...]) -> Missed:
        sentence = missed_sentence(project, schedule, len(due), due[-1])
        log.error("%s", sentence, extra=about_schedule(project, schedule, due[-1]))
        again = {"skip": (), "last": due[-1:], "all": due}[timing.catch_up]
        caught_up = sum(self._late.begin(project, schedule, one, "watchdog") for one in again)
        place, count = (project, schedule.workflow_id, schedule.node_id), len(due) - caught_up
        if count:
            self._tell(*place, due[-1], count, sentence)
        self._fires.missed(*place, due[-1], count)
        return Missed(project, schedule, due, caught_up)
