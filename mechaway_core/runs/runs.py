"""Runs from their start to their record.

A run that somebody waits for is put on record when it is over, before its answer goes out. One that was accepted is on record before that
is said, with all it needs to begin; so is one that a schedule starts. A run that takes long is put on record while it goes on. What is on
record and has not ended belongs to a process; when that is gone, `take_over` begins it again or ends it as lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import orjson

from mechaway_core.engine import Carried, Engine
from mechaway_core.errors import Conflict, Invalid, MechawayError, NotFound, Unavailable
from mechaway_core.logs import about
from mechaway_core.names import shorten
from mechaway_core.node import Items, RunInfo
from mechaway_core.ports import Clock, Files, Invoke, Records, RunLine, RunQuery, RunRecord
from mechaway_core.record import Replays, Run, iso
from mechaway_core.registry import Registry
from mechaway_core.runs.document import Reading, about_line, as_far, cancelled, ended, lost, opened, without_hidden
from mechaway_core.runs.failures import Failures
from mechaway_core.runs.listeners import Listeners
from mechaway_core.runs.recorder import Entry, Otherwise, Pending, Recorder
from mechaway_core.settings import Settings
from mechaway_core.storage import Workflows
from mechaway_core.workflow import Plan, Rules, compile_plan, rules_of

MOST_ATTEMPTS = 3  # of a run whose process ended: what it does may be what ends it
LONG = 1.0  # seconds after which a run is put on record while it goes on
HELD = 64_000_000  # bytes of accepted runs that are kept in memory until they begin; others are read again
SHOWN_TO_LISTENERS = 10  # items of each list in the record that a listener gets

log = logging.getLogger("mechaway.runs")


@dataclass(slots=True)
class _Going:
    """A run, with what it runs."""

    run: Run
    plan: Plan
    items: Items
    carried: Carried | None = None
    size: int = 0  # bytes, while it waits
    context: Context | None = None  # of the request that it came with, for the log
    since: float = 0.0  # when it began here, in seconds since 1970
    listed: bool = False  # it is on record as one that goes on


class Runs:
    """The runs of this process, and the records of all. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        files: Files,
        records: Records,
        recorder: Recorder,
        registry: Registry,
        workflows: Workflows,
        listeners: Listeners,
        clock: Clock,
        invoke: Invoke | None,
    ) -> None:
        self.records = records
        self.recorder = recorder
        self.engine = engine
        self.begins = True  # what is accepted here; else it is left open, and a server takes it over once this process is gone
        self._settings = settings
        self._files = files
        self._registry = registry
        self._workflows = workflows
        self._failures = Failures(engine, records, listeners)
        self._clock = clock
        self._invoke = invoke
        self._most = int(settings.record_kb * 1000)
        self._lock = threading.Lock()  # over what follows, where order matters
        self._going: dict[str, _Going] = {}
        self._accepted: dict[str, _Going] = {}
        self._unwritten: list[Entry] = []  # ends of accepted runs that the disk did not take
        self._unbegun: list[tuple[str, str]] = []  # (project, id) of accepted runs that a disk that was away kept from beginning
        self._held = 0  # bytes of the accepted ones
        self._touched: set[str] = set()  # projects that got records since somebody looked at their size
        self._leaving = False
        self._left: set[str] = set()  # runs that were stopped because this process is to end

    # -- a run that somebody waits for

    def run(self, plan: Plan, run: Run, items: Items, timeout: float | None = None, carried: Carried | None = None) -> Pending | None:
        """Run it, and what is still to be put on record before anybody hears of its end, if anything is."""
        listed = run.opened and run.status == "running"
        going = _Going(run, plan, items, carried, since=self._clock.now(), listed=listed)
        self._going[run.info.id] = going
        if self._leaving:
            self._leave(run)
        try:
            self.engine.run(plan, run, items, timeout, carried)
        finally:
            with self._lock:  # from here on nobody puts it on record as one that goes on
                del self._going[run.info.id]
        try:
            return self._over(plan, run)
        finally:
            self._files.release(run.info.project, run.info.id)

    def _over(self, plan: Plan, run: Run) -> Pending | None:
        if run.promised and run.failure is not None and run.info.id in self._left:
            return None  # not the run was to stop, but the server: another one begins it again
        policy = plan.rules.record or self._settings.record
        kept = policy == "all" or (policy == "errors" and run.failure is not None)
        gone = (run.info.id,) if run.opened and not kept else ()
        records: list[RunRecord] = []
        heard: list[RunRecord] = []
        if kept or run.failure is not None:
            record = ended(run, plan, self._most, lambda data: self._keep(run, data))
            heard = self._heard(run, record, plan.rules) if run.failure is not None else []
            records = [record, *heard] if kept else heard
        if not (records or gone):
            return None
        return self._pending(Entry(run.info.project, tuple(records), gone), heard, self._write_later if run.opened else None)

    def _keep(self, run: Run, data: bytes) -> str:
        most = int(self._settings.max_file_mb * 1_000_000)
        return self._files.write(run.info.project, run.info.id, "items.json", "application/json", [data], most).handle

    def _pending(self, entry: Entry, started: Sequence[RunRecord], otherwise: Otherwise | None = None) -> Pending:
        self._touched.add(entry.project)
        then = (lambda: self._hand_over(entry.project, started)) if started else None
        return Pending(self.recorder, entry, then, otherwise)

    # -- a run that nobody waits for

    def accept(self, plan: Plan, run: Run, items: Items, carried: Carried | None = None) -> Pending:
        """What is to be put on record so that the run is kept, whatever happens; then it begins. Raises `Unavailable`."""
        if self._invoke is None:
            raise Unavailable("this server cannot start runs that nobody waits for")
        self._invoke.check()
        run.promised = True
        items = self.engine.cleaned(plan, run, items)
        record = opened(run, items)
        run.opened = True
        project, run_id = run.info.project, run.info.id
        context = copy_context()
        here = self.begins and self._invoke.here

        def begin() -> None:
            if here and self._held + len(record.data) < HELD:
                self._held += len(record.data)
                self._accepted[run_id] = _Going(run, plan, items, carried, len(record.data), context)
            self._hand_over(project, [record])

        return Pending(self.recorder, Entry(project, (record,)), begin, lambda _entry, _failure: self._files.delete(project, run_id))

    def is_kept(self, project: str, run_id: str) -> bool:
        """Whether a run is on record."""
        return self.records.get(project, run_id) is not None

    def keeps_all(self, project: str, workflow_id: str) -> bool:
        """Whether every run of a workflow stays on record."""
        return (self._rules(project, workflow_id).record or self._settings.record) == "all"

    def open(self, run: Run, items: Items) -> Pending:
        """What is to be put on record of a run that is about to begin here and must not vanish with this process."""
        run.status = "running"
        record = opened(run, items)
        run.opened = True
        return Pending(self.recorder, Entry(run.info.project, (record,)))

    def _hand_over(self, project: str, records: Iterable[RunRecord]) -> None:
        for record in records if self.begins else ():
            if self._invoke is None:
                line = record.line
                about_it = about_line(project, line)
                log.error("run %s of workflow %s waits for a server that starts it", line.id, line.workflow_id, extra=about_it)
            else:
                self._invoke.start(project, record.line.id, record.line.workflow_id)

    def begin(self, project: str, run_id: str, timeout: float | None = None) -> tuple[Run, Pending | None] | None:
        """Run an open run, and what is still to be put on record. None when it is over, was never there, or is for another process."""
        if self._leaving:
            return None
        going = self._accepted.pop(run_id, None)
        if going is not None:
            self._held -= going.size  # a race costs some bytes of the count, no more
        else:
            going = self._read(project, run_id)
            if going is None:
                return None
            if self.records.asked_to_stop(project, [run_id]):
                going.run.cancel()
        run = going.run
        if going.plan.rules.on_lost == "fail":
            self.open(run, going.items).wait()
        return run, self.run(going.plan, run, going.items, timeout, going.carried)

    def work_off(self, project: str, run_id: str) -> None:
        """Run an open run to its end, which nobody waits for, in the context of whoever asked for it, as far as that is known."""
        going = self._accepted.get(run_id)
        context = None if going is None else going.context
        (context or copy_context()).run(self._work_off, project, run_id)

    def _work_off(self, project: str, run_id: str) -> None:
        try:
            found = self.begin(project, run_id)
        except Unavailable as error:  # a disk that is away for now
            log.error(
                "run %s in project %s could not begin, which is tried again: %s", run_id, project, error,
                extra=about(project=project, run_id=run_id),
            )  # fmt: skip
            self._unbegun.append((project, run_id))
            return
        except MechawayError as error:  # a project that was deleted
            log.error("run %s in project %s could not begin: %s", run_id, project, error, extra=about(project=project, run_id=run_id))
            return
        if found is not None:
            run, pending = found
            self.finish(pending)
            if run.failure is not None:
                log.error("%s", run.told(), extra=run.about())

    def finish(self, pending: Pending | None) -> None:
        """Put the end of an accepted run on record. Nobody waits for it."""
        if pending is not None:
            pending.tell(_unheard)

    def _write_later(self, entry: Entry, failure: BaseException) -> None:
        """The end of a run that is on record as open could not be written: it stays open until that is done."""
        if isinstance(failure, Unavailable):
            log.error("the end of a run could not be put on record, which is tried again: %s", failure)
            with self._lock:
                self._unwritten.append(entry)
        elif isinstance(failure, MechawayError):  # its project was deleted
            log.warning("the end of a run was not put on record: %s", failure)

    def _read(self, project: str, run_id: str) -> _Going | None:
        """An open run as its record has it; one that cannot be run any more is ended here."""
        record = self.records.get(project, run_id)
        if record is None or record.line.ended is not None:
            return None
        reading = self._reading(project, record)
        try:
            plan = self.plan(project, record.line.workflow_id, record.line.version)
            if record.line.node not in plan.index:
                raise NotFound(f'its workflow has no node "{record.line.node}" any more')
            run = self._again(project, record, reading)
            carried = None if run.replays is None else self.carried(project, run.replays, plan)
        except (NotFound, Invalid) as error:
            self._lose(project, record, f"the run could not begin: {error}", self._rules(project, record.line.workflow_id))
            return None
        return _Going(run, plan, reading.start(), carried)

    def _again(self, project: str, record: RunRecord, reading: Reading) -> Run:
        line = record.line
        info = RunInfo(line.id, line.workflow_id, project, iso(line.began), line.trigger, reading.keys)
        return Run(
            info, line.version, line.node, reading.request(), began=line.began, parent=line.parent, replays=reading.replays,
            attempt=line.attempt, opened=True, promised=reading.promised,
        )  # fmt: skip

    def carried(self, project: str, replays: Replays, plan: Plan) -> Carried:
        """What a run has of the one that it goes on with. Raises `NotFound`."""
        reading = self.reading(project, replays.run)
        at = plan.index.get(replays.at)
        if at is None:
            raise NotFound(f'the workflow has no node "{shorten(replays.at)}"')
        again = plan.below(at)
        exits = reading.exits([step.id for step in plan.steps if step.index not in again])
        given = {plan.index[node_id]: items for node_id, items in exits.items()}
        return Carried(given, at, replays.items, again if replays.only else None)

    def plan(self, project: str, workflow_id: str, version: int | None = None) -> Plan:
        """The plan of a version; without one, of the current one. Raises `NotFound`, and `Invalid` when this server cannot run it."""
        plan = self._registry.get(project, workflow_id)
        if version in (None, plan.version):
            return plan
        return compile_plan(self._workflows.version(project, workflow_id, int(version or 0)).document, int(version or 0))

    # -- runs whose process is gone

    def take_over(self, project: str, owner: str | None, before: float, begun: Collection[str] | None = None) -> int:
        """Begin open runs again, or end them, that belong to a process that is gone; without `owner`, that began before a moment.

        `begun` are the accepted ones that may have begun there; None: any of them.
        """
        count = 0
        while records := self.records.abandoned(project, owner, before):
            stopped = self.records.asked_to_stop(project, [record.line.id for record in records])
            counted = [self._counted(project, record, begun is None or record.line.id in begun, stopped) for record in records]
            again = [record for record in counted if record is not None]
            if again:
                self.recorder.write(Entry(project, tuple(again)))  # together: there may be very many
                self._hand_over(project, again)
            count += len(records)
            if owner is None:
                break
        return count

    def count_attempt(self, project: str, record: RunRecord) -> bool:
        """Count another attempt at an open run that was cut off, so that it can begin again; whether it is to. Else it is ended here."""
        counted = self._counted(project, record, True, self.records.asked_to_stop(project, [record.line.id]))
        if counted is not None:
            self.recorder.write(Entry(project, (counted,)))
        return counted is not None

    def _counted(self, project: str, record: RunRecord, begun: bool, stopped: Collection[str]) -> RunRecord | None:
        """What is to be on record of an open run that is to begin again; None when it was ended here.

        One that only waited made no attempt, so it may be taken over as often as need be; `begun` says whether it may have begun.
        """
        line, reading = record.line, self._reading(project, record)
        rules = self._rules(project, line.workflow_id)
        again = rules.on_lost or ("again" if reading.promised else "fail")
        begun = begun or line.status == "running"
        if line.id in stopped:
            self._end(project, cancelled(record, rules, self._clock.now()), "cancelled", rules)
        elif begun and line.attempt >= MOST_ATTEMPTS:
            self._lose(project, record, f"its process ended {line.attempt} times while the run went on; it is not begun again", rules)
        elif again == "fail" and not (reading.promised and line.status == "queued"):
            self._lose(
                project, record, "its process ended while the run went on, and its nodes may have acted; it is not begun again", rules
            )
        else:
            if begun:
                log.warning(
                    "run %s of workflow %s in project %s is begun again: its process ended before it did",
                    line.id, line.workflow_id, project, extra=about_line(project, line),
                )  # fmt: skip
            said = reading.said | {"promised": True}
            return RunRecord(line._replace(status="queued", attempt=line.attempt + begun), orjson.dumps(said), known=True)
        return None

    def hand_over(self, project: str, record: RunRecord) -> None:
        """Have an open run begun, in whatever process. Raises `Unavailable`."""
        self._hand_over(project, [record])

    def _lose(self, project: str, record: RunRecord, message: str, rules: Rules) -> None:
        line = record.line
        log.error(
            "run %s of workflow %s in project %s was lost: %s", line.id, line.workflow_id, project, message, extra=about_line(project, line)
        )
        self._end(project, lost(record, rules, message, self._clock.now()), "lost", rules)

    def _end(self, project: str, end: RunRecord, event: str, rules: Rules) -> None:
        heard = self._failures.heard(project, end.line, event, rules, lambda: self._told(project, end))
        self._pending(Entry(project, (end, *heard)), heard).wait()

    def _rules(self, project: str, workflow_id: str) -> Rules:
        try:
            return rules_of(self._workflows.get(project, workflow_id).document.get("settings", {}))
        except NotFound:
            return Rules()

    # -- who hears of failures

    def _heard(self, run: Run, record: RunRecord, rules: Rules) -> list[RunRecord]:
        about: Callable[[], dict[str, Any]] = lambda: self._told(run.info.project, record)  # noqa: E731
        return self._failures.heard(run.info.project, record.line, run.status, rules, about)

    def missed(self, project: str, workflow_id: str, node_id: str, due: float, count: int, message: str) -> None:
        """Let those hear of it who listen: due times of a schedule, up to this one, had no run."""
        said = {
            "workflow_id": workflow_id,
            "project": project,
            "node": node_id,
            "due": iso(due),
            "missed": count,
            "error": {"type": "missed", "message": message},
        }
        line = RunLine(f"{workflow_id} {node_id} {due!r}", workflow_id, 0, "missed", "cron", node_id, due)
        heard = self._failures.heard(project, line, "missed", self._rules(project, workflow_id), lambda: said)
        if heard:
            self._pending(Entry(project, tuple(heard)), heard).wait()

    # -- what is on record

    def find(self, project: str, query: RunQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Runs as lists show them, newest first, and where the next page begins."""
        from mechaway_core.runs.shown import shown_line  # webhooks show nothing

        page = self.records.find(project, query)
        return [shown_line(line) for line in page.lines], page.after

    def get(self, project: str, run_id: str) -> dict[str, Any]:
        """The record of a run, as far as it is known by now. Raises `NotFound`."""
        going = self._going.get(run_id)
        if going is not None and going.run.info.project == project:
            return self.show(going.plan, going.run)
        record = self._record(project, run_id)
        if record.line.ended is None:
            record = without_hidden(record, self._rules(project, record.line.workflow_id))
        return self._shown(project, record, self._settings.record_items)

    def show(self, plan: Plan, run: Run) -> dict[str, Any]:
        """A run as its record shows it, as far as it is known by now, whether it is on record or not."""
        return self._shown(run.info.project, as_far(run, plan), self._settings.record_items)

    def _told(self, project: str, record: RunRecord) -> dict[str, Any]:
        """A record as listeners get it."""
        return self._shown(project, record, SHOWN_TO_LISTENERS)

    def _shown(self, project: str, record: RunRecord, most: int) -> dict[str, Any]:
        from mechaway_core.runs.shown import shown  # webhooks show nothing

        return shown(self._reading(project, record), most)

    def reading(self, project: str, run_id: str) -> Reading:
        """A record, to be read. Raises `NotFound`."""
        return self._reading(project, self._record(project, run_id))

    def _record(self, project: str, run_id: str) -> RunRecord:
        record = self.records.get(project, run_id)
        if record is None:
            raise NotFound(f'there is no run "{shorten(run_id)}" on record')
        return record

    def _reading(self, project: str, record: RunRecord) -> Reading:
        def open_file(handle: str) -> bytes:
            with self._files.open(project, handle) as file:
                return file.read()

        return Reading(project, record, open_file)

    # -- to stop

    def cancel(self, project: str, run_id: str) -> None:
        """Ask a run to stop, in whatever process it goes on. Raises `NotFound`, and `Conflict` when it is over."""
        here = self._going.get(run_id) or self._accepted.get(run_id)
        if here is not None and here.run.info.project == project:
            here.run.cancel()
            if here.run.promised:  # whoever takes it over, should this process end first, is to know
                self.records.ask_to_stop(project, run_id)
            return
        line = self.reading(project, run_id).line
        if line.ended is not None:
            raise Conflict(f"run {run_id} is over already ({line.status})")
        self.records.ask_to_stop(project, run_id)

    def cancel_all(self) -> int:
        """Stop all runs of this process because it is to end; how many there were. Accepted ones are left for another process."""
        self._leaving = True  # first: a run that begins at this moment is either in the list or sees it
        going = [one.run for one in list(self._going.values())]
        for run in going:
            self._leave(run)
        return len(going)

    def _leave(self, run: Run) -> None:
        if not run.cancelled:  # who was told to stop before is not begun again
            self._left.add(run.info.id)
            run.cancel()

    @property
    def going(self) -> int:
        """How many runs go on in this process."""
        return len(self._going)

    # -- now and then

    def look_after(self) -> None:
        """Put runs that take long on record, stop those that somebody asked to stop, and try again what a disk refused."""
        now = self._clock.now()
        with self._lock:
            long = [one for one in list(self._going.values()) if not one.listed and now - one.since > LONG and self._records(one)]
            for one in long:
                record = opened(one.run, one.items)
                one.run.opened = one.listed = True
                self.recorder.add(Entry(one.run.info.project, (record,)), _let_go)
        for project, runs in self._open_here().items():
            with suppress(NotFound):  # the project was deleted; its runs end as they may
                for run_id in self.records.asked_to_stop(project, list(runs)):
                    runs[run_id].cancel()
        with self._lock:
            again, self._unwritten = self._unwritten, []
        for entry in again:
            self._pending(entry, [record for record in entry.records if record.line.ended is None], self._write_later).tell(_unheard)
        waiting, self._unbegun = self._unbegun, []
        for project, run_id in waiting:
            self._begin_again(project, run_id)

    def _begin_again(self, project: str, run_id: str) -> None:
        try:
            record = self.records.get(project, run_id)
            if record is not None:
                self._hand_over(project, [record])
        except Unavailable:
            self._unbegun.append((project, run_id))
        except NotFound as error:
            log.warning("run %s does not begin: %s", run_id, error, extra=about(project=project, run_id=run_id))

    def _records(self, going: _Going) -> bool:
        return (going.plan.rules.record or self._settings.record) != "none"

    def _open_here(self) -> dict[str, dict[str, Run]]:
        found: dict[str, dict[str, Run]] = {}
        for one in [*self._going.values(), *self._accepted.values()]:
            if one.run.opened:
                found.setdefault(one.run.info.project, {})[one.run.info.id] = one.run
        return found

    def trim(self) -> int:
        """Delete the oldest records where they take too much room; how many."""
        touched, self._touched = self._touched, set()
        count = 0
        for project in touched:
            with suppress(NotFound):
                count += self.records.prune(project, None)
        return count

    def prune(self, project: str, until: float | None = None) -> int:
        """Delete records that are older than their workflow, or the server, keeps them."""
        days = self._settings.run_days * 86_400

        def keep(workflow_id: str) -> float:
            rules = self._rules(project, workflow_id)
            return days if rules.keep is None else rules.keep

        return self.records.prune(project, keep, until)


def _unheard(failure: BaseException | None) -> None:
    """Nobody waits for it; what is to be done about a failure is done elsewhere."""


def _let_go(failure: BaseException | None) -> None:
    if failure is not None:
        log.warning("a run that takes long could not be put on record: %s", failure)
