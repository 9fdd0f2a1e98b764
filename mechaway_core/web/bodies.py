"""What routes of the API have in common: bodies that come in and answers that go out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from mechaway_core import jsontext
from mechaway_core.app import DEFAULT_PROJECT
from mechaway_core.errors import Invalid, Malformed, Problem

Limit = Annotated[int, Query(ge=1, le=1000, description="The most to list.")]


def _project(request: Request) -> str:
    return str(request.path_params.get("project", DEFAULT_PROJECT))


Project = Annotated[str, Depends(_project)]


def json_body(schema: dict[str, Any], required: bool = True) -> dict[str, Any]:
    """The part of a route's description that says what its body is."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


async def read_object(request: Request, known: tuple[str, ...], *, needed: bool = True) -> dict[str, Any]:
    """An object with no other than the known fields."""
    raw = await request.body()
    if not raw and not needed:
        return {}
    body = jsontext.decode(raw, "the body")
    if not isinstance(body, dict):
        raise Malformed(f"the body must be an object with {', '.join(known)}")
    for name in body:
        if name not in known:
            raise Invalid(
                f'"{name[:80]}" is not a known field; known here: {", ".join(known)}', [Problem(f"/{name[:80]}", "unknown field")]
            )
    return body


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(jsontext.encode(value), status, headers, "application/json")
