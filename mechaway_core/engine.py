"""The engine: walks a plan from one trigger and puts every step on record.

1. A run begins at a trigger with its items; only what the trigger can reach takes part, in the order of the plan.
2. A node that has a live incoming edge takes the items of its live parents, in the order of the edges. A node without one is
   skipped, and so on down. An empty list is a list: the node runs.
3. An attempt has a deadline, the nearer of its own and the run's; everything a node does through its context keeps to it.
4. An attempt that fails is made again as `retry` says. When none succeeded, `on_error` says what becomes of the items: the run
   stops, or they go on as `{"error": …}` by the exit `main` or `error`. Nodes that act once per item fail item by item.
5. What a node gives is put on its exits, and the walk goes on.

A plan that is a chain is walked in the caller's thread. Where branches can run side by side, the caller's thread takes ready nodes
one by one and idle helper threads take others; the caller never waits for a helper to come free, so runs cannot block each other.
The result is that of walking alone: inputs are put together in the order of the document, a node that fails does not keep those
before it in the plan from running, and the failure that counts is the first in the plan. (Nodes after it may have run already.)
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mechaway_core import expressions, jsontext
from mechaway_core.errors import MechawayError, NodeError, OutOfTime, ScriptError, Unavailable
from mechaway_core.expressions import Outputs
from mechaway_core.node import ERROR, MAIN, Exits, Item, ItemNode, Items, Request, Response, RunInfo
from mechaway_core.ports import Clock, Tables
from mechaway_core.record import Failure, NodeRun, Run, iso, new_run_id
from mechaway_core.sandbox import Limits, LuaExpression, Sandbox, ScriptFailed
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Session
from mechaway_core.workflow import Plan, Start, Step

T = TypeVar("T")

log = logging.getLogger("mechaway.engine")

MAX_LOG_LINES = 1000  # of one node; a record must stay readable


@dataclass(frozen=True, slots=True)
class World:
    """What the engine needs of the outside."""

    settings: Settings
    sandbox: Sandbox
    tables: Tables
    clock: Clock


class Engine:
    """Runs plans. One for a whole process; `close` ends its helper threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        helpers = world.settings.max_branches
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="mechaway-branch") if helpers else None
        self._limits = Limits(world.settings.lua_memory_mb, world.settings.lua_timeout)

    def prepare(self, plan: Plan, trigger: Step, project: str, kind: str, request: Request | None = None) -> Run:
        """A run that has not begun: it has an id and is `queued`."""
        began = self.world.clock.now()
        info = RunInfo(new_run_id(began), plan.workflow_id, project, iso(began), kind)
        return Run(info, plan.version, trigger.id, request, began=began)

    def run(self, plan: Plan, run: Run, items: Items, timeout: float | None = None) -> Run:
        """Walk the plan from the run's trigger with these items until it ends, well or not; never raises.

        `timeout`, in seconds, cuts the time that the workflow or the server allows a run.
        """
        start = plan.index[run.start_node]
        allowed = plan.timeout if plan.timeout is not None else self.world.settings.run_timeout
        limit = allowed if timeout is None else min(allowed, timeout)
        walk = _Walk(self, plan, plan.start(start), run, items, self.world.clock.monotonic() + limit, limit)
        run.status = "running"
        try:
            walk.go(None if walk.start.chain else self._helpers)
        except Exception:  # a mistake of ours; the caller still gets an answer and the log says the rest
            log.exception("run %s of workflow %s ended by a mistake in the engine", run.info.id, plan.workflow_id)
            run.failure = Failure("internal", "the engine failed unexpectedly; the server's log says more")
        run.nodes = [walk.records[index] for index in walk.start.order if index in walk.records]
        run.status = _status(run.failure)
        if run.failure is None:
            run.output = walk.output()
            run.response = walk.response()
        run.ended = self.world.clock.now()
        return run

    def lua_limits(self, memory_mb: int | None, timeout: float | None) -> Limits:
        """The limits of one execution; what a node asks for is kept within the server's."""
        if memory_mb is None and timeout is None:
            return self._limits
        settings = self.world.settings
        return Limits(
            min(memory_mb or settings.lua_memory_mb, settings.lua_memory_mb_max),
            min(timeout or settings.lua_timeout, settings.lua_timeout_max),
        )

    def close(self) -> None:
        """End the helper threads, once what they do is done."""
        if self._helpers is not None:
            self._helpers.shutdown(cancel_futures=True)


