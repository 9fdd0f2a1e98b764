"""Credentials: what an `auth` param becomes on a request, and the tokens that were fetched for it."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, quote_plus, urlencode

from mechaway_core import jsontext
from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import HttpError, Malformed, NodeError, OutOfTime
from mechaway_core.http.headers import clean_value, is_name
from mechaway_core.http.message import Bytes, Call
from mechaway_core.names import shorten

if TYPE_CHECKING:
    from mechaway_core.http.talk import Talk

_TOKEN_MAX_BYTES = 1_000_000
_TOKEN_SECONDS = 300.0  # how long a token is used whose server does not say
_LEEWAY = 60.0  # seconds before its end in which a token is not used any more; a tenth of short lives
_MOST_TOKENS = 1000

Hide = Callable[[str], None]


class NewTalk(Protocol):
    """What opens a talk without credentials, to fetch a token."""

    def __call__(self, *, cancellation: Cancellation) -> Talk: ...


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Headers and query fields that say who calls."""

    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


class Auth(Protocol):
    """Where credentials come from."""

    def credentials(self, deadline: float) -> Credentials:
        """What to put on a request. May fetch a token; raises `NodeError`s then."""

    def renew(self) -> bool:
        """The credentials were refused: whether the next ones may be others."""


def auth_of(declared: Mapping[str, Any], owner: str, hide: Hide, tokens: Tokens, talk: NewTalk, cancellation: Cancellation) -> Auth:
    """See `Http.auth`."""
    kind = declared["kind"]
    if kind == "oauth2_client_credentials":
        return ClientCredentials(declared, owner, hide, tokens, talk, cancellation)
    return Fixed(_fixed(kind, declared, hide))


def _fixed(kind: str, declared: Mapping[str, Any], hide: Hide) -> Credentials:
    if kind == "basic":
        credentials = basic(_text(declared, "username", empty=True), _text(declared, "password", empty=True))
        hide(credentials.headers["Authorization"].removeprefix("Basic "))
        return credentials
    if kind == "bearer":
        return bearer(_text(declared, "token"))
    name, value = _text(declared, "name"), _text(declared, "value")
    if kind == "query":
        for quoted in {quote(value, safe=""), quote(value), quote_plus(value)} - {value}:
            hide(quoted)
        return Credentials(query={name: value})
    if not is_name(name):
        raise NodeError(f'the auth cannot be sent: "{shorten(name)}" is not the name of a header')
    return Credentials({name: _header(name, value)})


