"""HTTP calls to the outside, under a guard.

1. A node says what it wants as a `Call` and opens a `Talk`: one call for one item, with its redirects, its pages and their cookies.
2. The talk puts credentials to the call while it stays with the origin that they are for, and follows redirects (`talk.py`).
3. The wire sends each request over a pooled connection; a new one goes to an address that the guard has looked at (`wire.py`, `guard.py`).
4. The answer comes as a stream: decoded in small steps, counted, and stopped where a limit says so (`decoding.py`, `content.py`).

Nothing of this is imported before the first call is made: a webhook that calls nobody starts without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mechaway_core.http.auth import Auth, Tokens
    from mechaway_core.http.guard import Guard
    from mechaway_core.http.talk import Talk
    from mechaway_core.http.wire import Wire


class Http:
    """HTTP calls for nodes; one for a whole process. Thread-safe; makes nothing before the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._tokens: Tokens | None = None
        if settings.http_allow or settings.http_refuse:
            _ = self.guard  # a list that cannot be read is said at the start, not at the first call

    @cached_property
    def guard(self) -> Guard:
        """Which hosts may be reached. Raises `Invalid` when the lists of the settings cannot be read."""
        from mechaway_core.http.guard import Guard

        return Guard(self._settings)

    @property
    def timeout(self) -> float:
        """Seconds one request may take when nobody says otherwise."""
        return self._settings.http_timeout

    @property
    def max_bytes(self) -> int:
        """The most bytes of answers to hold in memory for one item."""
        return int(self._settings.http_max_mb * 1_000_000)

    def talk(self, auth: Auth | None = None, redirects: int = 0, cancellation: Cancellation = NEVER) -> Talk:
        """A fresh talk with these credentials, which follows so many redirects. When the run is cancelled, its connection is shut down."""
        from mechaway_core.http.talk import Talk  # httpx
        from mechaway_core.http.wire import Wire

        with self._lock:
            if self._wire is None:
                self._wire = Wire(self.guard, self._settings.http_ca_file)
        return Talk(self._wire, auth, redirects, cancellation)

    def auth(self, declared: Mapping[str, Any], owner: str, hide: Callable[[str], None], cancellation: Cancellation = NEVER) -> Auth:
        """Credentials from an `auth` param with its secrets revealed. Tokens are kept apart by `owner`, a project.

        What is made from the secrets goes to `hide`; a token is fetched for the run of `cancellation`. Raises `NodeError` when they
        cannot be sent.
        """
        from mechaway_core.http.auth import Tokens, auth_of

        with self._lock:
            if self._tokens is None:
                self._tokens = Tokens()
        return auth_of(declared, owner, hide, self._tokens, self.talk, cancellation)

    def close(self) -> None:
        """Close all connections, also those that somebody waits on."""
        if self._wire is not None:
            self._wire.close()
