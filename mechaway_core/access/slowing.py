"""The pause after failed authentications, for each source.

The first few failures are free. From then on each answer to a failure waits, twice as long each time, up to a limit; only few may wait
at a time, and while that many wait, the source is blocked: it is told to come back before what it shows is looked at. So nobody tries
more than a few secrets a minute, nobody holds many connections open, and who shows the right thing at once is never slowed.
Failures are forgotten with time, one every few seconds.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mechaway_core.errors import TooMany

FREE = 5  # failures that cost nothing
FORGET = 10.0  # seconds after which one failure is forgotten
FIRST = 0.25  # seconds of the first pause
SLEEPERS = 4  # of one source
MOST_SLEEPERS = 256  # of all
MOST_SOURCES = 10_000


@dataclass(slots=True)
class _Source:
    failures: float = 0.0
    seen: float = 0.0  # when it last failed
    sleepers: int = 0

    def left(self, now: float) -> float:
        """Failures that are not forgotten yet."""
        return max(0.0, self.failures - (now - self.seen) / FORGET)


class Slowing:
    """Failures by source. `most` is the longest pause in seconds, 0 for none; `now` seconds that never go back."""

    def __init__(self, most: float, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}
        self._sleepers = 0

    def admit(self, source: str) -> None:
        """To be asked before a credential is looked at. Raises `TooMany` while the source is blocked."""
        known = self._sources.get(group(source)) if self._sources else None
        if known is not None and (known.sleepers >= SLEEPERS or (known.sleepers and self._sleepers >= MOST_SLEEPERS)):
            raise self._too_many()

    def failed(self, source: str) -> float:
        """Note a failure and answer how long, in seconds, its answer must wait; when not 0, call `woke` after that.

        Raises `TooMany` when so many wait already that this one need not.
        """
        if not self._most:
            return 0.0
        with self._lock:
            known = self._note(group(source))
            beyond = known.failures - FREE
            if beyond <= 0:
                return 0.0
            if known.sleepers >= SLEEPERS or self._sleepers >= MOST_SLEEPERS:
                raise self._too_many()
            known.sleepers += 1
            self._sleepers += 1
            pause: float = FIRST * 2.0 ** min(beyond - 1, 30.0)
            return min(self._most, pause)

    def woke(self, source: str) -> None:
        """The pause is over."""
        with self._lock:
            self._sleepers -= 1
            known = self._sources.get(group(source))
            if known is not None and known.sleepers:
                known.sleepers -= 1

    def _note(self, name: str) -> _Source:
        now = self._now()
        known = self._sources.pop(name, None)
        if known is None:
            known = _Source()
            if len(self._sources) >= MOST_SOURCES:
                self._make_room()
        known.failures = min(known.left(now) + 1, FREE + 32.0)
        known.seen = now
        self._sources[name] = known  # at the end: who failed longest ago stands first
        return known

    def _make_room(self) -> None:
        """Drop who failed longest ago and has nobody waiting."""
        name = next((name for name, known in self._sources.items() if not known.sleepers), None)
        if name is not None:
            del self._sources[name]

    def _too_many(self) -> TooMany:
        return TooMany("too many failed attempts; come back later", reason="too_many", retry_after=max(1, math.ceil(self._most)))


def group(source: str) -> str:
    """Whom the failures of an address count for: an IPv6 network of 64 bits is one household."""
    if ":" not in source:
        return source
    try:
        address = ipaddress.IPv6Address(source.partition("%")[0])
    except ValueError:
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
