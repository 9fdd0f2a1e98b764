"""Who keeps time on a laptop: one leads, every due time has one run, and what was missed is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from mechaway_core.app import App
from mechaway_core.clock import SystemClock
from mechaway_core.fires import Fires
from mechaway_core.folders import FolderProjects, FolderStore
from mechaway_core.handover import Handover
from mechaway_core.local import timekeeper
from mechaway_core.local.schedules import Bell, LocalSchedules
from mechaway_core.local.timekeeper import LOCK, Timekeeper
from mechaway_core.node import Context, Items, Node
from mechaway_core.ports import RunQuery, Schedule
from mechaway_core.record import iso, new_run_id
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests.home import app_over

PATIENCE = 30.0
NOON = 1_795_608_000.0  # 2026-11-25T12:00:00Z


class Clock(SystemClock):
    """A clock that shows what the test wants, and then goes on."""

    def __init__(self, shows: float) -> None:
        self.ahead = shows - time.time()

    def now(self) -> float:
        return time.time() + self.ahead

    def set(self, shows: float) -> None:
        self.ahead = shows - time.time()


class Gate(Node):
    """Lets items through when the test says so, and tells what came."""

    came: ClassVar[list[str]] = []
    opened: ClassVar[threading.Event] = threading.Event()

    def run(self, items: Items, ctx: Context) -> Items:
        self.came.append(items[0]["scheduled_for"])
        assert self.opened.wait(PATIENCE)
        return items


class House:
    """Apps over one folder, as several server processes have them, and who keeps time for each."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.apps: list[App] = []
        self.keepers: list[Timekeeper] = []

    def app(self) -> App:
        settings = Settings(data_dir=self.folder, sync="normal")
        files = ProjectFiles(settings)
        store, projects = FolderStore(files), FolderProjects(files)
        app = app_over(
            settings, files, clock=self.clock, schedules=LocalSchedules(store, projects, self.clock), changed=Bell(self.folder).ring
        )
        self.apps.append(app)
        return app

    def keep(self, app: App) -> Timekeeper:
        keeper = Timekeeper(app, self.folder, 8)
        self.keepers.append(keeper)
        keeper.start()
        return keeper

    def close(self) -> None:
        for keeper in self.keepers:
            keeper.stop()
        for app in self.apps:
            app.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON - 0.5)


@pytest.fixture
def house(tmp_path: Path, clock: Clock, add_node_type: Callable[[type[Node]], None]) -> Iterator[House]:
    add_node_type(Gate)
    Gate.came.clear()
    Gate.opened.clear()
    made = House(tmp_path / "data", clock)
    yield made
    Gate.opened.set()
    made.close()


def workflow(name: str = "wf", schedule: str = "* * * * * *", *, gate: bool = False, **params: Any) -> dict[str, Any]:
    tick = {"id": "tick", "node_type": "CronTrigger", "params": {"schedule": schedule, **params}}
    save = {
        "id": "save",
        "node_type": "SimpleTableWriter",
        "params": {"table": "seen", "columns": ["workflow_id", "scheduled_for", "timestamp"]},
    }
    if not gate:
        return {"id": name, "nodes": [tick, save], "edges": [{"from": "tick", "to": "save"}]}
    wait = {"id": "wait", "node_type": "Gate", "params": {}}
    return {"id": name, "nodes": [tick, wait, save], "edges": [{"from": "tick", "to": "wait"}, {"from": "wait", "to": "save"}]}


def seen(app: App, name: str = "wf") -> list[str]:
    """The due times that had a run, as they were stored."""
    if not app.tables("default"):
        return []
    return [row["scheduled_for"] for row in app.rows("default", "seen", limit=1000).rows if row["workflow_id"] == name]


