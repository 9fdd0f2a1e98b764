"""The key rings that `test_keyring.py` holds to their contract, the one of this file for tests that need no file included."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import orjson

from mechaway_core.aws.keyring import KmsKeyRing
from mechaway_core.errors import Locked
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.ports import KeyRing
from mechaway_core.settings import Settings
from mechaway_core.vault.sealed import new_key, open_sealed, seal
from tests.account import Account


class MemoryKeyRing:
    """A `KeyRing` whose master keys are in memory; the first wraps."""

    def __init__(self) -> None:
        self.keys = [new_key()]

    def wrap(self, project: str, key: bytes) -> bytes:
        """See `KeyRing.wrap`."""
        return _name(self.keys[0]) + seal(self.keys[0], key, project)

    def unwrap(self, project: str, wrapped: bytes) -> bytes:
        """See `KeyRing.unwrap`."""
        for master in self.keys:
            key = open_sealed(master, wrapped[8:], project) if wrapped.startswith(_name(master)) else None
            if key is not None:
                return key
        raise Locked(f'the key of project "{project}" does not open')

    def is_current(self, wrapped: bytes) -> bool:
        """See `KeyRing.is_current`."""
        return wrapped.startswith(_name(self.keys[0]))


def _name(master: bytes) -> bytes:
    return hashlib.sha256(master).digest()[:8]


def master_key() -> str:
    """A master key as the settings take it."""
    return base64.b64encode(new_key()).decode()


def _file(folder: Path, _: Account) -> KeyRing:
    return LocalKeyRing(Settings(data_dir=folder))


def _settings(folder: Path, _: Account) -> KeyRing:
    return LocalKeyRing(Settings(data_dir=folder, master_key=master_key()))


def _memory(_: Path, __: Account) -> KeyRing:
    return MemoryKeyRing()


def _kms(_: Path, account: Account) -> KeyRing:
    client = account.client("kms")
    return KmsKeyRing(lambda: client, client.create_key()["KeyMetadata"]["Arn"])


FACTORIES: dict[str, Callable[[Path, Account], KeyRing]] = {"file": _file, "settings": _settings, "memory": _memory, "kms": _kms}


def fingerprint_of(wrapped: bytes) -> str:
    """The fingerprint of the master key that a local key ring wrapped with."""
    return str(orjson.loads(wrapped)["master_key"])
