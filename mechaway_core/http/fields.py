"""What stands in some header fields: parameters, links, dates, file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from mechaway_core.names import plain_filename

_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[^\s=;,<>\"]+\s*(?:=\s*(?:\"(?:[^\"\\]|\\.)*+\"|[^\s;,<>\"]*+))?)*+)")
_PARAMETER = re.compile(r";\s*([^\s=;,\"]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;,\"]*+)))?")
_SECONDS = re.compile(r"[0-9]{1,9}")


def parameters(text: str) -> dict[str, str]:
    """`; name=value; name="value"`, names in lower case; the first of each name counts."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        quoted, bare = match[2], match[3]
        found.setdefault(match[1].lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare or "")
    return found


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """`text/html` and the parameters of a Content-Type."""
    kind, semicolon, rest = content_type.partition(";")
    return kind.strip().lower(), parameters(semicolon + rest)


def links(header: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The links of a Link header (RFC 8288): target and relation types in lower case."""
    for match in _LINK.finditer(header):
        yield match[1].strip(), frozenset(parameters(match[2]).get("rel", "").lower().split())


def retry_after(value: str, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait, from its seconds or date; None when it says neither."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def filename(content_disposition: str) -> str | None:
    """The file name in a Content-Disposition (RFC 6266), the one in Unicode before the plain one; without folders. None if none."""
    found = parameters(content_disposition.partition(";")[1] + content_disposition.partition(";")[2])
    name = found.get("filename", "")
    charset, mark, encoded = found.get("filename*", "").partition("'")
    if mark and charset.lower() in ("utf-8", "iso-8859-1"):
        name = unquote(encoded.partition("'")[2], charset, "replace")
    return plain_filename(name) or None
