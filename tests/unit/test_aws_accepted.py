"""Accepted runs in the runner: begun once at a time, again when they were cut off, and found when their event got lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.aws import accepted
from mechaway_core.aws.keyring import KmsKeyRing
from mechaway_core.aws.runner import dispatch
from mechaway_core.clock import SystemClock
from mechaway_core.errors import Malformed, Unavailable
from mechaway_core.folders import FolderRecords
from mechaway_core.ports import RunQuery, Schedule
from mechaway_core.runs.runs import MOST_ATTEMPTS
from mechaway_core.settings import Settings
from tests.account import Account, failing
from tests.home import app_over
from tests.lambda_events import Context

HOUR = 3600.0
SAVE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["n"]}}


class Later(SystemClock):
    """A clock that is ahead."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class Sent:
    """An `Invoke` that keeps the events that Lambda would."""

    here = False

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.down = False

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """See `Invoke.start`."""
        if self.down:
            raise Unavailable("Lambda is out of reach")
        self.events.append({"kind": "run", "project": project, "run_id": run_id, "workflow": workflow_id})

    def check(self) -> None:
        """See `Invoke.check`."""

    def close(self) -> None:
        """See `Invoke.close`."""


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def app(tmp_path: Path, clock: Later, sent: Sent) -> Iterator[App]:
    app = app_over(Settings(data_dir=tmp_path, sync="normal"), clock=clock, invoke=sent, gathers=False)
    app.create("default", flow())
    yield app
    app.close()


def flow(*nodes: dict[str, Any], workflow_id: str = "wf", **settings: Any) -> dict[str, Any]:
    """A workflow that notes the items it is started with, behind these nodes."""
    chain = [{"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}, *nodes, SAVE]
    edges = [{"from": one["id"], "to": two["id"]} for one, two in pairwise(chain)]
    return {"id": workflow_id, "nodes": chain, "edges": edges, "settings": settings}


def listener() -> dict[str, Any]:
    """A workflow that hears of runs that were lost or failed."""
    return {"id": "ear", "nodes": [{"id": "hear", "node_type": "ErrorTrigger", "params": {}}], "edges": []}


def accept(app: App, sent: Sent, n: int = 1) -> tuple[str, dict[str, Any]]:
    """Accept a run; its id and its event."""
    run = app.start_elsewhere("default", "wf", "hook", [{"n": n}])
    event = sent.events[-1]
    assert event["run_id"] == run.info.id
    return run.info.id, event


def cut_off(app: App, run_id: str, request: str, until: float) -> None:
    """What an attempt leaves that was cut off in the middle."""
    app.leases.take("default", run_id, request, until)


def seen(app: App) -> list[int]:
    """What runs wrote."""
    return [row["n"] for row in app.rows("default", "seen").rows] if app.tables("default") else []


def status(app: App, run_id: str) -> str:
    return str(app.history.get("default", run_id)["status"])


def attempt(app: App, run_id: str) -> int:
    return int(app.history.get("default", run_id).get("attempt", 1))


def left_open(app: App) -> int:
    """How many runs have not ended."""
    return len(app.runs.records.find("default", RunQuery(statuses=("queued", "running"))).lines)


def watch(app: App) -> dict[str, Any]:
    return dispatch({"kind": "watch"}, Context(seconds=300), app)


# -- begun once


def test_an_accepted_run_is_on_record_before_it_begins_and_after(app: App, sent: Sent) -> None:
    run_id, event = accept(app, sent)
    assert status(app, run_id) == "queued"
    assert dispatch(event, Context(), app) == {"status": "succeeded", "run_id": run_id}
    assert (status(app, run_id), attempt(app, run_id), seen(app)) == ("succeeded", 1, [1])
    assert app.leases.find("default", run_id) is None


def test_an_event_that_comes_again_starts_nothing(app: App, sent: Sent) -> None:
    _, event = accept(app, sent)
    dispatch(event, Context(), app)
    assert dispatch(event, Context(aws_request_id="another"), app) == {"status": "delivered before"}
    assert dispatch(event, Context(), app) == {"status": "delivered before"}
    assert seen(app) == [1]


def test_events_that_come_at_once_are_one_run(app: App, sent: Sent) -> None:
    run_id, event = accept(app, sent)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: dispatch(event, Context(aws_request_id=str(n)), app)["status"], range(16)))
    assert sorted(answers) == ["delivered before"] * 15 + ["succeeded"]
    assert (seen(app), attempt(app, run_id)) == ([1], 1)


