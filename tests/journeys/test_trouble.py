"""Disks that are full, folders that cannot be written, databases that others hold."""

from __future__ import annotations

import ctypes
import os
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.journeys.server import Server, chain, echo, hook, poc, problem

ADDRESS = "/webhook/poc-grading-workflow/grade"
SENT = {"student_id": "s", "score": 85}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def _like_everybody() -> None:
    """Take from root, in a child about to start a program, the right to write what is not to be written."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


def grade(server: Server) -> int:
    answer = server.http.post(ADDRESS, json=SENT)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["_inserted_id"])


def test_a_folder_that_cannot_be_written_is_503_and_hides_nothing(data: Path) -> None:
    with Server(data) as server:
        server.save(poc())
        server.save(echo("echo"))
        assert grade(server) == 1
    _permit(data, 0o555, 0o444)
    with Server(data, prepare=_like_everybody) as server:
        for method, path, body in [
            ("PUT", "/api/workflows/echo", echo("echo")),
            ("POST", "/api/workflows", echo("other")),
            ("DELETE", "/api/workflows/echo", None),
            ("POST", ADDRESS, SENT),
            ("POST", "/api/projects", {"slug": "new"}),
        ]:
            told = problem(server.http.request(method, path, json=body), 503)
            assert "Traceback" not in str(told)
        assert server.http.get("/healthz").status_code == 200
    _permit(data, 0o755, 0o644)
    with Server(data) as server:
        assert grade(server) == 2
        assert server.http.get("/api/workflows/echo/versions").json()["versions"][0]["version"] == 1


def test_a_folder_that_cannot_be_made_is_503_while_the_server_stays_up(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with Server(tmp_path / "data", "--data-dir", str(closed / "data"), prepare=_like_everybody) as server:
        for _ in range(2):
            problem(server.http.post("/api/workflows", json=echo("echo")), 503)
            problem(server.http.post("/api/projects", json={"slug": "new"}), 503)
            assert server.http.get("/healthz").status_code == 200


def _permit(folder: Path, folders: int, files: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


def test_files_that_cannot_grow_are_503_and_what_was_there_stays(data: Path) -> None:
    with Server(data, lua_workers=1) as server:
        server.save(poc())
        server.save(echo("echo"))
        writer = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "big", "columns": ["text"]}}
        server.save(chain("big", hook(), writer))
        first = grade(server)
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        large = "x" * 400_000
        problem(server.http.post("/webhook/big", json={"text": large}), 503)
        problem(server.http.put("/api/workflows/echo", json=echo("echo") | {"description": large[:99_000], "meta": large}), 503)
        problem(server.http.post("/api/workflows", json=echo("new") | {"meta": large}), 503)
        assert server.http.get("/healthz").status_code == 200
        assert server.http.get("/api/workflows/echo/versions").json()["versions"][0]["version"] == 1
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert grade(server) == first + 1
        assert server.http.post("/webhook/big", json={"text": large}).json()["_inserted_id"] == 1
        assert server.http.put("/api/workflows/echo", json=echo("echo")).json()["version"] == 2


@pytest.mark.parametrize("name", ["project.db", "simpletable.db"])
def test_a_database_that_somebody_else_holds_is_503_and_later_fine_again(data: Path, name: str) -> None:
    with Server(data, busy_timeout=0.3) as server:
        server.save(poc())
        first = grade(server)
        holder = sqlite3.connect(data / "default" / name, isolation_level=None)
        try:
            holder.execute("BEGIN EXCLUSIVE")
            if name == "project.db":
                problem(server.http.put("/api/workflows/poc-grading-workflow", json=poc()), 503)
                problem(server.http.post("/api/workflows", json=echo("new")), 503)
            else:
                answer = server.http.post(ADDRESS, json=SENT)
                assert problem(answer, 503)["node_id"] == "save"
                assert answer.headers["retry-after"]
            assert server.http.get("/healthz").status_code == 200
            holder.execute("ROLLBACK")
        finally:
            holder.close()
        assert grade(server) == first + 1
        assert server.http.put("/api/workflows/poc-grading-workflow", json=poc()).json()["version"] == 2


def test_a_damaged_database_is_503_and_leaves_other_projects_alone(data: Path) -> None:
    with Server(data) as server:
        server.http.post("/api/projects", json={"slug": "well"}).raise_for_status()
        for project in ("default", "well"):
            server.save(poc(), project)
        grade(server)
    for leftover in (data / "default").glob("simpletable.db*"):
        leftover.unlink()
    (data / "default" / "simpletable.db").write_bytes(b"this is no database at all" * 500)
    with Server(data) as server:
        problem(server.http.post(ADDRESS, json=SENT), 503)
        problem(server.http.get("/api/tables"), 503)
        assert server.http.post(f"/p/well{ADDRESS}", json=SENT).status_code == 200
        assert server.http.get("/api/workflows/poc-grading-workflow").status_code == 200


def test_more_runs_than_there_is_room_for_are_told_to_come_back(data: Path) -> None:
    with Server(data, max_runs=1, max_waiting=1) as server, ThreadPoolExecutor(8) as pool:
        server.save(echo("slow", "local t = os.clock() while os.clock() - t < 0.5 do end return 1"))
        answers = list(pool.map(lambda _: server.http.post("/webhook/slow"), range(8)))
        for answer in answers:
            if answer.status_code != 200:
                problem(answer, 503)
                assert answer.headers["retry-after"]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert server.http.post("/webhook/slow").status_code == 200
