"""The `auth` of the kind hmac: a signature over the raw body, before anything reads it.

Presets follow what the services document:

    github    X-Hub-Signature-256: sha256=HEX of the body
              https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    slack     X-Slack-Signature: v0=HEX of "v0:{timestamp}:{body}", X-Slack-Request-Timestamp
              https://docs.slack.dev/authentication/verifying-requests-from-slack
    stripe    Stripe-Signature: t=TIMESTAMP,v1=HEX,v1=HEX… of "{timestamp}.{body}"
              https://docs.stripe.com/webhooks#verify-manually
    shopify   X-Shopify-Hmac-SHA256: BASE64 of the body
              https://shopify.dev/docs/apps/build/webhooks/subscribe/https
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mechaway_core.access.webhook import Headers, Values, forbidden, header_problems, only, secret_names, secret_problems, unknown
from mechaway_core.names import did_you_mean, shorten

ALGORITHMS = ("sha256", "sha1", "sha512")
ENCODINGS = ("hex", "base64", "base64url")
TOLERANCE = 300.0  # seconds
MOST_TOLERANCE = 86_400.0
MOST_SIGNATURES = 16  # in one header

_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_PLACE = re.compile(r"(\{timestamp\}|\{body\})")
_FREE = ("kind", "secret", "header", "algorithm", "encoding", "prefix", "timestamp_header", "tolerance", "signed")


@dataclass(frozen=True, slots=True)
class Signature:
    """A header that holds the HMAC of the body, alone or joined with a timestamp as `signed` says.

    `listed`: the header holds `t=TIMESTAMP,v1=SIGNATURE,…`, any number of signatures of which one must fit.
    """

    secrets: tuple[str, ...]
    header: bytes
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: bytes = b""
    timestamp_header: bytes | None = None
    tolerance: float = TOLERANCE
    signed: tuple[str, ...] = ("{body}",)
    listed: bool = False
    hides: str = ""  # a signature gives no secret away

    def check_headers(self, values: Values, headers: Headers) -> None:
        """That there is a signature which can be read."""
        self._given(headers)

    def check_body(self, values: Values, headers: Headers, chunks: Iterable[bytes], now: float) -> None:
        """That one of the signatures is that of the body under one of the secrets, and not older or newer than allowed."""
        timestamp, signatures = self._given(headers)
        if timestamp is not None and abs(now - int(timestamp)) > self.tolerance:
            raise forbidden("webhook_stale", f"timestamp {int(timestamp)}")
        fits = False
        for expected in self._digests(values, timestamp or b"", chunks):
            for given in signatures:
                fits |= hmac.compare_digest(given, expected)
        if not fits:
            raise forbidden("webhook_wrong")

    def _given(self, headers: Headers) -> tuple[bytes | None, list[bytes]]:
        """The timestamp, where there is one, and the signatures in the headers, decoded."""
        value = only(headers, self.header, forbidden)
        if value is None:
            raise forbidden("webhook_missing")
        if self.listed:
            return self._listed(value)
        value = value.strip()
        if not value.startswith(self.prefix):
            raise forbidden("webhook_malformed")
        timestamp = None
        if self.timestamp_header is not None:
            timestamp = only(headers, self.timestamp_header, forbidden)
            if timestamp is None:
                raise forbidden("webhook_missing")
            timestamp = _seconds(timestamp)
        return timestamp, [decode(value[len(self.prefix) :], self.encoding)]

    def _listed(self, value: bytes) -> tuple[bytes, list[bytes]]:
        pairs = [part.strip().partition(b"=") for part in value.split(b",", 3 * MOST_SIGNATURES)]
        times = [content for name, _, content in pairs if name == b"t"]
        signatures = [content for name, _, content in pairs if name == b"v1"]  # v0 is for tests of Stripe's own
        if len(times) != 1 or not 0 < len(signatures) <= MOST_SIGNATURES:
            raise forbidden("webhook_malformed")
        # One that cannot be read does not spoil the others: another scheme may share the name one day.
        readable = [decoded for one in signatures if (decoded := _decoded(one, self.encoding)) is not None]
        return _seconds(times[0]), readable

    def _digests(self, values: Values, timestamp: bytes, chunks: Iterable[bytes]) -> list[bytes]:
        """The digest under each secret; the body is gone through once."""
        keys = [values[name].encode() for name in self.secrets]
        if isinstance(chunks, tuple):  # a body in memory, as nearly every delivery is
            message = chunks[0] if len(chunks) == len(self.signed) == 1 else b"".join(self._pieces(timestamp, chunks))
            # Not `hmac.digest`: it gives up the interpreter's lock, and beside other busy threads that costs more than a short digest does.
            return [hmac.new(key, message, self.algorithm).digest() for key in keys]
        macs = [hmac.new(key, digestmod=self.algorithm) for key in keys]
        for piece in self._pieces(timestamp, chunks):
            for mac in macs:
                mac.update(piece)
        return [mac.digest() for mac in macs]

    def _pieces(self, timestamp: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """What is signed, one after the other."""
        for part in self.signed:
            if part == "{body}":
                yield from chunks
            else:
                yield timestamp if part == "{timestamp}" else part.encode()


def _seconds(value: bytes) -> bytes:
    value = value.strip()
    if not _TIMESTAMP.fullmatch(value):
        raise forbidden("webhook_malformed")
    return value


def decode(value: bytes, encoding: str) -> bytes:
    """The bytes of a signature as it was written. Raises `Refused`."""
    found = _decoded(value.strip(), encoding)
    if found is None:
        raise forbidden("webhook_malformed")
    return found


def _decoded(value: bytes, encoding: str) -> bytes | None:
    if encoding == "hex":
        try:
            return binascii.unhexlify(value) if value else None
        except ValueError:
            return None
    try:
        if encoding == "base64url":
            return base64.b64decode(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4), altchars=b"-_", validate=True)
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


PRESETS: Mapping[str, Signature] = {
    "github": Signature((), b"x-hub-signature-256", prefix=b"sha256="),
    "slack": Signature(
        (),
        b"x-slack-signature",
        prefix=b"v0=",
        timestamp_header=b"x-slack-request-timestamp",
        signed=("v0:", "{timestamp}", ":", "{body}"),
    ),
    "stripe": Signature((), b"stripe-signature", signed=("{timestamp}", ".", "{body}"), listed=True),
    "shopify": Signature((), b"x-shopify-hmac-sha256", encoding="base64"),
}


# -- from the param


def read(auth: Mapping[str, Any]) -> Signature:
    """The lock that a param of the kind hmac says; it must be without `problems`."""
    secrets = secret_names(auth["secret"])
    if auth.get("preset") is not None:
        preset = PRESETS[auth["preset"]]
        return replace(preset, secrets=secrets, tolerance=float(auth.get("tolerance", preset.tolerance)))
    stamp = auth.get("timestamp_header")
    return Signature(
        secrets,
        auth["header"].lower().encode("ascii"),
        algorithm=auth.get("algorithm", "sha256"),
        encoding=auth.get("encoding", "hex"),
        prefix=auth.get("prefix", "").encode(),
        timestamp_header=stamp.lower().encode("ascii") if stamp is not None else None,
        tolerance=float(auth.get("tolerance", TOLERANCE)),
        signed=_parts(auth.get("signed", "{timestamp}.{body}" if stamp is not None else "{body}")),
    )


def _parts(signed: str) -> tuple[str, ...]:
    return tuple(part for part in _PLACE.split(signed) if part)


def problems(auth: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a param of the kind hmac, as (way below it, sentence)."""
    if "secret" in auth:
        yield from secret_problems(auth, "secret")
    else:
        yield "secret", "secret is missing: auth of the kind hmac needs it"
    yield from _tolerance_problems(auth)
    if auth.get("preset") is not None:
        yield from _preset_problems(auth)
        return
    yield from unknown(auth, (*_FREE, "preset"))
    if "header" not in auth:
        yield "header", f"header is missing; or name a preset, one of {', '.join(PRESETS)}"
    for name in ("header", "timestamp_header"):
        if auth.get(name) is not None:
            yield from header_problems(auth, name)
    for name, known in (("algorithm", ALGORITHMS), ("encoding", ENCODINGS)):
        if name in auth and auth[name] not in known:
            yield name, f"{name} must be one of {', '.join(known)}"
    prefix = auth.get("prefix", "")
    if not isinstance(prefix, str) or not prefix.isascii() or not prefix.isprintable() or len(prefix) > 100:
        yield "prefix", "prefix must be a text of printable ASCII characters"
    yield from _signed_problems(auth)


