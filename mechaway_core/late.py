"""Runs for due times that are past: begun once each, and not waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechaway_core.handover import Handover
from mechaway_core.ports import Clock, Schedule
from mechaway_core.triggers import scheduled

Start = Callable[[str, str, str, list[Any]], object]
"""Starts a run of a project's workflow at a node with these items, and does not wait for it."""


class LateRuns:
    """Begins such runs, under the claims by which schedules start theirs."""

    def __init__(self, handover: Handover, clock: Clock, start: Start) -> None:
        self._handover = handover
        self._clock = clock
        self._start = start

    def begin(self, project: str, schedule: Schedule, due: int, holder: str) -> bool:
        """Begin the run of a due time unless it had one; whether it was begun. What starting raises leaves it to be tried again."""
        place = (project, schedule.workflow_id, schedule.node_id)
        item = scheduled(project, schedule.workflow_id, due, self._clock.now())
        return self._handover.once(project, due, schedule.claimed, holder, lambda: self._start(*place, [item]))

    def had_run(self, project: str, schedule: Schedule, due: int) -> bool:
        """Whether a run was begun for a due time, as far as claims are kept."""
        return self._handover.is_claimed(project, due, schedule.claimed)
