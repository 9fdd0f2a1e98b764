"""Wake-ups of the runner: what is due in their minute begins at its second, once, and whatever is not passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.aws.runner import dispatch
from mechaway_core.errors import Conflict, Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.ports import Schedule
from mechaway_core.record import Run
from mechaway_core.settings import Settings
from tests.account import unique
from tests.clockwork import clockwork
from tests.contracts.timekeepers import MemorySchedules
from tests.home import app_over
from tests.journeys.server import until

Event = dict[str, Any]
THIRDS = "*/20 * * * * *"


class Time(LocalClock):
    """A clock that stands still but for who waits."""

    def __init__(self, start: str) -> None:
        self.seconds = moment(start)
        self.waits: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 3))
        self.seconds += seconds
        self.meanwhile()


class Context:
    """An attempt of Lambda's."""

    def __init__(self, request: str = "", seconds: float = 300) -> None:
        self.aws_request_id = request or unique("request")
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """See `LambdaContext`."""
        return int(self._seconds * 1000)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def clock() -> Time:
    return Time("2026-07-01T07:00:02.300Z")


@pytest.fixture
def app(tmp_path: Path, clock: Time) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path, sync="normal", max_fires_per_minute=60)
    app = app_over(settings, clock=clock, schedules=MemorySchedules())
    app.create("default", flow("0 9 * * *"))
    yield app
    app.close()


def flow(expression: str, timezone: str = "Europe/Berlin") -> dict[str, Any]:
    """A workflow that writes down when it was due and when it began."""
    document = clockwork("wf", ("tick", expression))
    document["nodes"][0]["params"]["timezone"] = timezone
    document["nodes"][1]["params"]["columns"] = ["scheduled_for", "timestamp"]
    return document


def ask(app: App, expression: str, timezone: str = "Europe/Berlin") -> None:
    app.update("default", "wf", flow(expression, timezone))


def woken(app: App, minute: str) -> Event:
    """The event of a minute, as the schedule of the workflow as it is now sends it."""
    wanted = app.timetable.find("default", "wf", "tick")
    assert wanted is not None
    about = {"kind": "schedule", "project": "default", "workflow": "wf", "node": "tick", "scheduled_for": minute}
    return about | {"expression": wanted.expression, "timezone": wanted.timezone}


def wake(app: App, minute: str, context: Context | None = None) -> dict[str, Any]:
    return dispatch(woken(app, minute), context or Context(), app)


def runs(app: App, field: str = "scheduled_for") -> list[str]:
    """What runs wrote down, without its date."""
    there = "seen" in {table.name for table in app.tables("default")}
    return sorted(row[field][11:-1] for row in app.rows("default", "seen").rows) if there else []


# -- due or not


