"""The node that calls HTTP servers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from mechaway_core import expressions
from mechaway_core.bounds import Ge, Gt, Le
from mechaway_core.errors import Malformed
from mechaway_core.http.headers import is_name
from mechaway_core.names import shorten
from mechaway_core.node import Context, Item, ItemNode, Items, param
from mechaway_core.settings import Settings

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12

_CLIENTS_OWN = ("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
                "upgrade")  # fmt: skip
_SECRET = ("$secret.", "$secret[")  # whether the rest is a secret's name is for the check of `secret` params to say


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

OAuth2ClientCredentials.__doc__ = "A token that is fetched with a client's id and secret; `in` says where these go, `header` when left out."

MaxPages = Annotated[int, Ge(1), Le(100_000)]


class LinkPages(TypedDict):
    """The header Link says where the next page is, as rel="next"."""

    kind: Required[Literal["link"]]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class BodyPages(TypedDict):
    """The body says where the next page is: `next` is a path to its URL."""

    kind: Required[Literal["body"]]
    next: Required[str]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class NumberPages(TypedDict):
    """Pages are counted; `size` goes into the query as `size_param`, "size" when left out."""

    kind: Required[Literal["page"]]
    param: Required[str]
    start: NotRequired[Annotated[int, Ge(0)]]
    size_param: NotRequired[str]
    size: NotRequired[Annotated[int, Ge(1)]]
    items: NotRequired[str]
    max_pages: NotRequired[MaxPages]


class CursorPages(TypedDict):
    """The body holds a cursor for the next page, which `next` finds and `param` sends."""

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
    With `idempotency_key`, a server that knows such keys acts once, however often `retry` repeats the call.
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
    idempotency_key: bool | str = param(
        "Whether to send the header `Idempotency-Key` with `$run.key`, the same at every attempt; or a template for what to send. A header "
        "of that name in `headers` wins. Pages after the first add their number.",
        False,
        template=True,
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
        if isinstance(self.idempotency_key, str) and "{{" not in self.idempotency_key:
            yield "idempotency_key", "the key is the same for every call: write an expression in {{ }}, or true for $run.key"
        if self.body_type in ("form", "multipart") and not isinstance(self.body, dict | str | None):
            yield "body", f"a body of type {self.body_type} is an object of fields"
        if self.auth is not None:
            yield from _auth_problems(self.auth)
        if self.pagination is not None:
            yield from _page_problems(self.pagination)

    def run_item(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Items:
        from mechaway_core.http_work import Work  # a cold start that calls nobody need not load it

        return Work(self, item, inputs, ctx).items()


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
        if name in auth and not auth[name].startswith(_SECRET):
            yield f"auth/{name}", f'a {name} is not written into a workflow: store it as a secret and write "$secret.NAME"'
    if auth["kind"] == "header" and not auth["name"].startswith(_SECRET):
        problem = _header_problem(auth["name"])
        if problem:
            yield "auth/name", problem
    if auth["kind"] == "query" and not auth["name"]:
        yield "auth/name", "the name of a field of the query is empty"
    if "token_url" in auth and not auth["token_url"].startswith(_SECRET):
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