def test_while_somebody_is_at_it_another_delivery_leaves_it_alone(app: App, sent: Sent, clock: Later) -> None:
    run_id, event = accept(app, sent)
    cut_off(app, run_id, "somebody", clock.now() + 60)
    assert dispatch(event, Context(), app) == {"status": "delivered before"}
    assert (status(app, run_id), seen(app)) == ("queued", [])


def test_a_run_that_fails_is_on_record_and_not_raised(app: App, sent: Sent) -> None:
    app.update("default", "wf", flow({"id": "bad", "node_type": "FunLogic", "params": {"script": "error('no luck')"}}))
    run_id, event = accept(app, sent)
    assert dispatch(event, Context(), app)["status"] == "failed"
    assert "no luck" in app.history.get("default", run_id)["error"]["message"]


def test_a_run_of_a_project_that_was_deleted_is_nothing_to_do(app: App, sent: Sent) -> None:
    app.create_project("shop")
    app.create("shop", flow())
    app.start_elsewhere("shop", "wf", "hook", [{"n": 1}])
    app.delete_project("shop")
    assert dispatch(sent.events[-1], Context(), app) == {"status": "nothing to do"}


@pytest.mark.parametrize("run_id", ["", "x", "../x", None, 5, "0" * 36])
def test_what_is_no_run_s_id_is_refused(app: App, run_id: Any) -> None:
    with pytest.raises(Malformed):
        dispatch({"kind": "run", "project": "default", "run_id": run_id, "workflow": "wf"}, Context(), app)


def test_a_run_has_the_time_of_the_function(app: App, sent: Sent) -> None:
    app.update("default", "wf", flow({"id": "slow", "node_type": "FunLogic", "params": {"script": "while true do end", "timeout": 30}}))
    run_id, event = accept(app, sent)
    assert dispatch(event, Context(seconds=6), app)["status"] == "timed_out"
    assert status(app, run_id) == "timed_out"


# -- cut off


def test_the_next_attempt_at_an_event_that_was_cut_off_begins_the_run_again(app: App, sent: Sent, clock: Later) -> None:
    run_id, event = accept(app, sent)
    context = Context()
    cut_off(app, run_id, context.aws_request_id, clock.now() + 900)
    assert dispatch(event, context, app)["status"] == "succeeded"
    assert (status(app, run_id), attempt(app, run_id), seen(app)) == ("succeeded", 2, [1])


def test_a_lease_that_is_past_is_that_of_an_attempt_that_was_cut_off(app: App, sent: Sent, clock: Later) -> None:
    run_id, event = accept(app, sent)
    cut_off(app, run_id, "gone", clock.now() - 1)
    assert dispatch(event, Context(), app)["status"] == "succeeded"
    assert attempt(app, run_id) == 2


def test_a_workflow_may_say_that_what_was_cut_off_is_not_begun_again(app: App, sent: Sent, clock: Later) -> None:
    app.update("default", "wf", flow(on_lost="fail"))
    app.create("default", listener())
    run_id, event = accept(app, sent)
    context = Context()
    cut_off(app, run_id, context.aws_request_id, clock.now() + 900)
    app.runs.records.write("default", [_running(app, run_id)])
    assert dispatch(event, context, app) == {"status": "delivered before"}
    record = app.history.get("default", run_id)
    assert (record["status"], record["error"]["type"], seen(app)) == ("failed", "lost", [])
    assert [one["workflow"] for one in sent.events] == ["wf", "ear"]


def _running(app: App, run_id: str) -> Any:
    """The record that `on_lost: fail` has of a run before its first node."""
    record = app.runs.records.get("default", run_id)
    assert record is not None
    return record._replace(line=record.line._replace(status="running"))


