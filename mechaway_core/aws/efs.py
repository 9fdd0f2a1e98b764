"""Everything of a project in its folder on EFS: the files of the laptop, opened so that several functions can share them.

A write-ahead log needs memory that its processes share, which functions do not. So the journal is a rollback journal, every commit is
synced, nothing is mapped into memory, and one function writes at a time while others wait (`MECHAWAY_BUSY_TIMEOUT`).
"""

from __future__ import annotations

from dataclasses import replace

from mechaway_core.folders import FolderFiles, FolderRecords
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

OWNER = "aws"  # whose all open runs are: functions come and go
LONGEST_RUN = 1000.0  # seconds that a function may go on, and some more: the lock of a folder is not seen by other functions


def open_projects(settings: Settings) -> ProjectFiles:
    """The folders of projects under `settings.data_dir`, the place where the file system is mounted."""
    return ProjectFiles(replace(settings, sync="full"), journal="delete")


def efs_files(projects: ProjectFiles) -> FolderFiles:
    """`Files` beside the databases of projects."""
    return FolderFiles(projects, least=LONGEST_RUN)


def efs_records(projects: ProjectFiles, max_mb: float) -> FolderRecords:
    """`Records` beside the databases of projects; those of one take so many MB at most."""
    return FolderRecords(projects, OWNER, max_mb)
