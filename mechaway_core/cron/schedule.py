"""When a cron expression fires in a time zone.

Clocks that are set forward skip local times, and what was to fire then does not. Clocks that are set back show local times twice, and what
names such a time fires at its first. So EventBridge Scheduler has it (its User Guide, "Daylight savings time"). Only an expression that
names no hours, or steps through the minutes (`*/10 * * * *`), goes on by elapsed time, as cronie has it for what it calls wildcard jobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from mechaway_core.cron import expression as expressions
from mechaway_core.cron.expression import Expression
from mechaway_core.cron.fields import YEAR
from mechaway_core.cron.zones import Stretch, Zone, zone

_TURN = 2 * 86_400  # seconds: more than clocks were ever set back
_LAST = int(datetime(YEAR.most + 1, 1, 2, tzinfo=UTC).timestamp())  # when the last year is over everywhere


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression in a zone. Moments are whole seconds since 1970, none of them negative."""

    expression: Expression
    zone: Zone

    def next(self, after: float) -> int | None:
        """The first moment it fires after this one; None when it never does again."""
        if after >= _LAST:
            return None
        moment = math.floor(max(after, -1)) + 1
        while True:
            stretch = self.zone.stretch(moment)
            local = self.expression.next_local(self._first(stretch, moment + stretch.offset))
            if local is None:
                return None
            found = local - stretch.offset
            if found < stretch.end:
                return found
            # Only clocks that are set back show a local time that is not later than all before; a long way off none of these matters.
            moment = max(stretch.end, found - _TURN) if stretch.end - moment > _TURN else stretch.end

    def previous(self, before: float) -> int | None:
        """The last moment it fires before this one; None when it never did."""
        moment = math.ceil(min(max(before, 0), _LAST)) - 1
        while moment >= 0:
            stretch = self.zone.stretch(moment)
            local = self.expression.previous_local(moment + stretch.offset)
            if local is None:
                return None
            found = local - stretch.offset
            if found >= stretch.start and local >= self._first(stretch, stretch.start + stretch.offset):
                return found if found >= 0 else None
            moment = min(stretch.start - 1, found + _TURN) if moment - stretch.start > _TURN else stretch.start - 1
        return None

    def between(self, start: float, end: float) -> Iterator[int]:
        """The moments it fires from `start` up to, and without, `end`."""
        if start >= end:
            return
        found = self.next(math.ceil(max(start, 0)) - 1)
        while found is not None and found < end:
            yield found
            found = self.next(found)

    def fires_at(self, moment: int) -> bool:
        """Whether this is a moment at which it fires."""
        return self.next(moment - 1) == moment

    def _first(self, stretch: Stretch, local: int) -> int:
        """The first local time from this one on that counts in a stretch."""
        return local if self.expression.by_elapsed_time else max(local, stretch.repeated)


@lru_cache(maxsize=4096)
def cron(text: str, timezone: str = "UTC") -> Cron:
    """Read an expression for a zone; see `expression.read`. Raises `Invalid` with the reason."""
    return Cron(expressions.read(text), zone(timezone))
