"""How a run that is cancelled ends what it has in flight.

A run has one `Cancellation`. Whoever waits for something on its behalf (a Lua process, a socket, a statement) puts down, for as long as it
waits, an act that ends the wait; `ask`, from whatever thread, does these acts.

As long as nobody asks, no lock is taken. Who begins puts the act down and then looks at `asked`; who asks sets `asked` and then takes what
was put down: one of the two sees the other. An act is taken back by its owner or taken by `ask`, never both, for adding to a set, removing
and popping are one step each. An owner who finds its act taken waits until it has been done. So after `end` nothing is ended any more that
may serve another run by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from mechaway_core.errors import Cancelled

log = logging.getLogger("mechaway.engine")

LOOK = 0.1  # seconds between two looks at `asked`, for waits that no act can end

Act: TypeAlias = Callable[[], object]


class Lock(Protocol):
    """What can be acquired: a lock, a semaphore."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...


class Cancellation:
    """Whether a run was asked to stop, and what ends that which it has in flight. Thread-safe."""

    __slots__ = ("_acts", "_asking", "asked")

    def __init__(self) -> None:
        self.asked = False
        self._acts: set[Act] = set()
        self._asking = threading.Lock()

    def ask(self) -> None:
        """Stop the run: end all that is in flight now, and let nothing begin any more. May be called again."""
        with self._asking:
            self.asked = True
            while self._acts:
                try:
                    act = self._acts.pop()
                except KeyError:  # its owner was quicker
                    return
                try:
                    act()
                except Exception:  # the others are to be ended all the same
                    log.exception("something that a cancelled run had in flight could not be ended")

    def check(self) -> None:
        """Raise `Cancelled` when the run was asked to stop."""
        if self.asked:
            raise Cancelled

    def begin(self, act: Act) -> None:
        """From now on until `end`, `act` ends what is in flight. Raises `Cancelled` when that should not begin any more.

        An act is quick, does not raise, and may come before there is anything to end. Of several that are put down no two are equal.
        """
        self._acts.add(act)
        if self.asked:
            self.end(act)
            raise Cancelled

    def end(self, act: Act) -> None:
        """It is no longer in flight. When this returns, the act is not being done and will not be."""
        try:
            self._acts.remove(act)
        except KeyError:
            with self._asking:  # it is being done, or has been
                pass

    def during(self, act: Act) -> InFlight:
        """`begin` and `end` around a block. When the run was cancelled, `Cancelled` takes the place of whatever the block came to."""
        return InFlight(self, act)

    def acquire(self, lock: Lock, deadline: float) -> bool:
        """Acquire a lock; False when it could not be had until `deadline`, an instant of `time.monotonic()`. Raises `Cancelled`."""
        while True:
            self.check()
            left = deadline - time.monotonic()
            if lock.acquire(timeout=max(0.0, min(left, LOOK))):
                return True
            if left <= LOOK:
                return False


class InFlight:
    """See `Cancellation.during`."""

    __slots__ = ("_act", "_cancellation")

    def __init__(self, cancellation: Cancellation, act: Act) -> None:
        self._cancellation = cancellation
        self._act = act

    def __enter__(self) -> None:
        self._cancellation.begin(self._act)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._cancellation.end(self._act)
        if self._cancellation.asked and (kind is None or issubclass(kind, Exception)):  # Ctrl-C stays what it is
            raise Cancelled from None


NEVER = Cancellation()  # of what belongs to no run; nobody asks it
