"""The functions in containers, by `make local`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cloud.containers import NoContainers, missing
from tests.cloud.emulator import ROOT
from tests.cloud.local import Local, local
from tests.journeys.server import poc, problem
from tests.journeys.test_examples import blog, test_a_blog_creates_lists_finds_shows_counts_and_updates_posts  # noqa: F401

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"make local is not driven: {missing()}")


@pytest.fixture(scope="module")
def server() -> Iterator[Local]:
    """Mechaway in containers."""
    with ExitStack() as closing:
        try:
            made = closing.enter_context(local())
        except NoContainers as error:
            pytest.skip(f"make local is not driven: {error}")
        yield made


def test_the_poc_answers_out_of_a_container_and_the_second_call_finds_it_warm(server: Local) -> None:
    server.save(poc())
    for number in (1, 2):
        answer = server.http.post("/webhook/poc-grading-workflow/grade", json={"student_id": "s123", "score": 85})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "student_id": "s123", "original_score": 85, "doubled_score": 170, "passed": True, "_inserted_id": number, "_rows_affected": 1
        }  # fmt: skip
    assert server.err.count("SAM_CONTAINER_ID") == 1


def test_events_are_what_sam_local_invoke_takes(server: Local) -> None:
    server.save(poc())
    webhook = server.invoke("ApiFunction", ROOT / "events" / "webhook-post.json")
    assert (webhook["statusCode"], json.loads(webhook["body"])["passed"]) == (200, True)
    assert server.invoke("RunnerFunction", ROOT / "events" / "run-asynchronous.json")["status"] == "succeeded"
    assert server.invoke("RunnerFunction", ROOT / "events" / "schedule-rule.json")["status"] == "nothing to do"


def test_the_api_in_a_container_asks_for_its_token(server: Local) -> None:
    with server.stranger() as stranger:
        problem(stranger.get("/api/workflows"), 401)
