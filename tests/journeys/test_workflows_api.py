"""Workflows through `/api`: saved, listed, changed, brought back; and everything else the API tells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.server import Server, echo, hook, lua, poc, problem, statuses


def test_creating_answers_201_with_location_etag_and_version(server: Server) -> None:
    answer = server.http.post("/api/workflows", json=echo("created"))
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/workflows/created"
    assert answer.json()["id"] == "created"
    assert answer.json()["version"] == 1
    assert "created" in answer.json()["message"]
    got = server.http.get(answer.headers["location"])
    assert got.headers["etag"] == answer.headers["etag"]
    assert got.json()["id"] == "created"


def test_the_document_may_stand_bare_or_under_workflow(server: Server) -> None:
    assert server.http.post("/api/workflows", json={"workflow": echo("wrapped")}).status_code == 201
    assert server.http.post("/api/workflows", json=echo("bare")).status_code == 201
    assert server.http.put("/api/workflows/bare", json={"workflow": echo("bare")}).json()["version"] == 2
    problem(server.http.post("/api/workflows", json={"workflow": echo("beside"), "other": 1}), 422)
    problem(server.http.post("/api/workflows", json={"workflow": None}), 422)
    problem(server.http.post("/api/workflows", json={"workflow": {"workflow": echo("twice")}}), 422)


def test_an_id_that_is_taken_is_a_conflict_and_changes_nothing(server: Server) -> None:
    server.save(echo("taken", "return 1"))
    problem(server.http.post("/api/workflows", json=echo("taken", "return 2")), 409)
    assert server.http.post("/webhook/taken").json() == 1
    assert server.http.get("/api/workflows/taken/versions").json()["versions"][0]["version"] == 1


def test_every_problem_of_a_document_is_told_at_once(server: Server) -> None:
    document = {
        "id": "bad id!",
        "colour": "red",
        "nodes": [
            {"id": "hook", "node_type": "Webhok", "params": {"path": "/x"}},
            {"id": "one", "node_type": "FunLogic", "params": {"script": "return (1"}},
            {"id": "one", "node_type": "FunLogic", "params": {"script": 5}},
            {"id": "table", "node_type": "SimpleTableWriter", "params": {"table": "", "columns": ["a", "A"]}, "inputs": ["$json.x"]},
            {"id": "sql", "node_type": "SimpleTableQuery", "params": {"query": "DELETE FROM x"}, "inputs": ["$secret.KEY", "published"]},
            {"id": "attach", "node_type": "SimpleTableQuery", "params": {"query": "ATTACH 'x' AS y"}},
        ],
        "edges": [{"from": "one", "to": "table"}, {"from": "table", "to": "one"}, {"from": "one", "to": "nowhere"}],
    }
    told = problem(server.http.post("/api/workflows", json=document), 422)
    errors = told["errors"]
    assert all(error["message"] and isinstance(error["pointer"], str) for error in errors)
    found = {(error["pointer"], error.get("node")) for error in errors}
    assert {
        ("/id", None),
        ("/colour", None),
        ("/nodes/0/node_type", "hook"),
        ("/nodes/1/params/script", "one"),
        ("/nodes/2/id", "one"),
        ("/nodes/2/params/script", "one"),
        ("/nodes/3/params/table", "table"),
        ("/nodes/3/params/columns/1", "table"),
        ("/nodes/3/params/columns", "table"),
        ("/nodes/4/params/query", "sql"),
        ("/nodes/4/inputs/0", "sql"),
        ("/nodes/4/inputs/1", "sql"),
        ("/nodes/5/params/query", "attach"),
        ("/edges/2/to", None),
        ("/edges", None),
    } <= found
    messages = {error["pointer"]: error["message"] for error in errors}
    assert '"Webhook"' in messages["/nodes/0/node_type"]
    assert "line 1" in messages["/nodes/1/params/script"]
    assert "one → table → one" in messages["/edges"]
    assert 'the string "\\"published\\""' in messages["/nodes/4/inputs/1"]
    problem(server.http.get("/api/workflows/bad id!"), 404)
    # The check alone says the same.
    checked = server.http.post("/api/validate", json=document)
    assert checked.status_code == 200
    assert checked.json()["errors"] == errors


def test_a_workflow_without_trigger_is_refused(server: Server) -> None:
    told = problem(server.http.post("/api/workflows", json={"id": "still", "nodes": [lua("one", "return 1")]}), 422)
    assert "trigger" in told["detail"]


def test_warnings_do_not_keep_a_workflow_from_being_saved(server: Server) -> None:
    document = {"id": "warned", "nodes": [hook(), lua("island", "return 1")], "edges": []}
    answer = server.http.post("/api/workflows", json=document)
    assert answer.status_code == 201
    assert [(one["pointer"], one["node"]) for one in answer.json()["warnings"]] == [("/nodes/1", "island")]
    checked = server.http.post("/api/validate", json={"workflow": document}).json()
    assert checked["errors"] == []
    assert checked["warnings"] == answer.json()["warnings"]


def test_what_is_not_there_is_404_by_every_method(server: Server) -> None:
    base = "/api/workflows/no-such"
    problem(server.http.get(base), 404)
    problem(server.http.put(base, json=echo("no-such")), 404)
    problem(server.http.delete(base), 404)
    problem(server.http.post(f"{base}/run", json={}), 404)
    problem(server.http.get(f"{base}/versions"), 404)
    problem(server.http.get(f"{base}/versions/1"), 404)
    problem(server.http.post(f"{base}/versions/1/restore"), 404)
    problem(server.http.get("/api/nothing"), 404)
    problem(server.http.get("/"), 404)
    problem(server.http.get("/api/workflows/"), 404)
    problem(server.http.get("/api/tables/none/rows"), 404)
    problem(server.http.get("/api/projects/none"), 404)
    problem(server.http.delete("/api/projects/none"), 404)


def test_a_method_that_an_address_does_not_know_is_405(server: Server) -> None:
    for method, path in [("PATCH", "/api/workflows"), ("PUT", "/api/workflows"), ("DELETE", "/api/validate"), ("GET", "/api/validate")]:
        answer = server.http.request(method, path)
        problem(answer, 405)
        assert answer.headers["allow"]


def test_the_id_in_the_address_wins(server: Server) -> None:
    server.save(echo("address"))
    answer = server.http.put("/api/workflows/address", json=echo("another"))
    assert answer.json()["id"] == "address"
    assert server.http.get("/api/workflows/address").json()["id"] == "address"
    problem(server.http.get("/api/workflows/another"), 404)
    without = echo("address")
    del without["id"]
    assert server.http.put("/api/workflows/address", json=without).json()["version"] == 3
    for wrong in (5, None, "not an id!"):
        assert server.http.put("/api/workflows/address", json={**without, "id": wrong}).status_code == 200


def test_a_save_over_somebody_elses_change_is_refused(server: Server) -> None:
    server.save(echo("shared", "return 1"))
    old = server.http.get("/api/workflows/shared").headers["etag"]
    saved = server.http.put("/api/workflows/shared", json=echo("shared", "return 2"), headers={"if-match": old})
    new = saved.headers["etag"]
    assert (saved.status_code, saved.json()["version"]) == (200, 2)
    assert new != old
    problem(server.http.put("/api/workflows/shared", json=echo("shared", "return 3"), headers={"if-match": old}), 412)
    problem(server.http.delete("/api/workflows/shared", headers={"if-match": old}), 412)
    assert server.http.post("/webhook/shared").json() == 2
    several = f'"nonsense", {new}'
    assert server.http.put("/api/workflows/shared", json=echo("shared"), headers={"if-match": several}).status_code == 200
    assert server.http.put("/api/workflows/shared", json=echo("shared"), headers={"if-match": "*"}).status_code == 200
    weak = "W/" + server.http.get("/api/workflows/shared").headers["etag"]
    problem(server.http.put("/api/workflows/shared", json=echo("shared"), headers={"if-match": weak}), 412)


def test_a_workflow_that_did_not_change_is_not_sent_again(server: Server) -> None:
    server.save(echo("cached"))
    etag = server.http.get("/api/workflows/cached").headers["etag"]
    # The comparison is the weak one, and * means whatever there is (RFC 9110, section 13.1.2).
    for tags in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = server.http.get("/api/workflows/cached", headers={"if-none-match": tags})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag), tags
    assert server.http.get("/api/workflows/cached", headers={"if-none-match": '"x"'}).status_code == 200


def test_every_version_can_be_seen_and_brought_back(server: Server) -> None:
    for number in range(1, 6):
        server.save(echo("history", f"return {number}") | {"name": f"Number {number}"})
    versions = server.http.get("/api/workflows/history/versions").json()["versions"]
    assert [(one["version"], one["name"], one["current"]) for one in versions] == [(n, f"Number {n}", n == 5) for n in (5, 4, 3, 2, 1)]
    page = server.http.get("/api/workflows/history/versions", params={"limit": 2, "before": 4}).json()["versions"]
    assert [one["version"] for one in page] == [3, 2]
    assert server.http.get("/api/workflows/history/versions/2").json()["name"] == "Number 2"
    restored = server.http.post("/api/workflows/history/versions/2/restore")
    assert (restored.status_code, restored.json()["version"]) == (200, 6)
    assert server.http.post("/webhook/history").json() == 2
    assert server.http.get("/api/workflows/history/versions/5").json()["name"] == "Number 5"
    for number in (0, 7, 10**30):
        problem(server.http.get(f"/api/workflows/history/versions/{number}"), 404)
        problem(server.http.post(f"/api/workflows/history/versions/{number}/restore"), 404)
    for wrong in ("x", "1.5", ""):
        assert server.http.get(f"/api/workflows/history/versions/{wrong}").status_code in (404, 422)


def test_a_deleted_workflow_is_gone_with_its_webhook_and_history_and_can_be_made_again(server: Server) -> None:
    server.save(echo("gone"))
    server.save(echo("gone", "return 2"))
    old = server.http.get("/api/workflows/gone").headers["etag"]
    assert server.http.post("/webhook/gone").status_code == 200
    deleted = server.http.delete("/api/workflows/gone")
    assert deleted.status_code == 200
    assert "gone" in deleted.json()["message"]
    problem(server.http.post("/webhook/gone"), 404)
    problem(server.http.get("/api/workflows/gone"), 404)
    problem(server.http.delete("/api/workflows/gone"), 404)
    again = server.http.post("/api/workflows", json=echo("gone", "return 3"))
    assert again.json()["version"] == 1
    assert again.headers["etag"] != old
    assert [one["version"] for one in server.http.get("/api/workflows/gone/versions").json()["versions"]] == [1]
    assert server.http.post("/webhook/gone").json() == 3


def test_a_long_list_comes_in_pages(data: Path) -> None:
    with Server(data) as server:
        ids = [f"wf{number:02d}" for number in range(25)]
        for workflow_id in reversed(ids):
            server.save(echo(workflow_id, path=f"/{workflow_id}", method="GET") | {"active": workflow_id != "wf03"})
        seen: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 10}
        pages = 0
        while True:
            page = server.http.get("/api/workflows", params=query).json()
            seen.extend(page["workflows"])
            pages += 1
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert pages == 3
        assert [one["id"] for one in seen] == ids
        third = seen[3]
        assert {"id", "name", "active", "version", "created_at", "updated_at", "triggers"} <= set(third)
        assert (third["active"], seen[4]["active"]) == (False, True)
        assert third["triggers"] == [{"node": "hook", "node_type": "Webhook", "path": "/wf03", "method": "GET"}]
        exact = server.http.get("/api/workflows", params={"limit": 25}).json()
        assert (len(exact["workflows"]), exact["next"]) == (25, None)
        assert len(server.http.get("/api/workflows").json()["workflows"]) == 25


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1001", "limit=1e3", "limit=", f"limit={10**40}"])
def test_a_limit_that_is_none_is_told(server: Server, query: str) -> None:
    told = problem(server.http.get(f"/api/workflows?{query}"), 422)
    assert "limit" in told["detail"]


def test_cursors_may_be_anything(server: Server) -> None:
    for cursor in ("%00", "%ff", "zzzz", "..", "%f0%9f%8e%89", "a" * 3000):
        assert server.http.get(f"/api/workflows?cursor={cursor}").status_code == 200
    problem(server.http.get("/api/tables/t/rows?cursor=x"), 422)
    problem(server.http.get("/api/tables/t/rows?cursor=-1"), 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"nul", 400),
        (b'"\xff"', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"[" * 101 + b"]" * 101, 400),
        (b"[]", 422),
        (b"5", 422),
        (b"{}", 422),
    ],
)
def test_a_body_that_is_no_document_is_told(server: Server, body: bytes, status: int) -> None:
    server.save(echo("target"))
    for method, path in [("POST", "/api/workflows"), ("PUT", "/api/workflows/target")]:
        problem(server.http.request(method, path, content=body), status)
    answer = server.http.post("/api/validate", content=body)
    if status == 400:
        problem(answer, 400)
    else:
        assert answer.json()["errors"]


def test_node_types_come_with_a_form_help_and_exits(server: Server) -> None:
    types = {one["name"]: one for one in server.http.get("/api/node-types").json()["node_types"]}
    assert {"Webhook", "FunLogic", "Respond", "SimpleTableQuery", "SimpleTableReader", "SimpleTableWriter"} <= set(types)
    for one in types.values():
        assert one["docs"]
        assert "main" in one["exits"]
        schema = one["params"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert set(schema.get("required", [])) <= set(schema["properties"])
        for field in schema["properties"].values():
            assert field["description"]
            assert {"type", "anyOf", "enum", "const", "$ref"} & set(field) or field.get("description")
        for reference in _references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"]
    assert types["Webhook"]["trigger"] is True
    assert types["FunLogic"]["trigger"] is False
    assert types["FunLogic"]["params"]["required"] == ["script"]


def test_the_api_describes_itself(server: Server) -> None:
    described = server.http.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    for path in (
        "/api/workflows",
        "/api/workflows/{workflow_id}",
        "/api/workflows/{workflow_id}/run",
        "/api/validate",
        "/api/tables/{table}/rows",
        "/api/runs",
        "/api/runs/events",
        "/api/runs/{run_id}/replay",
    ):
        assert path in described["paths"]
    for reference in _references(described):
        here: Any = described
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["responses"]
        assert operation.get("description")
    docs = server.http.get("/docs")
    assert docs.status_code == 200
    assert docs.headers["content-type"].startswith("text/html")


def test_a_project_has_every_address_under_its_own_prefix(server: Server) -> None:
    for path in ("/healthz", "/openapi.json", "/docs", "/api/workflows", "/api/node-types", "/api/tables", "/api/projects"):
        assert server.http.get(f"/p/default{path}").status_code == 200, path


def test_tables_and_their_rows_can_be_read_in_pages(server: Server) -> None:
    server.save(poc())
    for number in range(25):
        server.http.post("/webhook/poc-grading-workflow/grade", json={"student_id": f"s{number}", "score": number * 4}).raise_for_status()
    tables = {table["name"]: table for table in server.http.get("/api/tables").json()["tables"]}
    assert tables["student_grades"]["rows"] == 25
    assert [column["name"] for column in tables["student_grades"]["columns"]] == [
        "id",
        "student_id",
        "original_score",
        "doubled_score",
        "passed",
    ]
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 10}
    while True:
        page = server.http.get("/api/tables/student_grades/rows", params=query).json()
        assert len(page["rows"]) <= 10
        rows.extend(page["rows"])
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert [row["student_id"] for row in rows] == [f"s{number}" for number in range(25)]
    assert rows[20] == {"id": 21, "student_id": "s20", "original_score": 80, "doubled_score": 160, "passed": True}
    for cursor in (2**63 - 1, 2**63, 10**30):
        assert server.http.get(f"/api/tables/student_grades/rows?cursor={cursor}").json()["rows"] == []
    for name in ("nope", "sqlite_schema", "sqlite_sequence", "%00", "a%22b", "x" * 500):
        problem(server.http.get(f"/api/tables/{name}/rows"), 404)


def test_an_inactive_workflow_can_still_be_run_by_hand(server: Server) -> None:
    server.save(echo("off", "return 7") | {"active": False})
    problem(server.http.post("/webhook/off"), 404)
    assert server.record("off")["output"] == [7]
    server.save(echo("off", "return 7"))
    assert server.http.post("/webhook/off").json() == 7


def test_two_creations_of_one_id_at_the_same_time_have_one_winner(server: Server) -> None:
    def create(number: int) -> httpx.Response:
        return server.http.post("/api/workflows", json=echo("race", f"return {number}"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    assert sorted(statuses(answers)) == [201] + [409] * 7
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 201)
    assert server.http.post("/webhook/race").json() == winner


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for child in value.values() for reference in _references(child)]
    return [reference for child in value for reference in _references(child)] if isinstance(value, list) else []
