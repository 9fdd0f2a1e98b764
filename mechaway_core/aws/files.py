"""Files of runs as objects: `files/{slug}/{generation}/{run id}/{chance}`.

A small file is one PUT; a larger one is uploaded in parts while it arrives, and becomes an object with the last of them. The bucket's
lifecycle deletes what is old by the prefix `files/`, and parts of what was never finished; `delete_older` does it to the hour.
"""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Iterable, Iterator
from os import SEEK_CUR, SEEK_END, SEEK_SET
from typing import Any, BinaryIO, cast

from mechaway_core.aws.projects import S3Projects
from mechaway_core.aws.s3 import S3, Found, Mismatch
from mechaway_core.errors import MechawayError, TooLarge
from mechaway_core.folders.files import HANDLE, RUN_ID, began, checked, no_file
from mechaway_core.names import shorten
from mechaway_core.ports import FileInfo

PART = 8 * 1024 * 1024  # bytes of a part, and of a piece that is read; S3 takes parts of 5 MiB at least and 10,000 of them at most
LONGEST_RUN = 1000.0  # seconds that a function may go on, and some more: younger files are not swept

_ROOT = "files/"


class S3Files:
    """`Files` in a bucket."""

    def __init__(self, s3: S3, projects: S3Projects) -> None:
        self._s3 = s3
        self._projects = projects
        self._kept: set[tuple[str, str]] = set()  # runs of this process that go on and have files; each call on it is one step

    def write(self, project: str, run_id: str, filename: str, content_type: str, chunks: Iterable[bytes], most: int) -> FileInfo:
        """See `Files.write`."""
        name = uuid.uuid4().hex
        place = self._projects.ask(project)
        key = f"{_ROOT}{place}/{checked(run_id)}/{name}"
        self._kept.add((project, run_id))
        size = self._store(key, _counted(chunks, filename, most))
        self._projects.confirm(project, place, key)
        return FileInfo(filename, content_type, size, f"file:{run_id}/{name}")

    def open(self, project: str, handle: str) -> BinaryIO:
        """See `Files.open`."""
        parts = HANDLE.fullmatch(handle)
        if parts is None:
            raise no_file()
        found = self._projects.look(project, lambda place: _Remote.find(self._s3, f"{_ROOT}{place}/{parts[1]}/{parts[2]}"))
        if found is None:
            raise no_file()
        return cast(BinaryIO, io.BufferedReader(found))

    def release(self, project: str, run_id: str) -> None:
        """See `Files.release`."""
        self._kept.discard((project, run_id))

    def delete(self, project: str, run_id: str) -> None:
        """See `Files.delete`. Only a run of this process can be one that is not to be, so most of the time there is nothing to ask."""
        if (project, run_id) in self._kept:
            with contextlib.suppress(MechawayError):
                self._s3.delete_all(f"{_ROOT}{self._projects.place(project)}/{checked(run_id)}/")
        self.release(project, run_id)

    def delete_older(self, seconds: float, until: float | None = None) -> int:
        """See `Files.delete_older`. Time is looked at once for each listing, of 1,000 files at most."""
        before = time.time() - max(seconds, LONGEST_RUN)
        gone: set[str] = set()
        after = ""
        while (until is None or time.monotonic() < until) and (page := self._s3.listing(_ROOT, after)):
            old: list[str] = []
            for line in page:
                after = line.key
                slug, generation, run, _ = (*line.key.removeprefix(_ROOT).split("/", 3), "", "", "")[:4]
                if not RUN_ID.fullmatch(run) or (slug, run) in self._kept:
                    continue
                if began(run) >= before:  # ids of runs are in the order of time: the rest of this project is younger
                    after = f"{_ROOT}{slug}/{generation}/~"
                    break
                old.append(line.key)
                gone.add(f"{slug}/{generation}/{run}")
            self._s3.delete_many(old)
        return len(gone)

    def _store(self, key: str, chunks: Iterator[bytes]) -> int:
        """Store what the chunks hold, in one piece or in parts; how many bytes those were."""
        part, etags, size = bytearray(), list[str](), 0
        upload: str | None = None
        try:
            for chunk in chunks:
                size += len(chunk)
                part += chunk
                while len(part) >= PART:
                    upload = upload or self._s3.begin_upload(key)
                    etags.append(self._s3.put_part(key, upload, len(etags) + 1, bytes(part[:PART])))
                    del part[:PART]
            if upload is None:
                self._s3.put(key, bytes(part))
                return size
            if part:
                etags.append(self._s3.put_part(key, upload, len(etags) + 1, bytes(part)))
            self._s3.finish_upload(key, upload, etags)
        except BaseException:
            if upload is not None:
                with contextlib.suppress(MechawayError):
                    self._s3.abandon_upload(key, upload)
            raise
        return size


def _counted(chunks: Iterable[bytes], filename: str, most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise TooLarge(f'the file "{shorten(filename)}" is larger than {most / 1_000_000:g} MB')
        yield chunk


class _Remote(io.RawIOBase):
    """An object as a file to read: a piece is fetched when it is needed. Raises `NotFound` when the object goes away meanwhile."""

    def __init__(self, s3: S3, key: str, first: Found) -> None:
        super().__init__()
        self._s3 = s3
        self._key = key
        self._etag = first.etag
        self._size = first.size
        self._at = 0
        self._piece, self._begin = first.data, 0

    @classmethod
    def find(cls, s3: S3, key: str) -> _Remote | None:
        """The object of this key; None when there is none."""
        found = s3.get(key, part=(0, PART - 1))
        return cls(s3, key, found) if isinstance(found, Found) else None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        if not self._begin <= self._at < self._begin + len(self._piece):
            self._fetch()
        start = self._at - self._begin
        with memoryview(buffer).cast("B") as room:
            data = self._piece[start : start + len(room)]
            room[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self) -> None:
        try:
            found = self._s3.get(self._key, part=(self._at, self._at + PART - 1), etag=self._etag)
        except Mismatch:
            raise no_file() from None
        if not isinstance(found, Found) or not found.data:
            raise no_file()
        self._piece, self._begin = found.data, self._at
