"""What Mechaway can do, in words of its users. The edges (`local/`, `aws/`) build it, `web/` and `cli` call it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from mechaway_core import timetable, triggers
from mechaway_core.access import AdminToken, Door
from mechaway_core.access.keys import ProjectKey
from mechaway_core.calls import Calls
from mechaway_core.engine import Engine, World
from mechaway_core.errors import Conflict, Invalid, MechawayError, NotFound, Problem, no_project
from mechaway_core.http import Http
from mechaway_core.node import Node
from mechaway_core.nodes import catalogue
from mechaway_core.ports import Clock, Files, Invoke, KeyRing, Projects, Records, Schedule, Schedules, Store, Tables
from mechaway_core.postgres import Postgres
from mechaway_core.record import Run
from mechaway_core.registry import Registry
from mechaway_core.runs import Later, Listeners, Pending, Recorder, Runs
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.sqlite import TableInfo, TablePage, check_name
from mechaway_core.storage import Entry, Workflows, summary
from mechaway_core.timetable import Changed, Timetable
from mechaway_core.vault import SecretInfo, Vault
from mechaway_core.workflow import Plan

if TYPE_CHECKING:
    from mechaway_core.agenda import Agenda
    from mechaway_core.fires import Fires
    from mechaway_core.handover import Handover
    from mechaway_core.late import LateRuns
    from mechaway_core.leases import Leases
    from mechaway_core.runs.history import History
    from mechaway_core.transfer import Incoming, Summary
    from mechaway_core.turns import Turns
    from mechaway_core.watchdog import Watchdog

DEFAULT_PROJECT = "default"

log = logging.getLogger("mechaway.app")


class Saved(NamedTuple):
    """A save that is on disk, and what there is to warn of."""

    entry: Entry
    warnings: tuple[Problem, ...]


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
        self.sandbox = sandbox
        self.vault = Vault(store, keyring, clock)
        self._store = store
        self._tables = tables
        self._workflows = Workflows(store, clock)
        self.timetable = Timetable(schedules, self._workflows, changed)
        self._invoke = invoke
        registry = Registry(self._workflows, settings.max_plans)
        self.listeners = Listeners(store, self._workflows, registry)
        self._registry = registry
        self._http = Http(settings)
        self._postgres = Postgres(settings, self._http.guard.addresses)
        self._files = files
        self._engine = Engine(World(settings, sandbox, tables, clock, self.vault, self._http, self._postgres, files))
        self.door = Door(settings, store, clock, self.vault, admin)
        self._recorder = Recorder(records, gathers=gathers)
        self.runs = Runs(
            settings, self._engine, files, records, self._recorder, registry, self._workflows, self.listeners, clock, invoke
        )  # fmt: skip
        self.calls = Calls(settings, registry, self._engine, self.runs, files, self.door, clock)
        self._streams = gathers

    # Webhooks need none of these, and a function that answers one for the first time waits for each import.

    @cached_property
    def history(self) -> History:
        """What people ask of runs on record."""
        from mechaway_core.runs.history import History

        return History(self.runs, self.projects, streams=self._streams)

    @cached_property
    def handover(self) -> Handover:
        """Who has taken an event on."""
        from mechaway_core.handover import Handover

        return Handover(self._store)

    @cached_property
    def leases(self) -> Leases:
        """Which process runs an accepted run, in AWS."""
        from mechaway_core.leases import Leases

        return Leases(self._store)

    @cached_property
    def fires(self) -> Fires:
        """What became of the due times of schedules."""
        from mechaway_core.fires import Fires

        return Fires(self._store)

    @cached_property
    def turns(self) -> Turns:
        """Runs of one schedule that must not meet, in AWS."""
        from mechaway_core.turns import Turns

        return Turns(self._store, self.clock)

    @cached_property
    def agenda(self) -> Agenda:
        """The schedules as people look at them."""
        from mechaway_core.agenda import Agenda

        return Agenda(self.timetable, self.fires, self.clock, self._late)

    @cached_property
    def watchdog(self) -> Watchdog:
        """Who looks for due times that had no run."""
        from mechaway_core.watchdog import Watchdog

        return Watchdog(self.timetable, self.fires, self.clock, self._late, self.runs.missed)

    @cached_property
    def _late(self) -> LateRuns:
        from mechaway_core.late import LateRuns

        return LateRuns(self.handover, self.clock, self.start_elsewhere)

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
        record = self.runs.show(plan, run)
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
        self,
        project: str,
        schedule: Schedule,
        due: float,
        timeout: float | None = None,
        begun: Callable[[Run], None] | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Run a workflow because its schedule was due, at `due` in seconds since 1970. Raises `NotFound` when it is gone.

        `begun` is told of the run before its first node; `run_id` is the id that it gets.
        """
        plan = self._registry.get(project, schedule.workflow_id)
        place = plan.index.get(schedule.node_id)
        if place is None or not plan.active or not plan.steps[place].node.trigger:
            raise NotFound(f'workflow "{schedule.workflow_id}" starts nothing at "{schedule.node_id}"')
        items = [triggers.scheduled(project, schedule.workflow_id, due, self.clock.now())]
        run = self._engine.prepare(plan, plan.steps[place], project, "cron", run_id)
        self.runs.open(run, items).wait()
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
        """Run a plan that is not saved, by a webhook call or by hand. Nothing of it is put on record."""
        self._need(project)
        if call is None:
            step, given = triggers.manual(plan, node_id, items)
            run = self._engine.prepare(plan, step, project, "manual")
        else:
            step, named = triggers.route(plan, call)
            run = self._engine.prepare(plan, step, project, "webhook")
            given = self.calls.read(run, call, named)
        try:
            return self._engine.run(plan, run, given)
        finally:
            self._files.release(project, run.info.id)

    @property
    def going(self) -> int:
        """How many runs go on in this process."""
        return self.runs.going

    def cancel_all(self) -> int:
        """Stop every run of this process because it is to end; how many there were."""
        return self.runs.cancel_all()

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
            raise no_project(slug)
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
            raise no_project(project)

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
