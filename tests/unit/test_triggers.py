"""What starts runs: calls of webhooks and manual starts, brought to a trigger and its items."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core import jsontext
from mechaway_core.errors import Invalid, Malformed, NotAllowed, NotFound
from mechaway_core.node import Items, Request
from mechaway_core.settings import Settings
from mechaway_core.triggers import MAX_FIELDS, Call, body_chunks, fields, headers_of, item_of, manual, read, route
from mechaway_core.workflow import Plan, Step, canonical, compile_plan
from tests.unit.area import MemoryArea


def plan(*nodes: dict[str, Any]) -> Plan:
    return compile_plan(canonical({"id": "w", "nodes": list(nodes), "edges": []}))


def hook(node_id: str, path: str, **more: Any) -> dict[str, Any]:
    method = {"method": more.pop("method")} if "method" in more else {}
    return {"id": node_id, "node_type": "Webhook", "params": {"path": path} | method} | more


def webhook(found: Plan, call: Call) -> tuple[Step, Request, Items]:
    step, named = route(found, call)
    return step, *read(call, named, MemoryArea(), Settings())


STEP = {"id": "calc", "node_type": "FunLogic", "params": {"script": "data"}}


# -- the address


def test_a_call_finds_its_webhook_and_the_named_parts_of_its_path() -> None:
    found = plan(hook("a", "/x/:id"), hook("b", "/x/new"), hook("c", "/x/:id", method="GET"))
    for method, segments, node_id, named in (
        ("POST", ("x", "7"), "a", {"id": "7"}),
        ("POST", ("x", "new"), "b", {}),
        ("GET", ("x", "7%2f8"), "c", {"id": "7/8"}),
        ("GET", ("x", "new"), "c", {"id": "new"}),
    ):
        step, request, items = webhook(found, Call(method, segments, b"q=1", [(b"X", b"y")], b""))
        assert (step.id, request.path, request.method, items) == (node_id, named, method, [{}])
        assert (request.query, request.headers) == ({"q": "1"}, {"x": "y"})


def test_another_method_is_told_all_that_the_path_answers_each_once() -> None:
    found = plan(hook("a", "/x/:id", method=["GET", "PUT"]), hook("b", "/x/new", method=["PUT", "PATCH"]), hook("c", "/y"))
    with pytest.raises(NotAllowed) as refused:
        webhook(found, Call("DELETE", ("x", "new"), b"", [], b""))
    assert sorted(refused.value.allow) == ["GET", "PATCH", "PUT"]
    assert "DELETE" in str(refused.value)


@pytest.mark.parametrize("segments", [(), ("y",), ("x",), ("x", "1", "2"), ("x", "")])
def test_another_path_is_not_found_and_said(segments: tuple[str, ...]) -> None:
    with pytest.raises(NotFound) as refused:
        webhook(plan(hook("a", "/x/:id")), Call("POST", segments, b"", [], b""))
    assert '"w"' in str(refused.value)
    assert f'"/{"/".join(segments)}"' in str(refused.value)


# -- headers, query, body


def test_headers_have_names_in_lower_case_and_several_of_one_name_are_joined() -> None:
    raw = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Cookie", b"a=1"), (b"cookie", b"b=2"), (b"X-L", b"\xfc")]
    assert headers_of(raw) == {"x-a": "1, 2", "cookie": "a=1; b=2", "x-l": "ü"}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", {}),
        (b"a=1", {"a": "1"}),
        (b"a=1&b=2&a=3&a=4", {"a": ["1", "3", "4"], "b": "2"}),
        (b"a", {"a": ""}),
        (b"a=", {"a": ""}),
        (b"=x", {"": "x"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=x+y%20z%2B", {"a": "x y z+"}),
        (b"%C3%A4=%E6%97%A5", {"ä": "日"}),
        (b"&&a=1&", {"a": "1"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=%zz", {"a": "%zz"}),
    ],
)
def test_fields_of_a_query_or_form(raw: bytes, found: dict[str, Any]) -> None:
    assert fields(raw, "the query") == found


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_whatever_fields_are_sent_they_arrive(sent: dict[str, str]) -> None:
    assert fields(urlencode(sent).encode(), "the query") == sent


@pytest.mark.parametrize("raw", [b"a=%ff", b"%C3=1", b"a=\xc3\xa4", b"a=%ED%A0%80"])
def test_fields_that_are_not_utf8_are_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed, match=r"^the query is not percent-encoded UTF-8"):
        fields(raw, "the query")


def test_no_more_fields_than_a_limit() -> None:
    assert len(fields(b"&".join(b"f%d=1" % number for number in range(MAX_FIELDS)), "the query")) == MAX_FIELDS
    with pytest.raises(Malformed, match="more than 10000 fields"):
        fields(b"&".join(b"f%d=1" % number for number in range(MAX_FIELDS + 1)), "the query")


def test_the_query_and_the_body_say_which_of_them_is_malformed() -> None:
    found = plan(hook("a", "/"))
    with pytest.raises(Malformed, match="the query"):
        webhook(found, Call("POST", (), b"a=%ff", [], b""))
    with pytest.raises(Malformed, match="the body"):
        webhook(found, Call("POST", (), b"", [(b"content-type", b"application/json")], b"{"))


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON ; charset=utf-8", "application/problem+json", " application/json"]
)
def test_json_is_the_item(content_type: str) -> None:
    assert item_of(b'{"a": [1, 2.5, null, "x"]}', content_type) == {"a": [1, 2.5, None, "x"]}


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "?"]
)
def test_nothing_is_an_empty_object_whatever_it_is_called(content_type: str) -> None:
    assert item_of(b"", content_type) == {}


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"hi", "text/plain", "hi"),
        (b"<a/>", "application/xml", "<a/>"),
        ("ü".encode("latin-1"), "text/plain; charset=latin-1", "ü"),
        ("ü".encode("cp1252"), "text/plain;charset=windows-1252", "ü"),
        ("日本".encode("shift_jis"), "text/plain; charset=Shift_JIS", "日本"),
        ("日本".encode("utf-16"), 'text/plain; format=flowed; Charset="UTF-16"', "日本"),
        (b"hi", "text/plain; charset=", "hi"),
        (b"not json", "", "not json"),
        (b"{broken", "", "{broken"),
    ],
)
def test_text_is_an_item_with_a_body(body: bytes, content_type: str, text: str) -> None:
    assert item_of(body, content_type) == {"body": text}


@pytest.mark.parametrize(
    ("body", "charset"),
    [(b"\xff", "utf-8"), (b"\xff", "ascii"), (b"+2AA-", "utf-7"), (b"hi", "nonsense"), (b"hi", "rot13"), (b"aGk=", "base64"),
     (b"x", "a\0b"),     (b"hi", "zlib"), (b"hi", "x" * 500)],
)  # fmt: skip
def test_text_that_is_not_in_its_charset_is_malformed(body: bytes, charset: str) -> None:
    with pytest.raises(Malformed, match="the body") as refused:
        item_of(body, f"text/plain; charset={charset}")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined"])
def test_what_only_python_calls_an_encoding_is_no_charset(charset: str) -> None:
    with pytest.raises(Malformed, match="not known"):
        item_of(b"hi", f"text/plain; charset={charset}")


def test_no_charset_keeps_the_server_busy() -> None:
    script = "from mechaway_core.triggers import item_of\n"
    script += "from mechaway_core.errors import Malformed\n"
    script += "try: item_of(b'a' * 1_000_000 + b'-' + b'b' * 1_000_000, 'text/plain; charset=punycode')\n"
    script += "except Malformed: print('refused')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=10, check=True)
    assert done.stdout == b"refused\n"


def test_fields_of_a_multipart_body_are_the_item_and_its_files_the_requests() -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n'
    body += b'--x\r\ncontent-disposition: form-data; name="f"; filename="n.txt"\r\n\r\nhi\r\n--x--\r\n'
    call = Call("POST", (), b"", [(b"content-type", b"Multipart/Form-Data; boundary=x")], body)
    _, request, items = webhook(plan(hook("a", "/")), call)
    assert items == [{"a": "1"}]
    assert request.files["f"] == {"filename": "n.txt", "content_type": "application/octet-stream", "size": 2, "handle": "0"}


def test_a_spooled_body_reads_like_one_in_memory(tmp_path: Path) -> None:
    body = bytes(range(256)) * 4000
    (tmp_path / "spool").write_bytes(body)
    with (tmp_path / "spool").open("rb") as spool:
        call = Call("POST", (), b"", [], b"", spool=spool)
        assert [b"".join(body_chunks(call)) for _ in range(2)] == [body, body]
    assert body_chunks(Call("POST", (), b"", [], b"abc")) == (b"abc",)


@given(
    st.binary(max_size=40),
    st.sampled_from(["", "application/json", "application/x-www-form-urlencoded", "text/plain", "a/b; charset=utf-16"]),
)
def test_whatever_body_comes_it_is_an_item_or_malformed(body: bytes, content_type: str) -> None:
    try:
        item = item_of(body, content_type)
    except Malformed:
        return
    assert jsontext.decode(jsontext.encode(item)) == item


# -- manual starts


def test_a_manual_start_takes_the_first_trigger_and_one_empty_object() -> None:
    step, items = manual(plan(STEP, hook("b", "/b"), hook("a", "/a")), None, None)
    assert (step.id, items) == ("b", [{}])


def test_a_manual_start_prefers_a_trigger_that_is_not_disabled() -> None:
    assert manual(plan(hook("a", "/a", disabled=True), hook("b", "/b")), None, None)[0].id == "b"
    assert manual(plan(hook("a", "/a", disabled=True)), None, None)[0].id == "a"


def test_a_manual_start_takes_the_trigger_and_the_items_that_are_named() -> None:
    step, items = manual(plan(hook("a", "/a"), hook("b", "/b")), "b", [1, None, {}])
    assert (step.id, items) == ("b", [1, None, {}])
    assert manual(plan(hook("a", "/a")), "a", [])[1] == []


@pytest.mark.parametrize(
    ("node_id", "items", "words"),
    [
        ("hok", None, 'there is no node "hok"'),
        ("hok", None, 'did you mean "hook"?'),
        ("calc", None, '"calc" is no trigger'),
        (None, {}, "items must be a list"),
        (None, "x", "items must be a list"),
        (None, 5, "items must be a list"),
    ],
)
def test_a_manual_start_that_cannot_be_says_why(node_id: str | None, items: Any, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        manual(plan(hook("hook", "/a"), STEP), node_id, items)
    assert words in str(refused.value)
