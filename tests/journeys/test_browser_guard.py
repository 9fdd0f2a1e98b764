"""What web pages may do with a server, and what answers tell browsers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Server, chain, client, echo, hook, mechaway, problem, read_answer

APP = "https://app.example.com"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-mine"}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("cors") / "data", cors_origins=f"{APP}, *", api_token="t", body_timeout=1) as made:
        made.http.headers["authorization"] = "Bearer t"
        made.save(echo("echo", method=["GET", "POST"]))
        made.save(
            chain(
                "own",
                hook(),
                {"id": "r", "node_type": "Respond", "params": {"status": 200, "headers": {"Access-Control-Allow-Origin": "x"}}},
            )
        )
        yield made


# -- without a token


def test_a_page_that_had_its_name_point_here_gets_nothing(server: Server) -> None:
    server.save(echo("echo"))
    for path in ("/api/workflows", "/docs", "/openapi.json", "/webhook/echo", "/p/default/webhook/echo", "/nothing"):
        answer = server.http.get(path, headers={"host": "evil.com:3004"})
        assert "MECHAWAY_ALLOWED_HOSTS" in problem(answer, 403)["detail"]
    two = b"GET /api/workflows HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n"
    assert server.raw(two).status == 400
    assert "refused: host (evil.com:3004)" in server.err


def test_a_strangers_page_can_neither_read_nor_save_nor_start_anything(server: Server) -> None:
    server.save(echo("echo"))
    evil = {"origin": "https://evil.com"}
    problem(server.http.post("/api/workflows", json=echo("planted"), headers=evil), 403)
    problem(server.http.post("/api/workflows", content=b"{}", headers=evil | {"content-type": "text/plain"}), 403)
    problem(server.http.get("/api/workflows", headers=evil), 403)
    problem(server.http.post("/webhook/echo", json=1, headers=evil), 403)
    problem(server.http.get("/webhook/echo", headers={"sec-fetch-site": "cross-site"}), 403)
    problem(server.http.request("OPTIONS", "/api/workflows", headers=evil | PREFLIGHT), 403)
    problem(server.http.delete("/api/workflows/echo", headers={"sec-fetch-site": "cross-site"}), 403)
    assert server.http.get("/api/workflows/planted").status_code == 404
    counted = server.http.get("/api/access/refusals").json()["refusals"]
    assert counted["origin"] >= 4
    assert counted["cross_site"] >= 2


def test_own_pages_and_programs_go_on_as_before(server: Server) -> None:
    server.save(echo("echo"))
    own = {"origin": server.url, "sec-fetch-site": "same-origin"}
    assert server.http.get("/api/workflows", headers=own).status_code == 200
    assert server.http.post("/webhook/echo", json=1, headers={"origin": "http://localhost:5173"}).status_code == 200
    assert server.http.post("/webhook/echo", json=1, headers={"host": "localhost"}).status_code == 200


def test_the_name_of_a_tunnel_may_be_allowed(data: Path) -> None:
    with Server(data, allowed_hosts="tunnel.example.com") as server:
        server.save(echo("echo"))
        assert server.http.post("/webhook/echo", json=1, headers={"host": "tunnel.example.com"}).json() == 1
        problem(server.http.post("/webhook/echo", json=1, headers={"host": "other.example.com"}), 403)


@pytest.mark.parametrize(
    ("name", "value"), [("cors_origins", "example.com"), ("allowed_hosts", "http://x"), ("trusted_proxies", "10.0.0.0/99")]
)
def test_settings_that_cannot_be_read_stop_the_start(tmp_path: Path, name: str, value: str) -> None:
    done = mechaway("dev", "--port", "0", "--data-dir", str(tmp_path / "data"), settings={name: value})
    assert done.returncode == 1
    assert f"MECHAWAY_{name.upper()}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# -- pages that may


def test_a_page_of_an_allowed_origin_may_ask_and_then_call(open_server: Server) -> None:
    asked = open_server.http.request("OPTIONS", "/api/workflows", headers={"origin": APP, **PREFLIGHT})
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == APP
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == "content-type, x-mine"
    assert "access-control-allow-credentials" not in asked.headers
    answer = open_server.http.get("/api/workflows", headers={"origin": APP})
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["vary"] == "origin"
    assert "mechaway-run-id" in answer.headers["access-control-expose-headers"]
    with client(open_server.url) as http:  # a preflight carries no token, a refusal can be read
        assert http.request("OPTIONS", "/api/workflows", headers={"origin": APP, **PREFLIGHT}).status_code == 204
        assert http.get("/api/workflows", headers={"origin": APP}).headers["access-control-allow-origin"] == APP


def test_a_star_is_for_webhooks_only(open_server: Server) -> None:
    other = {"origin": "https://other.example"}
    asked = open_server.http.request("OPTIONS", "/webhook/echo", headers=other | PREFLIGHT)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "https://other.example")
    answer = open_server.http.post("/webhook/echo", json=5, headers=other)
    assert (answer.json(), answer.headers["access-control-allow-origin"]) == (5, "https://other.example")
    for method in ("GET", "OPTIONS"):
        assert "access-control-allow-origin" not in open_server.http.request(method, "/api/workflows", headers=other | PREFLIGHT).headers
    assert open_server.http.get("/webhook/echo").headers["vary"] == "origin"


def test_a_webhook_that_answers_options_itself_is_asked_itself(open_server: Server) -> None:
    asked = open_server.http.request("OPTIONS", "/webhook/own", headers={"origin": APP, **PREFLIGHT})
    assert asked.status_code == 200
    assert asked.headers["mechaway-run-id"]
    assert asked.headers.get_list("access-control-allow-origin") == ["x"]


def test_without_the_setting_nothing_is_said_about_origins(server: Server) -> None:
    server.save(echo("echo"))
    answer = server.http.get("/api/workflows", headers={"origin": server.url})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


# -- what every answer carries


@pytest.mark.parametrize("path", ["/healthz", "/webhook/none", "/api/workflows", "/api/nothing", "/docs", "/openapi.json", "/nothing"])
def test_every_answer_says_that_its_type_is_its_type_and_which_request_it_is_for(server: Server, path: str) -> None:
    answer = server.http.get(path, headers={"x-request-id": "my-id.1"})
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("x-request-id") == ["my-id.1"]


def test_request_ids_are_made_where_they_are_missing_or_could_not_stand_in_a_log(server: Server) -> None:
    made = [server.http.get("/healthz", headers=headers).headers["x-request-id"] for headers in ({}, {}, {"x-request-id": "a b"},
            {"x-request-id": "x" * 129}, {"x-request-id": ""}, {"x-request-id": "<script>"})]  # fmt: skip
    assert len(set(made)) == len(made)
    assert all(one.replace("-", "").isalnum() for one in made)


def test_the_api_is_neither_framed_nor_kept_in_caches(server: Server) -> None:
    for path in ("/api/workflows", "/api/nothing", "/docs", "/redoc"):
        answer = server.http.get(path)
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert server.http.get("/api/workflows").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_may_load_what_they_name(server: Server, page: str) -> None:
    answer = server.http.get(page)
    policy = answer.headers["content-security-policy"]
    hosts = set(re.findall(r"(?:src|href)=\"(https://[^/\"]+)", answer.text))
    assert hosts
    for host in hosts:
        assert host in policy
    assert "'unsafe-inline'" in policy


def test_a_workflows_own_headers_win(open_server: Server) -> None:
    node = {"id": "r", "node_type": "Respond", "params": {"headers": {"X-Content-Type-Options": "mine", "X-Request-Id": "own"}}}
    open_server.save(chain("headers", hook(), node))
    answer = open_server.http.get("/webhook/headers")
    assert answer.headers.get_list("x-content-type-options") == ["mine"]
    assert answer.headers.get_list("x-request-id") == ["own"]


# -- limits


def test_a_path_and_headers_have_limits(server: Server) -> None:
    problem(server.http.get("/webhook/" + "x" * 9000), 414)
    problem(server.http.get("/api/" + "x" * 9000), 414)
    problem(server.http.get("/healthy", headers={f"x-{number}": "1" for number in range(600)}), 431)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /webhook/echo HT",
        b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123",
        b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n",
        b"POST /api/workflows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\nContent-Length: 10\r\n\r\n123",
    ],
)
def test_a_request_that_does_not_arrive_is_given_up(open_server: Server, begun: bytes) -> None:
    with open_server.connect() as connection:
        began = time.monotonic()
        connection.sendall(begun)
        assert read_answer(connection).status == 408
        assert connection.recv(1) == b""
        assert time.monotonic() - began >= 1


def test_a_body_that_comes_drop_by_drop_is_given_up_too(open_server: Server) -> None:
    with open_server.connect() as connection:
        connection.settimeout(0.1)
        connection.sendall(b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        said, end = b"", time.monotonic() + 30
        while not said and time.monotonic() < end:
            connection.sendall(b" ")
            try:
                said = connection.recv(1000)
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408")


def test_a_connection_that_waits_between_requests_is_not_a_slow_one(open_server: Server) -> None:
    with open_server.connect() as connection:
        for _ in range(2):
            connection.sendall(b"POST /webhook/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
            assert read_answer(connection).status == 200
            time.sleep(1.6)  # longer than a request may take to arrive


# -- failed attempts


def test_guesses_at_the_token_are_slowed_and_the_right_one_is_not(data: Path) -> None:
    with Server(data, api_token="right", auth_delay=0.3, trusted_proxies="127.0.0.1") as server:
        wrong = {"authorization": "Bearer wrong", "x-forwarded-for": "198.51.100.1, 192.0.2.1"}
        for _ in range(6):
            problem(server.http.get("/api/workflows", headers=wrong), 401)
        began = time.monotonic()
        problem(server.http.get("/api/workflows", headers=wrong), 401)
        assert time.monotonic() - began >= 0.2
        assert server.http.get("/api/workflows", headers=wrong | {"authorization": "Bearer right"}).status_code == 200
        assert "refused: token_wrong; source 192.0.2.1, target GET /api/workflows" in server.err
        assert "wrong\n" not in server.err.replace("token_wrong", "")


def test_a_caller_cannot_say_that_it_is_somebody_else(data: Path) -> None:
    with Server(data, api_token="right", auth_delay=0.01) as server:
        for number in range(8):
            said = {"authorization": "Bearer wrong", "x-forwarded-for": f"192.0.2.{number}", "x-forwarded-proto": "https"}
            problem(server.http.get("/api/workflows", headers=said), 401)
        assert server.err.count("source 127.0.0.1, target GET /api/workflows") == 8
        assert "192.0.2." not in server.err
