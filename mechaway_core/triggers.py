"""What starts runs, brought to one form: a trigger node and its items.

A webhook's call becomes the item that its body says and the request that expressions can ask; a manual start brings its items along.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from mechaway_core import expressions, jsontext
from mechaway_core.errors import Invalid, Malformed, NotAllowed, NotFound, Unsupported
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.node import Item, Items, Request, RunInfo
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
    client: str = ""  # the address it came from


def body_chunks(call: Call) -> Iterable[bytes]:
    """The raw body of a call, piece by piece; a tuple when it is in memory."""
    return (call.body,)


def webhook(plan: Plan, call: Call) -> tuple[Step, Request, Items]:
    """The trigger that a call is for, the request and the items.

    Raises `NotFound` and `NotAllowed` for the address, `Malformed` and `Unsupported` for the body or query.
    """
    step, named = route(plan, call)
    request, items = read(call, named)
    return step, request, items


def read(call: Call, named: dict[str, str], hide: str = "") -> tuple[Request, Items]:
    """The request and the items that a call says, without the header `hide`; `named` are the named parts of its path.

    Raises `Malformed` and `Unsupported`.
    """
    headers = headers_of(call.headers)
    headers.pop(hide, None)
    request = Request(call.method, fields(call.query, "the query"), headers, named)
    return request, [item_of(call.body, headers.get("content-type", ""))]


@dataclass(frozen=True, slots=True)
class _Call:
    """What expressions about a call can reach before its run begins."""

    run: RunInfo
    request: Request

    def first_item_of(self, node_id: str) -> Item:
        return None


def delivery_key(template: str, item: Item, request: Request, run: RunInfo, evaluate: expressions.Evaluate) -> str:
    """What tells a delivery from others. Raises `Malformed` when there is nothing, `ScriptError` when the expression fails."""
    value = expressions.render(template, item, _Call(run, request), evaluate)
    key = expressions.as_text(value)
    if not key:
        raise Malformed("the call does not say which delivery it is, and this webhook takes each only once (dedupe)")
    return key


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


def route(plan: Plan, call: Call) -> tuple[Step, dict[str, str]]:
    """The trigger that a call is for and the named parts of its path. Raises `NotFound` and `NotAllowed`."""
    others: list[str] = []
    for known in plan.routes:
        named = known.match(call.segments)
        if named is None:
            continue
        if known.takes(call.method):
            return plan.steps[known.step], named
        others.extend(known.methods)
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


# Python knows codecs that are no charsets, and some of them take time that grows with the square of the text.
_CHARSETS = re.compile(
    r"utf-8|utf-8-sig|utf-16(-[bl]e)?|utf-32(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|gbk|gb2312|gb18030|big5|big5hkscs|"
    r"shift_jis\w*|euc_\w+|iso2022_\w+|johab|tis-620|hz"
)


def _text(body: bytes, charset: str) -> str:
    try:
        codec = codecs.lookup(charset)
    except (LookupError, ValueError):
        codec = None
    if codec is None or not _CHARSETS.fullmatch(codec.name):
        raise Malformed(f'the charset "{shorten(charset, 40)}" of the body is not known')
    try:
        text = body.decode(codec.name)
        text.encode()
    except UnicodeError:
        raise Malformed(f"the body is not text in {shorten(charset, 40)}") from None
    return text
