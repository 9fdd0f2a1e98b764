"""Documents in `project.db` files."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from mechaway_core.ports import ANY, UNCHANGED, Expect, Stored, Unchanged
from mechaway_core.sqlite import ProjectFiles, documents
from mechaway_core.sqlite.pulse import LOOK_AGAIN

MOST = 10_000  # documents whose version is remembered


class _Seen(NamedTuple):
    epoch: int
    version: str
    until: float


class LocalStore:
    """A `Store` over the files of projects."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files
        self._seen: dict[tuple[str, str], _Seen] = {}

    def get(self, project: str, key: str, known: str | None = None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        """See `Store.get`. Whether a version is still current mostly takes no look at the file: see `sqlite/pulse.py`."""
        if known is None:
            return documents.get(self._files.documents(project), key, None)
        pulse = self._files.pulse
        epoch = pulse.epoch() if pulse is not None else None
        now = time.monotonic()
        seen = self._seen.get((project, key))
        if seen is not None and seen.epoch == epoch and seen.version == known and now < seen.until:
            return UNCHANGED
        found = documents.get(self._files.documents(project), key, known)
        if found is UNCHANGED and epoch is not None:
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[project, key] = _Seen(epoch, known, now + LOOK_AGAIN)
        return found

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        """See `Store.put`."""
        database = self._files.documents(project)
        with self._files.changing():
            return documents.put(database, key, data, expect)

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        """See `Store.delete`."""
        database = self._files.documents(project)
        with self._files.changing():
            return documents.delete(database, key, expect)

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.keys`."""
        return documents.keys(self._files.documents(project), prefix, after, limit)
