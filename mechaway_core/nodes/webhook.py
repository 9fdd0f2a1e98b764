"""The node that starts a run when its address is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, Literal

from mechaway_core.names import shorten
from mechaway_core.node import Trigger, param
from mechaway_core.settings import Settings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_NAMED = re.compile(r":[A-Za-z_]\w*", re.ASCII)


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
    mode: Literal["wait", "accept"] = param('"wait" answers when the run is over.', "wait")
    auth: Literal["none"] = param("Who may call.", "none")

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        yield from _path_problems(self.path)
        written = [self.method] if isinstance(self.method, str) else self.method
        if not written:
            yield "method", "the list of methods is empty; leave it out for POST"
        for name in written:
            if name.upper() not in (*METHODS, "ANY"):
                yield "method", f'"{shorten(name)}" is not a method a webhook can answer; there are {", ".join(METHODS)} and any'
        if self.mode == "accept":
            yield "mode", 'the mode "accept" is not available in this version yet; "wait" is'


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
