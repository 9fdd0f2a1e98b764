"""Branches side by side."""

from __future__ import annotations

import heapq
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechaway_core.engine.walk import Walk


class SideBySide:
    """The walk of a plan with branches: a heap of ready nodes that several threads take from."""

    def __init__(self, walk: Walk, helpers: ThreadPoolExecutor) -> None:
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
                self.helpers.submit(copy_context().run, self._help)
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
