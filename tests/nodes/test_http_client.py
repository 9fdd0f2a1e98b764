"""HTTPClient: requests, answers, failures, pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.errors import Invalid
from mechaway_core.record import Run
from tests.conftest import MakeApp
from tests.nodes.bench import Bench, Document, node
from tests.told import told
from tests.web_server import Reply, Seen, WebServer, as_json


@pytest.fixture(scope="module")
def shared() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def web(shared: WebServer) -> WebServer:
    """The server, with nothing on its list."""
    shared.seen.clear()
    shared.counts.clear()
    return shared


def http(**params: Any) -> Document:
    about = params.pop("about", None)
    return node("HTTPClient", inputs=params.pop("inputs", None), about=about, **params)


def one(bench: Bench, *, items: Any = None, **params: Any) -> Any:
    """What a single call gives."""
    [item] = bench.gives(http(**params), items=items)
    return item


# -- the request


def test_a_call_gives_status_headers_data_and_success(bench: Bench, web: WebServer) -> None:
    item = one(bench, url=web.url + "/echo?a=1")
    assert list(item) == ["status", "headers", "data", "success"]
    assert (item["status"], item["success"]) == (200, True)
    assert item["headers"]["content-type"] == "application/json"
    assert item["data"]["method"] == "GET"
    assert item["data"]["query"] == {"a": ["1"]}
    assert item["data"]["headers"]["host"] == f"127.0.0.1:{web.port}"
    assert item["data"]["headers"]["user-agent"].startswith("Mechaway/")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_is_sent(bench: Bench, web: WebServer, method: str) -> None:
    item = one(bench, url=web.url + "/echo", method=method)
    assert item["success"]
    assert [seen.method for seen in web.seen] == [method]
    assert (item["data"] is None) == (method == "HEAD")


def test_templates_stand_in_url_query_headers_and_body(bench: Bench, web: WebServer) -> None:
    said = one(
        bench,
        url=web.url + "/echo/{{ $json.id }}",
        method="PUT",
        query={"q": "{{ $json.text }}", "list": ["{{ $json.id }}", 2, None], "none": None, "flag": True},
        headers={"X-Text": "is {{ $json.id }}", "X-None": "-{{ $json.nothing }}-"},
        body={"whole": "{{ $json }}", "n": "{{ $json.id + 1 }}"},
        items=[{"id": 7, "text": "ä & b"}],
    )["data"]
    assert said["path"] == "/echo/7"
    assert said["query"] == {"q": ["ä & b"], "list": ["7", "2"], "flag": ["true"]}
    assert said["headers"]["x-text"] == "is 7"
    assert said["headers"]["x-none"] == "--"
    assert said["headers"]["content-type"] == "application/json"
    assert said["body"].encode("latin-1").decode() == '{"whole":{"id":7,"text":"ä & b"},"n":8}'


def test_a_header_whose_value_is_null_is_left_out(bench: Bench, web: WebServer) -> None:
    said = one(bench, url=web.url + "/echo", headers={"X-None": "{{ $json.nothing }}", "X-Some": "1"}, items=[{}])["data"]
    assert "x-none" not in said["headers"]
    assert said["headers"]["x-some"] == "1"


@pytest.mark.parametrize(
    ("value", "kind", "sent"),
    [
        ({"a": [1, None]}, "application/json", '{"a":[1,null]}'),
        ([1], "application/json", "[1]"),
        ("text ß", "text/plain; charset=utf-8", "text ß"),
    ],
)
def test_the_first_input_is_the_body(bench: Bench, web: WebServer, value: Any, kind: str, sent: str) -> None:
    said = one(bench, url=web.url + "/echo", method="POST", inputs=["$json.value"], items=[{"value": value}])["data"]
    assert said["headers"]["content-type"] == kind
    assert said["body"].encode("latin-1").decode() == sent


def test_a_get_does_not_send_its_input(bench: Bench, web: WebServer) -> None:
    said = one(bench, url=web.url + "/echo", inputs=["$json"], items=[{"a": 1}])["data"]
    assert said["body"] == ""


def test_a_form_is_sent_as_fields(bench: Bench, web: WebServer) -> None:
    said = one(bench, url=web.url + "/echo", method="POST", body_type="form", body={"a": "x y", "b": [1, 2], "c": None})["data"]
    assert said["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert said["body"] == "a=x+y&b=1&b=2"


def test_a_file_that_was_received_is_sent_on_byte_for_byte_alone_and_in_a_form(bench: Bench, web: WebServer) -> None:
    data = bytes(range(256)) * 10
    web.on("/picture.png", Reply(data, 200, {"content-type": "image/png"}))
    fetch = node("HTTPClient", id="fetch", url=web.url + "/picture.png")
    whole = node("HTTPClient", id="whole", url=web.url + "/echo", method="PUT", body_type="file", body="{{ $json.data }}")
    [answer] = bench.gives(fetch, whole)
    assert answer["data"]["body"].encode("latin-1") == data
    assert answer["data"]["headers"]["content-type"] == "image/png"
    form = {"file": "{{ $json.data }}", 'odd"\r\nname': "text", "many": [1, 2]}
    send = node("HTTPClient", id="form", url=web.url + "/echo", method="POST", body_type="multipart", body=form)
    [answer] = bench.gives(fetch, send)
    said = answer["data"]
    boundary = said["headers"]["content-type"].partition("boundary=")[2]
    parts = said["body"].encode("latin-1").split(b"--" + boundary.encode())
    assert [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]] == [data, b"text", b"1", b"2"]
    assert b'name="file"; filename="picture.png"\r\nContent-Type: image/png\r\n' in parts[1]
    assert b'name="odd%22%0D%0Aname"' in parts[2]
    assert said["headers"]["content-length"] == str(len(said["body"]))


def test_a_file_that_is_none_is_an_error(bench: Bench, web: WebServer) -> None:
    assert "handle" in bench.fails(http(url=web.url + "/echo", method="POST", body_type="file", body="{{ $json.x }}"), items=[{"x": 5}])
    gone = {"handle": "file:00000000-0000-0000-0000-000000000000/" + "0" * 32}
    sentence = bench.fails(http(url=web.url + "/echo", method="POST", body_type="file", body="{{ $json }}"), items=[gone])
    assert "there is no such file" in sentence
    assert web.seen == []


def test_connections_are_used_again(bench: Bench, web: WebServer) -> None:
    bench.gives(http(url=web.url + "/echo"), items=[{}] * 5)
    assert len(web.seen) == 5
    assert len({seen.peer for seen in web.seen}) == 1


def test_a_pooled_connection_that_died_is_replaced(bench: Bench, web: WebServer) -> None:
    """The server takes the request on the old connection and closes it without an answer."""
    peers: list[int] = []

    def once(seen: Seen) -> Any:
        peers.append(seen.peer)
        return as_json({"ok": True}) if len(peers) != 2 else []

    url = web.on("/once", once)
    assert [item["data"] for item in bench.gives(http(url=url), items=[{}, {}])] == [{"ok": True}] * 2
    assert len(peers) == 3
    assert peers[0] == peers[1] != peers[2]


def test_a_post_on_a_dead_connection_is_not_sent_twice(bench: Bench, web: WebServer) -> None:
    count: list[int] = []

    def once(seen: Seen) -> Any:
        count.append(1)
        return as_json({"ok": True}) if len(count) == 1 else []

    url = web.on("/post-once", once)
    assert "closed before an answer came" in bench.fails(http(url=url, method="POST", body={}), items=[{}, {}])
    assert len(count) == 2


# -- the answer


@pytest.mark.parametrize("names", ["gzip", "deflate", "br", "gzip,br", "identity"])
def test_encodings_are_undone(bench: Bench, web: WebServer, names: str) -> None:
    assert one(bench, url=f"{web.url}/encoded/{names}")["data"] == {"encoded": names, "long": "x" * 200_000}


def test_chunked_answers_are_put_together(bench: Bench, web: WebServer) -> None:
    assert one(bench, url=web.url + "/chunked")["data"] == {"chunked": True}


@pytest.mark.parametrize("names", ["gzip", "deflate", "br", "gzip,gzip", "br,gzip"])
def test_bombs_are_stopped(bench: Bench, web: WebServer, names: str) -> None:
    assert "larger than 10 MB (MECHAWAY_HTTP_MAX_MB)" in bench.fails(http(url=f"{web.url}/bomb/{names}"))


def test_more_encodings_over_each_other_than_anybody_needs_are_refused(bench: Bench, web: WebServer) -> None:
    assert "encoded 3 times over" in bench.fails(http(url=f"{web.url}/encoded/gzip,gzip,gzip"))


def test_an_endless_answer_is_stopped(bench: Bench, web: WebServer) -> None:
    assert "larger than 10 MB" in bench.fails(http(url=web.url + "/endless"))


def test_bytes_that_are_not_in_their_encoding_are_an_error(bench: Bench, web: WebServer) -> None:
    url = web.on("/lies", Reply(b"plain", 200, {"content-encoding": "gzip"}))
    assert "says it is encoded in gzip, but it is not" in bench.fails(http(url=url))
    url = web.on("/unknown", Reply(b"plain", 200, {"content-encoding": "zstd"}))
    assert '"zstd", which is not known' in bench.fails(http(url=url))


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/vnd.api+json; charset=utf-8", {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", {"a": 1}),
        ('{"a": "ä"}'.encode("utf-16"), "application/json; charset=utf-16", {"a": "ä"}),
        (b"", "application/json", None),
        (b'{"a": 1}', "text/plain", {"a": 1}),
        (b'["a"]', None, ["a"]),
        (b"{not json", "text/plain", "{not json"),
        (b"12", "text/plain", "12"),
        ("grüße".encode(), "text/html", "grüße"),
        ("grüße".encode("latin-1"), "text/html; charset=iso-8859-1", "grüße"),
        ("grüße".encode("cp1252"), "text/html", "grüße"),
        ("日本".encode("shift_jis"), 'text/plain; charset="Shift_JIS"', "日本"),
        ("grüße".encode(), "text/plain; charset=rot13", "grüße"),
        ("grüße".encode(), "text/plain; charset=idna", "grüße"),
        (b"ok \xff", "text/plain; charset=utf-8", "ok \ufffd"),
        (b"<a/>", "image/svg+xml", "<a/>"),
    ],
)
def test_text_is_read_by_its_charset_and_json_becomes_values(
    bench: Bench, web: WebServer, data: bytes, kind: str | None, expected: Any
) -> None:
    more = f"&type={quote(kind)}" if kind else ""
    assert one(bench, url=f"{web.url}/bytes?hex={data.hex()}{more}")["data"] == expected


@pytest.mark.parametrize(
    ("data", "kind"), [(b"\x89PNG\0", "image/png"), (b"a,b", "application/octet-stream"), (b"\xff\0", None), (b"", "font/x")]
)
def test_what_is_not_text_becomes_a_file(bench: Bench, web: WebServer, data: bytes, kind: str | None) -> None:
    more = f"&type={quote(kind)}" if kind else ""
    file = one(bench, url=f"{web.url}/bytes/some%20name.bin?hex={data.hex()}{more}")["data"]
    assert {"filename": file["filename"], "content_type": file["content_type"], "size": file["size"]} == {
        "filename": "some name.bin",
        "content_type": kind or "application/octet-stream",
        "size": len(data),
    }
    assert file["handle"].startswith("file:")


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ("attachment; filename=\"plain.pdf\"; filename*=UTF-8''gr%C3%BC%C3%9Fe.pdf", "grüße.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="..\\\\..\\\\evil.exe"', "evil.exe"),
        ('attachment; filename=".."', "get-it"),
        ("inline", "get-it"),
    ],
)
def test_a_file_has_the_name_that_the_server_says_without_its_folders(
    bench: Bench, web: WebServer, disposition: str, expected: str
) -> None:
    url = web.on("/get-it", Reply(b"x", 200, {"content-disposition": disposition, "content-type": "application/pdf"}))
    assert one(bench, url=url)["data"]["filename"] == expected


@pytest.mark.parametrize(
    ("path", "expected"), [("/a%20b.bin", "a b.bin"), ("/100%2525", "100%25"), ("/a%2F..%2Fb", "b"), ("/..%5C..", "download")]
)
def test_a_file_without_a_name_gets_that_of_its_path_decoded_once(bench: Bench, web: WebServer, path: str, expected: str) -> None:
    web.on(path, Reply(b"x", 200, {"content-type": "application/pdf"}))
    assert one(bench, url=web.url + path)["data"]["filename"] == expected


def test_response_chooses_what_the_data_becomes(bench: Bench, web: WebServer) -> None:
    url = web.on("/number", Reply(b"12", 200, {"content-type": "text/plain"}))
    assert one(bench, url=url, response="json")["data"] == 12
    assert one(bench, url=web.url + "/echo", response="text")["data"].startswith("{")
    assert one(bench, url=url, response="file")["data"]["size"] == 2
    broken = web.on("/broken", Reply(b"{oops", 200, {"content-type": "application/json"}))
    assert "not valid JSON: " in bench.fails(http(url=broken))
    assert one(bench, url=broken, response="text")["data"] == "{oops"


def test_several_cookies_are_a_list_and_other_headers_are_joined(bench: Bench, web: WebServer) -> None:
    url = web.on("/headers", Reply(b"", 200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "1"), ("x-a", "2")]))
    headers = one(bench, url=url)["headers"]
    assert headers["set-cookie"] == ["a=1", "b=2"]
    assert headers["x-a"] == "1, 2"


# -- statuses and retries


def test_a_status_that_is_not_2xx_fails_the_node_and_says_what_the_server_said(bench: Bench, web: WebServer) -> None:
    run = bench.run(http(url=web.url + "/status/404?key=hush"))
    assert run.failure is not None
    assert run.failure.message == f'node "HTTPClient": GET {web.url}/status/404 answered 404 Not Found: it is so'
    assert (run.failure.kind, run.failure.status) == ("http", 404)


def test_fail_on_status_lets_it_pass(bench: Bench, web: WebServer) -> None:
    item = one(bench, url=web.url + "/status/500", fail_on_status=False)
    assert (item["status"], item["success"], item["data"]) == (500, False, "it is so")


@pytest.mark.parametrize("on", [["5xx"], [503], ["http"], []])
def test_retry_can_name_statuses(bench: Bench, web: WebServer, on: list[Any]) -> None:
    retry = {"attempts": 3, "delay": 0, "on": on}
    assert one(bench, url=web.url + "/flaky/2", about={"retry": retry})["data"] == {"ok": True}
    assert len(web.seen) == 3


def test_a_status_that_retry_does_not_name_fails_at_once(bench: Bench, web: WebServer) -> None:
    bench.fails(http(url=web.url + "/flaky/2", about={"retry": {"attempts": 3, "delay": 0, "on": ["4xx", "timeout"]}}))
    assert len(web.seen) == 1


def test_retry_waits_as_long_as_the_server_asks_within_its_longest_pause(bench: Bench, web: WebServer) -> None:
    began = time.monotonic()
    one(bench, url=web.url + "/flaky/1?after=1", about={"retry": {"attempts": 2, "delay": 0}})
    assert time.monotonic() - began >= 1
    web.counts.clear()
    one(bench, url=web.url + "/flaky/1?after=3600", about={"retry": {"attempts": 2, "delay": 0, "max_delay": 0.01}})


# -- redirects


def test_redirects_are_followed(bench: Bench, web: WebServer) -> None:
    assert one(bench, url=f"{web.url}/redirect?to=/echo%3Fa=1")["data"]["query"] == {"a": ["1"]}


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (301, "PUT", "PUT", '{"a":1}'),
        (307, "POST", "POST", '{"a":1}'),
        (308, "PATCH", "PATCH", '{"a":1}'),
    ],
)
def test_a_redirect_changes_the_method_as_http_says(bench: Bench, web: WebServer, status: int, method: str, then: str, body: str) -> None:
    said = one(bench, url=f"{web.url}/redirect?status={status}&to=/echo", method=method, body={"a": 1})["data"]
    assert (said["method"], said["body"]) == (then, body)
    assert ("content-type" in said["headers"]) == bool(body)


def test_redirects_come_to_an_end(bench: Bench, web: WebServer) -> None:
    url = web.on("/round", Reply(b"", 302, {"location": "/round"}))
    assert "more than 3 redirects (max_redirects)" in bench.fails(http(url=url, max_redirects=3))
    assert len(web.seen) == 4


def test_a_redirect_that_is_not_to_be_followed_is_an_answer(bench: Bench, web: WebServer) -> None:
    item = one(bench, url=f"{web.url}/redirect?to=/echo", follow_redirects=False)
    assert (item["status"], item["success"], item["headers"]["location"]) == (302, False, "/echo")


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/", "javascript:alert(1)", "http://[::1", "http://127.0.0.1:99999/", "http://a b/"]
)
def test_redirects_to_odd_places_are_refused(bench: Bench, web: WebServer, to: str) -> None:
    assert "the answer leads to" in bench.fails(http(url=f"{web.url}/redirect?to={quote(to, safe='')}"))


def test_cookies_are_kept_for_one_item_and_its_redirects_only(bench: Bench, web: WebServer) -> None:
    url = web.on("/login", Reply(b"", 302, {"location": "/echo", "set-cookie": "session=1; Path=/"}))
    assert one(bench, url=url)["data"]["headers"]["cookie"] == "session=1"
    assert "cookie" not in one(bench, url=web.url + "/echo")["data"]["headers"]


# -- pages


def test_each_page_is_an_item(bench: Bench, web: WebServer) -> None:
    pages = bench.gives(http(url=web.url + "/pages/link", pagination={"kind": "link"}))
    assert [page["data"] for page in pages] == [[{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 4}], [{"n": 5}, {"n": 6}]]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("link", {"items": "$json"}),
        ("body", {"next": "$json.next", "items": "$json.items"}),
        ("page", {"param": "page", "items": "$json.items"}),
        ("page", {"param": "page", "start": 1, "size": 2, "size_param": "per_page", "items": "$json.items"}),
        ("cursor", {"param": "cursor", "next": "$json.meta.next", "items": "$json.items"}),
    ],
)
def test_items_of_all_pages_are_collected(bench: Bench, web: WebServer, kind: str, more: dict[str, Any]) -> None:
    items = bench.gives(http(url=f"{web.url}/pages/{kind}", query={"q": "x"}, pagination={"kind": kind, **more}))
    assert items == [{"n": n} for n in range(1, 7)]
    assert web.seen[0].query["q"] == ["x"]
    assert web.seen[0].query.get("per_page") == (["2"] if "size" in more else None)


def test_max_pages_stops_and_without_it_a_hundred_are_enough(bench: Bench, web: WebServer) -> None:
    endless = web.on("/endless-pages", lambda seen: as_json({"next": f"?n={len(web.seen)}"}))
    assert len(bench.gives(http(url=endless, pagination={"kind": "body", "next": "$json.next", "max_pages": 3}))) == 3
    assert "more than 100 pages" in bench.fails(http(url=endless, pagination={"kind": "body", "next": "$json.next"}))
    assert len(web.seen) == 103


def test_pages_that_lead_in_a_circle_are_an_error(bench: Bench, web: WebServer) -> None:
    url = web.on("/circle", lambda seen: as_json({"next": "/circle?a=1"}))
    assert "lead in a circle" in bench.fails(http(url=url, pagination={"kind": "body", "next": "$json.next"}))
    assert len(web.seen) == 2


def test_a_page_that_is_not_found_is_behind_the_last(bench: Bench, web: WebServer) -> None:
    url = web.on("/wp", lambda seen: as_json([1]) if seen.query["page"] == ["1"] else Reply(b"", 404))
    assert bench.gives(http(url=url, pagination={"kind": "page", "param": "page", "items": "$json"})) == [1]
    missing = web.on("/none", Reply(b"", 404))
    assert "404" in bench.fails(http(url=missing, pagination={"kind": "page", "param": "page"}))


def test_odd_pages_are_errors(bench: Bench, web: WebServer) -> None:
    url = web.on("/odd", as_json({"items": {"a": 1}, "next": {"b": 2}}))
    assert "not a list" in bench.fails(http(url=url, pagination={"kind": "link", "items": "$json.items"}))
    assert "not a text" in bench.fails(http(url=url, pagination={"kind": "body", "next": "$json.next"}))
    assert "cursor" in bench.fails(http(url=url, pagination={"kind": "cursor", "param": "c", "next": "$json.next"}))
    bad = web.on("/bad", as_json({}, headers={"link": "<file:///etc/passwd>; rel=next"}))
    assert "only http and https" in bench.fails(http(url=bad, pagination={"kind": "link"}))


def test_pages_share_one_limit(bench: Bench, web: WebServer) -> None:
    big = web.on("/big", lambda seen: as_json({"next": f"?n={len(web.seen)}", "text": "x" * 3_000_000}))
    assert "larger than 10 MB, all pages together (MECHAWAY_HTTP_MAX_MB)" in bench.fails(
        http(url=big, pagination={"kind": "body", "next": "$json.next"})
    )
    assert len(web.seen) == 4


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


# -- keys that make a call count once


def sent_keys(web: WebServer) -> list[str | None]:
    """What the header `Idempotency-Key` said, call by call."""
    return [seen.headers.get("idempotency-key") for seen in web.seen]


def test_a_call_has_no_key_unless_it_is_asked_for(bench: Bench, web: WebServer) -> None:
    bench.gives(http(url=web.url + "/echo", method="POST"), http(url=web.url + "/echo", method="POST", idempotency_key=False) | {"id": "b"})
    assert sent_keys(web) == [None, None]


def test_every_attempt_for_an_item_has_the_same_key_and_every_item_another(bench: Bench, web: WebServer) -> None:
    url = web.on("/shaky", lambda seen: as_json({}, 200 if len(web.seen) % 3 == 0 else 503))
    call = http(url=url, method="POST", idempotency_key=True, about={"retry": {"attempts": 3, "delay": 0}, "outputs": {"key": "$run.key"}})
    items = bench.gives(call, items=[{"same": 1}, {"same": 1}])
    keys = sent_keys(web)
    assert len(keys) == 6
    assert keys == [item["key"] for item in items for _ in range(3)]
    assert len(set(keys)) == 2
    bench.gives(call, items=[{"same": 1}])
    assert sent_keys(web)[6] not in keys


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
def test_a_key_in_headers_wins_unless_it_is_null(bench: Bench, web: WebServer, name: str) -> None:
    call = http(url=web.url + "/echo", method="POST", headers={name: "{{ $json.id }}"}, idempotency_key=True)
    bench.gives(call, items=[{"id": "mine"}, {}])
    own, other = sent_keys(web)
    assert own == "mine"
    assert other is not None
    assert len(other) == 32


def test_a_key_may_be_a_template(bench: Bench, web: WebServer) -> None:
    call = http(url=web.url + "/echo", method="POST", idempotency_key="order-{{ $json.id }}")
    bench.gives(call, items=[{"id": 7}, {"id": 8}])
    bench.gives(http(url=web.url + "/echo", method="POST", idempotency_key="{{ $json.id }}"), items=[{"id": 9}])
    assert sent_keys(web) == ["order-7", "order-8", "9"]


@pytest.mark.parametrize("value", [None, "", "  ", True, [1], {}])
def test_without_a_key_that_can_be_one_nothing_is_sent(bench: Bench, web: WebServer, value: Any) -> None:
    message = bench.fails(http(url=web.url + "/echo", method="POST", idempotency_key="{{ $json.id }}"), items=[{"id": value}])
    assert "idempotency_key" in message
    assert web.seen == []


def test_a_redirect_takes_the_key_along(bench: Bench, web: WebServer) -> None:
    web.on("/moved", Reply(b"", 307, {"location": "/echo"}))
    bench.gives(http(url=web.url + "/moved", method="POST", body={"a": 1}, idempotency_key=True))
    assert web.paths() == ["/moved", "/echo"]
    first, second = sent_keys(web)
    assert first is not None
    assert first == second


def test_every_page_is_a_call_of_its_own(bench: Bench, web: WebServer) -> None:
    pages = {"kind": "link"}
    bench.gives(http(url=web.url + "/pages/link", method="POST", idempotency_key="k{{ $json.id }}", pagination=pages), items=[{"id": 1}])
    assert sent_keys(web) == ["k1", "k1-2", "k1-3"]
    web.seen.clear()
    bench.gives(http(url=web.url + "/pages/link", headers={"Idempotency-Key": "x"}, idempotency_key=True, pagination=pages))
    assert sent_keys(web) == ["x"] * 3


@pytest.mark.parametrize("key", ["", "constant"])
def test_a_key_that_is_the_same_for_every_call_is_not_saved(bench: Bench, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        bench.put(http(url="https://example.com", idempotency_key=key))
    assert [problem.pointer for problem in caught.value.problems] == ["/nodes/1/params/idempotency_key"]
