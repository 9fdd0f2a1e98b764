"""Expressions at random mean what the oracle says they mean, in every zone and around every change of its clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mechaway_core.cron import Cron, cron
from mechaway_core.errors import Invalid
from tests.unit.cron.oracle import (
    ANY,
    HARD,
    HOUR,
    MINUTE,
    SECOND,
    UNSAID,
    YEAR,
    YEARS,
    Made,
    Part,
    clocks,
    expressions,
    fields,
    just,
    last_day,
    listed,
    named,
    parts,
    steps,
    walk,
    zones,
)

DAY = 86_400
HOUR_LONG = 3600


def proved(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def read(made: Made, zone: str) -> Cron:
    """The expression; one that is refused names no day in all the kinds of years there are."""
    try:
        return cron(made.text, zone)
    except Invalid as error:
        if "no day that there ever is" not in str(error):
            raise
        begin = datetime(2000, 1, 1)
        assert not any(made.on(begin + timedelta(days=day)) for day in range(28 * 366))
        assume(False)
        raise


def agree(made: Made, zone: str, start: int, end: int, step: int, shown: list[tuple[int, datetime]] | None = None) -> int:
    """The oracle and the schedule agree within a window; how many moments there are at which it fires."""
    schedule = read(made, zone)
    wanted = walk(made, clocks(ZoneInfo(zone), start, end, step) if shown is None else shown)
    assert list(schedule.between(start, end)) == wanted
    assert set(schedule.expression.seconds) == {second for second in range(60) if made.second.holds(datetime(2000, 1, 1, 0, 0, second))}
    some = wanted if len(wanted) < 6 else [*wanted[:2], wanted[len(wanted) // 2], *wanted[-2:]]
    asked = {start, end, *range(start, end, (end - start) // 7), *(moment + near for moment in some for near in (-1, 0, 1))}
    for moment in sorted(asked):
        later = next((one for one in wanted if one > moment), None)
        following = schedule.next(moment)
        assert following == later if later is not None else following is None or following >= end, moment
        assert moment < start or moment >= end or schedule.fires_at(moment) == (moment in set(wanted)), moment
        earlier = next((one for one in reversed(wanted) if one < moment), None)
        before = schedule.previous(moment)
        assert before == earlier if earlier is not None else before is None or before < start, moment
    return len(wanted)


ZONES = st.deferred(lambda: st.sampled_from(list(zones())))
TIMES = st.integers(1_000_000_000, 7_200_000_000)  # from then on all zones are whole minutes from UTC


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a moment at which its clocks change; where they never do, any moment."""
    name = draw(ZONES)
    of_zone = zones()[name]
    return name, draw(st.sampled_from(of_zone) if of_zone else TIMES)


@proved(200)
@given(st.data(), changes())
def test_around_a_change_of_the_clocks_it_fires_as_the_oracle_says(data: st.DataObject, change: tuple[str, int]) -> None:
    zone, moment = change
    hour = datetime.fromtimestamp(moment - 1, ZoneInfo(zone)).hour
    near = st.one_of(st.just(ANY), listed(parts(HOUR, hour)), st.just(named(HOUR, set(range(24)), "0-23")))
    made = data.draw(expressions(hours=near))
    start = moment // 60 * 60 - 5 * HOUR_LONG
    agree(made, zone, start, start + 10 * HOUR_LONG, 60)


@proved(60)
@given(st.data(), changes())
def test_seconds_around_a_change_of_the_clocks(data: st.DataObject, change: tuple[str, int]) -> None:
    zone, moment = change
    hour = datetime.fromtimestamp(moment - 1, ZoneInfo(zone)).hour
    made = data.draw(
        expressions(
            seconds=fields(SECOND),
            minutes=st.one_of(st.just(ANY), st.just(just(MINUTE, 0, 10, 50)), fields(MINUTE)),
            hours=st.one_of(st.just(ANY), listed(parts(HOUR, hour))),
        )
    )
    agree(made, zone, moment - 2000, moment + 2000, 1)


@proved(100)
@given(expressions(), ZONES, TIMES)
def test_some_days_anywhere_at_any_time(made: Made, zone: str, moment: int) -> None:
    start = moment // 60 * 60
    agree(made, zone, start, start + DAY + 5 * HOUR_LONG, 60)


QUARTERS = st.sampled_from([just(MINUTE, 0), just(MINUTE, 15), just(MINUTE, 30, 45)])


