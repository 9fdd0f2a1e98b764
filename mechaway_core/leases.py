"""Which process runs an accepted run, where processes know nothing of each other.

    leases/{run id}    {"holder", "until"}

Who can make the document has the run; it goes when the run is over. A process that was cut off leaves it, and past `until`, in seconds
since 1970, that process is gone for certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from mechaway_core.errors import Conflict
from mechaway_core.ports import ABSENT, Expect, Store, Stored

KEEP = 86_400.0  # seconds past its end after which nobody asks about a lease

_LEASES = "leases/"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a run now. `version` is the store's."""

    project: str
    key: str
    version: str


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that somebody took before."""

    holder: str
    until: float
    lease: Lease


class Leases:
    """The leases of all projects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, project: str, run_id: str, holder: str, until: float) -> Lease | Held:
        """The lease of a run, unless somebody took it before."""
        while True:
            try:
                return self._put(project, _LEASES + run_id, holder, until, ABSENT)
            except Conflict:
                held = self.find(project, run_id)
                if held is not None:
                    return held

    def take_over(self, held: Held, holder: str, until: float) -> Lease | None:
        """The lease of a process that is gone; None when somebody else was quicker."""
        try:
            return self._put(held.lease.project, held.lease.key, holder, until, held.lease.version)
        except Conflict:
            return None

    def find(self, project: str, run_id: str) -> Held | None:
        """The lease of a run as it is now."""
        return self._read(project, _LEASES + run_id)

    def give_back(self, lease: Lease) -> None:
        """End a lease, unless another one has it by now."""
        try:
            self._store.delete(lease.project, lease.key, lease.version)
        except Conflict:
            return

    def sweep(self, project: str, now: float) -> int:
        """Delete leases that are long past: their process was cut off when the run was over. How many those were."""
        count, after = 0, ""
        while keys := self._store.keys(project, _LEASES, after):
            after = keys[-1]
            for held in filter(None, (self._read(project, key) for key in keys)):
                if held.until + KEEP < now:
                    self.give_back(held.lease)
                    count += 1
        return count

    def _put(self, project: str, key: str, holder: str, until: float, expect: str | Expect) -> Lease:
        return Lease(project, key, self._store.put(project, key, orjson.dumps({"holder": holder, "until": until}), expect))

    def _read(self, project: str, key: str) -> Held | None:
        found = self._store.get(project, key)
        if not isinstance(found, Stored):
            return None
        said = orjson.loads(found.data)
        return Held(said["holder"], said["until"], Lease(project, key, found.version))
