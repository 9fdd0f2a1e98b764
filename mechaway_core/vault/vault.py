"""The secrets of all projects, over a `Store` and a `KeyRing`.

    vault/key         the project's data key, as the key ring wrapped it
    secrets/{name}    {"version", "created_at", "updated_at", "sealed"}: the value, sealed for this project, name and version

Data keys and sealed values stay in memory, each for as long as its document has not changed: every use asks the store for that, so a
rotation, or a project that was deleted and made again, is seen at once. So do the values that were asked for last: the log has to know
them anyway, to keep itself clean of them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any, NamedTuple

import orjson

from mechaway_core.errors import Conflict, Invalid, Locked, NotFound, SecretMissing, Stale, TooLarge
from mechaway_core.names import NAME_RULE, is_secret_name, shorten
from mechaway_core.ports import ABSENT, Clock, KeyRing, Store, Stored, Unchanged
from mechaway_core.record import iso
from mechaway_core.redact import remembered
from mechaway_core.vault.sealed import Cipher, new_key

MOST_BYTES = 65_536  # of one value, in UTF-8

_KEY = "vault/key"
_SECRETS = "secrets/"
_PURPOSE = "mechaway secret 1"
_MOST_SEALED = 1000  # that one process keeps
_ATTEMPTS = 20  # of a change that meets other writers


class SecretInfo(NamedTuple):
    """What may be known about a secret. `version` counts its changes from 1; times are ISO 8601."""

    name: str
    version: int
    created_at: str
    updated_at: str

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {"name": self.name, "version": self.version, "created_at": self.created_at, "updated_at": self.updated_at}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A secret as it is stored."""

    info: SecretInfo
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _DataKey:
    key: bytes = field(repr=False)
    cipher: Cipher = field(repr=False)
    token: str  # the store's version of the document it came from


class _Held(NamedTuple):
    """A document of a secret, and what it says; None when it is no secret at all."""

    stored: Stored
    kept: _Kept | None


@dataclass(frozen=True, slots=True)
class _Opened:
    """What was opened for the last that asked for these secrets, and from what."""

    stored: list[_Held | None]
    key: _DataKey | None
    values: Mapping[str, str] = field(repr=False)


