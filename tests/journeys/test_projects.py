"""Projects share nothing."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from mechaway_core.local.schedules import BELL
from mechaway_core.local.timekeeper import LOCK
from mechaway_core.sqlite.pulse import AT_WORK, NAME
from tests.journeys.server import Server, chain, echo, hook, poc, problem

OURS = (NAME, AT_WORK, LOCK, BELL)  # what a data folder holds beside projects


def make(server: Server, slug: str) -> str:
    answer = server.http.post("/api/projects", json={"slug": slug})
    assert answer.status_code == 201, answer.text
    return f"/p/{slug}"


def slugs(server: Server) -> list[str]:
    return [one["slug"] for one in server.http.get("/api/projects").json()["projects"]]


def test_projects_are_made_listed_and_deleted(server: Server) -> None:
    assert "default" in slugs(server)
    created = server.http.post("/api/projects", json={"slug": "one"})
    assert created.status_code == 201
    assert created.headers["location"].startswith("/p/one")
    assert server.http.get(created.headers["location"]).status_code == 200
    assert server.http.get("/api/projects/one").json()["slug"] == "one"
    assert "one" in slugs(server)
    problem(server.http.post("/api/projects", json={"slug": "one"}), 409)
    problem(server.http.post("/api/projects", json={"slug": "default"}), 409)
    assert server.http.delete("/api/projects/one").status_code == 200
    assert "one" not in slugs(server)
    problem(server.http.delete("/api/projects/one"), 404)
    problem(server.http.delete("/api/projects/default"), 409)


def test_two_projects_hold_the_same_ids_and_tables_apart(server: Server) -> None:
    one, two = make(server, "left"), make(server, "right")
    server.save(poc(), "left")
    server.save(poc() | {"name": "The right one"}, "right")
    for prefix, student in ((one, "l"), (two, "r"), (two, "r2")):
        answer = server.http.post(f"{prefix}/webhook/poc-grading-workflow/grade", json={"student_id": student, "score": 1})
        assert answer.json()["_inserted_id"] == (2 if student == "r2" else 1)
    assert [row["student_id"] for row in server.http.get(f"{one}/api/tables/student_grades/rows").json()["rows"]] == ["l"]
    assert [row["student_id"] for row in server.http.get(f"{two}/api/tables/student_grades/rows").json()["rows"]] == ["r", "r2"]
    assert server.http.get(f"{one}/api/workflows/poc-grading-workflow").json()["name"] == poc()["name"]
    problem(server.http.post("/webhook/poc-grading-workflow/grade", json={}), 404)
    assert server.http.delete(f"{one}/api/workflows/poc-grading-workflow").status_code == 200
    assert server.http.get(f"{two}/api/workflows/poc-grading-workflow").status_code == 200
    created = server.http.post(f"{two}/api/workflows", json=echo("placed"))
    assert created.headers["location"] == "/p/right/api/workflows/placed"


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH DATABASE '../default/simpletable.db' AS other",
        "SELECT * FROM other.student_grades",
        "SELECT readfile('../default/simpletable.db')",
        "VACUUM INTO '/tmp/stolen.db'",
        "PRAGMA database_list",
        "SELECT load_extension('x')",
        "SELECT * FROM pragma_database_list",
        "CREATE VIRTUAL TABLE x USING fts5(a)",
        "CREATE TEMP TABLE x (a)",
        "BEGIN",
        "COMMIT",
        "SELECT 1; ATTACH 'x' AS y",
        "DETACH main",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = ''",
    ],
)
def test_sql_of_a_project_cannot_leave_it(server: Server, query: str) -> None:
    document = chain("spy", hook(), {"id": "q", "node_type": "SimpleTableQuery", "params": {"query": query, "write": True}})
    answer = server.http.post("/api/workflows", json=document)
    if answer.status_code == 201:
        problem(server.http.post("/webhook/spy"), 422)
        server.http.delete("/api/workflows/spy").raise_for_status()
    else:
        problem(answer, 422)


@pytest.mark.parametrize(
    "slug",
    [
        "..",
        ".",
        "",
        "a/b",
        "../default",
        "UPPER",
        "a" * 64,
        "ünï",
        "a b",
        "a_b",
        "-a",
        "a.b",
        "\0",
        "default\n",
        "%2e%2e",
        ".new-x",
        ".trash-x",
        "a\\b",
        "/",
    ],
)
def test_a_slug_that_cannot_be_one_makes_no_project_and_finds_none(server: Server, slug: str) -> None:
    problem(server.http.post("/api/projects", json={"slug": slug}), 422)
    encoded = quote(slug, safe="").replace(".", "%2E")
    for path in (f"/p/{encoded}/api/workflows", f"/p/{encoded}/api/tables", f"/p/{encoded}/webhook/x"):
        problem(server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()), 404)
    for method in (b"POST", b"DELETE"):
        address = b"/p/%s/api/workflows" if method == b"POST" else b"/api/projects/%s"
        answer = server.raw(method + b" " + address % encoded.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert answer.status in (400, 404, 405), answer.body
    if slug not in ("", "/"):
        body = httpx.Request("POST", "http://x", json=echo("x")).content
        head = f"POST /p/{encoded}/api/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        problem(server.raw(head.encode() + body), 404)
    names = {entry.name for entry in server.data.iterdir() if entry.name not in OURS} if server.data.exists() else set()
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names), names


def test_the_longest_slug_works(server: Server) -> None:
    prefix = make(server, "a" * 63)
    server.save(echo("x"), "a" * 63)
    assert server.http.post(f"{prefix}/webhook/x", json=1).json() == 1
    assert server.http.delete(f"/api/projects/{'a' * 63}").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"5", b'{"slug":null}', b'{"slug":5}', b'{"slug":"a","x":1}', b'{"slug":["a"]}', b"{"])
def test_a_project_without_a_slug_is_refused(server: Server, body: bytes) -> None:
    answer = server.http.post("/api/projects", content=body)
    assert problem(answer, answer.status_code)["status"] in (400, 422)


def test_a_project_that_is_made_again_is_empty(server: Server) -> None:
    for generation in range(1, 5):
        prefix = make(server, "phoenix")
        assert server.http.get(f"{prefix}/api/workflows").json()["workflows"] == []
        assert server.http.get(f"{prefix}/api/tables").json()["tables"] == []
        server.save(poc(), "phoenix")
        for number in range(1, generation + 1):
            answer = server.http.post(f"{prefix}/webhook/poc-grading-workflow/grade", json={"student_id": "s", "score": 1})
            assert answer.json()["_inserted_id"] == number
        assert server.http.delete("/api/projects/phoenix").status_code == 200
        problem(server.http.post(f"{prefix}/webhook/poc-grading-workflow/grade", json={"student_id": "s", "score": 1}), 404)
        problem(server.http.get(f"{prefix}/api/workflows"), 404)
        problem(server.http.get(f"{prefix}/api/tables"), 404)
        assert not (server.data / "phoenix").exists()


def test_a_project_can_be_deleted_while_it_is_used(server: Server) -> None:
    seen: set[int] = set()
    stop = threading.Event()

    def call() -> None:
        with server.stranger() as http:
            while not stop.is_set():
                answer = http.post("/p/busy/webhook/poc-grading-workflow/grade", json={"student_id": "s", "score": 1})
                seen.add(answer.status_code)
                if answer.status_code != 200:
                    problem(answer, answer.status_code)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            make(server, "busy")
            server.save(poc(), "busy")
            assert server.http.get("/p/busy/api/workflows").status_code == 200
            assert server.http.delete("/api/projects/busy").status_code == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert seen <= {200, 404, 422, 503}
    assert not (server.data / "busy").exists()
    assert "busy" not in slugs(server)


def test_what_project_a_run_is_of_is_known_to_its_script(server: Server) -> None:
    prefix = make(server, "named")
    server.save(echo("who", "return {project = run.project, workflow = run.workflow_id, trigger = run.trigger}"), "named")
    assert server.http.post(f"{prefix}/webhook/who").json() == {"project": "named", "workflow": "who", "trigger": "webhook"}


def _few_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))


def test_many_projects_are_open_at_once_where_a_process_starts_with_few_files(data: Path) -> None:
    with Server(data, prepare=_few_files) as server:
        for number in range(40):
            prefix = make(server, f"many-{number}")
            server.save(poc(), f"many-{number}")
            answer = server.http.post(f"{prefix}/webhook/poc-grading-workflow/grade", json={"student_id": "s", "score": 1})
            assert answer.status_code == 200, answer.text
            assert len(server.http.get(f"{prefix}/api/runs").json()["runs"]) == 1
