"""Webhook: a call becomes an item and a request that expressions can ask."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Malformed, NotAllowed, NotFound, Unsupported
from mechaway_core.triggers import Call
from tests.nodes.bench import Bench, node

JSON = [(b"content-type", b"application/json")]
FORM = [(b"content-type", b"application/x-www-form-urlencoded")]
TEXT = [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    ("body", "headers", "item"),
    [
        (b'{"a": [1, null]}', JSON, {"a": [1, None]}),
        (b"[1, 2]", JSON, [1, 2]),
        (b"null", JSON, None),
        (b"9223372036854775807", JSON, 2**63 - 1),
        (b'{"a": 1}', [(b"Content-Type", b"application/vnd.x+json; charset=utf-8")], {"a": 1}),
        (b'{"a": 1}', [], {"a": 1}),
        (b"hello", [], {"body": "hello"}),
        (b"a=1&b=x+y&a=2&c=", FORM, {"a": ["1", "2"], "b": "x y", "c": ""}),
        (b"%C3%A4=%26", FORM, {"ä": "&"}),
        (b"hello\n", TEXT, {"body": "hello\n"}),
        ("ä".encode("latin-1"), [(b"content-type", b"text/plain; charset=ISO-8859-1")], {"body": "ä"}),
        ('"ä"'.encode(), [(b"content-type", b'text/csv; header=present; charset="utf-8"')], {"body": '"ä"'}),
        (b"", JSON, {}),
        (b"", TEXT, {}),
        (b"", [], {}),
    ],
)
def test_the_body_is_the_item(bench: Bench, body: bytes, headers: list[tuple[bytes, bytes]], item: Any) -> None:
    assert bench.call(body=body, headers=headers).run.output == [item]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", JSON),
        (b"\xff", JSON),
        (b'"\xed\xa0\x80"', JSON),
        (b"[" * 101 + b"]" * 101, JSON),
        (b"\xff", TEXT),
        (b"\xff", [(b"content-type", b"text/plain; charset=nonsense")]),
        (b"a=%ff", FORM),
        (b"a=\xff", FORM),
        (b"aGk=", [(b"content-type", b"text/plain; charset=base64")]),
    ],
)
def test_a_body_that_is_not_what_it_says_is_malformed(bench: Bench, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Malformed, match="body"):
        bench.call(body=body, headers=headers)


def test_files_of_a_form_are_reached_by_expressions_and_its_fields_are_the_item(bench: Bench) -> None:
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % part
        for part in ((b"who", b"", b"me"), (b"tag[]", b"", b"1"), (b"odd name", b'; filename="a.txt"', b"abc"), (b"tag[]", b"", b"2"))
    )
    respond = node(
        "Respond", body=['{{ $file["odd name"].size }}', "{{ $file['odd name'].filename .. '!' }}", "{{ $file.none }}", "{{ $json }}"]
    )
    answered = bench.call(respond, body=body + b"--x--", headers=[(b"content-type", b"multipart/form-data; boundary=x")])
    assert answered.run.response is not None
    assert answered.run.response.body == [3, "a.txt!", None, {"who": "me", "tag[]": ["1", "2"]}]


def test_an_output_pin_puts_a_file_into_the_item_for_scripts(bench: Bench) -> None:
    hook = node("Webhook", id="hook", path="/", about={"outputs": {"title": "$json.title", "photo": "$file.photo"}})
    body = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\nabc\r\n--x--'
    script = node("FunLogic", script="return {name = data.photo.filename, more = data.photo.size + 1, title = data.title}")
    answered = bench.call(script, hook=hook, body=body, headers=[(b"content-type", b"multipart/form-data; boundary=x")])
    assert answered.run.output == [{"name": "a.jpg", "more": 4}]


def test_without_a_request_there_is_no_file(bench: Bench) -> None:
    assert bench.gives(node("FunLogic", script="return data", about={"outputs": {"f": "$file.x"}}), items=[{}]) == [{"f": None}]


@pytest.mark.parametrize(("encoding", "kind"), [(b"base64", Unsupported), (b"quoted-printable", Unsupported)])
def test_parts_that_are_encoded_are_refused(bench: Bench, encoding: bytes, kind: type[Exception]) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: %s\r\n\r\naGk=\r\n--x--' % encoding
    with pytest.raises(kind, match=encoding.decode()):
        bench.call(body=body, headers=[(b"content-type", b"multipart/form-data; boundary=x")])


def test_expressions_reach_query_headers_and_path(bench: Bench) -> None:
    hook = node("Webhook", id="hook", path="/students/:id/:what", method="GET")
    respond = node(
        "Respond", body=["{{ $query.page }}", "{{ $headers.x-trace }}", "{{ $path.id }}", "{{ $path.what }}", "{{ $query.none }}"]
    )
    answered = bench.call(
        respond,
        hook=hook,
        method="GET",
        path="/students/s%2F1/gr%C3%A4de",
        query=b"page=2&x",
        headers=[(b"X-Trace", b"a"), (b"x-trace", b"b")],
    )
    assert answered.run.response is not None
    assert answered.run.response.body == ["2", "a, b", "s/1", "gräde", None]


def test_another_path_or_method_is_not_answered(bench: Bench) -> None:
    hook = node("Webhook", id="hook", path="/grade", method=["get", "PUT"])
    with pytest.raises(NotFound, match="/other"):
        bench.call(hook=hook, path="/other", method="GET")
    with pytest.raises(NotAllowed) as refused:
        bench.call(hook=hook, path="/grade", method="POST")
    assert refused.value.allow == ("GET", "PUT")
    assert bench.call(hook=hook, path="/grade", method="PUT").run.status == "succeeded"


def test_without_a_method_it_answers_post(bench: Bench) -> None:
    hook = node("Webhook", id="hook", path="/")
    assert bench.call(hook=hook, method="POST").run.status == "succeeded"
    with pytest.raises(NotAllowed):
        bench.call(hook=hook, method="GET")


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PATCH"])
def test_any_means_every_method(bench: Bench, method: str) -> None:
    assert bench.call(method=method).run.status == "succeeded"


def test_a_webhook_that_is_disabled_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.call(hook=node("Webhook", id="hook", path="/", about={"disabled": True}))


def test_a_workflow_that_is_switched_off_is_not_there_for_callers(bench: Bench) -> None:
    bench.put()
    document = dict(bench.app.get(bench.project, "w").document)
    bench.app.put(bench.project, document | {"active": False})
    with pytest.raises(NotFound, match="switched off"):
        bench.app.calls.answer(bench.project, "w", Call("POST", (), b"", [], b""))
    assert bench.app.start(bench.project, "w").status == "succeeded"
