"""Workflows and their versions over one store: nothing that was saved is lost, and nobody overwrites another unseen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.errors import Conflict, NotFound, Stale
from mechaway_core.folders import FolderStore
from mechaway_core.ports import ANY, UNCHANGED, Expect, Stored, Unchanged
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.storage import Workflows, summary


class Clock:
    """A clock that goes on by a second whenever it is asked."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 1
        return self.time

    def monotonic(self) -> float:
        return self.now()

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Interrupted:
    """A store where something happens just before every `put` of a current version."""

    def __init__(self, store: FolderStore, before: Callable[[], None]) -> None:
        self.store = store
        self.before = before

    def get(self, project: str, key: str, known: str | None = None) -> Any:
        return self.store.get(project, key, known)

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        if key.startswith("workflows/"):
            self.before()
        return self.store.put(project, key, data, expect)

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        return self.store.delete(project, key, expect)

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        return self.store.keys(project, prefix, after, limit)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    yield FolderStore(files)
    files.close()


@pytest.fixture
def workflows(store: FolderStore) -> Workflows:
    return Workflows(store, Clock())


def document(workflow_id: str = "w", **more: Any) -> dict[str, Any]:
    return {"id": workflow_id, "nodes": [], "edges": []} | more


P = "default"


def test_what_was_saved_is_got_again(workflows: Workflows) -> None:
    saved = workflows.create(P, document(name="N"))
    assert workflows.get(P, "w") == saved
    assert (saved.document, saved.version, saved.created_at) == (document(name="N"), 1, saved.updated_at)
    assert saved.created_at == "1970-01-01T00:00:01.000Z"


def test_an_id_can_be_taken_only_once(workflows: Workflows) -> None:
    workflows.create(P, document())
    with pytest.raises(Conflict, match='there is a workflow "w" already'):
        workflows.create(P, document(name="other"))
    assert workflows.get(P, "w").document == document()


@pytest.mark.parametrize("ask", ["get", "update", "delete", "versions", "version"])
def test_a_workflow_that_is_not_there_is_not_found(workflows: Workflows, ask: str) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: workflows.get(P, "w"),
        "update": lambda: workflows.update(P, document()),
        "delete": lambda: workflows.delete(P, "w"),
        "versions": lambda: workflows.versions(P, "w"),
        "version": lambda: workflows.version(P, "w", 1),
    }
    with pytest.raises(NotFound, match='no workflow "w"'):
        calls[ask]()


def test_every_version_that_was_ever_saved_stays(workflows: Workflows) -> None:
    workflows.create(P, document(name="1"))
    for number in range(2, 6):
        saved = workflows.update(P, document(name=str(number)))
        assert (saved.version, saved.created_at) == (number, "1970-01-01T00:00:01.000Z")
    for number in range(1, 6):
        version = workflows.version(P, "w", number)
        assert (version.document["name"], version.version) == (str(number), number)
    listed = workflows.versions(P, "w")
    assert [(one["version"], one["name"], one["current"]) for one in listed] == [
        (5, "5", True), (4, "4", False), (3, "3", False), (2, "2", False), (1, "1", False),
    ]  # fmt: skip
    assert [one["saved_at"] for one in listed] == sorted((one["saved_at"] for one in listed), reverse=True)


def test_versions_are_listed_in_pages(workflows: Workflows) -> None:
    workflows.create(P, document())
    for number in range(4):
        workflows.update(P, document(name=str(number)))
    assert [one["version"] for one in workflows.versions(P, "w", limit=2)] == [5, 4]
    assert [one["version"] for one in workflows.versions(P, "w", before=4, limit=2)] == [3, 2]
    assert [one["version"] for one in workflows.versions(P, "w", before=2, limit=2)] == [1]
    assert workflows.versions(P, "w", before=1) == []
    assert [one["version"] for one in workflows.versions(P, "w", before=99, limit=1)] == [5]