def _status(failure: Failure | None) -> Any:
    if failure is None:
        return "succeeded"
    return {"timeout": "timed_out", "cancelled": "cancelled"}.get(failure.kind, "failed") if failure.node is None else "failed"


class _Halt(Exception):
    """The run is over: out of time or cancelled."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Walk:
    """One walk of one run."""

    __slots__ = (
        "_failed_at", "_lock", "deadline", "engine", "items", "limit", "outputs", "plan", "records", "responses", "run", "start",
    )  # fmt: skip

    def __init__(self, engine: Engine, plan: Plan, start: Start, run: Run, items: Items, deadline: float, limit: float) -> None:
        self.engine = engine
        self.plan = plan
        self.start = start
        self.run = run
        self.items = items
        self.deadline = deadline
        self.limit = limit
        self.outputs: dict[int, Exits] = {}  # of the nodes that ran
        self.records: dict[int, NodeRun] = {}
        self.responses: dict[int, Response] = {}
        self._failed_at: int | None = None
        self._lock = threading.Lock()

    def go(self, helpers: ThreadPoolExecutor | None) -> None:
        if helpers is None:
            for index in self.start.order:
                if not self.visit(index):
                    return
            return
        _SideBySide(self, helpers).go()

    # -- the result

    def output(self) -> Items:
        """What the last node that ran gave, in the order of the plan."""
        for index in reversed(self.start.order):
            exits = self.outputs.get(index)
            if exits is not None:
                return exits[MAIN] if MAIN in exits else next(iter(exits.values()), [])
        return []

    def response(self) -> Response | None:
        return self.responses[max(self.responses)] if self.responses else None

    # -- one node

    def visit(self, index: int) -> bool:
        """Run a node, or skip it, and put that on record. False when the run is over."""
        step = self.plan.steps[index]
        record = NodeRun(step.id, step.node_type)
        self.records[index] = record
        record.began = began = time.monotonic()
        try:
            given = self.items if index == self.start.order[0] else self.gather(step)
            if given is None:
                record.status = "skipped"
                return True
            record.given = given
            if step.disabled:
                record.status = "disabled"
                record.exits = {MAIN: given}
            elif step.relays:
                record.attempts = 1
                record.exits = {MAIN: given}
            else:
                record.exits = _Attempts(self, step, record).run(given)
            self.outputs[index] = record.exits
            return True
        except _Halt as halt:
            record.failure = Failure(halt.failure.kind, f'{halt.failure.message}; it was at node "{step.id}"')
            record.status = "cancelled" if halt.failure.kind == "cancelled" else "timed_out"
            return self.fail(index, record.failure)
        except _NodeFailed as failed:
            record.failure = failed.failure
            record.status = "failed"
            return self.fail(index, failed.failure)
        except Exception:  # a mistake of ours, in whatever thread; the run must not end as if all were well
            log.exception("node %s of workflow %s met a mistake in the engine", step.id, self.plan.workflow_id)
            record.status = "failed"
            record.failure = Failure("internal", f'node "{step.id}" failed unexpectedly; the server\'s log says more', step.id)
            return self.fail(index, record.failure)
        finally:
            record.took = time.monotonic() - began

    def gather(self, step: Step) -> Items | None:
        """The items of the live parents, in the order of the edges; None when no edge is live."""
        outputs = self.outputs
        if len(step.parents) == 1:
            parent, name = step.parents[0]
            exits = outputs.get(parent)
            return None if exits is None else exits.get(name)
        gathered: Items | None = None
        for parent, name in step.parents:
            exits = outputs.get(parent)
            items = None if exits is None else exits.get(name)
            if items is not None:
                gathered = list(items) if gathered is None else gathered + items
                most = self.engine.world.settings.max_items
                if len(gathered) > most:
                    message = f'node "{step.id}": more than {most} items come to it (MECHAWAY_MAX_ITEMS)'
                    raise _NodeFailed(Failure("error", message, step.id))
        return gathered

    def fail(self, index: int, failure: Failure) -> bool:
        with self._lock:
            if self._failed_at is None or index < self._failed_at:
                self._failed_at = index
                self.run.failure = failure
        return False

    @property
    def failed_at(self) -> int | None:
        """The first node in the plan that made the run fail, so far."""
        return self._failed_at

    def halt(self) -> None:
        """Raise when the run is out of time or was asked to stop."""
        if self.run.cancelled:
            raise _Halt(Failure("cancelled", "the run was cancelled"))
        if self.engine.world.clock.monotonic() >= self.deadline:
            raise self.out_of_time()

    def out_of_time(self) -> _Halt:
        return _Halt(Failure("timeout", f"the run took longer than the {self.limit:g} s it is allowed"))


class _SideBySide:
    """The walk of a plan with branches: a heap of ready nodes that several threads take from."""

    def __init__(self, walk: _Walk, helpers: ThreadPoolExecutor) -> None:
        self.walk = walk
        self.helpers = helpers
        inside = set(walk.start.order)
        self.waiting: dict[int, int] = {}  # parents of a node that are not over yet
        self.below: dict[int, list[int]] = {index: [] for index in walk.start.order}
        for index in walk.start.order:
            parents = [parent for parent, _ in walk.plan.steps[index].parents if parent in inside]
            self.waiting[index] = len(parents)
            for parent in parents:
                self.below[parent].append(index)
        self.ready = [walk.start.order[0]]
        self.ready_to_wait = int(self._waits(walk.start.order[0]))  # how many of these will wait for something
        self.going = 0  # nodes that are running now
        self.helping = 0  # helper threads that were asked and have not gone again
        self.changed = threading.Condition()

    def go(self) -> None:
        while (index := self._next()) is not None:
            self._do(index)

    def _next(self, *, helper: bool = False) -> int | None:
        """The first ready node; None when nothing is left to do. A helper does not wait: with None it goes."""
        with self.changed:
            while True:
                if self.ready and self._wanted(self.ready[0]):
                    self.going += 1
                    index = heapq.heappop(self.ready)
                    self.ready_to_wait -= self._waits(index)
                    return index
                if helper:
                    self.helping -= 1
                    return None
                if not self.going:
                    return None
                self.changed.wait()

    def _wanted(self, index: int) -> bool:
        failed_at = self.walk.failed_at
        return failed_at is None or index < failed_at

    def _do(self, index: int) -> None:
        self.walk.visit(index)
        with self.changed:
            self.going -= 1
            for child in self.below[index]:
                self.waiting[child] -= 1
                if not self.waiting[child]:
                    heapq.heappush(self.ready, child)
                    self.ready_to_wait += self._waits(child)
            wanted = self._helpers_wanted()
            self.helping += wanted
            self.changed.notify()  # only the run's own thread ever waits
        for _ in range(wanted):
            try:
                self.helpers.submit(self._help)
            except RuntimeError:  # the engine is being closed; this thread does the rest alone
                return

    def _helpers_wanted(self) -> int:
        """How many more helpers to ask: one for each ready node that will wait for something, but for the one this thread takes.

        Nodes that only compute are quicker done one after the other: Python runs one thread at a time.
        """
        return max(0, self.ready_to_wait - 1 - self.helping)

    def _waits(self, index: int) -> bool:
        step = self.walk.plan.steps[index]
        return step.node.waits and not (step.disabled or step.relays)

    def _help(self) -> None:
        while (index := self._next(helper=True)) is not None:
            self._do(index)


class _NodeFailed(Exception):
    """A node failed and its workflow wants the run to stop."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Attempts:
    """The attempts of one node: deadline, retry and on_error."""

    __slots__ = ("errors", "record", "step", "walk")

    def __init__(self, walk: _Walk, step: Step, record: NodeRun) -> None:
        self.walk = walk
        self.step = step
        self.record = record
        self.errors: list[Item] = []  # the `{"error": …}` items that were made; output pins do not touch them

    def run(self, items: Items) -> Exits:
        node = self.step.node
        exits = self._each(node, items) if isinstance(node, ItemNode) else self._whole(items)
        return exits if self.step.outputs is None else self._shaped(exits, self.step.outputs)

    def _whole(self, items: Items) -> Exits:
        answer = self._try(lambda context: self.step.node.run(items, context))
        if isinstance(answer, Failure):
            return self._on_error([answer], [self._error_item(answer, "items", items)], [], True)
        return answer if isinstance(answer, dict) else {MAIN: answer}

    def _each(self, node: ItemNode, items: Items) -> Exits:
        given: Items = []
        failures: list[Failure] = []
        failed: Items = []
        pins: list[list[Any] | ScriptError] = [[]] * len(items)
        if self.step.inputs is not None:
            values = self._try(lambda context: context.pins(items))
            if isinstance(values, Failure):  # the sandbox itself failed: so do all items
                return self._on_error([values], [self._error_item(values, "item", item) for item in items], [], True)
            pins = values
        for item, inputs in zip(items, pins, strict=True):
            answer = self._failure(inputs) if isinstance(inputs, ScriptError) else self._try(_item_job(node, item, inputs))
            if isinstance(answer, Failure):
                shown = self._error_item(answer, "item", item)
                failures.append(answer)
                failed.append(shown)
                if self.step.on_error == "stop":
                    break
                if self.step.on_error == "continue":
                    given.append(shown)
            else:
                given.extend(answer)
        if not failures:
            return {MAIN: given}
        return self._on_error(failures, failed, given, len(failures) == len(items))

    def _on_error(self, failures: list[Failure], failed: Items, given: Items, all_failed: bool) -> Exits:
        if self.step.on_error == "stop":
            raise _NodeFailed(failures[0])
        self.record.failures += len(failures)
        self.record.failure = self.record.failure or failures[0]
        if self.step.on_error == "continue":
            return {MAIN: given or failed}
        return {ERROR: failed} if all_failed else {MAIN: given, ERROR: failed}

    def _error_item(self, failure: Failure, name: str, given: Any) -> Item:
        """`{"error": …}` with what the node was given; left out when nested deep: a chain of failures wraps it again and again."""
        kept = given if jsontext.depth(given) < jsontext.MAX_DEPTH // 2 else None
        item = {"error": {**failure.as_json(), name: kept}}
        self.errors.append(item)
        return item

    def _shaped(self, exits: Exits, outputs: Outputs) -> Exits:
        """What output pins make of the items; one that fails for an item is a failure of the node for that item."""
        made = {id(item) for item in self.errors}
        failures: list[Failure] = []
        failed: Items = []
        shaped: Exits = {}
        for name, given in exits.items():
            answers = self._try(lambda context, given=given: outputs.apply(given, context, context.evaluate))  # type: ignore[misc]
            if isinstance(answers, Failure):
                raise _NodeFailed(answers)
            kept = shaped[name] = []
            for item, answer in zip(given, answers, strict=True):
                if id(item) in made:
                    kept.append(item)
                elif not isinstance(answer, ScriptError):
                    kept.append(answer)
                else:
                    failures.append(self._failure(answer))
                    failed.append(self._error_item(failures[-1], "item", item))
                    if self.step.on_error == "continue":
                        kept.append(failed[-1])
        if failures:
            self._on_error(failures, failed, [], False)
            if self.step.on_error == "branch":
                shaped[ERROR] = shaped.get(ERROR, []) + failed
        return shaped

    def _try(self, job: Callable[[_Context], T]) -> T | Failure:
        """The result of a job, tried as often as `retry` says, or why the last attempt failed."""
        retry, clock = self.step.retry, self.walk.engine.world.clock
        attempt = 0
        while True:
            attempt += 1
            self.walk.halt()
            self.record.attempts = max(self.record.attempts, attempt)
            deadline = self.walk.deadline
            if self.step.timeout is not None:
                deadline = min(deadline, clock.monotonic() + self.step.timeout)
            try:
                return job(_Context(self.walk, self.step, self.record, deadline))
            except OutOfTime as error:
                if clock.monotonic() >= self.walk.deadline:
                    raise self.walk.out_of_time() from error
                failure = self._failure(error)
            except (_Halt, _NodeFailed):
                raise
            except MechawayError as error:
                failure = self._failure(error)
            except Exception:
                log.exception("node %s of workflow %s failed unexpectedly", self.step.id, self.walk.plan.workflow_id)
                return Failure("internal", f'node "{self.step.id}" failed unexpectedly; the server\'s log says more', self.step.id)
            if attempt >= retry.attempts or not retry.applies_to(failure.kind, failure.status):
                return failure
            self._pause(retry.pause(attempt, random.random()))

    def _pause(self, seconds: float) -> None:
        """Sleep before the next attempt, in short steps so that a cancelled run ends soon."""
        clock = self.walk.engine.world.clock
        until = clock.monotonic() + seconds
        if until >= self.walk.deadline:
            raise self.walk.out_of_time()
        while (left := until - clock.monotonic()) > 0:
            clock.sleep(min(left, 0.1))
            self.walk.halt()

    def _failure(self, error: MechawayError) -> Failure:
        kind = error.kind if isinstance(error, NodeError) else "unavailable" if isinstance(error, Unavailable) else "error"
        status = error.status if isinstance(error, NodeError) else None
        return Failure(kind, f'node "{self.step.id}": {error}', self.step.id, status)


