"""Events of the runner: each is one run, or a sentence in the log, and what must not be forgotten is raised."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

from mechaway_core.app import App
from mechaway_core.aws.keyring import KmsKeyRing
from mechaway_core.aws.runner import dispatch
from mechaway_core.errors import Conflict, Malformed, NotFound, Unavailable
from mechaway_core.folders import FolderFiles, FolderProjects, FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.logs import JsonFormatter, fields_of
from mechaway_core.ports import RunLine, RunRecord, Schedule
from mechaway_core.record import new_run_id
from mechaway_core.settings import Settings
from tests.account import Account, failing, unique
from tests.clockwork import clockwork
from tests.contracts.timekeepers import rules
from tests.home import app_over

Event = dict[str, Any]


class Context:
    """An attempt of Lambda's: the same id for all attempts at one event."""

    def __init__(self, request: str = "", seconds: float = 900) -> None:
        self.aws_request_id = request or unique("request")
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """See `LambdaContext`."""
        return int(self._seconds * 1000)


@pytest.fixture
def events(account: Account) -> Any:
    return account.client("events")


@pytest.fixture
def kms(account: Account) -> Any:
    return account.client("kms")


@pytest.fixture
def stem() -> str:
    return unique("mechaway-run")


@pytest.fixture
def storage() -> Literal["s3", "efs"]:
    """What the settings say; the files are in a folder either way."""
    return "s3"


@pytest.fixture
def app(tmp_path: Path, events: Any, kms: Any, stem: str, storage: Literal["s3", "efs"]) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path, sync="normal", storage=storage, file_hours=1)
    app = app_over(settings, keyring=KmsKeyRing(lambda: kms, kms.create_key()["KeyMetadata"]["Arn"]), schedules=rules(events, stem))
    app.create("default", clockwork())
    yield app
    app.close()


def seen(app: App) -> list[dict[str, Any]]:
    """What runs wrote."""
    return app.rows("default", "seen").rows if "seen" in {table.name for table in app.tables("default")} else []


def fired(events: Any, stem: str, time: str = "2026-01-02T03:05:17Z") -> list[Event]:
    """What EventBridge sends when the rules of an installation are due."""
    sent = []
    for rule in events.list_rules(NamePrefix=stem)["Rules"]:
        for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
            sent.append(json.loads(target["InputTransformer"]["InputTemplate"].replace("<due>", json.dumps(time))))
    return sent


def due(time: str = "2026-01-02T03:05:00Z", **changes: Any) -> Event:
    about = {"kind": "schedule", "project": "default", "workflow": "wf", "node": "tick", "expression": "*/5 * * * *", "timezone": "UTC"}
    return about | {"scheduled_for": time} | changes


# -- schedules


def test_a_rule_that_is_due_starts_the_workflow_with_the_minute_it_was_due(app: App, events: Any, stem: str) -> None:
    [event] = fired(events, stem)
    assert dispatch(event, Context(), app)["status"] == "succeeded"
    [row] = seen(app)
    expected = {"scheduled_for": "2026-01-02T03:05:00.000Z", "workflow_id": "wf", "project_slug": "default", "trigger_type": "cron"}
    assert {name: row[name] for name in expected} == expected


def test_an_event_of_scheduler_is_the_same(app: App) -> None:
    assert dispatch(due(execution="d32c5kddcf5bb8c3"), Context(), app)["status"] == "succeeded"
    assert len(seen(app)) == 1


def test_an_event_that_comes_twice_is_one_run(app: App) -> None:
    first, second = (dispatch(due(), Context(), app) for _ in range(2))
    assert first["status"] == "succeeded"
    assert second == {"status": "delivered before"}
    assert len(seen(app)) == 1


def test_events_that_come_at_once_are_one_run(app: App) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: dispatch(due(), Context(), app)["status"], range(16)))
    assert sorted(answers) == ["delivered before"] * 15 + ["succeeded"]
    assert len(seen(app)) == 1


def test_two_rules_of_one_schedule_that_are_due_in_the_same_minute_are_one_run(app: App, events: Any, stem: str) -> None:
    app.update("default", "wf", clockwork("wf", ("tick", "0 3 2 * FRI")))  # the 2nd of January 2026 is a Friday
    one, two = fired(events, stem, "2026-01-02T03:00:04Z")
    assert {dispatch(one, Context(), app)["status"], dispatch(two, Context(), app)["status"]} == {"succeeded", "delivered before"}
    assert len(seen(app)) == 1


