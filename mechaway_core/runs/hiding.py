"""What a record does not show: the values that a workflow's `redact` names, and headers by which callers come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mechaway_core.workflow import HiddenPath

HIDDEN = "[redacted]"
HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key", "x-amz-security-token", "x-auth-token"})


def hide(value: Any, paths: Sequence[HiddenPath]) -> Any:
    """A JSON value with what the paths lead to replaced. What none of them meets is answered itself; nothing is changed in place."""
    for path in paths:
        value = _anywhere(value, path.parts) if path.anywhere else _at(value, path.parts)
    return value


def hide_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers, by names in lower case, without what shows who the caller is."""
    return {name: HIDDEN if name in HEADERS else value for name, value in headers.items()}


def _at(value: Any, parts: Sequence[str]) -> Any:
    if not parts:
        return HIDDEN
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        names = list(value) if first == "*" else [first] if first in value else []
        changed = {name: _at(value[name], rest) for name in names}
        return value if all(changed[name] is value[name] for name in names) else {**value, **changed}
    if isinstance(value, list) and (first == "*" or first.isdecimal()):
        places = range(len(value)) if first == "*" else [int(first)] if int(first) < len(value) else []
        changes = {place: _at(value[place], rest) for place in places}
        same = all(changes[place] is value[place] for place in places)
        return value if same else [changes.get(place, one) for place, one in enumerate(value)]
    return value


def _anywhere(value: Any, parts: Sequence[str]) -> Any:
    value = _at(value, parts)
    if isinstance(value, dict):
        inner = {name: _anywhere(one, parts) for name, one in value.items()}
        return inner if any(inner[name] is not value[name] for name in value) else value
    if isinstance(value, list):
        items = [_anywhere(one, parts) for one in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
