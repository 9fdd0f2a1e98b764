"""Projects as folders, for the laptop and for a file system in AWS: documents, tables, and files of runs."""

from mechaway_core.folders.files import FolderFiles
from mechaway_core.folders.projects import FolderProjects, FolderStore, FolderTables

__all__ = ["FolderFiles", "FolderProjects", "FolderStore", "FolderTables"]