def soon(found: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
    return answer


def every_second(app: App, least: int, name: str = "wf") -> list[str]:
    """The due times that had a run, once there are so many and none is missing or there twice; runs may end out of turn."""

    def found() -> list[str] | None:
        rows = sorted(seen(app, name))
        start = int(rows[0][17:19]) if rows else 0
        return rows if len(rows) >= least and rows == [of(second) for second in range(start, start + len(rows))] else None

    rows: list[str] = soon(found, f"{least} due times, one after the other, each once")
    return rows


def of(second: int, minute: int = 0, hour: int = 12) -> str:
    return f"2026-11-25T{hour:02}:{minute:02}:{second:02}.000Z"


def test_every_due_time_has_one_run_however_many_wait_for_the_lead(house: House) -> None:
    app = house.app()
    keepers = [house.keep(one) for one in (app, house.app(), house.app())]
    app.create("default", workflow())
    every_second(app, 3)
    assert sum(keeper.leads for keeper in keepers) == 1


def test_when_the_leader_ends_another_goes_on_without_a_gap_or_a_repetition(house: House) -> None:
    app = house.app()
    first = house.keep(app)
    soon(lambda: first.leads, "the first leader")
    second = house.keep(house.app())
    app.create("default", workflow())
    soon(lambda: len(seen(app)) >= 2, "runs by the first")
    first.stop()
    before = len(seen(app))
    soon(lambda: second.leads, "the second leader")
    every_second(app, before + 2)


def test_two_that_both_believe_to_lead_start_each_run_once(house: House) -> None:
    app, other = house.app(), house.app()
    house.keep(app)
    soon(lambda: house.keepers[0].leads, "the first leader")
    (house.folder / LOCK).unlink()  # so that the second finds a lock of its own: as if the first had slept and lost it
    house.keep(other)
    soon(lambda: house.keepers[1].leads, "the second leader")
    app.create("default", workflow())
    soon(lambda: len(seen(app)) >= 3, "three runs")
    rows = seen(app)
    assert len(rows) == len(set(rows))


def test_a_save_is_what_counts_from_its_answer_on(house: House, clock: Clock) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow("wf"))
    app.create("default", workflow("wf2"))
    soon(lambda: seen(app, "wf") and seen(app, "wf2"), "runs of both")
    app.delete("default", "wf")
    deleted = iso(clock.now())
    count = len(seen(app, "wf2"))
    soon(lambda: len(seen(app, "wf2")) >= count + 2, "more runs of the neighbour")
    assert [due for due in seen(app, "wf") if due > deleted] == []
    app.update("default", "wf2", workflow("wf2", "0 0 1 1 *"))
    changed = iso(clock.now())
    app.create("default", workflow("wf3"))
    soon(lambda: len(seen(app, "wf3")) >= 2, "runs of a third")
    assert [due for due in seen(app, "wf2") if due > changed] == []


def test_many_saves_neither_skip_nor_repeat_a_due_time(house: House) -> None:
    app, other = house.app(), house.app()
    house.keep(app)
    app.create("default", workflow())
    for number in range(150):
        other.update("default", "wf", workflow() | {"name": f"version {number}"})
    every_second(app, 3)


def test_looks_at_all_schedules_undo_no_save_and_skip_nothing(house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timekeeper, "RELOAD", 0.0)  # one after the other
    app = house.app()
    house.keep(app)
    app.create("default", workflow())
    for number in range(20):
        app.create("default", workflow("other"))
        app.update("default", "wf", workflow() | {"name": f"version {number}"})
        app.delete("default", "other")
    deleted = iso(clock.now())
    every_second(app, 3)
    assert [due for due in seen(app, "other") if due > deleted] == []


def test_a_save_that_nobody_rang_for_is_noticed_when_the_old_schedule_is_due(house: House, clock: Clock) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow("wf"))
    soon(lambda: seen(app), "a run")
    (house.folder / ".clock-bell").unlink()  # whoever saves from now on finds nobody to ring for
    app.update("default", "wf", workflow("wf", "*/2 * * * * *"))
    saved = iso(clock.now())
    soon(lambda: len([due for due in seen(app) if due > saved]) >= 2, "runs by the new schedule")
    assert [due for due in seen(app) if due > saved and int(due[18]) % 2] == []