@proved(25)
@given(
    expressions(
        minutes=QUARTERS,
        hours=st.one_of(listed(parts(HOUR)), steps(HOUR)),
        years=st.one_of(st.just(ANY), listed(parts(YEAR, 2025))),
    ),
    ZONES,
    st.sampled_from(YEARS),
)
def test_the_days_of_a_year(made: Made, zone: str, year: int) -> None:
    """Clocks stand a number of quarters of an hour from UTC, so a walk in these passes every moment."""
    start = int(datetime(year, 1, 1).timestamp()) // 900 * 900
    agree(made, zone, start, start + 370 * DAY, 900)


def around(hour: int) -> list[Made]:
    """Expressions that come upon a change of the clocks in some hour."""
    before, after = (hour - 1) % 24, (hour + 1) % 24
    minutes = just(MINUTE, 0, 5, 45)
    return [
        Made(just(SECOND, 0), minutes, just(HOUR, hour), ANY, ANY, ANY, ANY),
        Made(just(SECOND, 0), minutes, just(HOUR, before, hour, after), UNSAID, ANY, ANY, ANY, 5),
        Made(just(SECOND, 0), named(MINUTE, {0, 25, 50}, "*/25"), just(HOUR, hour), ANY, ANY, ANY, ANY, 6),
        Made(just(SECOND, 0), just(MINUTE, 7), ANY, ANY, ANY, ANY, ANY, 5),
        Made(just(SECOND, 0), just(MINUTE, 0), just(HOUR, 0), Part("L", last_day(0)), ANY, UNSAID, ANY, 5),
        Made(just(SECOND, 0), just(MINUTE, 59), just(HOUR, *range(24)), ANY, ANY, ANY, ANY),
    ]


@pytest.mark.parametrize("part", range(4))
def test_every_zone_over_all_its_changes(part: int) -> None:
    fired = seen = 0
    for zone, moments in list(zones().items())[part::4]:
        info = ZoneInfo(zone)
        for moment in moments:
            seen += 1
            turn = abs(int((_offset(info, moment) - _offset(info, moment - 1)).total_seconds()))
            start, end = moment // 60 * 60 - turn - 7200, moment // 60 * 60 + turn + 7200
            shown = clocks(info, start, end)
            for made in around(datetime.fromtimestamp(moment - 1, info).hour):
                fired += agree(made, zone, start, end, 60, shown)
    assert seen > 100
    assert fired > seen


def _offset(zone: ZoneInfo, moment: int) -> timedelta:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    assert offset is not None
    return offset


def test_the_zones_are_those_that_are_hard() -> None:
    """Half an hour, two hours and a whole day; and zones of a name of their own, of which clocks are set."""
    behaviours = {name: {_turn(name, moment) for moment in moments} for name, moments in zones().items()}
    turns = set().union(*behaviours.values())
    assert {timedelta(minutes=30), timedelta(minutes=-30), timedelta(hours=2), timedelta(hours=-2), timedelta(days=1)} <= turns
    assert len(behaviours) > 100
    for name in HARD:
        assert behaviours[name], name


def _turn(zone: str, moment: int) -> timedelta:
    return _offset(ZoneInfo(zone), moment) - _offset(ZoneInfo(zone), moment - 1)


ONE_HOUR = st.integers(0, 23).map(lambda hour: just(HOUR, hour))


@proved(20)
@given(expressions(minutes=QUARTERS, hours=ONE_HOUR), ZONES, st.integers(1999, 2150))
def test_what_fires_rarely_is_found_years_away(made: Made, zone: str, year: int) -> None:
    """The days of some years first, and then the quarters of an hour of the days that it names: no walk passes years of them."""
    schedule, info = read(made, zone), ZoneInfo(zone)
    begin = datetime(year, 1, 1)
    days = [day for number in range(9 * 365) if made.on(day := begin + timedelta(days=number))][:8]
    wanted = [moment for day in days for moment in walk(made, _clocks_of(day, info))]
    moment = int(begin.replace(tzinfo=info).timestamp()) - 1
    for later in wanted:
        assert schedule.next(moment) == later
        assert moment not in wanted or schedule.previous(later) == moment
        moment = later


def _clocks_of(day: datetime, zone: ZoneInfo) -> list[tuple[int, datetime]]:
    """A day in the zone, in quarters of an hour."""
    noon = int(day.replace(hour=12, tzinfo=UTC).timestamp())
    return [(moment, shown) for moment, shown in clocks(zone, noon - 2 * DAY, noon + 2 * DAY, 900) if shown.date() == day.date()]
