"""What an answer's body becomes: a JSON value, text, or a file that is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from mechaway_core import charsets, jsontext
from mechaway_core.errors import HttpError, Malformed
from mechaway_core.http.fields import filename, media_type
from mechaway_core.names import plain_filename

if TYPE_CHECKING:
    from mechaway_core.http.talk import Answer
    from mechaway_core.ports import FileInfo

Form = Literal["auto", "json", "text", "file"]
Keep = Callable[[str, str, Iterable[bytes]], "FileInfo"]

_JSON = re.compile(r"application/json|text/json|[^/]+/[^/]+\+json")
_TEXT = re.compile(
    r"text/.*|.*\+xml|application/(?:xml|javascript|ecmascript|x-javascript|x-www-form-urlencoded|yaml|x-yaml|toml|graphql|sql|"
    r"x-ndjson|ndjson|jsonlines|jsonl|json-seq|problem\+xml)"
)
_MAYBE_JSON = ("", "text/plain")  # what servers say that do not think about it
_FALLBACK = "cp1252"  # what browsers read text by that is not UTF-8 and does not say what it is


def data_of(answer: Answer, form: Form, most: int, limit: str, keep: Keep) -> tuple[Any, int]:
    """The body of an answer and how many bytes of it are held in memory.

    `auto` is JSON when the answer says so, text when it is some, else a file. Nothing is null, or "" for `text`.
    Raises `HttpError` past `most` bytes in memory, with the `limit` in words, and `TooLarge` for a file past its limit.
    """
    if not answer.has_body:
        return None, 0
    content_type = answer.headers_by_name.get("content-type", "")
    kind, said = media_type(content_type)
    if form == "file" or (form == "auto" and not is_readable(kind)):
        return _file(answer, content_type or "application/octet-stream", keep), 0
    raw = answer.read(most, limit)
    if form == "auto" and not kind and not _is_text(raw):
        return keep(_filename(answer), "application/octet-stream", [raw]).as_json(), 0
    return _value(answer, form, kind, raw, said.get("charset", "")), len(raw)


def is_readable(kind: str) -> bool:
    """Whether what is of this type is text, or may be."""
    return not kind or _JSON.fullmatch(kind) is not None or _TEXT.fullmatch(kind) is not None


def _value(answer: Answer, form: Form, kind: str, raw: bytes, charset: str) -> Any:
    if form == "json" or (form == "auto" and _JSON.fullmatch(kind)):
        return _json(answer, raw, charset)
    if form == "text":
        return text_of(raw, charset)
    if not raw:
        return None
    if kind in _MAYBE_JSON and raw.lstrip()[:1] in (b"{", b"["):
        try:
            return jsontext.decode(raw)
        except Malformed:
            pass
    return text_of(raw, charset)


def _json(answer: Answer, raw: bytes, charset: str) -> Any:
    if not raw.strip():
        return None
    codec = charsets.codec_of(charset) if charset else None
    text = raw.removeprefix(b"\xef\xbb\xbf") if codec in (None, "utf-8", "utf-8-sig", "ascii") else text_of(raw, charset)
    try:
        return jsontext.decode(text, "the answer")
    except Malformed as error:
        raise HttpError(f'{answer.what}: {error}; "response": "text" takes it as it is') from None


def text_of(raw: bytes, charset: str) -> str:
    """Bytes as text in the charset that was said, else UTF-8, else what browsers assume; what cannot be read becomes U+FFFD."""
    codec = charsets.codec_of(charset) if charset else None
    if codec is None:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            codec = _FALLBACK
    text = raw.decode(codec, "replace").removeprefix("\ufeff")
    return text.encode("utf-8", "replace").decode()


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in raw


def _file(answer: Answer, content_type: str, keep: Keep) -> Any:
    """The body kept as a file."""
    return keep(_filename(answer), content_type[:200], answer.chunks()).as_json()


def _filename(answer: Answer) -> str:
    said = filename(answer.headers_by_name.get("content-disposition", ""))
    return said or plain_filename(answer.url.path) or "download"
