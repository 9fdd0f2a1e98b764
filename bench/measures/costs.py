"""What a million runs cost in AWS, for six shapes of workflow.

The calls of S3 are counted: the handlers of the functions, with real events, over the adapters of AWS and an S3 of this machine. The time a
run takes is not measured here but put together from what is said below, since moto is no S3 and this machine no Lambda.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.prices import AS_OF, Usage, dollars_idle_per_month, dollars_per_million
from bench.report import Row, at_most, information
from bench.setup import Bench, poc
from mechaway_core import aws
from mechaway_core.app import App
from mechaway_core.aws.runner import dispatch
from mechaway_core.settings import Settings
from mechaway_core.storage import Workflows
from mechaway_core.workflow.check import check
from tests import s3_server
from tests.lambda_events import Context, call
from tests.web_server import WebServer

RUNNER = "arn:aws:lambda:us-east-1:123456789012:function:runner"  # which nobody calls
RUNS = 20  # of each shape that are counted, once the function is warm

S3_CALL = 0.015  # seconds
OUTSIDE = 0.100  # seconds that an HTTP server far away takes to answer
OVERHEAD = 0.005  # seconds: event, routing, answer, on the third of a processor that 512 MB give
SCRIPT = 0.004  # seconds of a small script there

ACCEPT = {"id": "hook", "node_type": "Webhook", "params": {"path": "/x", "method": "POST", "mode": "accept"}}
HOOK = {"id": "hook", "node_type": "Webhook", "params": {"path": "/x", "method": "POST"}}
TICK = {"id": "hook", "node_type": "CronTrigger", "params": {"schedule": "*/5 * * * *"}}
COUNT = {"id": "grade", "node_type": "FunLogic", "params": {"script": "return {student_id = 's123', passed = true}"}}
GRADE, SAVE = (node for node in poc()["nodes"] if node["node_type"] in ("FunLogic", "SimpleTableWriter"))


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of workflow: its nodes, the most calls of S3 that a run may make, and seconds beside those calls, in so many functions."""

    title: str
    nodes: tuple[dict[str, Any], ...]
    calls: float | None
    seconds: float
    functions: int = 1

    @property
    def scheduled(self) -> bool:
        """Whether it has no caller."""
        return bool(self.nodes[0]["node_type"] == "CronTrigger")


def shapes(outside: str) -> list[Shape]:
    """The six; `outside` is the address of an HTTP server."""
    fetch = {"id": "fetch", "node_type": "HTTPClient", "params": {"url": f"{outside}/echo"}}
    return [
        Shape("webhook only", (HOOK,), 2, OVERHEAD),
        Shape("webhook + Lua", (HOOK, GRADE), 2, OVERHEAD + SCRIPT),
        Shape("webhook + Lua + row", (HOOK, GRADE, SAVE), 3, OVERHEAD + SCRIPT),
        Shape("webhook + Lua + HTTP call", (HOOK, GRADE, fetch), 2, OVERHEAD + SCRIPT + OUTSIDE),
        Shape("accepted webhook + Lua + row", (ACCEPT, GRADE, SAVE), None, 2 * OVERHEAD + SCRIPT, functions=2),
        Shape("scheduled + Lua + row", (TICK, COUNT, SAVE), None, OVERHEAD + SCRIPT),
    ]


def measure(bench: Bench) -> Iterator[Row]:
    """Calls of S3 for each run, and what a million runs cost; what nobody calls costs, too."""
    with WebServer() as outside:
        for shape in shapes(outside.url):
            puts, gets = count(bench, shape)
            seconds = shape.seconds + S3_CALL * (puts + gets)
            usage = Usage(puts=puts, gets=gets, seconds=seconds, functions=shape.functions, over_http=not shape.scheduled)
            said = f"{gets:g} GET, {puts:g} PUT; {seconds * 1000:.0f} ms at {usage.memory_mb} MB"
            if shape.calls is not None:
                yield at_most(f"{shape.title}: calls of S3", puts + gets, shape.calls)
            yield information(f"{shape.title}: a million runs", round(dollars_per_million(usage), 2), " $", said)
    kept = dollars_per_million(Usage(kept_mb=1, puts=0)) - dollars_per_million(Usage())
    yield information("what each MB of tables adds to a million writes", round(kept, 2), " $", "old versions, kept for three days")
    yield information(f"nothing at all: a month (prices of {AS_OF})", round(dollars_idle_per_month(), 2), " $")


