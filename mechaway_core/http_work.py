"""What an HTTPClient does for one item: makes the call, goes from page to page, and turns answers into items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from mechaway_core import expressions, jsontext
from mechaway_core.errors import HttpError, NodeError
from mechaway_core.expressions import as_text
from mechaway_core.http.content import data_of, is_readable, text_of
from mechaway_core.http.fields import media_type, retry_after
from mechaway_core.http.headers import clean_value
from mechaway_core.http.message import Body, Bytes, Call, File, Multipart, Part
from mechaway_core.http.pages import ByBody, ByCursor, ByLink, ByNumber, Find, Pages
from mechaway_core.names import shorten
from mechaway_core.node import Context, Item, Items

if TYPE_CHECKING:
    from mechaway_core.http.auth import Auth
    from mechaway_core.http.talk import Answer
    from mechaway_core.nodes.http_client import HTTPClient

MAX_PAGES = 100  # when the node does not say
KEY = "Idempotency-Key"  # draft-ietf-httpapi-idempotency-key-header, but the bare text that servers take, without quotes
_MOST_EXCERPT = 300  # of an answer in an error
_WITH_INPUT = ("POST", "PUT", "PATCH")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Work:
    """What the node does for one item."""

    def __init__(self, node: HTTPClient, item: Item, inputs: Sequence[Any], ctx: Context) -> None:
        self.node = node
        self.ctx = ctx
        self.call = _call(node, item, inputs, ctx)
        self.key = _key(node, self.call, item, ctx)
        self.calls = 0
        self.talk = ctx.http.talk(_auth(node, ctx), node.max_redirects if node.follow_redirects else 0, ctx.cancellation)
        self.most = ctx.http.max_bytes  # what is left for answers in memory
        together = ", all pages together" if node.pagination is not None else ""
        self.limit = f"{self.most / 1_000_000:g} MB{together} (MECHAWAY_HTTP_MAX_MB)"

    def items(self) -> Items:
        pagination = self.node.pagination
        if pagination is None:
            return [self.fetch(self.call, None)[0]]
        find = _find(pagination["items"]) if "items" in pagination else None
        return self.pages(_pages(pagination), find, pagination.get("max_pages"))

    def pages(self, pages: Pages, find: Find | None, stop: int | None) -> Items:
        given: Items = []
        seen: set[tuple[Any, ...]] = set()
        call: Call | None = pages.first(self.call)
        while call is not None and len(seen) != stop:
            if (call.url, call.query) in seen:
                raise HttpError(f"page {len(seen) + 1} is one that was read already: the pages lead in a circle")
            if len(seen) >= MAX_PAGES and stop is None:
                raise HttpError(f"there are more than {MAX_PAGES} pages; say with max_pages how many to read")
            seen.add((call.url, call.query))
            answer, call = self.fetch(call, pages, past=isinstance(pages, ByNumber) and len(seen) > 1)
            if answer is not None:
                given.extend(_entries(find(answer["data"])) if find else [answer])
        return given

    def fetch(self, call: Call, pages: Pages | None, past: bool = False) -> tuple[Item, Call | None]:
        """The item of one answer and the call for the page after it. `past`: 404 only means that there are no more pages."""
        node, ctx = self.node, self.ctx
        seconds = node.timeout if node.timeout is not None else ctx.http.timeout
        with self.talk.send(self.keyed(call), min(ctx.deadline, time.monotonic() + seconds)) as answer:
            if past and answer.status == 404:
                return None, None
            if node.fail_on_status and not answer.ok and (node.follow_redirects or not 300 <= answer.status < 400):
                raise _failed(answer)
            data, held = data_of(answer, node.response, self.most, self.limit, ctx.files.write)
            self.most -= held
            item = {"status": answer.status, "headers": answer.headers(), "data": data, "success": answer.ok}
            return item, pages.after(call, answer, data) if pages is not None else None

    def keyed(self, call: Call) -> Call:
        """The call with its key. Another page is another call, for which a server must not repeat its first answer."""
        if self.key is None:
            return call
        self.calls += 1
        key = self.key if self.calls == 1 else f"{self.key}-{self.calls}"
        return replace(call, headers={**call.headers, KEY: key})


# -- the request


def _call(node: HTTPClient, item: Item, inputs: Sequence[Any], ctx: Context) -> Call:
    url, headers, query, declared = ctx.render([node.url, node.headers, node.query, node.body], item)
    if not isinstance(url, str):
        raise NodeError(f"the url is not a text but {shorten(as_text(url), 40) or 'null'}")
    content = inputs[0] if node.body is None and inputs and node.method in _WITH_INPUT else declared
    body = _body(node.body_type, content, ctx) if content is not None else None
    clean = {name: _header(name, value) for name, value in headers.items() if value is not None}
    if isinstance(body, Multipart):  # only its own type knows the boundary
        clean = {name: value for name, value in clean.items() if name.lower() != "content-type"}
    return Call(node.method, url, clean, tuple(_pairs(query)), body)


def _key(node: HTTPClient, call: Call, item: Item, ctx: Context) -> str | None:
    """What the header `Idempotency-Key` says, None when there is none or `headers` have one."""
    if node.idempotency_key is False or any(name.lower() == KEY.lower() for name in call.headers):
        return None
    key = ctx.key() if node.idempotency_key is True else ctx.render(node.idempotency_key, item)
    if isinstance(key, bool) or not isinstance(key, str | int | float) or not as_text(key).strip():
        raise NodeError(f"idempotency_key gives {shorten(as_text(key), 40) or 'nothing'} for this item; it takes a text or number")
    return _header(KEY, key)


def _header(name: str, value: Any) -> str:
    try:
        return clean_value(name, as_text(value))
    except ValueError as error:
        raise NodeError(str(error)) from None


def _pairs(fields: Any) -> Iterator[tuple[str, str]]:
    """Fields as names and values; a list gives its name several times, null none."""
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield name, as_text(one)


def _body(body_type: str, content: Any, ctx: Context) -> Body:
    if body_type == "file":
        return _file(content, ctx)
    if body_type == "text" or (body_type == "auto" and isinstance(content, str)):
        return Bytes(as_text(content).encode(), "text/plain; charset=utf-8")
    if body_type in ("auto", "json"):
        return Bytes(jsontext.encode(content), "application/json")
    if not isinstance(content, dict):
        raise NodeError(f"a body of type {body_type} is an object of fields, not {shorten(as_text(content), 40)}")
    if body_type == "form":
        return Bytes(urlencode(list(_pairs(content))).encode(), "application/x-www-form-urlencoded")
    return Multipart(tuple(_parts(content, ctx)))


def _parts(fields: Mapping[str, Any], ctx: Context) -> Iterator[Part]:
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and "handle" in one:
                yield Part(name, _file(one, ctx), as_text(one.get("filename")) or "file")
            elif one is not None:
                yield Part(name, Bytes(as_text(one).encode(), ""))


def _file(value: Any, ctx: Context) -> File:
    """A file of the run, from its object or handle."""
    handle = value.get("handle") if isinstance(value, dict) else value
    if not isinstance(handle, str):
        raise NodeError("the body is not a file: it takes an object with a handle, such as $file.NAME")
    said = as_text(value.get("content_type")) if isinstance(value, dict) else ""
    return File(lambda: ctx.files.open(handle), _header("content-type", said) or "application/octet-stream")


def _auth(node: HTTPClient, ctx: Context) -> Auth | None:
    if node.auth is None:
        return None
    return ctx.http.auth(ctx.reveal(node.auth), ctx.run.project, ctx.hide, ctx.cancellation)


# -- the answer


def _failed(answer: Answer) -> HttpError:
    """The error that a status is, with the beginning of what the server says about it."""
    phrase = _PHRASES.get(answer.status, "")
    kind, said = media_type(answer.headers_by_name.get("content-type", ""))
    text = text_of(answer.excerpt(_MOST_EXCERPT), said.get("charset", "")) if is_readable(kind) else ""
    words = shorten("".join(character if character.isprintable() else " " for character in text), _MOST_EXCERPT)
    message = f"{answer.what} answered {answer.status} {phrase}".rstrip() + (f": {words}" if words else "")
    asked = answer.headers_by_name.get("retry-after")
    return HttpError(message, status=answer.status, retry_after=retry_after(asked) if asked else None)


def _pages(declared: Mapping[str, Any]) -> Pages:
    kind = declared["kind"]
    if kind == "link":
        return ByLink()
    if kind == "page":
        size = ((declared.get("size_param", "size"), str(declared["size"])),) if "size" in declared else ()
        return ByNumber(declared["param"], declared.get("start", 1), _find(declared.get("items", "$json")), size)
    find = _find(declared["next"])
    return ByBody(find) if kind == "body" else ByCursor(declared["param"], find)


def _find(text: str) -> Find:
    """What finds a part of a page's data by a path."""
    path = expressions.parse(text)
    assert isinstance(path, expressions.Path)  # `check` has seen to it
    return lambda data: expressions.walk(data, path.parts)


def _entries(found: Any) -> Items:
    if found is not None and not isinstance(found, list):
        raise HttpError(f"the items of a page are not a list but {shorten(as_text(found), 40)}")
    return found or []
