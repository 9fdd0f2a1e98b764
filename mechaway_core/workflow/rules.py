"""What a workflow's `settings` say about the records of its runs, and about runs that fail or get lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

PATH_RULE = (
    'names joined by dots, such as card.number; "*" stands for any name or place in a list, "**" in front for any depth; '
    "$headers, $query and $path in front mean the request"
)
MOST_PATHS = 100

_PATH = re.compile(r"(?:\$(?:json|headers|query|path)(?:\.|$)|\*\*\.)?(?:[^.\s$*]+|\*)?(?:\.(?:[^.\s$*]+|\*))*")

Policy = Literal["all", "errors", "none"]


class HiddenPath(NamedTuple):
    """What `redact` names: `root` is json, headers, query or path; `anywhere`: at whatever depth the names begin."""

    root: str
    parts: tuple[str, ...]
    anywhere: bool = False


class Rules(NamedTuple):
    """The rules of one workflow. None: as the server has it. `keep` in seconds."""

    record: Policy | None = None
    keep: float | None = None
    redact: tuple[HiddenPath, ...] = ()
    on_failure: str | None = None
    on_lost: Literal["again", "fail"] | None = None


def rules_of(settings: Mapping[str, Any]) -> Rules:
    """The rules that the `settings` of a document that passed the checks say."""
    days = settings.get("keep_days")
    return Rules(
        settings.get("record"),
        None if days is None else days * 86_400.0,
        tuple(path for text in settings.get("redact", ()) if (path := hidden_path(text)) is not None),
        settings.get("on_failure"),
        settings.get("on_lost"),
    )


def hidden_path(text: str) -> HiddenPath | None:
    """What an entry of `redact` names; None when it names nothing that could be there."""
    if not text or len(text) > 1000 or _PATH.fullmatch(text) is None:
        return None
    root, parts = "json", text.split(".")
    if parts[0].startswith("$"):
        root = parts.pop(0)[1:]
    anywhere = bool(parts) and parts[0] == "**"
    if anywhere:
        parts.pop(0)
    if not parts or "" in parts:
        return None
    return HiddenPath(root, tuple(part.lower() for part in parts) if root == "headers" else tuple(parts), anywhere)