def test_each_minute_is_a_run_of_its_own(app: App) -> None:
    for minute in ("03:05", "03:10", "03:15"):
        dispatch(due(f"2026-01-02T{minute}:00Z"), Context(), app)
    assert len(seen(app)) == 3


def test_a_rule_of_a_deleted_workflow_says_so_and_is_removed(app: App, events: Any, stem: str, caplog: pytest.LogCaptureFixture) -> None:
    [event] = fired(events, stem)
    with failing(events, "ListRules", "ThrottlingException"):
        app.delete("default", "wf")
    assert len(fired(events, stem)) == 1
    assert dispatch(event, Context(), app) == {"status": "nothing to do", "removed": 1}
    assert "there is nothing that asks for it" in caplog.text
    assert fired(events, stem) == []


def test_a_rule_of_a_deleted_project_is_removed(app: App, events: Any, stem: str) -> None:
    app.create_project("shop")
    app.create("shop", clockwork())
    event = next(event for event in fired(events, stem) if event["project"] == "shop")
    with failing(events, "ListRules", "ThrottlingException"):
        app.delete_project("shop")
    assert dispatch(event, Context(), app)["removed"] == 1
    assert [event["project"] for event in fired(events, stem)] == ["default"]
    assert dispatch(event, Context(), app)["removed"] == 0


@pytest.mark.parametrize(
    "now",
    [
        clockwork("wf", ("tock", "*/5 * * * *")),
        clockwork("wf", ("tick", "*/6 * * * *")),
        clockwork(active=False),
        {"id": "wf", "nodes": [{"id": "tick", "node_type": "Webhook", "params": {"path": "/"}}], "edges": []},
    ],
)
def test_an_event_of_another_version_of_the_workflow_starts_nothing(app: App, events: Any, stem: str, now: Event) -> None:
    [event] = fired(events, stem)
    app.update("default", "wf", now)
    wanted = fired(events, stem)
    assert dispatch(event, Context(), app)["status"] == "nothing to do"
    assert seen(app) == []
    assert fired(events, stem) == wanted


def test_a_rule_that_is_not_what_the_workflow_says_is_put_right_when_it_is_due(app: App, events: Any, stem: str) -> None:
    [wanted] = fired(events, stem)
    rules(events, stem).put("default", Schedule("wf", "tick", "* * * * *"))
    [event] = fired(events, stem, "2026-01-02T03:06:17Z")
    assert dispatch(event, Context(), app)["status"] == "nothing to do"
    assert fired(events, stem) == [wanted]
    assert seen(app) == []


def test_a_rule_that_is_a_moment_behind_starts_what_the_workflow_asks_for_now(app: App, events: Any, stem: str) -> None:
    [old] = fired(events, stem)
    app.update("default", "wf", clockwork("wf", ("tick", "5 3 * * *")))
    [new] = fired(events, stem)
    assert dispatch(old, Context(), app)["status"] == "succeeded"
    assert dispatch(new, Context(), app) == {"status": "delivered before"}
    assert [row["scheduled_for"] for row in seen(app)] == ["2026-01-02T03:05:00.000Z"]