def test_a_minute_in_which_nothing_is_due_passes_and_nothing_is_touched(app: App, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("put", "keys", "delete"):
        monkeypatch.delattr(FolderStore, name)
    for name in ("put", "list", "delete"):
        monkeypatch.delattr(MemorySchedules, name)
    assert wake(app, "2026-07-01T08:00:00Z") == {"status": "not due"}
    assert clock.waits == []


@pytest.mark.parametrize(
    ("expression", "minute", "due"),
    [
        ("0 9 * * *", "2026-07-01T07:00:00Z", True),
        ("0 9 * * *", "2026-01-01T07:00:00Z", False),
        ("0 9 * * *", "2026-01-01T08:00:00Z", True),
        ("0 9 * * *", "2026-07-01T07:01:00Z", False),
        ("30 2 * * *", "2026-03-29T00:30:00Z", False),  # clocks go from 2 to 3: there is no half past two
        ("30 2 * * *", "2026-03-29T01:30:00Z", False),
        ("30 2 * * *", "2026-10-25T00:30:00Z", True),  # from 3 to 2: there are two, and the first counts
        ("30 2 * * *", "2026-10-25T01:30:00Z", False),
        ("*/30 * * * *", "2026-10-25T00:30:00Z", True),
        ("*/30 * * * *", "2026-10-25T01:30:00Z", True),
        ("0 18 LW * *", "2026-10-30T17:00:00Z", True),
        ("0 18 LW * *", "2026-10-31T17:00:00Z", False),
        ("0 0 1 * *", "2026-06-30T22:00:00Z", True),
        ("0 0 1 * *", "2026-06-30T23:00:00Z", False),
        ("0 0 9 * * * 2027", "2026-07-01T07:00:00Z", False),
    ],
)
def test_what_is_due_the_schedule_says_in_its_zone(app: App, clock: Time, expression: str, minute: str, due: bool) -> None:
    ask(app, expression)
    clock.seconds = moment(minute) + 5
    assert wake(app, minute)["status"] == ("succeeded" if due else "not due")
    assert len(runs(app)) == due


@pytest.mark.parametrize(("name", "due"), [("starts_at", ["07:00:20.000", "07:00:40.000"]), ("ends_at", ["07:00:00.000"])])
def test_what_is_before_its_beginning_or_after_its_end_is_not_due(app: App, clock: Time, name: str, due: list[str]) -> None:
    document = flow(THIRDS)
    document["nodes"][0]["params"][name] = "2035-07-01T09:00:20"  # in its zone
    app.update("default", "wf", document)
    clock.seconds = moment("2035-07-01T07:00:00Z")
    wake(app, "2035-07-01T07:00:00Z")
    assert runs(app) == due


def test_a_wake_up_that_comes_late_starts_at_once_what_its_minute_asked_for(app: App, clock: Time) -> None:
    clock.seconds += 3000
    assert wake(app, "2026-07-01T07:00:41Z")["status"] == "succeeded"
    assert (runs(app), runs(app, "timestamp")) == (["07:00:00.000"], ["07:50:02.300"])
    assert clock.waits == []


# -- seconds


def test_each_due_second_of_the_minute_is_a_run_at_its_time(app: App, clock: Time) -> None:
    ask(app, THIRDS)
    answer = wake(app, "2026-07-01T07:00:00Z")
    assert [(one["scheduled_for"][11:-1], one["status"]) for one in answer["runs"]] == [
        ("07:00:00.000", "succeeded"),
        ("07:00:20.000", "succeeded"),
        ("07:00:40.000", "succeeded"),
    ]
    assert runs(app) == ["07:00:00.000", "07:00:20.000", "07:00:40.000"]
    assert clock.waits == [17.7, 20.0]


def test_a_run_begins_at_its_second_and_not_before(app: App, clock: Time) -> None:
    ask(app, "30 * * * * *")
    assert wake(app, "2026-07-01T07:00:00Z")["status"] == "succeeded"
    assert (runs(app), runs(app, "timestamp")) == (["07:00:30.000"], ["07:00:30.000"])
    assert clock.waits == [27.7]


def test_a_clock_that_is_behind_is_waited_for(app: App, clock: Time) -> None:
    clock.seconds = moment("2026-07-01T06:59:59.600Z")
    assert wake(app, "2026-07-01T07:00:00Z")["status"] == "succeeded"
    assert runs(app, "timestamp") == ["07:00:00.000"]
    assert clock.waits == [0.4]


def test_seconds_that_are_over_start_at_once(app: App, clock: Time) -> None:
    ask(app, THIRDS)
    clock.seconds = moment("2026-07-01T07:03:00Z")
    assert len(wake(app, "2026-07-01T07:00:00Z")["runs"]) == 3
    assert len(runs(app)) == 3
    assert clock.waits == []


def test_a_wake_up_that_comes_again_starts_nothing(app: App) -> None:
    ask(app, THIRDS)
    assert len(wake(app, "2026-07-01T07:00:00Z")["runs"]) == 3
    again = wake(app, "2026-07-01T07:00:00Z")
    assert [one["status"] for one in again["runs"]] == ["delivered before"] * 3
    assert len(runs(app)) == 3


def test_wake_ups_that_overlap_start_each_second_once(app: App) -> None:
    ask(app, "* * * * * *")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: wake(app, "2026-07-01T07:00:00Z"), range(3)))
    told = [one["status"] for answer in answers for one in answer["runs"]]
    assert sorted(told) == ["delivered before"] * 120 + ["succeeded"] * 60
    assert runs(app) == [f"07:00:{second:02}.000" for second in range(60)]


