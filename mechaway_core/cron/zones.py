"""Time zones as stretches of time in which the clocks of a place keep one offset from UTC."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from mechaway_core.cron.fields import quoted
from mechaway_core.errors import Invalid
from mechaway_core.names import did_you_mean

_STEP = 3 * 86_400  # seconds between two looks for a change of the clocks; since 1970 no zone has had two within 6 days
_NO_ZONES = (
    "right/",
    "posix/",
    "posixrules",
    "localtime",
    "factory",
)  # files beside the zones: what they are differs from machine to machine
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stretch(NamedTuple):
    """From `start` up to `end`, seconds since 1970, clocks show that much plus `offset`.

    Local times before `repeated` (seconds as of the clocks) were there before: the clocks were set back at the start.
    """

    start: int
    end: int
    offset: int
    repeated: int


class Zone:
    """An IANA time zone."""

    def __init__(self, name: str) -> None:
        """Raises `Invalid`, with the nearest name, when there is no such zone."""
        try:
            if not name.isascii() or name.lower().startswith(_NO_ZONES):
                raise ValueError
            self._info = zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            near = did_you_mean(name, sorted(zone for zone in zoneinfo.available_timezones() if not zone.lower().startswith(_NO_ZONES)))
            raise Invalid(f'there is no time zone "{quoted(name)}"{near}') from None
        self.name = name
        self._years: dict[int, list[tuple[int, int]]] = {}

    def offset(self, moment: int) -> int:
        """What clocks show beside UTC, in seconds, at a moment in seconds since 1970."""
        offset = datetime.fromtimestamp(moment, self._info).utcoffset()
        return 0 if offset is None else offset.days * 86_400 + offset.seconds

    def stretch(self, moment: int) -> Stretch:
        """The stretch that a moment is in. One without a change within some years is cut: what follows has the same offset."""
        offset = self.offset(moment)
        start = self._change_before(moment)
        before = self.offset(start - 1)
        return Stretch(start, self._change_after(moment), offset, start + before if before > offset else start + offset)

    def _change_after(self, moment: int) -> int:
        year = (_EPOCH + timedelta(seconds=moment)).year
        for changes in (self._changes(year), self._changes(year + 1)):
            for at, _ in changes:
                if at > moment:
                    return at
        return _new_year(year + 2)

    def _change_before(self, moment: int) -> int:
        year = (_EPOCH + timedelta(seconds=moment)).year
        for changes in (self._changes(year), self._changes(year - 1)):
            for at, _ in reversed(changes):
                if at <= moment:
                    return at
        return _new_year(year - 1)

    def _changes(self, year: int) -> list[tuple[int, int]]:
        """When in a year the offset changes, and to what."""
        known = self._years.get(year)
        if known is None:
            known = self._years[year] = list(self._found(year))
        return known

    def _found(self, year: int) -> Iterator[tuple[int, int]]:
        at, end = _new_year(year), _new_year(year + 1)
        offset = self.offset(at - 1)
        while at < end:
            following = min(at + _STEP, end)
            ends = self.offset(following - 1)
            if ends != offset:
                low, high = at, following - 1  # the change is at one of these
                while low < high:
                    middle = (low + high) // 2
                    low, high = (low, middle) if self.offset(middle) != offset else (middle + 1, high)
                yield low, ends
                offset = ends
            at = following


@lru_cache(maxsize=1024)
def zone(name: str) -> Zone:
    """The zone of this name. Raises `Invalid`."""
    return Zone(name)


def _new_year(year: int) -> int:
    return int((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