def test_a_run_that_is_cut_off_again_and_again_is_lost_and_those_who_listen_hear_of_it(app: App, sent: Sent, clock: Later) -> None:
    app.create("default", listener())
    run_id, event = accept(app, sent)
    for number in range(MOST_ATTEMPTS):  # each begins and ends its process
        cut_off(app, run_id, f"request {number}", clock.now() - 1)
        if number < MOST_ATTEMPTS - 1:
            record = app.runs.records.get("default", run_id)
            assert record is not None
            assert app.runs.count_attempt("default", record)
    assert dispatch(event, Context(), app) == {"status": "delivered before"}
    end = app.history.get("default", run_id)
    assert (end["status"], end["error"]["type"]) == ("failed", "lost")
    assert f"ended {MOST_ATTEMPTS} times" in end["error"]["message"]
    heard = sent.events[-1]
    assert heard["workflow"] == "ear"
    assert dispatch(heard, Context(aws_request_id="ear"), app)["status"] == "succeeded"
    told = app.history.get("default", heard["run_id"])
    assert (told["trigger"], told["parent"]) == ("error", run_id)
    assert seen(app) == []


def test_an_end_that_cannot_be_put_on_record_is_raised_and_another_attempt_is_made(
    app: App, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, event = accept(app, sent)
    write = FolderRecords.write

    def down(records: FolderRecords, project: str, written: Any, gone: Any = ()) -> None:
        if any(record.line.ended is not None for record in written):
            raise Unavailable("the bucket is out of reach")
        write(records, project, written, gone)

    context = Context()
    with monkeypatch.context() as patched:
        patched.setattr(FolderRecords, "write", down)
        with pytest.raises(Unavailable, match="out of reach"):
            dispatch(event, context, app)
    assert left_open(app) == 1
    assert dispatch(event, context, app)["status"] == "succeeded"
    assert (attempt(app, run_id), left_open(app), seen(app)) == (2, 0, [1, 1])


def test_a_record_that_cannot_be_read_is_raised_and_no_attempt_is_counted(app: App, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, event = accept(app, sent)

    def down(*_: Any) -> Any:
        raise Unavailable("the bucket is out of reach")

    context = Context()
    with monkeypatch.context() as patched:
        patched.setattr(FolderRecords, "get", down)
        with pytest.raises(Unavailable):
            dispatch(event, context, app)
    assert dispatch(event, context, app)["status"] == "succeeded"
    assert attempt(app, run_id) == 1


def test_while_the_vault_is_out_of_reach_a_run_waits(tmp_path: Path, account: Account, clock: Later, sent: Sent) -> None:
    kms = account.client("kms")
    ring = KmsKeyRing(lambda: kms, kms.create_key()["KeyMetadata"]["Arn"])
    app = app_over(Settings(data_dir=tmp_path, sync="normal"), clock=clock, invoke=sent, gathers=False, keyring=ring)
    call = {"url": "http://127.0.0.1:9", "auth": {"kind": "bearer", "token": "$secret.A"}}
    app.put_secret("default", "A", "hush")
    app.create("default", flow({"id": "call", "node_type": "HTTPClient", "params": call, "on_error": "continue"}))
    run_id, event = accept(app, sent)
    late_id, late = accept(app, sent)
    app.vault._keys.clear()  # another environment, which has opened nothing yet
    context = Context()
    with failing(kms, "Decrypt", "ThrottlingException"):
        with pytest.raises(Unavailable, match="waits"):
            dispatch(event, context, app)
        assert (status(app, run_id), app.leases.find("default", run_id)) == ("queued", None)
        clock.ahead = 2 * HOUR
        assert dispatch(late, context, app)["status"] == "failed"
    clock.ahead = 0
    assert status(app, late_id) == "failed"
    assert dispatch(event, context, app)["status"] == "succeeded"
    assert attempt(app, run_id) == 1
    app.close()


# -- asked to stop


def test_a_run_that_was_asked_to_stop_before_it_began_does_nothing(app: App, sent: Sent) -> None:
    run_id, event = accept(app, sent)
    app.runs.records.ask_to_stop("default", run_id)
    assert dispatch(event, Context(), app)["status"] == "cancelled"
    assert (status(app, run_id), seen(app)) == ("cancelled", [])


def test_a_run_that_goes_on_hears_that_it_is_to_stop(app: App, sent: Sent) -> None:
    app.update("default", "wf", flow({"id": "slow", "node_type": "FunLogic", "params": {"script": "while true do end", "timeout": 60}}))
    run_id, event = accept(app, sent)
    answers: list[Any] = []
    going = threading.Thread(target=lambda: answers.append(dispatch(event, Context(seconds=120), app)))
    going.start()
    while run_id not in app.runs._going:
        pass
    app.runs.records.ask_to_stop("default", run_id)
    going.join()
    assert answers == [{"status": "cancelled", "run_id": run_id}]
    assert (status(app, run_id), seen(app)) == ("cancelled", [])


# -- looked for


def test_a_run_whose_event_got_lost_is_handed_over_again_and_no_attempt_is_counted(app: App, sent: Sent, clock: Later) -> None:
    run_id, _ = accept(app, sent)
    sent.events.clear()
    assert watch(app) == {"caught_up": 0, "taken_over": 0}  # it may be on its way
    clock.ahead = HOUR
    assert watch(app) == {"caught_up": 0, "taken_over": 1}
    [event] = sent.events
    assert dispatch(event, Context(), app)["status"] == "succeeded"
    assert (attempt(app, run_id), seen(app)) == (1, [1])
    assert watch(app) == {"caught_up": 0, "taken_over": 0}


def test_a_run_that_could_not_be_handed_over_when_it_was_accepted_is_found(app: App, sent: Sent, clock: Later) -> None:
    sent.down = True
    run = app.start_elsewhere("default", "wf", "hook", [{"n": 5}])
    sent.down, clock.ahead = False, HOUR
    assert watch(app)["taken_over"] == 1
    dispatch(sent.events[0], Context(), app)
    assert (status(app, run.info.id), seen(app)) == ("succeeded", [5])


def test_a_run_that_was_cut_off_for_good_is_begun_again_and_the_attempt_is_counted_once(app: App, sent: Sent, clock: Later) -> None:
    run_id, _ = accept(app, sent)
    cut_off(app, run_id, "gone", clock.now() + 900)
    clock.ahead = HOUR
    assert watch(app)["taken_over"] == 1
    assert dispatch(sent.events[-1], Context(), app)["status"] == "succeeded"
    assert attempt(app, run_id) == 2


def test_a_run_that_somebody_is_at_is_left_alone(app: App, sent: Sent, clock: Later) -> None:
    run_id, _ = accept(app, sent)
    cut_off(app, run_id, "somebody", clock.now() + HOUR + 60)
    clock.ahead = HOUR
    assert watch(app)["taken_over"] == 0
    assert len(sent.events) == 1


def test_a_scheduled_run_that_was_cut_off_is_lost_and_those_who_listen_hear_of_it(app: App, sent: Sent, clock: Later) -> None:
    tick = {"id": "tick", "node_type": "CronTrigger", "params": {"schedule": "0 0 1 1 *"}}
    app.create("default", {"id": "clock", "nodes": [tick, SAVE], "edges": [{"from": "tick", "to": "save"}]})
    app.create("default", listener())

    class Killed(BaseException):
        """The function ends here."""

    def die(_run: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        app.start_scheduled("default", Schedule("clock", "tick", "0 0 1 1 *"), clock.now(), begun=die)
    assert left_open(app) == 1
    clock.ahead = HOUR
    assert watch(app)["taken_over"] == 1
    [line] = app.runs.records.find("default", RunQuery(workflow_id="clock")).lines
    assert (line.status, line.trigger) == ("failed", "cron")
    assert [one["workflow"] for one in sent.events] == ["ear"]


def test_what_fails_in_one_project_keeps_no_other_from_being_looked_at(app: App, sent: Sent, clock: Later) -> None:
    app.create_project("aaa")
    app.create("aaa", flow())
    app.start_elsewhere("aaa", "wf", "hook", [{"n": 1}])
    accept(app, sent)
    sent.events.clear()
    clock.ahead = HOUR
    start = sent.start

    def down_for_one(project: str, run_id: str, workflow_id: str) -> None:
        if project == "aaa":
            raise Unavailable("Lambda is out of reach")
        start(project, run_id, workflow_id)

    sent.start = down_for_one  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match='the runs of project "aaa": Lambda is out of reach'):
        watch(app)
    assert [one["project"] for one in sent.events] == ["default"]


def test_a_look_ends_when_what_it_is_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "LOOK_EVERY", 0.01)
    looked, stopped = threading.Event(), threading.Event()

    def asked() -> bool:
        if looked.is_set():
            return True
        looked.set()
        raise Unavailable("the bucket is out of reach")

    with accepted.heeding(asked, stopped.set):
        assert stopped.wait(30)
    assert looked.is_set()
