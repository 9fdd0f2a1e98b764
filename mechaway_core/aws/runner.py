"""Events of the runner function: schedules that are due, runs that nobody waits for, and what is looked for.

    {"kind": "schedule", "project", "workflow", "node", "expression", "timezone", "scheduled_for"}    from a rule or from Scheduler
    {"kind": "run", "project", "run_id", "workflow"}                                                  from `LambdaInvoke`
    {"kind": "run", "id", "asked_at", "project", "workflow", "node", "items"}                         from somebody with the right to
    {"kind": "reconcile"}                                                                             daily: schedules, and sweeping
    {"kind": "watch"}                                                                                 every 15 minutes

A schedule's event is a wake-up for a minute, and no more: what is due within it, the current document says, to the second. Each of these
moments is a run of its own, begun at its time, or at once when that is over. A minute in which nothing is due passes.

What is raised here makes Lambda try the event again, twice, and then puts it into the dead-letter queue. So a run that failed is logged and
not raised, for another attempt would act again; a run that could not begin is raised. What an attempt began and did not end, because
Lambda or the machine cut it off, is not begun again by itself: its nodes may have acted. The next attempt at the same event says so and
ends in the dead-letter queue; whoever wants the run all the same sends the event again with `"again": true`. Of a run that was accepted
the next attempt does what its workflow says (`accepted.py`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mechaway_core.app import App
from mechaway_core.aws import accepted, invoke, schedules
from mechaway_core.aws.attempt import LONGEST, MARGIN, Attempt, LambdaContext, lacked_the_vault, told
from mechaway_core.aws.reconcile import reconcile
from mechaway_core.errors import Conflict, Malformed, MechawayError, NotFound, Unavailable
from mechaway_core.fires import about_schedule
from mechaway_core.folders.files import RUN_ID
from mechaway_core.handover import Claim, Taken
from mechaway_core.logs import about
from mechaway_core.names import shorten
from mechaway_core.ports import Schedule
from mechaway_core.record import Run, iso
from mechaway_core.turns import Turn
from mechaway_core.watchdog import Missed

if TYPE_CHECKING:
    from mechaway_core.timing import Timing

T = TypeVar("T")

log = logging.getLogger("mechaway.runner")

_MINUTE = 60.0
_POLL = 1.0  # seconds between two looks at whether the run before has ended
_LATEST = 253_402_300_800.0  # seconds since 1970: the year 10000


def dispatch(event: Any, context: LambdaContext | None, app: App) -> dict[str, Any]:
    """Do what an event asks for, and say what was done. Raises `MechawayError` for what must not be forgotten."""
    kind = event.get("kind") if isinstance(event, Mapping) else None
    work = _KINDS.get(kind) if isinstance(kind, str) else None
    try:
        if work is None:
            raise Malformed(f"an event came that means nothing here; it has {_shape(event)}")
        return work(event, Attempt.of(context, app.clock), app)
    except MechawayError as error:
        log.error("an event was not done: %s", error, extra=_about(event))
        raise


def _scheduled(event: Mapping[str, Any], attempt: Attempt, app: App) -> dict[str, Any]:
    project, workflow_id, node_id = _text(event, "project"), _text(event, "workflow"), _text(event, "node")
    minute = _minute(_text(event, "scheduled_for"))
    asked = Schedule(workflow_id, node_id, _text(event, "expression"), _text(event, "timezone"))
    wanted = app.timetable.find_timed(project, workflow_id, node_id)
    due = () if wanted is None else tuple(wanted[1].between(minute, minute + _MINUTE))
    if wanted is None or wanted[0] != asked:
        told = _nothing_to_do(app, project, asked)
        if wanted is None or not due:
            return told
    elif not due:
        return {"status": "not due"}
    return _Minute(app, event, attempt, project, *wanted).begin(due)


def _nothing_to_do(app: App, project: str, asked: Schedule) -> dict[str, Any]:
    """A schedule is left over: a deploy, a save or a delete was cut off in the middle, or it is a moment behind."""
    log.warning(
        'the schedule "%s" of node %s of workflow %s in project %s was due, and there is nothing that asks for it; it is put right',
        asked.expression, asked.node_id, asked.workflow_id, project, extra=about_schedule(project, asked),
    )  # fmt: skip
    change = app.timetable.settle(project, asked.workflow_id)
    return {"status": "nothing to do", "removed": len(change.delete)}


def _started(event: Mapping[str, Any], attempt: Attempt, app: App) -> dict[str, Any]:
    if "run_id" in event:
        return accepted.begin(app, attempt, _text(event, "project"), _run_id(event))
    project, workflow_id, node_id = _text(event, "project"), _text(event, "workflow"), _text(event, "node")
    asked_at = event.get("asked_at")
    if not (isinstance(asked_at, int | float) and 0 <= asked_at < _LATEST):
        raise Malformed('an event of the kind "run" has no time in "asked_at"')
    what = (project, asked_at, ("run", _text(event, "id")))
    return _once(app, event, what, attempt, lambda: app.start(project, workflow_id, node_id, event.get("items"), attempt.timeout))


def _watched(_event: Mapping[str, Any], attempt: Attempt, app: App) -> dict[str, Any]:
    """Look for due times that had no run and for runs that nobody is at, in all projects; what fails in one keeps no other from it."""
    found: list[Missed] = []
    problems: list[str] = []
    taken_over = 0
    for project in app.projects.list():
        taken_over += _look(project, "runs", partial(accepted.take_over, app, attempt), problems) or 0
        found += _look(project, "schedules", app.watchdog.look, problems) or ()
    if problems:
        raise Unavailable(f"not all runs and schedules could be watched: {'; '.join(problems)}")
    caught_up = sum(one.caught_up for one in found)
    missed = sum(len(one.due) for one in found) - caught_up
    if missed:  # what is raised is what alarms hear of; it has been noted, so the next attempt finds nothing
        raise Unavailable(f"schedules were due {missed} times, and nobody started a run; the log says which")
    return {"caught_up": caught_up, "taken_over": taken_over}


def _look(project: str, what: str, look: Callable[[str], T], problems: list[str]) -> T | None:
    try:
        return look(project)
    except NotFound:  # deleted since it was listed
        return None
    except MechawayError as error:
        log.error("the %s of project %s could not be watched: %s", what, project, error, extra=about(project=project))
        problems.append(f'the {what} of project "{project}": {error}')
        return None


def _reconciled(_event: Mapping[str, Any], attempt: Attempt, app: App) -> dict[str, Any]:
    end = None if attempt.timeout is None else app.clock.monotonic() + attempt.timeout
    report = reconcile(app)
    if app.settings.storage == "efs":  # a bucket deletes them by itself
        app.delete_old_files(end)
        app.delete_old_records(end)
    if report.problems:
        raise Unavailable(f"not all schedules could be put right: {'; '.join(report.problems)}")
    return report.as_json()


_KINDS: dict[str, Callable[[Mapping[str, Any], Attempt, App], dict[str, Any]]] = {
    schedules.KIND: _scheduled,
    invoke.KIND: _started,
    "reconcile": _reconciled,
    "watch": _watched,
}


# -- what is due in one minute


class _Skipped(Exception):
    """No run: the one before goes on. What was claimed for it stays claimed."""


@dataclass(slots=True)
class _Minute:
    """The runs of a schedule that are due in the minute of an event."""

    app: App
    event: Mapping[str, Any]
    attempt: Attempt
    project: str
    schedule: Schedule
    timing: Timing

    def begin(self, due: Sequence[int]) -> dict[str, Any]:
        """Begin each at its time, beside those that still run; what was done. Raises `Unavailable` when there is no time to wait."""
        self._need_time_until(due[-1])
        if len(due) == 1:
            return self._run(due[0], self._wait_until(due[0] + self._put_off(due[0])), settle=False)
        begun: list[Future[dict[str, Any]]] = []
        with ThreadPoolExecutor(len(due), "due") as pool:
            for moment in due:
                begun.append(pool.submit(self._run, moment, self._wait_until(moment), settle=True))
        failures = [error for one in begun if (error := one.exception()) is not None]
        for error in failures[1:]:
            log.error("an event was not done: %s", error, extra=_about(self.event))
        if failures:
            raise failures[0]
        return {"runs": [{"scheduled_for": iso(moment), **one.result()} for moment, one in zip(due, begun, strict=True)]}

    def _need_time_until(self, moment: int) -> None:
        """Better nothing is begun, and all of it late by the next attempt, than that Lambda ends the function in the middle."""
        wait, timeout = moment - self.app.clock.now(), self.attempt.timeout
        if wait > _MINUTE or (timeout is not None and wait > max(timeout - MARGIN, 0)):
            node = f'node "{self.schedule.node_id}" of workflow "{self.schedule.workflow_id}" in project "{self.project}"'
            raise Unavailable(
                f"{node} is due in {wait:.0f} s, and the runner cannot wait that long; its run begins late, when the event comes again: "
                "deploy with a greater RunnerTimeout"
            )

    def _put_off(self, due: int) -> float:
        """Seconds by chance, for `jitter`; half of the function's time at most, and none for what is late."""
        wait, timeout = due - self.app.clock.now(), self.attempt.timeout
        most = self.timing.jitter if timeout is None else min(self.timing.jitter, max(timeout - wait, 0) / 2)
        return random.uniform(0, most) if most and wait > -_MINUTE else 0.0

    def _wait_until(self, moment: float) -> bool:
        """Whether there was anything to wait for."""
        waited = False
        while (wait := moment - self.app.clock.now()) > 0:
            self.app.clock.sleep(wait)
            waited = True
        return waited

    def _run(self, due: int, waited: bool, *, settle: bool) -> dict[str, Any]:
        if waited and not self._is_still_due(due):
            return {"status": "not due"}
        what = (self.project, due, self.schedule.claimed)
        try:
            return _once(self.app, self.event, what, self.attempt, lambda: self._start(due), settle=settle)
        except _Skipped:
            return {"status": "skipped"}
        except NotFound:  # it was deleted since we looked
            return _nothing_to_do(self.app, self.project, self.schedule)

    def _start(self, due: int) -> Run:
        if self.timing.overlap == "allow":
            return self._start_in_turn(due, None)
        turn = self._await_turn(due)
        try:
            return self._start_in_turn(due, turn)
        finally:
            self.app.turns.give_back(turn)

    def _start_in_turn(self, due: int, turn: Turn | None) -> Run:
        begun: list[Run] = []

        def asked() -> bool:
            """Whether the run is to stop, because somebody asked for that or a later one asks for its turn."""
            if not begun:
                return False
            if self.app.runs.records.asked_to_stop(self.project, [begun[0].info.id]):
                return True
            return turn is not None and self.timing.overlap == "cancel_previous" and self.app.turns.is_asked_to_stop(turn)

        def stop() -> None:
            begun[0].cancel()

        with accepted.heeding(asked, stop):
            run = self.app.start_scheduled(self.project, self.schedule, due, self.attempt.timeout, begun.append)
        return self._noted(due, run)

    def _await_turn(self, due: int) -> Turn:
        """The turn, once no earlier run goes on. Raises `_Skipped`, and `Unavailable` when there is no time to wait any longer."""
        place = (self.project, self.schedule.workflow_id, self.schedule.node_id)
        while (turn := self.app.turns.take(*place, self.attempt.timeout or LONGEST)) is None:
            if self.timing.overlap == "skip":
                log.warning(
                    "workflow %s in project %s was due at %s at node %s and was skipped: its run before goes on",
                    self.schedule.workflow_id, self.project, iso(due), self.schedule.node_id,
                    extra=about_schedule(self.project, self.schedule, due),
                )  # fmt: skip
                self.app.fires.skipped(*place, due)
                raise _Skipped
            if self.timing.overlap == "cancel_previous":
                self.app.turns.ask_to_stop(*place)
            if self.attempt.timeout is not None and self.attempt.timeout <= MARGIN:
                raise Unavailable(f'workflow "{self.schedule.workflow_id}" was due at {iso(due)}, and its run before still goes on')
            self.app.clock.sleep(_POLL)
        return turn

    def _noted(self, due: int, run: Run) -> Run:
        try:
            self.app.fires.ran(self.project, self.schedule.workflow_id, self.schedule.node_id, due, run)
        except MechawayError as error:  # the run itself is not touched by it
            log.warning("what became of a schedule could not be noted: %s", error, extra=about_schedule(self.project, self.schedule, due))
        return run

    def _is_still_due(self, due: int) -> bool:
        now = self.app.timetable.find_timed(self.project, self.schedule.workflow_id, self.schedule.node_id)
        return now is not None and due in now[1].between(due, due + 1)


