"""Projects as folders, for the laptop and for a file system in AWS: documents, tables, records and files of runs."""

from mechaway_core.folders.files import FolderFiles
from mechaway_core.folders.projects import FolderProjects, FolderRecords, FolderStore, FolderTables

__all__ = ["FolderFiles", "FolderProjects", "FolderRecords", "FolderStore", "FolderTables"]
