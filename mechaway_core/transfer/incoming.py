"""A project out of an archive, over the ports: whole, or not at all.

1. Look: every member has its checksum, every current workflow passes the checks of a save, the secrets open. Nothing is written.
2. Claim: the project is made, and a note in it says that an import is at work (`moving/import`, by create-only or compare-and-set).
3. Load: all versions of workflows go into the history, where nobody sees them; then the secrets; then all tables in one write.
4. Commit: the note changes to "committed" and lists which versions are the current ones. With that one write the import has happened.
5. Publish: those versions become current, and the note goes.

What is cut off before 4 is taken back: by the process itself when something fails, else by the next import of the project or by `settle`,
which servers call from time to time. What is cut off after 4 is brought to its end by the same two. The same archive may be imported again
at any point, and goes on where the other stopped. Until 5 no webhook of the project answers, so nothing that was answered is ever undone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol

from mechaway_core import jsontext
from mechaway_core.errors import Busy, Conflict, Invalid, Malformed, MechawayError, NotFound, Problem, Stale, TooLarge, Unavailable
from mechaway_core.logs import about
from mechaway_core.names import is_id, is_secret_name, shorten
from mechaway_core.ports import ABSENT, Clock, Projects, Session, Store, Stored, Tables
from mechaway_core.storage import Entry, Workflows
from mechaway_core.transfer import passphrase as passphrases
from mechaway_core.transfer.archive import TABLES, WORKFLOWS, Archive, seal_of
from mechaway_core.transfer.outgoing import ROW_LINE, TABLE_LINE, Summary
from mechaway_core.vault import Vault

log = logging.getLogger("mechaway.transfer")

NOTE = "moving/import"
LEASE = 3600.0  # seconds after which an import that says nothing more counts as dead
PUBLISHING = 60.0  # the same once it is committed; whoever finishes it does what its own process would have done
MOST_WORKFLOWS = 10_000
MOST_VERSION = 99_999_999

_FIELDS = {"id", "version", "created_at", "updated_at", "document"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_SHOWN = 100  # problems of workflows that are told


class Checked(Protocol):
    """What a check says about a document."""

    @property
    def document(self) -> Mapping[str, Any]: ...

    @property
    def errors(self) -> tuple[Problem, ...]: ...


@dataclass(frozen=True, slots=True)
class _Looked:
    """An archive that can be loaded: its current versions by workflow, its secrets, and how much there is."""

    archive: Archive
    current: dict[str, int]
    rewritten: dict[str, Mapping[str, Any]]  # current documents whose canonical form is another one here
    versions: int
    secrets: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Note:
    """What the note in a project says. `made`: the import made the project; `until`: when it counts as dead."""

    state: str  # "loading", "committed" or "undoing"
    sha256: str
    made: bool
    until: float
    current: dict[str, int]
    token: str = ""

    def as_bytes(self) -> bytes:
        kept = {"state": self.state, "sha256": self.sha256, "made": self.made, "until": self.until, "current": self.current}
        return jsontext.encode(kept)


class Incoming:
    """Reads projects from archives. `check` is what every document passes before it is saved; `most_mb` bounds an archive, unpacked.

    `published` is told the project once its workflows are current, and perhaps again: it keeps in step what depends on them.
    """

    def __init__(
        self,
        projects: Projects,
        store: Store,
        workflows: Workflows,
        tables: Tables,
        vault: Vault,
        clock: Clock,
        check: Callable[[Any], Checked],
        most_mb: float,
        published: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._projects = projects
        self._store = store
        self._workflows = workflows
        self._tables = tables
        self._vault = vault
        self._clock = clock
        self._check = check
        self._published = published
        self._limit = int(most_mb * 1_000_000)

    def read(
        self,
        file: BinaryIO,
        project: str | None = None,
        *,
        passphrase: str | None = None,
        into_empty: bool = False,
        skip_secrets: bool = False,
    ) -> Summary:
        """Import an archive as the project it names, or as another; it must not exist, or with `into_empty` hold nothing.

        Raises `Malformed`, `Invalid` (with what is wrong with its workflows), `TooLarge`, `Conflict`, `Busy`, and what the ports raise;
        whenever it raises, nothing is there that was not there before.
        """
        looked = self._look(Archive(file, self._limit), passphrase, skip_secrets)
        slug = looked.archive.project if project is None else project
        note = self._claim(slug, looked, into_empty)
        if note.state != "committed":  # else it is this very archive, cut off after its commit
            try:
                self._load(slug, looked)
                note = self._put(slug, note, "committed", looked.current)
            except BaseException:
                self._take_back(slug, note)
                raise
        self._finish(slug, note)
        tables, rows = _counted(looked.archive)
        return Summary(slug, len(looked.current), looked.versions, tables, rows, len(looked.secrets))

    # -- 1. look

    def _look(self, archive: Archive, passphrase: str | None, skip_secrets: bool) -> _Looked:
        current: dict[str, int] = {}
        rewritten: dict[str, Mapping[str, Any]] = {}
        problems: list[Problem] = []
        count = 0
        for entry, last in _entries(archive):
            count += 1
            if last:
                workflow_id = entry.document["id"]
                current[workflow_id] = entry.version
                checked = self._check(entry.document)
                problems.extend(Problem(f"/{workflow_id}{one.pointer}", one.message, one.node) for one in checked.errors)
                if not checked.errors and checked.document != entry.document:
                    rewritten[workflow_id] = checked.document
        if problems:
            more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            raise Invalid(f"the workflows of the archive cannot be saved here: {problems[0]}{more}", problems[:_SHOWN])
        return _Looked(archive, current, rewritten, count, {} if skip_secrets else _secrets(archive, passphrase))

    # -- 2. claim

    def _claim(self, slug: str, looked: _Looked, into_empty: bool) -> _Note:
        note = self._note(slug)
        if note is not None and note.sha256 == looked.archive.sha256 and note.state != "undoing":
            return note if note.state == "committed" else self._put(slug, note, "loading")
        if note is not None:
            self._settle(slug, note)
            if self._note(slug) is not None:
                raise Busy(f'another archive is being imported into project "{shorten(slug)}"; try again when that is over')
        return self._begin(slug, looked, into_empty)

    def _begin(self, slug: str, looked: _Looked, into_empty: bool) -> _Note:
        made = not self._projects.exists(slug)
        if made:
            self._projects.create(slug)
        elif not into_empty:
            raise Conflict(f'there is a project "{slug}" already; import under another name, or into it if it is empty (--into-empty)')
        elif not self._is_empty(slug):
            raise Conflict(f'the project "{slug}" is not empty; an archive goes only where no workflows, tables and secrets are')
        note = _Note("loading", looked.archive.sha256, made, self._clock.now() + LEASE, {})
        try:
            token = self._store.put(slug, NOTE, note.as_bytes(), ABSENT)
        except Conflict:
            raise Busy(f'another archive is being imported into project "{slug}"; try again when that is over') from None
        return replace(note, token=token)

    def _is_empty(self, slug: str) -> bool:
        return self._workflows.is_empty(slug) and not self._vault.find(slug, limit=1) and not self._has_tables(slug)

    def _has_tables(self, slug: str) -> bool:
        return bool(self._tables.read(slug, lambda session: session.tables()))

    # -- 3. load

    def _load(self, slug: str, looked: _Looked) -> None:
        for entry, last in _entries(looked.archive):
            document = looked.rewritten.get(entry.document["id"]) if last else None
            self._workflows.lay_down(slug, entry if document is None else entry._replace(document=document))
        for name, value in looked.secrets.items():
            self._vault.put(slug, name, value)

        def load(session: Session) -> int:
            session.clear()  # of what the same archive left when it was cut off
            return session.load(looked.archive.lines(TABLES))

        self._tables.write(slug, load)

    # -- 4. and 5. commit and publish

    def _put(self, slug: str, note: _Note, state: str, current: Mapping[str, int] | None = None) -> _Note:
        """Change the note, unless somebody else did: then `Busy`, for the import is theirs."""
        until = self._clock.now() + (PUBLISHING if state == "committed" else LEASE)
        changed = replace(note, state=state, until=until, current=dict(current or note.current))
        try:
            return replace(changed, token=self._store.put(slug, NOTE, changed.as_bytes(), note.token))
        except (Stale, NotFound):
            raise Busy(f'the import into project "{shorten(slug)}" was taken over by another one') from None

    def _finish(self, slug: str, note: _Note) -> None:
        try:
            self._publish(slug, note)
        except MechawayError as error:
            told = "the project is imported, but not all of its workflows are current yet: they will be soon, or when you import it again"
            raise Unavailable(f"{told} ({error})") from error

    def _publish(self, slug: str, note: _Note) -> None:
        for workflow_id, number in note.current.items():
            self._workflows.publish(slug, workflow_id, number)
        self._published(slug)
        self._store.delete(slug, NOTE)

    # -- what was cut off

    def settle(self) -> None:
        """Bring imports to an end whose process is gone: back, or forth when they were committed. Safe to do from several processes."""
        for slug in self._projects.list():
            try:
                note = self._note(slug)
                if note is not None:
                    self._settle(slug, note)
            except MechawayError as error:  # deleted meanwhile, or the world is away for now; the next look tries again
                log.warning('an import into project "%s" that was cut off could not be settled: %s', slug, error, extra=about(project=slug))

    def _settle(self, slug: str, note: _Note) -> None:
        if self._clock.now() < note.until:
            return
        if note.state == "committed":
            self._publish(slug, note)
            log.info('finished an import into project "%s" that was cut off', slug, extra=about(project=slug))
        else:
            self._take_back(slug, note)

    def _take_back(self, slug: str, note: _Note) -> None:
        """Remove what an import brought, unless somebody else has taken it over. Never raises: what is left is settled later."""
        try:
            note = self._put(slug, note, "undoing")
            if next(self._workflows.ids(slug), None) is not None:
                self._store.delete(slug, NOTE)
                log.error(
                    'an import into project "%s" was cut off; workflows were saved there since, so what it brought stays',
                    slug, extra=about(project=slug),
                )  # fmt: skip
                return
            if note.made:
                self._projects.delete(slug)
            else:
                self._empty(slug)
            log.info('took back an import into project "%s" that did not come to its end', slug, extra=about(project=slug))
        except MechawayError as error:
            log.warning('an import into project "%s" could not be taken back yet: %s', slug, error, extra=about(project=slug))

    def _empty(self, slug: str) -> None:
        """Only what an import brings: the keys of a project that was there before stay."""
        self._workflows.discard_versions(slug)
        while page := self._vault.find(slug):
            for info in page:
                self._vault.delete(slug, info.name)
        self._tables.write(slug, lambda session: session.clear())
        self._store.delete(slug, NOTE)

    # -- the note

    def _note(self, slug: str) -> _Note | None:
        if not self._projects.exists(slug):
            return None
        stored = self._store.get(slug, NOTE)
        if not isinstance(stored, Stored):
            return None
        held = jsontext.decode(stored.data, NOTE)
        return _Note(held["state"], held["sha256"], held["made"], held["until"], held["current"], stored.version)


# -- what an archive says


def _entries(archive: Archive) -> Iterator[tuple[Entry, bool]]:
    """Every version in an archive, and whether it is the current one of its workflow. Raises `Malformed`."""
    before: Entry | None = None
    seen: set[str] = set()
    for number, line in enumerate(archive.lines(WORKFLOWS), 1):
        entry = _entry(line, f"line {number} of {WORKFLOWS}")
        workflow_id = entry.document["id"]
        goes_on = before is not None and before.document["id"] == workflow_id
        if entry.version != (before.version + 1 if before is not None and goes_on else 1) or (not goes_on and workflow_id in seen):
            raise Malformed(f"line {number} of {WORKFLOWS} is not the version that comes next")
        if before is not None:
            yield before, not goes_on
        seen.add(workflow_id)
        if len(seen) > MOST_WORKFLOWS:
            raise TooLarge(f"the archive holds more than {MOST_WORKFLOWS} workflows")
        before = entry
    if before is not None:
        yield before, True


def _entry(line: bytes, where: str) -> Entry:
    value = jsontext.decode(line, where)
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise Malformed(f"{where} is not a version of a workflow")
    workflow_id, version, document = value["id"], value["version"], value["document"]
    if not isinstance(workflow_id, str) or not is_id(workflow_id) or not isinstance(document, dict) or document.get("id") != workflow_id:
        raise Malformed(f"{where} does not say which workflow it is")
    if type(version) is not int or not 1 <= version <= MOST_VERSION:
        raise Malformed(f"{where} has no number of a version")
    created, updated = value["created_at"], value["updated_at"]
    if not all(isinstance(time, str) and _TIME.fullmatch(time) for time in (created, updated)):
        raise Malformed(f"{where} does not say when it was saved")
    return Entry(document, version, created, updated, "")


def _secrets(archive: Archive, passphrase: str | None) -> dict[str, str]:
    if not archive.has_secrets:
        return {}
    if passphrase is None:
        raise Invalid("the archive holds secrets; give their passphrase (--with-secrets), or leave them out (--without-secrets)")
    secrets = passphrases.unlock(archive.secrets(passphrases.MOST_BYTES), passphrase, seal_of(archive.members))
    wrong = next((name for name in secrets if not is_secret_name(name)), None)
    if wrong is not None:
        raise Malformed(f'"{shorten(wrong)}" in the archive cannot be the name of a secret')
    return secrets


def _counted(archive: Archive) -> tuple[int, int]:
    """How many tables and rows an archive holds."""
    tables = rows = 0
    for line in archive.lines(TABLES):
        tables += line.startswith(TABLE_LINE)
        rows += line.startswith(ROW_LINE)
    return tables, rows
