"""The master key of this machine: `MECHAWAY_MASTER_KEY`, or the file `master.key` in the data folder.

The file holds one key a line, in base64; the first wraps, all unwrap. It is only ever replaced whole, under a lock that ends with the
process that holds it, so that whatever is cut off leaves the old file or the new one. A rotation puts a new key in front, has every
project's data key wrapped again, and only then drops the others: at each point in between, everything opens.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mechaway_core.errors import Invalid, Locked, Unavailable
from mechaway_core.settings import Settings
from mechaway_core.vault.sealed import KEY_BYTES, new_key, open_sealed, seal

FILE = "master.key"
_NEW, _LOCK = ".master.key.new", ".master.key.lock"
_PURPOSE = "mechaway data key 1"
_HEAD = "# The master key of Mechaway: whoever has it can open the secrets in this folder. Keep a copy, but not beside the backups.\n"
_VARIABLE = "MECHAWAY_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A master key and the name it goes by: the start of a hash, which tells nothing about it."""

    key: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(b"mechaway master key " + self.key).hexdigest()[:16]


class LocalKeyRing:
    """A `KeyRing` with a master key from the settings or from a file that is made when something is first wrapped."""

    def __init__(self, settings: Settings) -> None:
        self._given = given_keys(settings)
        self.file = KeyFile(settings.data_dir)
        self._known: tuple[MasterKey, ...] = self._given

    def wrap(self, project: str, key: bytes) -> bytes:
        """See `KeyRing.wrap`."""
        master = (self._newest() or self._remember(self.file.make()))[0]
        sealed = seal(master.key, key, _PURPOSE, project)
        return orjson.dumps({"master_key": master.fingerprint, "sealed": base64.b64encode(sealed).decode()})

    def unwrap(self, project: str, wrapped: bytes) -> bytes:
        """See `KeyRing.unwrap`."""
        fingerprint, sealed = _read(project, wrapped)
        master = _find(self._known, fingerprint) or _find(self._newest(), fingerprint)
        if master is None:
            raise Locked(self._another(project, fingerprint))
        key = open_sealed(master.key, sealed, _PURPOSE, project)
        if key is None:
            raise Locked(f'the key of project "{project}" does not open: what is stored was changed or is another project\'s')
        return key

    def is_current(self, wrapped: bytes) -> bool:
        """See `KeyRing.is_current`."""
        newest = self._newest()
        return bool(newest) and _read("", wrapped)[0] == newest[0].fingerprint

    @property
    def from_settings(self) -> tuple[MasterKey, ...]:
        """The keys that the settings give; none when they are in the file."""
        return self._given

    def _newest(self) -> tuple[MasterKey, ...]:
        """The keys as they are now: another process may have rotated them."""
        return self._given or self._remember(self.file.read())

    def _remember(self, keys: tuple[MasterKey, ...]) -> tuple[MasterKey, ...]:
        self._known = keys
        return keys

    def _another(self, project: str, fingerprint: str) -> str:
        place = _VARIABLE if self._given else str(self.file.path)
        if not self._known:
            return (
                f'the secrets of project "{project}" were locked with the master key {fingerprint}, and there is none in {place}; '
                f"put that file back, or set {_VARIABLE}"
            )
        here = ", ".join(master.fingerprint for master in self._known)
        return (
            f'the secrets of project "{project}" were locked with another master key (fingerprint {fingerprint}), not with the one in '
            f"{place} ({here}); bring that key back, or delete the secrets and set them again"
        )


class KeyFile:
    """The file with the master keys."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._folder = folder

    def read(self) -> tuple[MasterKey, ...]:
        """The keys in it, the one that wraps first; none when there is no file. Raises `Locked` when it cannot be used."""
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(1_000_000).decode("ascii", "replace")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Locked(f"the master key cannot be read: {error.strerror or error}: {self.path}") from error
        if mode & 0o077:
            raise Locked(
                f"others on this machine may read the master key: run chmod 600 {self.path}, then mechaway secret rotate if somebody did"
            )
        lines = [line.strip() for line in text.splitlines()]
        return _parsed([line for line in lines if line and not line.startswith("#")], f"the file {self.path}", Locked)

    def make(self) -> tuple[MasterKey, ...]:
        """The keys in it; a first one is made when there is no file."""
        with self.locked():
            return self.read() or self._write([MasterKey(new_key())])

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile."""
        import fcntl

        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the master key cannot be kept: {error.strerror or error}: {self._folder}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def add(self) -> tuple[MasterKey, ...]:
        """Put a new key in front. Call it `locked`."""
        return self._write([MasterKey(new_key()), *self.read()])

    def keep_first(self) -> tuple[MasterKey, ...]:
        """Drop all keys but the first. Call it `locked`."""
        return self._write(self.read()[:1])

    def _write(self, keys: Sequence[MasterKey]) -> tuple[MasterKey, ...]:
        text = _HEAD + "".join(base64.b64encode(master.key).decode() + "\n" for master in keys)
        new = self._folder / _NEW
        try:
            with contextlib.suppress(FileNotFoundError):  # of a process that was cut off; its mode may be anything
                new.unlink()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(new, self.path)
            _sync(self._folder)
        except OSError as error:
            raise Unavailable(f"the master key cannot be kept: {error.strerror or error}: {self.path}") from error
        return tuple(keys)


def rotate(keyring: LocalKeyRing, rewrap: Callable[[], int]) -> int:
    """Give the file a new master key and drop the others; `rewrap` wraps all data keys again and says how many that were.

    With keys from the settings only the wrapping is left to do. When `rewrap` raises, every key stays.
    """
    if keyring.from_settings:
        return rewrap()
    with keyring.file.locked():
        keyring.file.add()
        count = rewrap()
        keyring.file.keep_first()
    return count


def given_keys(settings: Settings) -> tuple[MasterKey, ...]:
    """The master keys that the settings give. Raises `Invalid`; the sentence does not show them."""
    written = [text for text in (part.strip() for part in settings.master_key.split(",")) if text]
    return _parsed(written, _VARIABLE, Invalid) if written else ()


def _parsed(written: Sequence[str], where: str, error: type[Invalid] | type[Locked]) -> tuple[MasterKey, ...]:
    keys = [_bytes(text) for text in written]
    wrong = next((number for number, key in enumerate(keys, 1) if key is None), None)
    if wrong is not None or not keys:
        which = f"key {wrong} in {where} is not" if wrong is not None else f"there is no key in {where}; it holds"
        raise error(f"{which} 32 bytes in base64 or hex; make one with: openssl rand -base64 32")
    return tuple(MasterKey(key) for key in keys if key is not None)


def _bytes(text: str) -> bytes | None:
    """32 bytes from hex or from base64 of either alphabet, with or without padding."""
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        hexadecimal = len(text) == KEY_BYTES * 2
        key = bytes.fromhex(text) if hexadecimal else base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None


def _read(project: str, wrapped: bytes) -> tuple[str, bytes]:
    """Fingerprint of the master key and the sealed data key."""
    try:
        held: Any = orjson.loads(wrapped)
        return str(held["master_key"])[:64], base64.b64decode(held["sealed"], validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise Locked(f'the key of project "{project}" cannot be read: what is stored was changed') from None


def _find(keys: Sequence[MasterKey], fingerprint: str) -> MasterKey | None:
    return next((master for master in keys if master.fingerprint == fingerprint), None)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
