"""The file that a project travels in: a zip archive of four members with fixed names.

    manifest.json      what it is: {"format", "version", "id", "project", "created_at", "mechaway", "counts", "members"}
    workflows.jsonl    a line for each version of each workflow: {"id", "version", "created_at", "updated_at", "document"}
    tables.jsonl       the dump of its tables (`sqlite/dump.py`)
    secrets.json       only when asked for: its secrets, locked with a passphrase (`passphrase.py`)

`members` in the manifest has the size and the SHA-256 of the other three. Nothing is ever unpacked to a path, so the names of an archive
lead nowhere; what it says about sizes is held against what comes out, and nothing is believed before its checksum was.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from mechaway_core import jsontext
from mechaway_core.errors import Invalid, Malformed, TooLarge
from mechaway_core.names import shorten

FORMAT, VERSION = "mechaway project", 1
MANIFEST, WORKFLOWS, TABLES, SECRETS = "manifest.json", "workflows.jsonl", "tables.jsonl", "secrets.json"
NEEDED = (WORKFLOWS, TABLES)
MOST_MANIFEST = 65_536  # bytes
MOST_LINE = 64_000_000  # bytes of a workflow or a row
MOST_BYTES = 2_000_000_000  # of a member and of an archive: beyond them zip needs its 64-bit form, which is not read here

_CHUNK = 1 << 20
_END = 22  # bytes of the record at the end of a zip archive that has no comment
_MOST_DIRECTORY = 4096  # bytes of the list of members
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Member:
    """Size in bytes and SHA-256 in hex of a member."""

    size: int
    sha256: str


class Writer:
    """Writes an archive, member by member; `close` adds the manifest."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=False)
        self.members: dict[str, Member] = {}

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a member. Raises `TooLarge` past `MOST_BYTES`."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(_info(name), "w") as member:
            for chunk in chunks:
                size += len(chunk)
                if size > MOST_BYTES:
                    raise TooLarge(f"{name} would be larger than {MOST_BYTES // 1_000_000} MB; a project of this size cannot be exported")
                digest.update(chunk)
                member.write(chunk)
        self.members[name] = Member(size, digest.hexdigest())

    def close(self, about: Mapping[str, Any]) -> None:
        """Write the manifest and the end of the archive."""
        members = {name: {"bytes": member.size, "sha256": member.sha256} for name, member in self.members.items()}
        manifest = {"format": FORMAT, "version": VERSION, **about, "members": members}
        self._zip.writestr(_info(MANIFEST), jsontext.encode(manifest))
        self._zip.close()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    return info


class Archive:
    """An archive that was looked at: its manifest is read, every member is there, of the size and with the checksum it should have.

    Raises `Malformed` for what is no such archive, `Invalid` for one of another version, `TooLarge` past `limit` bytes unpacked.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        _check_end(file)
        with _reading():
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        _check_infos(infos, limit)
        raw = self._small(MANIFEST, MOST_MANIFEST)
        self.sha256 = hashlib.sha256(raw).hexdigest()  # it stands for the whole: the manifest has the checksums of the rest
        self.manifest = _manifest(raw)
        self.project: str = self.manifest["project"]
        self.members = _members(self.manifest)
        if set(self.members) != {info.filename for info in infos} - {MANIFEST}:
            raise Malformed("the archive does not hold what its manifest lists")
        for name, member in self.members.items():
            self._check(name, member)

    @property
    def has_secrets(self) -> bool:
        """Whether it holds secrets, locked with a passphrase."""
        return SECRETS in self.members

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a member."""
        with _reading(), self._zip.open(name) as member:
            while line := member.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise TooLarge(f"a line of {name} is longer than {MOST_LINE // 1_000_000} MB")
                yield line

    def secrets(self, most: int) -> Any:
        """What `secrets.json` says."""
        return jsontext.decode(self._small(SECRETS, most), SECRETS)

    def _small(self, name: str, most: int) -> bytes:
        with _reading(), self._zip.open(name) as member:
            data = member.read(most + 1)
        if len(data) > most:
            raise TooLarge(f"{name} is larger than {most} bytes")
        return data

    def _check(self, name: str, member: Member) -> None:
        digest, size = hashlib.sha256(), 0
        with _reading(), self._zip.open(name) as file:
            for chunk in _chunks(file):
                size += len(chunk)
                if size > member.size:
                    break
                digest.update(chunk)
        if (size, digest.hexdigest()) != (member.size, member.sha256):
            raise Malformed(f"{name} is not what the manifest says it is: the archive was damaged or changed; export it again")


def seal_of(members: Mapping[str, Member]) -> list[str]:
    """What the secrets of an archive are bound to: all that goes with them, so that nobody changes a workflow to send them elsewhere."""
    return [f"{name} {members[name].size} {members[name].sha256}" for name in NEEDED]


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _check_end(file: BinaryIO) -> None:
    """Look at the record at the end before anything reads the list of members, which a hostile archive makes as long as it likes."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END - 20))
    tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise Malformed("this is not an archive that mechaway export made")
    count, directory = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if tail[:4] == b"PK\6\7" or count > len(NEEDED) + 2 or directory > _MOST_DIRECTORY:
        raise Malformed("this is not an archive that mechaway export made: it lists too many members")


def _check_infos(infos: list[zipfile.ZipInfo], limit: int) -> None:
    names = [info.filename for info in infos]
    known = (MANIFEST, *NEEDED, SECRETS)
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.filename not in known or kind not in (0, stat.S_IFREG):
            raise Malformed(f'"{shorten(info.filename)}" has no place in an archive of a project')
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise Malformed(f"{info.filename} is packed in a way that mechaway export does not use")
    missing = [name for name in (MANIFEST, *NEEDED) if name not in names]
    if missing or len(set(names)) != len(names):
        raise Malformed(f"the archive holds no {missing[0]}" if missing else "the archive holds a member twice")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise TooLarge(
            f"the archive holds {total / 1_000_000:,.1f} MB; at most {limit / 1_000_000:g} MB are imported (MECHAWAY_MAX_IMPORT_MB)"
        )


def _manifest(raw: bytes) -> dict[str, Any]:
    manifest = jsontext.decode(raw, MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Malformed("this is not an archive that mechaway export made")
    if manifest.get("version") != VERSION:
        raise Invalid(
            f"the archive has version {shorten(str(manifest.get('version')))} of its format, and this Mechaway reads {VERSION}; update it"
        )
    if not isinstance(manifest.get("project"), str) or not isinstance(manifest.get("id"), str):
        raise Malformed(f"{MANIFEST} does not say which project this is")
    return manifest


def _members(manifest: Mapping[str, Any]) -> dict[str, Member]:
    try:
        members = {name: Member(int(one["bytes"]), str(one["sha256"])) for name, one in manifest["members"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Malformed(f"{MANIFEST} does not list the members of the archive") from None
    return members


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError, OSError) as error:
        raise Malformed(f"the archive is damaged: {shorten(str(error)) or type(error).__name__}") from error
