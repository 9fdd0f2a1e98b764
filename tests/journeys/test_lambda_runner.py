"""Events of the runner function through its handler, over adapters of this machine. `tests/unit/test_aws_runner.py` has the bad days."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core import aws, local
from mechaway_core.app import App
from mechaway_core.errors import Malformed
from mechaway_core.local.watch import read_workflow
from mechaway_core.ports import RunLine, RunRecord
from mechaway_core.settings import Settings
from tests.lambda_events import Context, event

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = local.build(Settings(data_dir=tmp_path, sync="normal"))
    app.put("default", read_workflow(ROOT / "examples" / "poc.json"))
    yield app
    app.close()


def test_an_asynchronous_run_is_run_once_however_often_its_event_comes(app: App) -> None:
    handler = aws.runner_handler(lambda: app)
    first = handler(event("run-asynchronous"), Context(aws_request_id="a"))
    assert first["status"] == "succeeded"
    again = handler(event("run-asynchronous"), Context(aws_request_id="b"))
    assert again == {"status": "delivered before"}
    assert len(app.rows("default", "student_grades").rows) == 1


def test_an_accepted_run_is_run_once_however_often_its_event_comes(app: App) -> None:
    said = event("run-accepted")
    began = app.clock.now()
    line = RunLine(said["run_id"], said["workflow"], 1, "queued", "webhook", "hook", began)
    data = b'{"start": [{"student_id": "s123", "score": 85}], "nodes": [], "promised": true}'
    app.runs.records.write("default", [RunRecord(line, data)])
    handler = aws.runner_handler(lambda: app)
    assert handler(said, Context(aws_request_id="a")) == {"status": "succeeded", "run_id": said["run_id"]}
    assert handler(said, Context(aws_request_id="b")) == {"status": "delivered before"}
    assert len(app.rows("default", "student_grades").rows) == 1


@pytest.mark.parametrize("name", ["schedule-rule", "schedule-scheduler"])
def test_a_schedule_that_nothing_asks_for_finds_nothing_to_do_and_says_so(app: App, name: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = aws.runner_handler(lambda: app)
    assert handler(event(name), Context())["status"] == "nothing to do"
    assert "nightly-report" in caplog.text


def test_the_daily_look_reports_what_it_did(app: App) -> None:
    answer = aws.runner_handler(lambda: app)(event("reconcile"), Context())
    assert "projects" in answer


@pytest.mark.parametrize("strange", [{}, [], "x", {"Records": []}, event("webhook-post")])
def test_what_means_nothing_is_raised_for_the_dead_letter_queue(app: App, strange: Any, caplog: pytest.LogCaptureFixture) -> None:
    handler = aws.runner_handler(lambda: app)
    with caplog.at_level(logging.ERROR), pytest.raises(Malformed):
        handler(strange, Context())
    assert "an event was not done" in caplog.text
