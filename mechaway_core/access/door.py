"""Who may come in, in one object: the app holds it, the gateway and the API ask it."""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from mechaway_core.access.browser import Guard, Origins
from mechaway_core.access.deliveries import Deliveries
from mechaway_core.access.keys import MARK, Keys, ProjectKey
from mechaway_core.access.refusals import Refusals
from mechaway_core.access.scopes import scope_for
from mechaway_core.access.slowing import Slowing
from mechaway_core.access.webhook import Headers, Lock
from mechaway_core.errors import Forbidden, Hidden, Invalid, MechawayError, NotFound, Refused, Unauthorized, Unavailable
from mechaway_core.logs import about
from mechaway_core.names import shorten
from mechaway_core.ports import Clock, Store
from mechaway_core.settings import Settings

log = logging.getLogger("mechaway.access")

_MARK = MARK.encode()
_PAGES = ("docs", "redoc", "openapi.json")  # they describe the API and hold nothing of a project


class Secrets(Protocol):
    """Where the values of secrets come from."""

    def values(self, project: str, names: Sequence[str]) -> Mapping[str, str]:
        """The values by name. Raises `MechawayError` naming one that is missing."""


class AdminToken(Protocol):
    """The token that shows that a caller is the admin; an empty one is no token."""

    @property
    def is_set(self) -> bool:
        """Whether there is one at all; asked once, when the server starts."""

    def matches(self, given: bytes) -> bool:
        """Whether this is it, found out in constant time. Raises `Unavailable` when it cannot be had at the moment."""


