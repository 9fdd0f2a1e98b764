"""The node that starts a run when its address is called."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from mechaway_core import expressions
from mechaway_core.access import webhook as access
from mechaway_core.access.deliveries import MOST_WINDOW
from mechaway_core.bounds import Gt, Le
from mechaway_core.errors import Malformed
from mechaway_core.names import shorten
from mechaway_core.node import Trigger, param
from mechaway_core.settings import Settings

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_NAMED = re.compile(r":[A-Za-z_]\w*", re.ASCII)


class AuthParam(TypedDict):
    """Who may call. Which fields there are depends on the kind; secrets are `$secret.NAME`, or a list of such."""

    kind: Required[Literal["none", "bearer", "basic", "header", "hmac"]]
    token: NotRequired[str | list[str]]
    username: NotRequired[str]
    password: NotRequired[str | list[str]]
    name: NotRequired[str]
    value: NotRequired[str | list[str]]
    secret: NotRequired[str | list[str]]
    preset: NotRequired[Literal["github", "slack", "stripe", "shopify"]]
    header: NotRequired[str]
    algorithm: NotRequired[Literal["sha256", "sha1", "sha512"]]
    encoding: NotRequired[Literal["hex", "base64", "base64url"]]
    prefix: NotRequired[str]
    timestamp_header: NotRequired[str]
    tolerance: NotRequired[float]
    signed: NotRequired[str]


class DedupeParam(TypedDict):
    """What makes two deliveries the same, for how many seconds, and what the second one gets."""

    key: NotRequired[str]
    header: NotRequired[str]
    window: NotRequired[Annotated[float, Gt(0), Le(MOST_WINDOW)]]
    answer: NotRequired[Literal["first", "refuse"]]


class Webhook(Trigger):
    """Start a run when `/webhook/{workflow id}{path}` is called, and answer the call with what the run gives.

    Gives one item, the body of the request: JSON as it is, the fields of a form, text as `{"body": "…"}`, and `{}` when there is
    none. Of a `multipart/form-data` body it gives the fields; each file is `$file.NAME` with its filename, content_type, size and a
    handle that nodes can read. Expressions reach the rest of the request as `$query`, `$headers` and `$path`.
    """

    group: ClassVar[str] = "Triggers"

    path: str = param('Address below the workflow\'s own, such as "/grade". A segment ":name" stands for any text: `$path.name`.')
    method: str | list[str] = param('The method it answers: one, a list, or "any".', "POST")
    respond: Literal["first_item", "all_items", "nothing"] = param(
        "What the caller gets of the last node's output: its first item, all of them as a list, or an empty 204.", "first_item"
    )
    mode: Literal["wait", "accept"] = param(
        '"wait" answers when the run is over. "accept" answers 202 with the id of the run as soon as that is sure to happen.', "wait"
    )
    auth: Literal["none"] | AuthParam = param(
        'Who may call: "none" for everybody, or an object with the kind bearer (`token`), basic (`username`, `password`), header (`name`, '
        "`value`) or hmac (`secret` and `preset` github, stripe, slack or shopify; or `header`, `algorithm`, `encoding`, `prefix`, "
        "`timestamp_header`, `tolerance`, `signed`). Secrets are `$secret.NAME`.",
        "none",
        secret=True,
    )
    dedupe: DedupeParam | None = param(
        "One run for each delivery: `header` names the header that tells deliveries apart, or `key` is a template for it. `window`: for "
        'how many seconds (86400). `answer`: "first" (default) gives later ones the first\'s answer, "refuse" a 409.',
        None,
        template=True,
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        yield from _path_problems(self.path)
        written = [self.method] if isinstance(self.method, str) else self.method
        if not written:
            yield "method", "the list of methods is empty; leave it out for POST"
        for name in written:
            if name.upper() not in (*METHODS, "ANY"):
                yield "method", f'"{shorten(name)}" is not a method a webhook can answer; there are {", ".join(METHODS)} and any'
        yield from ((f"auth/{way}" if way else "auth", sentence) for way, sentence in access.problems(self.auth))
        yield from _dedupe_problems(self.dedupe)

    @cached_property
    def lock(self) -> access.Lock | None:
        """What a call must fit. Raises `Malformed` when this server cannot read `auth`."""
        return access.read_lock(self.auth)

    @cached_property
    def delivery(self) -> str | None:
        """The template for what tells deliveries apart; None when they need not be."""
        if self.dedupe is None:
            return None
        header = self.dedupe.get("header")
        return self.dedupe["key"] if header is None else f'{{{{ $headers["{header.lower()}"] }}}}'


def _dedupe_problems(dedupe: Any) -> Iterator[tuple[str, str]]:
    if dedupe is None:
        return
    if ("key" in dedupe) == ("header" in dedupe):
        yield "dedupe", "dedupe needs either key or header: what tells deliveries apart"
    if "header" in dedupe:
        yield from ((f"dedupe/{way}", sentence) for way, sentence in access.header_problems(dedupe, "header"))
    if "key" in dedupe and "{{" not in dedupe["key"]:
        yield "dedupe/key", "key is the same for every delivery: write an expression in {{ }}"
    elif "key" in dedupe and _asks_for_run_key(dedupe["key"]):
        yield "dedupe/key", "$run.key is another for every run, so it tells no deliveries apart; take something that the delivery says"


def _asks_for_run_key(text: str) -> bool:
    with suppress(Malformed):  # what cannot be read is for the check of templates to say
        return any(expressions.is_key(path) for pin in expressions.template(text).pins for path in expressions.paths_in(pin))
    return False


def _path_problems(path: str) -> Iterator[tuple[str, str]]:
    if len(path) > 1000:
        yield "path", "the path is longer than 1000 characters"
        return
    if any(ord(character) < 33 or character in "?#\\%" or ord(character) == 127 for character in path):
        yield "path", f'"{shorten(path)}" holds a character that a path cannot: no spaces, control characters, ? # % or \\'
    segments = path.strip("/").split("/") if path.strip("/") else []
    if any(segment in ("", ".", "..") for segment in segments):
        yield "path", f'"{shorten(path)}" has an empty segment, "." or ".." in it'
    names = Counter(segment for segment in segments if segment.startswith(":"))
    for segment, count in names.items():
        if not _NAMED.fullmatch(segment):
            yield "path", f'"{shorten(segment)}" does not name a part: write ":" and then letters, digits and "_"'
        if count > 1:
            yield "path", f'the name "{segment}" stands twice in the path'
