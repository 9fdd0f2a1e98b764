"""The `auth` of a webhook: who may call it.

A param is read once into a lock: `Bearer`, `Basic`, `Header` or `Signature` (signatures.py). A lock names the secrets it needs; with
their values it looks at a call, first at the headers, then at the raw body. Whatever does not fit raises `Refused`. Every value that a
secret param takes may be a list, so that a secret can be replaced: the new one is added, senders change, the old one is removed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mechaway_core.errors import Forbidden, Malformed, Refused, Unauthorized
from mechaway_core.http.headers import is_name
from mechaway_core.names import did_you_mean, secret_name, shorten

Headers = Sequence[tuple[bytes, bytes]]
Values = Mapping[str, str]

KINDS = ("none", "bearer", "basic", "header", "hmac")
MOST_SECRETS = 10  # of one lock

_MOST_NAME = 200  # characters of the name of a header


class Lock(Protocol):
    """What a call must fit. `secrets` are the names of those whose values it needs."""

    @property
    def secrets(self) -> tuple[str, ...]: ...

    @property
    def hides(self) -> str:
        """The header, in lower case, that holds a secret and that no run must see; empty for none."""

    def check_headers(self, values: Values, headers: Headers) -> None:
        """Look at what can be seen before the body is here. Raises `Refused`."""

    def check_body(self, values: Values, headers: Headers, chunks: Iterable[bytes], now: float) -> None:
        """Look at everything, the raw body piece by piece. `now` in seconds since 1970. Raises `Refused`."""


class Bearer(NamedTuple):
    """`Authorization: Bearer` with a secret."""

    secrets: tuple[str, ...]
    hides: str = "authorization"

    def check_headers(self, values: Values, headers: Headers) -> None:
        given = only(headers, b"authorization", _unauthorized_bearer)
        if given is None:
            raise _unauthorized_bearer("webhook_missing")
        kind, _, token = given.strip().partition(b" ")
        if kind.lower() != b"bearer" or not matches(token.strip(), (values[name].encode() for name in self.secrets)):
            raise _unauthorized_bearer("webhook_wrong")

    def check_body(self, values: Values, headers: Headers, chunks: Iterable[bytes], now: float) -> None:
        self.check_headers(values, headers)  # they say it all


class Basic(NamedTuple):
    """`Authorization: Basic` (RFC 7617). The user is written in the document, or is a secret too."""

    user: str
    user_secret: str | None
    passwords: tuple[str, ...]
    hides: str = "authorization"

    @property
    def secrets(self) -> tuple[str, ...]:
        """See `Lock`."""
        return self.passwords if self.user_secret is None else (*self.passwords, self.user_secret)

    def check_headers(self, values: Values, headers: Headers) -> None:
        given = only(headers, b"authorization", _unauthorized_basic)
        if given is None:
            raise _unauthorized_basic("webhook_missing")
        kind, _, coded = given.strip().partition(b" ")
        try:
            user, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
        except binascii.Error:
            raise _unauthorized_basic("webhook_wrong") from None
        expected = self.user if self.user_secret is None else values[self.user_secret]
        right_user = hmac.compare_digest(user, expected.encode())
        right_password = matches(password, (values[name].encode() for name in self.passwords))
        if kind.lower() != b"basic" or not (colon and right_user and right_password):
            raise _unauthorized_basic("webhook_wrong")

    def check_body(self, values: Values, headers: Headers, chunks: Iterable[bytes], now: float) -> None:
        self.check_headers(values, headers)  # they say it all


class Header(NamedTuple):
    """A header of any name that holds a secret."""

    name: bytes
    secrets: tuple[str, ...]

    @property
    def hides(self) -> str:
        """See `Lock`."""
        return self.name.decode("ascii")

    def check_headers(self, values: Values, headers: Headers) -> None:
        given = only(headers, self.name, forbidden)
        if given is None:
            raise forbidden("webhook_missing")
        if not matches(given.strip(), (values[name].encode() for name in self.secrets)):
            raise forbidden("webhook_wrong")

    def check_body(self, values: Values, headers: Headers, chunks: Iterable[bytes], now: float) -> None:
        self.check_headers(values, headers)  # they say it all


# -- what locks share


def matches(given: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether a value is one of the secrets; takes as long whichever it is."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret)
    return found


def only(headers: Headers, name: bytes, refuse: Any) -> bytes | None:
    """The value of a header that may come once. `refuse` makes the error when it comes twice: nobody could say which one counts."""
    found: bytes | None = None
    for key, value in headers:
        if key == name or key.lower() == name:
            if found is not None:
                raise refuse("webhook_twice")
            found = value
    return found


def forbidden(reason: str, detail: str = "") -> Refused:
    """The refusal of a call whose header or signature does not fit. Showing nothing is no guess."""
    return Forbidden(
        "the call was refused: it does not show that it may call this webhook", reason=reason, guess=_guess(reason), detail=detail
    )


def _unauthorized_bearer(reason: str) -> Refused:
    return _unauthorized(reason, 'Bearer realm="webhook"')


def _unauthorized_basic(reason: str) -> Refused:
    return _unauthorized(reason, 'Basic realm="webhook", charset="UTF-8"')


def _unauthorized(reason: str, challenge: str) -> Refused:
    message = "this webhook asks for credentials in the header Authorization"
    return Unauthorized(message, reason=reason, guess=_guess(reason), challenge=challenge)


def _guess(reason: str) -> bool:
    return reason != "webhook_missing"


# -- from the param


def read_lock(auth: Any) -> Lock | None:
    """The lock that the param says, None for none. Raises `Malformed` with the first problem."""
    problem = next(iter(problems(auth)), None)
    if problem is not None:
        raise Malformed(problem[1])
    if auth == "none" or auth["kind"] == "none":
        return None
    kind = auth["kind"]
    if kind == "bearer":
        return Bearer(secret_names(auth["token"]))
    if kind == "basic":
        user_secret = secret_name(auth["username"])
        return Basic(auth["username"], user_secret, secret_names(auth["password"]))
    if kind == "header":
        return Header(auth["name"].lower().encode("ascii"), secret_names(auth["value"]))
    from mechaway_core.access import signatures  # below: only workflows that check signatures need it

    return signatures.read(auth)


def problems(auth: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with the param, as (way below it, sentence)."""
    if auth == "none":
        return
    if not isinstance(auth, dict):
        yield "", f'auth must be "none" or an object with kind, one of {", ".join(KINDS)}'
        return
    kind = auth.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        yield "kind", f"kind must be one of {', '.join(KINDS)}{hint}"
        return
    if kind == "hmac":
        from mechaway_core.access import signatures

        yield from signatures.problems(auth)
        return
    needed = {"none": (), "bearer": ("token",), "basic": ("username", "password"), "header": ("name", "value")}[kind]
    yield from unknown(auth, ("kind", *needed))
    for name in needed:
        if name not in auth:
            yield name, f"{name} is missing: auth of the kind {kind} needs it"
        elif name == "username":
            yield from _user_problems(auth[name])
        elif name == "name":
            yield from header_problems(auth, "name")
        else:
            yield from secret_problems(auth, name)


