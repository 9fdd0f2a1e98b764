"""What every `Invoke` does: it hands a run over and does not wait. In AWS the runner's dispatch stands at the other end."""

from __future__ import annotations

import json
import threading
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
from mechaway_core.aws.invoke import MOST, LambdaInvoke
from mechaway_core.errors import Invalid, NotFound, Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.handover import Handover
from mechaway_core.local import build
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.invoke import LocalInvoke
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests.account import Account, answer, failing, hooked

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


def over_lambda(app: App, service: LambdaService, account: Account) -> LambdaInvoke:
    """Hands the app's runs to the service."""
    client = account.client("lambda", service.endpoint)
    invoke = LambdaInvoke(lambda: client, "the-runner", app.handover, LocalClock())
    app._invoke = invoke
    return invoke


@pytest.fixture(params=["local", "lambda"])
def started(request: pytest.FixtureRequest, tmp_path: Path, account: Account) -> Iterator[Started]:
    app = build(Settings(data_dir=tmp_path, sync="normal", lua_workers=1))
    app.create("default", WRITES)
    if request.param == "local":
        invoke = app._invoke
        assert isinstance(invoke, LocalInvoke)
        yield Started(app, lambda: invoke._pool.shutdown() if invoke._pool is not None else None)
    else:
        with LambdaService(lambda event: runner.dispatch(event, None, app)) as service:
            over_lambda(app, service, account)
            yield Started(app, service.finish)
    app.close()


def test_a_run_is_begun_without_waiting_for_it(started: Started) -> None:
    started.app.start_elsewhere("default", "wf", "hook", [{"n": 1}, {"n": 2}])
    assert started.seen() == [1, 2]


def test_each_start_is_a_run_of_its_own(started: Started) -> None:
    for _ in range(5):
        started.app.start_elsewhere("default", "wf", None, [{"n": 7}])
    assert started.seen() == [7] * 5


def test_items_of_any_size_arrive(started: Started) -> None:
    items = [{"n": number, "padding": "ü" * 1000} for number in range(1000)]
    assert len(json.dumps(items)) > MOST
    started.app.start_elsewhere("default", "wf", "hook", items)
    assert started.seen() == list(range(1000))
    assert started.app.handover.sweep("default", LocalClock().now() + 10 * 86_400) <= 1  # the claim; the parcel is gone already


def test_what_cannot_be_started_is_refused_before_it_is_handed_over(started: Started) -> None:
    with pytest.raises(NotFound):
        started.app.start_elsewhere("default", "none")
    with pytest.raises(Invalid):
        started.app.start_elsewhere("default", "wf", "save")


def test_a_server_that_shuts_down_takes_no_more_and_says_what_it_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    began, go = threading.Event(), threading.Event()
    invoke = LocalInvoke(1)

    def run(*_: Any) -> Any:
        began.set()
        go.wait(30)
        raise NotFound("it was deleted")

    invoke.serve(run)
    invoke.start("default", "wf", "hook", [])
    invoke.start("default", "wf2", "hook", [])
    assert began.wait(30)
    closing = threading.Thread(target=invoke.close)
    closing.start()
    while not invoke._closed:
        pass
    with pytest.raises(Unavailable, match="shutting down"):
        invoke.start("default", "wf3", "hook", [])
    go.set()
    closing.join()
    assert "wf in project default was not begun: it was deleted" in caplog.text
    assert "wf2 in project default was not begun: the server shuts down" in caplog.text


# -- Lambda on bad days


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("TooManyRequestsException", "slow down"),
        ("ResourceNotFoundException", "MECHAWAY_RUNNER_FUNCTION"),
        ("AccessDeniedException", "role is not allowed to"),
        ("ServiceException", "cannot hand the run to the runner"),
    ],
)
@pytest.mark.parametrize("size", [1, MOST])
def test_a_start_that_lambda_refuses_is_a_sentence_and_leaves_nothing(
    account: Account, tmp_path: Path, code: str, words: str, size: int
) -> None:
    client = account.client("lambda")
    store = FolderStore(ProjectFiles(Settings(data_dir=tmp_path, sync="normal")))
    invoke = LambdaInvoke(lambda: client, "the-runner", Handover(store), LocalClock())
    with failing(client, "Invoke", code), pytest.raises(Unavailable, match=words):
        invoke.start("default", "wf", "hook", ["x" * size])
    assert store.keys("default", "") == []


def test_a_smaller_limit_of_lambda_s_is_met_with_a_parcel(account: Account, tmp_path: Path) -> None:
    events: list[Any] = []
    store = FolderStore(ProjectFiles(Settings(data_dir=tmp_path, sync="normal")))
    with LambdaService(events.append) as service:
        client = account.client("lambda", service.endpoint)
        first = iter([answer({"Message": "too large"}, 413, "RequestTooLargeException")])
        with hooked(client, "Invoke", lambda **_: next(first, None)):
            LambdaInvoke(lambda: client, "the-runner", Handover(store), LocalClock()).start("default", "wf", "hook", [1, 2])
        service.finish()
    [event] = events
    assert "items" not in event
    assert Handover(store).receive("default", event["parcel"]) == [1, 2]
