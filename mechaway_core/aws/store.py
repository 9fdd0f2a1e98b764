"""Documents as objects: `documents/{slug}/{generation}/{key}`.

An object holds one line of ours, then the document:

    mechaway 1 {nonce} {the version it replaced, or -}

The version of a document is the entity tag of its object. S3 makes that of the content, so the nonce, which is random, is what keeps a
version from ever coming back. The line also settles what became of a `put` whose answer was lost: it was carried out if its nonce is
there, or if what is there replaced it; it was not if what is there replaced what this `put` expected.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Literal, NamedTuple

from mechaway_core.aws.projects import Moved, S3Projects
from mechaway_core.aws.s3 import S3, Found, Gone, Mismatch, is_etag
from mechaway_core.errors import Conflict, MechawayError, Stale, Unavailable
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Expect, Stored, Unchanged

MOST = 10_000  # documents whose version is remembered

_MARK = b"mechaway 1 "


class _Seen(NamedTuple):
    version: str
    until: float


class _Head(NamedTuple):
    nonce: str
    replaced: str


class S3Store:
    """A `Store` in a bucket. `revalidate`: for how many seconds a version that was current counts as current."""

    def __init__(self, s3: S3, projects: S3Projects, revalidate: float = 0.0) -> None:
        self._s3 = s3
        self._projects = projects
        self._revalidate = revalidate
        self._seen: dict[tuple[str, str], _Seen] = {}

    def get(self, project: str, key: str, known: str | None = None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        """See `Store.get`. One conditional GET, or none inside `revalidate`."""
        asked = time.monotonic()
        if known is not None:
            seen = self._seen.get((project, key))
            if seen is not None and seen.version == known and asked < seen.until:
                return UNCHANGED
        etag = known if known is not None and is_etag(known) else None
        found = self._projects.look(project, lambda place: self._s3.get(_object(place, key), etag))
        if found is None:
            self._seen.pop((project, key), None)
            return None
        if isinstance(found, Unchanged):
            assert known is not None
            self._remember(project, key, known, asked)
            return found
        self._remember(project, key, found.etag, asked)
        return Stored(_opened(found)[1], found.etag)

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        """See `Store.put`."""
        if isinstance(expect, str):
            return self._replace(project, key, data, expect)
        while True:
            place, asked = self._projects.place(project), time.monotonic()
            try:
                version = self._create(project, place, key, data) if expect is ABSENT else self._overwrite(place, key, data)
                self._projects.confirm(project, place, _object(place, key))
            except Moved:
                continue
            self._remember(project, key, version, asked)
            return version

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        """See `Store.delete`."""
        self._seen.pop((project, key), None)
        if isinstance(expect, str):
            return self._delete_version(project, key, expect)
        until = time.monotonic() + self._s3.timeout
        while time.monotonic() < until:
            found = self._projects.look(project, lambda place: self._s3.get(_object(place, key)))
            if not isinstance(found, Found):
                return False
            try:
                self._s3.delete(_object(self._projects.place(project), key), found.etag)
            except Gone as met:
                return met.unsure
            except Mismatch:
                continue
            return True
        raise Unavailable(f"{key} is being changed all the time; it was not deleted")

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store.keys`."""

        def find(place: str) -> list[str]:
            start = _object(place, "")
            return [line.key.removeprefix(start) for line in self._s3.listing(start + prefix, start + after if after else "", limit)]

        return self._projects.look(project, find)

    # -- writing

    def _create(self, project: str, place: str, key: str, data: bytes) -> str:
        try:
            return self._written(project, place, key, data, ABSENT, Conflict(f"there is {key} already"))
        except Conflict:
            if self._projects.ask(project) != place:  # it was met in a project that is no more
                raise Moved(f'project "{project}" was made anew') from None
            raise

    def _overwrite(self, place: str, key: str, data: bytes) -> str:
        return self._s3.put(_object(place, key), lambda: _closed(uuid.uuid4().hex, "-", data))

    def _replace(self, project: str, key: str, data: bytes, expect: str) -> str:
        place = self._projects.place(project)
        if not is_etag(expect):  # no version that ever was
            self._projects.ask(project)
            raise _changed(key)
        try:
            asked = time.monotonic()
            version = self._written(project, place, key, data, expect, _changed(key))
        except Gone:
            self._projects.ask(project)
            raise Stale(f"{key} was deleted by somebody else") from None
        self._remember(project, key, version, asked)
        return version

    def _written(self, project: str, place: str, key: str, data: bytes, expect: str | Expect, otherwise: MechawayError) -> str:
        """Put by compare-and-set. Raises `otherwise` when something else is there, and `Gone`."""
        nonce, replaced = uuid.uuid4().hex, expect if isinstance(expect, str) else "-"
        body = _closed(nonce, replaced, data)
        try:
            return self._s3.put(_object(place, key), body, expect)
        except Gone:
            raise
        except Mismatch as met:
            self._seen.pop((project, key), None)
            settled = self._settle(_object(place, key), nonce, body) if met.unsure else None
            if settled is None:
                raise otherwise from None
            return settled

    def _settle(self, name: str, nonce: str, body: bytes) -> str | None:
        """The version that a put made whose answer was lost; None when it was not carried out, or nothing tells that it was."""
        found = self._s3.get(name)
        if not isinstance(found, Found):
            return None
        head, _ = _opened(found)
        if head.nonce == nonce:
            return found.etag
        mine = hashlib.md5(body, usedforsecurity=False).hexdigest()  # its entity tag, unless the bucket encrypts with a key of KMS
        return mine if head.replaced == mine else None

    def _delete_version(self, project: str, key: str, expect: str) -> bool:
        if not is_etag(expect):
            if self.get(project, key) is None:
                return False
            raise _changed(key)
        try:
            self._s3.delete(_object(self._projects.place(project), key), expect)
        except Gone as met:
            self._projects.ask(project)
            return met.unsure
        except Mismatch:
            raise _changed(key) from None
        return True

    def _remember(self, project: str, key: str, version: str, asked: float) -> None:
        if self._revalidate:
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[project, key] = _Seen(version, asked + self._revalidate)


def _object(place: str, key: str) -> str:
    return f"documents/{place}/{key}"


def _closed(nonce: str, replaced: str, data: bytes) -> bytes:
    return b"%s%s %s\n%s" % (_MARK, nonce.encode(), replaced.encode(), data)


def _opened(found: Found) -> tuple[_Head, bytes]:
    line, _, data = found.data.partition(b"\n")
    if not line.startswith(_MARK):
        raise Unavailable("an object in the bucket is none that Mechaway wrote: delete it, or bring back an earlier version of it")
    nonce, _, replaced = line.removeprefix(_MARK).decode().partition(" ")
    return _Head(nonce, replaced), data


def _changed(key: str) -> Stale:
    return Stale(f"{key} was changed by somebody else")
