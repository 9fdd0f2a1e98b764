"""What Mechaway can do, in words of its users. The edges (`local/`, `aws/`) build it, `web/` and `cli` call it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from mechaway_core import timetable, triggers
from mechaway_core.access import AdminToken, Door
from mechaway_core.access.deliveries import WINDOW, Claim, Delivery
from mechaway_core.access.keys import ProjectKey
from mechaway_core.access.webhook import Lock
from mechaway_core.agenda import Agenda
from mechaway_core.engine import Engine, World
from mechaway_core.errors import Conflict, Invalid, MechawayError, NotAllowed, NotFound, Problem
from mechaway_core.fires import Fires
from mechaway_core.handover import Handover
from mechaway_core.http import Http
from mechaway_core.late import LateRuns
from mechaway_core.node import Items, Node
from mechaway_core.nodes import catalogue
from mechaway_core.ports import Clock, Files, Invoke, KeyRing, Projects, Records, RunLine, RunQuery, Schedule, Schedules, Store, Tables
from mechaway_core.postgres import Postgres
from mechaway_core.record import Run
from mechaway_core.registry import Registry
from mechaway_core.runs import Later, Listeners, Pending, Recorder, Runs
from mechaway_core.runs.document import as_far
from mechaway_core.runs.replay import Replayed, Wish, replay, replay_all
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.sqlite import TableInfo, TablePage, check_name
from mechaway_core.storage import Entry, Workflows, summary
from mechaway_core.timetable import Changed, Timetable
from mechaway_core.turns import Turns
from mechaway_core.vault import SecretInfo, Vault
from mechaway_core.watchdog import Watchdog
from mechaway_core.workflow import Plan, Step

if TYPE_CHECKING:
    from mechaway_core.transfer import Incoming, Summary

DEFAULT_PROJECT = "default"
ACCEPTING = 25.0  # seconds from the claim to a delivery to the record of the run that was accepted, at most

log = logging.getLogger("mechaway.app")


@dataclass(frozen=True, slots=True)
class Saved:
    """A save that is on disk, and what there is to warn of."""

    entry: Entry
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """A run that a webhook started, and the webhook itself. It is over, or has been `accepted` and is to begin.

    Nobody may hear of it before what is `pending` is on record. `claim`, when there is one, waits to be settled with the answer then.
    """

    run: Run
    webhook: Node
    claim: Claim | None = None
    pending: Pending | None = None
    accepted: bool = False


class App:
    """Mechaway in one object; safe to use from many threads. Methods raise the errors of `errors.py`."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        tables: Tables,
        projects: Projects,
        files: Files,
        keyring: KeyRing,
        clock: Clock,
        sandbox: Sandbox,
        records: Records,
        schedules: Schedules | None = None,
        changed: Changed = lambda _project, _workflow_id: None,
        invoke: Invoke | None = None,
        admin: AdminToken | None = None,
        gathers: bool = True,
    ) -> None:
        """`gathers`: whether runs that end at about the same time are put on record together."""
        self.settings = settings
        self.projects = projects
        self.clock = clock
        self.handover = Handover(store)
        self.sandbox = sandbox
        self.vault = Vault(store, keyring, clock)
        self._store = store
        self._tables = tables
        self._workflows = Workflows(store, clock)
        self.timetable = Timetable(schedules, self._workflows, changed)
        self.fires = Fires(store)
        self.turns = Turns(store, clock)
        self._invoke = invoke
        registry = Registry(self._workflows, settings.max_plans)
        self.listeners = Listeners(store, self._workflows, registry)
        self._registry = registry
        late = LateRuns(self.handover, clock, self.start_elsewhere)
        self.agenda = Agenda(self.timetable, self.fires, clock, late)
        self.watchdog = Watchdog(self.timetable, self.fires, clock, late)
        self._http = Http(settings)
        self._postgres = Postgres(settings, self._http.guard.addresses)
        self._files = files
        self._engine = Engine(World(settings, sandbox, tables, clock, self.vault, self._http, self._postgres, files))
        self.door = Door(settings, store, clock, self.vault, admin)
        self._recorder = Recorder(records, gathers=gathers)
        self.runs = Runs(
            settings, self._engine, files, records, self._recorder, registry, self._workflows, self.listeners, clock, invoke
        )  # fmt: skip

    # -- workflows

    def validate(self, raw: Any, project: str = DEFAULT_PROJECT) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """Errors and warnings of a document, without saving it."""
        checked = _check(raw, self.sandbox, self.settings, None)
        return checked.errors, self._warnings(project, checked)

    def create(self, project: str, raw: Any) -> Saved:
        """Check a document and save it as a new workflow. Raises `Invalid` with all problems, `Conflict`."""
        self._need(project)
        return self._create(project, self._checked(raw))

    def update(self, project: str, workflow_id: str, raw: Any, if_match: Collection[str] | None = None) -> Saved:
        """Check a document and save it as the new version of a workflow. Raises `Invalid`, `NotFound`, `Stale`."""
        current = self._workflows.get(project, workflow_id)
        return self._update(project, self._checked(raw, workflow_id), current, if_match)

    def put(self, project: str, raw: Any) -> Saved | None:
        """Create or update a workflow under the id in the document; None when it is saved as it is already."""
        checked = self._checked(raw)
        try:
            current = self._workflows.get(project, checked.document["id"])
        except NotFound:
            return self._create(project, checked)
        if current.document == checked.document:
            return None
        return self._update(project, checked, current)

    def _create(self, project: str, checked: Any) -> Saved:
        with self.timetable.saving(project, checked.document, None), self.listeners.saving(project, checked.document, None):
            entry = self._workflows.create(project, checked.document)
        return Saved(entry, self._warnings(project, checked))

    def _update(self, project: str, checked: Any, current: Entry, if_match: Collection[str] | None = None) -> Saved:
        before = current.document
        with self.timetable.saving(project, checked.document, before), self.listeners.saving(project, checked.document, before):
            entry = self._workflows.update(project, checked.document, if_match)
        return Saved(entry, self._warnings(project, checked))

    def get(self, project: str, workflow_id: str) -> Entry:
        """The current version of a workflow. Raises `NotFound`."""
        return self._workflows.get(project, workflow_id)

    def find(self, project: str, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """A line for each workflow behind the id `after`, in the order of their ids."""
        self._need(project)
        return [summary(entry) for entry in self._workflows.find(project, after, limit)]

    def delete(self, project: str, workflow_id: str, if_match: Collection[str] | None = None) -> None:
        """Delete a workflow with its history. Runs that go on are not touched. Raises `NotFound`, `Stale`."""
        self._workflows.delete(project, workflow_id, if_match)
        self.timetable.deleted(project, workflow_id)
        self.listeners.settle(project, workflow_id)
        self.fires.forget(project, workflow_id)
        self.turns.forget(project, workflow_id)
        self.door.deliveries.forget(project, workflow_id)

    def versions(self, project: str, workflow_id: str, before: int | None = None, limit: int = 100) -> Sequence[dict[str, Any]]:
        """The versions of a workflow, newest first. Raises `NotFound`."""
        return self._workflows.versions(project, workflow_id, before, limit)

    def version(self, project: str, workflow_id: str, number: int) -> Entry:
        """One version of a workflow. Raises `NotFound`."""
        return self._workflows.version(project, workflow_id, number)

    def restore(self, project: str, workflow_id: str, number: int) -> Saved:
        """Save an old version again as the newest. Raises `NotFound`, and `Invalid` when it no longer passes the checks."""
        return self.update(project, workflow_id, self.version(project, workflow_id, number).document)

    # -- runs

    def expect(self, project: str, workflow_id: str, call: triggers.Call) -> None:
        """Raise what `call` would raise for the head of a webhook call alone, before its body is read: it may be a large one."""
        _, step, _ = self._find(project, workflow_id, call)
        lock = _lock(step)
        if lock is not None:
            self.door.check_head(lock, project, call.headers, call.client)

    def call(self, project: str, workflow_id: str, call: triggers.Call) -> Answered:
        """Run the workflow that a webhook call is for and wait for its end. Raises `NotFound`, `NotAllowed`, `Malformed`, …

        The caller is looked at before its body is read (`Refused`). A delivery that was answered before raises `Delivered`.
        A run that fails is not an error here: its record says so.
        """
        plan, step, named = self._find(project, workflow_id, call)
        lock = _lock(step)
        if lock is not None:
            self.door.unlock(lock, project, call.headers, triggers.body_chunks(call), call.client)
        run = self._engine.prepare(plan, step, project, "webhook")
        run.shown = lock.secrets if lock is not None and lock.hides else ()
        items = self._read(run, call, named, lock.hides if lock is not None else "")
        claim = self._claim(plan, step, run, items, call)
        try:
            if getattr(step.node, "mode", "wait") == "accept":
                return Answered(run, step.node, claim, self._accept(plan, run, items), accepted=True)
            return Answered(run, step.node, claim, self.runs.run(plan, run, items, self._patience(call.until)))
        except BaseException:
            if claim is not None:
                claim.release()
            raise

    def _accept(self, plan: Plan, run: Run, items: Items) -> Pending:
        try:
            return self.runs.accept(plan, run, items)
        except BaseException:
            self._forget_files(run)
            raise

    def takes(self, project: str, workflow_id: str, call: triggers.Call) -> bool:
        """Whether a webhook answers this call; nothing is run."""
        try:
            self._find(project, workflow_id, call)
        except (NotFound, NotAllowed):
            return False
        return True

    def start(self, project: str, workflow_id: str, node_id: str | None = None, items: Any = None, timeout: float | None = None) -> Run:
        """Run a workflow by hand and wait until its end is on record; whether it is active does not matter. Raises `NotFound`, `Invalid`.

        `timeout`, in seconds, cuts the time that the run is allowed.
        """
        run, _, pending = self._start(project, workflow_id, node_id, items, timeout)
        if pending is not None:
            pending.wait()
        return run

    def start_and_show(
        self, project: str, workflow_id: str, node_id: str | None = None, items: Any = None, timeout: float | None = None
    ) -> dict[str, Any] | Later[dict[str, Any]]:
        """The same, and its record as the API shows it; that counts once it is on record, where it is to be."""
        run, plan, pending = self._start(project, workflow_id, node_id, items, timeout)
        if run.failure is not None:
            log.warning("%s", run.told(), extra=run.about())
        record = self.runs.show(project, as_far(run, plan))
        return record if pending is None else Later(record, pending)

    def _start(
        self, project: str, workflow_id: str, node_id: str | None, items: Any, timeout: float | None
    ) -> tuple[Run, Plan, Pending | None]:
        plan = self._registry.get(project, workflow_id)
        step, given = triggers.manual(plan, node_id, items)
        run = self._engine.prepare(plan, step, project, "manual")
        return run, plan, self.runs.run(plan, run, given, timeout)

    def start_elsewhere(self, project: str, workflow_id: str, node_id: str | None = None, items: Any = None) -> Run:
        """Have a workflow run by hand and do not wait: the run is kept, as an accepted one is.

        Raises what `start` does before a run, and `Unavailable`.
        """
        plan = self._registry.get(project, workflow_id)
        step, given = triggers.manual(plan, node_id, items)
        run = self._engine.prepare(plan, step, project, "cron" if step.node_type == "CronTrigger" else "manual")
        self.runs.accept(plan, run, given).wait()
        return run

    def start_scheduled(
        self, project: str, schedule: Schedule, due: float, timeout: float | None = None, begun: Callable[[Run], None] | None = None
    ) -> Run:
        """Run a workflow because its schedule was due, at `due` in seconds since 1970. Raises `NotFound` when it is gone.

        `begun` is told of the run before its first node.
        """
        plan = self._registry.get(project, schedule.workflow_id)
        place = plan.index.get(schedule.node_id)
        if place is None or not plan.active or not plan.steps[place].node.trigger:
            raise NotFound(f'workflow "{schedule.workflow_id}" starts nothing at "{schedule.node_id}"')
        items = [triggers.scheduled(project, schedule.workflow_id, due, self.clock.now())]
        run = self._engine.prepare(plan, plan.steps[place], project, "cron")
        self.runs.begun(run, items).wait()
        if begun is not None:
            begun(run)
        pending = self.runs.run(plan, run, items, timeout)
        self.runs.finish(pending)
        return run

    def asks_for(self, project: str, schedule: Schedule) -> bool:
        """Whether the current document asks for exactly this schedule. Raises `NotFound` when it is gone."""
        plan = self._registry.get(project, schedule.workflow_id)
        place = plan.index.get(schedule.node_id)
        step = plan.steps[place] if place is not None and plan.active else None
        return step is not None and not step.disabled and timetable.asks_for(step.node, schedule)

    def try_out(self, project: str, plan: Plan, call: triggers.Call | None, node_id: str | None = None, items: Any = None) -> Run:
        """Run a plan that is not saved, by a webhook call or by hand."""
        self._need(project)
        if call is None:
            step, given = triggers.manual(plan, node_id, items)
            return self._engine.run(plan, self._engine.prepare(plan, step, project, "manual"), given)
        step, named = triggers.route(plan, call)
        run = self._engine.prepare(plan, step, project, "webhook")
        given = self._read(run, call, named)
        try:
            return self._engine.run(plan, run, given)
        finally:
            self._files.release(project, run.info.id)

    def _find(self, project: str, workflow_id: str, call: triggers.Call) -> tuple[Plan, Step, dict[str, str]]:
        plan = self._registry.get(project, workflow_id)
        if not plan.active:
            raise NotFound(f'workflow "{workflow_id}" is switched off (active: false)')
        return plan, *triggers.route(plan, call)

    def _read(self, run: Run, call: triggers.Call, named: dict[str, str], hide: str = "") -> Items:
        """The items that a call brings; what else it says becomes the run's request. Its files are kept under the run's id."""
        try:
            run.request, items = triggers.read(call, named, self._engine.area(run), self.settings, hide)
        except BaseException:
            self._forget_files(run)
            raise
        finally:
            if call.spool is not None:  # its files are kept by now; a run that takes long need not keep it too
                call.spool.close()
        return items

    def _forget_files(self, run: Run) -> None:
        """What is kept for a run before it begins goes again when something keeps it from beginning."""
        self._files.delete(run.info.project, run.info.id)

    def _claim(self, plan: Plan, step: Step, run: Run, items: Items, call: triggers.Call) -> Claim | None:
        """The right to answer this delivery, where the webhook or the caller tells deliveries apart."""
        try:
            delivery = self._delivery(plan, step, run, items, call)
            if delivery is None:
                return None
            project = run.info.project
            accepts = getattr(step.node, "mode", "wait") == "accept"
            kept: dict[str, Any] = {"is_kept": lambda run_id: self.runs.is_kept(project, run_id)} if accepts else {}
            claim = self.door.deliveries.claim(project, plan.workflow_id, step.id, delivery, **kept)
        except BaseException:
            self._forget_files(run)
            raise
        if claim.keys != run.info.id:
            run.info = dataclasses.replace(run.info, keys=claim.keys)
        return claim

    def _delivery(self, plan: Plan, step: Step, run: Run, items: Items, call: triggers.Call) -> Delivery | None:
        node: Any = step.node
        template = getattr(node, "delivery", None)
        if run.request is None:
            return None
        allowed = plan.timeout if plan.timeout is not None else self.settings.run_timeout
        seconds = ACCEPTING if getattr(node, "mode", "wait") == "accept" else allowed
        if template is None:
            return triggers.idempotent(call, run.request, run.info.id, seconds)
        key = triggers.delivery_key(template, items[0], run.request, run.info, self._engine.evaluate)
        return Delivery(key, run.info.id, seconds, node.dedupe.get("window", WINDOW), node.dedupe.get("answer", "first"))

    def _patience(self, until: float | None) -> float | None:
        """Seconds that whoever stands in front of webhooks waits: by the settings, or less where it is known for this call."""
        known = [seconds for seconds in (self.settings.front_door_timeout or None, self.left(until)) if seconds is not None]
        return min(known, default=None)

    def left(self, until: float | None) -> float | None:
        """Seconds until an instant of `time.monotonic()`; hardly any when it is past, so that a run ends as one that took too long."""
        return None if until is None else max(until - self.clock.monotonic(), 0.001)

    @property
    def going(self) -> int:
        """How many runs go on in this process."""
        return self.runs.going

    def cancel_all(self) -> int:
        """Stop every run of this process because it is to end; how many there were."""
        return self.runs.cancel_all()

    @property
    def leaving(self) -> bool:
        """Whether this process is to end and its runs were told so."""
        return self.runs.leaving

    # -- runs on record

    def find_runs(self, project: str, query: RunQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Runs on record, newest first, and where the next page begins. Raises `NotFound`."""
        self._need(project)
        return self.runs.find(project, query)

    def find_run(self, project: str, run_id: str) -> dict[str, Any]:
        """The record of a run. Raises `NotFound`."""
        self._need(project)
        return self.runs.get(project, run_id)

    def watch_runs(self, project: str, mark: int | None) -> tuple[list[RunLine], int]:
        """What was put on record behind a mark, and the mark behind it: see `Records.since`. Raises `NotFound`."""
        self._need(project)
        if not self._recorder.gathers:
            raise NotFound("a function cannot tell what happens while it happens; ask GET /api/runs again")
        return self.runs.records.since(project, mark)

    def cancel_run(self, project: str, run_id: str) -> None:
        """Ask a run to stop. Raises `NotFound`, and `Conflict` when it is over."""
        self._need(project)
        self.runs.cancel(project, run_id)

    def replay_run(self, project: str, run_id: str, wish: Wish) -> Run:
        """A run that repeats another one, and has been accepted. Raises `NotFound`, `Conflict`, `Invalid`, `Unavailable`."""
        self._need(project)
        run, pending = replay(self.runs, project, run_id, wish)
        pending.wait()
        return run

    def replay_runs(self, project: str, query: RunQuery, wish: Wish, *, act: bool) -> Replayed:
        """The runs that fit, and with `act` a replay of each."""
        self._need(project)
        return replay_all(self.runs, project, query, wish, act=act)

    # -- schedules

    def schedules(self, project: str, after: str = "", limit: int = 100) -> tuple[list[dict[str, Any]], str | None]:
        """What schedules did and will do: see `Agenda.find`. Raises `NotFound`."""
        self._need(project)
        return self.agenda.find(project, after, limit)

    # -- files

    def open_file(self, project: str, handle: str) -> BinaryIO:
        """A file of a project to read; close it. Raises `NotFound`."""
        return self._files.open(project, handle)

    def sweep(self) -> None:
        """Delete files and records of runs that are older than the settings keep them, and settle imports that were cut off.

        Safe to do from several processes at once.
        """
        self.delete_old_files()
        self.delete_old_records()
        self.settle_imports()

    def delete_old_records(self, until: float | None = None) -> None:
        """Delete records of runs that nobody wants any more, as far as time goes until an instant of the clock's `monotonic`."""
        self._deleting(lambda: sum(self.runs.prune(project, until) for project in self.projects.list()))

    def trim_records(self) -> None:
        """Keep records from taking more room than they may."""
        self._deleting(self.runs.trim)

    def _deleting(self, job: Callable[[], int]) -> None:
        try:
            count = job()
        except MechawayError as error:  # a disk that is gone for now; the next look tries again
            log.warning("old records of runs were not deleted: %s", error)
        else:
            if count:
                log.info("deleted the records of %d old runs", count)

    def delete_old_files(self, until: float | None = None) -> None:
        """Only the first of these, as far as time goes until an instant of the clock's `monotonic`."""
        try:
            gone = self._files.delete_older(self.settings.file_hours * 3600, until)
        except MechawayError as error:  # a disk that is gone for now; the next sweep tries again
            log.warning("files of old runs were not deleted: %s", error)
        else:
            if gone:
                log.info("deleted the files of %d old runs", gone)

    # -- tables

    def tables(self, project: str) -> list[TableInfo]:
        """The tables of a project with their columns."""
        self._need(project)
        return self._tables.read(project, lambda session: session.tables())

    def rows(self, project: str, table: str, after: int = 0, limit: int = 100) -> TablePage:
        """Rows of a table in the order they were made, behind the row number `after`. Raises `NotFound`."""
        self._need(project)
        if check_name(table) is not None:
            raise NotFound(f"there is no table {table[:80]!r}")
        page = self._tables.read(project, lambda session: session.page(table, after, limit))
        if page is None:
            raise NotFound(f'there is no table "{table}"')
        return page

    # -- secrets

    def put_secret(self, project: str, name: str, value: str) -> SecretInfo:
        """Keep a secret, or change it; version 1 says that it is new. Raises `Invalid`, `TooLarge`, `NotFound`, `Locked`."""
        self._need(project)
        return self.vault.put(project, name, value)

    def secrets(self, project: str, after: str = "", limit: int = 100) -> list[SecretInfo]:
        """What may be known about the secrets behind the name `after`, in the order of their names."""
        self._need(project)
        return self.vault.find(project, after, limit)

    def secret(self, project: str, name: str) -> SecretInfo:
        """What may be known about a secret: never its value. Raises `Invalid`, `NotFound`."""
        self._need(project)
        return self.vault.info(project, name)

    def delete_secret(self, project: str, name: str) -> None:
        """Forget a secret. Raises `Invalid`, `NotFound`."""
        self._need(project)
        self.vault.delete(project, name)

    def rewrap_secrets(self) -> int:
        """Lock the data keys of all projects with the master key that locks now; how many were locked with another."""
        count = 0
        for slug in self.projects.list():
            with contextlib.suppress(NotFound):  # deleted meanwhile
                count += self.vault.rewrap(slug)
        return count

    # -- projects

    def create_project(self, slug: str) -> None:
        """Make a project. Raises `Invalid` for its name, `Conflict` when it is there."""
        self.projects.create(slug)

    def delete_project(self, slug: str) -> None:
        """Delete a project and all it holds. Raises `NotFound`; `Conflict` for the default project."""
        if slug == DEFAULT_PROJECT:
            raise Conflict('the project "default" always exists; delete its workflows instead')
        if not self.projects.delete(slug):
            raise _no_project(slug)
        self.timetable.project_deleted(slug)

    # -- projects on the move

    def export_project(self, project: str, file: BinaryIO, passphrase: str | None = None) -> Summary:
        """Write a project into an empty file, its secrets locked with the passphrase if there is one. Raises as `Outgoing.write` does."""
        from mechaway_core.transfer import Outgoing

        self._need(project)
        folder = self.settings.data_dir if self.settings.data_dir.is_dir() else None
        return Outgoing(self._workflows, self._tables, self.vault, self.clock, folder).write(project, file, passphrase)

    def import_project(self, file: BinaryIO, project: str | None = None, **how: Any) -> Summary:
        """Read a project from a file, whole or not at all; `how` are the options of `Incoming.read`, and so are the errors."""
        return self._incoming().read(file, project, **how)

    def settle_imports(self) -> None:
        """Bring imports that were cut off to an end, back or forth. Safe to do from several processes at once."""
        try:
            self._incoming().settle()
        except MechawayError as error:  # a disk or a bucket that is away for now; the next look tries again
            log.warning("imports that were cut off could not be looked for: %s", error)

    def _incoming(self) -> Incoming:
        from mechaway_core.transfer import Incoming

        return Incoming(
            self.projects,
            self._store,
            self._workflows,
            self._tables,
            self.vault,
            self.clock,
            check=lambda raw: _check(raw, self.sandbox, self.settings, None),
            most_mb=self.settings.max_import_mb,
            published=self._published,
        )

    def _published(self, project: str) -> None:
        self.timetable.settle_project(project)
        self.listeners.settle_project(project)

    # -- keys of projects

    def create_key(self, project: str, name: Any, scopes: Any, expires: Any = None) -> tuple[ProjectKey, str]:
        """Make a key; it and its text, which cannot be had again. Raises `NotFound`, and `Invalid` with all problems."""
        self._need(project)
        return self.door.keys.create(project, name, scopes, expires)

    def keys(self, project: str, after: str = "", limit: int = 100) -> list[ProjectKey]:
        """The keys of a project behind the id `after`. Raises `NotFound`."""
        self._need(project)
        return self.door.keys.find(project, after, limit)

    def revoke_key(self, project: str, key_id: str) -> None:
        """Make a key worthless. Raises `NotFound`."""
        self._need(project)
        self.door.keys.revoke(project, key_id)

    # -- the whole

    def close(self) -> None:
        """End threads and Lua processes. Runs must be over."""
        if self._invoke is not None:
            self._invoke.close()
        self._recorder.close()
        self.sandbox.close()  # first: scripts that still run, and calls that wait, end with it, and helpers of the engine with them
        self._http.close()
        self._engine.close()
        self._postgres.close()

    def _need(self, project: str) -> None:
        if not self.projects.exists(project):
            raise _no_project(project)

    def _warnings(self, project: str, checked: Any) -> tuple[Problem, ...]:
        """What there is to warn of, secrets that are not in the vault yet included."""
        if not checked.secrets or not self.projects.exists(project):
            return checked.warnings  # type: ignore[no-any-return]
        missing = set(self.vault.missing(project, [name for name, _, _ in checked.secrets]))
        absent = (
            Problem(pointer, f'there is no secret "{name}" yet; runs fail until it is kept', node)
            for name, pointer, node in checked.secrets
            if name in missing
        )
        return (*checked.warnings, *absent)

    def _checked(self, raw: Any, workflow_id: str | None = None) -> Any:
        checked = _check(raw, self.sandbox, self.settings, workflow_id)
        if checked.errors:
            count = len(checked.errors)
            first = str(checked.errors[0])
            detail = first if count == 1 else f"{count} problems, the first: {first}"
            raise Invalid(f"the workflow cannot be saved: {detail}", checked.errors)
        return checked


def node_types() -> list[dict[str, Any]]:
    """Every node type: name, group, help, exits, whether it starts runs, what inputs and secrets mean to it, the schema of its params."""
    from mechaway_core.workflow.shape import params_model  # pydantic, only when somebody asks

    return [
        {
            "name": name,
            "group": node_type.group,
            "trigger": node_type.trigger,
            "exits": [*node_type.exits, "error"],
            "inputs": node_type.uses_inputs or None,
            "secrets": node_type.uses_secrets or None,
            "docs": _docs(node_type),
            "params": params_model(node_type).model_json_schema(),
        }
        for name, node_type in catalogue().items()
    ]


def _docs(node_type: type[Node]) -> str:
    import inspect

    return inspect.cleandoc(node_type.__doc__ or "")


def _check(raw: Any, sandbox: Sandbox, settings: Settings, workflow_id: str | None) -> Any:
    from mechaway_core.workflow.check import check  # pydantic, only when something is saved

    return check(raw, sandbox, settings, workflow_id=workflow_id)


def _lock(step: Step) -> Lock | None:
    """What callers must fit, where the trigger asks for something. Raises `Malformed` when this server cannot read what."""
    lock: Lock | None = getattr(step.node, "lock", None)
    return lock


def _no_project(slug: str) -> NotFound:
    return NotFound(f'there is no project "{slug[:80]}"')
