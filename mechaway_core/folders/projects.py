"""Projects as folders: documents in `project.db`, tables in `simpletable.db`, runs on record in `runs.db`.

On one machine processes share memory that tells them of changes (`sqlite/pulse.py`); where several machines share the folders there is
none, and every question goes to the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.ports import ANY, UNCHANGED, Expect, RunLine, RunPage, RunQuery, RunRecord, Session, Stored, Unchanged
from mechaway_core.sqlite import ProjectFiles, documents, runs
from mechaway_core.sqlite.pulse import LOOK_AGAIN

T = TypeVar("T")

MOST = 10_000  # documents whose version is remembered


class _Seen(NamedTuple):
    epoch: int
    version: str
    until: float


class FolderStore:
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


class FolderTables:
    """`Tables` over the files of projects."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    def read(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """See `Tables.read`."""
        return self._files.tables(project).read(job, deadline, cancellation)

    def write(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """See `Tables.write`."""
        return self._files.tables(project).write(job, deadline, cancellation)


class FolderRecords:
    """`Records` over the files of projects. `owner` is what this process is called there.

    `note` is told the project before a run is left open there; all records of a project may take `max_mb`.
    """

    def __init__(self, files: ProjectFiles, owner: str, max_mb: float, note: Callable[[str], None] = lambda _project: None) -> None:
        self._files = files
        self._owner = owner
        self._max_mb = max_mb
        self._note = note

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        """See `Records.write`."""
        if any(record.line.ended is None for record in records):
            self._note(project)
        runs.write(self._files.runs(project), records, gone, self._owner)

    def get(self, project: str, run_id: str) -> RunRecord | None:
        """See `Records.get`."""
        return runs.get(self._files.runs(project), run_id)

    def find(self, project: str, query: RunQuery) -> RunPage:
        """See `Records.find`."""
        return runs.find(self._files.runs(project), query)

    def since(self, project: str, mark: int | None, limit: int = 100) -> tuple[list[RunLine], int]:
        """See `Records.since`."""
        return runs.since(self._files.runs(project), mark, limit)

    def ask_to_stop(self, project: str, run_id: str) -> None:
        """See `Records.ask_to_stop`."""
        runs.ask_to_stop(self._files.runs(project), run_id)

    def asked_to_stop(self, project: str, run_ids: Sequence[str]) -> set[str]:
        """See `Records.asked_to_stop`."""
        return runs.asked_to_stop(self._files.runs(project), run_ids)

    def abandoned(self, project: str, owner: str | None, before: float, limit: int = 100) -> list[RunRecord]:
        """See `Records.abandoned`."""
        return runs.abandoned(self._files.runs(project), owner, before, limit)

    def prune(self, project: str, keep: Callable[[str], float] | None, until: float | None = None) -> int:
        """See `Records.prune`."""

        def over() -> bool:
            return until is not None and time.monotonic() >= until

        return runs.prune(self._files.runs(project), keep, time.time(), self._max_mb, over)


class FolderProjects:
    """`Projects` as folders."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    def exists(self, slug: str) -> bool:
        """See `Projects.exists`."""
        return self._files.exists(slug)

    def create(self, slug: str) -> None:
        """See `Projects.create`."""
        self._files.create(slug)

    def delete(self, slug: str) -> bool:
        """See `Projects.delete`."""
        return self._files.delete(slug)

    def list(self) -> list[str]:
        """See `Projects.list`."""
        return self._files.slugs()

    def sweep(self) -> int:
        """See `Projects.sweep`. Folders are swept when they are opened."""
        return 0
