"""The keeper of time on a laptop over simulated years, beside a slow second reading of the same schedules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mechaway_core.app import App
from mechaway_core.clock import SystemClock
from mechaway_core.folders import FolderProjects, FolderStore
from mechaway_core.local import timekeeper
from mechaway_core.local.schedules import Bell, LocalSchedules
from mechaway_core.local.timekeeper import Timekeeper
from mechaway_core.record import iso
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests.home import app_over
from tests.journeys.server import until
from tests.unit.cron import oracle
from tests.unit.cron.oracle import ANY, DAY, HOUR, MINUTE, MONTH, SECOND, WEEKDAY, Made, Part, just

START = int(datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp())
END = int(datetime(2028, 11, 25, 12, 0, tzinfo=UTC).timestamp())
HALF_HOUR = 1800  # every schedule here names whole or half hours, and every zone has offsets of such


def made(minute: Part, hour: Part, day: Part = ANY, month: Part = ANY, weekday: Part = ANY, year: Part = ANY) -> Made:
    return Made(just(SECOND, 0), minute, hour, day, month, weekday, year, 5)


SCHEDULES = {
    "in the hour that is skipped": (made(just(MINUTE, 30), just(HOUR, 2)), "Europe/Berlin"),
    "in the hour that comes twice": (made(just(MINUTE, 30), just(HOUR, 1)), "America/New_York"),
    "half an hour of summer": (made(just(MINUTE, 0, 30), just(HOUR, 1, 2)), "Australia/Lord_Howe"),
    "last day": (made(just(MINUTE, 0), just(HOUR, 0), Part("L", oracle.last_day(0))), "Pacific/Apia"),
    "last working day": (made(just(MINUTE, 0), just(HOUR, 18), Part("LW", oracle.last_working_day)), "Asia/Kolkata"),
    "working days": (made(just(MINUTE, 30), just(HOUR, 9), weekday=just(WEEKDAY, 1, 2, 3, 4, 5)), "Africa/Casablanca"),
    "leap day": (made(just(MINUTE, 0), just(HOUR, 12), just(DAY, 29), just(MONTH, 2)), "UTC"),
    "second Tuesday or the first": (made(just(MINUTE, 0), just(HOUR, 6), just(DAY, 1), weekday=Part("2#2", oracle.nth(2, 2))), "Asia/Gaza"),
}


class Simulated(SystemClock):
    """A clock that stands until somebody sleeps."""

    def __init__(self) -> None:
        self.shows = float(START) - 60

    def now(self) -> float:
        return self.shows


class Sleep(Bell):
    """A bell at which time passes as quickly as the runs that it starts allow."""

    keeper: Timekeeper

    def __init__(self, folder: Path, clock: Simulated) -> None:
        super().__init__(folder)
        self._clock = clock

    def wait(self, seconds: float) -> set[tuple[str, str]] | None:
        """What was rung for; without that, time passes once no run goes on."""
        rung = super().wait(0)
        if rung or self._clock.shows >= END or not self._is_quiet():
            time.sleep(0.0005)
            return rung
        self._clock.shows = min(self._clock.shows + max(seconds, 0.0), float(END))
        return rung

    def _is_quiet(self) -> bool:
        entries = list(self.keeper._entries.values())
        return len(entries) == len(SCHEDULES) and not any(entry.going for entry in entries)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[App, Simulated]]:
    monkeypatch.setattr(timekeeper, "NAP", 40 * 86_400.0)
    clock = Simulated()
    settings = Settings(data_dir=tmp_path / "data", sync="normal", record="none")
    files = ProjectFiles(settings)
    store, projects = FolderStore(files), FolderProjects(files)
    app = app_over(settings, files, clock=clock, schedules=LocalSchedules(store, projects, clock))
    for number, (schedule, zone) in enumerate(SCHEDULES.values()):
        tick = {"id": "tick", "node_type": "CronTrigger", "params": {"schedule": schedule.text, "timezone": zone}}
        save = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["workflow_id", "scheduled_for"]}}
        app.create("default", {"id": f"wf{number}", "nodes": [tick, save], "edges": [{"from": "tick", "to": "save"}]})
    keeper = Timekeeper(app, settings.data_dir, 8)
    bell = Sleep(settings.data_dir, clock)
    bell.keeper = keeper
    keeper._bell = bell
    keeper.start()
    yield app, clock
    keeper.stop()
    app.close()


def test_over_two_years_each_due_time_has_its_run_and_no_other(kept: tuple[App, Simulated]) -> None:
    app, clock = kept
    until(lambda: clock.shows >= END, "two years to pass", 300)
    until(lambda: not app.going, "the last run")
    found = defaultdict(list)
    after: int | None = 0
    while after is not None:
        page = app.rows("default", "seen", after, 1000)
        for row in page.rows:
            found[row["workflow_id"]].append(row["scheduled_for"])
        after = page.next
    for number, (name, (schedule, zone)) in enumerate(SCHEDULES.items()):
        wanted = oracle.walk(schedule, oracle.clocks(ZoneInfo(zone), START, END + 1, HALF_HOUR))
        assert sorted(found[f"wf{number}"]) == [iso(moment) for moment in wanted], name
