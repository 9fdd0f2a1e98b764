"""The way of the README: post the workflow, call its webhook, change it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.server import Server, poc

SENT = {"student_id": "s123", "score": 85}
ADDRESS = "/webhook/poc-grading-workflow/grade"


def answer_with(number: int) -> str:
    """The documented answer, to the byte, for row `number`."""
    return f'{{"student_id":"s123","original_score":85,"doubled_score":170,"passed":true,"_inserted_id":{number},"_rows_affected":1}}'


def test_a_posted_workflow_answers_its_webhook_as_documented_and_goes_on_after_a_restart(data: Path) -> None:
    with Server(data) as server:
        created = server.http.post("/api/workflows", json={"workflow": poc()})
        assert created.status_code == 201
        assert created.json()["id"] == "poc-grading-workflow"
        answer = server.http.post(ADDRESS, json=SENT)
        assert (answer.status_code, answer.text) == (200, answer_with(1))
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["mechaway-run-id"]
    with Server(data) as server:
        assert server.http.post(ADDRESS, json=SENT).text == answer_with(2)
        rows = server.http.get("/api/tables/student_grades/rows").json()["rows"]
        assert [(row["id"], row["student_id"], row["passed"]) for row in rows] == [(1, "s123", True), (2, "s123", True)]


def test_a_change_is_live_for_the_very_next_call(server: Server) -> None:
    document = poc() | {"id": "changing"}
    server.save(document)
    assert server.http.post("/webhook/changing/grade", json=SENT).json()["doubled_score"] == 170
    for factor in range(3, 30):
        document["nodes"][1]["params"]["script"] = (
            "local s = data[1]; return {student_id = s.student_id, original_score = s.score, "
            f"doubled_score = s.score * {factor}, passed = true}}"
        )
        saved = server.http.put("/api/workflows/changing", json=document)
        assert saved.json()["version"] == factor - 1
        assert server.http.post("/webhook/changing/grade", json=SENT).json()["doubled_score"] == 85 * factor


def test_a_document_comes_back_as_it_was_meant_in_canonical_form(server: Server) -> None:
    written = {
        "meta": {"canvas": [1, None, {"x": None}]},
        "edges": [{"to": "grade", "from": "hook", "on": None, "meta": {"colour": "red"}}],
        "nodes": [
            {
                "id": "hook",
                "type": "WebhookNode",
                "params": {"method": "POST", "path": "/grade", "auth": None},
                "retry": None,
                "name": None,
            },
            {"params": {"script": "return data", "timeout": None}, "id": "grade", "node_type": "FunLogicNode", "meta": [1.5, None]},
        ],
        "name": "Grade",
        "description": None,
        "settings": None,
        "id": "canonical",
    }
    server.save(written)
    expected = {
        "id": "canonical",
        "name": "Grade",
        "nodes": [
            {"id": "hook", "node_type": "Webhook", "params": {"method": "POST", "path": "/grade"}},
            {"id": "grade", "node_type": "FunLogic", "params": {"script": "return data"}, "meta": [1.5, None]},
        ],
        "edges": [{"from": "hook", "to": "grade", "meta": {"colour": "red"}}],
        "meta": {"canvas": [1, None, {"x": None}]},
    }
    first = server.http.get("/api/workflows/canonical")
    assert first.json() == expected
    assert list(first.json()) == list(expected)
    # What was got can be put, and comes back the same to the byte.
    server.http.put("/api/workflows/canonical", content=first.content).raise_for_status()
    assert server.http.get("/api/workflows/canonical").content == first.content


@pytest.mark.parametrize(
    "value", ["ünïcödé ☃ 🎉", "\u2028\u0001\t", "a" * 100_000, 2**53 + 1, -(2**63), 0.1, 1e-300, [], {}, [None, {"a": None}]]
)
def test_free_json_is_kept_exactly(server: Server, value: object) -> None:
    document = {**poc(), "id": "free", "meta": {"value": value}}
    server.save(document)
    kept = server.http.get("/api/workflows/free").json()["meta"]["value"]
    assert json.dumps(kept) == json.dumps(value)
