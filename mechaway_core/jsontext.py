"""JSON text to values and back: one place for the limits that every value from outside must keep.

Text is RFC 8259 in UTF-8. Refused: a byte order mark, NaN and infinities, lone surrogates, and nesting deeper than `MAX_DEPTH`,
so that whatever was accepted can be written again.
"""

from __future__ import annotations

from typing import Any

import orjson

from mechaway_core.errors import Malformed

MAX_DEPTH = 100  # Lua's side of the sandbox keeps the same limit


def decode(data: bytes | str, what: str = "the text") -> Any:
    """The value that `data` says. Raises `Malformed` with a sentence about `what` and the place."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"{what} is not valid JSON: {_plain(error)}") from None
    if _may_be_deep(data) and depth(value) > MAX_DEPTH:
        raise Malformed(f"{what} is nested deeper than {MAX_DEPTH} levels")
    return value


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8. The value must have come from `decode` or from a node; raises `TypeError` for what JSON cannot hold."""
    return orjson.dumps(value)


def depth(value: Any) -> int:
    """How deep lists and objects are nested in a value: 0 for a scalar, 1 for `[]`."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        here, level = stack.pop()
        inside = here.values() if isinstance(here, dict) else here if isinstance(here, list) else None
        if inside is None:
            continue
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in inside if isinstance(child, dict | list))
    return deepest


def _may_be_deep(data: bytes | str) -> bool:
    # Counting brackets costs a fraction of a microsecond and spares nearly every text the walk.
    if isinstance(data, str):
        return data.count("[") + data.count("{") > MAX_DEPTH
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _plain(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg} (line {error.lineno}, column {error.colno})"