@pytest.mark.parametrize(("expression", "left"), [("0 9 * * *", 1), ("*/40 * * * * *", 2), ("1 * * * * *", 1), (None, 1)])
def test_what_changes_while_the_runner_waits_counts_from_then_on(app: App, clock: Time, expression: str | None, left: int) -> None:
    ask(app, THIRDS)

    def change() -> None:
        clock.meanwhile = lambda: None
        until(lambda: len(runs(app)) == 1, "the run of the second that was due before")
        if expression is None:
            app.delete("default", "wf")
        else:
            ask(app, expression)

    clock.meanwhile = change
    told = [one["status"] for one in wake(app, "2026-07-01T07:00:00Z")["runs"]]
    assert told.count("not due") == 3 - left
    assert len(runs(app)) == left


def test_the_next_minute_is_another(app: App, clock: Time) -> None:
    ask(app, "0,59 * * * * *")
    for minute in ("07:00", "07:01"):
        wake(app, f"2026-07-01T{minute}:00Z")
    assert runs(app) == ["07:00:00.000", "07:00:59.000", "07:01:00.000", "07:01:59.000"]


# -- deadlines, and what goes wrong in between


def test_where_there_is_no_time_to_wait_nothing_begins_and_the_next_attempt_begins_all(app: App, clock: Time) -> None:
    ask(app, THIRDS)
    context = Context(seconds=30)
    with pytest.raises(Unavailable, match=r"is due in 38 s.*greater RunnerTimeout"):
        wake(app, "2026-07-01T07:00:00Z", context)
    assert (runs(app), clock.waits) == ([], [])
    clock.seconds += 60
    assert len(wake(app, "2026-07-01T07:00:00Z", context)["runs"]) == 3
    assert len(runs(app)) == 3


def test_what_was_waited_is_no_time_for_the_run(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(app, THIRDS)
    given = []

    def start(_: App, _project: str, _schedule: Schedule, _due: float, timeout: float, _begun: Any) -> Run:
        given.append(round(timeout, 1))
        raise Unavailable("enough")

    monkeypatch.setattr(App, "start_scheduled", start)
    with pytest.raises(Unavailable, match="enough"):
        wake(app, "2026-07-01T07:00:00Z", Context(seconds=70))
    assert given[-1] == 27.3  # of 65


def test_a_time_that_lies_far_ahead_is_not_waited_for(app: App, clock: Time) -> None:
    with pytest.raises(Unavailable, match="cannot wait that long"):
        dispatch(woken(app, "2026-07-02T07:00:00Z"), None, app)
    assert clock.waits == []


def test_a_second_that_could_not_begin_is_begun_by_the_next_attempt_and_the_others_are_not(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(app, THIRDS)
    context, start = Context(), App.start_scheduled

    def down(self: App, project: str, schedule: Schedule, due: float, timeout: float, begun: Any) -> Run:
        if due % 60 == 20:
            raise Unavailable("the bucket is out of reach")
        return start(self, project, schedule, due, timeout, begun)

    monkeypatch.setattr(App, "start_scheduled", down)
    with pytest.raises(Unavailable, match="out of reach"):
        wake(app, "2026-07-01T07:00:00Z", context)
    assert runs(app) == ["07:00:00.000", "07:00:40.000"]
    monkeypatch.setattr(App, "start_scheduled", start)
    again = wake(app, "2026-07-01T07:00:00Z", context)
    assert [one["status"] for one in again["runs"]] == ["delivered before", "succeeded", "delivered before"]
    assert len(runs(app)) == 3


def test_a_second_that_was_cut_off_is_not_begun_again_and_keeps_no_other_from_its_run(app: App) -> None:
    ask(app, THIRDS)
    context = Context()
    due = moment("2026-07-01T07:00:20Z")
    app.handover.claim("default", due, Schedule("wf", "tick", "").claimed, context.aws_request_id)  # and then its machine died
    for _ in range(2):
        with pytest.raises(Conflict, match='"again": true'):
            wake(app, "2026-07-01T07:00:00Z", context)
        assert runs(app) == ["07:00:00.000", "07:00:40.000"]
