"""Does a project come over whole, between any two sets of adapters, and whatever is cut off?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest

from mechaway_core.errors import Busy, Conflict, Invalid, Locked, NotFound, Problem, Unavailable
from mechaway_core.ports import Column, InsertRows, Projects, Store, Tables
from mechaway_core.storage import Workflows
from mechaway_core.transfer import Incoming, Outgoing, Summary, passphrase
from mechaway_core.transfer.incoming import LEASE, NOTE
from mechaway_core.vault import Vault
from tests.contracts.adapters import FACTORIES, Adapters
from tests.contracts.keyrings import MemoryKeyRing

PASSPHRASE = "correct horse battery staple"
SECRETS = {"TOKEN": "t0p-secret-value", "PEM": "-----BEGIN-----\nä\n-----END-----\n"}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass(frozen=True)
class Looked:
    """What the check of these tests says: a document with a field `bad` is wrong; one with `old` has another form."""

    raw: Mapping[str, Any]

    @property
    def document(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.raw.items() if name != "old"}

    @property
    def errors(self) -> tuple[Problem, ...]:
        return (Problem("/bad", "it is bad", "n"),) if "bad" in self.raw else ()


class Place:
    """An installation: adapters with a vault, and what moves projects in and out of it."""

    def __init__(self, store: Store, tables: Tables, projects: Projects, keyring: MemoryKeyRing, clock: Clock) -> None:
        self.store, self.tables, self.projects, self.clock = store, tables, projects, clock
        self.workflows = Workflows(store, clock)
        self.vault = Vault(store, keyring, clock)
        self.outgoing = Outgoing(self.workflows, tables, self.vault, clock)
        self.incoming = Incoming(projects, store, self.workflows, tables, self.vault, clock, check=Looked, most_mb=10)

    def export(self, project: str = "shop", phrase: str | None = PASSPHRASE) -> BytesIO:
        file = BytesIO()
        self.outgoing.write(project, file, phrase)
        return file

    def take(self, file: BytesIO, project: str | None = "copy", **how: Any) -> Summary:
        return self.incoming.read(file, project, **({"passphrase": PASSPHRASE} | how))

    def holds(self, project: str) -> dict[str, Any] | None:
        """All that a project holds, to be compared; None when there is none."""
        if not self.projects.exists(project):
            return None
        versions = [
            (entry.version, entry.created_at, entry.updated_at, entry.document)
            for workflow_id in self.workflows.ids(project)
            for entry in self.workflows.history(project, workflow_id)
        ]
        dump = self.tables.read(project, lambda session: list(session.dump()))
        names = [info.name for info in self.vault.find(project)]
        return {"versions": versions, "tables": dump, "secrets": self.vault.values(project, names)}

    def fill(self, project: str = "shop") -> None:
        self.projects.create(project)
        for workflow_id in ("a", "b", "c.d-e_f"):
            self.workflows.create(project, {"id": workflow_id, "nodes": [], "edges": [], "meta": {"n": 1, "list": [], "none": None}})
        for number in range(2, 5):
            self.clock.time += 60
            self.workflows.update(project, {"id": "b", "nodes": [], "edges": [], "name": f"version {number}"})
        self.tables.write(project, InsertRows("t", [{"x": number} for number in range(50)], [Column("x")]))
        for name, value in SECRETS.items():
            self.vault.put(project, name, value)


EMPTY = {"versions": [], "tables": [b'{"format":"mechaway tables 1"}\n', b'{"end":0}\n'], "secrets": {}}


@pytest.fixture(params=list(FACTORIES))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapters]:
    """The adapters of the other installation."""
    adapters = FACTORIES[request.param](tmp_path / "other", sync="normal")
    yield adapters
    adapters.close()


def place_of(adapters: Adapters, clock: Clock | None = None, keyring: MemoryKeyRing | None = None) -> Place:
    return Place(adapters.store, adapters.tables, adapters.projects, keyring or MemoryKeyRing(), clock or Clock())


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase costs little here; what it costs in truth is `test_transfer_passphrase.py`'s to say."""
    monkeypatch.setattr(passphrase, "N", 2)


@pytest.fixture
def here(adapters: Adapters) -> Place:
    """An installation that holds the project `shop`."""
    place = place_of(adapters)
    place.fill()
    return place


