"""Runs that nobody waits for: the runner function, invoked asynchronously.

Lambda keeps such an event until the runner took it, tries three times, and then gives it to the dead-letter queue. Items too large for an
event wait in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mechaway_core import jsontext
from mechaway_core.aws.calls import Meaning, calling
from mechaway_core.errors import MechawayError, TooLarge, Unavailable
from mechaway_core.handover import Handover
from mechaway_core.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

KIND = "run"  # what the event says that it is
MOST = 1_000_000  # bytes of an event that Lambda takes for later


class LambdaInvoke:
    """An `Invoke` over the runner; `function` is its name or ARN."""

    def __init__(self, client: Callable[[], LambdaClient], function: str, handover: Handover, clock: Clock) -> None:
        self._client = client
        self._function = function
        self._handover = handover
        self._clock = clock

    def start(self, project: str, workflow_id: str, node_id: str, items: Sequence[Any]) -> None:
        """See `Invoke.start`."""
        event = {
            "kind": KIND,
            "id": uuid4().hex,
            "asked_at": self._clock.now(),
            "project": project,
            "workflow": workflow_id,
            "node": node_id,
        }
        payload = jsontext.encode(event | {"items": items})
        try:
            if len(payload) <= MOST:
                self._send(payload)
                return
        except TooLarge:  # Lambda counts otherwise, or its limit is another one here
            pass
        self._send_parcel(project, event, items)

    def close(self) -> None:
        """See `Invoke.close`."""

    def _send_parcel(self, project: str, event: dict[str, Any], items: Sequence[Any]) -> None:
        parcel = self._handover.send(project, event["asked_at"], event["id"], items)
        try:
            self._send(jsontext.encode(event | {"parcel": parcel}))
        except BaseException:
            self._handover.discard(project, parcel)
            raise

    def _send(self, payload: bytes) -> None:
        with calling("hand the run to the runner", _MEANINGS):
            self._client().invoke(FunctionName=self._function, InvocationType="Event", Payload=payload)


def _too_large(message: str) -> MechawayError:
    return TooLarge(message)


def _no_runner(_: str) -> MechawayError:
    return Unavailable("there is no runner function to hand the run to; set MECHAWAY_RUNNER_FUNCTION, or deploy again")


_MEANINGS: dict[str, Meaning] = {
    "RequestTooLargeException": _too_large,
    "RequestEntityTooLargeException": _too_large,
    "413": _too_large,
    "ResourceNotFoundException": _no_runner,
}
