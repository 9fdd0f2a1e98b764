"""One talk: a call with its redirects, further pages of the same item, and the cookies of all of them.

Credentials are for the origin (scheme, host and port) of the first call. Once the talk is led to another, they stay behind for the rest
of that call: the auth of the node, `Authorization` and `Cookie` given by hand, and cookies of the first origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote, urlencode

import httpx

from mechaway_core import __version__
from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import AddressRefused, HttpError, NodeError, OutOfTime
from mechaway_core.http.auth import Auth, Credentials, basic
from mechaway_core.http.decoding import ACCEPTED, decoded
from mechaway_core.http.fields import links
from mechaway_core.http.message import Body, Call
from mechaway_core.http.wire import Dropped, Exchange, Received, Wire
from mechaway_core.names import shorten

_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")  # RFC 9110, 9.2.2: sent twice they do what they do once
_BY_HAND = ("authorization", "cookie", "proxy-authorization")
_OF_A_BODY = ("content-type", "content-encoding", "content-language", "content-location")
_DEFAULTS = {"accept": "*/*", "accept-encoding": ACCEPTED, "user-agent": f"Mechaway/{__version__}"}
_SHORT = re.compile(r"[0-9]{1,4}")  # a body of so many bytes is quicker read than its connection made anew

_HOST = re.compile(rb"[a-zA-Z0-9._~\-]+|[0-9a-fA-F:.]+")  # a name, in Punycode when it has other letters, or an address without brackets

Origin = tuple[str, bytes, int | None]


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request of a call: the first, or one that a redirect asks for."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    body: Body | None
    trusted: bool  # whether it goes where the credentials are for

    @property
    def what(self) -> str:
        """The request in an error: no query, no user, no headers."""
        return f"{self.method} {shown(self.url)}"


class Talk:
    """See above. For one thread."""

    def __init__(self, wire: Wire, auth: Auth | None, redirects: int, cancellation: Cancellation) -> None:
        self._wire = wire
        self._auth = auth
        self._redirects = redirects
        self._cancellation = cancellation
        self._home: Origin | None = None
        self._by_url: Credentials | None = None  # from `user:password@` in the first URL
        self._cookies: dict[Origin, httpx.Cookies] = {}  # of the origins that set some

    def send(self, call: Call, deadline: float) -> Answer:
        """The answer to a call, after its redirects; close it. `deadline` is an instant of `time.monotonic()`.

        Any status is an answer. Raises `HttpError`, `AddressRefused`, `OutOfTime`, `Cancelled`, and `NodeError` for a URL that is none.
        """
        hop = self._first(call)
        renewed, followed = False, 0
        while True:
            answer = self._answer(hop, deadline)
            if answer.status == 401 and hop.trusted and not renewed and self._auth is not None and self._auth.renew():
                renewed = True
                answer.discard()
                continue
            location = answer.headers_by_name.get("location")
            if not self._redirects or answer.status not in _REDIRECTS or not location:
                return answer
            answer.discard()
            if followed == self._redirects:
                raise HttpError(f"{hop.what}: more than {self._redirects} redirects (max_redirects)")
            followed += 1
            with _named(hop.what):
                hop = self._next(hop, answer.status, location)

    def _first(self, call: Call) -> _Hop:
        url = url_of(call.url)
        if self._home is None:
            self._home = origin(url)
            if url.userinfo and self._auth is None:
                self._by_url = basic(url.username, url.password)
        url = _with_query(_bare(url), call.query)
        headers = {name.lower(): value for name, value in call.headers.items()}
        return self._kept_home(_Hop(call.method, url, headers, call.body, True))

    def _next(self, hop: _Hop, status: int, location: str) -> _Hop:
        """What a redirect asks for (RFC 9110, 15.4). Raises `HttpError`."""
        url = joined(hop.url, location)
        method, body, headers = hop.method, hop.body, hop.headers
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = {name: value for name, value in headers.items() if name not in _OF_A_BODY}
        return self._kept_home(_Hop(method, url, headers, body, hop.trusted))

    def _kept_home(self, hop: _Hop) -> _Hop:
        """The hop, without credentials when it leads elsewhere."""
        if hop.trusted and origin(hop.url) == self._home:
            return hop
        headers = {name: value for name, value in hop.headers.items() if name not in _BY_HAND}
        return replace(hop, headers=headers, trusted=False)

    def _answer(self, hop: _Hop, deadline: float) -> Answer:
        credentials = None
        if hop.trusted:
            credentials = self._auth.credentials(deadline) if self._auth is not None else self._by_url
        with _named(hop.what):
            received = self._sent(hop, credentials or Credentials(), deadline)
        answer = Answer(received, hop)
        if "set-cookie" in answer.headers_by_name:
            self._keep_cookies(hop, received)
        return answer

    def _sent(self, hop: _Hop, credentials: Credentials, deadline: float) -> Received:
        """The head of the answer. A pooled connection that turns out to be dead is replaced, where that cannot act twice."""
        while True:
            exchange = Exchange(deadline, self._cancellation)
            try:
                return self._wire.send(self._request(hop, credentials), exchange)
            except Dropped:
                if exchange.connected or exchange.received or hop.method not in _AGAIN:
                    raise

    def _request(self, hop: _Hop, credentials: Credentials) -> httpx.Request:
        headers = _DEFAULTS | dict(hop.headers) | {name.lower(): value for name, value in credentials.headers.items()}
        if hop.body is not None:
            headers.setdefault("content-type", hop.body.content_type)
            headers["content-length"] = str(hop.body.length())
        url = hop.url
        if credentials.query:
            there = httpx.QueryParams(url.query)
            url = _with_query(url, [(name, value) for name, value in credentials.query.items() if name not in there])
        encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        request = httpx.Request(hop.method, url, headers=encoded, content=hop.body)
        cookies = self._cookies.get(origin(hop.url))
        if cookies is not None and "cookie" not in headers:
            cookies.set_cookie_header(request)
        return request

    def _keep_cookies(self, hop: _Hop, received: Received) -> None:
        cookies = self._cookies.setdefault(origin(hop.url), httpx.Cookies())
        request = httpx.Request(hop.method, hop.url)
        cookies.extract_cookies(httpx.Response(received.status, headers=received.headers, request=request))


class Answer:
    """What came back: status, headers, and the body as a stream. A context manager that closes it."""

    def __init__(self, received: Received, hop: _Hop) -> None:
        self._received = received
        self.what = hop.what
        self.status = received.status
        self.has_body = hop.method != "HEAD" and received.status not in (204, 205, 304)
        self.url = hop.url
        self.headers_by_name = _by_name(received.headers)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def headers(self) -> dict[str, str | list[str]]:
        """Headers by name in lower case; several of one name joined by commas, but `set-cookie` always as a list."""
        cookies = [value.decode("latin-1") for name, value in self._received.headers if name.lower() == b"set-cookie"]
        return self.headers_by_name | ({"set-cookie": cookies} if cookies else {})

    def joined(self, reference: str) -> str:
        """The URL that a reference in this answer means. Raises `HttpError` when it is none."""
        with _named(self.what):
            return str(joined(self.url, reference))

    def next_link(self) -> str | None:
        """The URL of the link `rel="next"`, if there is one. Raises `HttpError` when it is none."""
        targets = (target for target, relations in links(self.headers_by_name.get("link", "")) if "next" in relations)
        target = next(targets, None)
        return None if target is None else self.joined(target)

    def chunks(self) -> Iterator[bytes]:
        """The body, decoded. Raises `HttpError`, `OutOfTime`."""
        with _named(self.what):
            yield from decoded(self._received, self.headers_by_name.get("content-encoding", "") if self.has_body else "")

    def read(self, most: int, limit: str) -> bytes:
        """The whole body. Raises `HttpError` naming the `limit` in words as soon as there are more than `most` bytes."""
        held = bytearray()
        for chunk in self.chunks():
            held += chunk
            if len(held) > most:
                raise HttpError(f"{self.what}: the answer is larger than {limit}")
        return bytes(held)

    def excerpt(self, most: int) -> bytes:
        """The beginning of the body, as far as it can be read; for messages."""
        held = bytearray()
        with suppress(NodeError):
            for chunk in self.chunks():
                held += chunk
                if len(held) >= most:
                    break
        return bytes(held[:most])

    def discard(self) -> None:
        """Close it; a body that says it is short is read to its end, so that the connection can be used again."""
        length = self.headers_by_name.get("content-length", "")
        if _SHORT.fullmatch(length) or not self.has_body:
            with suppress(NodeError):
                for _ in self._received:
                    pass
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._received.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def url_of(text: str) -> httpx.URL:
    """A URL that can be called. Raises `NodeError`; what the sentence shows of it has neither user nor query."""
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError):
        raise NodeError(f"{_harmless(text)} is not a URL") from None
    if not _can_be_called(url):
        raise NodeError(f"{_harmless(text)} is not a URL with http:// or https:// and a host")
    return url


def joined(base: httpx.URL, reference: str) -> httpx.URL:
    """Where a reference in an answer leads. What it says of a user or place in the page is left out. Raises `HttpError`."""
    try:
        url = _bare(base.join(reference.strip()))
    except (httpx.InvalidURL, ValueError):
        raise HttpError("the answer leads to something that is not a URL") from None
    if url.scheme not in ("http", "https"):
        raise HttpError(f'the answer leads to "{shorten(url.scheme, 20)}:", and only http and https are followed')
    if not _can_be_called(url):
        raise HttpError("the answer leads to a URL without a host or port that can be")
    return url


def _can_be_called(url: httpx.URL) -> bool:
    # Systems cut a port to 16 bits: 65536 more than a port would be that port again, unseen by whoever compares them.
    port = url.port
    try:
        url.host  # noqa: B018 - reading it decodes a name that begins with xn--, which may be none
    except ValueError:
        return False
    return url.scheme in ("http", "https") and _HOST.fullmatch(url.raw_host) is not None and (port is None or 0 < port < 65536)


def origin(url: httpx.URL) -> Origin:
    """Scheme, host and port; httpx leaves out the port that is the scheme's own."""
    return url.scheme, url.raw_host, url.port


def shown(url: httpx.URL) -> str:
    """A URL for people: without user, query and fragment. Its path stays encoded: decoding could make a secret in it hard to find."""
    port = f":{url.port}" if url.port is not None else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    return shorten(f"{url.scheme}://{host}{port}{path}", 120)


def _harmless(text: str) -> str:
    scheme, slashes, rest = text.partition("?")[0].partition("#")[0].partition("://")
    return f'"{shorten(scheme + slashes + rest.rpartition("@")[2])}"'


def _bare(url: httpx.URL) -> httpx.URL:
    """A URL without user and fragment."""
    return url.copy_with(userinfo=b"", fragment=None) if url.userinfo or url.fragment else url


def _with_query(url: httpx.URL, more: Iterable[tuple[str, str]]) -> httpx.URL:
    added = urlencode(list(more), quote_via=quote).encode()
    return url.copy_with(query=b"&".join(filter(None, (url.query, added)))) if added else url


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, raw in headers:
        name, value = key.decode("latin-1").lower(), raw.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors with the request that they are about in front."""
    try:
        yield
    except (HttpError, AddressRefused, OutOfTime) as error:
        raise type(error)(f"{what}: {error}") from None
