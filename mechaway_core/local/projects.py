"""Projects as folders."""

from __future__ import annotations

from mechaway_core.sqlite import ProjectFiles


class LocalProjects:
    """`Projects` over the files of projects."""

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