@pytest.mark.parametrize(
    ("params", "runs", "missed"),
    [
        ({}, [of(0)], 3),
        ({"catch_up": "last"}, [of(0, hour=11), of(0)], 2),
        ({"catch_up": "all"}, [of(0, hour=9), of(0, hour=10), of(0, hour=11), of(0)], 0),
        ({"grace": 4000}, [of(0, hour=11), of(0)], 2),
    ],
)
def test_what_was_due_while_no_server_ran_is_caught_up_by_the_rule_and_counted(
    house: House, clock: Clock, caplog: pytest.LogCaptureFixture, params: dict[str, Any], runs: list[str], missed: int
) -> None:
    clock.set(NOON - 4 * 3600 + 1)
    app = house.app()
    app.create("default", workflow(schedule="0 * * * *", **params))
    clock.set(NOON + 1)
    with caplog.at_level(logging.ERROR):
        house.keep(app)
        soon(lambda: len(seen(app)) >= len(runs), "what is to be caught up")
    assert sorted(seen(app)) == runs
    [shown], _ = app.schedules("default")
    assert shown["missed"] == missed
    assert ("nobody started a run" in caplog.text) == (missed > 0)
    assert not shown["overdue"]


def test_a_workflow_with_an_error_trigger_hears_of_what_was_due_while_no_server_ran(house: House, clock: Clock) -> None:
    clock.set(NOON - 4 * 3600 + 1)
    app = house.app()
    app.create("default", workflow(schedule="0 * * * *"))
    app.create("default", {"id": "ear", "nodes": [{"id": "hear", "node_type": "ErrorTrigger", "params": {}}], "edges": []})
    clock.set(NOON + 1)
    house.keep(app)
    [line] = soon(lambda: app.runs.records.find("default", RunQuery(workflow_id="ear")).lines, "the run of the workflow that listens")
    record = app.runs.records.get("default", line.id)
    assert record is not None
    [item] = orjson.loads(record.data)["start"]
    assert (item["event"], item["workflow_id"], item["missed"]) == ("missed", "wf", 3)
    assert "was due 3 times" in item["error"]["message"]


def test_a_clock_that_is_set_forward_misses_what_lies_between_and_goes_on(house: House, clock: Clock) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow(schedule="*/10 * * * *"))
    soon(lambda: seen(app), "the first run")
    clock.set(NOON + 3600 - 0.5)
    app.create("default", workflow("other"))  # whoever rings wakes the leader; without, it would be ten seconds
    soon(lambda: len(seen(app)) >= 2, "the run after the hour")
    assert seen(app) == [of(0), of(0, hour=13)]
    [shown, _], _ = app.schedules("default")
    assert (shown["missed"], shown["workflow_id"]) == (0, "other") or shown["missed"] == 5


def test_a_clock_that_is_set_back_repeats_nothing(house: House, clock: Clock) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow())
    soon(lambda: len(seen(app)) >= 3, "three runs")
    clock.set(NOON + 0.5)
    app.create("default", workflow("other"))
    soon(lambda: len(seen(app, "other")) >= 2, "runs of another one")
    rows = seen(app)
    assert len(rows) == len(set(rows))