def basic(username: str, password: str) -> Credentials:
    """User name and password as a header (RFC 7617), in UTF-8."""
    if ":" in username:
        raise NodeError("the auth cannot be sent: a user name for basic has no colon in it")
    return Credentials({"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()})


def bearer(token: str) -> Credentials:
    """A token as a header (RFC 6750)."""
    return Credentials({"Authorization": _header("Authorization", f"Bearer {token}")})


def _text(declared: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = declared.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise NodeError(f"the auth cannot be sent: its {name} is {'empty' if value in ('', None) else 'not a text'}")
    return value


def _header(name: str, value: str) -> str:
    try:
        return clean_value(name, value)
    except ValueError as error:
        raise NodeError(f"the auth cannot be sent: {error}") from None


class Fixed:
    """Credentials that stay as they are."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def credentials(self, deadline: float) -> Credentials:
        """See `Auth.credentials`."""
        return self._credentials

    def renew(self) -> bool:
        """See `Auth.renew`."""
        return False


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A token and the instant of `time.monotonic()` until which it is used."""

    text: str
    until: float


class _Slot:
    """Where one token is kept. Its lock is held while it is fetched, so that many runs at once ask for it once."""

    __slots__ = ("lock", "token")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token: Token | None = None


class Tokens:
    """The tokens of this process. Keys are digests: no secret is kept as a key."""

    def __init__(self) -> None:
        self._slots: OrderedDict[bytes, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, fetch: Callable[[], Token], deadline: float, cancellation: Cancellation = NEVER) -> str:
        """The token of a key, fetched when there is none that still holds. Raises what `fetch` raises, `OutOfTime`, and `Cancelled`."""
        slot = self._slot(key)
        if not cancellation.acquire(slot.lock, deadline):
            raise OutOfTime("no token came in time")
        try:
            if slot.token is None or slot.token.until <= time.monotonic():
                slot.token = fetch()
            return slot.token.text
        finally:
            slot.lock.release()

    def forget(self, key: bytes, text: str) -> None:
        """Do not use this token again; one that was fetched since stays."""
        slot = self._slot(key)
        token = slot.token
        if token is not None and token.text == text:
            slot.token = None

    def __len__(self) -> int:
        return len(self._slots)

    def _slot(self, key: bytes) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > _MOST_TOKENS:
                self._slots.popitem(last=False)
            return slot


class ClientCredentials:
    """The client credentials grant of OAuth 2 (RFC 6749, 4.4)."""

    def __init__(
        self, declared: Mapping[str, Any], owner: str, hide: Hide, tokens: Tokens, talk: NewTalk, cancellation: Cancellation
    ) -> None:
        self._url = _text(declared, "token_url")
        self._client = _text(declared, "client_id"), _text(declared, "client_secret", empty=True)
        self._fields = {name: declared[name] for name in ("scope", "audience") if declared.get(name)}
        self._in_body = declared.get("in") == "body"
        self._hide = hide
        self._tokens = tokens
        self._talk = talk
        self._cancellation = cancellation
        self._used: str | None = None
        said = [owner, self._url, *self._client, sorted(self._fields.items()), self._in_body]
        self._key = hashlib.sha256(jsontext.encode(said)).digest()

    def credentials(self, deadline: float) -> Credentials:
        """See `Auth.credentials`."""
        self._used = self._tokens.get(self._key, lambda: self._fetch(deadline), deadline, self._cancellation)
        self._hide(self._used)
        return bearer(self._used)

    def renew(self) -> bool:
        """See `Auth.renew`."""
        if self._used is not None:
            self._tokens.forget(self._key, self._used)
        return True

    def _fetch(self, deadline: float) -> Token:
        fields = {"grant_type": "client_credentials"} | self._fields
        headers = {"accept": "application/json"}
        if self._in_body:
            fields |= {"client_id": self._client[0], "client_secret": self._client[1]}
        else:
            # RFC 6749, 2.3.1: both are form-encoded before they become user and password
            said = basic(*(quote_plus(part) for part in self._client)).headers["Authorization"]
            self._hide(said.removeprefix("Basic "))
            headers["authorization"] = said
        form = urlencode(fields)
        self._hide(quote_plus(self._client[1]))
        call = Call("POST", self._url, headers, body=Bytes(form.encode(), "application/x-www-form-urlencoded"))
        with self._talk(cancellation=self._cancellation).send(call, deadline) as answer:
            text = answer.read(_TOKEN_MAX_BYTES, "a token may be (1 MB)")
            return _token(answer.what, answer.status, text)


def _token(what: str, status: int, text: bytes) -> Token:
    """The token in an answer of a token endpoint. Raises `HttpError`, which holds nothing of the answer but its error code."""
    try:
        said = jsontext.decode(text)
    except Malformed:
        said = None
    fields = said if isinstance(said, dict) else {}
    if not 200 <= status < 300:
        code = fields.get("error")
        why = f" ({shorten(code, 40)})" if isinstance(code, str) and code.isascii() and code.isprintable() else ""
        raise HttpError(f"no token: {what} answered {status}{why}", status=status)
    token = fields.get("access_token")
    if not isinstance(token, str) or not token:
        raise HttpError(f"no token: the answer of {what} holds no access_token")
    return Token(token, time.monotonic() + _lifetime(fields.get("expires_in")))


def _lifetime(expires_in: Any) -> float:
    """Seconds that a token is used, somewhat less than it lives."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        seconds = _TOKEN_SECONDS
    if not 0 <= seconds < 1e9:  # also not a number at all
        seconds = _TOKEN_SECONDS
    return seconds - min(_LEEWAY, seconds / 10)