@pytest.mark.parametrize("number", [0, -1, 2, 99_999_999, 10**12])
def test_a_version_that_never_was_is_not_found(workflows: Workflows, number: int) -> None:
    workflows.create(P, document())
    with pytest.raises(NotFound, match="no version"):
        workflows.version(P, "w", number)


def test_the_entity_tag_changes_with_every_save_and_never_comes_back(workflows: Workflows) -> None:
    tags = [workflows.create(P, document()).etag]
    tags += [workflows.update(P, document()).etag for _ in range(3)]
    workflows.delete(P, "w")
    tags.append(workflows.create(P, document()).etag)
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
    assert workflows.get(P, "w").etag == tags[-1]


def test_a_save_with_an_old_tag_is_stale_and_changes_nothing(workflows: Workflows) -> None:
    old = workflows.create(P, document(name="1"))
    new = workflows.update(P, document(name="2"), [old.etag])
    with pytest.raises(Stale, match="changed by somebody else"):
        workflows.update(P, document(name="3"), [old.etag])
    with pytest.raises(Stale):
        workflows.delete(P, "w", [old.etag])
    with pytest.raises(Stale):
        workflows.update(P, document(name="3"), [])
    assert workflows.get(P, "w") == new
    assert workflows.update(P, document(name="3"), [old.etag, new.etag]).version == 3
    workflows.delete(P, "w", [workflows.get(P, "w").etag])


def test_an_entry_is_only_sent_when_it_changed(workflows: Workflows) -> None:
    saved = workflows.create(P, document())
    assert workflows.get_if_changed(P, "w", saved.token) is UNCHANGED
    workflows.update(P, document(name="2"))
    changed = workflows.get_if_changed(P, "w", saved.token)
    assert not isinstance(changed, Unchanged)
    assert changed.version == 2


def test_a_save_that_meets_another_one_takes_it_into_the_history(store: FolderStore) -> None:
    plain = Workflows(store, Clock())
    plain.create(P, document(name="1"))
    others = iter(["2", "3"])

    def another_saves() -> None:
        name = next(others, None)
        if name is not None:
            plain.update(P, document(name=name))

    saved = Workflows(Interrupted(store, another_saves), Clock()).update(P, document(name="mine"))
    assert saved.version == 4
    assert [plain.version(P, "w", number).document["name"] for number in range(1, 5)] == ["1", "2", "3", "mine"]


def test_a_save_with_a_tag_that_meets_another_one_is_stale_and_logged(store: FolderStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain = Workflows(store, Clock())
    first = plain.create(P, document(name="1"))
    once = iter([None])

    def another_saves() -> None:
        for _ in once:
            plain.update(P, document(name="2"))

    with pytest.raises(Stale):
        Workflows(Interrupted(store, another_saves), Clock()).update(P, document(name="mine"), [first.etag])
    assert [one["name"] for one in plain.versions(P, "w")] == ["2", "1"]
    assert "came second" in caplog.text


def test_a_save_that_meets_a_delete_finds_nothing(store: FolderStore) -> None:
    plain = Workflows(store, Clock())
    plain.create(P, document(name="1"))
    once = iter([None])

    def another_deletes() -> None:
        for _ in once:
            plain.delete(P, "w")

    with pytest.raises(NotFound):
        Workflows(Interrupted(store, another_deletes), Clock()).update(P, document(name="mine"))
    plain.create(P, document(name="new"))
    assert [one["name"] for one in plain.versions(P, "w")] == ["new"]


def test_a_save_that_is_cut_off_leaves_what_was_there(store: FolderStore) -> None:
    plain = Workflows(store, Clock())
    before = plain.create(P, document(name="1"))

    def power_fails() -> None:
        raise OSError("no power")

    with pytest.raises(OSError, match="no power"):
        Workflows(Interrupted(store, power_fails), Clock()).update(P, document(name="2"))
    assert plain.get(P, "w") == before
    assert [one["name"] for one in plain.versions(P, "w")] == ["1"]
    assert plain.update(P, document(name="2")).version == 2
    assert [one["name"] for one in plain.versions(P, "w")] == ["2", "1"]


def test_many_who_save_at_once_lose_nothing(workflows: Workflows) -> None:
    workflows.create(P, document(name="0"))
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda number: workflows.update(P, document(name=str(number))), range(1, 13)))
    assert sorted(one.version for one in saved) == list(range(2, 14))
    assert sorted(int(one["name"]) for one in workflows.versions(P, "w")) == list(range(13))


