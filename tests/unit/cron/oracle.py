"""What cron expressions mean, said a second time and slowly.

Expressions are made here together with what holds for the moments they name, so nothing is parsed. Whether one fires is asked of every
second or minute in turn, as a clock in the zone shows it. None of it comes from the code it judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import strategies as st

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
YEARS = (1999, 2011, 2016, 2024, 2025, 2026, 2037)
HARD = ("Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll", "Asia/Gaza", "Europe/Dublin")
LEFT_OUT = ("right/", "posix/", "posixrules", "localtime", "Factory")

Holds = Callable[[datetime], bool]


@dataclass(frozen=True)
class Part:
    """The text of a field, or of one part of its list, and whether a moment has it."""

    text: str
    holds: Holds


ANY = Part("*", lambda _: True)
UNSAID = Part("?", lambda _: True)


@dataclass(frozen=True)
class Made:
    """An expression and what it means. Where both day fields name days, either will do."""

    second: Part
    minute: Part
    hour: Part
    day: Part
    month: Part
    weekday: Part
    year: Part
    fields: int = 7

    @property
    def text(self) -> str:
        """With as many fields as are asked for."""
        parts = (self.second, self.minute, self.hour, self.day, self.month, self.weekday, self.year)
        return " ".join(part.text for part in parts[self.fields == 5 : 7 if self.fields == 7 else 6])

    @property
    def by_elapsed_time(self) -> bool:
        """Whether it goes on through an hour that is there twice."""
        return self.minute.text.startswith("*") or all(self.hour.holds(datetime(2000, 1, 1, hour)) for hour in range(24))

    def on(self, day: datetime) -> bool:
        """Whether it fires on a day."""
        if not self.month.holds(day) or not self.year.holds(day):
            return False
        if self.day in (ANY, UNSAID) or self.weekday in (ANY, UNSAID):
            return self.day.holds(day) and self.weekday.holds(day)
        return self.day.holds(day) or self.weekday.holds(day)

    def at(self, shown: datetime) -> bool:
        """Whether it fires at what a clock shows, the day aside."""
        return self.minute.holds(shown) and self.hour.holds(shown) and self.second.holds(shown)

    def __repr__(self) -> str:
        return self.text


def walk(made: Made, clocks: list[tuple[int, datetime]]) -> list[int]:
    """The moments among these at which it fires."""
    twice = made.by_elapsed_time
    days = {shown.toordinal(): shown for _, shown in clocks}
    on = {number for number, shown in days.items() if made.on(shown)}
    return [moment for moment, shown in clocks if shown.toordinal() in on and (twice or not shown.fold) and made.at(shown)]


def clocks(zone: ZoneInfo, start: int, end: int, step: int = 60) -> list[tuple[int, datetime]]:
    """Moments from `start` up to, and without, `end`, and what clocks show then."""
    return [(moment, datetime.fromtimestamp(moment, zone)) for moment in range(start, end, step)]


# -- zones


@lru_cache(maxsize=1)
def zones() -> dict[str, tuple[int, ...]]:
    """A zone for every behaviour there is in some years, and when its clocks change in them."""
    found: dict[tuple[object, ...], tuple[str, tuple[int, ...]]] = {}
    for name in sorted(available_timezones(), key=lambda name: (name not in HARD, name)):
        if not name.startswith(LEFT_OUT):
            zone = ZoneInfo(name)
            changes = tuple(change for year in YEARS for change in _changes(zone, year))
            looks = (*(_midnight(year, 1, 1) for year in YEARS), *changes)
            behaviour = tuple((moment, _offset(zone, moment)) for moment in looks)
            found.setdefault(behaviour, (name, changes))
    return dict(found.values())


def _changes(zone: ZoneInfo, year: int) -> list[int]:
    """The moments in a year at which clocks are set; no zone does that twice within a day."""
    found = []
    day = _midnight(year, 1, 1)
    while day < _midnight(year + 1, 1, 1):
        low, high = day, day + 86_400
        if _offset(zone, low) != _offset(zone, high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == _offset(zone, day) else (low, middle)
            found.append(high)
        day += 86_400
    return found


def _offset(zone: ZoneInfo, moment: int) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


def _midnight(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


# -- what days are


def _day_after(day: datetime, days: int) -> datetime:
    return day.replace(tzinfo=None) + timedelta(days=days)


def last_day(back: int) -> Holds:
    """So many days before the last one of the month."""
    return lambda day: _day_after(day, back).month == day.month and _day_after(day, back + 1).month != day.month


def _working_days(day: datetime) -> list[int]:
    return [
        number for number in range(1, 32) if (one := _day_after(day, number - day.day)).month == day.month and one.strftime("%a")[0] != "S"
    ]


def last_working_day(day: datetime) -> bool:
    """The last day from Monday to Friday of the month."""
    return day.day == max(_working_days(day))


def nearest_working_day(number: int) -> Holds:
    """The day from Monday to Friday in the month that is nearest to a day of it."""
    return lambda day: (
        _day_after(day, number - day.day).month == day.month
        and day.day == min(_working_days(day), key=lambda working: abs(working - number))
    )


def _weekday(day: datetime) -> int:
    return (day.weekday() + 1) % 7


def nth(weekday: int, which: int) -> Holds:
    """The first, second, … such day of the week in the month."""
    return lambda day: _weekday(day) == weekday and (day.day - 1) // 7 + 1 == which


def last(weekday: int) -> Holds:
    """The last such day of the week in the month."""
    return lambda day: _weekday(day) == weekday and _day_after(day, 7).month != day.month


# -- expressions at random


@dataclass(frozen=True)
class Kind:
    """A kind of field: its bounds, what a moment has of it, and names for its values."""

    least: int
    most: int
    of: Callable[[datetime], int]
    names: tuple[str, ...] = ()
    turns: bool = True
    highest: int | None = None  # a number beyond the most that starts over: 7 is Sunday


SECOND = Kind(0, 59, lambda moment: moment.second)
MINUTE = Kind(0, 59, lambda moment: moment.minute)
HOUR = Kind(0, 23, lambda moment: moment.hour)
DAY = Kind(1, 31, lambda moment: moment.day, turns=False)
MONTH = Kind(1, 12, lambda moment: moment.month, MONTHS)
WEEKDAY = Kind(0, 6, _weekday, WEEKDAYS, highest=7)
YEAR = Kind(1970, 2199, lambda moment: moment.year, turns=False)


def named(kind: Kind, values: set[int], text: str) -> Part:
    """A part that names values."""
    return Part(text, lambda moment: kind.of(moment) in values)


def just(kind: Kind, *values: int) -> Part:
    """A list of numbers."""
    return named(kind, set(values), ",".join(map(str, values)))


@st.composite
def _written(draw: st.DrawFn, kind: Kind, number: int) -> tuple[int, str]:
    """A number as people write it, or a name. That names the first number of its value: 7 may be Sunday, but Sunday is 0."""
    name = kind.names[number % len(kind.names) - kind.least] if kind.names else ""
    text = draw(st.sampled_from([str(number), f"{number:02}", *([name, name.upper(), name.title()] if name else [])]))
    return (number, text) if text.isdigit() or number <= kind.most else (kind.least, text)


@st.composite
def parts(draw: st.DrawFn, kind: Kind, around: int | None = None) -> Part:
    """`a`, `a-b`, `a-b/n` or `a/n`; `a` and `b` near a value where one is given."""
    highest = kind.highest or kind.most
    number = st.integers(kind.least, highest) if around is None else st.integers(max(kind.least, around - 2), min(highest, around + 2))
    shape = draw(st.sampled_from(["a", "a", "a-b", "a-b/n", "a/n"]))
    drawn = [draw(number), draw(number)]
    if not kind.turns:
        drawn.sort()
    first, text = draw(_written(kind, drawn[0]))
    end = kind.most if shape == "a/n" else first
    if "-" in shape:
        end, written = draw(_written(kind, drawn[1]))
        text += f"-{written}"
    step = 1
    if "/" in shape:
        step = draw(st.integers(1, min(kind.most - kind.least, 25)))
        text += f"/{step}"
    return named(kind, _counted(kind, first, end, step), text)


def _counted(kind: Kind, first: int, end: int, step: int) -> set[int]:
    """The values from the first to the end, over the end of all values where that is before it."""
    values, round_trip = set(), list(range(kind.least, kind.most + 1))
    distance = end - first if end >= first else end - first + len(round_trip)
    for passed in range(0, distance + 1, step):
        values.add(round_trip[(first - kind.least + passed) % len(round_trip)])
    return values


@st.composite
def steps(draw: st.DrawFn, kind: Kind) -> Part:
    """`*/n`."""
    step = draw(st.integers(1, min(kind.most - kind.least, 30)))
    return named(kind, set(range(kind.least, kind.most + 1, step)), f"*/{step}")


def _joined(found: list[Part]) -> Part:
    return Part(",".join(part.text for part in found), lambda moment: any(part.holds(moment) for part in found))


def listed(part: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    """One, two or three of them."""
    return st.lists(part, min_size=1, max_size=3).map(_joined)


def fields(kind: Kind, around: int | None = None) -> st.SearchStrategy[Part]:
    """A field whose parts name values, all of them included."""
    return st.one_of(st.just(ANY), steps(kind), listed(parts(kind, around)), listed(st.one_of(steps(kind), parts(kind, around))))


@st.composite
def month_days(draw: st.DrawFn) -> Part:
    """A part of the field for the days of the month."""
    shape = draw(st.sampled_from(["number", "L", "L-n", "LW", "nW"]))
    if shape == "L":
        return Part(draw(st.sampled_from("lL")), last_day(0))
    if shape == "L-n":
        back = draw(st.integers(0, 30))
        return Part(f"L-{back}", last_day(back))
    if shape == "LW":
        return Part(draw(st.sampled_from(["LW", "lw"])), last_working_day)
    if shape == "nW":
        number = draw(st.integers(1, 31))
        return Part(f"{number}W", nearest_working_day(number))
    return draw(parts(DAY))


@st.composite
def week_days(draw: st.DrawFn) -> Part:
    """A part of the field for the days of the week."""
    shape = draw(st.sampled_from(["number", "n#k", "nL"]))
    if shape == "number":
        return draw(parts(WEEKDAY))
    weekday = draw(st.integers(0, 7))
    _, text = draw(_written(WEEKDAY, weekday))
    if shape == "nL":
        return Part(f"{text}L", last(weekday % 7))
    which = draw(st.integers(1, 5))
    return Part(f"{text}#{which}", nth(weekday % 7, which))


OPEN = st.sampled_from([ANY, UNSAID])
DAY_FIELDS = st.one_of(
    st.tuples(OPEN, OPEN),
    st.tuples(st.one_of(listed(month_days()), steps(DAY)), OPEN),
    st.tuples(OPEN, st.one_of(listed(week_days()), steps(WEEKDAY))),
    st.tuples(listed(month_days()), listed(week_days())),
)


ON_THE_MINUTE = st.just(just(SECOND, 0))
MINUTES, HOURS = fields(MINUTE), fields(HOUR)
MONTHS_OFTEN_ANY = st.one_of(st.just(ANY), fields(MONTH))
EVERY = st.just(ANY)


@st.composite
def expressions(
    draw: st.DrawFn,
    *,
    seconds: st.SearchStrategy[Part] = ON_THE_MINUTE,
    minutes: st.SearchStrategy[Part] = MINUTES,
    hours: st.SearchStrategy[Part] = HOURS,
    years: st.SearchStrategy[Part] = EVERY,
) -> Made:
    """Expressions of 5, 6 or 7 fields."""
    day, weekday = draw(DAY_FIELDS)
    second, year = draw(seconds), draw(years)
    least = 7 if year is not ANY else 6 if second.text != "0" else 5
    return Made(second, draw(minutes), draw(hours), day, draw(MONTHS_OFTEN_ANY), weekday, year, draw(st.integers(least, 7)))