def count(bench: Bench, shape: Shape) -> tuple[float, float]:
    """PUTs (and what costs as much) and GETs of a run of this shape in a warm function, where nobody else writes."""
    server = s3_server.server()
    folder = bench.folder / shape.title.replace(" ", "-")
    bucket = f"costs-{os.getpid()}-{abs(hash(shape.title)) % 10**8}"
    settings = Settings(
        bucket=bucket, cache_dir=folder, kms_key="none", runner_function=RUNNER, lua_workers=1, api_token="for the sake of hosts"
    )
    folder.mkdir()
    app = aws.build(settings)
    try:
        _prepare(app, shape)
        run = _runner(app, shape)
        run(0)
        run(1)
        with server.counting() as seen:
            for number in range(RUNS):
                run(2 + number)
    finally:
        app.close()
    gets = sum(one.method in ("GET", "HEAD") and "list-type" not in one.query for one in seen)
    deletes = sum(one.method == "DELETE" for one in seen)
    return (len(seen) - gets - deletes) / RUNS, gets / RUNS


def _prepare(app: App, shape: Shape) -> None:
    """Make the bucket and save the workflow, past the clock that AWS would have to keep."""
    store = app._store
    made = store._s3._call("PUT")  # type: ignore[attr-defined]  # the bucket itself
    assert made.answer.status == 200, made
    edges = [{"from": one["id"], "to": two["id"]} for one, two in zip(shape.nodes, shape.nodes[1:], strict=False)]
    checked = check({"id": "wf", "nodes": list(shape.nodes), "edges": edges}, app.sandbox, app.settings)
    assert checked.errors == (), checked.errors
    Workflows(store, app.clock).create("default", checked.document)


def _runner(app: App, shape: Shape) -> Callable[[int], None]:
    """What makes the n-th run."""
    if shape.scheduled:
        node = shape.nodes[0]
        about = {"kind": "schedule", "project": "default", "workflow": "wf", "node": node["id"], "timezone": "UTC"}
        about["expression"] = node["params"]["schedule"]

        def tick(number: int) -> None:
            said = dispatch(about | {"scheduled_for": f"2026-11-20T{number // 12:02}:{number % 12 * 5:02}:00Z"}, None, app)
            assert said.get("status") == "succeeded", said

        return tick
    if shape.functions > 1:
        return _accepting(app)
    handler = aws.api_handler(lambda: app)
    event = call("POST", "/webhook/wf/x", '{"student_id": "s123", "score": 85}', {"content-type": "application/json"})

    def hook(_: int) -> None:
        answer = handler(event, Context())
        assert answer["statusCode"] == 200, answer

    return hook


def _accepting(app: App) -> Callable[[int], None]:
    """What makes the n-th run that a webhook accepts: a call, and the event that Lambda keeps meanwhile."""
    lambda_ = Lambda()
    app.runs._invoke = lambda_
    handler = aws.api_handler(lambda: app)
    event = call("POST", "/webhook/wf/x", '{"student_id": "s123", "score": 85}', {"content-type": "application/json"})

    def accept(_: int) -> None:
        answer = handler(event, Context())
        assert answer["statusCode"] == 202, answer
        said = dispatch(lambda_.events.pop(), Context(), app)
        assert said["status"] == "succeeded", said

    return accept


class Lambda:
    """An `Invoke` that keeps its events."""

    here = False

    def __init__(self) -> None:
        self.events: list[dict[str, str]] = []

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """See `Invoke.start`."""
        self.events.append({"kind": "run", "project": project, "run_id": run_id, "workflow": workflow_id})

    def check(self) -> None:
        """See `Invoke.check`."""

    def close(self) -> None:
        """See `Invoke.close`."""
