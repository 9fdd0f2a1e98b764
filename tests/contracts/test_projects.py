"""Is this adapter a true `Projects`?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mechaway_core.errors import Conflict, Invalid, NotFound
from mechaway_core.ports import Column, Projects, Store, Tables
from tests.contracts.adapters import Adapters, elsewhere, finish
from tests.contracts.worker import inserting

BAD = ["", "-a", "A", "a_b", "a.b", "a/b", "..", ".", "é", "a" * 64, "a\n", "a\0", " a", "٣"]


def test_default_always_exists(projects: Projects) -> None:
    assert projects.exists("default")
    assert projects.list() == ["default"]
    with pytest.raises(Conflict):
        projects.create("default")


def test_a_project_is_there_from_its_creation_to_its_deletion(projects: Projects) -> None:
    assert not projects.exists("shop")
    projects.create("shop")
    assert projects.exists("shop")
    assert projects.list() == ["default", "shop"]
    with pytest.raises(Conflict):
        projects.create("shop")
    assert projects.delete("shop") is True
    assert not projects.exists("shop")
    assert projects.delete("shop") is False
    assert projects.list() == ["default"]


def test_a_sweep_touches_nothing_that_is_there(projects: Projects, store: Store) -> None:
    projects.create("shop")
    store.put("shop", "k", b"1")
    store.put("default", "k", b"1")
    projects.sweep()
    assert projects.list() == ["default", "shop"]
    assert store.keys("shop", "") == store.keys("default", "") == ["k"]


@pytest.mark.parametrize("slug", ["a", "0", "a-b", "a" * 63, "9-"])
def test_a_slug_of_small_letters_digits_and_dashes_is_taken(projects: Projects, slug: str) -> None:
    projects.create(slug)
    assert slug in projects.list()


@pytest.mark.parametrize("slug", BAD)
def test_any_other_slug_is_refused_and_is_no_project(projects: Projects, slug: str) -> None:
    with pytest.raises(Invalid, match="slug"):
        projects.create(slug)
    assert not projects.exists(slug)
    assert projects.delete(slug) is False
    assert projects.list() == ["default"]


def test_a_deleted_project_takes_its_data_with_it(projects: Projects, store: Store, tables: Tables) -> None:
    projects.create("shop")
    store.put("shop", "k", b"1")
    tables.write("shop", lambda session: session.insert_rows("t", [{"a": 1}], [Column("a")]))
    projects.delete("shop")
    with pytest.raises(NotFound):
        store.get("shop", "k")
    with pytest.raises(NotFound):
        tables.read("shop", lambda session: session.tables())
    with pytest.raises(NotFound):
        tables.write("shop", lambda session: session.tables())
    projects.create("shop")
    assert store.get("shop", "k") is None
    assert tables.read("shop", lambda session: session.tables()) == []


def test_the_default_project_is_empty_after_it_was_deleted(projects: Projects, store: Store, tables: Tables) -> None:
    store.put("default", "k", b"1")
    tables.write("default", lambda session: session.insert_rows("t", [{"a": 1}], [Column("a")]))
    assert projects.delete("default") is True
    assert projects.exists("default")
    assert store.get("default", "k") is None
    assert tables.read("default", lambda session: session.tables()) == []
    store.put("default", "k", b"2")


def test_of_processes_that_create_the_same_project_one_succeeds(adapters: Adapters) -> None:
    outputs = finish(*[elsewhere(adapters, "create", "shop") for _ in range(4)])
    assert sorted(output.strip() for output in outputs) == ["Conflict", "Conflict", "Conflict", "created"]
    assert adapters.projects.exists("shop")


def test_a_project_deleted_by_another_process_is_not_found_here(adapters: Adapters) -> None:
    adapters.projects.create("shop")
    adapters.store.put("shop", "k", b"1")
    adapters.tables.write("shop", lambda session: session.insert_rows("t", [{"a": 1}], [Column("a")]))
    assert finish(elsewhere(adapters, "delete", "shop")) == ["True\n"]
    for _ in range(2):
        with pytest.raises(NotFound):
            adapters.store.get("shop", "k")
        with pytest.raises(NotFound):
            adapters.store.put("shop", "k", b"2")
        with pytest.raises(NotFound):
            adapters.tables.read("shop", lambda session: session.tables())
        with pytest.raises(NotFound):
            adapters.tables.write("shop", lambda session: session.insert_rows("t", [{"a": 1}], [Column("a")]))


def test_a_project_that_another_process_made_again_is_the_new_one_here(adapters: Adapters) -> None:
    adapters.projects.create("shop")
    old = adapters.store.put("shop", "key", b"old")
    adapters.store.get("shop", "key")
    adapters.tables.write("shop", lambda session: session.insert_rows("t", [{"who": "old"}] * 5, [Column("who")]))
    adapters.tables.read("shop", lambda session: session.tables())
    finish(elsewhere(adapters, "replace", "shop"))
    found = adapters.store.get("shop", "key", old)
    assert getattr(found, "data", None) == b"new"
    rows = adapters.tables.read("shop", lambda session: session.read_table("t")).rows
    assert [row["who"] for row in rows] == ["new"]
    adapters.tables.write("shop", lambda session: session.insert_rows("t", [{"who": "newer"}], [Column("who")]))
    rows = adapters.tables.read("shop", lambda session: session.read_table("t")).rows
    assert [row["who"] for row in rows] == ["new", "newer"]


def test_more_projects_than_may_be_open_work_all_the_same(make: Callable[..., Adapters]) -> None:
    adapters = make(max_open_projects=2)
    slugs = [f"p{n}" for n in range(7)]
    for slug in slugs:
        adapters.projects.create(slug)
    for turn in range(3):
        for slug in slugs:
            adapters.store.put(slug, f"k{turn}", slug.encode())
            adapters.tables.write(slug, inserting({"a": slug}))
    for slug in slugs:
        assert adapters.store.keys(slug, "") == ["k0", "k1", "k2"]
        assert [row["a"] for row in adapters.tables.read(slug, lambda session: session.read_table("t")).rows] == [slug] * 3
