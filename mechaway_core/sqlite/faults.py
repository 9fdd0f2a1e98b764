"""The one place where SQLite's errors become ours."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from mechaway_core.errors import MechawayError, QueryError, Unavailable
from mechaway_core.sqlite.link import Options

# What the world does to a file, as opposed to what a statement does wrong. After these the connection is not used again.
BROKEN = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.ProtocolError)

_ROOM = 1_000_000  # bytes; a disk with less free than this counts as full


def translate(error: Exception, path: Path, owner: str, options: Options, refusal: str | None = None) -> MechawayError:
    """The error that the user reads. `owner` is whose file it is, like `project "default"`; `refusal` what the guard said."""
    if refusal is not None and isinstance(error, apsw.AuthError | apsw.SQLError):
        return QueryError(refusal)
    match error:
        case apsw.FullError():
            if options.max_mb is not None and not _disk_is_full(path):
                return QueryError(f"the tables of {owner} may take {options.max_mb} MB ({options.max_setting}); nothing was saved")
            return Unavailable(f"the disk that holds {owner} is full; nothing was saved")
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return Unavailable(f"another process holds the database of {owner}; nothing was saved")
        case apsw.ReadOnlyError():
            return Unavailable(f"the database of {owner} cannot be written ({path.parent}); nothing was saved")
        case apsw.CantOpenError():
            return Unavailable(f"the database of {owner} cannot be opened ({path})")
        case apsw.IOError():
            if _disk_is_full(path):
                return Unavailable(f"the disk that holds {owner} is full; nothing was saved")
            return Unavailable(f"the disk that holds {owner} fails: {error}; nothing was saved")
        case apsw.CorruptError() | apsw.NotADBError():
            return Unavailable(f"the database of {owner} is damaged: {path}: {error}")
        case apsw.NoMemError():
            return Unavailable("there is not enough memory for this statement; nothing was saved")
        case apsw.MismatchError():
            return QueryError("the id of a row must be a whole number, and so must whatever else SQLite wants as one (datatype mismatch)")
        case apsw.TooBigError() if str(error).startswith("string or blob"):
            return QueryError("a value is larger than this server allows (MECHAWAY_SQL_MAX_MB)")
        case UnicodeError():
            return QueryError("a text is not valid Unicode")
        case apsw.Error():
            return QueryError(f"SQLite: {error}")
        case OSError():
            return Unavailable(f"the files of {owner} cannot be reached: {error.strerror or error}")
        case MechawayError():
            return error
        case _:
            return QueryError(str(error))


def _disk_is_full(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _ROOM
