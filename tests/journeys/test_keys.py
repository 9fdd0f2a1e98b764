"""Keys of projects, over several server processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mechaway_core.access.scopes import SCOPES, TABLE
from mechaway_core.app import App
from mechaway_core.web.api import make_api
from mechaway_core.web.threads import Threads
from tests.journeys.server import Caller, Server, echo, mechaway, problem

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("keys") / "data", api_token=TOKEN, workers=2, auth_delay=0) as made:
        made.http.headers["authorization"] = f"Bearer {TOKEN}"
        prepare(made)
        yield made


def prepare(server: Caller) -> None:
    """Two projects with a workflow each."""
    for slug in ("shop", "other"):
        assert server.http.post("/api/projects", json={"slug": slug}).status_code == 201
        server.save(echo("hello"), slug)


def make(server: Server, *scopes: str, project: str = "shop", **fields: Any) -> dict[str, Any]:
    """A key as it is answered when it is made."""
    answer = server.http.post("/api/keys", json={"project": project, "name": "robot", "scopes": list(scopes), **fields})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def using(server: Server, key: str, method: str, path: str, **request: Any) -> httpx.Response:
    """A request with a key, over a connection of its own: whichever process takes it."""
    with server.stranger() as http:
        return http.request(method, path, headers={"authorization": f"Bearer {key}"}, **request)


def test_a_key_is_shown_once_and_listed_by_how_it_begins(server: Server) -> None:
    made = make(server, "read", "run", expires="2999-01-01T00:00:00Z")
    assert made["key"].startswith(made["prefix"])
    assert (made["project"], made["name"], made["scopes"], made["expires"]) == ("shop", "robot", ["read", "run"], "2999-01-01T00:00:00Z")
    listed = server.http.get("/p/shop/api/keys")
    assert made["id"] in [key["id"] for key in listed.json()["keys"]]
    assert made["key"] not in listed.text
    assert all(set(key) == {"id", "project", "name", "prefix", "scopes", "created_at", "expires"} for key in listed.json()["keys"])
    assert made["id"] not in server.http.get("/api/keys").text
    problem(server.http.get("/p/nowhere/api/keys"), 404)
    assert made["key"] not in server.out + server.err


def test_long_lists_of_keys_come_in_pages(server: Server) -> None:
    ids = {make(server, "read", project="other")["id"] for _ in range(5)}
    seen: list[str] = []
    cursor: Any = ""
    while cursor is not None:
        page = server.http.get("/p/other/api/keys", params={"limit": 2, "cursor": cursor}).json()
        seen += [key["id"] for key in page["keys"]]
        cursor = page["next"]
    assert set(seen) == ids
    assert len(seen) == 5


def test_a_key_does_what_it_is_for_in_its_own_project(server: Server) -> None:
    everything = make(server, *SCOPES)["key"]
    base = "/p/shop/api"
    assert using(server, everything, "GET", f"{base}/workflows").json()["workflows"][0]["id"] == "hello"
    assert using(server, everything, "POST", f"{base}/workflows", json=echo("made")).status_code == 201
    assert using(server, everything, "POST", f"{base}/workflows/made/run", json={}).json()["status"] == "succeeded"
    assert using(server, everything, "DELETE", f"{base}/workflows/made").status_code == 200
    assert using(server, everything, "GET", "/api/projects").json() == {"projects": [{"slug": "shop"}]}
    assert using(server, everything, "GET", "/openapi.json").status_code == 200


def test_without_the_scope_it_is_told_which_one_is_missing(server: Server) -> None:
    reader = make(server, "read")["key"]
    assert using(server, reader, "GET", "/p/shop/api/workflows/hello").status_code == 200
    for method, path, scope in (
        ("POST", "/p/shop/api/workflows", "write"),
        ("DELETE", "/p/shop/api/workflows/hello", "write"),
        ("POST", "/p/shop/api/workflows/hello/run", "run"),
        ("PUT", "/p/shop/api/secrets/x", "secrets"),
    ):
        assert scope in problem(using(server, reader, method, path, json={}), 403)["detail"]
    assert server.http.get("/p/shop/api/workflows/hello").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/p/{}/api/workflows",
        "/p/{}/api/workflows/hello",
        "/p/{}/api/tables",
        "/p/{}/api/keys",
        "/p/{}/api/nothing",
        "/api/projects/{}",
    ],
)
def test_another_project_answers_as_one_that_is_not_there(server: Server, path: str) -> None:
    everything = make(server, *SCOPES)["key"]
    for method in ("GET", "DELETE", "PUT", "POST"):
        there = problem(using(server, everything, method, path.format("other")), 404)
        missing = problem(using(server, everything, method, path.format("nowhere")), 404)
        assert there["detail"].replace("other", "nowhere") == missing["detail"]
        assert problem(using(server, everything, method, path.format("default")), 404)
    assert "refused: key_project (key " in server.err


@pytest.mark.parametrize(
    "path",
    ["/p/other/%61pi/workflows", "/p/%6fther/api/workflows", "//p/other/api/workflows", "/p/shop/../other/api/workflows",
     "/p/shop/api/../../other/api/workflows", "/p/other%2Fapi/workflows", "/%70/other/api/workflows", "/p//api/workflows",
     "/p/shop%2F..%2Fother/api/workflows", "/api/workflows", "/api/workflows?project=other"],
)  # fmt: skip
def test_no_way_of_writing_an_address_leads_into_another_project(server: Server, path: str) -> None:
    everything = make(server, *SCOPES)["key"]
    with server.connect() as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {everything}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert said.split(b" ", 2)[1] in (b"403", b"404"), said
    assert b"hello" not in said


def test_only_the_admin_manages_keys_and_projects(server: Server) -> None:
    everything = make(server, *SCOPES)
    for method, path in (
        ("GET", "/p/shop/api/keys"),
        ("POST", "/p/shop/api/keys"),
        ("DELETE", f"/p/shop/api/keys/{everything['id']}"),
        ("POST", "/api/projects"),
        ("DELETE", "/api/projects/shop"),
        ("GET", "/p/shop/api/access/refusals"),
    ):
        problem(using(server, everything["key"], method, path, json={"slug": "x"}), 403)


def test_a_key_that_is_revoked_is_worth_nothing_at_once(server: Server) -> None:
    made = make(server, "read")
    for _ in range(6):
        assert using(server, made["key"], "GET", "/p/shop/api/workflows").status_code == 200
    assert server.http.delete(f"/p/shop/api/keys/{made['id']}").status_code == 200
    for _ in range(6):
        answer = using(server, made["key"], "GET", "/p/shop/api/workflows")
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    problem(server.http.delete(f"/p/shop/api/keys/{made['id']}"), 404)


def test_keys_cannot_be_made_up(server: Server) -> None:
    key = make(server, "read")["key"]
    project, key_id, secret = key.split("_")[1:]
    for wrong in (
        key[:-1],
        key + "0",
        key.upper(),
        f"mway_other_{key_id}_{secret}",
        f"mway_{project}_{'0' * 16}_{secret}",
        f"mway_{project}_{key_id}_{'0' * 64}",
        "mway_",
        "mway_shop_../x_y",
    ):
        problem(using(server, wrong, "GET", "/p/shop/api/workflows"), 401)
    assert "refused: key_wrong" in server.err
    assert secret not in server.err


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"project": "nowhere", "name": "k", "scopes": ["read"]}, 404),
        ({"project": 5, "name": "k", "scopes": ["read"]}, 422),
        ({"name": "k"}, 422),
        ({"name": "k", "scopes": ["admin"]}, 422),
        ({"name": "k", "scopes": ["read"], "key": "mine"}, 422),
        ({"name": "k", "scopes": ["read"], "expires": "yesterday"}, 422),
        ([], 400),
    ],
)
def test_a_wish_that_cannot_be_met_makes_no_key(server: Server, wish: Any, status: int) -> None:
    problem(server.http.post("/api/keys", json=wish), status)
    assert server.http.get("/api/keys").json()["keys"] == []


def test_without_a_token_a_key_still_only_does_what_it_is_for(data: Path) -> None:
    with Server(data) as server:
        key = make(server, "read", project="default")["key"]
        assert using(server, key, "GET", "/api/workflows").status_code == 200
        problem(using(server, key, "POST", "/api/workflows", json=echo("x")), 403)
        problem(using(server, "mway_default_x", "GET", "/api/workflows"), 401)


def test_every_route_of_the_api_has_its_scope_or_is_meant_for_the_admin(app: App) -> None:
    """A route that is added must be put into the table, or here."""
    admins = {
        ("POST", "keys"),
        ("GET", "keys"),
        ("DELETE", "keys/*"),
        ("GET", "access/refusals"),
        ("POST", "projects"),
        ("DELETE", "projects/*"),
        ("GET", "projects/*/export"),
        ("POST", "projects/import"),
    }
    described = make_api(app, Threads(1, 1)).openapi()["paths"]
    routes = {
        (method.upper(), "/".join("*" if part.startswith("{") else part for part in path.removeprefix("/api/").split("/")))
        for path, methods in described.items()
        for method in methods
    }
    known = {(method, route) for method, route, _ in TABLE}
    assert routes - known == admins


# -- by the command line


def test_keys_are_made_and_revoked_by_the_command_line_while_the_server_runs(data: Path) -> None:
    def key(*arguments: str) -> str:
        done = mechaway("key", *arguments, "--data-dir", str(data))
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Server(data, api_token=TOKEN) as server:
        text = key("create", "build robot", "--scope", "read", "--expires", "2999-01-01T00:00:00Z").strip()
        assert using(server, text, "GET", "/api/workflows").status_code == 200
        [listed] = json.loads(key("list", "--json"))
        assert (listed["name"], listed["scopes"]) == ("build robot", ["read"])
        assert listed["id"] in key("list")
        assert text not in key("list") + key("list", "--json")
        key("rm", listed["id"])
        problem(using(server, text, "GET", "/api/workflows"), 401)
        assert key("list") == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "k", "--scope", "read", "--project", "nowhere"],
        ["create", "k", "--scope", "read", "--expires", "soon"],
        ["rm", "0123456789abcdef"],
        ["list", "--project", "nowhere"],
    ],
)
def test_what_the_command_line_cannot_do_it_says_in_a_sentence(data: Path, arguments: list[str]) -> None:
    done = mechaway("key", *arguments, "--data-dir", str(data))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_scope_that_there_is_not_is_not_understood(data: Path) -> None:
    assert mechaway("key", "create", "k", "--scope", "all", "--data-dir", str(data)).returncode == 2
