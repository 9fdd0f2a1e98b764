"""Projects in a bucket, and where each has its things.

    projects/{slug}                      the mark of a project: the name of its generation
    documents/{slug}/{generation}/…      its documents               (store.py)
    tables/{slug}/{generation}/…         its tables                  (tables.py)
    files/{slug}/{generation}/…          the files of its runs       (files.py)
    runs/ kept/ open/ stops/ …           the records of its runs     (records.py)
    trash/{slug}/{generation}            what was deleted and may have left something behind

A project that is made again is a new generation, and a generation never comes back. So to delete one is one step, the end of its mark;
what it held is deleted afterwards, by whoever comes to it. `default` always exists: it has no mark, and its only generation is `0`.

Processes remember generations. They ask for the mark again when they find nothing where they look, and when they have put something new:
if the mark is still there then, whoever deletes the project finds what was put; if not, they take it away again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from mechaway_core.aws.s3 import S3, Found, Gone, Mismatch
from mechaway_core.errors import Conflict, Invalid, NotFound, no_project
from mechaway_core.ports import ABSENT
from mechaway_core.sqlite.files import DEFAULT, check_slug

T = TypeVar("T")

KINDS = ("documents", "tables", "files", "open", "stops", "runs", "kept")
FIRST = "0"  # the generation of the default project
TRASH_DAYS = 1.0  # for which what was deleted is looked at again

_MARKS, _TRASH = "projects/", "trash/"


class Moved(NotFound):
    """The project was deleted and made again: its things are in another place."""


class S3Projects:
    """`Projects` in a bucket. `revalidate` is for how many seconds a mark that was read counts as current."""

    def __init__(self, s3: S3, revalidate: float = 0.0) -> None:
        self._s3 = s3
        self._revalidate = revalidate
        self._known: dict[str, tuple[str, float]] = {DEFAULT: (FIRST, float("inf"))}  # generation, and until when that is sure

    # -- what there is

    def exists(self, slug: str) -> bool:
        """See `Projects.exists`."""
        return self._read(slug) is not None

    def create(self, slug: str) -> None:
        """See `Projects.create`."""
        check_slug(slug)
        generation = uuid.uuid4().hex
        if slug == DEFAULT or not self._mark(slug, generation):
            raise Conflict(f'there is a project "{slug}" already')

    def delete(self, slug: str) -> bool:
        """See `Projects.delete`."""
        generation = self._read(slug)
        if generation is None:
            return False
        if slug != DEFAULT:
            self._s3.put(f"{_TRASH}{slug}/{generation}", b"")
            if not self._unmark(slug, generation):
                return False
        self._empty(slug, generation)
        return True

    def list(self) -> list[str]:
        """See `Projects.list`."""
        marks = (line.key.removeprefix(_MARKS) for page in self._s3.walk(_MARKS) for line in page)
        return sorted({DEFAULT, *filter(_is_slug, marks)})

    def sweep(self) -> int:
        """See `Projects.sweep`."""
        count = 0
        for page in self._s3.walk(_TRASH):
            for line in page:
                slug, _, generation = line.key.removeprefix(_TRASH).partition("/")
                if generation == self._read(slug):  # somebody is about to delete it, or was cut off before
                    continue
                self._empty(slug, generation)
                if _age(line.modified) > TRASH_DAYS * 86_400:
                    self._s3.delete(line.key)
                count += 1
        return count

    # -- where it is

    def place(self, slug: str) -> str:
        """Where a project has its things, as far as is known here: `{slug}/{generation}`. Raises `NotFound`."""
        known = self._known.get(slug)
        return f"{slug}/{known[0]}" if known is not None else self.ask(slug)

    def ask(self, slug: str) -> str:
        """The same, asked anew unless it counts as current. Raises `NotFound`."""
        known = self._known.get(slug)
        if known is not None and time.monotonic() < known[1]:
            return f"{slug}/{known[0]}"
        generation = self._read(slug)
        if generation is None:
            raise no_project(slug)
        return f"{slug}/{generation}"

    def confirm(self, slug: str, place: str, key: str) -> None:
        """Have it that the object `key`, new at this place, is where its project is. Else it is deleted: raises `Moved`, `NotFound`."""
        try:
            if self.ask(slug) == place:
                return
            moved: NotFound = Moved(f'project "{slug}" was made anew')
        except NotFound as error:
            moved = error
        self._s3.delete(key)
        raise moved

    def look(self, slug: str, find: Callable[[str], T]) -> T:
        """What `find` finds at the place of a project. If that is nothing, the project may be another one by now. Raises `NotFound`."""
        place = self.place(slug)
        found = find(place)
        if not found:
            now = self.ask(slug)
            if now != place:
                return find(now)
        return found

    # -- marks

    def _read(self, slug: str) -> str | None:
        if slug == DEFAULT:
            return FIRST
        if not _is_slug(slug):
            return None
        asked = time.monotonic()
        found = self._s3.get(_MARKS + slug)
        if not isinstance(found, Found):
            self._known.pop(slug, None)
            return None
        generation = found.data.decode()
        self._known[slug] = generation, asked + self._revalidate
        return generation

    def _mark(self, slug: str, generation: str) -> bool:
        try:
            self._s3.put(_MARKS + slug, generation.encode(), ABSENT)
        except Mismatch as met:
            return met.unsure and self._read(slug) == generation
        return True

    def _unmark(self, slug: str, generation: str) -> bool:
        """Delete the mark of this generation; False when somebody else was quicker."""
        self._known.pop(slug, None)
        found = self._s3.get(_MARKS + slug)
        if not isinstance(found, Found) or found.data.decode() != generation:
            return False
        try:
            self._s3.delete(_MARKS + slug, found.etag)
        except Gone as met:
            return met.unsure
        except Mismatch:
            return False
        return True

    def _empty(self, slug: str, generation: str) -> None:
        for kind in KINDS:
            self._s3.delete_all(f"{kind}/{slug}/{generation}/")


def _is_slug(slug: str) -> bool:
    try:
        check_slug(slug)
    except Invalid:
        return False
    return True


def _age(modified: str) -> float:
    """Seconds since a moment in ISO 8601."""
    return time.time() - datetime.fromisoformat(modified).replace(tzinfo=UTC).timestamp()
