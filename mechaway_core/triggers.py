"""What starts runs, brought to one form: a trigger node and its items.

A webhook's call becomes the item that its body says and the request that expressions can ask; a manual start brings its items along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from mechaway_core import charsets, jsontext
from mechaway_core.errors import Invalid, Malformed, NotAllowed, NotFound, Unsupported
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.node import Item, Items, Request
from mechaway_core.workflow import Plan, Step

MAX_FIELDS = 10_000  # of a query or form


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a webhook as it came: segments of the path below the workflow's address, still percent-encoded."""

    method: str
    segments: tuple[str, ...]
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def webhook(plan: Plan, call: Call) -> tuple[Step, Request, Items]:
    """The trigger that a call is for, the request and the items.

    Raises `NotFound` and `NotAllowed` for the address, `Malformed` and `Unsupported` for the body or query.
    """
    step, named = _route(plan, call)
    headers = headers_of(call.headers)
    request = Request(call.method, fields(call.query, "the query"), headers, named)
    return step, request, [item_of(call.body, headers.get("content-type", ""))]


def manual(plan: Plan, node_id: str | None, items: Any) -> tuple[Step, Items]:
    """The trigger and items of a manual start; without a node the first trigger, without items one empty object. Raises `Invalid`."""
    if items is None:
        items = [{}]
    if not isinstance(items, list):
        raise Invalid("items must be a list of JSON values, as the trigger would give them")
    if node_id is None:
        return next((step for step in plan.triggers if not step.disabled), plan.triggers[0]), items
    place = plan.index.get(node_id)
    if place is None:
        raise Invalid(f'there is no node "{shorten(node_id)}" to start at{did_you_mean(node_id, plan.index)}')
    step = plan.steps[place]
    if not step.node.trigger:
        names = ", ".join(trigger.id for trigger in plan.triggers)
        raise Invalid(f'"{node_id}" is no trigger, so no run can start there; triggers are {names}')
    return step, items


def _route(plan: Plan, call: Call) -> tuple[Step, dict[str, str]]:
    others: list[str] = []
    for route in plan.routes:
        named = route.match(call.segments)
        if named is None:
            continue
        if route.takes(call.method):
            return plan.steps[route.step], named
        others.extend(route.methods)
    path = "/" + "/".join(call.segments)
    if others:
        allow = tuple(dict.fromkeys(others))
        raise NotAllowed(f'"{shorten(path)}" of workflow "{plan.workflow_id}" answers {", ".join(allow)}, not {call.method}', allow)
    raise NotFound(f'workflow "{plan.workflow_id}" has no webhook at "{shorten(path)}"')


def headers_of(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case; those that came several times joined by commas (RFC 9110, section 5.3), cookies by semicolons."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        if name in headers:
            text = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{text}"
        headers[name] = text
    return headers


def fields(raw: bytes, what: str) -> dict[str, Any]:
    """Fields of a query or form; one that came several times is a list. Raises `Malformed`."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise Malformed(f"{what} is not percent-encoded UTF-8") from None
    except ValueError:
        raise Malformed(f"{what} has more than {MAX_FIELDS} fields") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def item_of(body: bytes, content_type: str) -> Item:
    """The item that a body says: JSON, the fields of a form, or text as `{"body": "…"}`; nothing is `{}`.

    Raises `Malformed` and `Unsupported`.
    """
    if not body:
        return {}
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return jsontext.decode(body, "the body")
    if kind == "application/x-www-form-urlencoded":
        return fields(body, "the body")
    if kind == "multipart/form-data":
        raise Unsupported("multipart bodies are not available in this version yet; send JSON or a form")
    if not kind:
        try:
            return jsontext.decode(body, "the body")
        except Malformed:
            pass  # without a content type, what is not JSON is text
    return {"body": _text(body, _charset(rest))}


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or "utf-8"
    return "utf-8"


def _text(body: bytes, charset: str) -> str:
    codec = charsets.codec_of(charset)
    if codec is None:
        raise Malformed(f'the charset "{shorten(charset, 40)}" of the body is not known')
    try:
        text = body.decode(codec)
        text.encode()
    except UnicodeError:
        raise Malformed(f"the body is not text in {shorten(charset, 40)}") from None
    return text
