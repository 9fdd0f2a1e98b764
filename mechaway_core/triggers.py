"""What starts runs, brought to one form: a trigger node and its items.

A webhook's call becomes the item that its body says and the request that expressions can ask; a manual start brings its items along.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import parse_qsl

from mechaway_core import expressions, jsontext
from mechaway_core.access.deliveries import Delivery
from mechaway_core.charsets import charset_of, decode
from mechaway_core.errors import Invalid, Malformed, NotAllowed, NotFound, Unavailable
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.node import Area, Item, Items, Request, RunInfo
from mechaway_core.record import iso
from mechaway_core.settings import Settings
from mechaway_core.workflow import Plan, Step

MAX_FIELDS = 10_000  # of a query or form
MOST_KEY = 255  # characters of an Idempotency-Key
CHUNK = 256 * 1024  # bytes of a spooled body at a time


class Call(NamedTuple):
    """A call of a webhook as it came: segments of the path below the workflow's address, still percent-encoded.

    A body too large for memory is an open file, `spool`, which is closed when it was read: `body_chunks` reads either. `until` is the
    instant of `time.monotonic()` at which whoever stands in front of the server gives up on this call, None where nobody said.
    """

    method: str
    segments: tuple[str, ...]
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    spool: BinaryIO | None = None
    client: str = ""  # the address it came from
    until: float | None = None


def body_chunks(call: Call) -> tuple[bytes] | Generator[bytes, None, None]:
    """The raw bytes of a body as they came: a tuple when it is in memory, else piece by piece; may be asked several times.

    Whoever stops before the end of the pieces closes them. They raise `Unavailable` when the disk fails.
    """
    return (call.body,) if call.spool is None else _pieces(call.spool)


def _pieces(spool: BinaryIO) -> Generator[bytes, None, None]:
    try:
        file = os.dup(spool.fileno())  # whatever becomes of the other, this one stays what it is
        try:
            at = 0
            while chunk := os.pread(file, CHUNK, at):
                at += len(chunk)
                yield chunk
        finally:
            os.close(file)
    except OSError as error:
        raise Unavailable(f"the upload cannot be read from the disk: {error.strerror or error}") from error


def read(call: Call, named: dict[str, str], area: Area, settings: Settings, hide: str = "") -> tuple[Request, Items]:
    """The request and the items that a call brings, without the header `hide`; `named` are the named parts of its path.

    Uploads are kept in `area`. Raises `Malformed`, `Unsupported` and `TooLarge` for the query and the body.
    """
    headers = headers_of(call.headers)
    query = fields(call.query, "the query")
    content_type = headers.get("content-type", "")
    headers.pop(hide, None)
    if call.spool is None and not (call.body and is_form_data(content_type)):
        return Request(call.method, query, headers, named), [item_of(call.body, content_type)]
    from mechaway_core import multipart  # only when there is something to read with it

    limits = multipart.Limits(MAX_FIELDS, int(settings.max_body_mb * 1_000_000), settings.max_upload_files)
    chunks = body_chunks(call)
    try:
        form = multipart.read(chunks, content_type, area, limits)
    finally:
        if isinstance(chunks, Generator):  # an error keeps what it passed through alive, and that would keep the file open
            chunks.close()
    return Request(call.method, query, headers, named, form.files), [form.fields]


def is_form_data(content_type: str) -> bool:
    """Whether a body of this content type may bring files."""
    lower = content_type.lower()
    return "multipart" in lower and lower.partition(";")[0].strip() == "multipart/form-data"


class _Call(NamedTuple):
    """What expressions about a call can reach before its run begins."""

    run: RunInfo
    request: Request

    def first_item_of(self, node_id: str) -> Item:
        return None

    def key(self, number: int) -> str:
        return ""  # a save refuses it here: no node is at work yet


def delivery_key(template: str, item: Item, request: Request, run: RunInfo, evaluate: expressions.Evaluate) -> str:
    """What tells a delivery from others. Raises `Malformed` when there is nothing, `ScriptError` when the expression fails."""
    value = expressions.render(template, item, _Call(run, request), evaluate)
    key = expressions.as_text(value)
    if not key:
        raise Malformed("the call does not say which delivery it is, and this webhook takes each only once (dedupe)")
    return key


def idempotent(call: Call, request: Request, run_id: str, seconds: float) -> Delivery | None:
    """The delivery of a call that has an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). Raises `Malformed`.

    With the same key must come the same request; of one too large for memory only its head is compared.
    """
    key = request.headers.get("idempotency-key", "").strip()
    if not key:
        return None
    if len(key) > MOST_KEY:
        raise Malformed(f"the Idempotency-Key is longer than {MOST_KEY} characters")
    said = sha256("\0".join((call.method, *call.segments)).encode() + b"\0" + call.query + b"\0" + call.body)
    return Delivery(f"idempotency-key\n{key}", run_id, seconds, print=said.hexdigest())


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


def scheduled(project: str, workflow_id: str, due: float, now: float) -> Item:
    """The item of a run that a schedule started: when it was due and when it began, in seconds since 1970."""
    return {
        "trigger_type": "cron",
        "timestamp": iso(now),
        "scheduled_for": iso(due),
        "workflow_id": workflow_id,
        "project_slug": project,
    }


def route(plan: Plan, call: Call) -> tuple[Step, dict[str, str]]:
    """The trigger that a call is for and the named parts of its path; looks at no more than method and path.

    Raises `NotFound` and `NotAllowed`.
    """
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
    """The item that a body says: JSON, the fields of a form, or text as `{"body": "…"}`; nothing is `{}`. Raises `Malformed`."""
    if not body:
        return {}
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return jsontext.decode(body, "the body")
    if kind == "application/x-www-form-urlencoded":
        return fields(body, "the body")
    if not kind:
        try:
            return jsontext.decode(body, "the body")
        except Malformed:
            pass  # without a content type, what is not JSON is text
    return {"body": decode(body, charset_of(rest), "the body")}
