"""How a call of a webhook becomes an answer: the run, and what the caller gets of it.

All of it happens in the run's thread, so that large outputs do not hold up the event loop.
"""

from __future__ import annotations

import logging
from typing import Any, BinaryIO

from mechaway_core import jsontext
from mechaway_core.access.deliveries import Delivered, Kept, KeptBefore
from mechaway_core.app import DEFAULT_PROJECT, App
from mechaway_core.calls import Answered
from mechaway_core.errors import MechawayError, NodeError, NotFound
from mechaway_core.names import media_type
from mechaway_core.record import Run
from mechaway_core.runs import Later, Pending
from mechaway_core.triggers import Call
from mechaway_core.web import problems
from mechaway_core.web.problems import Answer
from mechaway_core.web.transfers import file_headers

log = logging.getLogger("mechaway.runs")

BODILESS = (204, 205, 304)  # statuses whose answers have no body (RFC 9110)

_NOT_KEPT = {"message": "this delivery was answered before; the answer was a file or too large to be kept"}


def serve(app: App, project: str, workflow_id: str, call: Call, root: str = "") -> Answer | Later[Answer]:
    """Run the workflow that a call is for, or accept the run, and make the answer. Raises what `App.call` raises, but for what was before.

    `root` stands in front of all addresses of the API, such as the stage of an API Gateway.
    """
    try:
        answered = app.calls.answer(project, workflow_id, call)
    except Delivered as before:
        return _again(before.kept)
    except KeptBefore as before:
        answer = _accepted(before.run_id, project, root)
        return answer._replace(headers={**answer.headers, "mechaway-repeated": "true"})
    claim = answered.claim
    if claim is None:
        return _once_kept(_answer(answered, app, project, root), answered.pending)
    try:
        answer = _answer(answered, app, project, root)
        if answered.pending is not None:
            answered.pending.wait()
    except BaseException:
        claim.release()
        raise
    claim.settle(Kept(answer.status, answer.headers, answer.content_type, answer.body if answer.file is None else None))
    return answer


def _once_kept(answer: Answer, pending: Pending | None) -> Answer | Later[Answer]:
    return answer if pending is None else Later(answer, pending)


def _accepted(run_id: str, project: str, root: str) -> Answer:
    """The answer to a call whose run is sure to happen: where to look for what became of it."""
    where = f"{root}{'' if project == DEFAULT_PROJECT else f'/p/{project}'}/api/runs/{run_id}"
    body = {"run_id": run_id, "status": "queued", "location": where}
    return Answer(202, jsontext.encode(body), "application/json", {"location": where, "mechaway-run-id": run_id})


def _again(kept: Kept) -> Answer:
    """The answer to a delivery that was answered before."""
    repeated = {**kept.headers, "mechaway-repeated": "true"}
    if kept.body is None:  # what was said about the body is not true of the note that stands for it
        repeated = {name: value for name, value in repeated.items() if name != "etag" and not name.startswith("content-")}
        return Answer(kept.status, jsontext.encode(_NOT_KEPT), "application/json", repeated)
    return Answer(kept.status, kept.body, kept.content_type, repeated)


def _answer(answered: Answered, app: App, project: str, root: str) -> Answer:
    """What the caller of a webhook gets."""
    run = answered.run
    if answered.accepted:
        return _accepted(run.info.id, project, root)
    if run.failure is not None:
        log.warning("%s", run.told(), extra=run.about())  # no error: whoever called is told
        return problems.failed_run(run)
    about = {"mechaway-run-id": run.info.id}
    if run.response is not None:
        return _respond(run, about, app)
    how = getattr(answered.webhook, "respond", "first_item")
    if how == "nothing":
        return Answer(204, b"", None, about)
    value = run.output if how == "all_items" else run.output[0] if run.output else None
    return Answer(200, _json(value), "application/json", about)


def _respond(run: Run, about: dict[str, str], app: App) -> Answer:
    """What a `Respond` node said."""
    response = run.response
    assert response is not None
    fields = {**response.headers, **about}
    content_type = fields.pop("content-type", None)
    if response.status in BODILESS:
        return Answer(response.status, b"", None, fields)
    if response.file is not None:
        info = response.file
        fields = file_headers(info) | fields
        return Answer(response.status, b"", content_type or media_type(info.content_type), fields, _open(app, run, info.handle))
    if isinstance(response.body, str):
        return Answer(response.status, response.body.encode(), content_type or "text/plain; charset=utf-8", fields)
    return Answer(response.status, _json(response.body), content_type or "application/json", fields)


def _open(app: App, run: Run, handle: str) -> BinaryIO:
    try:
        return app.open_file(run.info.project, handle)
    except NotFound as error:  # it was there when the node said so
        raise NodeError(f"the file that the run answers with cannot be sent: {error}") from error


def _json(value: Any) -> bytes:
    try:
        return jsontext.encode(value)
    except TypeError as error:  # a node from elsewhere gave something that JSON cannot hold
        raise MechawayError(f"the output of the run cannot be written as JSON: {error}") from error
