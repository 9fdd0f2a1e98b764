"""Events as API Gateway sends them, made from those in `events/`, and the handler of the API function over adapters of this machine."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).parents[1] / "events"


@dataclass
class Context:
    """What Lambda tells about an invocation; `seconds` are left of it."""

    seconds: float = 30.0
    aws_request_id: str = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def event(name: str) -> dict[str, Any]:
    """One of the events in `events/`."""
    read: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return read


def call(
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
    *,
    query: str = "",
    binary: bool | None = None,
    stage: str = "$default",
    **about: Any,
) -> dict[str, Any]:
    """An event for a call. `path` as API Gateway gives it: decoded, and behind the stage. `about` goes into its request context."""
    made = event("webhook-post")
    raw = b"" if body is None else body.encode() if isinstance(body, str) else body
    binary = isinstance(body, bytes) if binary is None else binary
    made |= {"rawPath": path, "rawQueryString": query, "isBase64Encoded": binary}
    made["body"] = base64.b64encode(raw).decode() if binary else raw.decode()
    made["headers"] = {"host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"} | (headers or {})
    if body is None:
        del made["body"]
    else:
        made["headers"]["content-length"] = str(len(raw))
    made["requestContext"] |= {"stage": stage} | about
    made["requestContext"]["http"] |= {"method": method, "path": path}
    return made


def body_of(answer: dict[str, Any]) -> bytes:
    """The bytes that a caller gets."""
    body: str = answer["body"]
    return base64.b64decode(body) if answer["isBase64Encoded"] else body.encode()


def json_of(answer: dict[str, Any]) -> Any:
    """The JSON that a caller gets."""
    return json.loads(body_of(answer))
