"""The adapters that the suites in this folder hold to the contracts of `mechaway_core.ports`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechaway_core.aws import efs
from mechaway_core.aws.clients import clients
from mechaway_core.aws.projects import S3Projects
from mechaway_core.aws.records import S3Records
from mechaway_core.aws.store import S3Store
from mechaway_core.aws.tables import S3Tables
from mechaway_core.folders import FolderProjects, FolderRecords, FolderStore, FolderTables
from mechaway_core.ports import Projects, Records, Store, Tables
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests import s3_server

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Adapters:
    """One set of adapters over one place. `name` and `place` let another process open the same."""

    name: str
    place: Path
    store: Store
    tables: Tables
    projects: Projects
    records: Records
    close: Callable[[], None]


def _wal(place: Path, owner: str = "one", **changes: Any) -> Adapters:
    settings = Settings(data_dir=place, **changes)
    return _files("wal", settings, owner, ProjectFiles(settings))


def _efs(place: Path, owner: str = "one", **changes: Any) -> Adapters:
    """The same files with a rollback journal: what a file system without shared memory gets."""
    settings = Settings(data_dir=place, **changes)
    return _files("efs", settings, owner, efs.open_projects(settings))


def _s3(place: Path, owner: str = "one", **changes: Any) -> Adapters:
    """A bucket for each place. Copies of tables are in the place."""
    s3_server.reach()
    chosen: dict[str, Any] = {"bucket": bucket_of(place), "cache_dir": place / "cache", "s3_timeout": 60.0} | changes
    settings = Settings(**chosen)
    s3 = clients(settings).s3
    made = s3._call("PUT")  # the bucket itself; making one that is there changes nothing
    assert made.answer.status == 200, made
    projects = S3Projects(s3, settings.revalidate_seconds)
    tables = S3Tables(s3, projects, settings)

    def close() -> None:
        tables.close()
        s3.close()

    store = S3Store(s3, projects, settings.revalidate_seconds)
    return Adapters("s3", place, store, tables, projects, S3Records(s3, projects, owner), close)


def bucket_of(place: Path) -> str:
    """The name of a place's bucket."""
    return "test-" + hashlib.sha256(str(place).encode()).hexdigest()[:20]


def _files(name: str, settings: Settings, owner: str, files: ProjectFiles) -> Adapters:
    records = FolderRecords(files, owner, settings.runs_max_mb)
    return Adapters(name, settings.data_dir, FolderStore(files), FolderTables(files), FolderProjects(files), records, files.close)


FACTORIES: dict[str, Callable[..., Adapters]] = {"wal": _wal, "efs": _efs, "s3": _s3}
IN_FOLDERS = ("wal", "efs")  # those that keep files in folders


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
