"""Rows in `simpletable.db` files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mechaway_core.ports import Session
from mechaway_core.sqlite import ProjectFiles

T = TypeVar("T")


class LocalTables:
    """`Tables` over the files of projects."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    def read(self, project: str, job: Callable[[Session], T], deadline: float | None = None) -> T:
        """See `Tables.read`."""
        return self._files.tables(project).read(job, deadline)

    def write(self, project: str, job: Callable[[Session], T], deadline: float | None = None) -> T:
        """See `Tables.write`."""
        return self._files.tables(project).write(job, deadline)
