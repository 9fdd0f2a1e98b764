"""Small words about words: ids, names of files and kinds of content, and the nearest known name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", re.ASCII)

ANY_BYTES = "application/octet-stream"

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]++/[\w!#$&^.+-]++(?:[ \t]*+;[\t\x20-\x7e]*+)?", re.ASCII)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

SECRET = "$secret."  # noqa: S105 - how a secret is named, not one

NAME_RULE = "starts with a letter or '_' and goes on with letters, digits and '_', 128 at most"
ID_RULE = "starts with a letter or digit and goes on with letters, digits, '_', '.' or '-', 128 at most"


def is_id(text: str) -> bool:
    """Whether a text can be the id of a workflow or node."""
    return _ID.fullmatch(text) is not None


def is_secret_name(text: str) -> bool:
    """Whether a text can be the name of a secret."""
    return _NAME.fullmatch(text) is not None


def secret_name(text: Any) -> str | None:
    """The name in `$secret.NAME`; None when the value is anything else."""
    if not isinstance(text, str) or not text.startswith(SECRET):
        return None
    name = text[len(SECRET) :]
    return name if is_secret_name(name) else None


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name nearest to a wrong one, or nothing.

    Looks at the first thousand names and at none longer than an id: comparing takes time with the product of the lengths.
    """
    import difflib  # only where something is wrong

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
    name = "".join(character for character in last if character.isprintable()).strip()[-255:].strip()
    return name if name not in (".", "..") else ""


def media_type(text: str) -> str:
    """A content type as somebody sent it (RFC 9110, section 8.3), or `application/octet-stream` when it is none."""
    text = text.strip()
    return text if len(text) <= 255 and _MEDIA_TYPE.fullmatch(text) else ANY_BYTES


def distinct(names: list[str]) -> list[str]:
    """Names of columns, each once: `id`, `id_2`, …"""
    if len(set(names)) == len(names):
        return names
    taken: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 1
        while unique in taken or (number > 1 and unique in names):
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        result.append(unique)
    return result


def least_run_id(moment: float) -> str:
    """What comes before the id of every run that begins at a moment, in seconds since 1970, or later, and after all earlier ones."""
    text = f"{max(0, min(int(moment * 1000), 0xFFFFFFFFFFFF)):012x}"
    return f"{text[:8]}-{text[8:]}"
