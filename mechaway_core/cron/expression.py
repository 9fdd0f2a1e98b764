"""Cron expressions: read once into sets of values, asked for the next and the previous local time that they name.

Local time is counted in seconds since 1970-01-01 00:00 of the place itself, as if it had no zone; `schedule.py` puts it into one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from mechaway_core.cron.fields import DAY, HOUR, MINUTE, MONTH, SECOND, WEEKDAY, YEAR, Field, quoted
from mechaway_core.errors import Invalid
from mechaway_core.names import did_you_mean

DAY_SECONDS = 86_400
MOST_LENGTH = 512
MOST_KNOWN = 4  # months

_EPOCH = date(YEAR.least, 1, 1).toordinal()
_LAST = date(YEAR.most, 12, 31).toordinal() - _EPOCH
_SPACES = "\t\r\n"
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LAST_DAY = re.compile(r"L(?:-(\d{1,2}))?", re.ASCII)
_NEAREST = re.compile(r"(\d{1,2})W", re.ASCII)
_LAST_WEEKDAY = re.compile(r"(\w+)L", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(\w+)#(\w+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a month that a day field names besides those by their number.

    `before_last`: so many days before the last one. `nearest`: the weekday (Monday to Friday) of the month nearest to a day, 0 for its last
    weekday. `nth`: (day of the week, which one of the month), -1 for the last.
    """

    before_last: frozenset[int] = frozenset()
    nearest: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()

    def of(self, year: int, month: int, length: int) -> set[int]:
        """The days of a month that has `length` days."""
        found = {length - back for back in self.before_last if back < length}
        found |= {_nearest_weekday(year, month, day, length) for day in self.nearest if day <= length}
        for weekday, which in self.nth:
            first = 1 + (weekday - _weekday(year, month, 1)) % 7
            day = first + 7 * (which - 1) if which > 0 else first + (length - first) // 7 * 7
            if day <= length:
                found.add(day)
        return found


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression as values in their order. `days` and `weekdays` are None where the field names none in particular.

    `text` is the expression as written, `fields` its seven fields: second, minute, hour, day of the month, month, day of the week, year.
    """

    text: str
    fields: tuple[str, ...]
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int] | None
    months: tuple[int, ...]
    weekdays: frozenset[int] | None
    years: tuple[int, ...]
    special_days: Days
    special_weekdays: Days
    _known: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)  # days of months asked lately

    @property
    def by_elapsed_time(self) -> bool:
        """Whether it goes on through an hour that a clock change repeats: one that names no hours, or steps through the minutes."""
        return len(self.hours) == 24 or self.fields[1].startswith("*")

    @property
    def per_minute(self) -> int:
        """How often it fires within a minute in which it fires at all."""
        return len(self.seconds)

    def next_local(self, local: int) -> int | None:
        """The first local time it names that is not before `local`; None when there is none."""
        number, second = divmod(local, DAY_SECONDS)
        day = self._next_day(number)
        if day == number:
            time = self._time_from(second)
            if time is not None:
                return day * DAY_SECONDS + time
            day = self._next_day(number + 1)
        if day is None:
            return None
        return day * DAY_SECONDS + self.hours[0] * 3600 + self.minutes[0] * 60 + self.seconds[0]

    def previous_local(self, local: int) -> int | None:
        """The last local time it names that is not after `local`; None when there is none."""
        number, second = divmod(local, DAY_SECONDS)
        day = self._previous_day(number)
        if day == number:
            time = self._time_until(second)
            if time is not None:
                return day * DAY_SECONDS + time
            day = self._previous_day(number - 1)
        if day is None:
            return None
        return day * DAY_SECONDS + self.hours[-1] * 3600 + self.minutes[-1] * 60 + self.seconds[-1]

    def days_of(self, year: int, month: int) -> tuple[int, ...]:
        """The days of a month on which it fires, in their order."""
        known = self._known.get((year, month))
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[year, month] = tuple(sorted(self._days_of(year, month)))
        return known

    def _days_of(self, year: int, month: int) -> set[int]:
        length = _length(year, month)
        found: set[int] = set()
        if self.days is None and self.weekdays is None:
            found.update(range(1, length + 1))
        if self.days is not None:
            found |= {day for day in self.days if day <= length} | self.special_days.of(year, month, length)
        if self.weekdays is not None:
            first = _weekday(year, month, 1)
            found |= {day for day in range(1, length + 1) if (first + day - 1) % 7 in self.weekdays}
            found |= self.special_weekdays.of(year, month, length)
        return found

    def _time_from(self, second: int) -> int | None:
        hour, minute, second = second // 3600, second // 60 % 60, second % 60
        if hour in self.hours:
            if minute in self.minutes and second <= self.seconds[-1]:
                return hour * 3600 + minute * 60 + self.seconds[bisect_left(self.seconds, second)]
            at = bisect_right(self.minutes, minute)
            if at < len(self.minutes):
                return hour * 3600 + self.minutes[at] * 60 + self.seconds[0]
        at = bisect_right(self.hours, hour)
        return self.hours[at] * 3600 + self.minutes[0] * 60 + self.seconds[0] if at < len(self.hours) else None

    def _time_until(self, second: int) -> int | None:
        hour, minute, second = second // 3600, second // 60 % 60, second % 60
        if hour in self.hours:
            if minute in self.minutes and second >= self.seconds[0]:
                return hour * 3600 + minute * 60 + self.seconds[bisect_right(self.seconds, second) - 1]
            at = bisect_left(self.minutes, minute)
            if at:
                return hour * 3600 + self.minutes[at - 1] * 60 + self.seconds[-1]
        at = bisect_left(self.hours, hour)
        return self.hours[at - 1] * 3600 + self.minutes[-1] * 60 + self.seconds[-1] if at else None

    def _next_day(self, number: int) -> int | None:
        """The first day on which it fires, not before this one; days are counted from 1970-01-01."""
        if number > _LAST:
            return None
        asked = date.fromordinal(max(number, 0) + _EPOCH)
        for year in self.years[bisect_left(self.years, asked.year) :]:
            for month in self.months:
                begin = 1
                if year == asked.year:
                    if month < asked.month:
                        continue
                    begin = asked.day if month == asked.month else 1
                days = self.days_of(year, month)
                at = bisect_left(days, begin)
                if at < len(days):
                    return date(year, month, days[at]).toordinal() - _EPOCH
        return None

    def _previous_day(self, number: int) -> int | None:
        """The last day on which it fires, not after this one."""
        if number < 0:
            return None
        asked = date.fromordinal(min(number, _LAST) + _EPOCH)
        for year in reversed(self.years[: bisect_right(self.years, asked.year)]):
            for month in reversed(self.months):
                end = 31
                if year == asked.year:
                    if month > asked.month:
                        continue
                    end = asked.day if month == asked.month else 31
                days = self.days_of(year, month)
                at = bisect_right(days, end)
                if at:
                    return date(year, month, days[at - 1]).toordinal() - _EPOCH
        return None


def read(text: str) -> Expression:
    """Read an expression of 5 fields, 6 with seconds first, 7 with the year last, or a nickname such as `@daily`.

    Raises `Invalid` with the reason, also for one that names no day there ever is.
    """
    refuse = _refuser(text)
    if len(text) > MOST_LENGTH:
        raise refuse(f"it is longer than {MOST_LENGTH} characters")
    if strange := [character for character in text if character not in _SPACES and not " " <= character <= "~"]:
        raise refuse(f"it holds the character U+{ord(strange[0]):04X}, which has no meaning in a schedule")
    second, minute, hour, day, month, weekday, year = fields = _fields(text, refuse)
    days, special_days = _days(day, DAY, _special_day, refuse)
    weekdays, special_weekdays = _days(weekday, WEEKDAY, _special_weekday, refuse)
    if days is not None and weekdays is not None and ("*" in day or "*" in weekday):
        raise refuse(
            "a step such as */2 in one day field beside days in the other means both to some crons and either to others; "
            "for either, write the days of the step as a range, such as 1-31/2"
        )
    if _all_of(days, DAY) or _all_of(weekdays, WEEKDAY):  # the other field adds nothing
        days, weekdays, special_days, special_weekdays = None, None, Days(), Days()
    expression = Expression(
        text=text,
        fields=fields,
        seconds=_in_order(SECOND.values(second, refuse)),
        minutes=_in_order(MINUTE.values(minute, refuse)),
        hours=_in_order(HOUR.values(hour, refuse)),
        days=days,
        months=_in_order(MONTH.values(month, refuse)),
        weekdays=weekdays,
        years=_in_order(YEAR.values(year, refuse)),
        special_days=special_days,
        special_weekdays=special_weekdays,
    )
    if not _names_a_day(expression):
        raise refuse("it names no day that there ever is")
    return expression


@lru_cache(maxsize=4096)
def _in_order(values: frozenset[int]) -> tuple[int, ...]:
    """The values from the least on. Expressions mostly share theirs: all years alone would be 8 KB for each."""
    return tuple(sorted(values))


def _refuser(text: str) -> Callable[[str], Invalid]:
    return lambda why: Invalid(f'the schedule "{quoted(text)}" cannot be read: {why}')


def _fields(text: str, refuse: Callable[[str], Invalid]) -> tuple[str, ...]:
    """The seven fields."""
    said = text.strip()
    if said.startswith("@"):
        known = _NICKNAMES.get(said.lower())
        if known is None:
            raise refuse(f"there are {', '.join(_NICKNAMES)}{did_you_mean(said, _NICKNAMES)}")
        said = known
    fields = said.upper().split()
    if len(fields) not in (5, 6, 7):
        raise refuse(
            f"it has {len(fields)} field{'' if len(fields) == 1 else 's'}; it must have 5, or 6 with seconds first, or 7 with the year last"
        )
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) == 6:
        fields.append("*")
    for place, kind in enumerate((SECOND, MINUTE, HOUR, None, MONTH, None, YEAR)):
        if kind is not None and "?" in fields[place]:
            raise refuse(f'"?" can only stand for a day; for every {kind.name} write *')
        if "?" in fields[place] and fields[place] != "?":
            raise refuse(f'"{quoted(fields[place], 20)}" is no day: "?" stands alone')
    return tuple(fields)


_Special = Callable[[str, Callable[[str], Invalid]], Days | None]


def _days(text: str, kind: Field, special: _Special, refuse: Callable[[str], Invalid]) -> tuple[frozenset[int] | None, Days]:
    """The days that a day field names by their number, and the others; None and no others where it leaves the choice to the other field."""
    numbered: set[int] = set()
    others = Days()
    for part in text.split(","):
        found = special(part, refuse)
        if found is None:
            numbered.update(kind.part(part, refuse))
        else:
            others = Days(others.before_last | found.before_last, others.nearest | found.nearest, others.nth | found.nth)
    if ("*" in text or "?" in text) and _all_of(numbered, kind):
        return None, Days()
    return frozenset(numbered), others


def _all_of(days: Set[int] | None, kind: Field) -> bool:
    return days is not None and len(days) == kind.most - kind.least + 1


def _names_a_day(expression: Expression) -> bool:
    """Whether there is such a day. Years of one length that begin on one day of the week have the same days."""
    seen: set[tuple[int, int]] = set()
    for year in expression.years:
        kind = (_length(year, 2), _weekday(year, 1, 1))
        if kind not in seen:
            seen.add(kind)
            if any(expression.days_of(year, month) for month in expression.months):
                return True
    return False


def _special_day(part: str, refuse: Callable[[str], Invalid]) -> Days | None:
    if part in ("LW", "WL"):
        return Days(nearest=frozenset({0}))
    if match := _LAST_DAY.fullmatch(part):
        back = int(match[1] or 0)
        if back > 30:
            raise refuse(f'"{part}" is no day of a month')
        return Days(before_last=frozenset({back}))
    if match := _NEAREST.fullmatch(part):
        return Days(nearest=frozenset({DAY.value(match[1], refuse)}))
    return None


def _special_weekday(part: str, refuse: Callable[[str], Invalid]) -> Days | None:
    if part == "L":
        raise refuse('"L" alone is no day of the week; write FRIL for the last Friday of the month, or SAT')
    if match := _NTH_WEEKDAY.fullmatch(part):
        if match[2] not in ("1", "2", "3", "4", "5"):
            raise refuse(f'"{quoted(part, 20)}" is no day: a month has a weekday up to 5 times')
        return Days(nth=frozenset({(WEEKDAY.value(match[1], refuse), int(match[2]))}))
    if part not in WEEKDAY.words and (match := _LAST_WEEKDAY.fullmatch(part)):
        return Days(nth=frozenset({(WEEKDAY.value(match[1], refuse), -1)}))
    return None


def _length(year: int, month: int) -> int:
    following = date(year + month // 12, month % 12 + 1, 1)
    return (following - date(year, month, 1)).days


def _weekday(year: int, month: int, day: int) -> int:
    """From 0 for Sunday."""
    return date(year, month, day).isoweekday() % 7


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    """The day from Monday to Friday nearest to this one, within the month; 0 is the last of the month."""
    day = day or length
    weekday = _weekday(year, month, day)
    if weekday == 6:  # Saturday: the Friday before, or the Monday after when that would be in the month before
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day