def test_a_project_comes_over_whole_between_any_two_installations(here: Place, other: Adapters) -> None:
    there = place_of(other)
    summary = there.take(here.export())
    assert there.holds("copy") == here.holds("shop")
    assert summary.as_json() == {"project": "copy", "workflows": 3, "versions": 6, "tables": 1, "rows": 50, "secrets": 2}
    assert there.store.get("copy", NOTE) is None
    back = there.export("copy")
    here.take(back, "back")
    assert here.holds("back") == here.holds("shop")


def test_what_moved_goes_on_as_if_it_had_always_been_there(here: Place) -> None:
    here.take(here.export())
    assert here.workflows.update("copy", {"id": "b", "nodes": [], "edges": []}).version == 5
    assert [about["version"] for about in here.workflows.versions("copy", "b")] == [5, 4, 3, 2, 1]
    assert here.tables.write("copy", InsertRows("t", [{"x": 1}], [Column("x")])) == [(51, 1)]


def test_secrets_stay_at_home_unless_there_is_a_passphrase(here: Place) -> None:
    file = here.export(phrase=None)
    assert b"secrets.json" not in file.getvalue()
    assert here.take(file, passphrase=None).secrets == 0
    assert here.vault.find("copy") == []


def test_no_secret_stands_in_an_archive_as_it_is(here: Place) -> None:
    import zipfile

    with zipfile.ZipFile(here.export()) as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    assert all(value.encode() not in contents for value in SECRETS.values())


def test_secrets_need_their_passphrase_or_are_left_out(here: Place) -> None:
    file = here.export()
    with pytest.raises(Invalid, match="holds secrets"):
        here.take(file, passphrase=None)
    with pytest.raises(Invalid, match="do not open"):
        here.take(file, passphrase="another passphrase")
    assert not here.projects.exists("copy")
    assert here.take(file, passphrase=None, skip_secrets=True).secrets == 0


def test_an_import_goes_only_where_nothing_is(here: Place) -> None:
    file = here.export()
    before = here.holds("shop")
    with pytest.raises(Conflict, match="already"):
        here.take(file, None)
    with pytest.raises(Conflict, match="not empty"):
        here.take(file, None, into_empty=True)
    assert here.holds("shop") == before
    here.projects.create("copy")
    with pytest.raises(Conflict, match="--into-empty"):
        here.take(file)
    here.take(file, into_empty=True)
    assert here.holds("copy") == before


@pytest.mark.parametrize("slug", ["", "../x", "A", "x" * 64, "a/b", "a\0"])
def test_a_slug_that_cannot_be_one_is_refused(here: Place, slug: str) -> None:
    with pytest.raises(Invalid, match="slug"):
        here.take(here.export(), slug)


def test_workflows_that_cannot_be_saved_here_keep_the_whole_project_out(here: Place) -> None:
    here.workflows.create("shop", {"id": "wrong", "nodes": [], "edges": [], "bad": 1})
    with pytest.raises(Invalid, match="it is bad") as refused:
        here.take(here.export())
    assert refused.value.problems == (Problem("/wrong/bad", "it is bad", "n"),)
    assert not here.projects.exists("copy")


def test_a_document_is_kept_in_the_form_that_counts_here(here: Place) -> None:
    here.workflows.create("shop", {"id": "older", "nodes": [], "edges": [], "old": 1})
    here.take(here.export())
    assert here.workflows.get("copy", "older").document == {"id": "older", "nodes": [], "edges": []}


def test_a_workflow_that_goes_away_during_an_export_is_told(here: Place) -> None:
    read, here.workflows.version = here.workflows.version, lambda *_: (_ for _ in ()).throw(NotFound("gone"))  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="deleted while"):
        here.export()
    here.workflows.version = read  # type: ignore[method-assign]


