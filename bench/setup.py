"""What the measures have in common: how long, where, and the workflows they run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mechaway_core.app import App
from mechaway_core.folders import FolderStore
from mechaway_core.local import build
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.storage import Workflows

T = TypeVar("T")

PROJECT = "default"
EXAMPLE = Path(__file__).parent.parent / "examples" / "poc.json"
BODY = b'{"student_id": "s123", "score": 85}'
ANSWER = {"student_id": "s123", "original_score": 85, "doubled_score": 170, "passed": True, "_rows_affected": 1}


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the measures: `seconds` of a round of load, how many `rounds`, and a `folder` of its own for each measure."""

    seconds: int
    rounds: int
    folder: Path
    against: str = ""  # an earlier commit to measure beside


def poc() -> dict[str, Any]:
    """The workflow of the proof of concept."""
    document: dict[str, Any] = json.loads(EXAMPLE.read_text())
    return document


def poc_script() -> str:
    """Its Lua."""
    script: str = next(node["params"]["script"] for node in poc()["nodes"] if node["node_type"] == "FunLogic")
    return script


def poc_path(workflow_id: str = "poc-grading-workflow") -> str:
    """Where its webhook is."""
    return f"/webhook/{workflow_id}/grade"


def check_answer(body: bytes) -> None:
    """Raises `RuntimeError` when this is not the POC's answer."""
    answer = json.loads(body)
    if not isinstance(answer.pop("_inserted_id", None), int) or answer != ANSWER:
        raise RuntimeError(f"the POC gave a wrong answer: {body.decode(errors='replace')}")


def local_app(folder: Path, **settings: Any) -> App:
    """Mechaway in this process over `folder`/data."""
    return build(Settings(data_dir=folder / "data", **settings))


def store(folder: Path, document: dict[str, Any], copies: int = 0) -> None:
    """Save a workflow into `folder`/data as a user would, and `copies` of it under other ids past the checks."""
    app = local_app(folder, sync="normal")
    try:
        app.create(PROJECT, document)
        canonical = app.get(PROJECT, document["id"]).document
    finally:
        app.close()
    files = ProjectFiles(Settings(data_dir=folder / "data", sync="normal"))
    workflows = Workflows(FolderStore(files), LocalClock())
    for number in range(copies):
        workflows.create(PROJECT, {**canonical, "id": copy_id(number)})
    files.close()


def copy_id(number: int) -> str:
    """The id of a copy that `store` makes."""
    return f"copy-{number:05d}"


def interleaved(rounds: int, jobs: Iterable[Callable[[], T]]) -> list[list[T]]:
    """The results of each job over the rounds, done as A B A B …, in the other order every second round."""
    todo = list(jobs)
    results: list[list[T]] = [[] for _ in todo]
    for number in range(rounds):
        for place in _order(len(todo), number):
            results[place].append(todo[place]())
    return results


def _order(count: int, number: int) -> Iterator[int]:
    yield from (range(count) if number % 2 == 0 else reversed(range(count)))


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
