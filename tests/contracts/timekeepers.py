"""What keeps time, held to one contract by `test_schedules.py`; and one in memory, for tests that need no account."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mechaway_core.aws.schedules import Place, RuleSchedules, SchedulerSchedules
from mechaway_core.cron import cron
from mechaway_core.folders import FolderProjects, FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.schedules import LocalSchedules
from mechaway_core.ports import Schedule, Schedules
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests.account import QUEUE, ROLE, RUNNER, Account, unique


class MemorySchedules:
    """`Schedules` in memory."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, str], Schedule] = {}

    def put(self, project: str, schedule: Schedule) -> None:
        """See `Schedules.put`."""
        cron(schedule.expression, schedule.timezone)
        self.held[project, schedule.workflow_id, schedule.node_id] = schedule

    def delete(self, project: str, workflow_id: str, node_id: str | None = None) -> int:
        """See `Schedules.delete`."""
        gone = [place for place in self.held if place[:2] == (project, workflow_id) and node_id in (None, place[2])]
        for place in gone:
            del self.held[place]
        return len(gone)

    def list(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        """See `Schedules.list`."""
        return [self.held[place] for place in sorted(self.held) if place[0] == project and workflow_id in (None, place[1])]

    def names(self, project: str, schedule: Schedule) -> tuple[str, ...]:
        """See `Schedules.names`."""
        return (f"{project}/{schedule.workflow_id}/{schedule.node_id}",)

    def projects(self) -> set[str]:
        """See `Schedules.projects`."""
        return {place[0] for place in self.held}


def place(stem: str, **changes: Any) -> Place:
    """A place for schedules that no other test has."""
    given: dict[str, Any] = {"runner": RUNNER, "queue": QUEUE, "role": ROLE, "group": stem} | changes
    return Place(stem, **given)


def rules(client: Any, stem: str = "", **changes: Any) -> RuleSchedules:
    """Rules with names of their own."""
    return RuleSchedules(lambda: client, place(stem or unique("rules-test"), **changes))


def scheduler(client: Any, stem: str = "", **changes: Any) -> SchedulerSchedules:
    """Schedules in a group of their own."""
    where = place(stem or unique("scheduler-test"), **changes)
    client.create_schedule_group(Name=where.group)
    return SchedulerSchedules(lambda: client, where)


def documents() -> LocalSchedules:
    """Schedules as documents of a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="schedules-"))
    files = ProjectFiles(Settings(data_dir=folder, sync="normal"))
    projects = FolderProjects(files)
    for slug in ("a", "ab", "a-b"):
        projects.create(slug)
    schedules = LocalSchedules(FolderStore(files), projects, LocalClock())
    weakref.finalize(schedules, shutil.rmtree, folder, ignore_errors=True)
    return schedules


FACTORIES: dict[str, Callable[[Account], Schedules]] = {
    "local": lambda _: documents(),
    "rules": lambda account: rules(account.client("events")),
    "scheduler": lambda account: scheduler(account.client("scheduler")),
    "memory": lambda _: MemorySchedules(),
}
