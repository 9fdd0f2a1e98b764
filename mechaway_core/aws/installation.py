"""An installation in AWS: the only place that chooses its adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mechaway_core import cpus
from mechaway_core.app import App
from mechaway_core.aws import environment
from mechaway_core.aws.clients import Clients, clients
from mechaway_core.aws.invoke import LambdaInvoke
from mechaway_core.aws.keyring import KmsKeyRing
from mechaway_core.aws.schedules import make_schedules
from mechaway_core.clock import SystemClock
from mechaway_core.folders import FolderProjects, FolderStore, FolderTables
from mechaway_core.ports import Files, Projects, Records, Store, Tables
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings


def build(settings: Settings) -> App:
    """Mechaway over the bucket, or the file system, of these settings. Nothing is asked of AWS yet. Raises `Invalid` for settings."""
    settings = replace(settings, file_hours=settings.file_days * 24)
    account, clock = clients(settings), SystemClock()
    kept = _on_file_system(settings) if settings.storage == "efs" else _in_bucket(account, settings)
    return App(
        settings,
        store=kept.store,
        tables=kept.tables,
        projects=kept.projects,
        files=kept.files,
        keyring=KmsKeyRing(lambda: account.kms, settings.kms_key),
        clock=clock,
        sandbox=Sandbox(workers=settings.lua_workers or max(2, cpus.count())),
        records=kept.records,
        schedules=make_schedules(settings, lambda: account.events, lambda: account.scheduler),
        invoke=LambdaInvoke(lambda: account.functions, settings.runner_function),
        admin=environment.admin_token(settings, lambda: account.secrets, clock),
        gathers=False,
    )


class _Kept(NamedTuple):
    """Where projects are."""

    store: Store
    tables: Tables
    projects: Projects
    files: Files
    records: Records


def _in_bucket(account: Clients, settings: Settings) -> _Kept:
    from mechaway_core.aws.files import S3Files
    from mechaway_core.aws.projects import S3Projects
    from mechaway_core.aws.records import S3Records
    from mechaway_core.aws.store import S3Store
    from mechaway_core.aws.tables import S3Tables

    projects = S3Projects(account.s3, settings.revalidate_seconds)
    store = S3Store(account.s3, projects, settings.revalidate_seconds)
    tables, files = S3Tables(account.s3, projects, settings), S3Files(account.s3, projects)
    return _Kept(store, tables, projects, files, S3Records(account.s3, projects))


def _on_file_system(settings: Settings) -> _Kept:
    from mechaway_core.aws import efs

    files = efs.open_projects(replace(settings, data_dir=settings.efs_dir))
    records = efs.efs_records(files, settings.runs_max_mb)
    return _Kept(FolderStore(files), FolderTables(files), FolderProjects(files), efs.efs_files(files), records)
