"""HTTPClient: the request, the answer, statuses and retries, redirects."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.nodes.bench import Bench, node
from tests.nodes.http_client.calls import http, one
from tests.web_server import Reply, Seen, WebServer, as_json

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