def test_a_store_that_cannot_be_read_raises_and_the_next_attempt_runs(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    context, get = Context(), FolderStore.get

    def down(*_: Any) -> Any:
        raise Unavailable("the bucket is out of reach")

    monkeypatch.setattr(FolderStore, "get", down)
    with pytest.raises(Unavailable):
        dispatch(due(), context, app)
    monkeypatch.setattr(FolderStore, "get", get)
    assert dispatch(due(), context, app)["status"] == "succeeded"


# -- runs that were cut off, that fail, and that have no time


def test_a_run_that_was_cut_off_is_not_begun_again_and_is_not_forgotten(app: App) -> None:
    context = Context()
    app.handover.claim("default", 1_767_323_100.0, ("schedule", "wf", "tick"), context.aws_request_id)  # and then its machine died
    for _ in range(2):
        with pytest.raises(Conflict, match='"again": true'):
            dispatch(due(), context, app)
    assert seen(app) == []
    assert dispatch(due(again=True), Context(), app)["status"] == "succeeded"
    assert len(seen(app)) == 1


def test_a_run_that_fails_is_logged_and_not_raised(app: App, caplog: pytest.LogCaptureFixture) -> None:
    failing_flow = clockwork("wf", ("tick", "*/5 * * * *"))
    failing_flow["nodes"][1] = {"id": "save", "node_type": "FunLogic", "params": {"script": "error('no luck')"}}
    app.update("default", "wf", failing_flow)
    done = dispatch(due(), Context(), app)
    assert done["status"] == "failed"
    [line] = [fields_of(record) for record in caplog.records if "no luck" in record.getMessage()]
    assert line == {
        "project": "default",
        "workflow_id": "wf",
        "version": 2,
        "run_id": done["run_id"],
        "trigger": "cron",
        "node_id": "save",
        "status": "failed",
        "scheduled_for": "2026-01-02T03:05:00.000Z",
    }


def test_a_run_ends_before_lambda_ends_the_function(app: App) -> None:
    slow = clockwork()
    slow["nodes"][1] = {"id": "save", "node_type": "FunLogic", "params": {"script": "while true do end", "timeout": 30}}
    app.update("default", "wf", slow)
    assert dispatch(due(), Context(seconds=6), app)["status"] == "timed_out"


def test_while_kms_is_down_a_run_that_needs_secrets_is_raised_and_another_attempt_has_it(app: App, kms: Any, tmp_path: Path) -> None:
    app.put_secret("default", "A", "hush")
    needs = clockwork()
    call = {"url": "http://127.0.0.1:9", "auth": {"kind": "bearer", "token": "$secret.A"}}
    needs["nodes"].append({"id": "call", "node_type": "HTTPClient", "params": call, "on_error": "continue"})
    needs["edges"].append({"from": "save", "to": "call"})
    app.update("default", "wf", needs)
    app.vault._keys.clear()  # another environment, which has opened nothing yet
    context = Context()
    with failing(kms, "Decrypt", "ThrottlingException"), pytest.raises(Unavailable, match="slow down"):
        dispatch(due(), context, app)
    assert seen(app) == []
    assert dispatch(due(), context, app)["status"] == "succeeded"
    assert len(seen(app)) == 1


# -- runs that somebody starts with an event of their own


def asked(**changes: Any) -> Event:
    return {
        "kind": "run",
        "id": "one",
        "asked_at": 1_767_323_100.5,
        "project": "default",
        "workflow": "wf",
        "node": "tick",
        "items": [{"trigger_type": "hand"}],
    } | changes


def test_a_run_that_nobody_waits_for_begins_with_its_items_once(app: App) -> None:
    assert dispatch(asked(), Context(), app)["status"] == "succeeded"
    assert dispatch(asked(), Context(), app) == {"status": "delivered before"}
    assert dispatch(asked(id="two"), Context(), app)["status"] == "succeeded"
    assert [row["trigger_type"] for row in seen(app)] == ["hand", "hand"]


@pytest.mark.parametrize("changes", [{"workflow": "none"}, {"project": "none"}])
def test_a_run_that_cannot_begin_is_raised_at_every_attempt(app: App, changes: Event) -> None:
    context = Context()
    for _ in range(2):
        with pytest.raises(NotFound):
            dispatch(asked(**changes), context, app)


# -- the daily look, and what means nothing here


def test_the_daily_look_puts_schedules_right(app: App, events: Any, stem: str) -> None:
    rules(events, stem).delete("default", "wf")
    report = dispatch({"kind": "reconcile"}, Context(), app)
    assert [one["node"] for one in report["projects"]["default"]["make"]] == ["tick"]
    assert len(fired(events, stem)) == 1


def test_a_daily_look_that_could_not_put_all_right_is_raised(app: App, events: Any, stem: str) -> None:
    rules(events, stem).delete("default", "wf")
    with failing(events, "PutRule", "LimitExceededException"), pytest.raises(Unavailable, match="not all schedules"):
        dispatch({"kind": "reconcile"}, Context(), app)


def leave_a_file(app: App, hours: float) -> str:
    """The handle of a file of a run that began so many hours ago and is over."""
    run_id = new_run_id(time.time() - hours * 3600)
    info = app._files.write("default", run_id, "a.txt", "text/plain", [b"x"], 100)
    app._files.release("default", run_id)
    return info.handle


def is_there(app: App, handle: str) -> bool:
    try:
        app.open_file("default", handle).close()
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("storage", ["efs"])
def test_the_daily_work_deletes_old_files_on_a_file_system(app: App) -> None:
    old, young = leave_a_file(app, 2), leave_a_file(app, 0.5)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert not is_there(app, old)
    assert is_there(app, young)


def leave_a_record(app: App, days: float) -> str:
    """The id of a run that ended so many days ago."""
    began = time.time() - days * 86_400
    line = RunLine(new_run_id(began), "wf", 1, "succeeded", "cron", "tick", began, began + 1)
    app.runs.records.write("default", [RunRecord(line, b'{"nodes": []}')])
    return line.id


@pytest.mark.parametrize("storage", ["efs"])
def test_the_daily_work_deletes_old_records_on_a_file_system(app: App) -> None:
    old, young = leave_a_record(app, 31), leave_a_record(app, 29)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert (app.runs.is_kept("default", old), app.runs.is_kept("default", young)) == (False, True)


def test_records_in_a_bucket_are_left_to_the_bucket(app: App) -> None:
    old = leave_a_record(app, 31)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert app.runs.is_kept("default", old)


def test_files_in_a_bucket_are_left_to_the_bucket(app: App) -> None:
    old = leave_a_file(app, 2)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert is_there(app, old)


@pytest.mark.parametrize("storage", ["efs"])
def test_files_that_cannot_be_deleted_keep_nobody_from_the_daily_look(
    app: App, events: Any, stem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*_: Any) -> int:
        raise Unavailable("the file system is out of reach")

    rules(events, stem).delete("default", "wf")
    monkeypatch.setattr(FolderFiles, "delete_older", down)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert len(fired(events, stem)) == 1
    assert "files of old runs were not deleted: the file system is out of reach" in caplog.text


@pytest.mark.parametrize("storage", ["efs"])
def test_schedules_that_cannot_be_put_right_keep_nobody_from_old_files(app: App, events: Any, stem: str) -> None:
    old = leave_a_file(app, 2)
    rules(events, stem).delete("default", "wf")
    with failing(events, "PutRule", "LimitExceededException"), pytest.raises(Unavailable):
        dispatch({"kind": "reconcile"}, Context(), app)
    assert not is_there(app, old)


@pytest.mark.parametrize("storage", ["efs"])
def test_files_are_deleted_until_the_function_s_time_is_over(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this test stands until schedules are looked at, which takes all the time there is."""
    old = leave_a_file(app, 2)
    now = time.monotonic()
    with monkeypatch.context() as late:
        late.setattr(LocalClock, "monotonic", lambda _: now - 1000)
        dispatch({"kind": "reconcile"}, Context(seconds=900), app)
    assert is_there(app, old)
    dispatch({"kind": "reconcile"}, Context(seconds=900), app)
    assert not is_there(app, old)


def test_what_deleted_projects_left_behind_goes_with_the_daily_look_and_is_no_reason_to_fail(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    swept: list[FolderProjects] = []

    def sweep(projects: FolderProjects) -> int:
        swept.append(projects)
        raise Unavailable("the bucket is out of reach")

    monkeypatch.setattr(FolderProjects, "sweep", sweep)
    dispatch({"kind": "reconcile"}, Context(), app)
    assert swept == [app.projects]
    assert "what deleted projects left behind is still there: the bucket is out of reach" in caplog.text


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "schedule",
        5,
        {},
        {"kind": "other"},
        {"kind": ["schedule"]},
        {"kind": None, "token": "hush"},
        {"version": "0", "source": "aws.s3", "detail": {"token": "hush"}},
        {"kind": "schedule"},
        due(scheduled_for=""),
        due(scheduled_for="soon"),
        due(scheduled_for="2026-01-02T03:05:00"),
        due(scheduled_for=5),
        due(project=None),
        due(workflow=["wf"]),
        {"kind": "run", "project": "default", "workflow": "wf", "node": "tick", "id": "x"},
        asked(asked_at="now"),
        asked(asked_at=float("nan")),
        asked(asked_at=-1),
        asked(asked_at=1e300),
        asked(id=""),
    ],
)
def test_an_event_that_means_nothing_is_logged_without_what_is_in_it_and_raised(
    app: App, event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Malformed):
        dispatch(event, Context(), app)
    assert "an event was not done" in caplog.text
    assert "hush" not in "".join(JsonFormatter().format(record) for record in caplog.records)
    assert seen(app) == []


def test_an_event_that_was_not_done_is_found_by_what_it_is_about(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Malformed):
        dispatch(due(expression=5), Context(), app)
    [line] = [fields_of(record) for record in caplog.records if "an event was not done" in record.getMessage()]
    assert (line["project"], line["workflow_id"], line["node_id"]) == ("default", "wf", "tick")


def test_without_a_context_an_event_is_done_too(app: App) -> None:
    assert dispatch(due(), None, app)["status"] == "succeeded"
