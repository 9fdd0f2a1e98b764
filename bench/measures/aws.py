"""Functions in Lambda, in process: real events, the real handler, and a bucket whose every call takes 15 ms."""

from __future__ import annotations

import http.client
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import servers
from bench.measures.parts import PARTS, _only
from bench.report import Row, at_most, information
from bench.setup import BODY, PROJECT, Bench, interleaved, poc, poc_script
from mechaway_core import aws
from mechaway_core.app import App
from mechaway_core.sandbox import Limits
from mechaway_core.settings import Settings
from tools import layer

ROOT = Path(__file__).parents[2]
DELAY = 0.015  # seconds that a call of S3 takes
COLD = 7  # cold starts of each side
WARM = 300  # events

COLD_START = """
import json, os, sys, time
event = json.load(open(sys.argv[2]))

class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 30000

before = time.process_time()
namespace = {}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), namespace)
answer = namespace["handler"](event, Context())
spent = time.process_time() - before
assert answer["statusCode"] == 200, answer
print(spent)
"""

FLOOR = """
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()

@app.post("/webhook/{workflow_id}/grade")
def grade(workflow_id: str, item: dict) -> dict:
    return {"hello": item["student_id"]}

handler = Mangum(app, lifespan="off")
"""


def measure(bench: Bench) -> Iterator[Row]:
    """Cold starts beside FastAPI's, warm events beside the Lua run alone, and what is asked of S3."""
    with servers.serving(["bench.bucket", str(DELAY)], bench.folder / "bucket") as bucket:
        environment = _environment(bucket.port, bench.folder)
        with _here(environment):
            _save(poc(), *(_only(name, nodes) for name, (_, nodes) in PARTS.items()))
            yield from _cold(bench, environment)
            yield from _warm()
            yield from _calls(bucket.port)


def _environment(port: int, folder: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "MECHAWAY_BUCKET": "bench",
        "MECHAWAY_CACHE_DIR": str(folder),
        "MECHAWAY_DATA_DIR": str(folder),
        "MECHAWAY_API_TOKEN": "bench",
        "MECHAWAY_KMS_KEY": "arn:aws:kms:eu-central-1:123456789012:key/0",
        "MECHAWAY_RUNNER_FUNCTION": "arn:aws:lambda:eu-central-1:123456789012:function:runner",
    }


@contextmanager
def _here(environment: dict[str, str]) -> Iterator[None]:
    """The variables of a function in this process, while it is one."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _save(*documents: dict[str, Any]) -> None:
    app = aws.build(Settings.load())
    for document in documents:
        app.put(PROJECT, document)
    app.close()


# -- cold


def _cold(bench: Bench, environment: dict[str, str]) -> Iterator[Row]:
    """Beside a hello world on FastAPI and Mangum; on the runtime's Python and the layer as it is deployed, where both can be had."""
    floor = bench.folder / "floor.py"
    floor.write_text(FLOOR)
    ours = ROOT / "functions" / "api" / "app.py"
    python, tree, which = _runtime(bench.folder)
    event = {name: _event(bench.folder, name) for name in ("hook-lua", "poc-grading-workflow")}
    sides = [(ours, event["hook-lua"]), (floor, event["poc-grading-workflow"]), (ours, event["poc-grading-workflow"])]
    places = environment | {"PYTHONPATH": str(tree)}
    starts: list[Callable[[], float]] = [partial(_start, python, *side, places) for side in sides]
    for start in starts:  # now byte code is there, as in a layer
        start()
    without, hello, whole = (median(times) for times in interleaved(COLD, starts))
    detail = f"{without * 1e3:.0f} ÷ {hello * 1e3:.0f} ms; {which}"
    yield at_most("import + first event (webhook + Lua), CPU ÷ FastAPI + Mangum", without / hello, 0.5, "", detail)
    yield information("· the same with a row in a table", whole / hello, "", f"{whole * 1e3:.0f} ms")


