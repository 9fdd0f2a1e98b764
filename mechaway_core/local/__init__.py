"""The laptop edge: everything in one folder on this machine. `build` is the only place that chooses its adapters."""

from __future__ import annotations

from mechaway_core import cpus
from mechaway_core.app import App
from mechaway_core.folders import FolderFiles, FolderProjects, FolderRecords, FolderStore, FolderTables
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.invoke import LocalInvoke
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.local.owner import Owner
from mechaway_core.local.schedules import Bell, LocalSchedules
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles


def build(settings: Settings, owner: Owner | None = None, invoke: LocalInvoke | None = None, *, begins: bool = True) -> App:
    """Mechaway over the data folder of these settings.

    `owner` is this process, where it looks after its runs, and `invoke` what begins those that it accepted: a server has both. Without
    `begins` they are left to a server, which takes them over when this process is gone. Raises `Unavailable` when that folder cannot be
    used, `Invalid` for a master key.
    """
    files = ProjectFiles(settings)
    owner = owner or Owner(settings.data_dir, durable=settings.sync == "full")
    invoke = invoke or LocalInvoke(max(1, settings.max_runs // 2), settings.max_accepted)
    store, projects, clock = FolderStore(files), FolderProjects(files), LocalClock()
    app = App(
        settings,
        store=store,
        tables=FolderTables(files),
        projects=projects,
        files=FolderFiles(files, durable=settings.sync == "full"),
        keyring=LocalKeyRing(settings),
        clock=clock,
        sandbox=make_sandbox(settings),
        records=FolderRecords(files, owner.id, settings.runs_max_mb, owner.note),
        schedules=LocalSchedules(store, projects, clock),
        changed=Bell(settings.data_dir).ring,
        invoke=invoke,
    )
    app.runs.begins = begins
    invoke.serve(app.runs.work_off)
    return app


def make_sandbox(settings: Settings) -> Sandbox:
    """A sandbox of the size that the settings say. It starts no process before it is used."""
    return Sandbox(workers=settings.lua_workers or max(2, cpus.count()))
