"""Answers that anybody can look up in a calendar: leap days, borders of months and years, changes of the clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from mechaway_core.cron import cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def fires(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next fires after a time in the zone, as a clock there shows them; on the way back the same."""
    schedule = cron(expression, zone)
    start = int(datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).timestamp())
    found = list(islice(schedule.between(start + 1, math.inf), count))
    for earlier, later in pairwise(found):
        assert schedule.previous(later) == earlier
        assert schedule.next(earlier) == later
    return [datetime.fromtimestamp(one, ZoneInfo(zone)).isoformat() for one in found]


@pytest.mark.parametrize(
    ("expression", "after", "days"),
    [
        ("0 0 29 2 *", "2024-03-01", ["2028-02-29", "2032-02-29"]),
        ("0 0 29 2 *", "2093-01-01", ["2096-02-29", "2104-02-29"]),
        ("0 0 * 2 MON#5", "2016-03-01", ["2044-02-29", "2072-02-29"]),
        ("0 0 29 2 MON", "2028-02-15", ["2028-02-21", "2028-02-28", "2028-02-29", "2029-02-05"]),
        ("0 0 L 2 *", "2023-01-01", ["2023-02-28", "2024-02-29", "2025-02-28"]),
        ("0 0 L-1 2 *", "2023-01-01", ["2023-02-27", "2024-02-28"]),
        ("0 0 L-30 * *", "2025-01-01", ["2025-03-01", "2025-05-01", "2025-07-01"]),
        ("0 0 31 * *", "2025-01-01", ["2025-01-31", "2025-03-31", "2025-05-31", "2025-07-31", "2025-08-31"]),
        ("0 0 30 1-3 *", "2025-01-01", ["2025-01-30", "2025-03-30", "2026-01-30"]),
        ("0 0 L * *", "2025-03-31", ["2025-04-30", "2025-05-31", "2025-06-30"]),
        ("0 0 1W * *", "2025-01-31", ["2025-02-03", "2025-03-03", "2025-04-01", "2025-05-01", "2025-06-02"]),
        ("0 0 15W * *", "2025-06-01", ["2025-06-16", "2025-07-15", "2025-08-15", "2025-09-15", "2025-10-15", "2025-11-14"]),
        ("0 0 31W * *", "2025-04-01", ["2025-05-30", "2025-07-31", "2025-08-29", "2025-10-31"]),
        ("0 0 30W 11 *", "2025-01-01", ["2025-11-28", "2026-11-30"]),
        ("0 0 LW * *", "2025-07-01", ["2025-07-31", "2025-08-29", "2025-09-30", "2025-10-31", "2025-11-28"]),
        ("0 0 LW 2 *", "2026-01-01", ["2026-02-27", "2027-02-26", "2028-02-29"]),
        ("0 0 L,LW * *", "2025-11-01", ["2025-11-28", "2025-11-30", "2025-12-31"]),
        ("0 0 * * MON#5", "2025-01-01", ["2025-03-31", "2025-06-30", "2025-09-29", "2025-12-29"]),
        ("0 0 * * MON#1", "2025-08-31", ["2025-09-01", "2025-10-06", "2025-11-03"]),
        ("0 0 * * FRIL", "2025-01-31", ["2025-02-28", "2025-03-28", "2025-04-25", "2025-05-30"]),
        ("0 0 * * 0L", "2025-01-01", ["2025-01-26", "2025-02-23"]),
        ("0 0 * * 1#1,3#2", "2025-01-01", ["2025-01-06", "2025-01-08", "2025-02-03", "2025-02-12"]),
        ("0 0 13 * FRI", "2025-06-01", ["2025-06-06", "2025-06-13", "2025-06-20", "2025-06-27", "2025-07-04", "2025-07-11", "2025-07-13"]),
        ("0 0 L * 7", "2025-01-20", ["2025-01-26", "2025-01-31", "2025-02-02"]),
        ("0 0 1-31 * MON", "2025-01-01", ["2025-01-02", "2025-01-03"]),
        ("0 0 1 * SUN-SAT", "2025-01-01", ["2025-01-02", "2025-01-03"]),
        ("0 0 */1 * MON", "2025-01-01", ["2025-01-06", "2025-01-13"]),
        ("0 0 ? * MON", "2025-01-01", ["2025-01-06", "2025-01-13"]),
        ("0 0 ? * ?", "2025-01-01", ["2025-01-02", "2025-01-03"]),
        ("0 0 1-31/10 * *", "2025-02-01", ["2025-02-11", "2025-02-21", "2025-03-01"]),
    ],
)
def test_days(expression: str, after: str, days: list[str]) -> None:
    assert fires(expression, "UTC", after, len(days)) == [f"{day}T00:00:00+00:00" for day in days]


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ("0", "0"),
        ("7", "0"),
        ("07", "0"),
        ("sun", "0"),
        ("7-7", "0"),
        ("7-0", "0"),
        ("sun-sun", "0"),
        ("0-7", "0123456"),
        ("0-07", "0123456"),
        ("SUN-7", "0123456"),
        ("1-0", "0123456"),
        ("MON-SUN", "0123456"),
        ("7-6", "0123456"),
        ("5-7", "056"),
        ("FRI-MON", "0156"),
        ("7-2", "012"),
        ("1-7/2", "0135"),
        ("0-7/2", "0246"),
        ("0-7/3", "036"),
        ("7/3", "036"),
        ("FRI/1", "56"),
        ("fri-mon/2", "05"),
        ("6,7,1", "016"),
    ],
)
def test_days_of_the_week_are_counted_as_unix_counts_them(written: str, days: str) -> None:
    schedule = cron(f"0 0 * * {written}")
    sunday = moment("2025-06-01")
    assert "".join(str(day) for day in range(7) if schedule.fires_at(sunday + day * 86_400)) == days


