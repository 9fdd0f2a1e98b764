"""The world as one attempt of one node sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mechaway_core import expressions
from mechaway_core.cancellation import Cancellation
from mechaway_core.engine.world import World
from mechaway_core.errors import NodeError, NotFound, ScriptError, TooLarge
from mechaway_core.http import Http
from mechaway_core.names import media_type, plain_filename
from mechaway_core.node import Item, Items, Request, Response, RunInfo
from mechaway_core.ports import FileInfo
from mechaway_core.postgres import Postgres
from mechaway_core.record import NodeRun
from mechaway_core.sandbox import LuaExpression, ScriptFailed
from mechaway_core.sqlite import Session
from mechaway_core.workflow import Step

if TYPE_CHECKING:
    from mechaway_core.engine.walk import Walk

T = TypeVar("T")

MAX_LOG_LINES = 1000  # of one node; a record must stay readable


class NodeContext:
    """The world as one attempt of one node sees it."""

    __slots__ = ("_record", "_step", "_walk", "deadline", "number")

    def __init__(self, walk: Walk, step: Step, record: NodeRun, deadline: float) -> None:
        self._walk = walk
        self._step = step
        self._record = record
        self.deadline = deadline
        self.number = 0  # of the input item that it is about, when it is about one

    @property
    def node_id(self) -> str:
        return self._step.id

    @property
    def run(self) -> RunInfo:
        return self._walk.run.info

    @property
    def request(self) -> Request | None:
        return self._walk.run.request

    @property
    def cancellation(self) -> Cancellation:
        return self._walk.run.cancellation

    def first_item_of(self, node_id: str) -> Item:
        exits = self._walk.outputs.get(self._walk.plan.index.get(node_id, -1), {})
        return next((items[0] for items in exits.values() if items), None)

    def key(self, number: int = 0) -> str:
        return self.run.key(self._step.id, self.number + number)

    def has_inputs(self) -> bool:
        return self._step.inputs is not None

    def inputs(self, items: Items) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for values in self.pins(items):
            if isinstance(values, ScriptError):
                raise values
            rows.append(values)
        return rows

    def pins(self, items: Items) -> list[list[Any] | ScriptError]:
        """The values of the input pins for each item, or the error of the expression that failed for it."""
        pins = self._step.inputs
        return pins.evaluate(items, self, self.evaluate) if pins is not None else [[] for _ in items]

    def evaluate(self, needed: Sequence[LuaExpression], rows: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any] | ScriptError]:
        """Lua expressions for all rows of arguments, in the sandbox."""
        engine = self._walk.engine
        if self._step.needs:  # whatever a node renders, Lua sees no secret
            rows = self._walk.secrets.clean(rows)
        return engine.world.sandbox.evaluate(
            needed, rows, engine.lua_limits(None, None), wait=self._patience(), deadline=self.deadline, cancellation=self.cancellation
        )

    def render(self, template: Any, item: Item, number: int = 0) -> Any:
        return expressions.render(template, item, self, self.evaluate, number)

    def lua(self, script: str, items: Items, *, memory_mb: int | None = None, timeout: float | None = None) -> Any:
        engine, request = self._walk.engine, self._walk.run.request
        context: dict[str, Mapping[str, Any]] = {"run": self.run.as_json()}
        if request is not None:
            context |= {"query": request.query, "headers": request.headers, "path": request.path}
        limits = engine.lua_limits(memory_mb, timeout)
        if self._step.needs:
            script, items = self._walk.secrets.clean(script), self._walk.secrets.clean(items)
        try:
            outcome = engine.world.sandbox.run(
                script, items, context, limits, wait=self._patience(), deadline=self.deadline, cancellation=self.cancellation
            )
        except ScriptFailed as error:
            self._log_all(error.log)
            raise
        self._log_all(outcome.log)
        return outcome.value

    def _patience(self) -> float | None:
        """Seconds to wait for a free Lua process: a run that nobody waits for has all its time. None: as callers would."""
        return self.deadline - time.monotonic() if self._walk.run.promised else None

    def _log_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.log(line)

    @property
    def secrets(self) -> Sequence[str]:
        return tuple([self._walk.secrets.get(name) for name in self._step.secrets])

    def reveal(self, value: Any) -> Any:
        return self._walk.secrets.reveal(value)

    def hide(self, value: str) -> None:
        self._walk.secrets.hide(value)

    @property
    def http(self) -> Http:
        return self._walk.engine.world.http

    @property
    def postgres(self) -> Postgres:
        return self._walk.engine.world.postgres

    @property
    def files(self) -> RunFiles:
        return RunFiles(self._walk.engine.world, self.run)

    def read_tables(self, job: Callable[[Session], T]) -> T:
        return self._walk.engine.world.tables.read(self.run.project, job, self.deadline, self.cancellation)

    def write_tables(self, job: Callable[[Session], T]) -> T:
        return self._walk.engine.world.tables.write(self.run.project, job, self.deadline, self.cancellation)

    def log(self, line: str) -> None:
        if len(self._record.log) < MAX_LOG_LINES:
            self._record.log.append(self._walk.secrets.message(line))

    def respond(self, response: Response) -> None:
        self._walk.responses[self._step.index] = self._walk.secrets.response(response)


class RunFiles:
    """The files of one run."""

    __slots__ = ("_info", "_world")

    def __init__(self, world: World, info: RunInfo) -> None:
        self._world = world
        self._info = info

    def write(self, filename: str, content_type: str, chunks: Iterable[bytes], *, most: int | None = None) -> FileInfo:
        limit = int(self._world.settings.max_file_mb * 1_000_000) if most is None else most
        name, kind = plain_filename(filename), media_type(content_type)
        try:
            return self._world.files.write(self._info.project, self._info.id, name, kind, chunks, limit)
        except TooLarge as error:
            raise error if most is not None else TooLarge(f"{error} (MECHAWAY_MAX_FILE_MB)") from None

    def open(self, handle: str) -> BinaryIO:
        try:
            return self._world.files.open(self._info.project, handle)
        except NotFound as error:
            raise NodeError(str(error)) from None