def test_deleting_takes_the_history_along_and_no_other_workflow(workflows: Workflows, store: FolderStore) -> None:
    for workflow_id in ("w", "w2", "w.1", "w-"):
        workflows.create(P, document(workflow_id, name="1"))
        workflows.update(P, document(workflow_id, name="2"))
    workflows.delete(P, "w")
    assert [entry.document["id"] for entry in workflows.find(P)] == ["w-", "w.1", "w2"]
    assert all(workflows.version(P, workflow_id, 1).document["name"] == "1" for workflow_id in ("w2", "w.1", "w-"))
    assert store.keys(P, "versions/w/") == []
    assert workflows.create(P, document("w", name="new")).version == 1
    assert [one["name"] for one in workflows.versions(P, "w")] == ["new"]


def test_workflows_are_listed_in_the_order_of_their_ids_in_pages(workflows: Workflows) -> None:
    ids = ["b", "a", "a2", "C", "a.b", "a-b", "0"]
    for workflow_id in ids:
        workflows.create(P, document(workflow_id))
        workflows.update(P, document(workflow_id, name="x"))
    found, after = [], ""
    while page := workflows.find(P, after, 2):
        assert len(page) <= 2
        found += [entry.document["id"] for entry in page]
        after = found[-1]
    assert found == sorted(ids)


def test_a_workflow_that_goes_while_it_is_listed_is_left_out(store: FolderStore) -> None:
    plain = Workflows(store, Clock())
    for workflow_id in ("a", "b", "c"):
        plain.create(P, document(workflow_id))

    class Going(Interrupted):
        def get(self, project: str, key: str, known: str | None = None) -> Stored | Unchanged | None:
            if key == "workflows/b":
                store.delete(project, key)
            return self.store.get(project, key, known)

    found = Workflows(Going(store, lambda: None), Clock()).find(P)
    assert [entry.document["id"] for entry in found] == ["a", "c"]


def test_projects_keep_their_workflows_to_themselves(tmp_path: Path) -> None:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    files.create("other")
    workflows = Workflows(FolderStore(files), Clock())
    workflows.create("other", document(name="theirs"))
    assert workflows.find(P) == []
    with pytest.raises(NotFound):
        workflows.get(P, "w")
    with pytest.raises(NotFound, match='in project "other"'):
        workflows.get("other", "nothing")
    with pytest.raises(NotFound, match='no project "missing"'):
        workflows.create("missing", document())
    files.close()


def test_a_summary_says_what_a_list_shows(workflows: Workflows) -> None:
    nodes = [
        {"id": "in", "node_type": "Webhook", "params": {"path": "/a", "method": ["GET"]}},
        {"id": "calc", "node_type": "FunLogic", "params": {"script": "data"}},
        {"id": "gone", "node_type": "Gone", "params": {}},
    ]
    entry = workflows.create(P, document(nodes=nodes, active=False))
    assert summary(entry) == {
        "id": "w",
        "name": "w",
        "active": False,
        "version": 1,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "triggers": [{"node": "in", "node_type": "Webhook", "path": "/a", "method": ["GET"]}],
    }
    named = workflows.update(P, document(name="N"))
    assert (summary(named)["name"], summary(named)["active"], summary(named)["triggers"]) == ("N", True, [])
