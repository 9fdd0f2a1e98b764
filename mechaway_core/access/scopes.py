"""Which scope of a project key each route of the API asks for. One table; a route that is not in it is for the admin only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Scope = Literal["read", "write", "run", "secrets"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

# Below /api; "*" stands for one segment. HEAD counts as GET.
TABLE: tuple[tuple[str, str, Scope], ...] = (
    ("GET", "workflows", "read"),
    ("POST", "workflows", "write"),
    ("GET", "workflows/*", "read"),
    ("PUT", "workflows/*", "write"),
    ("DELETE", "workflows/*", "write"),
    ("GET", "workflows/*/versions", "read"),
    ("GET", "workflows/*/versions/*", "read"),
    ("POST", "workflows/*/versions/*/restore", "write"),
    ("POST", "workflows/*/run", "run"),
    ("POST", "workflows/*/backfill", "run"),
    ("GET", "schedules", "read"),
    ("GET", "runs", "read"),
    ("GET", "runs/events", "read"),
    ("GET", "runs/*", "read"),
    ("POST", "runs/*/cancel", "run"),
    ("POST", "runs/*/replay", "run"),
    ("POST", "runs/replay", "run"),
    ("POST", "validate", "write"),
    ("GET", "node-types", "read"),
    ("GET", "tables", "read"),
    ("GET", "tables/*/rows", "read"),
    ("GET", "projects", "read"),
    ("GET", "projects/*", "read"),
    ("GET", "secrets", "secrets"),
    ("GET", "secrets/*", "secrets"),
    ("PUT", "secrets/*", "secrets"),
    ("DELETE", "secrets/*", "secrets"),
)
_ROWS: tuple[tuple[str, tuple[str, ...], Scope], ...] = tuple((method, tuple(route.split("/")), scope) for method, route, scope in TABLE)


def scope_for(method: str, segments: Sequence[str]) -> Scope | None:
    """The scope that a request asks for, by its segments below /api; None: the admin only."""
    asked = "GET" if method == "HEAD" else method
    for known, route, scope in _ROWS:
        if (
            known == asked
            and len(route) == len(segments)
            and all(mine in ("*", given) for mine, given in zip(route, segments, strict=True))
        ):
            return scope
    return None
