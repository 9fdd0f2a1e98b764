"""The node that calls HTTP servers."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode, urlsplit

from annotated_types import Ge, Gt, Le

from mechaway_core import expressions, jsontext
from mechaway_core.errors import HttpError, Malformed, NodeError
from mechaway_core.expressions import as_text
from mechaway_core.http import Auth, Call
from mechaway_core.http.content import data_of, is_readable, text_of
from mechaway_core.http.headers import clean_value, is_name, media_type, retry_after
from mechaway_core.http.message import Body, Bytes, File, Multipart, Part
from mechaway_core.http.pages import ByBody, ByCursor, ByLink, ByNumber, Find, Pages
from mechaway_core.names import shorten
from mechaway_core.node import Context, Item, ItemNode, Items, param
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mechaway_core.http.talk import Answer

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12

MAX_PAGES = 100  # when the node does not say
_MOST_EXCERPT = 300  # of an answer in an error
_WITH_INPUT = ("POST", "PUT", "PATCH")
_CLIENTS_OWN = ("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
                "upgrade")  # fmt: skip
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_SECRET = re.compile(r"\$secret\.[A-Za-z_]\w*|\$secret\[.+\]", re.ASCII)


class BasicAuth(TypedDict):
    """A user name and a password."""

    kind: Required[Literal["basic"]]
    username: Required[str]
    password: Required[str]


class BearerAuth(TypedDict):
    """A token in the header Authorization."""

    kind: Required[Literal["bearer"]]
    token: Required[str]


class HeaderAuth(TypedDict):
    """A key in a header."""

    kind: Required[Literal["header"]]
    name: Required[str]
    value: Required[str]


class QueryAuth(TypedDict):
    """A key in the query."""

    kind: Required[Literal["query"]]
    name: Required[str]
    value: Required[str]


# `in` is a word of Python, so this one is written as a call.
OAuth2ClientCredentials = TypedDict(
    "OAuth2ClientCredentials",
    {
        "kind": Required[Literal["oauth2_client_credentials"]],
        "token_url": Required[str],
        "client_id": Required[str],
        "client_secret": Required[str],
        "scope": NotRequired[str],
        "audience": NotRequired[str],
        "in": NotRequired[Literal["header", "body"]],
    },
)

MaxPages = Annotated[int, Ge(1), Le(100_000)]


class LinkPages(TypedDict):
    """The header Link says where the next page is."""

    kind: Required[Literal["link"]]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class BodyPages(TypedDict):
    """The body says where the next page is."""

    kind: Required[Literal["body"]]
    next: Required[str]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class NumberPages(TypedDict):
    """Pages are counted."""

    kind: Required[Literal["page"]]
    param: Required[str]
    start: NotRequired[Annotated[int, Ge(0)]]
    size_param: NotRequired[str]
    size: NotRequired[Annotated[int, Ge(1)]]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class CursorPages(TypedDict):
    """The body holds a cursor for the next page."""

    kind: Required[Literal["cursor"]]
    param: Required[str]
    next: Required[str]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class HTTPClient(ItemNode):
    """Call an HTTP server, for each item.

    Gives `{status, headers, data, success}`: `data` is a JSON value when the answer is JSON, a text when it is text, and otherwise a file
    of the run, `{filename, content_type, size, handle}`. A status other than 2xx fails the node unless `fail_on_status` is off; `retry`
    can name statuses, "4xx", "5xx", "timeout" and "http", and waits as long as `Retry-After` asks, within its `max_delay`.

    With `pagination` it gives one such item for each page or, when `items` names a list in the pages (`$json` is the data of a page), each
    entry of these lists as an item. After `max_pages` it stops; without `max_pages`, more than 100 pages are an error.

    The body is `body` or, for POST, PUT and PATCH, the first of `inputs`: an object or list is sent as JSON, a text as text.
    Credentials, also an `Authorization` or `Cookie` in `headers`, are only sent to the scheme, host and port of `url`.
    """

    group: ClassVar[str] = "Network"
    uses_inputs: ClassVar[str] = "the body of a POST, PUT or PATCH when `body` is left out; other methods make no use of it"

    url: str = param("Where to send the request, with http:// or https://.", template=True)
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = param("The HTTP method.", "GET")
    headers: dict[str, str] = param("Headers by name; one whose value is null is left out.", default_factory=dict, template=True)
    query: dict[str, Any] = param(
        "Fields to add to the query of the URL. A list adds its name several times; null is left out.", default_factory=dict, template=True
    )
    body: Any = param("The body.", None, template=True)
    body_type: Literal["auto", "json", "form", "multipart", "text", "file"] = param(
        "What the body is sent as. `auto`: text as text, anything else as JSON. `form` and `multipart`: an object of fields; in "
        "`multipart` a field can be a file of the run (an object with `handle`). `file`: such a file.",
        "auto",
    )
    auth: BasicAuth | BearerAuth | HeaderAuth | QueryAuth | OAuth2ClientCredentials | None = param(
        "Credentials, by `kind`. Passwords, tokens, values and client secrets are `$secret.NAME`.", None, secret=True
    )
    timeout: Annotated[float, Gt(0), Le(86_400)] | None = param(
        "Seconds for each request, from looking up the host to the last byte (MECHAWAY_HTTP_TIMEOUT when left out).", None
    )
    follow_redirects: bool = param("Whether to go where redirects lead.", True)
    max_redirects: Annotated[int, Ge(1), Le(50)] = param("The most redirects to follow for one request.", 10)
    fail_on_status: bool = param("Whether a status other than 2xx is an error (a redirect that is not to be followed is none).", True)
    response: Literal["auto", "json", "text", "file"] = param("What the data of the answer becomes; `auto` goes by its type.", "auto")
    pagination: LinkPages | BodyPages | NumberPages | CursorPages | None = param(
        'How to get at further pages. `link`: the header Link, rel="next". `body`: `next` finds their URL in the data. `page`: `param` '
        "counts from `start` (1) until a page is empty or not found. `cursor`: `next` finds in the data what to send as `param`.",
        None,
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = _url_problem(self.url)
        if problem:
            yield "url", problem
        for name in self.headers:
            problem = _header_problem(name)
            if problem:
                yield "headers", problem
        if self.body_type in ("form", "multipart") and not isinstance(self.body, dict | str | None):
            yield "body", f"a body of type {self.body_type} is an object of fields"
        if self.auth is not None:
            yield from _auth_problems(self.auth)
        if self.pagination is not None:
            yield from _page_problems(self.pagination)

    def run_item(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Items:
        return _Work(self, item, inputs, ctx).items()


class _Work:
    """What the node does for one item."""

    def __init__(self, node: HTTPClient, item: Item, inputs: Sequence[Any], ctx: Context) -> None:
        self.node = node
        self.ctx = ctx
        self.call = _call(node, item, inputs, ctx)
        self.talk = ctx.http.talk(_auth(node, ctx), node.max_redirects if node.follow_redirects else 0)
        self.most = ctx.http.max_bytes  # what is left for answers in memory

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
        with self.talk.send(call, min(ctx.deadline, time.monotonic() + seconds)) as answer:
            if past and answer.status == 404:
                return None, None
            if node.fail_on_status and not answer.ok and (node.follow_redirects or not 300 <= answer.status < 400):
                raise _failed(answer)
            data, held = data_of(answer, node.response, self.most, ctx.files.write)
            self.most -= held
            item = {"status": answer.status, "headers": answer.headers(), "data": data, "success": answer.ok}
            return item, pages.after(call, answer, data) if pages is not None else None


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
    return ctx.http.auth(ctx.reveal(node.auth), ctx.run.project, ctx.hide)


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


# -- what is wrong with the params


def _url_problem(url: str) -> str | None:
    """What is wrong with a URL, as far as it is written out."""
    fixed, expression, _ = url.partition("{{")
    scheme, colon, _ = fixed.strip().partition(":")
    if expression and not (colon and "/" not in scheme):
        return None  # what it begins with comes from the item
    if scheme.lower() not in ("http", "https"):
        return f'"{shorten(url.partition("?")[0])}" is not a URL with http:// or https://'
    if expression:
        return None
    try:
        parts = urlsplit(url.strip())
        sound = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", url.strip())
    except ValueError:
        sound = False
    return None if sound else f'"{shorten(url.partition("?")[0])}" is not a URL: it needs a host, a port that can be, and no spaces'


def _header_problem(name: str) -> str | None:
    if not is_name(name):
        return f'"{shorten(name)}" cannot be the name of a header'
    if name.lower() in _CLIENTS_OWN:
        return f'the header "{name}" is the client\'s own'
    return None


def _auth_problems(auth: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("password", "token", "value", "client_secret"):
        if name in auth and not _SECRET.fullmatch(auth[name]):
            yield f"auth/{name}", f'a {name} is not written into a workflow: store it as a secret and write "$secret.NAME"'
    if auth["kind"] == "header" and not auth["name"].startswith("$secret"):
        problem = _header_problem(auth["name"])
        if problem:
            yield "auth/name", problem
    if auth["kind"] == "query" and not auth["name"]:
        yield "auth/name", "the name of a field of the query is empty"
    if "token_url" in auth and not auth["token_url"].startswith("$secret"):
        problem = _url_problem(auth["token_url"])
        if problem or "{{" in auth["token_url"]:
            yield "auth/token_url", problem or "a token_url holds no expressions"


def _page_problems(pagination: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("next", "items"):
        if name in pagination:
            problem = _path_problem(pagination[name])
            if problem:
                yield f"pagination/{name}", problem
    if "size_param" in pagination and "size" not in pagination:
        yield "pagination/size_param", "size_param says where the size of a page goes, but there is no size"


def _path_problem(text: str) -> str | None:
    try:
        parsed = expressions.parse(text)
    except Malformed as error:
        return str(error)
    if not isinstance(parsed, expressions.Path) or parsed.root != "json":
        return f'"{shorten(text)}" is not a path into the data of a page, such as $json.next'
    return None
