"""Signed requests: AWS Signature Version 4.

Source: "Signature Calculations for the Authorization Header" in the API reference of Amazon S3. S3 differs from other services in that
a path is quoted once and not made shorter.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

NO_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of AWS. `session_token` comes with those that expire."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def quoted_path(path: str) -> str:
    """A path as it goes over the wire and into the signature."""
    return quote(path, safe="/-._~")


def quoted_query(query: Mapping[str, str]) -> str:
    """A query as it goes over the wire and into the signature: sorted, every value given."""
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    method: str, target: str, headers: Mapping[str, str], payload_sha256: str, *, keys: Keys, region: str, now: float, service: str = "s3"
) -> dict[str, str]:
    """All headers of a request, the given ones (names in lower case, `host` among them) and those that sign it.

    `target` is the quoted path, with `?` and the quoted query if there is one; `now` in seconds since 1970.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": moment}
    if keys.session_token:
        signed["x-amz-security-token"] = keys.session_token
    names = sorted(signed)
    path, _, query = target.partition("?")
    lines = [f"{name}:{' '.join(signed[name].split())}\n" for name in names]
    request = "\n".join([method, path, query, "".join(lines), ";".join(names), payload_sha256])
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = hmac.new(_signing_key(keys.secret_key, scope), text.encode(), "sha256").hexdigest()
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
    return signed


def _signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
