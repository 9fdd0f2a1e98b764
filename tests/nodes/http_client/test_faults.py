"""HTTPClient: what goes wrong, and what is refused when it is saved."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.errors import Invalid
from mechaway_core.record import Run
from tests.conftest import MakeApp
from tests.nodes.bench import Bench
from tests.nodes.http_client.calls import http, one
from tests.told import told
from tests.web_server import Reply, Seen, WebServer, as_json

# -- what goes wrong


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/drop", "closed before an answer came"),
        ("/half", "closed in the middle of the answer"),
        ("/nonsense", "is not HTTP"),
        ("/huge-head", "headers of the answer are too long"),
    ],
)
def test_a_server_that_breaks_off_or_talks_nonsense_is_an_error_with_its_address(
    bench: Bench, web: WebServer, path: str, sentence: str
) -> None:
    run = bench.run(http(url=f"{web.url}{path}?key=hush"))
    assert run.failure is not None
    assert run.failure.kind == "http"
    assert f"GET {web.url}{path}: " in run.failure.message
    assert sentence in run.failure.message
    assert "hush" not in run.failure.message


@pytest.mark.parametrize("path", ["/silent", "/drip", "/drip-head"])
def test_a_server_that_is_slow_does_not_outlive_the_timeout(bench: Bench, web: WebServer, path: str) -> None:
    began = time.monotonic()
    run = bench.run(http(url=web.url + path, timeout=0.3))
    assert time.monotonic() - began < 5
    assert run.failure is not None
    assert run.failure.kind == "timeout"
    assert "no whole answer within 0.3 s" in run.failure.message


def test_the_timeout_of_the_attempt_cuts_it_too(bench: Bench, web: WebServer) -> None:
    run = bench.run(http(url=web.url + "/silent", about={"timeout": 0.2, "retry": {"attempts": 2, "delay": 0, "on": ["timeout"]}}))
    assert run.failure is not None
    assert run.failure.kind == "timeout"
    assert len(web.seen) == 2


def test_a_port_where_nobody_listens_is_an_error(bench: Bench) -> None:
    assert "GET http://127.0.0.1:9/x: cannot connect: Connection refused" in bench.fails(http(url="http://127.0.0.1:9/x"))


def test_a_host_that_is_not_there_is_an_error(bench: Bench) -> None:
    assert 'the host "nowhere.invalid" cannot be found' in bench.fails(http(url="http://nowhere.invalid/x"))


@pytest.mark.parametrize(
    "url",
    ["", "no url", "file:///etc/passwd", "http://", "http://a b/", "http://[::1", "http://x:99999/", "http://\x00/", 5],
)
def test_a_url_that_is_none_at_run_time_is_an_error(bench: Bench, url: Any) -> None:
    sentence = bench.fails(http(url="{{ $json.url }}"), items=[{"url": url}])
    assert "is not a URL" in sentence or "is not a text" in sentence or "not valid" in sentence


@pytest.mark.parametrize("host", ["xn--", "XN--A", "xn--zzzzzzz99999"])
def test_a_host_that_only_looks_like_a_name_in_punycode_is_an_error_wherever_it_comes_from(bench: Bench, web: WebServer, host: str) -> None:
    assert "is not a URL" in bench.fails(http(url="{{ $json.url }}"), items=[{"url": f"http://{host}/"}])
    assert "leads to a URL without a host" in bench.fails(http(url=f"{web.url}/redirect?to=http://{host}/"))
    leads = web.on("/leads", as_json({"next": f"http://{host}/"}))
    assert "leads to a URL without a host" in bench.fails(http(url=leads, pagination={"kind": "body", "next": "$json.next"}))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "日本"])
def test_header_values_cannot_smuggle(bench: Bench, web: WebServer, value: str) -> None:
    assert 'the value of the header "X-A"' in bench.fails(
        http(url=web.url + "/echo", headers={"X-A": "{{ $json.v }}"}), items=[{"v": value}]
    )
    assert web.seen == []


def test_line_breaks_in_a_url_do_not_reach_the_wire(bench: Bench, web: WebServer) -> None:
    evil = "/echo HTTP/1.1\r\nX-Evil: 1\r\n\r\n"
    sentence = bench.fails(http(url=web.url + "{{ $json.path }}"), items=[{"path": evil}])
    assert "is not a URL" in sentence
    assert web.seen == []


def test_items_that_fail_leave_by_their_exit_and_others_go_on(bench: Bench, web: WebServer) -> None:
    run: Run = bench.run(
        http(url=web.url + "/status/{{ $json.s }}", about={"on_error": "continue"}), items=[{"s": 200}, {"s": 500}, {"s": 204}]
    )
    assert [item.get("status") for item in run.output] == [200, None, 204]
    assert run.output[1]["error"]["status"] == 500
    assert run.output[1]["error"]["type"] == "http"


# Mostly answers that an HTTP parser lets through, so that what comes behind it gets its share of nonsense.
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)
ODD_HEADERS = {
    b"Content-Type": [
        b"application/json",
        b"text/plain; charset=utf-16",
        b"image/png",
        b"text/html; charset=\xff",
        b"",
        b";;",
        b"a/b;charset",
    ],
    b"Content-Encoding": [b"gzip", b"br, gzip", b"deflate", b"identity", b"a,b,c"],
    b"Location": [b"/y", b"//", b"http://[", b"?", b"x:y"],
    b"Link": [b"<x>; rel=next", b"<>; rel=next", b"<http://[>; rel=next", b"<<"],
    b"Set-Cookie": [b"a=b; Path=/", b"=", b"a=b; Domain=.; Expires=never"],
    b"Content-Disposition": [b'a; filename="../x"', b"a; filename*=utf-8''%ff", b"a; filename*='"],
    b"Retry-After": [b"1", b"Mon, 99 Jan 2030 00:00:00 GMT", b"-1"],
}
HEADS = st.lists(
    st.sampled_from(sorted(ODD_HEADERS)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(ODD_HEADERS[name]) | PRINTABLE)),
    max_size=5,
)
FRAMES = [b"X-Y: 1", b"X-Y: 1", b"Content-Length: 5", b"Content-Length: -1", b"Transfer-Encoding: chunked", b"bad name: 1"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    status=st.sampled_from(
        [b"200 OK", b"200 OK", b"302 F", b"404", b"500 \xff", b"204 No", b"205 R", b"304 N", b"101 Up", b"100 C", b"20 x"]
    ),
    frame=st.sampled_from(FRAMES),
    heads=HEADS,
    body=st.binary(max_size=100) | st.sampled_from([b'{"a": 1}', b"5\r\nhello\r\n0\r\n\r\n", b'{"a": NaN}', b'"\\ud800"', b"[" * 500]),
    response=st.sampled_from(["auto", "json", "text", "file"]),
    strict=st.booleans(),
)
def test_whatever_a_server_says_is_an_item_or_an_error(
    bench: Bench, web: WebServer, status: bytes, frame: bytes, heads: list[tuple[bytes, bytes]], body: bytes, response: str, strict: bool
) -> None:
    lines = [b"HTTP/1.1 " + status, frame, *[name + b": " + value for name, value in heads]]
    url = web.on("/x", lambda seen: [b"\r\n".join(lines) + b"\r\n\r\n" + body])
    pagination = {"pagination": {"kind": "link", "max_pages": 2}} if strict else {}
    run = bench.run(http(url=url, response=response, fail_on_status=strict, max_redirects=2, timeout=5, **pagination))
    assert run.failure is None or run.failure.kind in ("http", "error"), run.failure
    assert told(run, 10)


# -- what is refused when it is saved


@pytest.mark.parametrize(
    ("params", "pointer", "sentence"),
    [
        ({"url": "ftp://x/"}, "/url", "http:// or https://"),
        ({"url": "ftp://{{ $json.x }}"}, "/url", "http:// or https://"),
        ({"url": "http://"}, "/url", "needs a host"),
        ({"url": "http://x:99999"}, "/url", "needs a host"),
        ({"url": "http://a b/"}, "/url", "no spaces"),
        ({"url": "http://x", "method": "BREW"}, "/method", "must be one of"),
        ({"url": "http://x", "headers": {"a b": "1"}}, "/headers", "cannot be the name of a header"),
        ({"url": "http://x", "headers": {"Host": "evil"}}, "/headers", "client's own"),
        ({"url": "http://x", "body_type": "form", "body": [1]}, "/body", "object of fields"),
        ({"url": "http://x", "auth": {"kind": "bearer", "token": "hunter2"}}, "/auth/token", "$secret.NAME"),
        ({"url": "http://x", "auth": {"kind": "basic", "username": "u", "password": "p"}}, "/auth/password", "$secret.NAME"),
        ({"url": "http://x", "auth": {"kind": "digest"}}, "/auth", "kind is one of"),
        ({"url": "http://x", "auth": {"kind": "header", "name": "a b", "value": "$secret.X"}}, "/auth/name", "name of a header"),
        ({"url": "http://x", "pagination": {"kind": "body", "next": "now()"}}, "/pagination/next", "not a path"),
        ({"url": "http://x", "pagination": {"kind": "body", "next": "$query.x"}}, "/pagination/next", "not a path"),
        ({"url": "http://x", "pagination": {"kind": "link", "items": "$jsn"}}, "/pagination/items", "not known"),
        ({"url": "http://x", "pagination": {"kind": "link", "max_pages": 0}}, "/pagination/max_pages", "at least 1"),
        ({"url": "http://x", "surprise": 1}, "/surprise", "not a known field"),
    ],
)
def test_params_that_cannot_work_are_refused(bench: Bench, params: dict[str, Any], pointer: str, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        bench.put(http(**params))
    found = {problem.pointer: problem.message for problem in refused.value.problems}
    assert sentence in found["/nodes/1/params" + pointer]
    assert "hunter2" not in str(refused.value)


def test_stopping_ends_calls_that_wait(make_app: MakeApp, web: WebServer) -> None:
    asked = threading.Event()

    def never(seen: Seen) -> Iterator[bytes]:
        asked.set()
        return web.silent(seen)

    app = make_app(lua_workers=1)
    bench = Bench(app, "default", None)  # type: ignore[arg-type]
    bench.put(http(url=web.on("/never", never), about={"retry": {"attempts": 5, "delay": 0}}))
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(app.start("default", "w")))
    thread.start()
    assert asked.wait(10)
    app.close()
    thread.join(10)
    assert not thread.is_alive()
    assert runs[0].failure is not None
    assert "stopping" in runs[0].failure.message


def test_a_cookie_is_for_the_port_that_set_it(bench: Bench, web: WebServer) -> None:
    with WebServer() as other:
        web.on("/sets", Reply(b"", 302, {"location": other.url + "/echo", "set-cookie": "session=1; Path=/"}))
        assert "cookie" not in one(bench, url=web.url + "/sets")["data"]["headers"]


def test_a_redirect_with_a_body_that_never_ends_is_followed_at_once(bench: Bench, web: WebServer) -> None:
    def slow(seen: Seen) -> Iterator[bytes]:
        yield b"HTTP/1.1 302 Found\r\nlocation: /echo\r\n\r\n"
        yield from web.silent(seen)

    assert one(bench, url=web.on("/slow-redirect", slow), timeout=20)["status"] == 200
