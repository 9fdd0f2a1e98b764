"""What failed, was lost or was missed, to those who listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mechaway_core.engine import Engine
from mechaway_core.errors import MechawayError
from mechaway_core.ports import Records, RunLine, RunRecord
from mechaway_core.record import run_id_of
from mechaway_core.runs.document import about_line, opened
from mechaway_core.runs.listeners import Listeners
from mechaway_core.workflow import Rules

log = logging.getLogger("mechaway.runs")


class Failures:
    """Makes the runs that hear of failures."""

    def __init__(self, engine: Engine, records: Records, listeners: Listeners) -> None:
        self._engine = engine
        self._records = records
        self._listeners = listeners

    def heard(self, project: str, line: RunLine, event: str, rules: Rules, about: Callable[[], dict[str, Any]]) -> list[RunRecord]:
        """The runs that an event is to start, to be put on record as accepted; `about` is what they hear of it.

        The same event makes the same ids, so it starts each of them once. Nobody hears of runs that such an event started.
        """
        if line.trigger == "error":
            return []
        try:
            listening = [
                (plan, step, run_id)
                for plan, step in self._listeners.find(project, line.workflow_id, event, rules.on_failure)
                if self._records.get(project, run_id := run_id_of(line.began, line.id, plan.workflow_id, step.id)) is None
            ]
        except MechawayError as error:
            log.error(
                "nobody could be told that workflow %s in project %s %s: %s",
                line.workflow_id, project, event, error, extra=about_line(project, line),
            )  # fmt: skip
            return []
        records = []
        for plan, step, run_id in listening:
            run = self._engine.prepare(plan, step, project, "error", run_id)
            run.parent = None if event == "missed" else line.id
            run.promised = True
            records.append(opened(run, [{"event": event, **about()}]))
        return records
