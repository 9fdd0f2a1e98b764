"""The front of the house: a bare ASGI application.

`/healthz` and webhooks are answered here, without a framework, because that is the path that must be quick. Everything else goes to
the API (`api.py`), which is imported by the first request that needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

from mechaway_core import jsontext
from mechaway_core.access.browser import cors_headers, preflight_headers
from mechaway_core.access.deliveries import Delivered, Kept
from mechaway_core.app import DEFAULT_PROJECT, Answered, App
from mechaway_core.errors import Malformed, MechawayError, NotFound, Refused, TooLarge, TooMany, Unavailable
from mechaway_core.record import Run
from mechaway_core.triggers import Call
from mechaway_core.web import headers, problems
from mechaway_core.web.headers import Header
from mechaway_core.web.problems import Answer
from mechaway_core.web.threads import Threads

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

_NO_BODY = (204, 205, 304)
_WELL = Answer(200, b"ok", "text/plain; charset=utf-8")


class Gateway:
    """The ASGI application of one process."""

    def __init__(self, app: App, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.app = app
        self.door = app.door
        self._sleep = sleep  # before the answer to a failed authentication
        self.threads = Threads(app.settings.max_runs, app.settings.max_waiting)
        self.draining = False  # set when the server is told to stop: what is running ends, nothing new begins
        self._limit = int(app.settings.max_body_mb * 1_000_000)
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
        given = dict(scope["headers"])
        request_id = headers.request_id(given.get(b"x-request-id"))
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
                scope = {**scope, "mechaway.request_id": request_id.decode()}
                api, body = await self.api(scope, receive)
                await _hand_over(api, scope, _replay(body, receive), headers.adding(send, extra))
                return
        except Refused as error:
            answer = await self._refuse(error, asked, request_id)
        except Exception as error:
            answer = problems.answer(error, request_id.decode())
        if self.draining:
            answer = Answer(answer.status, answer.body, answer.content_type, {**answer.headers, "connection": "close"})
        await _send(send, answer, extra)

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
            if await self.threads.run(lambda: self.app.takes(project, workflow_id, call)):
                return None
        return Answer(204, b"", None, preflight_headers(given.get(b"access-control-request-headers")))

    # -- webhooks

    async def webhook(self, project: str, segments: list[str], scope: Scope, receive: Receive) -> Answer:
        if self.draining:
            raise Unavailable("the server is shutting down; try again soon")
        if not segments or not segments[0]:
            raise NotFound("a webhook's address is /webhook/{workflow id}/{path}")
        workflow_id, call = _call(segments, scope, await _body(scope, receive, self._limit))
        return await self.threads.run(lambda: self._serve(project, workflow_id, call))

    def _serve(self, project: str, workflow_id: str, call: Call) -> Answer:
        """Run the workflow and make the answer, both in the run's thread, so that large outputs do not hold up the event loop."""
        try:
            answered = self.app.call(project, workflow_id, call)
        except Delivered as before:
            return _again(before.kept)
        if answered.claim is None:
            return _answer(answered)
        try:
            answer = _answer(answered)
        except BaseException:
            answered.claim.release()
            raise
        answered.claim.settle(Kept(answer.status, answer.headers, answer.content_type, answer.body))
        return answer

    # -- everything else

    async def api(self, scope: Scope, receive: Receive) -> tuple[ASGI, bytes]:
        """The API and the body of a request for it, once it is clear that the caller may ask."""
        await self._authorize(scope)
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

    async def _authorize(self, scope: Scope) -> None:
        """Let the admin and project keys in. A key, which `mechaway.key` in the scope then holds, may only do what it is for."""
        token = self.door.credential(scope["headers"], _client(scope))
        if token is not None:
            method, path = scope["method"], scope["path"]
            loop = asyncio.get_running_loop()
            scope["mechaway.key"] = await loop.run_in_executor(None, self.door.admit_key, token, method, path)

    # -- the end

    async def drain(self, grace: float) -> int:
        """Let running runs end, for `grace` seconds at most, then cancel the rest; returns how many were cancelled."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while self.threads.busy and loop.time() < until:
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


def _too_long(scope: Scope) -> Answer | None:
    if len(scope.get("raw_path") or scope["path"]) > headers.MOST_PATH:
        return problems.problem(414, f"the path is longer than {headers.MOST_PATH} bytes")
    if len(scope["headers"]) > headers.MOST_HEADERS:
        return problems.problem(431, f"the request has more than {headers.MOST_HEADERS} headers")
    return None


def _call(segments: Sequence[str], scope: Scope, body: bytes) -> tuple[str, Call]:
    """The id of a workflow and the call of it; `segments` are those behind /webhook."""
    rest = tuple(segments[1:-1] if segments[-1] == "" else segments[1:])
    return unquote(segments[0]), Call(scope["method"], rest, scope["query_string"], scope["headers"], body, _client(scope))


def _client(scope: Scope) -> str:
    """The address at the other end of the connection."""
    client = scope.get("client")
    return client[0] if client else ""


# -- what goes out


def _again(kept: Kept) -> Answer:
    """The answer to a delivery that was answered before."""
    repeated = {**kept.headers, "mechaway-repeated": "true"}
    if kept.body is None:
        message = {"message": "this delivery was answered before; the answer was too large to be kept"}
        return Answer(kept.status, jsontext.encode(message), "application/json", repeated)
    return Answer(kept.status, kept.body, kept.content_type, repeated)


def _answer(answered: Answered) -> Answer:
    """What the caller of a webhook gets."""
    run = answered.run
    if run.failure is not None:
        return problems.failed_run(run)
    about = {"mechaway-run-id": run.info.id}
    if run.response is not None:
        return _respond(run, about)
    how = getattr(answered.webhook, "respond", "first_item")
    if how == "nothing":
        return Answer(204, b"", None, about)
    value = run.output if how == "all_items" else run.output[0] if run.output else None
    return Answer(200, _json(value), "application/json", about)


def _respond(run: Run, about: dict[str, str]) -> Answer:
    response = run.response
    assert response is not None
    fields = {**response.headers, **about}
    content_type = fields.pop("content-type", None)
    if response.status in _NO_BODY:
        return Answer(response.status, b"", None, fields)
    if isinstance(response.body, str):
        return Answer(response.status, response.body.encode(), content_type or "text/plain; charset=utf-8", fields)
    return Answer(response.status, _json(response.body), content_type or "application/json", fields)


def _json(value: Any) -> bytes:
    try:
        return jsontext.encode(value)
    except TypeError as error:  # a node from elsewhere gave something that JSON cannot hold
        raise MechawayError(f"the output of the run cannot be written as JSON: {error}") from error


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; refused by its announced length before anything is read, and by its real one as it comes."""
    announced: int | None = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            announced = int(value)
            if announced > limit:
                raise _too_large(limit)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await _next(receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
        body = b"".join(parts)
    if len(body) > limit:
        raise _too_large(limit)
    if announced is not None and announced != len(body):
        raise Malformed(f"the body has {len(body)} bytes, but Content-Length says {announced}")
    return body


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Unavailable("the caller went away before its body was here")
    return message


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit / 1_000_000:g} MB (MECHAWAY_MAX_BODY_MB)")


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


async def _send(send: Send, answer: Answer, extra: Sequence[Header]) -> None:
    """Send an answer; `extra` headers go along unless it sets them itself."""
    pairs = [(b"content-length", b"%d" % len(answer.body))] if answer.status not in _NO_BODY else []
    if answer.content_type is not None:
        pairs.append((b"content-type", answer.content_type.encode("latin-1")))
    pairs.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items())
    pairs.extend(headers.added(extra, answer.headers))
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