class SettingsToken:
    """The token of the settings."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    @property
    def is_set(self) -> bool:
        """See `AdminToken.is_set`."""
        return bool(self._token)

    def matches(self, given: bytes) -> bool:
        """See `AdminToken.matches`."""
        return hmac.compare_digest(given, self._token)


class NoSecrets:
    """A server that keeps none."""

    def values(self, project: str, names: Sequence[str]) -> Mapping[str, str]:
        """See `Secrets.values`."""
        if names:
            raise NotFound(f'there is no secret "{names[0]}"')
        return {}


class Door:
    """Who may come in. Raises `Invalid` for settings that cannot be read."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, secrets: Secrets | None = None, admin: AdminToken | None = None
    ) -> None:
        self.origins = Origins.parse(settings.cors_origins)
        self._admin = admin or SettingsToken(settings.api_token)
        self.guard = None if self._admin.is_set else Guard(settings.allowed_hosts, self.origins)
        self.keys = Keys(store, clock)
        self.deliveries = Deliveries(store, clock)
        self.slowing = Slowing(settings.auth_delay, clock.monotonic)
        self.refusals = Refusals()
        self.secrets: Secrets = secrets or NoSecrets()
        self._clock = clock
        self._proxies = _networks(settings.trusted_proxies)

    # -- the API

    def credential(self, headers: Headers, client: str) -> bytes | None:
        """The project key that a request shows; None when it shows the admin's token, or none is needed.

        Raises `Unauthorized`, `TooMany` for a source that is blocked, and `Unavailable` when the admin's token cannot be had.
        """
        given = [value for name, value in headers if name == b"authorization"]
        kind, _, token = given[0].strip().partition(b" ") if len(given) == 1 else (b"", b"", b"")
        token = token.strip()
        if kind.lower() != b"bearer":
            token = b""
        is_key = token.startswith(_MARK)
        if not (is_key or self._admin.is_set):
            return None
        if token:
            self.slowing.admit(self.source(client, headers))
        if is_key:
            return token
        if not (token and self._admin.matches(token)):
            message = "the API asks for the header Authorization: Bearer with the token of MECHAWAY_API_TOKEN or a project's key"
            reason = "token_wrong" if token else "token_missing"
            raise Unauthorized(message, reason=reason, guess=bool(token))
        return None

    def admit_key(self, token: bytes, method: str, path: str) -> ProjectKey:
        """The key that a token is, once it is clear that it may make this request. `path` as the API will see it, decoded.

        Raises `Unauthorized`; `Hidden` for all that is not of the key's project, in the words that a missing project has;
        `Forbidden` for what it has no scope for.
        """
        key = self.keys.recognise(token.decode("latin-1"))
        segments = [part for part in path.split("/") if part]
        if segments[:1] == ["p"] and len(segments) > 2:
            project, segments = segments[1], segments[2:]
        else:
            project = None
        if segments and segments[0] in _PAGES:
            return key
        if segments[:1] != ["api"]:
            raise _admin_only(key)
        self._check_route(key, method, "default" if project is None else project, segments[1:])
        return key

    def _check_route(self, key: ProjectKey, method: str, project: str, route: Sequence[str]) -> None:
        scope = scope_for(method, route)
        if route[:1] == ["projects"]:  # names its project, if any, by itself
            project = route[1] if len(route) > 1 else key.project
        elif route in (["node-types"], ["validate"]):  # the same for every project
            project = key.project
        if project != key.project:
            raise Hidden(f'there is no project "{project[:80]}"', reason="key_project", detail=f"key {key.id}")
        if scope is None:
            raise _admin_only(key)
        if scope not in key.scopes:
            raise Forbidden(f"the key has no scope {scope}", reason="key_scope", detail=f"key {key.id}")

    # -- webhooks

    def unlock(self, lock: Lock, project: str, headers: Headers, chunks: Iterable[bytes], client: str) -> None:
        """Let a call through that fits the lock. Raises `Refused`, and `Unavailable` when the secrets cannot be had."""
        lock.check_body(self._values(lock, project, headers, client), headers, chunks, self._clock.now())

    def check_head(self, lock: Lock, project: str, headers: Headers, client: str) -> None:
        """Turn away a call whose headers alone show that it does not fit, before its body is here. Raises as `unlock` does."""
        lock.check_headers(self._values(lock, project, headers, client), headers)

    def _values(self, lock: Lock, project: str, headers: Headers, client: str) -> Mapping[str, str]:
        """The values that a lock needs, unless the source of the call is blocked."""
        self.slowing.admit(self.source(client, headers))
        try:
            return self.secrets.values(project, lock.secrets)
        except MechawayError as error:  # it fails closed, and as something that is ours to put right: the sender should come again
            log.error("a webhook of project %s cannot check its callers: %s", project, error, extra=about(project=project))
            raise Unavailable("this webhook cannot check its callers at the moment; try again later") from error

    # -- those who are not let in

    def source(self, client: str, headers: Headers) -> str:
        """The address a call came from: the peer's, or what the last of the trusted proxies says."""
        if not self._proxies or not self._is_proxy(client):
            return client
        said = b",".join(value for name, value in headers if name.lower() == b"x-forwarded-for")
        for hop in reversed(said.decode("latin-1").split(",")):
            hop = hop.strip()
            if hop and not self._is_proxy(hop):
                return shorten(hop, 64)
        return client

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)

    def refuse(self, error: Refused, *, client: str, headers: Headers, target: str, request_id: str) -> float:
        """Count and log a refusal; the seconds its answer must wait, see `Slowing.failed`, which may raise `TooMany`."""
        source = self.source(client, headers)
        self.refusals.note(error, source=source, target=target, request_id=request_id)
        return self.slowing.failed(source) if error.guess else 0.0

    def woke(self, client: str, headers: Headers) -> None:
        """The pause that `refuse` asked for is over."""
        self.slowing.woke(self.source(client, headers))


def _admin_only(key: ProjectKey) -> Forbidden:
    return Forbidden("this is for the admin's token only, not for the key of a project", reason="key_admin", detail=f"key {key.id}")


def _networks(written: str) -> tuple[Any, ...]:
    networks = []
    for part in written.split(","):
        if part.strip():
            try:
                networks.append(ipaddress.ip_network(part.strip(), strict=False))
            except ValueError:
                raise Invalid(f'"{shorten(part.strip())}" in MECHAWAY_TRUSTED_PROXIES is neither an address nor a network') from None
    return tuple(networks)
