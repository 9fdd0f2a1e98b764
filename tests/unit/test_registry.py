"""The registry: what a lookup gives is always compiled from what is saved now."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.errors import Invalid, NotFound
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.registry import Registry
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.storage import Workflows


@pytest.fixture
def workflows(tmp_path: Path) -> Iterator[Workflows]:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    yield Workflows(FolderStore(files), LocalClock())
    files.close()


def document(workflow_id: str = "w", **more: Any) -> dict[str, Any]:
    nodes = [{"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}]
    return {"id": workflow_id, "nodes": nodes, "edges": []} | more


P = "default"


def test_a_plan_is_compiled_once_and_kept(workflows: Workflows) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document(name="1"))
    plan = registry.get(P, "w")
    assert (plan.name, plan.version) == ("1", 1)
    assert registry.get(P, "w") is plan


def test_a_saved_change_is_what_the_next_lookup_gives_whoever_saved_it(workflows: Workflows, tmp_path: Path) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document(name="1"))
    assert registry.get(P, "w").name == "1"
    elsewhere = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    Workflows(FolderStore(elsewhere), LocalClock()).update(P, document(name="2"))
    assert (registry.get(P, "w").name, registry.get(P, "w").version) == ("2", 2)
    elsewhere.close()


def test_a_plan_that_somebody_holds_does_not_change(workflows: Workflows) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document(name="1"))
    held = registry.get(P, "w")
    workflows.update(P, document(name="2"))
    assert registry.get(P, "w") is not held
    assert held.name == "1"


def test_a_workflow_that_was_deleted_is_not_found_and_a_new_one_of_its_id_is_its_own(workflows: Workflows) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document(name="1"))
    registry.get(P, "w")
    workflows.delete(P, "w")
    with pytest.raises(NotFound):
        registry.get(P, "w")
    workflows.create(P, document(name="new"))
    assert (registry.get(P, "w").name, registry.get(P, "w").version) == ("new", 1)


def test_a_workflow_that_was_deleted_and_made_again_between_lookups_is_the_new_one(workflows: Workflows) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document(name="1"))
    registry.get(P, "w")
    workflows.delete(P, "w")
    workflows.create(P, document(name="new"))
    assert registry.get(P, "w").name == "new"


def test_no_more_plans_are_kept_than_allowed_and_each_lookup_is_right(workflows: Workflows) -> None:
    registry = Registry(workflows, 2)
    for number in range(5):
        workflows.create(P, document(f"w{number}"))
    for _ in range(2):
        for number in range(5):
            assert registry.get(P, f"w{number}").workflow_id == f"w{number}"
    assert len(registry._compiled) == 2
    only = Registry(workflows, 1)
    assert [only.get(P, name).workflow_id for name in ("w0", "w1", "w0")] == ["w0", "w1", "w0"]


def test_a_version_that_this_server_cannot_run_says_so_and_a_better_one_heals_it(workflows: Workflows) -> None:
    registry = Registry(workflows, 10)
    workflows.create(P, document())
    registry.get(P, "w")
    workflows.update(P, document(nodes=[{"id": "x", "node_type": "Gone", "params": {}}]))
    for _ in range(2):
        with pytest.raises(Invalid, match="Gone"):
            registry.get(P, "w")
    workflows.update(P, document(name="healed"))
    assert registry.get(P, "w").name == "healed"


def test_projects_have_plans_of_their_own(tmp_path: Path) -> None:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    files.create("other")
    workflows = Workflows(FolderStore(files), LocalClock())
    workflows.create(P, document(name="ours"))
    workflows.create("other", document(name="theirs"))
    registry = Registry(workflows, 10)
    assert [registry.get(project, "w").name for project in (P, "other", P)] == ["ours", "theirs", "ours"]
    files.close()


def test_many_who_look_while_others_save_see_versions_only_go_forward(workflows: Workflows) -> None:
    registry = Registry(workflows, 1)
    workflows.create(P, document("other"))
    workflows.create(P, document())

    def look(_: int) -> list[int]:
        seen = []
        for _ in range(20):
            seen.append(registry.get(P, "w").version)
            registry.get(P, "other")
        return seen

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(look, number) for number in range(3)]
        for number in range(10):
            workflows.update(P, document(name=str(number)))
        for one in looks:
            assert one.result() == sorted(one.result())
    assert registry.get(P, "w").version == 11
