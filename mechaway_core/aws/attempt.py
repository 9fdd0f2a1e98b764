"""One attempt of Lambda's at an event of the runner."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from mechaway_core.logs import about
from mechaway_core.ports import Clock
from mechaway_core.record import Run, iso

MARGIN = 5.0  # seconds before Lambda ends the function in which a run that is out of time is put on record
LONGEST = 900.0  # seconds that a function may take

log = logging.getLogger("mechaway.runner")


class LambdaContext(Protocol):
    """What Lambda tells about an invocation."""

    aws_request_id: str  # the same for every attempt at one event

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the function."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at an event: `id` is the same for all of them. It ends at `until` of a clock that goes only forward."""

    id: str
    clock: Clock
    until: float | None

    @classmethod
    def of(cls, context: LambdaContext | None, clock: Clock) -> Attempt:
        """What the context says; without one, an attempt of its own that has all the time."""
        if context is None:
            return cls(uuid4().hex, clock, None)
        left = context.get_remaining_time_in_millis() / 1000 - MARGIN
        return cls(context.aws_request_id, clock, clock.monotonic() + left)

    @property
    def timeout(self) -> float | None:
        """What a run that begins now may take, in seconds."""
        return None if self.until is None else max(self.until - self.clock.monotonic(), 1.0)


def told(run: Run, due: float | None = None) -> dict[str, Any]:
    """What is said of a run that is over. One that failed is logged and not raised: another attempt would act again."""
    when = about(scheduled_for=None if due is None else iso(due))
    log.log(logging.INFO if run.failure is None else logging.ERROR, "%s", run.told(), extra=run.about() | when)
    return {"status": run.status, "run_id": run.info.id}


def lacked_the_vault(run: Run) -> bool:
    """Whether a run ended before any node acted because the vault was out of reach."""
    failure = run.failure
    return failure is not None and failure.kind == "secret" and failure.node is None and not run.nodes
