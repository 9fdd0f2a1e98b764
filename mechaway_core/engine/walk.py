"""One walk of one run: which node takes what, and what becomes of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mechaway_core.engine.attempts import Attempts
from mechaway_core.engine.branches import SideBySide
from mechaway_core.engine.secrets import RunSecrets
from mechaway_core.engine.stops import Halt, NodeFailed
from mechaway_core.errors import MechawayError, SecretMissing
from mechaway_core.node import MAIN, Exits, Items, Response
from mechaway_core.record import Failure, NodeRun, Run
from mechaway_core.workflow import Plan, Start, Step

if TYPE_CHECKING:
    from mechaway_core.engine.engine import Engine

log = logging.getLogger("mechaway.engine")


class Carried(NamedTuple):
    """What a run has of another one.

    `exits` are those of steps that are not run again, `items` what the step `at` takes in the place of what its parents give. `runs` are
    the only steps that are run; None: all but those.
    """

    exits: Mapping[int, Exits] = {}
    at: int | None = None
    items: Items | None = None
    runs: Collection[int] | None = None


NOTHING = Carried()


class Walk:
    """One walk of one run."""

    __slots__ = (
        "_failed_at", "_lock", "carried", "deadline", "engine", "items", "limit", "outputs", "plan", "records", "responses", "run",
        "secrets", "start",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        start: Start,
        run: Run,
        items: Items,
        deadline: float,
        limit: float,
        carried: Carried | None = None,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.start = start
        self.run = run
        self.items = items
        self.carried = carried or NOTHING
        self.deadline = deadline
        self.limit = limit
        self.outputs: dict[int, Exits] = {}  # of the nodes that ran
        self.records: dict[int, NodeRun] = {}
        self.responses: dict[int, Response] = {}
        self.secrets = RunSecrets()
        self._failed_at: int | None = None
        self._lock = threading.Lock()

    def unlock(self) -> bool:
        """Open all secrets that the run needs, and keep them out of what started it. False when the run is over."""
        needed = self.start.secrets
        try:
            values = self.engine.world.vault.values(self.run.info.project, needed)
        except SecretMissing as error:
            node = needed[error.names[0]]
            self.run.failure = Failure("secret", f'node "{node}" cannot do its work: {error}', node)
            return False
        except MechawayError as error:
            self.run.failure = Failure("secret", f"the secrets of the run cannot be had: {error}")
            return False
        self.secrets.open(values, self._shown())
        self.items = self.secrets.clean(self.items)
        self.run.request = self.secrets.request(self.run.request)
        return True

    def _shown(self) -> Mapping[str, str]:
        """The secrets by which the caller may have come in. One that has gone since then is not missed: no node needs it."""
        with suppress(MechawayError):
            return self.engine.world.vault.values(self.run.info.project, self.run.shown)
        return {}

    def go(self, helpers: ThreadPoolExecutor | None) -> None:
        if helpers is None:
            for index in self.start.order:
                if not self.visit(index):
                    return
            return
        SideBySide(self, helpers).go()

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
            if index == self.carried.at:
                given = self.carried.items if self.carried.items is not None else given
            if given is None or self.is_left_out(index):
                record.status = "skipped"
                return True
            record.given = given
            if index in self.carried.exits:
                record.replayed = True
                record.exits = self.carried.exits[index]
            elif step.disabled:
                record.status = "disabled"
                record.exits = {MAIN: given}
            elif step.relays:
                record.attempts = 1
                record.exits = {MAIN: given}
            else:
                record.exits = Attempts(self, step, record).run(given)
            self.outputs[index] = record.exits
            return True
        except Halt as halt:
            record.failure = Failure(halt.failure.kind, f'{halt.failure.message}; it was at node "{step.id}"')
            record.status = "cancelled" if halt.failure.kind == "cancelled" else "timed_out"
            return self.fail(index, record.failure)
        except NodeFailed as failed:
            record.failure = failed.failure
            record.status = "failed"
            return self.fail(index, failed.failure)
        except Exception:  # a mistake of ours, in whatever thread; the run must not end as if all were well
            log.exception(
                "node %s of workflow %s met a mistake in the engine", step.id, self.plan.workflow_id, extra=self.run.about(step.id)
            )
            record.status = "failed"
            record.failure = Failure("internal", f'node "{step.id}" failed unexpectedly; the server\'s log says more', step.id)
            return self.fail(index, record.failure)
        finally:
            record.took = time.monotonic() - began

    def is_left_out(self, index: int) -> bool:
        """Whether this run is about other steps only, and has nothing of this one."""
        runs = self.carried.runs
        return runs is not None and index not in runs and index not in self.carried.exits

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
                    raise NodeFailed(Failure("error", message, step.id))
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
        if self.run.cancellation.asked:
            raise self.cancelled()
        if self.engine.world.clock.monotonic() >= self.deadline:
            raise self.out_of_time()

    def cancelled(self) -> Halt:
        return Halt(Failure("cancelled", "the run was cancelled"))

    def out_of_time(self) -> Halt:
        return Halt(Failure("timeout", f"the run took longer than the {self.limit:g} s it is allowed"))
