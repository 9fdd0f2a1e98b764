"""What a newcomer can post works as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mechaway_core.local.watch import read_workflow, workflow_files
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow import compile_plan
from mechaway_core.workflow.check import check
from tests.house.tree import ROOT, name_of

EXAMPLES = workflow_files(ROOT / "examples")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    yield sandbox
    sandbox.close()


def test_there_are_examples() -> None:
    assert "poc.json" in [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_passes_the_checks_without_a_warning(sandbox: Sandbox, path: Path) -> None:
    checked = check(read_workflow(path), sandbox, Settings())
    assert (checked.errors, checked.warnings) == ((), ())
    assert compile_plan(checked.document).triggers


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_written_in_canonical_form(sandbox: Sandbox, path: Path) -> None:
    document = read_workflow(path)
    assert check(document, sandbox, Settings()).document == document


def test_examples_have_ids_of_their_own() -> None:
    ids = [read_workflow(path)["id"] for path in EXAMPLES]
    assert len(set(ids)) == len(ids)
