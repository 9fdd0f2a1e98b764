"""Everything of a project in its folder on EFS: the files of the laptop, opened so that several functions can share them.

A write-ahead log needs memory that its processes share, which functions do not. So the journal is a rollback journal, every commit is
synced, nothing is mapped into memory, and one function writes at a time while others wait (`MECHAWAY_BUSY_TIMEOUT`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

from mechaway_core.folders import FolderFiles
from mechaway_core.ports import ANY, Expect, Session, Stored, Unchanged
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles, documents

T = TypeVar("T")

LONGEST_RUN = 1000.0  # seconds that a function may go on, and some more: the lock of a folder is not seen by other functions


def open_projects(settings: Settings) -> ProjectFiles:
    """The folders of projects under `settings.data_dir`, the place where the file system is mounted."""
    return ProjectFiles(replace(settings, sync="full"), journal="delete")


class EfsStore:
    """A `Store` over the files of projects."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    def get(self, project: str, key: str, known: str | None = None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        """See `Store.get`."""
        return documents.get(self._files.documents(project), key, known)

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        """See `Store.put`."""
        return documents.put(self._files.documents(project), key, data, expect)

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        """See `Store.delete`."""
        return documents.delete(self._files.documents(project), key, expect)

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.keys`."""
        return documents.keys(self._files.documents(project), prefix, after, limit)


class EfsTables:
    """`Tables` over the files of projects."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    def read(self, project: str, job: Callable[[Session], T], deadline: float | None = None) -> T:
        """See `Tables.read`."""
        return self._files.tables(project).read(job, deadline)

    def write(self, project: str, job: Callable[[Session], T], deadline: float | None = None) -> T:
        """See `Tables.write`."""
        return self._files.tables(project).write(job, deadline)


def efs_files(projects: ProjectFiles) -> FolderFiles:
    """`Files` beside the databases of projects."""
    return FolderFiles(projects, least=LONGEST_RUN)
