"""What every `Invoke` does: it has a run begun that is on record, and does not wait. In AWS the runner's dispatch is at the other end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.aws import runner
from mechaway_core.aws.invoke import LambdaInvoke
from mechaway_core.errors import Invalid, NotFound, Unavailable
from mechaway_core.local.invoke import LocalInvoke
from mechaway_core.ports import RunQuery
from mechaway_core.settings import Settings
from tests.account import Account, failing
from tests.home import app_over

WRITES: dict[str, Any] = {
    "id": "wf",
    "nodes": [
        {"id": "hook", "node_type": "Webhook", "params": {"path": "/"}},
        {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["n"]}},
    ],
    "edges": [{"from": "hook", "to": "save"}],
}


class LambdaService(AbstractContextManager["LambdaService"]):
    """Lambda's door for asynchronous invocations: it answers 202 at once and hands the event to the runner afterwards."""

    def __init__(self, run: Callable[[Any], object]) -> None:
        pool = ThreadPoolExecutor(2)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asynchronous = self.headers["x-amz-invocation-type"] == "Event" and self.path.endswith("/functions/the-runner/invocations")
                if asynchronous:  # before the answer: who has that may end the service
                    pool.submit(run, event)
                self.send_response(202 if asynchronous else 400)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._pool = pool
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def finish(self) -> None:
        """Wait until what was handed over is done."""
        self._pool.shutdown()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._pool.shutdown()


class Started:
    """An app that starts runs elsewhere, and a way to wait for them."""

    def __init__(self, app: App, finish: Callable[[], None]) -> None:
        self.app = app
        self.finish = finish

    def seen(self) -> list[int]:
        """What the runs wrote."""
        self.finish()
        return [row["n"] for row in self.app.rows("default", "seen", limit=5000).rows]


def until_all_are_over(app: App) -> None:
    """Wait until no run is open any more."""
    while app.runs.records.find("default", RunQuery(statuses=("queued", "running"))).lines:
        time.sleep(0.01)


@pytest.fixture(params=["local", "lambda"])
def started(request: pytest.FixtureRequest, tmp_path: Path, account: Account) -> Iterator[Started]:
    settings = Settings(data_dir=tmp_path, sync="normal", lua_workers=1)
    if request.param == "local":
        local = LocalInvoke(2, 100)
        app = app_over(settings, invoke=local)
        local.serve(app.runs.work_off)
        app.create("default", WRITES)
        yield Started(app, lambda: until_all_are_over(app))
    else:
        with LambdaService(lambda event: runner.dispatch(event, None, app)) as service:
            client = account.client("lambda", service.endpoint)
            app = app_over(settings, invoke=LambdaInvoke(lambda: client, "the-runner"), gathers=False)
            app.create("default", WRITES)
            yield Started(app, service.finish)
    app.close()


def test_a_run_is_begun_without_waiting_for_it(started: Started) -> None:
    run = started.app.start_elsewhere("default", "wf", "hook", [{"n": 1}, {"n": 2}])
    assert started.app.runs.is_kept("default", run.info.id)
    assert started.seen() == [1, 2]
    assert started.app.history.get("default", run.info.id)["status"] == "succeeded"


def test_each_start_is_a_run_of_its_own(started: Started) -> None:
    for _ in range(5):
        started.app.start_elsewhere("default", "wf", None, [{"n": 7}])
    assert started.seen() == [7] * 5


def test_items_of_any_size_arrive(started: Started) -> None:
    items = [{"n": number, "padding": "ü" * 1000} for number in range(1000)]
    started.app.start_elsewhere("default", "wf", "hook", items)
    assert started.seen() == list(range(1000))


def test_what_cannot_be_started_is_refused_before_it_is_on_record(started: Started) -> None:
    with pytest.raises(NotFound):
        started.app.start_elsewhere("default", "none")
    with pytest.raises(Invalid):
        started.app.start_elsewhere("default", "wf", "save")
    started.finish()
    assert started.app.runs.records.find("default", RunQuery()).lines == []


# -- on a laptop


def test_what_a_server_that_shuts_down_has_not_begun_is_left_to_another_one() -> None:
    began, go = threading.Event(), threading.Event()
    invoke = LocalInvoke(1, 100)
    seen: list[str] = []

    def work(_project: str, run_id: str) -> None:
        seen.append(run_id)
        began.set()
        go.wait(30)

    invoke.serve(work)
    invoke.start("default", "one", "wf")
    invoke.start("default", "two", "wf")
    assert began.wait(30)
    closing = threading.Thread(target=invoke.close)
    closing.start()
    while not invoke._closed:
        pass
    with pytest.raises(Unavailable, match="shutting down"):
        invoke.start("default", "three", "wf")
    go.set()
    closing.join()
    assert seen == ["one"]


def test_when_too_many_wait_no_more_are_accepted() -> None:
    go = threading.Event()
    invoke = LocalInvoke(1, 2)

    def work(_project: str, _run_id: str) -> None:
        go.wait(30)

    invoke.serve(work)
    for number in range(3):
        invoke.check()
        invoke.start("default", str(number), "wf")
        while number == 0 and invoke._line:  # until a thread has taken it
            pass
    with pytest.raises(Unavailable, match="MECHAWAY_MAX_ACCEPTED"):
        invoke.check()
    go.set()
    invoke.close()


def test_a_mistake_of_ours_in_one_run_keeps_no_other_from_beginning(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def work(_project: str, run_id: str) -> None:
        if run_id == "one":
            raise ZeroDivisionError
        done.set()

    invoke = LocalInvoke(1, 10)
    invoke.serve(work)
    invoke.start("default", "one", "wf")
    invoke.start("default", "two", "wf")
    assert done.wait(30)
    invoke.close()
    assert "run one in project default ended by a mistake of ours" in caplog.text


# -- Lambda


def test_an_event_says_which_run_and_nothing_of_what_is_in_it(account: Account) -> None:
    events: list[Any] = []
    with LambdaService(events.append) as service:
        client = account.client("lambda", service.endpoint)
        LambdaInvoke(lambda: client, "the-runner").start("shop", "an id", "wf")
        service.finish()
    assert events == [{"kind": "run", "project": "shop", "run_id": "an id", "workflow": "wf"}]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("TooManyRequestsException", "slow down"),
        ("ResourceNotFoundException", "MECHAWAY_RUNNER_FUNCTION"),
        ("AccessDeniedException", "role is not allowed to"),
        ("ServiceException", "cannot hand the run to the runner"),
    ],
)
def test_a_start_that_lambda_refuses_is_a_sentence(account: Account, code: str, words: str) -> None:
    client = account.client("lambda")
    with failing(client, "Invoke", code), pytest.raises(Unavailable, match=words):
        LambdaInvoke(lambda: client, "the-runner").start("default", "an id", "wf")


def test_what_lambda_refused_is_on_record_all_the_same(account: Account, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = account.client("lambda")
    app = app_over(Settings(data_dir=tmp_path, sync="normal"), invoke=LambdaInvoke(lambda: client, "the-runner"), gathers=False)
    app.create("default", WRITES)
    with failing(client, "Invoke", "ServiceException"):
        run = app.start_elsewhere("default", "wf", "hook", [{"n": 1}])
    assert app.history.get("default", run.info.id)["status"] == "queued"
    assert "could not be handed over yet" in caplog.text
    app.close()
