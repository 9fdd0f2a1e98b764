"""The node that says what the caller of a webhook gets."""

from __future__ import annotations

from collections.abc import Iterator
from io import SEEK_END
from typing import Annotated, Any, ClassVar

from mechaway_core.bounds import Ge, Le
from mechaway_core.errors import NodeError
from mechaway_core.expressions import as_text
from mechaway_core.http.headers import clean_value, is_name
from mechaway_core.names import shorten
from mechaway_core.node import Context, Items, Node, Response, file_of, param
from mechaway_core.ports import FileInfo
from mechaway_core.settings import Settings

_FIRST_ITEM = "{{ $json }}"
_SERVERS_OWN = ("connection", "content-length", "transfer-encoding", "upgrade", "keep-alive", "trailer", "te")


class Respond(Node):
    """Say what the caller of the webhook gets: status, headers and body, from the first item.

    Items pass through unchanged. The answer goes out when the run is over; when several of these ran, the last one counts.
    A body that is text is sent as it is (`text/plain` unless a header says otherwise), anything else as JSON. A file is sent from the
    disk, under its name and content type; a header `content-disposition: inline` lets browsers show it instead of saving it.
    """

    group: ClassVar[str] = "Flow"

    status: Annotated[int, Ge(200), Le(599)] | str = param("HTTP status, or an expression for it.", 200, template=True)
    headers: dict[str, str] = param("Headers by name.", default_factory=dict, template=True)
    body: Any = param("The body; the first item when left out.", _FIRST_ITEM, template=True, literal=True)
    file: Any = param("A file to answer with instead of a body: `{{ $file.NAME }}`, or a handle.", None, template=True)

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        if isinstance(self.status, str) and "{{" not in self.status:
            yield "status", f'"{shorten(self.status)}" is neither a status from 200 to 599 nor an expression in {{{{ }}}}'
        for name in self.headers:
            problem = _name_problem(name)
            if problem:
                yield "headers", problem
        if self.file is not None and self.body != _FIRST_ITEM:
            yield "file", "the answer is a body or a file; leave one of them out"

    def run(self, items: Items, ctx: Context) -> Items:
        item = items[0] if items else None
        given = self.body if self.file is None else self.file
        status, headers, given = ctx.render([self.status, self.headers, given], item)
        response = Response(_status(status), {name.lower(): _value(name, value) for name, value in headers.items()}, given)
        ctx.respond(response if self.file is None else response._replace(body=None, file=_file(given, ctx)))
        return items


def _status(value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    if isinstance(value, float) and 200 <= value <= 599 and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise NodeError(f"{shorten(as_text(value)) or 'nothing'} is not a status from 200 to 599")
    return value


def _file(value: Any, ctx: Context) -> FileInfo:
    """The file that a value names, with its real size."""
    info = file_of(value)
    with ctx.files.open(info.handle) as file:
        return info._replace(size=file.seek(0, SEEK_END))


def _name_problem(name: str) -> str | None:
    if not is_name(name):
        return f'"{shorten(name)}" cannot be the name of a header'
    if name.lower() in _SERVERS_OWN:
        return f'the header "{name}" is the server\'s own'
    return None


def _value(name: str, value: Any) -> str:
    try:
        return clean_value(name, as_text(value))
    except ValueError as error:
        raise NodeError(str(error)) from None