def _preset_problems(auth: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    preset = auth["preset"]
    if not isinstance(preset, str) or preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS) if isinstance(preset, str) else ""
        yield "preset", f"preset must be one of {', '.join(PRESETS)}{hint}"
        return
    stamped = "{timestamp}" in PRESETS[preset].signed
    for name in auth:
        if name not in ("kind", "secret", "preset", *(("tolerance",) if stamped else ())):
            yield name if name in _FREE else "", f'"{shorten(name)}" is set by the preset {preset}; leave it out, or leave out the preset'


def _tolerance_problems(auth: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = auth.get("tolerance", TOLERANCE)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MOST_TOLERANCE:
        yield "tolerance", f"tolerance must be more than 0 and at most {MOST_TOLERANCE:g} seconds"


def _signed_problems(auth: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    stamped = auth.get("timestamp_header") is not None
    signed = auth.get("signed", "{timestamp}.{body}" if stamped else "{body}")
    if not isinstance(signed, str) or len(signed) > 1000 or signed.count("{body}") != 1:
        yield "signed", 'signed must be a text with {body} once in it, such as "{timestamp}.{body}"'
    elif stamped != ("{timestamp}" in signed):
        yield "signed", "{timestamp} must be signed when there is a timestamp_header, and can only be then"
    if "tolerance" in auth and not stamped:
        yield "tolerance", "tolerance means nothing without timestamp_header"
