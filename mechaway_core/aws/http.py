"""HTTP in Lambda: events of an HTTP API, or of a function URL, become calls of the gateway, and its answers what Lambda hands on.

Mangum runs the gateway on an event loop that lasts as long as the environment; what an event says and how an answer is written is
here. Only payload format 2.0 is spoken: what else comes is refused, in the log too. In order:

1. the path: the stage in front of it is cut off, and an HTTP API, which has decoded it, gets it encoded again;
2. the body, out of base64 where it is in it, and its true length;
3. the instant at which the front door gives up, so that the engine can answer before;
4. the answer: text where that is safe, else base64, and a problem in its place where Lambda would not carry it.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, unquote

from mangum import Mangum

from mechaway_core.aws import logs
from mechaway_core.errors import Malformed
from mechaway_core.settings import Settings
from mechaway_core.web import problems
from mechaway_core.web.gateway import Gateway
from mechaway_core.web.headers import FRONT_ID
from mechaway_core.web.problems import Answer
from mechaway_core.web.transfers import UNTIL

Event = Mapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

FRONT_DOOR = 29.0  # seconds: an HTTP API gives up after 30 (its quota cannot be raised), and the answer has a way to go
MARGIN = 0.5  # seconds before the end of the function's own time
MOST_BODY_MB = 6.0  # of a request: an event is 6 MB at most
MOST_OUT = 6_291_556  # bytes of an answer with all that is around it: what Lambda says when it is too much
SHORT = 512 * 1024  # bytes of a text that fit however JSON escapes them

_FUNCTION_URL = re.compile(r"\.lambda-url\.[a-z0-9-]+\.on\.aws$")
_TEXT = re.compile(r"text/|application/(?:[\w.-]+\+)?(?:json|xml|javascript|yaml)\b|application/x-www-form-urlencoded\b")

log = logging.getLogger("mechaway.aws")


class Context(Protocol):
    """What Lambda tells about an invocation, as far as it is of use here."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""


Handler = Callable[[Event, Context], dict[str, Any]]


def make_handler(gateway: Gateway, base_path: str = "") -> Handler:
    """The Lambda handler in front of a gateway. `base_path` is what a custom domain puts in front of addresses, such as `/flows`."""
    logging.getLogger("mangum").setLevel(logging.WARNING)  # it notes every request; API Gateway can do that better
    adapter = Mangum(gateway, lifespan="off", custom_handlers=[Reader(gateway.app.settings, base_path)])  # type: ignore[list-item]

    def handler(event: Event, context: Context) -> dict[str, Any]:
        logs.invoked(context)
        return adapter(event, context)  # type: ignore[arg-type]

    return handler


class Reader:
    """What Mangum asks who reads an event. All but one kind are refused, so that nobody else is asked."""

    def __init__(self, settings: Settings, base_path: str) -> None:
        self._patience = settings.front_door_timeout or FRONT_DOOR
        self._base_path = base_path.rstrip("/")

    def infer(self, event: Event, context: Context, config: object) -> bool:
        """Whether events of this kind are read here. Raises `Malformed` when not."""
        about = event.get("requestContext") if isinstance(event, Mapping) else None
        if not isinstance(about, Mapping) or event.get("version") != "2.0" or not isinstance(about.get("http"), Mapping):
            log.error("refused an event that is not of an HTTP API in payload format 2.0; %s", _shape(event))
            raise Malformed("this function answers events of an HTTP API in payload format 2.0, and this is none")
        return True

    def __call__(self, event: Event, context: Context, config: object) -> HttpEvent:
        """The event, read. Raises `Malformed` when its body is not what it says."""
        return HttpEvent(event, context, until=_until(event, context, self._patience), base_path=self._base_path)


class HttpEvent:
    """An event as Mangum takes it: the call as ASGI has it, its body, and how the answer is written."""

    def __init__(self, event: Event, context: Context, *, until: float, base_path: str = "") -> None:
        self.body = _body(event)
        self.scope = _scope(event, len(self.body), base_path) | {UNTIL: until, "aws.event": event, "aws.context": context}

    def __call__(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """An answer of the gateway as Lambda takes it; another in its place when it is too large for that."""
        status, headers, body = response["status"], response["headers"], response["body"]
        return _written(status, headers, body) or _too_large(headers, len(body))


# -- what comes in


def _scope(event: Event, length: int, base_path: str) -> dict[str, Any]:
    """A call as ASGI has it, but without what stands in front of its path. `length` is that of its body, in bytes."""
    about = event["requestContext"]
    call = about["http"]
    headers = _headers(event, length)
    root, path = _split(event, base_path)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call["method"],
        "scheme": next((value.decode("latin-1") for name, value in headers if name == b"x-forwarded-proto"), "https"),
        "root_path": root,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": _bytes(event.get("rawQueryString", "")),
        "headers": headers,
        FRONT_ID: _bytes(about.get("requestId", "")),
        "client": (call["sourceIp"], 0) if call.get("sourceIp") else None,
        "server": (about.get("domainName", "localhost"), 443),
    }


