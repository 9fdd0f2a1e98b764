"""Documents in `project.db` files."""

from __future__ import annotations

from typing import Literal

from mechaway_core.ports import ANY, Expect, Stored, Unchanged
from mechaway_core.sqlite import ProjectFiles, documents


class LocalStore:
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
