"""Files of runs as files: `{data_dir}/{project}/files/{run id}/{chance}`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from mechaway_core.errors import NotFound, TooLarge, Unavailable
from mechaway_core.ports import FileInfo
from mechaway_core.sqlite import ProjectFiles

_HANDLE = re.compile(r"file:([0-9a-f-]{36})/([0-9a-f]{32})", re.ASCII)


class LocalFiles:
    """`Files` in the folders of projects. A handle is matched whole before it becomes a path, so none leads out of the area."""

    def __init__(self, files: ProjectFiles) -> None:
        self._root = files.root
        self._projects = files

    def write(self, project: str, run_id: str, filename: str, content_type: str, chunks: Iterable[bytes], most: int) -> FileInfo:
        """See `Files.write`."""
        name = uuid.uuid4().hex
        place = self._folder(project) / run_id / name
        size = 0
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with place.open("xb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise TooLarge(f'the file "{filename[:80]}" is larger than {most / 1_000_000:g} MB')
                    file.write(chunk)
        except OSError as error:
            _forget(place)
            raise Unavailable(f"the file cannot be kept: {error.strerror or error}") from error
        except BaseException:
            _forget(place)
            raise
        return FileInfo(filename, content_type, size, f"file:{run_id}/{name}")

    def open(self, project: str, handle: str) -> BinaryIO:
        """See `Files.open`."""
        found = _HANDLE.fullmatch(handle)
        try:
            if found is not None:
                return (self._folder(project) / found[1] / found[2]).open("rb")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Unavailable(f"the file cannot be read: {error.strerror or error}") from error
        raise NotFound("there is no such file, or it was deleted by now")

    def delete_older(self, seconds: float) -> int:
        """See `Files.delete_older`."""
        until = time.time() - seconds
        gone = 0
        for slug in self._projects.slugs():
            with contextlib.suppress(OSError):
                for run in os.scandir(self._folder(slug)):
                    if run.stat(follow_symlinks=False).st_mtime < until:
                        shutil.rmtree(run.path, ignore_errors=True)
                        gone += 1
        return gone

    def _folder(self, project: str) -> Path:
        if not self._projects.exists(project):
            raise NotFound(f'there is no project "{project[:80]}"')
        return self._root / project / "files"


def _forget(place: Path) -> None:
    with contextlib.suppress(OSError):
        place.unlink()
    with contextlib.suppress(OSError):
        place.parent.rmdir()
