"""What the documents ask the clock for against what is there: made right for all projects, those included that exist no longer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from mechaway_core.app import App
from mechaway_core.errors import MechawayError, NotFound
from mechaway_core.logs import about
from mechaway_core.ports import Schedule
from mechaway_core.timetable import Change

log = logging.getLogger("mechaway.reconcile")


@dataclass(slots=True)
class Report:
    """What there was to do, by project; what could not be done; how many old claims and leases went."""

    changes: dict[str, Change] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    swept: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "projects": {
                project: {"make": _shown(change.make), "change": _shown(change.change), "delete": _shown(change.delete)}
                for project, change in self.changes.items()
            },
            "problems": self.problems,
            "swept": self.swept,
        }


def reconcile(app: App, *, act: bool = True) -> Report:
    """Put the schedules of all projects right, or only look; what fails in one project keeps no other from it."""
    report = Report()
    for project in sorted({*app.projects.list(), *app.timetable.projects()}):
        try:
            _settle(app, project, act, report)
        except MechawayError as error:
            log.error("the schedules of project %s could not be put right: %s", project, error, extra=about(project=project))
            report.problems.append(f'project "{project}": {error}')
    if act:
        app.settle_imports()
        _empty_trash(app)
    return report


def _settle(app: App, project: str, act: bool, report: Report) -> None:
    change = app.timetable.settle_project(project, act=act)
    if change:
        report.changes[project] = change
        log.warning(
            "schedules of project %s: %d made, %d changed, %d deleted%s",
            project, len(change.make), len(change.change), len(change.delete), "" if act else " (not done, only looked)",
            extra=about(project=project),
        )  # fmt: skip
    if act:
        try:
            report.swept += app.handover.sweep(project, app.clock.now()) + app.leases.sweep(project, app.clock.now())
        except NotFound:  # a project that is gone, but for its schedules
            return


def _empty_trash(app: App) -> None:
    try:
        app.projects.sweep()
    except MechawayError as error:  # nobody sees what is there; the next look tries again
        log.warning("what deleted projects left behind is still there: %s", error)


def _shown(schedules: tuple[Schedule, ...]) -> list[dict[str, str]]:
    return [{"workflow": one.workflow_id, "node": one.node_id, "expression": one.expression, "timezone": one.timezone} for one in schedules]
