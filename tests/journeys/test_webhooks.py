"""Webhooks: what callers send, and what they get."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.journeys.server import PATIENCE, Caller, Server, alive, chain, echo, hook, lua, problem, read_answer

REQUEST = "return {query = query, path = path, headers = headers, body = item}"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("webhooks") / "data", max_body_mb=1) as made:
        prepare(made)
        yield made


def prepare(server: Caller) -> None:
    """The workflows that most of these tests call."""
    server.save(echo("echo"))
    server.save(chain("mirror", hook("/"), lua("work", REQUEST)))
    server.save(chain("named", hook("/a/:one/b/:two"), lua("work", "return path")))


def respond(workflow_id: str, **params: Any) -> dict[str, Any]:
    return chain(workflow_id, hook(), {"id": "out", "node_type": "Respond", "params": params})


# -- addresses


def test_a_webhook_for_any_method_answers_each(server: Server) -> None:
    for method in METHODS:
        answer = server.http.request(method, "/webhook/echo", json={"method": method})
        assert answer.status_code == 200
        assert answer.headers["mechaway-run-id"]
        assert answer.content == (b"" if method == "HEAD" else json.dumps({"method": method}, separators=(",", ":")).encode())


def test_a_webhook_answers_only_its_methods_and_names_them(server: Server) -> None:
    nodes = [
        {"id": "read", "node_type": "Webhook", "params": {"path": "/x", "method": ["get", "HEAD"]}},
        {"id": "write", "node_type": "Webhook", "params": {"path": "/x", "method": "PUT"}},
        {"id": "post", "node_type": "Webhook", "params": {"path": "/post"}},
    ]
    server.save({"id": "methods", "nodes": nodes})
    assert server.http.get("/webhook/methods/x").status_code == 200
    assert server.http.head("/webhook/methods/x").status_code == 200
    assert server.http.put("/webhook/methods/x").status_code == 200
    refused = server.http.delete("/webhook/methods/x")
    problem(refused, 405)
    assert {method.strip() for method in refused.headers["allow"].split(",")} == {"GET", "HEAD", "PUT"}
    assert server.http.post("/webhook/methods/post").status_code == 200
    refused = server.http.get("/webhook/methods/post")
    problem(refused, 405)
    assert refused.headers["allow"] == "POST"
    problem(server.raw(b"PROPFIND /webhook/methods/x HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405)


def test_what_has_no_webhook_is_404(server: Server) -> None:
    for path in (
        "/webhook",
        "/webhook/",
        "/webhook//",
        "/webhook/none",
        "/webhook/none/x",
        "/webhook/echo/x",
        "/webhook/echo//",
        "/webhook//echo",
        "/webhook/ECHO",
        "/webhook/echo%00",
        "/webhook/%2e%2e/echo",
        "/webhook/echo%2Fx",
        "/p",
        "/p/",
        "/p/none/webhook/echo",
    ):
        problem(server.http.post(path), 404)
    problem(server.raw(b"POST /webhook/../webhook/echo HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404)


def test_the_asterisk_of_options_is_no_failure_of_the_server(server: Server) -> None:
    answer = server.raw(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status < 500, answer.body
    assert "traceback" not in server.err.lower()


def test_whole_addresses_in_the_request_line_work(server: Server) -> None:
    """RFC 9112, section 3.2.2: a server accepts them."""
    assert server.raw(b"GET http://somewhere/webhook/echo?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200


@pytest.mark.parametrize(
    ("one", "two"),
    [("x", "y"), ("a/b", "c?d"), ("ünï ☃", "🎉"), ("%", "%2F"), ("..", "."), ("+", " "), (":one", "b"), ("\0", "\n"), ("x" * 2000, "y")],
)
def test_named_parts_are_decoded_once(server: Server, one: str, two: str) -> None:
    encoded = f"/webhook/named/a/{quote(one, safe='')}/b/{quote(two, safe='')}".replace("/./", "/%2E/").replace("/../", "/%2E%2E/")
    encoded = encoded if not encoded.endswith("/.") else encoded[:-1] + "%2E"
    answer = server.raw(f"GET {encoded} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (answer.status, answer.json()) == (200, {"one": one, "two": two})


def test_a_named_part_is_never_empty_and_never_several(server: Server) -> None:
    for path in ("/a//b/y", "/a/x/b/", "/a/x/b", "/a/x/y/b/z"):
        problem(server.raw(f"GET /webhook/named{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()), 404)


def test_fixed_parts_go_before_named_ones_whatever_their_order_in_the_document(server: Server) -> None:
    paths = ["/:any", "/fixed", "/:any/x", "/fixed/:any"]
    nodes = [{"id": f"n{number}", "node_type": "Webhook", "params": {"path": path, "method": "GET"}} for number, path in enumerate(paths)]
    tags = [lua(f"l{number}", f"return {json.dumps(path)}") for number, path in enumerate(paths)]
    edges = [{"from": f"n{number}", "to": f"l{number}"} for number in range(len(paths))]
    server.save({"id": "static", "nodes": nodes + tags, "edges": edges})
    found = {path: server.http.get(f"/webhook/static{path}").json() for path in ("/fixed", "/other", "/fixed/x", "/other/x", "/fixed/y")}
    assert found == {"/fixed": "/fixed", "/other": "/:any", "/fixed/x": "/fixed/:any", "/other/x": "/:any/x", "/fixed/y": "/fixed/:any"}


def test_a_switched_off_trigger_or_workflow_is_404(server: Server) -> None:
    server.save(echo("inactive") | {"active": False})
    problem(server.http.post("/webhook/inactive"), 404)
    document = echo("disabled")
    document["nodes"][0]["disabled"] = True
    server.save(document)
    problem(server.http.post("/webhook/disabled"), 404)


# -- what comes with a request


def test_query_fields_come_as_text_and_repeated_ones_as_lists(server: Server) -> None:
    answer = server.http.get("/webhook/mirror?a=1&b=x&b=y&b=z&c=&d&%C3%A4=%E2%98%83&e=a+b%2Bc&f[]=1")
    assert answer.json()["query"] == {"a": "1", "b": ["x", "y", "z"], "c": "", "d": "", "ä": "☃", "e": "a b+c", "f[]": "1"}


def test_headers_come_in_lower_case_and_repeated_ones_joined(server: Server) -> None:
    answer = server.raw(
        b"GET /webhook/mirror HTTP/1.1\r\nHost: localhost\r\nX-One: a\r\nx-one: b\r\nCookie: a=1\r\nCookie: b=2\r\nX-Empty:\r\n\r\n"
    )
    headers = answer.json()["headers"]
    assert (headers["x-one"], headers["cookie"], headers["x-empty"], headers["host"]) == ("a, b", "a=1; b=2", "", "localhost")


def test_a_query_that_is_no_text_is_400(server: Server) -> None:
    problem(server.http.get("/webhook/mirror?a=%FF"), 400)
    problem(server.http.get("/webhook/mirror?%ED%A0%80=1"), 400)
    many = "&".join("a" * 10_001)
    problem(server.raw(f"GET /webhook/mirror?{many} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()), 400)


def test_a_long_query_and_many_headers_are_answered(server: Server) -> None:
    answer = server.http.get("/webhook/mirror", params={"long": "x" * 50_000}, headers={f"x-{n}": "y" * 100 for n in range(300)})
    assert answer.status_code == 200
    assert len(answer.json()["query"]["long"]) == 50_000
    assert answer.json()["headers"]["x-299"] == "y" * 100


def test_headers_without_end_are_refused_before_they_fill_the_memory(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /webhook/mirror HTTP/1.1\r\nHost: localhost\r\n")
        sent, line = 0, b"X-Long: " + b"y" * 60_000 + b"\r\n"
        try:
            while sent < 16_000_000:
                connection.sendall(line)
                sent += len(line)
            connection.sendall(b"\r\n")
            status = read_answer(connection).status
        except (BrokenPipeError, ConnectionResetError):
            status = 0
    assert status in (0, 400, 413, 431), f"{sent / 1e6:.0f} MB of headers were taken and answered {status}"
    assert server.http.get("/healthz").status_code == 200


# -- bodies


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": None},
        [None],
        None,
        True,
        0,
        -1.5,
        "text",
        "",
        [[]],
        {"": 1},
        "\0",
        2**63 - 1,
        -(2**63),
        {"a": {"b": [1, {"c": []}]}},
        "ünï☃🎉",
    ],
)
def test_json_comes_back_as_it_was_sent(server: Server, value: object) -> None:
    answer = server.http.post("/webhook/echo", content=json.dumps(value), headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert json.dumps(answer.json(), sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json", "application/json ;x=y"]
)
def test_every_way_to_say_json_is_json(server: Server, kind: str) -> None:
    assert server.http.post("/webhook/echo", content=b'{"a": [1]}', headers={"content-type": kind}).json() == {"a": [1]}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a":}',
        b"nul",
        b" ",
        b"NaN",
        b"1e999",
        b"01",
        b"'a'",
        b'{"a":1}x',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"\0",
    ],
)
def test_a_body_that_is_not_the_json_it_says_is_400(server: Server, body: bytes) -> None:
    problem(server.http.post("/webhook/echo", content=body, headers={"content-type": "application/json"}), 400)


def test_a_hundred_levels_are_not_too_deep(server: Server) -> None:
    body = b"[" * 100 + b"]" * 100
    answer = server.http.post("/webhook/echo", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.content) == (200, body)
    record = server.http.post("/api/workflows/echo/run", content=b'{"items":' + b"[" * 99 + b"]" * 99 + b"}")
    assert (record.status_code, record.json()["status"]) == (200, "succeeded")


def test_an_empty_body_is_an_empty_object_whatever_it_says_it_is(server: Server) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert server.http.post("/webhook/echo", headers={"content-type": kind}).json() == {}


def test_forms_come_as_fields(server: Server) -> None:
    answer = server.http.post("/webhook/echo", data={"name": "Änne & co", "tag": ["a", "b"], "none": ""})
    assert answer.json() == {"name": "Änne & co", "tag": ["a", "b"], "none": ""}
    kind = {"content-type": "application/x-www-form-urlencoded"}
    problem(server.http.post("/webhook/echo", content=b"a=%FF", headers=kind), 400)
    problem(server.http.post("/webhook/echo", content=b"a=\xff", headers=kind), 400)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain", "häl☃".encode(), "häl☃"),
        ("text/plain; charset=iso-8859-1", b"h\xe4l", "häl"),
        ('text/csv; header=present; charset="UTF-16"', "ä,b".encode("utf-16"), "ä,b"),
        ("application/xml", b"<a/>", "<a/>"),
        ("application/octet-stream", b"abc", "abc"),
    ],
)
def test_text_comes_as_body(server: Server, kind: str, body: bytes, text: str) -> None:
    assert server.http.post("/webhook/echo", content=body, headers={"content-type": kind}).json() == {"body": text}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"\xff\xfe\xfd"),
        ("text/plain; charset=nonsense", b"x"),
        ("text/plain; charset=utf-7", b"+2AA-"),
        ("text/plain; charset=utf-16", b"\x00\xd8"),
        ("text/plain; charset=base64", b"eA=="),
        ("text/plain; charset=rot13", b"x"),
        ("text/plain; charset=idna", b"xn--a"),
        ("text/plain; charset=unicode_escape", b"\\ud800"),
        ("text/plain; charset=zlib_codec", b"x"),
        ("text/plain; charset=undefined", b"x"),
        ("text/plain; charset=../../x", b"x"),
        ("text/plain; charset=punycode", b"\xff"),
    ],
)
def test_text_that_is_not_in_its_charset_is_400(server: Server, kind: str, body: bytes) -> None:
    problem(server.http.post("/webhook/echo", content=body, headers={"content-type": kind}), 400)


def test_without_a_content_type_json_is_json_and_anything_else_text(server: Server) -> None:
    for body, item in ((b'{"a":1}', {"a": 1}), (b"hello", {"body": "hello"})):
        request = b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        assert server.raw(request).json() == item


def test_fields_of_a_multipart_form_come_as_the_item(server: Server) -> None:
    assert server.http.post("/webhook/echo", data={"a": "1"}, files={"file": b"x"}).json() == {"a": "1"}


# -- too much


def test_a_body_over_the_limit_is_413_by_its_announced_length_before_it_is_sent(server: Server) -> None:
    for path in ("/webhook/echo", "/api/workflows", "/api/validate"):
        with server.connect() as connection:
            connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001\r\n\r\n" % path.encode())
            problem(read_answer(connection), 413)


def test_an_expectation_of_too_much_is_refused_instead_of_continued(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000001\r\n\r\n")
        problem(read_answer(connection), 413)


def test_a_body_over_the_limit_is_413_when_it_comes_in_chunks(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(12):
            connection.sendall(b"186a0\r\n" + b"1" * 100_000 + b"\r\n")
        problem(read_answer(connection), 413)


def test_a_body_of_exactly_the_limit_is_taken(server: Server) -> None:
    body = b'"' + b"x" * 999_998 + b'"'
    answer = server.http.post("/webhook/echo", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, len(answer.content)) == (200, 1_000_000)
    problem(server.http.post("/webhook/echo", content=body + b" "), 413)


def test_a_body_in_chunks_is_put_together(server: Server) -> None:
    answer = server.raw(
        b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'3\r\n{"a\r\n1\r\n"\r\n3\r\n:1}\r\n0\r\n\r\n'
    )
    assert answer.json() == {"a": 1}


# -- half a request


def test_a_caller_that_goes_away_before_its_body_is_here_starts_no_run(server: Server) -> None:
    server.save(chain("half", hook(), {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "half", "columns": ["a"]}}))
    head = b"POST /webhook/half HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for rest in (
        b"Content-Length: 9\r\n\r\n",
        b'Content-Length: 9\r\n\r\n{"a"',
        b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"a": 1}\n\r\n',
    ):
        with server.connect() as connection:
            connection.sendall(head + rest)
            connection.shutdown(socket.SHUT_RDWR)
    server.http.post("/webhook/half", json={"a": "whole"}).raise_for_status()
    rows = server.http.get("/api/tables/half/rows").json()["rows"]
    assert [row["a"] for row in rows] == ["whole"]


def test_an_offer_to_upgrade_never_loses_the_body(server: Server) -> None:
    """Java's HttpClient offers h2c with every request by default; RFC 9110, section 7.8, lets a server ignore that."""
    answer = server.raw(
        b"POST /webhook/echo HTTP/1.1\r\nHost: [::1]\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    )
    assert (answer.status, answer.json()) == (200, {"a": 1})


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_an_offer_to_upgrade_never_loses_the_body_however_it_arrives(server: Server, name: bytes, pieces: int) -> None:
    request = (
        b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n%s: h2c\r\n"
        b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    ) % (name, name)
    cuts = [request.index(b": h2c") - 3] if pieces == 2 else list(range(1, len(request))) if pieces > 2 else []
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin, end in pairwise([0, *cuts, len(request)]):
            connection.sendall(request[begin:end])
            server.http.get("/healthz")  # by then the piece was read
        answer = read_answer(connection)
    assert (answer.status, answer.json()) == (200, {"a": 1})


def test_large_requests_one_after_another_without_a_pause_are_all_answered(server: Server) -> None:
    """What belongs to the body before must not count as the head of the next request."""
    head = b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n"
    one = head + b'"' + b"x" * 199_998 + b'"'
    with server.connect() as connection, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.sendall, one * 20)
        data = b""
        while data.count(b"HTTP/1.1 200 OK") < 20 and (piece := connection.recv(1 << 20)):
            data += piece
        sending.result()
    assert data.count(b"HTTP/1.1 200 OK") == 20, data[-300:]


