"""Runs of one schedule that must not meet, where they happen in processes that know nothing of each other.

    turns/{workflow}/{node}    {"until", "stop"}

Who can make the document has the turn; it ends with the run, or by itself at `until` when the run was cut off. Another may ask the one
who has it to stop.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import orjson

from mechaway_core.errors import Conflict, NotFound
from mechaway_core.ports import ABSENT, Clock, Store, Stored


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to run now. `version` is the store's."""

    project: str
    key: str
    version: str


class Turns:
    """The turns of all projects."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def take(self, project: str, workflow_id: str, node_id: str, seconds: float) -> Turn | None:
        """The turn, for so many seconds at most; None while another run has it."""
        key = f"turns/{workflow_id}/{node_id}"
        now = self._clock.now()
        data = orjson.dumps({"until": now + seconds, "stop": False})
        try:
            return Turn(project, key, self._store.put(project, key, data, ABSENT))
        except Conflict:
            found = self._store.get(project, key)
        if not isinstance(found, Stored) or orjson.loads(found.data)["until"] > now:
            return None
        try:
            return Turn(project, key, self._store.put(project, key, data, found.version))
        except Conflict:  # somebody else was quicker to see that it had ended
            return None

    def give_back(self, turn: Turn) -> None:
        """End a turn. One that somebody asked to stop, or took when it was past, has another version by now."""
        found = self._store.get(turn.project, turn.key)
        if isinstance(found, Stored) and (found.version == turn.version or orjson.loads(found.data)["stop"]):
            with contextlib.suppress(Conflict, NotFound):
                self._store.delete(turn.project, turn.key, found.version)

    def ask_to_stop(self, project: str, workflow_id: str, node_id: str) -> None:
        """Ask the run that has the turn to stop before its next node."""
        key = f"turns/{workflow_id}/{node_id}"
        found = self._store.get(project, key)
        if isinstance(found, Stored):
            said = orjson.loads(found.data) | {"stop": True}
            with contextlib.suppress(Conflict):  # it ended, or was asked by another
                self._store.put(project, key, orjson.dumps(said), found.version)

    def is_asked_to_stop(self, turn: Turn) -> bool:
        """Whether somebody asked for that."""
        found = self._store.get(turn.project, turn.key)
        return isinstance(found, Stored) and found.version != turn.version and bool(orjson.loads(found.data)["stop"])

    def forget(self, project: str, workflow_id: str) -> None:
        """Forget the turns of a workflow that is gone."""
        with contextlib.suppress(NotFound):
            for key in self._store.keys(project, f"turns/{workflow_id}/"):
                self._store.delete(project, key)
