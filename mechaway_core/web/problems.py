"""The one place where errors become statuses: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple

from mechaway_core import jsontext
from mechaway_core.errors import (
    Busy,
    Conflict,
    Forbidden,
    Hidden,
    Invalid,
    Malformed,
    MechawayError,
    NodeError,
    NotAllowed,
    NotFound,
    NotOnRecord,
    OutOfTime,
    Problem,
    Stale,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from mechaway_core.logs import about
from mechaway_core.record import Run

log = logging.getLogger("mechaway.web")

CONTENT_TYPE = "application/problem+json"

# The first class that fits counts, so narrower ones stand before wider ones.
_STATUSES: tuple[tuple[type[MechawayError], int], ...] = (
    (Stale, 412),
    (Conflict, 409),
    (Malformed, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (Hidden, 404),
    (TooMany, 429),
    (NotFound, 404),
    (NotAllowed, 405),
    (TooSlow, 408),
    (TooLarge, 413),
    (Unsupported, 415),
    (Invalid, 422),
    (OutOfTime, 504),
    (NodeError, 422),
    (Unavailable, 503),
)

_FAILED = {"timeout": 504, "cancelled": 503, "unavailable": 503, "internal": 500}


class Answer(NamedTuple):
    """An HTTP answer, ready to be sent. Header names are in lower case. An open `file` stands for the body; sending closes it."""

    status: int
    body: bytes
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = {}
    file: BinaryIO | None = None


def answer(error: Exception, request_id: str = "") -> Answer:
    """The answer to whoever caused an error. What nobody expected is logged, and told without its inside."""
    if not isinstance(error, MechawayError):
        log.error("a request failed unexpectedly", exc_info=error, extra=about(request_id=request_id or None))
        return problem(500, "Mechaway failed unexpectedly; the server's log says more")
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    headers: dict[str, str] = {}
    if isinstance(error, NotAllowed):
        headers["allow"] = ", ".join(error.allow)
    elif isinstance(error, Unauthorized):
        headers["www-authenticate"] = error.challenge
    elif isinstance(error, TooMany):
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, Unavailable | Busy):
        headers["retry-after"] = "1"
    extra: dict[str, Any] = {"errors": problems(error.problems)} if isinstance(error, Invalid) and error.problems else {}
    if isinstance(error, NotOnRecord):
        headers["mechaway-run-id"] = extra["run_id"] = error.run_id
    return problem(status, str(error), headers, **extra)


def failed_run(run: Run) -> Answer:
    """The answer of a webhook whose run did not succeed."""
    failure = run.failure
    assert failure is not None
    status = 504 if run.status == "timed_out" else _FAILED.get(failure.kind, 422) if failure.kind != "timeout" else 422
    extra: dict[str, Any] = {"run_id": run.info.id}
    if failure.node is not None:
        extra["node_id"] = failure.node
    headers = {"mechaway-run-id": run.info.id}
    if status == 503:
        headers["retry-after"] = "1"
    return problem(status, failure.message, headers, **extra)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> Answer:
    """A problem document."""
    title = HTTPStatus(status).phrase
    document = {"type": f"urn:mechaway:problem:{title.lower().replace(' ', '-')}", "title": title, "status": status, "detail": detail}
    return Answer(status, jsontext.encode(document | extra), CONTENT_TYPE, headers or {})


def problems(found: tuple[Problem, ...]) -> list[dict[str, Any]]:
    """Problems as JSON: pointer, node (when it concerns one) and message."""
    return [{"pointer": one.pointer, **({"node": one.node} if one.node is not None else {}), "message": one.message} for one in found]
