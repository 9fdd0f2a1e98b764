"""The front of the house: a bare ASGI application.

`/healthz` and webhooks are answered here, without a framework, because that is the path that must be quick. Everything else goes to
the API (`api.py`), which is imported by the first request that needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import unquote

from mechaway_core import logs
from mechaway_core.access.browser import cors_headers, preflight_headers
from mechaway_core.app import DEFAULT_PROJECT, App
from mechaway_core.errors import NotFound, Refused, TooMany, Unavailable
from mechaway_core.triggers import Call
from mechaway_core.web import headers, problems
from mechaway_core.web.answers import BODILESS, serve
from mechaway_core.web.headers import Header
from mechaway_core.web.problems import Answer
from mechaway_core.web.threads import FEW, FEW_THAT_SYNC, Threads
from mechaway_core.web.transfers import FILE_BODY, UNTIL, Message, Receive, Scope, Send, brings_files, send_file, spooled, whole_body

ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

_WELL = Answer(200, b"ok", "text/plain; charset=utf-8")


class Gateway:
    """The ASGI application of one process."""

    def __init__(self, app: App, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, *, threads: Threads | None = None) -> None:
        self.app = app
        self.door = app.door
        self._sleep = sleep  # before the answer to a failed authentication
        few = FEW_THAT_SYNC if app.settings.sync == "full" else FEW
        self.threads = threads or Threads(app.settings.max_runs, app.settings.max_waiting, few)
        app.runs.recorder.crowd = lambda: self.threads.busy
        self.transfers = 0  # uploads that come in and files that go out
        self._limit = int(app.settings.max_body_mb * 1_000_000)
        self._api: ASGI | None = None
        self._api_lock = asyncio.Lock()

    @property
    def draining(self) -> bool:
        """Whether the server was told to stop."""
        return self.threads.draining

    @draining.setter
    def draining(self, told: bool) -> None:
        self.threads.draining = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            raise NotImplementedError(f"Mechaway does not speak {scope['type']}")

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"])
        request_id = headers.request_id(given.get(b"x-request-id") or scope.get(headers.FRONT_ID))
        logs.request_id.set(request_id)
        extra: list[Header] = [headers.NOSNIFF, (b"x-request-id", request_id)]
        asked = scope
        project, segments, scope = _address(scope)
        webhook = segments[0] == "webhook"
        if not webhook:
            extra.extend(headers.api_headers(scope["path"]))
        try:
            answer = _WELL if segments == ["healthz"] else await self._screen(project, segments, scope, given, extra)
            if answer is None and webhook:
                answer = await self.webhook(project, segments[1:], scope, receive)
            elif answer is None:
                scope = {**_mounted(scope), "mechaway.request_id": request_id.decode()}
                await self.api(scope, receive, headers.adding(send, extra))
                return
        except Refused as error:
            answer = await self._refuse(error, asked, request_id)
        except asyncio.CancelledError:
            if not self.draining:
                raise
            # by the server that is to end now; it sends what it is given before it does
            answer = problems.answer(Unavailable("the server shut down before the run was over; try again"))
        except Exception as error:
            answer = problems.answer(error, request_id.decode())
        if self.draining:
            answer = answer._replace(headers={**answer.headers, "connection": "close"})
        if answer.file is None:
            await _send(send, answer, extra)
        else:
            await self.download(answer, answer.file, extra, scope, receive, send)

    async def _screen(
        self, project: str, segments: list[str], scope: Scope, given: Mapping[bytes, bytes], extra: list[Header]
    ) -> Answer | None:
        """Look at a request before anything is done for it; None when it may go on. Adds to the headers that its answer will carry.

        `given` are its headers by name. Raises `Forbidden` for what a stranger's web page may have sent.
        """
        answer = _too_long(scope)
        if answer is not None:
            return answer
        headers.check(scope["headers"], given)
        webhook = segments[0] == "webhook"
        if self.door.guard is not None:
            self.door.guard.check(scope["method"], given, webhook)
        if not self.door.origins:
            return None
        extra.extend(cors_headers(self.door.origins, given.get(b"origin"), webhook))
        return await self._preflight(project, segments, scope, given)

    async def _refuse(self, error: Refused, scope: Scope, request_id: bytes) -> Answer:
        """The answer to who is not let in, after a pause if its source has failed often."""
        about: dict[str, Any] = {"client": _client(scope), "headers": scope["headers"]}
        target = f"{scope['method']} {scope['path']}"
        try:
            pause = self.door.refuse(error, target=target, request_id=request_id.decode(), **about)
        except TooMany as blocked:
            return problems.answer(blocked)
        if pause:
            try:
                await self._sleep(pause)
            finally:
                self.door.woke(**about)
        return problems.answer(error)

    async def _preflight(self, project: str, segments: list[str], scope: Scope, given: Mapping[bytes, bytes]) -> Answer | None:
        """The answer to a browser that asks whether a page may call (Fetch, section 3.2), unless a webhook answers OPTIONS itself."""
        origin = given.get(b"origin")
        if scope["method"] != "OPTIONS" or origin is None or b"access-control-request-method" not in given:
            return None
        webhook = segments[0] == "webhook"
        if not self.door.origins.allow(origin.decode("latin-1"), webhook):
            return None
        if webhook and len(segments) > 1:
            workflow_id, call = _call(segments[1:], scope, b"")
            if await self.threads.run(lambda: self.app.calls.takes(project, workflow_id, call)):
                return None
        return Answer(204, b"", None, preflight_headers(given.get(b"access-control-request-headers")))

    # -- webhooks

    async def webhook(self, project: str, segments: list[str], scope: Scope, receive: Receive) -> Answer:
        if self.draining:
            raise Unavailable("the server is shutting down; try again soon")
        if not segments or not segments[0]:
            raise NotFound("a webhook's address is /webhook/{workflow id}/{path}")
        if brings_files(scope):
            return await self.upload(project, segments, scope, receive)
        workflow_id, call = _call(segments, scope, await whole_body(scope, receive, self._limit))
        root = scope.get("root_path", "")
        return await self.threads.run(lambda: serve(self.app, project, workflow_id, call, root))

    async def upload(self, project: str, segments: list[str], scope: Scope, receive: Receive) -> Answer:
        """A webhook call that may bring files: its head must be right before its body is read, and that goes to the disk."""
        if self.transfers >= self.threads.room:
            raise Unavailable("too many uploads are coming in; try again soon (MECHAWAY_MAX_RUNS, MECHAWAY_MAX_WAITING)")
        workflow_id, head = _call(segments, scope, b"")
        self.transfers += 1
        try:
            await asyncio.to_thread(self.app.calls.expect, project, workflow_id, head)  # not behind runs: the caller would wait in vain
            async with spooled(scope, receive, self.app.settings) as (body, spool):
                call = head._replace(body=body, spool=spool)
                root = scope.get("root_path", "")
                return await self.threads.run(lambda: serve(self.app, project, workflow_id, call, root))
        finally:
            self.transfers -= 1

    async def download(self, answer: Answer, file: BinaryIO, extra: Sequence[Header], scope: Scope, receive: Receive, send: Send) -> None:
        """Send an answer that is a file."""
        self.transfers += 1
        try:
            with file:
                length = file.seek(0, os.SEEK_END)  # not every file is one of this machine
                file.seek(0)
                await send(_start(answer, length, extra))
                if scope["method"] == "HEAD":
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await send_file(file, length, receive, send)
        finally:
            self.transfers -= 1

    # -- everything else

    async def api(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request and its body to the API, once it is clear that the caller may ask."""
        await self._authorize(scope)
        if self.draining:
            raise Unavailable("the server is shutting down; try again soon")
        api = self._api or await self._load_api()
        if scope["method"] == "POST" and scope["path"].endswith("/api/projects/import"):
            await self._hand_over_file(api, scope, receive, send)
        else:
            body = await whole_body(scope, receive, self._limit)
            await _hand_over(api, scope, _replay(body, receive), send)

    async def _hand_over_file(self, api: ASGI, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a body that may be larger than memory should hold: it goes along as a file."""
        self.transfers += 1
        try:
            async with spooled(scope, receive, self.app.settings) as (body, file):
                await _hand_over(api, {**scope, FILE_BODY: file or BytesIO(body)}, _replay(b"", receive), send)
        finally:
            self.transfers -= 1

    async def _load_api(self) -> ASGI:
        async with self._api_lock:
            if self._api is None:
                self._api = await asyncio.get_running_loop().run_in_executor(None, self._make_api)
            return self._api

    def _make_api(self) -> ASGI:
        from mechaway_core.web.api import make_api  # FastAPI takes a third of a second to import; webhooks never need it

        return make_api(self.app, self.threads)

    async def _authorize(self, scope: Scope) -> None:
        """Let the admin and project keys in. A key, which `mechaway.key` in the scope then holds, may only do what it is for."""
        token = self.door.credential(scope["headers"], _client(scope))
        if token is not None:
            method, path = scope["method"], scope["path"]
            scope["mechaway.key"] = await asyncio.to_thread(self.door.admit_key, token, method, path)

    # -- the end

    async def drain(self, grace: float) -> int:
        """Let running runs end, for `grace` seconds at most, then cancel the rest; returns how many were cancelled."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while (self.threads.busy or self.transfers or self.app.going) and loop.time() < until:
            await asyncio.sleep(0.01)
        cancelled = self.app.cancel_all()
        until = loop.time() + 1.0
        while (self.threads.busy or self.app.going) and loop.time() < until:
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


# -- what comes in


def _address(scope: Scope) -> tuple[str, list[str], Scope]:
    """The project and segments of a path, still percent-encoded, and the scope as the API is to see it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    segments = raw.decode("latin-1").split("/")[1:] or [""]  # none in `OPTIONS *`
    project = DEFAULT_PROJECT
    if segments[0] == "p" and len(segments) > 2:
        project, segments = unquote(segments[1]), segments[2:]
        if segments[0] != "api":  # pages and health are the same for every project
            scope = {**scope, "path": "/" + unquote("/".join(segments))}
    return project, segments, scope


def _mounted(scope: Scope) -> Scope:
    """The scope with the whole path, as ASGI has it: what an edge cut off in front of ours comes back, for the API's links."""
    root = scope.get("root_path", "")
    return {**scope, "path": root + scope["path"]} if root else scope


def _too_long(scope: Scope) -> Answer | None:
    if len(scope.get("raw_path") or scope["path"]) > headers.MOST_PATH:
        return problems.problem(414, f"the path is longer than {headers.MOST_PATH} bytes")
    if len(scope["headers"]) > headers.MOST_HEADERS:
        return problems.problem(431, f"the request has more than {headers.MOST_HEADERS} headers")
    return None


def _call(segments: Sequence[str], scope: Scope, body: bytes) -> tuple[str, Call]:
    """The id of a workflow and the call of it; `segments` are those behind /webhook."""
    rest = tuple(segments[1:-1] if segments[-1] == "" else segments[1:])
    head = (scope["method"], rest, scope["query_string"], scope["headers"])
    return unquote(segments[0]), Call(*head, body, client=_client(scope), until=scope.get(UNTIL))


def _client(scope: Scope) -> str:
    """The address at the other end of the connection."""
    client = scope.get("client")
    return client[0] if client else ""


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


# -- what goes out


async def _send(send: Send, answer: Answer, extra: Sequence[Header]) -> None:
    await send(_start(answer, len(answer.body), extra))
    await send({"type": "http.response.body", "body": answer.body})


def _start(answer: Answer, length: int, extra: Sequence[Header]) -> Message:
    """The head of an answer with a body of this length; `extra` headers go along unless it sets them itself."""
    pairs = [(b"content-length", b"%d" % length)] if answer.status not in BODILESS else []
    if answer.content_type is not None:
        pairs.append((b"content-type", answer.content_type.encode("latin-1")))
    pairs.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items())
    pairs.extend(headers.added(extra, answer.headers))
    return {"type": "http.response.start", "status": answer.status, "headers": pairs}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
