"""Routes of runs on record: lists, one run, what happens now, again, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from mechaway_core import jsontext
from mechaway_core.app import DEFAULT_PROJECT, App
from mechaway_core.errors import Invalid, MechawayError, Problem
from mechaway_core.ports import RunQuery
from mechaway_core.runs import replay
from mechaway_core.runs.shown import shown_line
from mechaway_core.timing import moment_of
from mechaway_core.web.bodies import Limit, Project, json_body, json_response, read_object
from mechaway_core.web.threads import Threads

LastEventId = Annotated[str | None, Header(description="The `id` of the event that came last.")]
RunId = Annotated[str, Path(description="The id of a run.")]
TRIGGERS = ("webhook", "cron", "manual", "error", "replay")
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled", "timed_out")
LOOK_EVERY = 0.3  # seconds between two looks for what happened
MOST_MARK = 19  # digits of what the id of an event can be
KEEP_ALIVE = 15.0  # seconds without an event after which a comment is sent, so that nobody in between gives up

_WISH = {
    "from": {"type": "string", "description": 'Where to begin: "failed" (default), "start", or the id of a node.'},
    "version": {"type": "string", "enum": ["same", "current"], "default": "current", "description": "Of the workflow."},
    "items": {"type": "array", "items": {}, "description": "What the first node takes, in the place of what is on record."},
}
_FILTER = {
    "workflow": {"type": "string", "description": "Only runs of this workflow."},
    "status": {"type": "array", "items": {"type": "string", "enum": list(STATUSES)}, "description": "Only with one of these."},
    "trigger": {"type": "string", "enum": list(TRIGGERS), "description": "Only those started so."},
    "since": {"type": "string", "format": "date-time", "description": "Begun at this time or later."},
    "until": {"type": "string", "format": "date-time", "description": "Begun before this time."},
    "text": {"type": "string", "description": "Only with this text in the record; letters of ASCII in any case."},
}
_STREAM = {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
_REPLAY_BODY = json_body(
    {"type": "object", "properties": _WISH, "additionalProperties": False, "examples": [{"from": "failed", "version": "current"}]},
    required=False,
)
_REPLAY_ALL_BODY = json_body(
    {
        "type": "object",
        "properties": {
            "filter": {"type": "object", "properties": _FILTER, "additionalProperties": False, "minProperties": 1},
            **{name: _WISH[name] for name in ("from", "version")},
            "dry_run": {"type": "boolean", "default": True, "description": "Only tell; false runs them again."},
        },
        "required": ["filter"],
        "additionalProperties": False,
        "examples": [{"filter": {"workflow": "orders", "status": ["failed"]}, "from": "failed", "dry_run": True}],
    }
)


def add_routes(router: APIRouter, app: App, threads: Threads) -> None:
    """Add the routes of runs on record."""

    @router.get("/runs", tags=["runs"])
    async def list_runs(
        project: Project,
        workflow: Annotated[str | None, Query(description="Only of this workflow.")] = None,
        status: Annotated[list[str] | None, Query(description=f"Only of these statuses: {', '.join(STATUSES)}.")] = None,
        trigger: Annotated[str | None, Query(description=f"Only those started so: {', '.join(TRIGGERS)}.")] = None,
        since: Annotated[str | None, Query(description="Begun at this time or later, in ISO 8601.")] = None,
        until: Annotated[str | None, Query(description="Begun before this time.")] = None,
        text: Annotated[
            str | None, Query(max_length=200, description="Only with this text in the record; letters of ASCII in any case.")
        ] = None,
        limit: Limit = 100,
        cursor: Annotated[str, Query(description="What the page before gave as `next`.")] = "",
    ) -> Response:
        """Runs on record, newest first.

        A page may be short, or empty, and still have a `next`: it looks through 5000 runs at most, and for a text through 500 records."""
        said = {"workflow": workflow, "status": status, "trigger": trigger, "since": since, "until": until, "text": text}
        query = _query({name: value for name, value in said.items() if value}, limit, cursor)
        found, following = await run_in_threadpool(app.history.find, project, query)
        return json_response({"runs": found, "next": following})

    @router.get("/runs/events", tags=["runs"], responses={200: _STREAM}, response_class=StreamingResponse)
    async def watch_runs(project: Project, last_event_id: LastEventId = None) -> Response:
        """What is put on record from now on, as server-sent events: each `run` event is a run as lists show it.

        A comment every few seconds keeps it open; after a break `Last-Event-ID` goes on where it was. In AWS there is none (404)."""
        _, now = await run_in_threadpool(app.history.watch, project, None)
        known = last_event_id is not None and last_event_id.isdecimal() and len(last_event_id) < MOST_MARK
        mark = min(now, int(last_event_id)) if known and last_event_id is not None else now
        events = _events(app, project, mark, lambda: threads.draining)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})

    @router.get("/runs/{run_id}", tags=["runs"])
    async def get_run(project: Project, run_id: RunId) -> Response:
        """The record of a run, node by node; of one that goes on here, what there is by now."""
        return json_response(await run_in_threadpool(app.history.get, project, run_id))

    @router.post("/runs/{run_id}/cancel", status_code=202, tags=["runs"], responses={202: {"description": "It was asked to stop."}})
    async def cancel_run(project: Project, run_id: RunId) -> Response:
        """Ask a run to stop; Lua and HTTP calls in flight end with it. 409 when it is over."""
        await run_in_threadpool(app.history.cancel, project, run_id)
        return json_response({"run_id": run_id, "message": f"run {run_id} was asked to stop"}, 202)

    @router.post(
        "/runs/{run_id}/replay",
        status_code=202,
        tags=["runs"],
        openapi_extra=_REPLAY_BODY,
        responses={202: {"description": "The new run is kept; `Location` is its record."}},
    )
    async def replay_run(project: Project, run_id: RunId, request: Request) -> Response:
        """Run it again, as a new run whose parent it is: from where it failed, from its start, or from a node.

        What the nodes before gave comes from the record. 409 while it goes on, or when it succeeded and `from` is "failed"; 422 when there
        is no such node, or when the record lacks what `redact` names."""
        wish = _wish(await read_object(request, ("from", "version", "items"), needed=False))
        run = await run_in_threadpool(app.history.replay, project, run_id, wish)
        root = request.scope.get("root_path", "")
        where = f"{root}{'' if project == DEFAULT_PROJECT else f'/p/{project}'}/api/runs/{run.info.id}"
        return json_response({"run_id": run.info.id, "parent": run_id, "status": "queued"}, 202, {"location": where})

    @router.post(
        "/runs/replay",
        tags=["runs"],
        openapi_extra=_REPLAY_ALL_BODY,
        responses={
            200: {"description": "Which runs fit."},
            202: {"description": "For each run the one that repeats it, or why there is none."},
        },
    )
    async def replay_runs(project: Project, request: Request) -> Response:
        """The runs that a filter finds, 1000 of the newest at most, and with `dry_run: false` a replay of each of them (202)."""
        said = await read_object(request, ("filter", "from", "version", "dry_run"))
        dry = said.get("dry_run", True)
        if not isinstance(dry, bool):
            raise Invalid("dry_run must be true or false")
        chosen = said.get("filter")
        if not isinstance(chosen, dict) or not chosen:
            raise Invalid(f"filter must be an object with some of {', '.join(_FILTER)}")
        for name in chosen:
            if name not in _FILTER:
                raise Invalid(
                    f'"{name[:80]}" is not known in a filter; known here: {", ".join(_FILTER)}',
                    [Problem(f"/filter/{name[:80]}", "unknown field")],
                )
        query = _query(chosen, 1000, "")
        if query == RunQuery(limit=1000):
            raise Invalid("filter says nothing, which would find every run: give it one value at least")
        found = await run_in_threadpool(app.history.replay_all, project, query, _wish(said), act=not dry)
        return json_response(found.as_json(), 200 if dry else 202)


def _query(said: dict[str, Any], limit: int, cursor: str) -> RunQuery:
    statuses = said.get("status", [])
    statuses = [statuses] if isinstance(statuses, str) else statuses
    if not isinstance(statuses, list) or any(one not in STATUSES for one in statuses):
        raise Invalid(f"status must be of {', '.join(STATUSES)}")
    for name in ("workflow", "trigger", "text"):
        if not isinstance(said.get(name, ""), str):
            raise Invalid(f"{name} must be a text")
    if said.get("trigger") not in (None, *TRIGGERS):
        raise Invalid(f"trigger must be one of {', '.join(TRIGGERS)}")
    return RunQuery(
        workflow_id=said.get("workflow"),
        statuses=tuple(dict.fromkeys(statuses)),
        trigger=said.get("trigger"),
        since=_moment("since", said.get("since")),
        until=_moment("until", said.get("until")),
        text=said.get("text") or None,
        after=cursor or None,
        limit=limit,
    )


def _moment(name: str, text: Any) -> float | None:
    if text is None:
        return None
    moment = moment_of(text, "UTC") if isinstance(text, str) else None
    if moment is None:
        raise Invalid(f"{name} must be a time such as 2026-12-24T18:00:00Z")
    return moment


def _wish(said: dict[str, Any]) -> replay.Wish:
    start, version, items = said.get("from", replay.FAILED), said.get("version", "current"), said.get("items")
    if not isinstance(start, str):
        raise Invalid('from must be "failed", "start" or the id of a node')
    if version not in ("same", "current"):
        raise Invalid('version must be "same" or "current"')
    if items is not None and not isinstance(items, list):
        raise Invalid("items must be a list of JSON values")
    return replay.Wish(start, version, items)


async def _events(app: App, project: str, mark: int, over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Events behind a mark until the server is told to stop, or the project is gone; whoever goes away ends it, too."""
    silent = 0.0
    yield b": watching\n\n"
    while not over():
        try:
            lines, mark = await run_in_threadpool(app.history.watch, project, mark)
        except MechawayError:
            return
        for line in lines:
            last = b"id: %d\n" % mark if line is lines[-1] else b""  # who comes back gets those again of which it missed one
            yield last + b"event: run\ndata: %b\n\n" % jsontext.encode(shown_line(line))
        silent = 0.0 if lines else silent + LOOK_EVERY
        if silent > KEEP_ALIVE:
            silent = 0.0
            yield b": still here\n\n"
        await asyncio.sleep(LOOK_EVERY)