def _item_job(node: ItemNode, item: Item, inputs: list[Any]) -> Callable[[_Context], Items]:
    return lambda context: node.run_item(item, inputs, context)


class _Context:
    """The world as one attempt of one node sees it."""

    __slots__ = ("_record", "_step", "_walk", "deadline")

    def __init__(self, walk: _Walk, step: Step, record: NodeRun, deadline: float) -> None:
        self._walk = walk
        self._step = step
        self._record = record
        self.deadline = deadline

    @property
    def node_id(self) -> str:
        return self._step.id

    @property
    def run(self) -> RunInfo:
        return self._walk.run.info

    @property
    def request(self) -> Request | None:
        return self._walk.run.request

    def first_item_of(self, node_id: str) -> Item:
        exits = self._walk.outputs.get(self._walk.plan.index.get(node_id, -1), {})
        return next((items[0] for items in exits.values() if items), None)

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
        return engine.world.sandbox.evaluate(needed, rows, engine.lua_limits(None, None), deadline=self.deadline)

    def render(self, template: Any, item: Item) -> Any:
        return expressions.render(template, item, self, self.evaluate)

    def lua(self, script: str, items: Items, *, memory_mb: int | None = None, timeout: float | None = None) -> Any:
        engine, request = self._walk.engine, self._walk.run.request
        context: dict[str, Mapping[str, Any]] = {"run": self.run.as_json()}
        if request is not None:
            context |= {"query": request.query, "headers": request.headers, "path": request.path}
        limits = engine.lua_limits(memory_mb, timeout)
        try:
            outcome = engine.world.sandbox.run(script, items, context, limits, deadline=self.deadline)
        except ScriptFailed as error:
            self._log_all(error.log)
            raise
        self._log_all(outcome.log)
        return outcome.value

    def _log_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.log(line)

    def read_tables(self, job: Callable[[Session], T]) -> T:
        return self._walk.engine.world.tables.read(self.run.project, job, self.deadline)

    def write_tables(self, job: Callable[[Session], T]) -> T:
        return self._walk.engine.world.tables.write(self.run.project, job, self.deadline)

    def log(self, line: str) -> None:
        if len(self._record.log) < MAX_LOG_LINES:
            self._record.log.append(line)

    def respond(self, response: Response) -> None:
        self._walk.responses[self._step.index] = response
