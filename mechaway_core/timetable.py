"""Schedules in step with the documents that ask for them.

A schedule is made before the document that wants it is saved and goes after the document that wanted it is gone. Whatever is cut off
between the two leaves at worst a schedule that finds nothing to do: it starts only what the current document asks for, and then `settle`
puts it right. `settle` may be called at any time, by anybody, and any number of times.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from mechaway_core.errors import Invalid, MechawayError, NotFound
from mechaway_core.logs import about
from mechaway_core.ports import Schedule, Schedules
from mechaway_core.storage import Entry, Workflows

if TYPE_CHECKING:
    from mechaway_core.timing import Timing

TRIGGER = "CronTrigger"  # the node type that asks for a schedule

_ROUNDS = 3  # of settling a workflow that is being saved at the same time

Changed = Callable[[str, str], None]
"""Is told a project and a workflow, or "" for all workflows of the project."""

log = logging.getLogger("mechaway.timetable")


class Change(NamedTuple):
    """What it takes to make schedules what the documents say."""

    make: tuple[Schedule, ...] = ()
    change: tuple[Schedule, ...] = ()
    delete: tuple[Schedule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.make or self.change or self.delete)


def schedules_of(document: Mapping[str, Any]) -> list[Schedule]:
    """What a canonical document asks the clock for; nothing when it is switched off."""
    if not document.get("active", True):
        return []
    return [
        Schedule(document["id"], node["id"], node["params"]["schedule"], node["params"].get("timezone", "UTC"))
        for node in document["nodes"]
        if node["node_type"] == TRIGGER and not node.get("disabled", False) and node["params"].get("enabled", True)
    ]


def asks_for(node: Any, schedule: Schedule) -> bool:
    """Whether a node asks for a schedule, and not for another."""
    if type(node).__name__ != TRIGGER or not node.enabled:
        return False
    return bool((node.schedule, node.timezone) == (schedule.expression, schedule.timezone))


def timings_of(document: Mapping[str, Any]) -> dict[tuple[str, str], Timing]:
    """When each trigger of a canonical document is due, by (workflow, node). One that this server cannot read is left out."""
    from mechaway_core.nodes.cron_trigger import CronTrigger  # with all that knows of zones: only where somebody asks for times

    timings = {}
    wanted = {schedule.node_id for schedule in schedules_of(document)}
    for node in document["nodes"]:
        if node["id"] in wanted:
            with contextlib.suppress(Invalid, TypeError):
                timings[document["id"], node["id"]] = CronTrigger(**node["params"]).timing
    return timings


def compare(wanted: Sequence[Schedule], actual: Sequence[Schedule]) -> Change:
    """What to make, change and delete so that `actual` becomes `wanted`."""
    there = {(one.workflow_id, one.node_id): one for one in actual}
    places = {(one.workflow_id, one.node_id) for one in wanted}
    return Change(
        make=tuple(one for one in wanted if (one.workflow_id, one.node_id) not in there),
        change=tuple(one for one in wanted if there.get((one.workflow_id, one.node_id), one) != one),
        delete=tuple(one for place, one in there.items() if place not in places),
    )


class Timetable:
    """The schedules of all projects. Without a keeper of time it keeps none."""

    def __init__(self, schedules: Schedules | None, workflows: Workflows, changed: Changed = lambda _project, _workflow_id: None) -> None:
        """`changed` is told of each workflow whose schedules may be others now."""
        self._schedules = schedules
        self._workflows = workflows
        self._changed = changed

    def find(self, project: str, workflow_id: str, node_id: str) -> Schedule | None:
        """What the current document says about the schedule of a node; None when it asks for none."""
        return next((one for one in self._wanted(project, workflow_id) if one.node_id == node_id), None)

    def find_timed(self, project: str, workflow_id: str, node_id: str) -> tuple[Schedule, Timing] | None:
        """The same, and when it is due; None also when this server cannot read it."""
        try:
            document = self._workflows.get(project, workflow_id).document
        except NotFound:
            return None
        timing = timings_of(document).get((workflow_id, node_id))
        schedule = next((one for one in schedules_of(document) if one.node_id == node_id), None)
        return None if schedule is None or timing is None else (schedule, timing)

    @contextmanager
    def saving(self, project: str, document: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[None]:
        """Keep the schedules in step while the document is saved inside; `before` is what it replaces.

        Raises what `Schedules.put` raises, and then nothing was saved.
        """
        if self._schedules is None or not (schedules_of(document) or (before is not None and schedules_of(before))):
            yield
            return
        try:
            change = compare(schedules_of(document), self._schedules.list(project, document["id"]))
            for schedule in (*change.make, *change.change):
                self._schedules.put(project, schedule)
            yield
        finally:  # refused or saved: what is stored now says what there must be, and somebody may have settled it meanwhile
            self._settle_or_log(project, document["id"])
            self._changed(project, document["id"])

    def deleted(self, project: str, workflow_id: str) -> None:
        """Take away the schedules of a workflow that is gone."""
        if self._schedules is not None:
            self._settle_or_log(project, workflow_id)
            self._changed(project, workflow_id)

    def project_deleted(self, project: str) -> None:
        """Take away all schedules of a project that is gone."""
        try:
            self.settle_project(project)
        except MechawayError as error:
            log.warning(
                "schedules of the deleted project %s are left over and go when they are due: %s",
                project,
                error,
                extra=about(project=project),
            )
        self._changed(project, "")

    def kept(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        """The schedules that are kept for a project or a workflow."""
        return [] if self._schedules is None else self._schedules.list(project, workflow_id)

    def names(self, project: str, schedule: Schedule) -> tuple[str, ...]:
        """What keeps a schedule is called, where it has names of its own."""
        return () if self._schedules is None else self._schedules.names(project, schedule)

    def timings(self, project: str, workflow_id: str | None = None) -> dict[tuple[str, str], Timing]:
        """When the triggers of a workflow, or of all workflows of a project, are due, by (workflow, node). Raises `NotFound`."""
        if workflow_id:
            return timings_of(self._workflows.get(project, workflow_id).document)
        timings: dict[tuple[str, str], Timing] = {}
        for document in self.documents(project):
            timings.update(timings_of(document))
        return timings

    def documents(self, project: str, after: str = "") -> Iterator[Mapping[str, Any]]:
        """The current documents of a project behind the id `after`, in the order of their ids; none when it is gone."""
        return (entry.document for entry in self.entries(project, after))

    def entries(self, project: str, after: str = "") -> Iterator[Entry]:
        """The same with what is known about them."""
        with contextlib.suppress(NotFound):
            while entries := self._workflows.find(project, after):
                yield from entries
                after = str(entries[-1].document["id"])

    def settle(self, project: str, workflow_id: str) -> Change:
        """Make the schedules of a workflow what its document says; what there was to do."""
        first = change = self._difference(project, workflow_id)
        for _ in range(_ROUNDS):
            self._apply(project, change)
            if not change.delete:
                break
            # The document may have been saved after it was read, and its schedule made before that was deleted just now.
            change = self._difference(project, workflow_id)
        return first

    def settle_project(self, project: str, *, act: bool = True) -> Change:
        """The same for all workflows of a project, those included that exist no longer, as the project itself may. Or only look."""
        if self._schedules is None:
            return Change()
        actual = self._schedules.list(project)
        change = compare(self._all_wanted(project), actual)
        if act:
            for workflow_id in sorted({one.workflow_id for one in (*change.make, *change.change, *change.delete)}):
                self.settle(project, workflow_id)
            if change:
                self._changed(project, "")
        return change

    def projects(self) -> set[str]:
        """The projects that have schedules."""
        return self._schedules.projects() if self._schedules is not None else set()

    def _difference(self, project: str, workflow_id: str) -> Change:
        if self._schedules is None:
            return Change()
        return compare(self._wanted(project, workflow_id), self._schedules.list(project, workflow_id))

    def _apply(self, project: str, change: Change) -> None:
        if self._schedules is None:
            return
        for schedule in (*change.make, *change.change):
            self._schedules.put(project, schedule)
        for schedule in change.delete:
            self._schedules.delete(project, schedule.workflow_id, schedule.node_id)

    def _settle_or_log(self, project: str, workflow_id: str) -> None:
        try:
            self.settle(project, workflow_id)
        except MechawayError as error:  # what was to be saved or deleted is; the schedule is put right when it is next due, or daily
            place = about(project=project, workflow_id=workflow_id)
            log.warning("schedules of workflow %s in project %s are not what it says yet: %s", workflow_id, project, error, extra=place)

    def _wanted(self, project: str, workflow_id: str) -> list[Schedule]:
        try:
            return schedules_of(self._workflows.get(project, workflow_id).document)
        except NotFound:
            return []

    def _all_wanted(self, project: str) -> list[Schedule]:
        return [schedule for document in self.documents(project) for schedule in schedules_of(document)]
