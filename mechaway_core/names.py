"""Small words about words: ids, slugs, and the nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", re.ASCII)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

NAME_RULE = "starts with a letter or '_' and goes on with letters, digits and '_', 128 at most"
ID_RULE = "starts with a letter or digit and goes on with letters, digits, '_', '.' or '-', 128 at most"


def is_id(text: str) -> bool:
    """Whether a text can be the id of a workflow or node."""
    return _ID.fullmatch(text) is not None


def is_secret_name(text: str) -> bool:
    """Whether a text can be the name of a secret."""
    return _NAME.fullmatch(text) is not None


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
