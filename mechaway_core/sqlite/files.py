"""The folders of projects: `{root}/{slug}/project.db`, and beside it `simpletable.db` and `runs.db`.

A project is there when its `project.db` is. It is made beside its place and moved there whole, and it is moved away whole before it
is deleted: whatever is cut off leaves a project or none. Hidden folders are leftovers of that and are swept at the next start.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Literal

from mechaway_core.errors import Conflict, Invalid, Unavailable, no_project
from mechaway_core.settings import Settings
from mechaway_core.sqlite import documents, runs
from mechaway_core.sqlite.database import Database
from mechaway_core.sqlite.link import Options
from mechaway_core.sqlite.pulse import Pulse

DEFAULT = "default"
DOCUMENTS, TABLES, RUNS = "project.db", "simpletable.db", "runs.db"
NEW, TRASH = ".new-", ".trash-"
ABANDONED = 3600.0  # seconds after which a project that is still being made is taken for a leftover

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def check_slug(slug: str) -> None:
    """Raises `Invalid` when this cannot be the slug of a project. Nothing becomes part of a path before it was asked here."""
    if not isinstance(slug, str) or _SLUG.fullmatch(slug) is None:
        raise Invalid("the slug of a project starts with a letter or digit and goes on with a-z, 0-9 and '-', 63 at most")


class ProjectFiles:
    """The databases of all projects under a folder. At most `settings.max_open_projects` projects are kept open."""

    def __init__(self, settings: Settings, *, root: Path | None = None, journal: Literal["wal", "delete"] = "wal") -> None:
        self.root = settings.data_dir if root is None else root
        self._most = settings.max_open_projects * 3
        plain = Options(sync=settings.sync, journal=journal, busy_timeout=settings.busy_timeout)
        self._documents = plain._replace(setup=documents.SETUP)
        self._runs = plain._replace(setup=runs.SETUP, shrinks=True)
        self._tables = plain._replace(
            guarded=True,
            max_mb=settings.tables_max_mb,
            sql_timeout=settings.sql_timeout,
            sql_max_rows=settings.sql_max_rows,
            sql_max_mb=settings.sql_max_mb,
        )
        self.pulse = Pulse(self.root) if journal == "wal" else None  # processes on other machines share no memory
        self._open: dict[tuple[str, str], Database] = {}
        self._opening = threading.Lock()
        self._ticks = count(1)
        self._sweep()

    def documents(self, slug: str) -> Database:
        """The database behind a project's `Store`."""
        return self._database(slug, DOCUMENTS)

    def tables(self, slug: str) -> Database:
        """The database behind a project's `Tables`."""
        return self._database(slug, TABLES)

    def runs(self, slug: str) -> Database:
        """The database behind a project's `Records`."""
        return self._database(slug, RUNS)

    def exists(self, slug: str) -> bool:
        """Whether there is such a project. A slug that cannot be one is none."""
        if slug == DEFAULT:
            return True
        try:
            check_slug(slug)
        except Invalid:
            return False
        with self._reaching(slug):
            return _is_project(self.root / slug)

    def create(self, slug: str) -> None:
        """Make a project. Raises `Invalid`, `Conflict`."""
        check_slug(slug)
        if self.exists(slug) or not self._make(slug):
            raise Conflict(f'there is a project "{slug}" already')

    def delete(self, slug: str) -> bool:
        """Delete a project and its data; False when there was none."""
        try:
            check_slug(slug)
        except Invalid:
            return False
        trash = self.root / f"{TRASH}{slug}-{uuid.uuid4().hex}"
        with self._reaching(slug):
            if not _is_project(self.root / slug):
                return slug == DEFAULT
            try:
                with self.changing():
                    os.rename(self.root / slug, trash)
            except FileNotFoundError:  # somebody else deleted it at the same time
                return False
            self._sync(self.root)
        with self._opening:
            gone = [self._open.pop((slug, name), None) for name in (DOCUMENTS, TABLES, RUNS)]
        for database in gone:
            if database is not None:
                database.close()
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def changing(self) -> contextlib.AbstractContextManager[None]:
        """Around whatever changes documents, so that other processes notice."""
        return contextlib.nullcontext() if self.pulse is None else self.pulse.changing()

    def slugs(self) -> list[str]:
        """Slugs, sorted."""
        try:
            with self._reaching(DEFAULT):
                names = os.listdir(self.root)
                found = {name for name in names if _SLUG.fullmatch(name) and _is_project(self.root / name)}
        except FileNotFoundError:
            found = set()
        return sorted(found | {DEFAULT})

    def close(self) -> None:
        """Close every database that nobody uses."""
        with self._opening:
            databases = list(self._open.values())
            self._open.clear()
        for database in databases:
            database.close()
        if self.pulse is not None:
            self.pulse.close()

    def _database(self, slug: str, name: str) -> Database:
        database = self._open.get((slug, name))
        if database is None:
            database = self._admit(slug, name)
        database.used = next(self._ticks)
        return database

    def _admit(self, slug: str, name: str) -> Database:
        try:
            check_slug(slug)
        except Invalid:
            raise no_project(slug) from None
        if not self.exists(slug):
            raise no_project(slug)
        options = {DOCUMENTS: self._documents, TABLES: self._tables, RUNS: self._runs}[name]
        with self._opening:
            database = self._open.get((slug, name))
            if database is None:
                database = Database(
                    self.root / slug / name,
                    options,
                    f'project "{slug}"',
                    self._finder(slug),
                    creates=name != DOCUMENTS,
                    pulse=self.pulse,
                )
                self._open[slug, name] = database
            database.used = next(self._ticks)
            surplus = self._surplus()
        for old in surplus:
            old.close()
        return database

    def _surplus(self) -> list[Database]:
        """Take those used longest ago, and by nobody now, out of the open ones."""
        surplus: list[Database] = []
        if len(self._open) > self._most:
            oldest = sorted(self._open.items(), key=lambda entry: entry[1].used)
            for key, database in oldest[: len(self._open) - self._most]:
                if database.idle:
                    surplus.append(self._open.pop(key))
        return surplus

    def _finder(self, slug: str) -> Callable[[bool], None]:
        def find(write: bool) -> None:
            with self._reaching(slug):
                if _is_project(self.root / slug):
                    return
            if slug != DEFAULT:
                raise no_project(slug)
            if write:
                self._make(slug)

        return find

    def _make(self, slug: str) -> bool:
        """Make a project whole and move it into place; False when somebody else was quicker."""
        place = self.root / f"{NEW}{slug}-{uuid.uuid4().hex}"
        with self._reaching(slug):
            try:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.mkdir(mode=0o700)
                database = Database(place / DOCUMENTS, self._documents, f'project "{slug}"')
                try:
                    database.write(lambda session: session.execute("SELECT 1"))
                finally:
                    database.close()
                self._sync(place)
                made = _move(place, self.root / slug)
                self._sync(self.root)
                return made
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _sync(self, folder: Path) -> None:
        if self._documents.sync == "full":
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what a process that was cut off left behind."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.root):
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
                if entry.name.startswith(TRASH) or (entry.name.startswith(NEW) and old):
                    shutil.rmtree(entry.path, ignore_errors=True)

    @contextlib.contextmanager
    def _reaching(self, slug: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f'the folder of project "{slug}" cannot be used: {error.strerror}: {self.root}') from error


def _move(made: Path, place: Path) -> bool:
    """Put a project that was made in its place; False when there is one."""
    try:
        os.rename(made, place)
        return True
    except OSError:
        if _is_project(place):
            return False
        if not place.is_dir():
            raise
    try:  # a folder that holds something, but no project: it becomes one
        os.link(made / DOCUMENTS, place / DOCUMENTS)
    except FileExistsError:
        return False
    return True


def _is_project(folder: Path) -> bool:
    try:
        os.stat(folder / DOCUMENTS)
    except FileNotFoundError:
        return False
    return True