def _runtime(folder: Path) -> tuple[str, Path, str]:
    """An interpreter, where its modules are, and what this is."""
    architecture = next((name for name, machine in layer.ARCHITECTURES.items() if machine == platform.machine()), None)
    interpreter = layer.find_interpreter()
    if interpreter is None or architecture is None or sys.platform != "linux":
        return sys.executable, ROOT, f"Python {platform.python_version()}"
    layer.build(architecture, folder / "layer")
    return interpreter, folder / "layer" / "python", f"the layer on Python {layer.VERSION}"


def _event(folder: Path, workflow_id: str) -> Path:
    """The event of a call of this workflow, in a file."""
    event = json.loads((ROOT / "events" / "webhook-post.json").read_text())
    event["rawPath"] = event["requestContext"]["http"]["path"] = f"/webhook/{workflow_id}/grade"
    path = folder / f"{workflow_id}.json"
    path.write_text(json.dumps(event))
    return path


def _start(python: str, code: Path, event: Path, environment: dict[str, str]) -> float:
    """Seconds of CPU of a process from the import of a function to its first answer. Its Lua process is another one."""
    places = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | environment
    done = subprocess.run([python, "-P", "-c", COLD_START, str(code), str(event)], env=places, capture_output=True, text=True, check=True)
    return float(done.stdout)


# -- warm


class Context:
    """All the time there is."""

    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """See `aws.http.Context`."""
        return 30_000


@contextmanager
def _function(**settings: str) -> Iterator[tuple[App, Callable[[str], float]]]:
    """A warm function: its app, and what sends it an event for a workflow and answers how many seconds that took."""
    with _here({f"MECHAWAY_{name.upper()}": value for name, value in settings.items()}):
        app = aws.build(aws.behind_http_api(Settings.load()))
        handler = aws.api_handler(lambda: app)
    event = json.loads((ROOT / "events" / "webhook-post.json").read_text())

    def call(workflow_id: str) -> float:
        path = f"/webhook/{workflow_id}/grade"
        event["rawPath"] = event["requestContext"]["http"]["path"] = path
        began = time.perf_counter()
        answer = handler(event, Context())
        took = time.perf_counter() - began
        if answer["statusCode"] != 200:
            raise RuntimeError(f"a webhook was answered {answer['statusCode']}: {answer['body'][:200]}")
        return took

    yield app, call
    app.close()


def _warm() -> Iterator[Row]:
    with _function(revalidate_seconds="600", record="none") as (app, call):
        script, items = poc_script(), [json.loads(BODY)]

        def lua() -> float:
            began = time.perf_counter()
            app.sandbox.run(script, items, {}, Limits())
            return time.perf_counter() - began

        for _ in range(20):
            call("hook-lua")
            lua()
        events, runs = interleaved(WARM, [lambda: call("hook-lua"), lua])
        over = (median(events) - median(runs)) * 1e3
        detail = f"{median(events) * 1e3:.2f} − {median(runs) * 1e3:.2f} ms; REVALIDATE_SECONDS set, nothing put on record"
        yield at_most("warm event without a table, over its Lua run", over, 1, " ms", detail)


# -- what is asked of S3


def _calls(port: int) -> Iterator[Row]:
    shapes = {"webhook + Lua": ("hook-lua", 1.0), "webhook + Lua + row": ("poc-grading-workflow", 2.0)}
    for record in ("none", "all"):
        with _function(record=record) as (_, call):
            for title, (workflow_id, most) in shapes.items():
                call(workflow_id)
                _asked(port)
                took = [call(workflow_id) for _ in range(20)]
                asked = _asked(port)
                each = ", ".join(f"{count / 20:g} {method}" for method, count in sorted(asked.items()))
                detail = f"{each}; p50 {median(took) * 1e3:.0f} ms at {DELAY * 1e3:g} ms a call"
                what = f"S3 calls per run: {title}{'' if record == 'none' else ', and its record'}"
                yield at_most(what, sum(asked.values()) / 20, most + (record == "all"), "", detail)
    with _function(revalidate_seconds="600") as (_, call):
        call("hook-lua")
        _asked(port)
        call("hook-lua")
        yield information("S3 calls per run: webhook + Lua, REVALIDATE_SECONDS set", sum(_asked(port).values()))


def _asked(port: int) -> dict[str, int]:
    """The calls since this was asked last, by method."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/_calls")
    asked: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return asked