@pytest.mark.parametrize(
    ("expression", "after", "first"),
    [
        ("0 0 12 * * ?", "2005-03-01T13:00", ["2005-03-02T12:00:00"]),
        ("0 15 10 ? * *", "2005-03-01T13:00", ["2005-03-02T10:15:00"]),
        ("0 15 10 * * ?", "2005-03-01", ["2005-03-01T10:15:00"]),
        ("0 15 10 * * ? *", "2005-03-01", ["2005-03-01T10:15:00"]),
        ("0 15 10 * * ? 2005", "2005-12-31T10:14", ["2005-12-31T10:15:00"]),
        ("0 * 14 * * ?", "2005-03-01T14:58", ["2005-03-01T14:59:00", "2005-03-02T14:00:00"]),
        ("0 0/5 14 * * ?", "2005-03-01T14:50", ["2005-03-01T14:55:00", "2005-03-02T14:00:00"]),
        ("0 0/5 14,18 * * ?", "2005-03-01T14:50", ["2005-03-01T14:55:00", "2005-03-01T18:00:00"]),
        ("0 0-5 14 * * ?", "2005-03-01T14:04", ["2005-03-01T14:05:00", "2005-03-02T14:00:00"]),
        ("0 10,44 14 ? 3 WED", "2005-03-02T14:10", ["2005-03-02T14:44:00", "2005-03-09T14:10:00"]),
        ("0 15 10 ? * MON-FRI", "2005-03-04T11:00", ["2005-03-07T10:15:00"]),
        ("0 15 10 15 * ?", "2005-03-16", ["2005-04-15T10:15:00"]),
        ("0 15 10 L * ?", "2005-03-16", ["2005-03-31T10:15:00"]),
        ("0 15 10 L-2 * ?", "2005-03-16", ["2005-03-29T10:15:00"]),
        ("0 15 10 ? * FRIL", "2005-03-16", ["2005-03-25T10:15:00"]),
        ("0 15 10 ? * FRIL 2002-2005", "2001-01-01", ["2002-01-25T10:15:00"]),
        ("0 15 10 ? * FRI#3", "2005-03-16", ["2005-03-18T10:15:00"]),
        ("0 0 12 1/5 * ?", "2005-03-25", ["2005-03-26T12:00:00", "2005-03-31T12:00:00", "2005-04-01T12:00:00"]),
        ("0 11 11 11 11 ?", "2005-03-01", ["2005-11-11T11:11:00", "2006-11-11T11:11:00"]),
    ],
)
def test_the_examples_of_quartz(expression: str, after: str, first: list[str]) -> None:
    """Those of its CronTrigger tutorial; 6L and 6#3 stand there for Friday, which names say in both."""
    assert fires(expression, "UTC", after, len(first)) == [f"{one}+00:00" for one in first]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "shown"),
    [
        # 02:00 becomes 03:00: what was to fire between does not
        ("30 2 * * *", BERLIN, "2025-03-29", ["2025-03-29T02:30:00+01:00", "2025-03-31T02:30:00+02:00"]),
        ("0 2 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-31T02:00:00+02:00"]),
        ("0 3 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-30T03:00:00+02:00"]),
        ("*/30 2 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-31T02:00:00+02:00"]),
        ("30 2 30 3 *", BERLIN, "2025-01-01", ["2026-03-30T02:30:00+02:00"]),
        ("*/30 * * * *", BERLIN, "2025-03-30T01:00", ["2025-03-30T01:30:00+01:00", "2025-03-30T03:00:00+02:00"]),
        ("15 * * * *", BERLIN, "2025-03-30T01:00", ["2025-03-30T01:15:00+01:00", "2025-03-30T03:15:00+02:00"]),
        ("59 59 1 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-30T01:59:59+01:00"]),
        ("30 2 * * *", NEW_YORK, "2025-03-08T12:00", ["2025-03-10T02:30:00-04:00"]),
        # 03:00 becomes 02:00: what names the hour fires at its first
        ("30 2 * * *", BERLIN, "2025-10-25T12:00", ["2025-10-26T02:30:00+02:00", "2025-10-27T02:30:00+01:00"]),
        ("0 2-4 * * *", BERLIN, "2025-10-26", ["2025-10-26T02:00:00+02:00", "2025-10-26T03:00:00+01:00", "2025-10-26T04:00:00+01:00"]),
        ("0,30 2 * * *", BERLIN, "2025-10-26", ["2025-10-26T02:00:00+02:00", "2025-10-26T02:30:00+02:00", "2025-10-27T02:00:00+01:00"]),
        ("0 */2 * * *", BERLIN, "2025-10-26", ["2025-10-26T02:00:00+02:00", "2025-10-26T04:00:00+01:00"]),
        ("30 1 * * *", NEW_YORK, "2025-11-01T12:00", ["2025-11-02T01:30:00-04:00", "2025-11-03T01:30:00-05:00"]),
        # and what names none, or steps through the minutes, goes on
        ("*/30 * * * *", BERLIN, "2025-10-26T02:00", ["2025-10-26T02:30:00+02:00", "2025-10-26T02:00:00+01:00"]),
        ("15 * * * *", BERLIN, "2025-10-26T02:00", ["2025-10-26T02:15:00+02:00", "2025-10-26T02:15:00+01:00"]),
        ("15 0-23 * * *", BERLIN, "2025-10-26T02:00", ["2025-10-26T02:15:00+02:00", "2025-10-26T02:15:00+01:00"]),
        ("*/30 2 * * *", BERLIN, "2025-10-26T02:00", ["2025-10-26T02:30:00+02:00", "2025-10-26T02:00:00+01:00"]),
        ("@hourly", NEW_YORK, "2025-11-02T00:30", ["2025-11-02T01:00:00-04:00", "2025-11-02T01:00:00-05:00"]),
        # half an hour
        ("45 1 * * *", "Australia/Lord_Howe", "2025-04-05T12:00", ["2025-04-06T01:45:00+11:00", "2025-04-07T01:45:00+10:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2025-10-04T12:00", ["2025-10-06T02:15:00+11:00"]),
        # a day that never was
        ("0 12 * * *", "Pacific/Apia", "2011-12-29", ["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00"]),
        ("0 0 30 12 *", "Pacific/Apia", "2011-01-01", ["2012-12-30T00:00:00+14:00"]),
        ("0 * * * *", "Pacific/Apia", "2011-12-29T22:00", ["2011-12-29T23:00:00-10:00", "2011-12-31T00:00:00+14:00"]),
        # the clocks go back around Ramadan
        ("30 2 * * *", "Africa/Casablanca", "2025-02-22T12:00", ["2025-02-23T02:30:00+01:00", "2025-02-24T02:30:00+00:00"]),
        ("30 2 * * *", "Africa/Casablanca", "2025-04-05T12:00", ["2025-04-07T02:30:00+01:00"]),
        # two hours
        ("0 1,2,3 * * *", "Antarctica/Troll", "2025-03-30", ["2025-03-30T03:00:00+02:00"]),
        ("0 1,2,3 * * *", "Antarctica/Troll", "2025-10-26T01:00", ["2025-10-26T02:00:00+02:00", "2025-10-26T03:00:00+00:00"]),
        # winter is what the others call summer, the other way round
        ("30 1 * * *", "Europe/Dublin", "2025-03-29T12:00", ["2025-03-31T01:30:00+01:00"]),
        ("30 1 * * *", "Europe/Dublin", "2025-10-25T12:00", ["2025-10-26T01:30:00+01:00", "2025-10-27T01:30:00+00:00"]),
        # midnight is not there
        ("0 0 * * *", "Africa/Cairo", "2025-04-24T12:00", ["2025-04-26T00:00:00+03:00"]),
        ("@daily", "America/Havana", "2025-03-08T12:00", ["2025-03-10T00:00:00-04:00"]),
    ],
)  # fmt: skip
def test_changes_of_the_clocks(expression: str, zone: str, after: str, shown: list[str]) -> None:
    assert fires(expression, zone, after, len(shown)) == shown


