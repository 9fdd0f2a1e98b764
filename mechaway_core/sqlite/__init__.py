"""SQLite as Mechaway uses it: files with guarded sessions, shared by every adapter that keeps its data in them.

`values` says how JSON lives in cells, `guard` what a user's SQL may do, `schema` how tables come to be, `session` what a job is
given, `link` opens connections, `database` is a file with its readers and its writer, `documents` a `Store` in such a file,
`files` the folders of projects, `watch` ends statements at their deadline, `faults` turns SQLite's errors into ours.
"""

from mechaway_core.ports import Column, InsertRows, OnConflict, Rows, Session, TableInfo, TablePage
from mechaway_core.sqlite.database import Database
from mechaway_core.sqlite.files import ProjectFiles, check_slug
from mechaway_core.sqlite.guard import check_name, check_sql, check_where, has_names
from mechaway_core.sqlite.link import Options

__all__ = [
    "Column",
    "Database",
    "InsertRows",
    "OnConflict",
    "Options",
    "ProjectFiles",
    "Rows",
    "Session",
    "TableInfo",
    "TablePage",
    "check_name",
    "check_slug",
    "check_sql",
    "check_where",
    "has_names",
]