# -- one run for each event

_What = tuple[str, float, tuple[str, ...]]  # project, moment, and what happens then


def _once(
    app: App, event: Mapping[str, Any], what: _What, attempt: Attempt, start: Callable[[], Run], *, settle: bool = False
) -> dict[str, Any]:
    """Start a run unless this event has started one before.

    With `settle` it is on record that the run ended: for an event of several runs, whose next attempt is to begin the others.
    """
    due = what[1] if event["kind"] == schedules.KIND else None
    if event.get("again") is True:
        return told(start(), due)
    claim = app.handover.claim(*what, attempt.id)
    if isinstance(claim, Taken):
        return _taken(claim, event, attempt)
    try:
        run = start()
    except MechawayError:  # it did not begin, so another attempt may
        app.handover.release(claim)
        raise
    _give_back(app, claim, run)
    if settle:
        app.handover.settle(claim)
    return told(run, due)


def _taken(claim: Taken, event: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
    where = f"workflow {event['workflow']} in project {event['project']}"
    if claim.holder == attempt.id:
        raise Conflict(
            f"a run of {where} was begun by an earlier attempt at this event, which did not end well; it is not begun again, for its nodes "
            'may have acted: to have it all the same, send the event again with "again": true'
        )
    log.info("an event for %s came again; its run is another one's", where, extra=_about(event))
    return {"status": "delivered before"}


def _give_back(app: App, claim: Claim, run: Run) -> None:
    """Let another attempt have the event when its run ended before any node acted because the vault was out of reach."""
    if lacked_the_vault(run):
        app.handover.release(claim)
        raise Unavailable("" if run.failure is None else run.failure.message)


# -- what events say


def _about(event: Any) -> dict[str, Any]:
    """The fields of a line of the log about an event, as far as it says them; of one that means nothing here, nothing is told."""
    if not isinstance(event, Mapping) or event.get("kind") not in tuple(_KINDS):
        return {}
    said = {name: shorten(value) for name, value in event.items() if isinstance(value, str)}
    return about(
        project=said.get("project"),
        workflow_id=said.get("workflow"),
        node_id=said.get("node"),
        scheduled_for=said.get("scheduled_for"),
    )


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f'an event of the kind "{event["kind"]}" has no text in "{name}"')
    return value


def _run_id(event: Mapping[str, Any]) -> str:
    run_id = _text(event, "run_id")
    if RUN_ID.fullmatch(run_id) is None:
        raise Malformed('an event of the kind "run" has no id of a run in "run_id"')
    return run_id


def _minute(text: str) -> float:
    """The minute that a time in ISO 8601 is in, in seconds since 1970: rules fire some seconds into theirs."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed(f'"{shorten(text)}" in "scheduled_for" is no time with its zone')
    return moment.timestamp() // 60 * 60


def _shape(event: Any) -> str:
    """The outside of an event, without what people put into it."""
    if not isinstance(event, Mapping):
        return f"the type {type(event).__name__}"
    kind = f"the kind {shorten(repr(event['kind']), 40)} and " if "kind" in event else ""
    return f"{kind}the fields {shorten(', '.join(sorted(map(str, event))), 200) or '(none)'}"
