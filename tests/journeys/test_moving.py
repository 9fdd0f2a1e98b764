"""A project moves from one server to another, by the command line and by the API."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mechaway_core import aws, local
from mechaway_core.settings import Settings
from tests.journeys.server import PATIENCE, Server, chain, environment, hook, lua, mechaway, poc, problem, until
from tests.lambda_events import Context, call

PHRASE = {b"mechaway-passphrase": "correct horse battery stäple".encode()}
CALL = "/webhook/poc-grading-workflow/grade"


def guarded() -> dict[str, object]:
    return chain("guarded", hook("/", auth={"kind": "bearer", "token": "$secret.TOKEN"}), lua("work", "return {ok = true}"))


def fill(server: Server, project: str = "shop") -> str:
    """A project with two workflows, one of them in three versions, a row and a secret."""
    prefix = f"/p/{project}"
    assert server.http.post("/api/projects", json={"slug": project}).status_code == 201
    server.save(poc(), project)
    assert server.http.put(f"{prefix}/api/secrets/TOKEN", json={"value": "opens-the-door"}).status_code == 201
    for number in (1, 2, 3):
        server.save(guarded() | {"name": f"version {number}"}, project)
    assert server.http.post(prefix + CALL, json={"student_id": "s1", "score": 85}).json()["_inserted_id"] == 1
    return prefix


def test_a_project_moves_to_another_server_and_answers_there(server: Server, tmp_path: Path) -> None:
    prefix = fill(server)
    archive = server.http.get("/api/projects/shop/export", headers=PHRASE)
    assert (archive.status_code, archive.headers["content-type"]) == (200, "application/zip")
    assert archive.headers["content-disposition"] == 'attachment; filename="shop.mechaway.zip"'
    with Server(tmp_path / "data") as other:
        made = other.http.post("/api/projects/import", content=archive.content, headers=PHRASE)
        assert made.status_code == 201, made.text
        assert made.json() == {
            "project": "shop", "workflows": 2, "versions": 4, "tables": 1, "rows": 1, "secrets": 1, "message": 'project "shop" imported',
        }  # fmt: skip
        assert made.headers["location"] == "/p/shop/api/workflows"
        for path in ("/api/workflows", "/api/workflows/guarded/versions", "/api/tables", "/api/tables/student_grades/rows"):
            assert other.http.get(prefix + path).json() == server.http.get(prefix + path).json()
        assert other.http.post(prefix + CALL, json={"student_id": "s2", "score": 1}).json()["_inserted_id"] == 2
        assert other.http.get(f"{prefix}/webhook/guarded").status_code == 401
        assert other.http.get(f"{prefix}/webhook/guarded", headers={"authorization": "Bearer opens-the-door"}).json() == {"ok": True}
        problem(other.http.post("/api/projects/import", content=archive.content, headers=PHRASE), 409)
        assert "opens-the-door" not in other.err + other.out


def test_an_archive_with_secrets_needs_its_passphrase_at_the_api_too(server: Server) -> None:
    fill(server, "locked")
    archive = server.http.get("/api/projects/locked/export", headers=PHRASE).content
    answer = server.http.post("/api/projects/import?slug=locked2", content=archive)
    assert "secrets" in problem(answer, 422)["detail"]
    answer = server.http.post("/api/projects/import?slug=locked2", content=archive, headers={"mechaway-passphrase": "some other words"})
    assert "do not open" in problem(answer, 422)["detail"]
    made = server.http.post("/api/projects/import?slug=locked2&without_secrets=true", content=archive)
    assert made.json()["secrets"] == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"PK\5\6" + bytes(18), b"x" * 1_000_000])
def test_what_is_no_archive_is_400_and_makes_nothing(server: Server, body: bytes) -> None:
    problem(server.http.post("/api/projects/import?slug=nothing", content=body), 400)
    problem(server.http.get("/api/projects/nothing"), 404)


def test_moving_is_for_the_admin(tmp_path: Path) -> None:
    with Server(tmp_path / "data", api_token="s3cret-token") as server:
        admin = {"authorization": "Bearer s3cret-token"}
        wish = {"name": "all", "scopes": ["read", "write", "run", "secrets"]}
        key = server.http.post("/api/keys", json=wish, headers=admin).json()["key"]
        holder = {"authorization": f"Bearer {key}"}
        problem(server.http.get("/api/projects/default/export"), 401)
        problem(server.http.post("/api/projects/import", content=b"x" * 1000), 401)
        problem(server.http.get("/api/projects/default/export", headers=holder), 403)
        problem(server.http.post("/api/projects/import", content=b"x", headers=holder), 404)
        assert server.http.get("/api/projects/default/export", headers=admin).status_code == 200
        problem(server.http.post("/api/projects/import", content=b"x", headers=admin), 400)
        problem(server.http.get("/api/projects/nowhere/export", headers=admin), 404)


def test_an_archive_larger_than_a_body_comes_in_by_the_disk(tmp_path: Path) -> None:
    with Server(tmp_path / "data", max_body_mb=0.1, max_upload_mb=5) as server:
        fill(server)
        noise = [{"id": "noise", "nodes": [hook()], "edges": [], "description": os.urandom(40_000).hex()}] * 20
        for document in noise:
            server.save(document, "shop")
        archive = server.http.get("/api/projects/shop/export").content
        assert len(archive) > 500_000
        assert server.http.post("/api/projects/import?slug=copy", content=archive).status_code == 201
        until(lambda: server.open_uploads() == [], "the file of the body to be let go")
        problem(server.http.post("/api/projects/import", content=bytes(5_000_001)), 413)


# -- the command line


def test_the_command_line_moves_a_project_with_its_secrets(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with Server(one) as server:
        fill(server)
        archive, phrase = tmp_path / "shop.zip", b"correct horse battery staple\n"
        done = mechaway("export", "shop", "-o", str(archive), "--passphrase-file", "-", "--data-dir", str(one), given=phrase)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f'project "shop" exported to {archive}: 2 workflows, 4 versions, 1 table, 1 row, 1 secret\n'
    assert archive.stat().st_mode & 0o777 == 0o600
    done = mechaway("import", str(archive), "--project", "copy", "--passphrase-file", "-", "--data-dir", str(two), given=phrase)
    assert (done.returncode, done.stdout) == (0, 'project "copy" imported: 2 workflows, 4 versions, 1 table, 1 row, 1 secret\n')
    with Server(two) as server:
        answer = server.http.get("/p/copy/webhook/guarded", headers={"authorization": "Bearer opens-the-door"})
        assert answer.json() == {"ok": True}
    again = mechaway("import", str(archive), "--project", "copy", "--passphrase-file", "-", "--data-dir", str(two), given=phrase)
    assert (again.returncode, again.stdout) == (1, "")
    assert "already" in again.stderr


def test_an_export_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "kept.zip"
    target.write_text("what was there")
    done = mechaway("export", "nowhere", "-o", str(target), "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stderr) == (1, 'mechaway: there is no project "nowhere"\n')
    assert target.read_text() == "what was there"
    assert [path.name for path in tmp_path.iterdir() if "kept" in path.name] == ["kept.zip"]


def test_an_import_that_is_killed_is_brought_to_its_end_by_the_next_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    archive = tmp_path / "shop.zip"
    with Server(one) as server:
        fill(server)
        for number in range(60):
            server.save(guarded() | {"id": f"w{number}"}, "shop")
        assert mechaway("export", "shop", "-o", str(archive), "--data-dir", str(one)).returncode == 0
    command = [sys.executable, "-m", "mechaway_core.cli", "import", str(archive), "--data-dir", str(two)]
    process = subprocess.Popen(command, env=environment({"lua_workers": 1, "sync": "full"}), stdout=subprocess.PIPE)
    until(lambda: process.poll() is not None or (two / "shop" / "project.db").exists(), "the project to be made")
    process.kill()
    process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()
    again = mechaway("import", str(archive), "--into-empty", "--data-dir", str(two))
    assert again.returncode == 0 or "not empty" in again.stderr  # it was quicker than the kill
    with Server(two) as server:
        assert len(server.http.get("/p/shop/api/workflows").json()["workflows"]) == 62
        assert [row["student_id"] for row in server.http.get("/p/shop/api/tables/student_grades/rows").json()["rows"]] == ["s1"]


def test_a_project_moves_through_a_function(tmp_path: Path) -> None:
    app = local.build(aws.behind_http_api(Settings(data_dir=tmp_path / "data", api_token="s3cret-token", lua_workers=1)))
    try:
        app.create("default", poc())
        handler, admin = aws.api_handler(lambda: app), {"authorization": "Bearer s3cret-token"}
        given = handler(call("GET", "/api/projects/default/export", headers=admin), Context())
        assert (given["statusCode"], given["isBase64Encoded"]) == (200, True)
        archive = base64.b64decode(given["body"])
        made = handler(
            call("POST", "/api/projects/import", archive, admin | {"content-type": "application/zip"}, query="slug=copy"), Context()
        )
        assert made["statusCode"] == 201, made
        assert [one["id"] for one in app.find("copy")] == ["poc-grading-workflow"]
    finally:
        app.close()
