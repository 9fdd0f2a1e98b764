"""Schedules as EventBridge says them: expressions that wake the runner in every wanted minute, and in as few others as possible.

EventBridge has minutes as its finest grain, counts days of the week from 1 for Sunday, wants `?` for one of the two day fields, and takes
`L`, `W` and `#` only alone in their field. Rules know UTC and nothing else. So what it gets is the minutes that hold a wanted second, in
UTC for each offset that the zone has, or more than that: what wakes up looks at the schedule itself (`runner.py`). There is one expression,
or two where days of the month *and* of the week are given, for either is enough. A minute that both name comes twice, and is one run all
the same: runs are claimed by the time they were due.

What an offset takes over midnight takes its days, months and years along. Of the days of a month as EventBridge knows them only the first
stays one that can be said, as the last of the month before; the others widen to all days that they can be.

The offsets are those of some years from now on, as the zone's rules are known here. When a government changes them, what is said here
changes with the time zone data, and reconciling puts it in place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import count, groupby, pairwise

from mechaway_core.cron import Cron, cron
from mechaway_core.cron.expression import Days, Expression
from mechaway_core.cron.fields import DAY, HOUR, MINUTE, MONTH, YEAR, Field
from mechaway_core.cron.zones import Stretch, Zone

MOST = 256  # characters of a schedule expression in EventBridge

_AHEAD = 3  # years whose offsets count, and the last one
_SPARE = timedelta(days=7)  # by which the day on which clocks change moves from year to year
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAY = Field("day of the week", 1, 7)
_YEARS = frozenset(range(YEAR.least, YEAR.most + 1))
_LENGTHS = ((31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))  # in days, of each month


def eventbridge(text: str, timezone: str = "UTC", year: int | None = None) -> tuple[str, ...]:
    """What rules get: one or two `cron(…)` in UTC. `year` is the first whose offsets count, this one unless given.

    Raises `Invalid` when there is no such schedule.
    """
    return _in_utc(cron(text, timezone), year or datetime.now(UTC).year)


def scheduler(text: str, timezone: str = "UTC", year: int | None = None) -> tuple[tuple[str, str], ...]:
    """What Scheduler gets: one or two `cron(…)`, each with its zone: the schedule's own where both mean the same by it, or UTC.

    Scheduler skips a local time that does not exist and starts one that comes twice once ("Daylight savings time" in its User Guide). That
    is what we mean too, but for an expression that goes on by elapsed time through an hour that comes twice. Raises `Invalid`.
    """
    year = year or datetime.now(UTC).year
    schedule = cron(text, timezone)
    expression = schedule.expression
    if expression.by_elapsed_time and not _repeated(schedule.zone, _years(expression, year)).isdisjoint(expression.hours):
        return tuple((said, "UTC") for said in _in_utc(schedule, year))
    return tuple((said, timezone) for said in _in_utc(cron(text), year))


@lru_cache(maxsize=4096)
def _in_utc(schedule: Cron, year: int) -> tuple[str, ...]:
    expression = schedule.expression
    times = _Times()
    for offset, months in _offsets(schedule.zone, _years(expression, year)).items():
        if both := months.intersection(expression.months):
            times.add(expression, offset, both)
    said = []
    if expression.weekdays is None or expression.days is not None:
        said.append(_by_days(expression, times))
    if expression.weekdays is not None:
        said.append(_by_weekdays(expression, times))
    said = [one for one in said if one.months]  # one of the two day fields may name no day that there is
    every_day = [one for one in said if one.every_day]  # widened so far that the other adds nothing
    return tuple(dict.fromkeys(one.text() for one in every_day[:1] or said))


# -- offsets and times of the day


def _years(expression: Expression, year: int) -> tuple[int, ...]:
    """The years of an expression whose offsets count."""
    years = [one for one in expression.years if one >= year] or list(expression.years[-1:])
    return tuple(sorted({*years[:_AHEAD], years[-1]}))


@lru_cache(maxsize=1024)
def _offsets(zone: Zone, years: tuple[int, ...]) -> Mapping[int, frozenset[int]]:
    """The offsets of a zone in minutes, each with the months in which it may be."""
    found: dict[int, set[int]] = {}
    for stretch in _stretches(zone, years):
        for offset in {stretch.offset // 60, -(-stretch.offset // 60)}:
            found.setdefault(offset, set()).update(_months(stretch.start + stretch.offset, stretch.end + stretch.offset))
    return {offset: frozenset(months) for offset, months in found.items()}


@lru_cache(maxsize=1024)
def _repeated(zone: Zone, years: tuple[int, ...]) -> frozenset[int]:
    """The hours of the day with times that come twice on some day, because clocks are set back."""
    hours: set[int] = set()
    for stretch in _stretches(zone, years):
        hours.update(hour % 24 for hour in range((stretch.start + stretch.offset) // 3600, (stretch.repeated - 1) // 3600 + 1))
    return frozenset(hours)


def _stretches(zone: Zone, years: tuple[int, ...]) -> Iterator[Stretch]:
    """The stretches of one offset that years have a part in; what is before and after them is cut off."""
    for year in years:
        moment, end = _new_year(year) - 86_400, _new_year(year + 1) + 86_400
        while moment < end:
            stretch = zone.stretch(moment)
            yield stretch._replace(start=max(stretch.start, moment), end=min(stretch.end, end))
            moment = stretch.end


def _months(start: int, end: int) -> Iterator[int]:
    first, last = _EPOCH + timedelta(seconds=start) - _SPARE, _EPOCH + timedelta(seconds=end) + _SPARE
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield number % 12 + 1


def _new_year(year: int) -> int:
    return int((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())


class _Times:
    """Times of the day in UTC, and the days they are on: 0 for that of the place, -1 for the one before, with the months of each."""

    def __init__(self) -> None:
        self.minutes: set[int] = set()
        self.hours: set[int] = set()
        self.days: dict[int, set[int]] = {}

    def add(self, expression: Expression, offset: int, months: Iterable[int]) -> None:
        """Add the times of an expression at an offset that is there in some months."""
        hours, minutes = divmod(offset, 60)
        self.minutes.update((minute - minutes) % 60 for minute in expression.minutes)
        for borrowed in {int(minute < minutes) for minute in expression.minutes}:
            for hour in expression.hours:
                day, hour_there = divmod(hour - hours - borrowed, 24)
                self.hours.add(hour_there)
                self.days.setdefault(day, set()).update(months)

    @property
    def only(self) -> int | None:
        """The day that all of them are on."""
        return next(iter(self.days)) if len(self.days) == 1 else None


# -- days


class _Places:
    """The days in UTC that may be meant; years are -1 for the year before the one that is named, and 1 for the one after."""

    def __init__(self, times: _Times, possible: Callable[[int], set[int]]) -> None:
        """`possible` are the days that are meant at the place itself, in a month of so many days."""
        self.days: set[int] = set()
        self.months: set[int] = set()
        self.years: set[int] = set()
        there = {length: possible(length) for length in range(28, 32)}
        for shift, months in times.days.items():
            for length, days in there.items():
                moved = {day + shift for day in days}
                within = moved.intersection(range(1, length + 1))
                for month in months:
                    if length in _LENGTHS[month - 1]:
                        self._add(month, 0, within)
                        self._add(month, 1, {1} if length + 1 in moved else ())
                        self._add(month, -1, _LENGTHS[month - 2] if 0 in moved else ())

    def _add(self, month: int, after: int, days: Collection[int]) -> None:
        """Add days of the month that is so many after this one."""
        if days:
            year, month = divmod(month - 1 + after, 12)
            self.years.add(year)
            self.months.add(month + 1)
            self.days.update(days)


def _by_days(expression: Expression, times: _Times) -> _Said:
    days, special = expression.days, expression.special_days

    def possible(length: int) -> set[int]:
        if days is None:
            return set(range(1, length + 1))
        found = {day for day in days if day <= length} | {length - back for back in special.before_last if back < length}
        return found.union(*(_near(day, length) for day in special.nearest))

    places = _Places(times, possible)
    exact = None if days is None else _exact_day(days, special, times)
    return _Said.of(expression, times, places, exact if exact is not None else places.days, "?")


def _near(day: int, length: int) -> set[int]:
    """The days that the weekday nearest to a day can be."""
    day = day or length
    if day > length:
        return set()
    return {day for day in (day - 1, day, day + 1) if 1 <= day <= length} | ({3} if day == 1 else {day - 2} if day == length else set())


def _exact_day(days: frozenset[int], special: Days, times: _Times) -> str | None:
    """A single day as EventBridge says it, where it can."""
    if times.only == -1 and days == {1} and special == Days():
        return "L"
    if times.only != 0 or days:
        return None
    if special == Days(before_last=frozenset({0})):
        return "L"
    if len(special.nearest) == 1 and not special.before_last:
        [day] = special.nearest
        leap_day = day == 29 and 2 in times.days[0]  # what it is in other years is documented nowhere
        return f"{day}W" if day > 0 and not leap_day else None
    return None


def _by_weekdays(expression: Expression, times: _Times) -> _Said:
    weekdays, special = expression.weekdays or frozenset(), expression.special_weekdays

    def possible(length: int) -> set[int]:
        if weekdays:
            return set(range(1, length + 1))
        return {day for _, which in special.nth for day in _nth(which, length)}

    if times.only == 0 and not weekdays and len(special.nth) == 1:
        [(day, which)] = special.nth
        said: set[int] | str = f"{day + 1}L" if which < 0 else f"{day + 1}#{which}"
    else:
        said = {(day + shift) % 7 + 1 for day in (*weekdays, *(day for day, _ in special.nth)) for shift in times.days}
    return _Said.of(expression, times, _Places(times, possible), "?", said)


def _nth(which: int, length: int) -> range:
    return range(length - 6, length + 1) if which < 0 else range(7 * which - 6, min(7 * which, length) + 1)


# -- text


@dataclass(frozen=True, slots=True)
class _Said:
    """The fields of one expression: values, or a text that is all of them."""

    minutes: set[int]
    hours: set[int]
    days: set[int] | str
    months: set[int]
    weekdays: set[int] | str
    years: set[int]

    @classmethod
    def of(cls, expression: Expression, times: _Times, places: _Places, days: set[int] | str, weekdays: set[int] | str) -> _Said:
        """With the months and years of these days; seven days of the week are all days."""
        if isinstance(weekdays, set) and len(weekdays) == 7:
            days, weekdays = set(range(1, 32)), "?"
        years = {year + shift for year in expression.years for shift in places.years} & _YEARS
        if len(expression.years) == len(_YEARS) or not years:
            years = set(expression.years)
        return cls(times.minutes, times.hours, days, places.months, weekdays, years)

    @property
    def every_day(self) -> bool:
        """Whether it names all days that there are."""
        return isinstance(self.days, set) and (len(self.days), len(self.months), len(self.years)) == (31, 12, len(_YEARS))

    def text(self) -> str:
        """As EventBridge reads it; what would be too long has its gaps filled, the smallest first."""
        kinds = (MINUTE, HOUR, DAY, MONTH, _WEEKDAY, YEAR)
        values = [self.minutes, self.hours, self.days, self.months, self.weekdays, self.years]
        while True:
            fields = [one if isinstance(one, str) else _written(one, kind) for one, kind in zip(values, kinds, strict=True)]
            said = f"cron({' '.join(fields)})"
            if len(said) <= MOST:
                return said
            longest = max(range(len(fields)), key=lambda at: len(fields[at]))
            values[longest] = _with_gaps_filled(values[longest])


def _written(values: set[int], kind: Field) -> str:
    """Values as a step to the field's end, or as a list in which three and more that follow one another are a range."""
    if len(values) == kind.most - kind.least + 1:
        return "*"
    ordered = sorted(values)
    if len(ordered) > 2 and kind is not _WEEKDAY:
        step = ordered[1] - ordered[0]
        if step > 1 and ordered == list(range(ordered[0], kind.most + 1, step)):
            return f"{ordered[0]}/{step}"
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in _runs(ordered))


def _runs(ordered: list[int]) -> list[list[int]]:
    numbered = count()
    return [list(run) for _, run in groupby(ordered, key=lambda value: value - next(numbered))]


def _with_gaps_filled(values: set[int] | str) -> set[int]:
    """The values, and those in the smallest gaps between them."""
    runs = _runs(sorted(map(int, values)))
    gaps = [range(before[-1] + 1, after[0]) for before, after in pairwise(runs)]
    smallest = min(map(len, gaps))
    return {*(value for run in runs for value in run), *(value for gap in gaps if len(gap) == smallest for value in gap)}
