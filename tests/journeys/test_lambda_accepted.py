"""Accepted runs from the API function to the runner, over a bucket: two environments that share nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core import aws
from mechaway_core.app import App
from mechaway_core.settings import Settings
from tests import s3_server
from tests.account import RUNNER, unique
from tests.journeys.server import chain, hook, lua
from tests.lambda_events import Context, call, json_of

TOKEN = "a-token-for-tests"
BEARER = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
SAVE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["n"]}}


class Kept:
    """Lambda's queue of asynchronous events."""

    here = False

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """See `Invoke.start`."""
        self.events.append({"kind": "run", "project": project, "run_id": run_id, "workflow": workflow_id})

    def check(self) -> None:
        """See `Invoke.check`."""

    def close(self) -> None:
        """See `Invoke.close`."""


class Installation:
    """Both functions over one bucket, each with an app of its own."""

    def __init__(self, place: Path) -> None:
        s3_server.reach()
        self.queue = Kept()
        bucket = f"{unique('accepted')}-{os.getpid()}"
        self.apps: list[App] = []
        for name in ("api", "runner"):
            settings = Settings(
                bucket=bucket, cache_dir=place / name, kms_key="none", runner_function=RUNNER, api_token=TOKEN, lua_workers=1
            )
            app = aws.build(settings)
            app.runs._invoke = self.queue
            self.apps.append(app)
        made = self.apps[0]._store._s3._call("PUT")  # type: ignore[attr-defined]  # the bucket itself
        assert made.answer.status == 200, made
        self.api = aws.api_handler(lambda: self.apps[0])
        self.runner = aws.runner_handler(lambda: self.apps[1])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer of the API."""
        answer = self.api(call(method, path, None if body is None else json.dumps(body), BEARER), Context())
        return answer["statusCode"], json_of(answer)

    def work_off(self) -> list[str]:
        """Have the runner do what is in the queue; what became of each."""
        done = []
        while self.queue.events:
            event = self.queue.events.pop(0)
            done.append(self.runner(event, Context(300, aws_request_id=unique("request")))["status"])
        return done


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    made.ask("POST", "/api/workflows", chain("later", hook(mode="accept"), lua("check", "assert(item.n ~= 13) return item"), SAVE))
    yield made
    for app in made.apps:
        app.close()


def test_what_one_function_accepts_the_other_runs(installation: Installation) -> None:
    status, said = installation.ask("POST", "/webhook/later", {"n": 1})
    assert status == 202
    assert installation.ask("GET", said["location"])[1]["status"] == "queued"
    assert installation.work_off() == ["succeeded"]
    record = installation.ask("GET", said["location"])[1]
    assert (record["status"], record["trigger"], record["output"][0]["n"]) == ("succeeded", "webhook", 1)
    assert installation.apps[0].runs._accepted == {}, "what begins in another function is not kept in memory here"


def test_pages_of_runs_are_what_the_bucket_lists(installation: Installation) -> None:
    for n in range(5):
        installation.ask("POST", "/webhook/later", {"n": 13 if n == 2 else n})
    assert sorted(installation.work_off()) == ["failed", *["succeeded"] * 4]
    installation.ask("POST", "/webhook/later", {"n": 9})
    first = _list(installation, "limit=4")
    rest = _list(installation, f"limit=4&cursor={first['next']}")
    assert [one["status"] for one in first["runs"] + rest["runs"]].count("succeeded") == 4
    assert len({one["run_id"] for one in first["runs"] + rest["runs"]}) == 6
    [failed] = _list(installation, "status=failed")["runs"]
    assert "assertion failed" in failed["message"]
    assert len(_list(installation, "status=queued")["runs"]) == 1


def _list(installation: Installation, query: str) -> Any:
    answer = installation.api(call("GET", "/api/runs", headers=BEARER, query=query), Context())
    assert answer["statusCode"] == 200, answer
    return json_of(answer)


def test_a_run_that_failed_is_run_again_from_where_it_failed(installation: Installation) -> None:
    run_id = installation.ask("POST", "/webhook/later", {"n": 13})[1]["run_id"]
    installation.work_off()
    installation.ask("PUT", "/api/workflows/later", chain("later", hook(mode="accept"), lua("check", "return item"), SAVE))
    status, said = installation.ask("POST", f"/api/runs/{run_id}/replay", {"from": "failed"})
    assert status == 202
    assert installation.work_off() == ["succeeded"]
    record = installation.ask("GET", f"/api/runs/{said['run_id']}")[1]
    assert (record["parent"], record["nodes"][0].get("replayed"), record["nodes"][1].get("replayed")) == (run_id, True, None)


def test_a_run_that_was_cancelled_before_it_began_does_nothing(installation: Installation) -> None:
    run_id = installation.ask("POST", "/webhook/later", {"n": 1})[1]["run_id"]
    assert installation.ask("POST", f"/api/runs/{run_id}/cancel")[0] == 202
    assert installation.work_off() == ["cancelled"]
    assert installation.ask("POST", f"/api/runs/{run_id}/cancel")[0] == 409


def test_there_is_no_stream_of_what_happens_and_the_api_says_so(installation: Installation) -> None:
    status, said = installation.ask("GET", "/api/runs/events")
    assert status == 404
    assert "GET /api/runs" in said["detail"]
