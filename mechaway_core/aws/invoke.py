"""Runs that nobody waits for: the runner function, invoked asynchronously.

The event names a run that is on record with all it needs, so it is a small one. Lambda keeps it until the runner took it, tries three
times, and then gives it to the dead-letter queue; a run that is still open then is found by the look every 15 minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mechaway_core import jsontext
from mechaway_core.aws.calls import Meaning, calling
from mechaway_core.errors import MechawayError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

KIND = "run"  # what the event says that it is


class LambdaInvoke:
    """An `Invoke` over the runner; `function` is its name or ARN."""

    here = False

    def __init__(self, client: Callable[[], LambdaClient], function: str) -> None:
        self._client = client
        self._function = function

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """See `Invoke.start`."""
        event = {"kind": KIND, "project": project, "run_id": run_id, "workflow": workflow_id}
        with calling("hand the run to the runner", _MEANINGS):
            self._client().invoke(FunctionName=self._function, InvocationType="Event", Payload=jsontext.encode(event))

    def check(self) -> None:
        """See `Invoke.check`. Lambda takes as many as there are."""

    def close(self) -> None:
        """See `Invoke.close`."""


def _no_runner(_: str) -> MechawayError:
    return Unavailable("there is no runner function to hand the run to; set MECHAWAY_RUNNER_FUNCTION, or deploy again")


_MEANINGS: dict[str, Meaning] = {"ResourceNotFoundException": _no_runner}
