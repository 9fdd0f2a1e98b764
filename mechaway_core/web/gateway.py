"""The front of the house: a bare ASGI application.

`/healthz` and webhooks are answered here, without a framework, because that is the path that must be quick. Everything else goes to
the API (`api.py`), which is imported by the first request that needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, BinaryIO
from urllib.parse import unquote

from mechaway_core import jsontext
from mechaway_core.app import DEFAULT_PROJECT, Answered, App
from mechaway_core.errors import MechawayError, NodeError, NotFound, Unauthorized, Unavailable
from mechaway_core.names import media_type
from mechaway_core.record import Run
from mechaway_core.triggers import Call
from mechaway_core.web import problems
from mechaway_core.web.problems import Answer
from mechaway_core.web.threads import Threads
from mechaway_core.web.transfers import (
    Message,
    Receive,
    Scope,
    Send,
    announced_length,
    brings_files,
    check_length,
    file_headers,
    next_message,
    send_file,
    spooled,
    too_large,
)

ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

_LIMIT = "MECHAWAY_MAX_BODY_MB"
_NO_BODY = (204, 205, 304)
_WELL = Answer(200, b"ok", "text/plain; charset=utf-8")


class Gateway:
    """The ASGI application of one process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.threads = Threads(app.settings.max_runs, app.settings.max_waiting)
        self.transfers = 0  # uploads that come in and files that go out
        self.draining = False  # set when the server is told to stop: what is running ends, nothing new begins
        self._limit = int(app.settings.max_body_mb * 1_000_000)
        self._token = app.settings.api_token.encode()
        self._api: ASGI | None = None
        self._api_lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            raise NotImplementedError(f"Mechaway does not speak {scope['type']}")

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await _send(send, _WELL)
            return
        raw: bytes = scope.get("raw_path") or path.encode()
        segments = raw.decode("latin-1").split("/")[1:] or [""]  # none in `OPTIONS *`
        project = DEFAULT_PROJECT
        if segments[0] == "p" and len(segments) > 2:
            project, segments = unquote(segments[1]), segments[2:]
            if segments[0] != "api":  # pages and health are the same for every project
                scope = {**scope, "path": "/" + unquote("/".join(segments))}
        try:
            if segments == ["healthz"]:
                answer = _WELL
            elif segments[0] == "webhook":
                answer = await self.webhook(project, segments[1:], scope, receive)
            else:
                api, body = await self.api(scope, receive)
                await _hand_over(api, scope, _replay(body, receive), send)
                return
        except Exception as error:
            answer = problems.answer(error)
        if self.draining:
            answer = replace(answer, headers={**answer.headers, "connection": "close"})
        if answer.file is None:
            await _send(send, answer)
        else:
            await self.download(answer, answer.file, scope, receive, send)

    # -- webhooks

    async def webhook(self, project: str, segments: list[str], scope: Scope, receive: Receive) -> Answer:
        if self.draining:
            raise Unavailable("the server is shutting down; try again soon")
        if not segments or not segments[0]:
            raise NotFound("a webhook's address is /webhook/{workflow id}/{path}")
        workflow_id = unquote(segments[0])
        rest = tuple(segments[1:-1] if segments[-1] == "" else segments[1:])
        if brings_files(scope):
            return await self.upload(project, workflow_id, rest, scope, receive)
        body = await _body(scope, receive, self._limit)
        call = Call(scope["method"], rest, scope["query_string"], scope["headers"], body)
        return await self.threads.run(lambda: _answer(self.app.call(project, workflow_id, call), self.app))

    async def upload(self, project: str, workflow_id: str, rest: tuple[str, ...], scope: Scope, receive: Receive) -> Answer:
        """A webhook call that may bring files: its head must be right before its body is read, and that goes to the disk."""
        if self.transfers >= self.threads.room:
            raise Unavailable("too many uploads are coming in; try again soon (MECHAWAY_MAX_RUNS, MECHAWAY_MAX_WAITING)")
        head = Call(scope["method"], rest, scope["query_string"], scope["headers"], b"")
        self.transfers += 1
        try:
            await self.threads.run(lambda: self.app.expect(project, workflow_id, head))
            async with spooled(scope, receive, self.app.settings) as (body, spool):
                call = replace(head, body=body, spool=spool)
                return await self.threads.run(lambda: _answer(self.app.call(project, workflow_id, call), self.app))
        finally:
            self.transfers -= 1

    async def download(self, answer: Answer, file: BinaryIO, scope: Scope, receive: Receive, send: Send) -> None:
        """Send an answer that is a file."""
        self.transfers += 1
        try:
            with file:
                length = os.fstat(file.fileno()).st_size
                await send(_start(answer, length))
                if scope["method"] == "HEAD":
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await send_file(file, length, receive, send)
        finally:
            self.transfers -= 1

    # -- everything else

    async def api(self, scope: Scope, receive: Receive) -> tuple[ASGI, bytes]:
        """The API and the body of a request for it, once it is clear that the caller may ask."""
        if self._token:
            self._authorize(scope["headers"])
        if self.draining:
            raise Unavailable("the server is shutting down; try again soon")
        api = self._api or await self._load_api()
        return api, await _body(scope, receive, self._limit)

    async def _load_api(self) -> ASGI:
        async with self._api_lock:
            if self._api is None:
                self._api = await asyncio.get_running_loop().run_in_executor(None, self._make_api)
            return self._api

    def _make_api(self) -> ASGI:
        from mechaway_core.web.api import make_api  # FastAPI takes a third of a second to import; webhooks never need it

        return make_api(self.app, self.threads)

    def _authorize(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise Unauthorized("the API asks for the header Authorization: Bearer with the token of MECHAWAY_API_TOKEN")

    # -- the end

    async def drain(self, grace: float) -> int:
        """Let running runs end, for `grace` seconds at most, then cancel the rest; returns how many were cancelled."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while (self.threads.busy or self.transfers) and loop.time() < until:
            await asyncio.sleep(0.01)
        cancelled = self.app.cancel_all() if self.threads.busy else 0
        until = loop.time() + 1.0
        while self.threads.busy and loop.time() < until:
            await asyncio.sleep(0.01)
        return cancelled

    def close(self) -> None:
        """End threads and Lua processes."""
        self.threads.close()
        self.app.close()


async def _hand_over(api: ASGI, scope: Scope, receive: Receive, send: Send) -> None:
    # What nobody expected has been logged and answered with 500 inside; Starlette raises it again for servers that log it themselves.
    with contextlib.suppress(Exception):
        await api(scope, receive, send)


def _answer(answered: Answered, app: App) -> Answer:
    """What the caller of a webhook gets; made in the run's thread, so that large outputs do not hold up the event loop."""
    run = answered.run
    if run.failure is not None:
        return problems.failed_run(run)
    headers = {"mechaway-run-id": run.info.id}
    if run.response is not None:
        return _respond(run, headers, app)
    how = getattr(answered.webhook, "respond", "first_item")
    if how == "nothing":
        return Answer(204, b"", None, headers)
    value = run.output if how == "all_items" else run.output[0] if run.output else None
    return Answer(200, _json(value), "application/json", headers)


def _respond(run: Run, headers: dict[str, str], app: App) -> Answer:
    response = run.response
    assert response is not None
    headers = {**response.headers, **headers}
    content_type = headers.pop("content-type", None)
    if response.status in _NO_BODY:
        return Answer(response.status, b"", None, headers)
    if response.file is not None:
        info = response.file
        headers = file_headers(info) | headers
        return Answer(response.status, b"", content_type or media_type(info.content_type), headers, _open(app, run, info.handle))
    if isinstance(response.body, str):
        return Answer(response.status, response.body.encode(), content_type or "text/plain; charset=utf-8", headers)
    return Answer(response.status, _json(response.body), content_type or "application/json", headers)


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


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; refused by its announced length before anything is read, and by its real one as it comes."""
    announced = announced_length(scope, limit, _LIMIT)
    message = await next_message(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await next_message(receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit, _LIMIT)
        body = b"".join(parts)
    if len(body) > limit:
        raise too_large(limit, _LIMIT)
    check_length(announced, len(body))
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send(send: Send, answer: Answer) -> None:
    await send(_start(answer, len(answer.body)))
    await send({"type": "http.response.body", "body": answer.body})


def _start(answer: Answer, length: int) -> Message:
    headers = [(b"content-length", b"%d" % length)] if answer.status not in _NO_BODY else []
    if answer.content_type is not None:
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
    headers.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items())
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