def _split(event: Event, base_path: str) -> tuple[str, str]:
    """What stands in front of our addresses, and the path behind it, percent-encoded.

    The path of an HTTP API begins with the stage unless that is `$default`, and is without what a custom domain maps (the developer
    guide on payload format 2.0); where it is with it all the same, as behind other proxies, `base_path` is cut off too.
    """
    about = event["requestContext"]
    path = event.get("rawPath") or about["http"].get("path") or "/"
    stage = f"/{about.get('stage', '$default')}"
    for root in (stage, base_path):
        if root not in ("", "/$default") and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :] or "/"
            return (base_path or root), _encoded(path, about)
    return base_path, _encoded(path, about)


def _encoded(path: str, about: Event) -> str:
    """The path as it was sent. An HTTP API decodes it, a function URL does not."""
    if _FUNCTION_URL.search(about.get("domainName", "")):
        return path if path.isascii() else quote(path, safe="/%")
    return quote(path, safe="/:@!$&'()*+,;=~")


def _headers(event: Event, length: int) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them. Those that came several times are joined by then, cookies stand apart, and the body has its true length."""
    given = event.get("headers") or {}
    headers = [(_bytes(name.lower()), _bytes(value)) for name, value in given.items() if name.lower() not in _OURS]
    cookies = event.get("cookies") or [value for name, value in given.items() if name.lower() == "cookie"]
    if cookies:
        headers.append((b"cookie", _bytes("; ".join(cookies))))
    if length or any(name.lower() == "content-length" for name in given):
        headers.append((b"content-length", b"%d" % length))
    return headers


_OURS = ("cookie", "content-length", "transfer-encoding")  # said anew, of what is there


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _body(event: Event) -> bytes:
    """The body as it was sent. Raises `Malformed` when it is not the base64 that the event says."""
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return _bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        log.error("refused an event whose body is not in base64, as it says it is")
        raise Malformed("the body of the event is not in base64, as it says it is") from None


def _until(event: Event, context: Context, patience: float) -> float:
    """The instant of `time.monotonic()` by which an answer must be there: the front door has waited since it took the call."""
    left = patience - _waited(event)
    return time.monotonic() + min(left, context.get_remaining_time_in_millis() / 1000 - MARGIN)


def _waited(event: Event) -> float:
    """Seconds since the front door took the call, a cold start included; 0 where clocks differ, or the event is an old one."""
    taken = event["requestContext"].get("timeEpoch")
    waited = time.time() - taken / 1000 if isinstance(taken, int | float) else 0.0
    return waited if 0 < waited < FRONT_DOOR else 0.0


def _shape(event: object) -> str:
    """What an event looks like, without what it says."""
    if not isinstance(event, Mapping):
        return f"it is a {type(event).__name__}"
    return f"its fields are {', '.join(sorted(map(str, event)))[:500] or 'none'}"


# -- what goes out


def _written(status: int, headers: Headers, body: bytes) -> dict[str, Any] | None:
    """An answer as Lambda takes it; None when it is too large."""
    fields, cookies = _fields(headers)
    answer: dict[str, Any] = {"statusCode": status, "headers": fields, "body": "", "isBase64Encoded": False}
    if cookies:
        answer["cookies"] = cookies
    if len(body) <= SHORT:
        return answer | _small(body, fields.get("content-type", ""))
    room = MOST_OUT - len(json.dumps(answer))
    if len(body) // 3 * 4 + 4 <= room:  # of a size that is known, whatever is in it
        return answer | _base64(body)
    text = _text(body, fields.get("content-type", ""))
    if text is not None and len(json.dumps(text)) <= room:
        return answer | {"body": text}
    return None


def _small(body: bytes, content_type: str) -> dict[str, Any]:
    text = _text(body, content_type)
    return _base64(body) if text is None else {"body": text}


def _base64(body: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text when it is some, whatever its charset is called: what is UTF-8 comes out of it as the same bytes."""
    if not body:
        return ""
    if _TEXT.match(content_type.lower()) is None:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _fields(headers: Headers) -> tuple[dict[str, str], list[str]]:
    """Headers by name, several of one name joined, and the cookies, which must not be (RFC 9110, section 5.3)."""
    fields: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        else:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields, cookies


def _too_large(headers: Headers, length: int) -> dict[str, Any]:
    """The answer in place of one that Lambda would not carry. The run, if there was one, is over and did what it did."""
    run_id = next((value.decode("latin-1") for name, value in headers if name.lower() == b"mechaway-run-id"), None)
    about: dict[str, Any] = {"run_id": run_id} if run_id else {}
    sentence = (
        f"the answer has {length / 1_000_000:.1f} MB, and AWS Lambda carries 6 MB, of what is not text 4.5; "
        "answer with less, page by page for instance, or with the address of where it is"
    )
    log.error("%s", sentence, extra=about)
    instead = problems.problem(422, sentence, **about)
    kept = [pair for pair in headers if pair[0].lower() not in _ABOUT_THE_BODY]
    return _as_lambda(instead, kept)


_ABOUT_THE_BODY = (b"content-length", b"content-type", b"content-disposition", b"content-encoding", b"etag", b"last-modified")


def _as_lambda(answer: Answer, headers: Headers) -> dict[str, Any]:
    about = [(b"content-type", (answer.content_type or "").encode()), (b"content-length", b"%d" % len(answer.body))]
    written = _written(answer.status, [*headers, *about], answer.body)
    assert written is not None
    return written
