"""What a node is: one class, its fields are the params, its docstring is the help, `run` is the work.

    class Shout(Node):
        '''Put a text in capitals.'''

        group: ClassVar[str] = "Data"

        field: str = param("Name of the field to change.", "text")

        def run(self, items: Items, ctx: Context) -> Items:
            return [{**item, self.field: str(item.get(self.field)).upper()} for item in items]

A node gets the world through `ctx` and must not change the items it is given: another branch may hold the same ones.
The class becomes a frozen dataclass by itself, so a workflow that is only run needs no pydantic; checks, forms and the
JSON Schema are derived from the same fields when they are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NamedTuple, Protocol, TypeVar, dataclass_transform

from mechaway_core.errors import NodeError
from mechaway_core.names import ANY_BYTES, media_type, plain_filename
from mechaway_core.ports import FileInfo

if TYPE_CHECKING:
    from mechaway_core.cancellation import Cancellation
    from mechaway_core.http import Http
    from mechaway_core.postgres import Postgres
    from mechaway_core.settings import Settings
    from mechaway_core.sqlite import Session

T = TypeVar("T")

Item = Any  # a JSON value, nearly always an object
Items = list[Item]
Exits = dict[str, Items]

MAIN = "main"
ERROR = "error"


def param(
    about: str,
    default: Any = MISSING,
    *,
    default_factory: Any = MISSING,
    template: bool = False,
    literal: bool = False,
    secret: bool = False,
) -> Any:
    """Declare one param of a node. Without a default it is required.

    `template`: the strings in it may contain `{{ expression }}`; the node reads them through `ctx.render`.
    `literal`: `null` is a value of its own here, not another way to leave the param out.
    `secret`: strings in it, however deep, may be `$secret.NAME`; the node reads them through `ctx.reveal`.
    """
    metadata = {"help": about, "template": template, "literal": literal, "secret": secret}
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


class RunInfo(NamedTuple):
    """About a run, as expressions (`$run.id` …) and scripts (`run.id` …) see it. Times are ISO 8601 in UTC.

    `keys` is what its keys are made of: the id of the run that it carries on, whose keys it keeps; empty for the run's own id.
    """

    id: str
    workflow_id: str
    project: str
    started_at: str
    trigger: str
    keys: str = ""

    def key(self, node_id: str, number: int) -> str:
        """`$run.key`, 32 hexadecimal digits: always the same for one input item of one node, by its `number` from 0, and for no other."""
        return sha256(f"{self.keys or self.id}\n{node_id}\n{number}".encode()).hexdigest()[:32]  # no id holds a line break

    def as_json(self) -> dict[str, str]:
        """The same as a JSON object."""
        return {
            "id": self.id,
            "workflow_id": self.workflow_id,
            "project": self.project,
            "started_at": self.started_at,
            "trigger": self.trigger,
        }


class Request(NamedTuple):
    """The request that triggered a run: everything but its body. Header names are in lower case."""

    method: str
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    path: Mapping[str, str]
    files: Mapping[str, Any] = {}  # field → {filename, content_type, size, handle}, or a list of these


class Response(NamedTuple):
    """What a node says the caller of a webhook gets. `body` is any JSON value; a string is sent as it is. A `file` stands for it."""

    status: int
    headers: Mapping[str, str]
    body: Any
    file: FileInfo | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        shown: dict[str, Any] = {"status": self.status, "headers": dict(self.headers), "body": self.body}
        if self.file is not None:
            shown["file"] = self.file.as_json()
        return shown


def file_of(value: Any) -> FileInfo:
    """The file that a value of an item names: a handle, or an object with one, as `$file.NAME` is. Raises `NodeError`.

    Whoever made the value may have written anything into it, so only opening the handle shows whether the file is there, and
    its real size.
    """
    given = {"handle": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("handle"), str):
        raise NodeError("it takes a file: its handle, or an object with one, such as {{ $file.NAME }}")
    name, kind, size = given.get("filename"), given.get("content_type"), given.get("size")
    return FileInfo(
        plain_filename(name) if isinstance(name, str) else "",
        media_type(kind) if isinstance(kind, str) else ANY_BYTES,
        size if isinstance(size, int) else 0,
        given["handle"],
    )


class Area(Protocol):
    """The files of one run: what was uploaded to it, and what its nodes make. Handles are texts that stand in items."""

    def write(self, filename: str, content_type: str, chunks: Iterable[bytes], *, most: int | None = None) -> FileInfo:
        """Keep a file of this run; `most` bytes at most (the server's limit when left out), else `TooLarge` and nothing is kept."""

    def open(self, handle: str) -> BinaryIO:
        """A file of this project to read; close it. Raises `NodeError` when there is none of this handle (any more)."""


class Context(Protocol):
    """All that a node may ask of the world while it runs. Calls raise `NodeError`s, which the engine puts on record."""

    @property
    def node_id(self) -> str:
        """The id of this node in its workflow."""

    @property
    def run(self) -> RunInfo:
        """About the run."""

    @property
    def request(self) -> Request | None:
        """The request that triggered the run, if one did."""

    @property
    def deadline(self) -> float:
        """When this attempt must be over, in seconds of `time.monotonic()`. Calls through `ctx` keep to it by themselves."""

    @property
    def cancellation(self) -> Cancellation:
        """What ends that which the run has in flight when it is cancelled; `ctx.http` and `ctx.postgres` take it beside the deadline."""

    def inputs(self, items: Items) -> list[list[Any]]:
        """The values of the node's input pins for each item: one list per item, one value per pin.

        `items` are all input items or the first of them: `$run.key` counts them.
        """

    def has_inputs(self) -> bool:
        """Whether the node has input pins at all."""

    def render(self, template: Any, item: Item, number: int = 0) -> Any:
        """A template param with every `{{ expression }}` in it, however deep, replaced by its value for `item`.

        `number` is the place of `item` among the input items, from 0, for `$run.key`; an `ItemNode` leaves it out.
        """

    def key(self, number: int = 0) -> str:
        """`$run.key` of an input item, by its place from 0: the same at every attempt. An `ItemNode` leaves `number` out."""

    def lua(self, script: str, items: Items, *, memory_mb: int | None = None, timeout: float | None = None) -> Any:
        """What a Lua script gives for `items`, as JSON. Its `log` lines go to the record."""

    def read_tables(self, job: Callable[[Session], T]) -> T:
        """The result of a job that reads the project's tables."""

    def write_tables(self, job: Callable[[Session], T]) -> T:
        """The result of a job that writes the project's tables, all or nothing. It may be called more than once."""

    @property
    def secrets(self) -> Sequence[str]:
        """The values of the node's `secrets`, in their order. Never put them into items, errors or logs."""

    def reveal(self, value: Any) -> Any:
        """A `secret` param with every `$secret.NAME` in it, however deep, replaced by the secret's value."""

    def hide(self, value: str) -> None:
        """Keep a text that was made from secrets (an encoded header, a token that was fetched) out of records and logs as they are."""

    @property
    def http(self) -> Http:
        """HTTP calls to the outside, under the guard."""

    @property
    def postgres(self) -> Postgres:
        """PostgreSQL servers by connection string."""

    @property
    def files(self) -> Area:
        """The files of this run."""

    def log(self, line: str) -> None:
        """Put a line on the record of this node."""

    def respond(self, response: Response) -> None:
        """Say what the caller of the webhook gets when the run is over."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(param,))
class Node:
    """A node type. The class name is the type's name."""

    group: ClassVar[str] = "Other"
    trigger: ClassVar[bool] = False
    exits: ClassVar[tuple[str, ...]] = (MAIN,)
    waits: ClassVar[bool] = True  # whether it may wait for something outside Python; if so, branches of a run go on beside it
    uses_inputs: ClassVar[str] = ""  # what the values of `inputs` mean to this node; empty: it takes none
    uses_secrets: ClassVar[str] = ""  # what the entries of `secrets` mean to this node; empty: it takes none
    needs_secrets: ClassVar[int] = 0  # how many entries of `secrets` it takes, no more and no less; 0: one or more
    ends_run: ClassVar[bool] = False  # whether it is there to make the run fail; it then takes neither `retry` nor `on_error`
    abstract: ClassVar[bool] = True

    def __init_subclass__(cls, abstract: bool = False) -> None:
        super().__init_subclass__()
        cls.abstract = abstract
        dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        """What is wrong with the params beyond their shapes, as (way below the params, sentence); `inputs` counts the input pins."""
        return iter(())

    def scripts(self) -> Mapping[str, str]:
        """Lua that must compile: name of the param → source."""
        return {}

    def run(self, items: Items, ctx: Context) -> Items | Exits:
        """Do the work. A list leaves by the exit `main`; an object names exits, and only those it names are taken."""
        raise NotImplementedError


class Trigger(Node, abstract=True):
    """A node that starts runs. It gives the items it was started with."""

    trigger: ClassVar[bool] = True
    waits: ClassVar[bool] = False

    def run(self, items: Items, ctx: Context) -> Items:
        return items


class ItemNode(Node, abstract=True):
    """A node that acts on the world once for each item; `retry` and `on_error` speak about single items."""

    def run_item(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Items:
        """Do the work for one item; `inputs` are the values of its input pins."""
        raise NotImplementedError


def params_of(node: Node | type[Node]) -> tuple[dataclasses.Field[Any], ...]:
    """The declared params of a node type, in order."""
    return _params_of(node if isinstance(node, type) else type(node))  # type: ignore[arg-type]  # classes are hashable


@cache
def _params_of(node_type: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(node_type)
