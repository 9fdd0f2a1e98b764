"""Many environments of a function at once, over the same objects: nothing that was answered is lost, nothing is there twice."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.cloud.emulator import CONCURRENCY
from tests.cloud.stack import Cloud
from tests.journeys.server import echo, poc

CALLERS = 100
BUSY = (429, 503)  # too many environments for the account, or too many writers: both say that nothing was changed
PATIENCE = 180.0


def insistently(http: httpx.Client, path: str, body: Any, method: str = "POST", headers: Mapping[str, str] | None = None) -> httpx.Response:
    """The answer to a call that is made again for as long as the other side is busy."""
    end = time.monotonic() + PATIENCE
    while True:
        answer = http.request(method, path, json=body, headers=headers)
        if answer.status_code not in BUSY or time.monotonic() > end:
            return answer
        time.sleep(random.uniform(0.05, 0.5))


def test_a_hundred_callers_write_into_one_table_at_once_and_nothing_is_lost(server: Cloud) -> None:
    server.save(poc())
    students = [f"student-{number}" for number in range(CALLERS)]

    def write(student: str) -> int:
        answer = insistently(server.http, "/webhook/poc-grading-workflow/grade", {"student_id": student, "score": 85})
        assert answer.status_code == 200, answer.text
        assert answer.json()["student_id"] == student
        return int(answer.json()["_inserted_id"])

    with ThreadPoolExecutor(CALLERS) as callers:
        ids = list(callers.map(write, students))
    rows = server.http.get("/api/tables/student_grades/rows", params={"limit": 1000}).json()["rows"]
    kept = {row["id"]: row["student_id"] for row in rows if row["student_id"] in set(students)}
    assert kept == dict(zip(ids, students, strict=True))


def test_of_many_that_save_over_one_version_at_once_one_wins_and_the_others_are_told(server: Cloud) -> None:
    server.save(echo("shared", "return 0"))
    etag = {"if-match": server.http.get("/api/workflows/shared").headers["etag"]}

    def save(number: int) -> httpx.Response:
        return insistently(server.http, "/api/workflows/shared", echo("shared", f"return {number}"), "PUT", etag)

    with ThreadPoolExecutor(CONCURRENCY) as callers:
        answers = list(callers.map(save, range(1, CONCURRENCY + 1)))
    [winner] = [number for number, answer in enumerate(answers, 1) if answer.status_code == 200]
    assert [answer.status_code for answer in answers].count(412) == CONCURRENCY - 1
    assert server.http.post("/webhook/shared", json={}).json() == winner
    assert [one["version"] for one in server.http.get("/api/workflows/shared/versions").json()["versions"]] == [2, 1]


def test_a_saved_change_is_live_for_the_next_call_in_every_environment(server: Cloud) -> None:
    for number in range(1, 4):
        server.save(echo("live", f"return {number}"))
        with ThreadPoolExecutor(10) as callers:
            answers = list(callers.map(lambda _: insistently(server.http, "/webhook/live", {}), range(30)))
        assert [answer.json() for answer in answers] == [number] * 30
