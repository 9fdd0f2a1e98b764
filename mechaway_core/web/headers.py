"""Headers that answers carry whatever they answer: request id, what a browser may do with them, who may read them."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from itertools import count
from typing import Any

from mechaway_core.errors import Malformed

Header = tuple[bytes, bytes]
Message = MutableMapping[str, Any]

MOST_HEADERS = 500
MOST_PATH = 8192  # bytes

FRONT_ID = "mechaway.front_id"  # in a scope: the id that the front door has given a call, for those that bring none

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
_PROCESS = os.urandom(6).hex().encode()
_numbers = count(1)
_ONCE = (b"host", b"origin", b"sec-fetch-site")

NOSNIFF: Header = (b"x-content-type-options", b"nosniff")

_UNFRAMED: tuple[Header, ...] = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_API: tuple[Header, ...] = (
    *_UNFRAMED,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
# FastAPI's pages start a script of their own in the page and load Swagger UI and ReDoc from a CDN, ReDoc with fonts and a worker.
_PAGE: tuple[Header, ...] = (
    *_UNFRAMED,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
        b"style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; font-src https://fonts.gstatic.com; "
        b"img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; connect-src 'self'; worker-src blob:; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
)


def request_id(given: bytes | None) -> bytes:
    """The caller's X-Request-Id when it can stand in a log, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"%s-%x" % (_PROCESS, next(_numbers))


def check(pairs: Sequence[Header], by_name: Mapping[bytes, bytes]) -> None:
    """Raises `Malformed` when a header comes twice that says where a call is for or from: `by_name` holds one of them only."""
    if len(by_name) != len(pairs):
        for name in _ONCE:
            if sum(key == name for key, _ in pairs) > 1:
                raise Malformed(f"the header {name.decode()} comes more than once")


def api_headers(path: str) -> tuple[Header, ...]:
    """What answers of the API carry; pages for people may load what they need."""
    return _PAGE if path.startswith(("/docs", "/redoc")) else _API


def added(extra: Sequence[Header], present: Collection[str]) -> Sequence[Header]:
    """Those of the extra headers that an answer does not set by itself; `present` are the names of its own, in lower case."""
    if not present or (len(present) == 1 and "mechaway-run-id" in present):
        return extra
    return [header for header in extra if header[0].decode("latin-1") not in present]


def adding(send: Callable[[Message], Awaitable[None]], extra: Sequence[Header]) -> Callable[[Message], Awaitable[None]]:
    """A `send` that adds headers to the answer which passes through it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own: list[Header] = list(message["headers"])
            message = {**message, "headers": [*own, *added(extra, {name.decode("latin-1").lower() for name, _ in own})]}
        await send(message)

    return sending
