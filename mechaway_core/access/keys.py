"""Project keys: `mway_{project}_{id}_{secret}`.

Project and id stand in the key, so that one point read finds what is stored of it (`keys/{id}` in that project): its scopes, its end,
and the SHA-256 of the whole key. A plain digest is enough, for the secret is 32 random bytes: there is nothing to guess. Every request
reads it anew, so a key that was revoked is refused by the next request, on every worker.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from mechaway_core import jsontext
from mechaway_core.access.scopes import SCOPES
from mechaway_core.errors import Invalid, NotFound, Problem, Unauthorized
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.ports import ABSENT, Clock, Store, Stored

MARK = "mway_"  # how a project key begins

_KEY = re.compile(r"mway_([a-z0-9-]{1,63})_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_PREFIX = "keys/"


class ProjectKey(NamedTuple):
    """What is known about a key; the key itself is not. Times are ISO 8601, `expires` may be absent."""

    id: str
    project: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    expires: str | None

    @property
    def prefix(self) -> str:
        """How the key begins: enough to recognise it, nothing to use it."""
        return f"{MARK}{self.project}_{self.id}_"

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "id": self.id,
            "project": self.project,
            "name": self.name,
            "prefix": self.prefix,
            "scopes": list(self.scopes),
            "created_at": self.created_at,
            "expires": self.expires,
        }


class Keys:
    """The keys of all projects."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, project: str, name: Any, scopes: Any, expires: Any = None) -> tuple[ProjectKey, str]:
        """Make a key; it and its text, which cannot be had again. Raises `Invalid` with all problems, `NotFound` for the project."""
        problems = [*_name_problems(name), *_scope_problems(scopes)]
        end = None
        try:
            end = _end(expires, self._clock.now())
        except ValueError as error:
            problems.append(Problem("/expires", f"expires {error}"))
        if problems:
            raise Invalid(f"the key cannot be made: {problems[0].message}", problems)
        key = ProjectKey(secrets.token_hex(8), project, name, tuple(dict.fromkeys(scopes)), _iso(self._clock.now()), end)
        text = key.prefix + secrets.token_hex(32)
        self._store.put(project, _PREFIX + key.id, jsontext.encode(key.as_json() | {"sha256": _digest(text)}), ABSENT)
        return key, text

    def find(self, project: str, after: str = "", limit: int = 100) -> list[ProjectKey]:
        """The keys of a project in the order of their ids, those behind `after`."""
        keys = self._store.keys(project, _PREFIX, _PREFIX + after if after else "", limit)
        found = (self._store.get(project, key) for key in keys)
        return [_key(orjson.loads(stored.data)) for stored in found if isinstance(stored, Stored)]

    def revoke(self, project: str, key_id: str) -> None:
        """Make a key worthless. Raises `NotFound`."""
        if not _ID.fullmatch(key_id) or not self._store.delete(project, _PREFIX + key_id):
            raise NotFound(f'there is no key "{shorten(key_id, 40)}"')

    def recognise(self, text: str) -> ProjectKey:
        """The key that a text is. Raises `Unauthorized`, in the same words whatever is wrong with it."""
        parts = _KEY.fullmatch(text)
        if parts is None:
            raise _unknown("key_malformed")
        stored = self._stored(parts[1], parts[2])
        if stored is None:
            raise _unknown("key_unknown", parts[2])
        held = orjson.loads(stored.data)
        if not hmac.compare_digest(held["sha256"], _digest(text)):
            raise _unknown("key_wrong", parts[2])
        key = _key(held)
        if key.expires is not None and datetime.fromisoformat(key.expires).timestamp() <= self._clock.now():
            raise _unknown("key_expired", parts[2])
        return key

    def _stored(self, project: str, key_id: str) -> Stored | None:
        try:
            found = self._store.get(project, _PREFIX + key_id)
        except NotFound:  # the project has gone, and its keys with it
            return None
        return found if isinstance(found, Stored) else None


def _unknown(reason: str, key_id: str = "") -> Unauthorized:
    message = "the API asks for the header Authorization: Bearer with a token or project key that is valid"
    return Unauthorized(message, reason=reason, guess=True, detail=f"key {key_id}" if key_id else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(held: dict[str, Any]) -> ProjectKey:
    return ProjectKey(held["id"], held["project"], held["name"], tuple(held["scopes"]), held["created_at"], held["expires"])


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _name_problems(name: Any) -> list[Problem]:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 100 or not name.isprintable():
        return [Problem("/name", "name must be a text of 1 to 100 printable characters that says what the key is for")]
    return []


def _scope_problems(scopes: Any) -> list[Problem]:
    known = ", ".join(SCOPES)
    if not isinstance(scopes, Sequence) or isinstance(scopes, str) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        return [Problem("/scopes", f"scopes must be a list of one or more of {known}")]
    return [
        Problem(f"/scopes/{number}", f'"{shorten(scope, 40)}" is not a scope{did_you_mean(scope, SCOPES)}; there are {known}')
        for number, scope in enumerate(scopes[:20])
        if scope not in SCOPES
    ]


def _end(expires: Any, now: float) -> str | None:
    """When a key ends, in ISO 8601. Raises `ValueError` with the rest of a sentence."""
    if expires is None:
        return None
    try:
        moment = datetime.fromisoformat(expires)
        seconds = moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ValueError('must be a time such as "2030-01-31T00:00:00Z", or left out for a key that does not expire') from None
    if moment.tzinfo is None:
        raise ValueError('must say its time zone, as in "2030-01-31T00:00:00Z"')
    if seconds <= now:
        raise ValueError("is in the past")
    return _iso(seconds)