def test_the_first_and_the_last_moment() -> None:
    always = cron("* * * * * *")
    last = moment("2199-12-31T23:59:59")
    assert (always.next(-1), always.next(-1e18), always.next(-math.inf)) == (0, 0, 0)
    assert (always.previous(1), always.previous(0), always.previous(-5)) == (0, None, None)
    assert (always.next(last - 1), always.next(last), always.next(1e18), always.next(math.inf)) == (last, None, None, None)
    assert (always.previous(last + 1), always.previous(1e18), always.previous(math.inf)) == (last, last, last)
    assert list(always.between(-10, 2)) == [0, 1]
    assert list(always.between(last, math.inf)) == [last]
    assert list(always.between(5, 5)) == list(always.between(math.inf, math.inf)) == list(always.between(9, 3)) == []
    assert not always.fires_at(-1)
    assert not always.fires_at(10**18)


def test_years_end_when_they_end_in_the_zone() -> None:
    last = cron("59 23 31 12 *", NEW_YORK)
    assert last.previous(math.inf) == moment("2200-01-01T04:59")
    assert last.next(moment("2200-01-01T04:59")) is None
    assert cron("0 0 1 1 *", "Asia/Tokyo").next(-math.inf) == moment("1970-12-31T15:00")
    assert cron("0 0 0 1 1 ? 1970", "Asia/Tokyo").previous(math.inf) is None