def test_requests_one_after_another_on_one_connection_are_answered_in_order(server: Server) -> None:
    with server.connect() as connection:
        for number in range(5):
            body = b'{"n":%d}' % number
            connection.sendall(
                b"POST /webhook/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
        data = b""
        while data.count(b'{"n":') < 5:
            piece = connection.recv(65536)
            assert piece
            data += piece
    assert [int(part[:1]) for part in data.split(b'{"n":')[1:]] == [0, 1, 2, 3, 4]


# -- answers


def test_respond_chooses_what_of_the_output_is_the_answer(server: Server) -> None:
    script = "return {1, {a = 2}, 'three'}"
    for how, text in (("first_item", b"1"), ("all_items", b'[1,{"a":2},"three"]'), ("nothing", b"")):
        server.save(echo(f"how-{how}", script, respond=how))
        answer = server.http.post(f"/webhook/how-{how}")
        assert (answer.status_code, answer.content) == (204 if how == "nothing" else 200, text)
        assert answer.headers["mechaway-run-id"]
    server.save(echo("none", "return array{}"))
    assert server.http.post("/webhook/none").json() is None
    server.save(echo("none-at-all", "return array{}", respond="all_items"))
    assert server.http.post("/webhook/none-at-all").json() == []


def test_a_respond_node_says_status_headers_and_body(server: Server) -> None:
    server.save(
        respond(
            "say",
            status="{{ $json.status }}",
            headers={"X-Name": "{{ $json.name }}!", "content-type": "application/vnd.x+json"},
            body={"got": "{{ $json }}"},
        )
    )
    answer = server.http.post("/webhook/say", json={"status": 201, "name": "ann"})
    assert answer.status_code == 201
    assert answer.headers["x-name"] == "ann!"
    assert answer.headers["content-type"] == "application/vnd.x+json"
    assert answer.json() == {"got": {"status": 201, "name": "ann"}}


def test_a_respond_node_sends_text_as_it_is(server: Server) -> None:
    server.save(respond("text", body="Hello {{ $json.name }}"))
    answer = server.http.post("/webhook/text", json={"name": "Änne"})
    assert (answer.text, answer.headers["content-type"]) == ("Hello Änne", "text/plain; charset=utf-8")
    server.save(respond("html", body="<p>x</p>", headers={"Content-Type": "text/html"}))
    assert server.http.post("/webhook/html").headers["content-type"] == "text/html"
    server.save(respond("null", body=None))
    assert server.http.post("/webhook/null").text == "null"


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none(server: Server, status: int) -> None:
    server.save(respond(f"empty{status}", status=status, body="not sent"))
    answer = server.http.post(f"/webhook/empty{status}")
    assert (answer.status_code, answer.content) == (status, b"")
    assert server.http.get("/healthz").text == "ok"


@pytest.mark.parametrize(
    "item", [{"s": 99}, {"s": 199}, {"s": 600}, {"s": "x"}, {"s": None}, {"s": True}, {"s": 200.5}, {"s": 10**30}, {"s": "²"}, {"s": [200]}]
)
def test_a_status_that_is_none_fails_the_node(server: Server, item: dict[str, Any]) -> None:
    server.save(respond("status", status="{{ $json.s }}", body="x"))
    assert problem(server.http.post("/webhook/status", json=item), 422)["node_id"] == "out"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x=1", "a\nb", "a\0b", "☃", "\x7f", "\u2028"])
def test_a_header_cannot_be_split(server: Server, value: str) -> None:
    server.save(respond("header", headers={"x-in": "{{ $json.v }}"}))
    answer = server.http.post("/webhook/header", json={"v": value})
    problem(answer, 422)
    assert "set-cookie" not in answer.headers


def test_the_servers_own_headers_cannot_be_set(server: Server) -> None:
    for name in ("Content-Length", "transfer-encoding", "Connection", "bad name", "", "x:y", "☃"):
        problem(server.http.post("/api/workflows", json=respond("own", headers={name: "1"})), 422)


# -- runs that fail


def test_a_failed_node_is_422_and_names_itself_and_its_run(server: Server) -> None:
    server.save(echo("fails", "local x = nil\nreturn x.y"))
    answer = server.http.post("/webhook/fails")
    told = problem(answer, 422)
    assert told["node_id"] == "work"
    assert told["run_id"] == answer.headers["mechaway-run-id"]
    assert "line 2" in told["detail"] or ":2:" in told["detail"]


def test_a_run_that_is_out_of_time_is_504(server: Server) -> None:
    server.save(echo("late", "while true do end") | {"settings": {"timeout": 0.3}})
    began = time.monotonic()
    told = problem(server.http.post("/webhook/late"), 504)
    assert time.monotonic() - began < 4
    assert told["run_id"]
    assert "0.3 s" in told["detail"]
    query = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    server.save(
        chain("late-sql", hook(), {"id": "q", "node_type": "SimpleTableQuery", "params": {"query": query}}, settings={"timeout": 0.3})
    )
    problem(server.http.post("/webhook/late-sql"), 504)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("return string.rep('x', 1e9)", "MB"),
        ("local t = {} for i = 1, 1e9 do t[i] = {} end", "MB"),
        ("return 0/0", ""),
        ("return print", ""),
        ("local t = {} t.t = t return t", ""),
        ("return io.open('/etc/passwd')", "io"),
        ("return os.execute('true')", "execute"),
        ("error({code = 5})", ""),
        ("error()", ""),
        ("return {1, x = 2}", ""),
        ("return ('x'):rep(100):find(('.-'):rep(40) .. 'y')", ""),
    ],
)
def test_a_script_that_goes_wrong_costs_its_own_run_only(server: Server, script: str, words: str) -> None:
    server.save(chain("wrong", hook(), lua("work", script) | {"params": {"script": script, "timeout": 1}}))
    told = problem(server.http.post("/webhook/wrong"), 422)
    assert words in told["detail"]
    assert server.http.post("/webhook/echo", json={"still": "here"}).json() == {"still": "here"}


