"""The adapters that the suites in this folder hold to the contracts of `mechaway_core.ports`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechaway_core.local.projects import LocalProjects
from mechaway_core.local.store import LocalStore
from mechaway_core.local.tables import LocalTables
from mechaway_core.ports import Projects, Store, Tables
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Adapters:
    """One set of adapters over one place. `name` and `place` let another process open the same."""

    name: str
    place: Path
    store: Store
    tables: Tables
    projects: Projects
    close: Callable[[], None]


def _wal(place: Path, **changes: Any) -> Adapters:
    return _files("wal", place, ProjectFiles(Settings(data_dir=place, **changes)))


def _rollback_journal(place: Path, **changes: Any) -> Adapters:
    """What a file system without shared memory gets."""
    return _files("rollback journal", place, ProjectFiles(Settings(data_dir=place, **changes), journal="delete"))


def _files(name: str, place: Path, files: ProjectFiles) -> Adapters:
    return Adapters(name, place, LocalStore(files), LocalTables(files), LocalProjects(files), files.close)


FACTORIES: dict[str, Callable[..., Adapters]] = {"wal": _wal, "rollback journal": _rollback_journal}


def elsewhere(adapters: Adapters, action: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Do something of `worker.py` in a process of its own, over the same place."""
    command = [sys.executable, "-m", "tests.contracts.worker", adapters.name, str(adapters.place), action, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for processes to end well; what each printed."""
    outputs = []
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}"
        outputs.append(output)
    return outputs