def test_a_clock_that_was_a_day_ahead_and_is_set_right_goes_on_at_once(house: House, clock: Clock) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow(schedule="* * * * * *"))
    soon(lambda: seen(app), "the first run")
    clock.set(NOON - 86_400)
    app.create("default", workflow("other"))
    soon(lambda: [due for due in seen(app) if due.startswith("2026-11-24")], "a run of the day that it is")


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "cancel_previous"])
def test_a_time_that_comes_while_the_run_before_goes_on(house: House, overlap: str) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow(gate=True, overlap=overlap))
    if overlap in ("allow", "cancel_previous"):
        soon(lambda: len(Gate.came) >= 3, "three runs at once")
    else:
        soon(lambda: Gate.came, "the first run")
        if overlap == "skip":
            soon(lambda: app.schedules("default")[0][0]["skipped"] >= 2, "two that are skipped")
        else:
            time.sleep(1.2)  # long enough for another one to be due; nothing fails when it is not
        assert len(Gate.came) == 1
    Gate.opened.set()
    soon(lambda: len(seen(app)) >= 3, "what goes on")
    rows = seen(app)
    if overlap == "queue":
        start = int(rows[0][17:19])
        assert rows[:3] == [of(second) for second in range(start, start + 3)]
    if overlap == "cancel_previous":
        assert Gate.came[0] not in rows


def test_jitter_puts_off_the_start_and_not_the_due_time(house: House) -> None:
    app = house.app()
    house.keep(app)
    app.create("default", workflow(jitter=1.5))
    soon(lambda: len(seen(app)) >= 3, "three runs")
    rows = list(app.rows("default", "seen").rows)
    assert all(row["scheduled_for"] <= row["timestamp"] for row in rows)
    dues = sorted(row["scheduled_for"] for row in rows)
    assert len(dues) == len(set(dues))


def test_a_run_that_was_begun_before_a_crash_is_not_counted_as_missed(house: House, clock: Clock) -> None:
    clock.set(NOON - 7200 + 1)
    app = house.app()
    app.create("default", workflow(schedule="0 * * * *"))
    clock.set(NOON - 3600)
    what = Schedule("wf", "tick", "0 * * * *").claimed
    Handover(FolderStore(ProjectFiles(app.settings))).claim("default", NOON - 3600, what, "who was killed")
    clock.set(NOON + 1)
    house.keep(app)
    soon(lambda: seen(app), "the run that is due now")
    [shown], _ = app.schedules("default")
    assert (seen(app), shown["missed"]) == ([of(0)], 0)


@pytest.mark.parametrize(("ago", "runs", "missed"), [(1, [of(0)], 0), (3600, [of(0)], 1)])
def test_a_due_time_whose_run_was_cut_off_before_it_was_on_record_is_begun_or_counted(
    house: House, clock: Clock, ago: int, runs: list[str], missed: int
) -> None:
    clock.set(NOON - 7200 + 1)
    app = house.app()
    app.create("default", workflow(schedule="0 * * * *"))
    due = NOON if ago == 1 else NOON - 3600
    what = Schedule("wf", "tick", "0 * * * *").claimed
    store = FolderStore(ProjectFiles(app.settings))
    Fires(store).missed("default", "wf", "tick", due - 60, 0)
    Handover(store).claim("default", due, what, f"who was killed/{new_run_id(due)}")
    clock.set(NOON + 1)
    house.keep(app)
    soon(lambda: seen(app), "the run")
    [shown], _ = app.schedules("default")
    assert (seen(app), shown["missed"]) == (runs, missed)


def test_what_is_in_the_way_of_the_bell_is_removed_and_a_missing_folder_is_said(tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    bell.ring("default", "wf")  # nobody listens
    (tmp_path / ".clock-bell").write_text("no pipe")
    bell.listen()
    Bell(tmp_path).ring("default", "wf")
    Bell(tmp_path).ring("shop", "wf2")
    assert bell.wait(PATIENCE) == {("default", "wf"), ("shop", "wf2")}
    assert bell.wait(0) == set()
    bell.close()


def test_a_bell_that_was_rung_too_often_says_that_something_may_be_lost(tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    bell.listen()
    for number in range(3000):
        Bell(tmp_path).ring("a-project-with-a-long-name", f"workflow-{number}")
        if number == 1500:
            assert bell.wait(0) is None
    bell.close()
