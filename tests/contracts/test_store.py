"""Is this adapter a true `Store`?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mechaway_core.errors import Conflict, NotFound, Stale
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Projects, Store, Stored
from tests.contracts.adapters import Adapters, elsewhere, finish
from tests.contracts.worker import count_up


def test_what_was_put_is_what_is_got(store: Store) -> None:
    data = bytes(range(256)) * 1000
    version = store.put("default", "workflows/abc", data)
    assert store.get("default", "workflows/abc") == Stored(data, version)


def test_an_empty_document_is_a_document(store: Store) -> None:
    version = store.put("default", "k", b"")
    assert store.get("default", "k") == Stored(b"", version)


def test_what_was_never_put_is_none(store: Store) -> None:
    assert store.get("default", "nothing") is None
    assert store.get("default", "nothing", known="1") is None
    assert store.keys("default", "") == []
    assert store.delete("default", "nothing") is False


def test_a_known_version_is_unchanged_until_the_document_changes(store: Store) -> None:
    first = store.put("default", "k", b"1")
    assert store.get("default", "k", first) is UNCHANGED
    second = store.put("default", "k", b"2")
    assert store.get("default", "k", first) == Stored(b"2", second)


@pytest.mark.parametrize("known", ["", "0", "nonsense", "9" * 40, "-1", '"1"'])
def test_a_version_that_never_was_is_answered_with_the_document(store: Store, known: str) -> None:
    version = store.put("default", "k", b"1")
    assert store.get("default", "k", known) == Stored(b"1", version)
    with pytest.raises(Stale):
        store.put("default", "k", b"2", known)


def test_a_put_that_expects_nothing_there_meets_a_conflict(store: Store) -> None:
    version = store.put("default", "k", b"1", ABSENT)
    with pytest.raises(Conflict) as met:
        store.put("default", "k", b"2", ABSENT)
    assert not isinstance(met.value, Stale)
    assert store.get("default", "k") == Stored(b"1", version)


def test_a_put_that_expects_another_version_is_stale(store: Store) -> None:
    first = store.put("default", "k", b"1")
    second = store.put("default", "k", b"2", first)
    with pytest.raises(Stale):
        store.put("default", "k", b"3", first)
    assert store.get("default", "k") == Stored(b"2", second)


def test_a_put_that_expects_a_version_of_what_is_gone_is_stale(store: Store) -> None:
    version = store.put("default", "k", b"1")
    assert store.delete("default", "k") is True
    with pytest.raises(Stale):
        store.put("default", "k", b"2", version)
    assert store.get("default", "k") is None


def test_a_delete_that_expects_another_version_is_stale_and_deletes_nothing(store: Store) -> None:
    first = store.put("default", "k", b"1")
    second = store.put("default", "k", b"2")
    with pytest.raises(Stale):
        store.delete("default", "k", first)
    assert store.delete("default", "k", second) is True
    assert store.delete("default", "k", second) is False


def test_versions_never_come_back_not_even_after_a_delete(store: Store) -> None:
    seen: list[str] = []
    for _ in range(20):
        seen.append(store.put("default", "k", b"same", ABSENT))
        seen.append(store.put("default", "k", b"same", seen[-1]))
        store.delete("default", "k", ANY)
    assert len(set(seen)) == len(seen)
    version = store.put("default", "k", b"other")
    assert all(store.get("default", "k", old) == Stored(b"other", version) for old in seen)


def test_versions_never_come_back_when_a_project_is_made_again(store: Store, projects: Projects) -> None:
    seen: set[str] = set()
    for _ in range(5):
        projects.create("again")
        new = {store.put("again", "k", b"1") for _ in range(5)}
        assert len(new) == 5
        assert not new & seen
        seen |= new
        projects.delete("again")


def test_keys_are_those_with_the_prefix_sorted_by_code_point(store: Store) -> None:
    keys = ["a", "a/1", "a/10", "a/2", "a/é", "a/z", "a/Z", "a/\U0001f600", "a/\uffff", "a/%", "a/_", "ab", "b/1", "A/1"]
    for key in keys:
        store.put("default", key, b"x")
    assert store.keys("default", "") == sorted(keys)
    assert store.keys("default", "a/") == sorted(key for key in keys if key.startswith("a/"))
    assert store.keys("default", "a/1") == ["a/1", "a/10"]
    assert store.keys("default", "c") == []


@pytest.mark.parametrize("prefix", ["%", "_", "a%", "a_", "*", "a*", "[a]", "\\", "'", '"', "\ud7ff", "\uffff", "\U0010ffff", "é"])
def test_nothing_in_a_prefix_is_a_wildcard(store: Store, prefix: str) -> None:
    others = ["a", "ab", "abc", "b", "\ue000", "\U00010000", "e", "z"]
    for key in [*others, prefix, prefix + "x", prefix + "\U0010ffff"]:
        store.put("default", key, b"x")
    assert store.keys("default", prefix) == sorted({prefix, prefix + "x", prefix + "\U0010ffff"})


def test_keys_come_in_pages(store: Store) -> None:
    keys = [f"versions/w/{n:08d}" for n in range(25)]
    for key in [*keys, "versions/v/1", "versions/x/1"]:
        store.put("default", key, b"x")
    found: list[str] = []
    while page := store.keys("default", "versions/w/", found[-1] if found else "", 10):
        assert len(page) <= 10
        found += page
    assert found == keys
    assert store.keys("default", "versions/w/", keys[3], 2) == keys[4:6]
    assert store.keys("default", "versions/w/", "versions/w/00000003x", 1) == [keys[4]]
    assert store.keys("default", "versions/w/", "zzz") == []


def test_an_unknown_project_is_not_found(store: Store) -> None:
    for slug in ("nobody", "..", "../default", "", "Default", "a/b", "a" * 64, "-a", "a\n", "default/", "."):
        with pytest.raises(NotFound, match="there is no project"):
            store.get(slug, "k")
        with pytest.raises(NotFound):
            store.put(slug, "k", b"1")
        with pytest.raises(NotFound):
            store.delete(slug, "k")
        with pytest.raises(NotFound):
            store.keys(slug, "")


def test_projects_do_not_see_each_other(store: Store, projects: Projects) -> None:
    projects.create("one")
    projects.create("two")
    store.put("one", "k", b"1")
    assert store.get("two", "k") is None
    assert store.keys("two", "") == []
    assert store.delete("two", "k") is False
    assert store.get("default", "k") is None


def test_another_adapter_over_the_same_place_sees_every_change(make: Callable[..., Adapters]) -> None:
    one, two = make().store, make().store
    version = one.put("default", "k", b"1")
    assert two.get("default", "k") == Stored(b"1", version)
    newer = two.put("default", "k", b"2", version)
    assert one.get("default", "k", version) == Stored(b"2", newer)
    with pytest.raises(Stale):
        one.put("default", "k", b"3", version)


def test_threads_that_count_by_compare_and_set_lose_no_count(adapters: Adapters) -> None:
    adapters.store.put("default", "counter", b"0")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count_up, adapters, "25") for _ in range(8)]:
            done.result()
    found = adapters.store.get("default", "counter")
    assert isinstance(found, Stored)
    assert found.data == b"200"


def test_processes_and_threads_that_count_by_compare_and_set_lose_no_count(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=60.0)
    adapters.store.put("default", "counter", b"0")
    others = [elsewhere(adapters, "count_up", 40) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(count_up, adapters, "40") for _ in range(2)]:
            done.result()
    finish(*others)
    found = adapters.store.get("default", "counter")
    assert isinstance(found, Stored)
    assert found.data == b"200"


def test_of_many_that_expect_nothing_there_one_wins(adapters: Adapters) -> None:
    def attempt(n: int) -> bool:
        try:
            adapters.store.put("default", "k", b"%d" % n, ABSENT)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = [n for n, success in enumerate(pool.map(attempt, range(64))) if success]
    found = adapters.store.get("default", "k")
    assert isinstance(found, Stored)
    assert [b"%d" % n for n in won] == [found.data]