# -- what is cut off


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Lets so many changes of the world through; the next one happens or not, and after it nothing does."""

    def __init__(self, left: int, *, happens: bool, error: BaseException | None = None) -> None:
        self.left, self.happens, self.error = left, happens, error or Killed()
        self.dead = False

    def change(self, do: Callable[[], Any]) -> Any:
        if self.dead:
            raise self.error
        self.left -= 1
        if self.left >= 0:
            return do()
        self.dead = isinstance(self.error, Killed)
        if self.happens:
            do()
        raise self.error


class Mortal:
    """A port whose changes go by `Fate`."""

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port, self._fate = port, fate

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._port, name)
        if name in ("put", "write", "create", "delete"):
            return lambda *given, **named: self._fate.change(lambda: verb(*given, **named))
        return verb


def doomed(adapters: Adapters, fate: Fate, keyring: MemoryKeyRing, clock: Clock) -> Place:
    store, tables, projects = (cast(Any, Mortal(port, fate)) for port in (adapters.store, adapters.tables, adapters.projects))
    return Place(store, tables, projects, keyring, clock)


CHANGES = 18  # of an import like that of these tests, and one more


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("left", range(CHANGES))
@pytest.mark.parametrize("into_empty", [False, True], ids=["new", "empty"])
def test_whatever_is_cut_off_leaves_all_or_nothing_once_it_is_settled(
    adapters: Adapters, left: int, happens: bool, into_empty: bool
) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    file, whole = place.export(), place.holds("shop")
    if into_empty:
        place.projects.create("copy")
    with contextlib.suppress(Killed):
        doomed(adapters, Fate(left, happens=happens), keyring, clock).take(file, into_empty=into_empty)
    clock.time += LEASE
    place.incoming.settle()
    assert place.holds("copy") in (None, EMPTY, whole)
    if place.projects.exists("copy"):
        assert place.store.get("copy", NOTE) is None


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("left", range(CHANGES))
def test_the_same_archive_goes_on_where_it_was_cut_off(adapters: Adapters, left: int, happens: bool) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    file, whole = place.export(), place.holds("shop")
    try:
        doomed(adapters, Fate(left, happens=happens), keyring, clock).take(file)
    except Killed:
        try:
            place.take(file)
        except Conflict:  # it was over, or had only made the project
            if place.holds("copy") == EMPTY:
                place.take(file, into_empty=True)
    assert place.holds("copy") == whole
    assert place.store.get("copy", NOTE) is None


@pytest.mark.parametrize("left", range(CHANGES))
def test_a_change_that_fails_is_an_error_and_leaves_all_or_nothing(adapters: Adapters, left: int) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    file, whole = place.export(), place.holds("shop")
    fate = Fate(left, happens=False, error=Unavailable("the disk is full"))
    failed = False
    try:
        doomed(adapters, fate, keyring, clock).take(file)
    except Unavailable:
        failed = True
    clock.time += LEASE
    place.incoming.settle()
    assert place.holds("copy") in ((None, EMPTY, whole) if failed else (whole,))


def test_a_vault_that_does_not_open_leaves_nothing(here: Place, other: Adapters) -> None:
    class Broken(MemoryKeyRing):
        def wrap(self, project: str, key: bytes) -> bytes:
            raise Locked("the key service is away")

    there = place_of(other, keyring=Broken())
    with pytest.raises(Locked, match="away"):
        there.take(here.export())
    assert there.holds("copy") is None


def test_another_archive_waits_until_the_first_is_over_or_dead(adapters: Adapters) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    first, second = place.export(), place.export()
    with pytest.raises(Killed):
        doomed(adapters, Fate(6, happens=True), keyring, clock).take(first)
    with pytest.raises(Busy, match="another archive"):
        place.take(second)
    clock.time += LEASE
    place.take(second)
    assert place.holds("copy") == place.holds("shop")


def test_workflows_that_somebody_saved_meanwhile_are_never_taken_back(adapters: Adapters) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    with pytest.raises(Killed):
        doomed(adapters, Fate(6, happens=True), keyring, clock).take(place.export())
    place.workflows.create("copy", {"id": "mine", "nodes": [], "edges": []})
    clock.time += LEASE
    place.incoming.settle()
    assert place.workflows.get("copy", "mine").version == 1


def test_settling_leaves_an_import_that_lives_alone(adapters: Adapters) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    with pytest.raises(Killed):
        doomed(adapters, Fate(6, happens=True), keyring, clock).take(place.export())
    place.incoming.settle()
    assert place.store.get("copy", NOTE) is not None


def test_a_project_that_cannot_be_looked_at_does_not_keep_others_from_being_settled(adapters: Adapters) -> None:
    keyring, clock = MemoryKeyRing(), Clock()
    place = place_of(adapters, clock, keyring)
    place.fill()
    with pytest.raises(Killed):
        doomed(adapters, Fate(6, happens=True), keyring, clock).take(place.export())
    place.projects.create("aaa")
    place.store.put("aaa", NOTE, b"no note at all")
    clock.time += LEASE
    place.incoming.settle()
    assert place.holds("copy") is None