class Vault:
    """The secrets of all projects; safe to use from many threads and processes. Unknown projects are `NotFound`."""

    def __init__(self, store: Store, keyring: KeyRing, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._keys: dict[str, _DataKey] = {}
        self._sealed: dict[tuple[str, str], _Held] = {}
        self._opened: dict[tuple[str, tuple[str, ...]], _Opened] = {}

    # -- for people: values go in and never come out

    def put(self, project: str, name: str, value: str) -> SecretInfo:
        """Keep a secret, or change it; version 1 says that it is new.

        Raises `Invalid` and `TooLarge` for the name and value, `Locked`, `Conflict` when too many change it at once.
        """
        _check_name(name)
        data = _checked(value)
        remembered.add({value: name})
        for _ in range(_ATTEMPTS):
            known = self._key_for_locking(project)
            stored = self._stored(project, name)
            before = stored.kept if stored is not None else None
            now = iso(self._clock.now())
            info = SecretInfo(name, before.info.version + 1 if before else 1, before.info.created_at if before else now, now)
            sealed = known.cipher.seal(data, _PURPOSE, project, name, info.version)
            try:
                self._store.put(project, _SECRETS + name, _written(info, sealed), stored.stored.version if stored is not None else ABSENT)
            except Conflict:  # Stale among them
                continue
            current = self._key(project)
            if current is not None and current.key == known.key:  # else the project was made anew meanwhile, and its key with it
                return info
        raise Conflict(f'the secret "{name}" is being changed by many at once; try again')

    def find(self, project: str, after: str = "", limit: int = 100) -> list[SecretInfo]:
        """What is known about the secrets behind the name `after`, in the order of their names."""
        keys = self._store.keys(project, _SECRETS, _SECRETS + after if after else "", limit)
        found = ((key, self._store.get(project, key)) for key in keys)
        return [_info(key.removeprefix(_SECRETS), stored) for key, stored in found if isinstance(stored, Stored)]

    def info(self, project: str, name: str) -> SecretInfo:
        """What is known about a secret. Raises `Invalid` for its name, `NotFound`."""
        _check_name(name)
        stored = self._stored(project, name)
        if stored is None:
            raise _unknown(project, name)
        return _info(name, stored.stored)

    def delete(self, project: str, name: str) -> None:
        """Forget a secret. Raises `Invalid` for its name, `NotFound`."""
        _check_name(name)
        if not self._store.delete(project, _SECRETS + name):
            raise _unknown(project, name)

    # -- for runs

    def values(self, project: str, names: Iterable[str]) -> Mapping[str, str]:
        """The values of these secrets; logs are kept clean of them from here on.

        Raises `SecretMissing` naming every one that is not there, `Locked`.
        """
        wanted = tuple(dict.fromkeys(names))
        stored = [self._stored(project, name) for name in wanted]
        missing = [name for name, one in zip(wanted, stored, strict=True) if one is None]
        if missing:
            raise SecretMissing(_missing(project, missing), missing)
        key = self._key(project)
        before = self._opened.get((project, wanted))
        if before is not None and before.key is key and all(map(is_, before.stored, stored)):
            return before.values
        values = {name: self._open(project, name, one, key) for name, one in zip(wanted, stored, strict=True) if one is not None}
        remembered.add({value: name for name, value in values.items()})
        if len(self._opened) >= _MOST_SEALED:
            self._opened.clear()
        self._opened[project, wanted] = _Opened(stored, key, values)
        return values

    def missing(self, project: str, names: Iterable[str]) -> list[str]:
        """Those of these names that no secret has."""
        return [name for name in dict.fromkeys(names) if self._stored(project, name) is None]

    # -- for a new master key

    def rewrap(self, project: str) -> bool:
        """Wrap the project's data key with the master key that wraps now; False when there is nothing to do. Raises `Locked`."""
        for _ in range(_ATTEMPTS):
            stored = self._store.get(project, _KEY)
            if not isinstance(stored, Stored) or self._keyring.is_current(stored.data):
                return False
            try:
                key, stored = self._unwrapped(project, stored)
            except Locked:
                if self._holds_secrets(project):
                    raise
                return False  # a key that locks nothing
            try:
                self._store.put(project, _KEY, self._keyring.wrap(project, key), stored.version)
            except Stale:
                continue
            return True
        raise Conflict(f'the key of project "{project}" is being changed by many at once; try again')

    # -- inside

    def _stored(self, project: str, name: str) -> _Held | None:
        have = self._sealed.get((project, name))
        stored = self._store.get(project, _SECRETS + name, have.stored.version if have is not None else None)
        if isinstance(stored, Unchanged):
            return have
        if stored is None:
            self._sealed.pop((project, name), None)
            return None
        if len(self._sealed) >= _MOST_SEALED:
            self._sealed.clear()
        held = self._sealed[project, name] = _Held(stored, _read(stored))
        return held

    def _open(self, project: str, name: str, held: _Held, known: _DataKey | None) -> str:
        kept = held.kept
        if kept is not None and known is not None:
            data = known.cipher.open(kept.sealed, _PURPOSE, project, name, kept.info.version)
            if data is not None:
                return data.decode()
        raise Locked(
            f'the secret "{name}" of project "{project}" does not open: what is stored was changed or is from elsewhere; set it again'
        )

    def _key(self, project: str) -> _DataKey | None:
        """The project's data key, None when it has none yet."""
        have = self._keys.get(project)
        stored = self._store.get(project, _KEY, have.token if have is not None else None)
        if isinstance(stored, Unchanged):
            assert have is not None
            return have
        if stored is None:
            self._keys.pop(project, None)
            return None
        key, stored = self._unwrapped(project, stored)
        known = self._keys[project] = _DataKey(key, Cipher(key), stored.version)
        return known

    def _unwrapped(self, project: str, stored: Stored) -> tuple[bytes, Stored]:
        """The data key in a document, and the document: a rotation may have changed it since it was read, and dropped the old key."""
        try:
            return self._keyring.unwrap(project, stored.data), stored
        except Locked:
            newer = self._store.get(project, _KEY, stored.version)
            if not isinstance(newer, Stored):
                raise
            return self._keyring.unwrap(project, newer.data), newer

    def _key_for_locking(self, project: str) -> _DataKey:
        """The project's data key; a new one when it has none, or one that does not open and locks nothing.

        A new one may be such a key, too: a rotation that had listed the projects before it was stored forgets what it was wrapped with.
        """
        for _ in range(_ATTEMPTS):
            try:
                known = self._key(project)
            except Locked:
                if self._holds_secrets(project):
                    raise
                self._store.delete(project, _KEY)
                known = None
            if known is not None:
                return known
            self._make_key(project)
        raise Conflict(f'the key of project "{project}" is being changed by many at once; try again')

    def _holds_secrets(self, project: str) -> bool:
        return bool(self._store.keys(project, _SECRETS, limit=1))

    def _make_key(self, project: str) -> None:
        """Give the project a data key, unless somebody else gives it one at the same time."""
        wrapped = self._keyring.wrap(project, new_key())
        try:
            self._store.put(project, _KEY, wrapped, ABSENT)
        except Conflict:
            return
        # A rotation that began before this key was stored may have listed the projects without it; it will forget the old
        # master key. One that begins from here on sees it.
        self.rewrap(project)


# -- names and values


def _check_name(name: str) -> None:
    if not is_secret_name(name):
        raise Invalid(f'"{shorten(name)}" cannot be the name of a secret: a name {NAME_RULE}')


def _checked(value: str) -> bytes:
    """The value as it is sealed. The sentences never show it."""
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise Invalid("the value of a secret must be text in UTF-8") from None
    if not data:
        raise Invalid("the value of a secret cannot be empty; to take a secret away, delete it")
    if len(data) > MOST_BYTES:
        raise TooLarge(f"the value of a secret has at most {MOST_BYTES} bytes; this one has {len(data)}")
    if b"\0" in data:
        raise Invalid("the value of a secret cannot hold a NUL character: headers and connection strings end there")
    return data


# -- documents


def _written(info: SecretInfo, sealed: bytes) -> bytes:
    about = info.as_json()
    del about["name"]  # the key says it
    return orjson.dumps(about | {"sealed": base64.b64encode(sealed).decode()})


def _read(stored: Stored, name: str = "") -> _Kept | None:
    """What a document says; None when it is no secret at all."""
    try:
        held = orjson.loads(stored.data)
        sealed = base64.b64decode(held["sealed"], validate=True)
        info = SecretInfo(name, int(held["version"]), str(held["created_at"]), str(held["updated_at"]))
    except (ValueError, TypeError, KeyError, binascii.Error):
        return None
    return _Kept(info, sealed)


def _info(name: str, stored: Stored) -> SecretInfo:
    """What a document says about its secret; version 0 without times when it is none."""
    kept = _read(stored, name)
    return kept.info if kept is not None else SecretInfo(name, 0, "", "")


def _unknown(project: str, name: str) -> NotFound:
    return NotFound(f'there is no secret "{name}" in project "{project}"')


def _missing(project: str, names: list[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    there = "is no secret" if len(names) == 1 else "are no secrets"
    option = "" if project == "default" else f" --project {project}"
    return f'there {there} {listed} in project "{project}"; keep it with: mechaway secret set {names[0]}{option}'
