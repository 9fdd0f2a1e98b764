"""When a trigger is due, and what becomes of the times at which nobody looked.

A run is *due* at a moment that the schedule names. It may begin up to `grace` seconds late; a due time that is older than that has been
missed, and `catch_up` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo

from mechaway_core.cron import Cron, cron

MOST_CAUGHT_UP = 100  # runs for times that were missed
MOST_COUNTED = 10_000  # times that were missed; more are not counted

_LATEST = datetime(2200, 1, 1, tzinfo=UTC).timestamp()  # no schedule names a year behind it
_INSTANT = 1e-3  # seconds: less than lies between two moments, more than a float loses


@dataclass(frozen=True, slots=True)
class Missed:
    """What becomes of the due times since somebody looked last: those to run, oldest first, and how many were missed for good."""

    run: tuple[int, ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """What a trigger asks of the clock. Moments and spans in seconds, moments since 1970."""

    cron: Cron
    starts_at: float | None
    ends_at: float | None
    grace: float
    catch_up: Literal["skip", "last", "all"]
    overlap: Literal["allow", "skip", "queue", "cancel_previous"]
    jitter: float

    @classmethod
    def read(cls, params: Any) -> Timing:
        """From the params of a `CronTrigger`. Raises `Invalid`."""
        schedule = cron(params.schedule, params.timezone)
        start, end = (None if text is None else moment_of(text, params.timezone) for text in (params.starts_at, params.ends_at))
        return cls(schedule, start, end, params.grace, params.catch_up, params.overlap, params.jitter)

    def next(self, after: float) -> int | None:
        """The first moment it is due after this one; None when it never is again."""
        if self.starts_at is not None:
            after = max(after, self.starts_at - _INSTANT)
        due = self.cron.next(after)
        return due if due is not None and (self.ends_at is None or due < self.ends_at) else None

    def between(self, start: float, end: float) -> Iterator[int]:
        """The moments it is due from `start` up to, and without, `end`."""
        due = self.next(start - _INSTANT)
        while due is not None and due < end:
            yield due
            due = self.next(due)

    def latest(self, after: float, before: float, most: int) -> list[int]:
        """The last moments, `most` at most, that it is due after one moment and before another, oldest first."""
        found: list[int] = []
        due = self.cron.previous(before if self.ends_at is None else min(before, self.ends_at))
        while due is not None and due > after and len(found) < most and (self.starts_at is None or due >= self.starts_at):
            found.append(due)
            due = self.cron.previous(due)
        return found[::-1]

    def since(self, looked: float, now: float) -> Missed:
        """What becomes of the moments due after `looked` and not after `now`."""
        edge = max(looked, now - self.grace - _INSTANT)
        run = self.latest(edge, now + _INSTANT, MOST_CAUGHT_UP)
        count = sum(1 for _ in islice(self.between(looked + _INSTANT, edge + _INSTANT), MOST_COUNTED))
        most = {"skip": 0, "last": 1, "all": MOST_CAUGHT_UP}[self.catch_up]
        again = self.latest(looked, edge + _INSTANT, most) if count and most else []
        return Missed((*again, *run), count - len(again))


def moment_of(text: str, timezone: str) -> float | None:
    """The moment of a time in ISO 8601 from 1970 to 2199, in seconds since 1970; without an offset it is in the zone. Else None."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(timezone))
        seconds = moment.timestamp()
    except (ValueError, OverflowError, OSError, KeyError):
        return None
    return seconds if 0 <= seconds < _LATEST else None