def test_what_is_over_never_fires_again() -> None:
    once = cron("0 0 0 1 1 ? 2030")
    assert once.next(0) == moment("2030-01-01")
    assert once.next(moment("2030-01-01")) is None
    assert once.previous(math.inf) == moment("2030-01-01")
    assert cron("0 0 0 1 1 ? 1999-2001").next(moment("2001-01-02")) is None


def test_an_hour_that_a_zone_never_shows_never_comes() -> None:
    """The clocks of Berlin are set forward at 02:00 on the last Sunday of March."""
    never = cron("30 2 * 3 SUNL", BERLIN)
    assert never.next(moment("2025-01-01")) is None
    assert never.previous(moment("2025-01-01")) == moment("1980-03-30T01:30")


def test_parts_of_a_second_count() -> None:
    each = cron("* * * * * *")
    assert (each.next(10.0), each.next(10.5), each.next(9.999)) == (11, 11, 10)
    assert (each.previous(10.0), each.previous(10.5), each.previous(10.001)) == (9, 10, 10)
    assert list(each.between(10.5, 12.5)) == [11, 12]


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        ("1 2 3 4 5", "0 1 2 3 4 5 *"),
        ("59 1 2 3 4 5", "59 1 2 3 4 5 *"),
        ("59 1 2 3 4 5 2030", "59 1 2 3 4 5 2030"),
        ("  1\t2  3 jan\nMon ", "0 1 2 3 JAN MON *"),
        ("@yearly", "0 0 0 1 1 * *"),
        ("@annually", "0 0 0 1 1 * *"),
        ("@monthly", "0 0 0 1 * * *"),
        ("@weekly", "0 0 0 * * 0 *"),
        ("@daily", "0 0 0 * * * *"),
        ("@Midnight", "0 0 0 * * * *"),
        (" @HOURLY ", "0 0 * * * * *"),
    ],
)
def test_five_six_and_seven_fields_and_names(written: str, fields: str) -> None:
    expression = cron(written).expression
    assert " ".join(expression.fields) == fields
    assert expression.text == written


def test_how_often_it_fires_in_a_minute() -> None:
    assert [cron(text).expression.per_minute for text in ("* * * * *", "*/10 * * * * *", "1,2 0 0 * * *")] == [1, 6, 2]
