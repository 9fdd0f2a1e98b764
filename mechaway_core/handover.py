"""Who has taken an event on: what there is in the store about that.

    claims/{minute}/{sha256 of the moment and what is claimed}    {"holder"}

Whatever delivers events promises "at least once"; a claim makes it once. The first to make the document, which only one can, in whatever
process, has the event; all others find it. It is made before the first node acts and not taken back when the run is cut off: its nodes may
have acted. Names begin with the time, so the oldest come first and are swept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from mechaway_core.errors import Conflict, MechawayError
from mechaway_core.ports import ABSENT, Store, Stored

KEEP = 3 * 86_400.0  # seconds: an event comes at most 24 hours late, and waits 6 more for its function

_CLAIMS = "claims/"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that was made. `version` is the store's."""

    project: str
    key: str
    version: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was claimed before, and by whom. `version` is the store's."""

    holder: str
    version: str = field(default="", compare=False)


class Handover:
    """The claims of all projects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim(self, project: str, moment: float, what: Sequence[str], holder: str) -> Claim | Taken:
        """The claim on what happens at a moment, in seconds since 1970, unless somebody has it already."""
        key = _claim(moment, what)
        try:
            return Claim(project, key, self._store.put(project, key, orjson.dumps({"holder": holder}), ABSENT))
        except Conflict:
            found = self._store.get(project, key)
            return Taken(str(orjson.loads(found.data)["holder"]), found.version) if isinstance(found, Stored) else Taken("")

    def take_over(self, project: str, moment: float, what: Sequence[str], taken: Taken, holder: str) -> Claim:
        """The claim of somebody who is gone and did nothing under it. Raises `Stale` when another one was quicker."""
        key = _claim(moment, what)
        return Claim(project, key, self._store.put(project, key, orjson.dumps({"holder": holder}), taken.version))

    def once(self, project: str, moment: float, what: Sequence[str], holder: str, act: Callable[[], object]) -> bool:
        """Do what happens at a moment unless somebody has it; whether it was done. What raises gives the claim back."""
        claim = self.claim(project, moment, what, holder)
        if isinstance(claim, Taken):
            return False
        try:
            act()
        except MechawayError:
            self.release(claim)
            raise
        return True

    def is_claimed(self, project: str, moment: float, what: Sequence[str]) -> bool:
        """Whether somebody has what happens at a moment, as far as claims are kept."""
        return isinstance(self._store.get(project, _claim(moment, what)), Stored)

    def holder(self, project: str, moment: float, what: Sequence[str]) -> str | None:
        """Who has what happens at a moment, as far as claims are kept."""
        found = self._store.get(project, _claim(moment, what))
        return str(orjson.loads(found.data)["holder"]) if isinstance(found, Stored) else None

    def release(self, claim: Claim) -> None:
        """Give a claim back: nothing was done under it."""
        self._store.delete(claim.project, claim.key, claim.version)

    def settle(self, claim: Claim) -> None:
        """Put on record that all was done under a claim, so that another attempt of its holder has nothing to ask about."""
        self._store.put(claim.project, claim.key, orjson.dumps({"holder": ""}), claim.version)

    def sweep(self, project: str, now: float) -> int:
        """Delete what no event can ask for any more; how many documents that were."""
        before = _CLAIMS + _minute(now - KEEP)
        count = 0
        while keys := [key for key in self._store.keys(project, _CLAIMS) if key < before]:
            for key in keys:
                count += self._store.delete(project, key)
        return count


def _claim(moment: float, what: Sequence[str]) -> str:
    said = chr(0).join((repr(float(moment)), *what))
    return f"{_CLAIMS}{_minute(moment)}/{hashlib.sha256(said.encode()).hexdigest()}"


def _minute(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%MZ")
