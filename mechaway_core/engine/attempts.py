"""The attempts of one node: deadline, retry and on_error."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mechaway_core import jsontext
from mechaway_core.engine.context import NodeContext
from mechaway_core.engine.stops import Halt, NodeFailed
from mechaway_core.errors import Cancelled, MechawayError, NodeError, OutOfTime, ScriptError, Unavailable
from mechaway_core.expressions import Outputs
from mechaway_core.node import ERROR, MAIN, Exits, Item, ItemNode, Items
from mechaway_core.record import Failure, NodeRun
from mechaway_core.workflow import Step

if TYPE_CHECKING:
    from mechaway_core.engine.walk import Walk

T = TypeVar("T")

log = logging.getLogger("mechaway.engine")


class Attempts:
    """The attempts of one node: deadline, retry and on_error."""

    __slots__ = ("errors", "record", "step", "walk")

    def __init__(self, walk: Walk, step: Step, record: NodeRun) -> None:
        self.walk = walk
        self.step = step
        self.record = record
        self.errors: list[Item] = []  # the `{"error": …}` items that were made; output pins do not touch them

    def run(self, items: Items) -> Exits:
        node = self.step.node
        exits = self._each(node, items) if isinstance(node, ItemNode) else self._whole(items)
        return exits if self.step.outputs is None else self._shaped(exits, self.step.outputs)

    def _whole(self, items: Items) -> Exits:
        clean = self.walk.secrets.clean
        answer = self._try(lambda context: clean(self.step.node.run(items, context)))
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
        for number, (item, inputs) in enumerate(zip(items, pins, strict=True)):
            answer = self._failure(inputs) if isinstance(inputs, ScriptError) else self._try(self._item_job(node, item, inputs, number))
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
            raise NodeFailed(failures[0])
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
        first = 0  # items of all exits are counted on, so that each has a key of its own
        for name, given in exits.items():
            answers = self._try(
                lambda context, given=given, first=first: outputs.apply(given, context, context.evaluate, first)  # type: ignore[misc]
            )
            if isinstance(answers, Failure):
                raise NodeFailed(answers)
            first += len(given)
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

    def _try(self, job: Callable[[NodeContext], T]) -> T | Failure:
        """The result of a job, tried as often as `retry` says, or why the last attempt failed."""
        retry, clock = self.step.retry, self.walk.engine.world.clock
        attempt = 0
        while True:
            attempt += 1
            asked: float | None = None
            self.walk.halt()
            self.record.attempts = max(self.record.attempts, attempt)
            deadline = self.walk.deadline
            if self.step.timeout is not None:
                deadline = min(deadline, clock.monotonic() + self.step.timeout)
            try:
                return job(NodeContext(self.walk, self.step, self.record, deadline))
            except Cancelled as error:
                raise self.walk.cancelled() from error
            except OutOfTime as error:
                self._unless_cancelled(error)
                if clock.monotonic() >= self.walk.deadline:
                    raise self.walk.out_of_time() from error
                failure = self._failure(error)
            except (Halt, NodeFailed):
                raise
            except MechawayError as error:
                self._unless_cancelled(error)
                failure = self._failure(error)
                asked = error.retry_after if isinstance(error, NodeError) else None
            except Exception as error:
                log.exception(
                    "node %s of workflow %s failed unexpectedly",
                    self.step.id, self.walk.plan.workflow_id, extra=self.walk.run.about(self.step.id),
                )  # fmt: skip
                self._unless_cancelled(error)
                return Failure("internal", f'node "{self.step.id}" failed unexpectedly; the server\'s log says more', self.step.id)
            if attempt >= retry.attempts or not retry.applies_to(failure.kind, failure.status):
                return failure
            self._pause(retry.pause(attempt, random.random(), asked))

    def _unless_cancelled(self, error: Exception) -> None:
        """An attempt of a cancelled run fails because of that, whatever it says."""
        if self.walk.run.cancellation.asked:
            raise self.walk.cancelled() from error

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
        return Failure(kind, f'node "{self.step.id}": {self.walk.secrets.message(str(error))}', self.step.id, status)

    def _item_job(self, node: ItemNode, item: Item, inputs: list[Any], number: int) -> Callable[[NodeContext], Items]:
        def job(context: NodeContext) -> Items:
            context.number = number
            return self.walk.secrets.clean(node.run_item(item, inputs, context))

        return job
