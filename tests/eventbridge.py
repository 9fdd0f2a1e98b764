"""EventBridge as its User Guide documents it: when a `cron(…)` of a rule fires, and one of Scheduler in its zone.

It is stricter than the guide where that leaves something open: `L`, `W` and `#` stand alone, `/` comes after one number, and what is no
documented form is an error.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Expression:
    """A `cron(…)`; days are told by `fires_on`."""

    minutes: frozenset[int]
    hours: frozenset[int]
    day: str
    months: frozenset[int]
    weekday: str
    years: frozenset[int]

    @classmethod
    def read(cls, text: str) -> Expression:
        """Raises `AssertionError` for what EventBridge would refuse."""
        assert len(text) <= 256, text
        match = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", text)
        assert match, text
        minute, hour, day, month, weekday, year = match.groups()
        assert (day == "?") != (weekday == "?"), text
        if day not in ("?", "L") and not re.fullmatch(r"\d+W", day):
            _values(day, 1, 31)
        if weekday != "?" and not re.fullmatch(r"[1-7](L|#[1-5])", weekday):
            assert "/" not in weekday, text
            _values(weekday, 1, 7)
        return cls(_values(minute, 0, 59), _values(hour, 0, 23), day, _values(month, 1, 12), weekday, _values(year, 1970, 2199))

    def fires_on(self, day: date) -> bool:
        """Whether it fires on a day at all."""
        return day.year in self.years and day.month in self.months and (self._day(day) if self.weekday == "?" else self._weekday(day))

    def times_of(self, day: date) -> Iterator[time]:
        """The times of a day at which it fires."""
        if self.fires_on(day):
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    yield time(hour, minute)

    def _day(self, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if self.day == "L":
            return day.day == last
        if self.day.endswith("W"):
            middle = int(self.day[:-1])
            assert middle <= last, "what W means on a day that the month does not have is documented nowhere"
            weekdays = [one for one in range(1, last + 1) if date(day.year, day.month, one).isoweekday() <= 5]
            return day.day == min(weekdays, key=lambda one: abs(one - middle))
        return day.day in _values(self.day, 1, 31)

    def _weekday(self, day: date) -> bool:
        number = day.isoweekday() % 7 + 1
        if self.weekday.endswith("L"):
            return number == int(self.weekday[0]) and (day + timedelta(days=7)).month != day.month
        if "#" in self.weekday:
            return number == int(self.weekday[0]) and (day.day - 1) // 7 + 1 == int(self.weekday[2])
        return number in _values(self.weekday, 1, 7)


def _values(text: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\*|(\d+)(?:-(\d+)|/(\d+))?", part)
        assert match, text
        if part == "*":
            assert text == "*"
            found.update(range(least, most + 1))
            continue
        low = int(match[1])
        high = int(match[2] or (most if match[3] else low))
        assert least <= low <= high <= most, text
        found.update(range(low, high + 1, int(match[3] or 1)))
    return frozenset(found)


def rule_fires(text: str, start: datetime, end: datetime) -> list[int]:
    """The minutes, in seconds since 1970, in which a rule fires from `start` up to, and without, `end`."""
    return scheduler_fires(text, "UTC", start, end)


def scheduler_fires(text: str, zone: str, start: datetime, end: datetime) -> list[int]:
    """The same for Scheduler: a local time that does not exist is skipped, one that comes twice counts at first."""
    expression, there = Expression.read(text), UTC if zone == "UTC" else ZoneInfo(zone)
    found = []
    day = start.astimezone(there).date() - timedelta(days=2)
    while day <= end.astimezone(there).date() + timedelta(days=2):
        for at in expression.times_of(day):
            local = datetime.combine(day, at, there)
            moment = local.astimezone(UTC)
            if start <= moment < end and (there is UTC or moment.astimezone(there).replace(tzinfo=None) == local.replace(tzinfo=None)):
                found.append(int(moment.timestamp()))
        day += timedelta(days=1)
    return found
