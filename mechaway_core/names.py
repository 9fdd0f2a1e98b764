"""Small words about words: ids, names of files and kinds of content, and the nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", re.ASCII)

ANY_BYTES = "application/octet-stream"

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]++/[\w!#$&^.+-]++(?:[ \t]*+;[\t\x20-\x7e]*+)?", re.ASCII)

ID_RULE = "starts with a letter or digit and goes on with letters, digits, '_', '.' or '-', 128 at most"


def is_id(text: str) -> bool:
    """Whether a text can be the id of a workflow or node."""
    return _ID.fullmatch(text) is not None


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name nearest to a wrong one, or nothing.

    Looks at the first thousand names and at none longer than an id: comparing takes time with the product of the lengths.
    """
    if len(wrong) > 128:
        return ""
    folded = {name.lower(): name for name in islice(known, 1000) if len(name) <= 128}
    near = difflib.get_close_matches(wrong.lower(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def shorten(text: str, most: int = 80) -> str:
    """A text for a message: one line, cut when long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def plain_filename(text: str) -> str:
    """The name of a file as somebody sent it, without folders and control characters, 255 characters at most (its end counts).

    It is for people. No file is ever stored under it.
    """
    last = re.split(r"[/\\]", text)[-1]
    return "".join(character for character in last if character.isprintable()).strip()[-255:].strip()


def media_type(text: str) -> str:
    """A content type as somebody sent it (RFC 9110, section 8.3), or `application/octet-stream` when it is none."""
    text = text.strip()
    return text if len(text) <= 255 and _MEDIA_TYPE.fullmatch(text) else ANY_BYTES