def test_failures_inside_failures_never_fail_the_server(server: Server) -> None:
    """With `continue` each node wraps what it was given into its error; a long chain makes that deeper than JSON may be."""
    server.save(chain("nested", hook(), *[lua(f"n{number}", "error('no')", on_error="continue") for number in range(120)]))
    answer = server.http.post("/webhook/nested")
    assert answer.status_code in (200, 422), answer.text[:300]
    record = server.http.post("/api/workflows/nested/run")
    assert record.status_code == 200, record.text[:300]


def test_items_that_double_at_every_fork_do_not_take_the_server_down(data: Path) -> None:
    """Forty diamonds make 2^40 items of one."""
    nodes: list[dict[str, Any]] = [hook()]
    edges = []
    for level in range(40):
        above = nodes[-1]["id"]
        nodes += [{"id": f"{side}{level}", "node_type": "Respond", "params": {}} for side in "ab"]
        nodes.append({"id": f"m{level}", "node_type": "Respond", "params": {}})
        for side in "ab":
            edges += [{"from": above, "to": f"{side}{level}"}, {"from": f"{side}{level}", "to": f"m{level}"}]

    with Server(data, prepare=_little_memory) as small:
        small.save({"id": "double", "nodes": nodes, "edges": edges})
        small.save(echo("echo"))
        try:
            answer = small.http.post("/webhook/double", json={}, timeout=15)
            assert answer.status_code in (422, 503, 504), answer.text[:300]
            assert alive(small.process.pid)
            assert small.http.post("/webhook/echo", json={"a": 1}).json() == {"a": 1}
        finally:
            small.kill()


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))


def test_ids_of_runs_are_different_and_sort_by_time(server: Server) -> None:
    ids = [server.http.post("/webhook/echo").headers["mechaway-run-id"] for _ in range(50)]
    assert len(set(ids)) == 50
    assert ids == sorted(ids)


def test_many_callers_each_get_their_own_answer(server: Server) -> None:
    def call(number: int) -> Any:
        return server.http.post("/webhook/echo", json={"n": number}, timeout=PATIENCE).json()["n"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(400))) == list(range(400))
