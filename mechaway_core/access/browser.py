"""Whether a web page is behind a call, and whether it may be.

A server without a token trusts whatever reaches it over loopback, and a browser is a program on this machine that strangers' pages can
command. Two headers that pages cannot forge tell: `Host` names the address that was asked for, which for a page that had its own name
point here (DNS rebinding) is that name; `Origin` and `Sec-Fetch-Site` name the page. With a token neither matters: a browser does not
send bearer tokens by itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from mechaway_core.errors import Forbidden, Invalid
from mechaway_core.names import shorten

_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?", re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?", re.ASCII)
_REMEMBERED = 64  # values of Host that were found to be fine
_READS = ("GET", "HEAD", "OPTIONS")

ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = "authorization, content-type, if-match, if-none-match, x-request-id"
EXPOSED = "etag, location, mechaway-run-id, mechaway-repeated, retry-after, x-request-id"


class Origins(NamedTuple):
    """Origins whose pages may call; `any_webhook`: every page may call webhooks."""

    named: frozenset[str]
    any_webhook: bool = False

    @classmethod
    def parse(cls, written: str) -> Origins:
        """From MECHAWAY_CORS_ORIGINS. Raises `Invalid` for what is no origin."""
        named = [origin.rstrip("/").lower() for origin in _listed(written)]
        for origin in named:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise Invalid(f'"{shorten(origin)}" in MECHAWAY_CORS_ORIGINS is not an origin such as https://app.example.com')
        return cls(frozenset(named) - {"*"}, "*" in named)

    def __bool__(self) -> bool:
        return bool(self.named) or self.any_webhook

    def allow(self, origin: str, webhook: bool) -> bool:
        """Whether pages of this origin may call."""
        return origin.lower() in self.named or (webhook and self.any_webhook)


class Guard:
    """What a server without a token asks of every call that a browser may have made."""

    def __init__(self, allowed_hosts: str, origins: Origins) -> None:
        self._hosts = frozenset(host.lower() for host in _listed(allowed_hosts))
        for host in self._hosts:
            if not _HOST.fullmatch(host):
                raise Invalid(f'"{shorten(host)}" in MECHAWAY_ALLOWED_HOSTS is not the name of a host')
        self._origins = origins
        self._fine: set[bytes] = set()

    def check(self, method: str, headers: Mapping[bytes, bytes], webhook: bool) -> None:
        """Raises `Forbidden` when the call may come from a stranger's page. `headers` by name in lower case, without duplicates."""
        host = headers.get(b"host")
        if host is not None and host not in self._fine:  # without one it is no browser
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is not None:
            self._check_origin(origin.decode("latin-1"), (host or b"").decode("latin-1"), webhook)
        elif headers.get(b"sec-fetch-site") == b"cross-site" and (webhook or method not in _READS):
            raise Forbidden("a web page of another site may not call this server", reason="cross_site")

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1").lower()
        parts = _HOST.fullmatch(text)
        if parts is None or not (is_loopback(parts[1]) or parts[1] in self._hosts or text in self._hosts):
            raise Forbidden(
                f'without an API token this server answers to localhost only, not to "{shorten(text)}"; '
                "name that host in MECHAWAY_ALLOWED_HOSTS if it is yours",
                reason="host",
                detail=shorten(text),
            )
        if len(self._fine) < _REMEMBERED:
            self._fine.add(host)

    def _check_origin(self, origin: str, host: str, webhook: bool) -> None:
        if self._origins.allow(origin, webhook) or _same(origin, host) or (webhook and _is_loopback_origin(origin)):
            return
        raise Forbidden(
            f"web pages of {shorten(origin)} may not call this server; name that origin in MECHAWAY_CORS_ORIGINS if they should",
            reason="origin",
            detail=shorten(origin),
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address, in brackets if it is IPv6, is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def cors_headers(origins: Origins, origin: bytes | None, webhook: bool) -> list[tuple[bytes, bytes]]:
    """What an answer says about who may read it, when there are origins at all."""
    headers = [(b"vary", b"origin")]
    if origin is not None and origins.allow(origin.decode("latin-1"), webhook):
        headers.append((b"access-control-allow-origin", origin))
        headers.append((b"access-control-expose-headers", EXPOSED.encode()))
    return headers


def preflight_headers(asked: bytes | None) -> dict[str, str]:
    """What the answer to a preflight says beside that; `asked` is Access-Control-Request-Headers.

    A page that may call may send what headers it likes: workflows read headers of any name, and none of them lets anybody in.
    """
    wanted = (asked or b"").decode("latin-1")
    plain = re.fullmatch(r"[A-Za-z0-9_\-, ]{1,2000}", wanted) is not None
    return {
        "access-control-allow-methods": ALLOWED_METHODS,
        "access-control-allow-headers": wanted if plain else ALLOWED_HEADERS,
        "access-control-max-age": "600",
    }


def _listed(written: str) -> list[str]:
    return [part.strip() for part in written.split(",") if part.strip()]


def _same(origin: str, host: str) -> bool:
    """Whether a page of this origin came from this server. A tunnel may speak https where we speak http, so the scheme does not count."""
    scheme, _, rest = origin.lower().partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    return port is not None and rest.removesuffix(port) == host.lower().removesuffix(port) != ""


def _is_loopback_origin(origin: str) -> bool:
    if not _ORIGIN.fullmatch(origin.lower()):
        return False
    return is_loopback(urlsplit(origin).hostname or "")
