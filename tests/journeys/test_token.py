"""Who may use the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Server, echo, mechaway, problem

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("token") / "data", api_token=TOKEN, auth_delay=0) as made:
        made.http.headers["authorization"] = f"Bearer {TOKEN}"
        made.save(echo("open"))
        yield made


@pytest.mark.parametrize(
    "path",
    [
        "/api/workflows",
        "/api/projects",
        "/api/tables",
        "/api/node-types",
        "/docs",
        "/openapi.json",
        "/p/default/api/workflows",
        "/redoc",
        "/docs/oauth2-redirect",
        "//api/workflows",
        "/api",
        "/%61pi/workflows",
    ],
)
def test_without_the_token_the_api_is_closed(server: Server, path: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {'x' * 20}"},
        {"authorization": ""},
        {"authorization": "Bearer s3cret-t"},
        {"authorization": "Bearer \xff\xfe"},
        {"x-api-token": "s3cret"},
    ):
        with server.stranger() as http:
            answer = http.get(path, headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()])
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_with_the_token_it_is_open(server: Server) -> None:
    for path in ("/api/workflows", "/p/default/api/workflows", "/docs", "/openapi.json"):
        assert server.http.get(path).status_code == 200
    assert server.http.get("/api/workflows", headers={"authorization": f"bearer  {TOKEN}"}).status_code == 200


def test_webhooks_and_health_ask_for_no_token(server: Server) -> None:
    with server.stranger() as http:
        assert http.get("/healthz").text == "ok"
        assert http.post("/webhook/open", json=5).json() == 5
        assert http.post("/p/default/webhook/open", json=5).json() == 5


def test_a_body_is_not_even_read_without_the_token(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /api/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n")
        assert b" 401 " in connection.recv(65536).split(b"\r\n", 1)[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_to_listen_for_the_world_without_a_token_is_refused(tmp_path: Path, host: str) -> None:
    done = mechaway("dev", "--host", host, "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mechaway: ")
    assert "MECHAWAY_API_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_with_a_token_it_listens_for_the_world(data: Path) -> None:
    with Server(data, "--host", "0.0.0.0", api_token=TOKEN) as server:
        assert server.http.get("/healthz").status_code == 200
        problem(server.http.get("/api/workflows"), 401)


def test_the_token_is_shown_nowhere(server: Server) -> None:
    done = mechaway("settings", settings={"api_token": "very-hidden"})
    assert "very-hidden" not in done.stdout + done.stderr
    done = mechaway("settings", "--json", settings={"api_token": "very-hidden"})
    assert "very-hidden" not in done.stdout + done.stderr
    assert TOKEN not in server.out + server.err
