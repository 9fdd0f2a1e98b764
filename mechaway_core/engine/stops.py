"""What ends a walk before its time; never seen outside the engine."""

from __future__ import annotations

from mechaway_core.record import Failure


class Halt(Exception):
    """The run is over: out of time or cancelled."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class NodeFailed(Exception):
    """A node failed and its workflow wants the run to stop."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
