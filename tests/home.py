"""An app over a folder, put together by hand: for tests that bring a clock, a keeper of time or a key ring of their own."""

from __future__ import annotations

from typing import Any

from mechaway_core.app import App
from mechaway_core.folders import FolderFiles, FolderProjects, FolderRecords, FolderStore, FolderTables
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles


def app_over(settings: Settings, files: ProjectFiles | None = None, **others: Any) -> App:
    """An app over the data folder of these settings; `others` stand for what it has by itself. Close it."""
    files = files or ProjectFiles(settings)
    parts: dict[str, Any] = {
        "store": FolderStore(files),
        "tables": FolderTables(files),
        "projects": FolderProjects(files),
        "files": FolderFiles(files),
        "records": FolderRecords(files, "a test", settings.runs_max_mb),
        "keyring": LocalKeyRing(settings),
        "clock": LocalClock(),
        "sandbox": Sandbox(workers=1),
    }
    return App(settings, **parts | others)