def unknown(auth: Mapping[str, Any], known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Fields that nobody knows."""
    for name in auth:
        if name not in known:
            hint = did_you_mean(name, known) or f"; known here: {', '.join(known)}"
            yield "", f'"{shorten(name)}" is not a known field of auth{hint}'


def secret_problems(auth: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Whether a field is `$secret.NAME`, or a list of such."""
    written = auth[name] if isinstance(auth[name], list) else [auth[name]]
    if not written or len(written) > MOST_SECRETS:
        yield name, f"{name} must be $secret.NAME, or a list of 1 to {MOST_SECRETS} of them"
    elif any(secret_name(one) is None for one in written):
        yield name, f"{name} must be $secret.NAME: a secret that stands in the workflow is none"


def header_problems(auth: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Whether a field is the name of a header."""
    if not isinstance(auth[name], str) or not is_name(auth[name]) or len(auth[name]) > _MOST_NAME:
        yield name, f"{name} must be the name of a header"


def _user_problems(user: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(user, str) or not user or (secret_name(user) is None and (":" in user or not user.isprintable())):
        yield "username", 'username must be a text without ":" or $secret.NAME'


def secret_names(value: Any) -> tuple[str, ...]:
    """The names in a field that `secret_problems` found fine."""
    return tuple(name for one in (value if isinstance(value, list) else [value]) if (name := secret_name(one)) is not None)
