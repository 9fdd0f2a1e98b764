"""Where croniter says the same and where it does not, so that a new croniter that changes its mind is noticed.

docs/schedules.md has the table for people.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterError, croniter

from mechaway_core.cron import cron
from mechaway_core.errors import Invalid

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
REFUSED: list[str] = []
SECONDS_FIRST = {"second_at_beginning": True}


def ours(expression: str, zone: str, after: str, count: int) -> list[str]:
    """What fires next, as a clock in the zone shows it; nothing when it is refused."""
    try:
        schedule = cron(expression, zone)
    except Invalid:
        return REFUSED
    shown: list[str] = []
    moment: int | None = int(_begin(zone, after).timestamp())
    while len(shown) < count and moment is not None and (moment := schedule.next(moment)) is not None:
        shown.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat())
    return shown


def theirs(expression: str, zone: str, after: str, count: int, **options: Any) -> list[str]:
    """The same of croniter."""
    try:
        found = croniter(expression, _begin(zone, after), ret_type=datetime, **options)
        return [found.get_next().isoformat() for _ in range(count)]
    except CroniterError:
        return REFUSED


def _begin(zone: str, after: str) -> datetime:
    return datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/15 * * * *",
        "*/7 * * * *",
        "5/20 * * * *",
        "50-10/10 * * * *",
        "0 22-2 * * *",
        "0 22-3/2 * * *",
        "0 9 * * 0",
        "0 9 * * 7",
        "0 9 * * sun",
        "0 9 * * 1-5",
        "0 0 * * 5-7",
        "0 0 * * 0-7",
        "0 0 * * SUN-7",
        "0 0 * * 7-2",
        "0 9 * * FRI-MON",
        "0 9 * * MON,Wed,fri",
        "0 0 1 NOV-FEB *",
        "0 0 1 1-12/3 *",
        "0 0 1 * 1",  # either
        "0 0 1-31/2 * 1",
        "0 0 1-31 * 1",
        "0 0 1 * 0-6",
        "0 0 L * *",
        "0 0 15,L * *",
        "0 0 15W * *",
        "0 0 1W * *",
        "0 0 ? * MON",
        "0 0 15 * ?",
        "0 0 * * 5#2",
        "0 0 * * FRI#2",
        "0 0 * * MON#5",
        "0 0 29 2 *",
        "0 0 31 * *",
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_croniter_says_the_same(expression: str, zone: str) -> None:
    assert ours(expression, zone, "2025-01-01", 12) == theirs(expression, zone, "2025-01-01", 12) != REFUSED


@pytest.mark.parametrize("expression", ["*/0 * * * *", "60 * * * *", "0 0 30 2 *", "0 0 * * L", "0 0 * * 8", "@reboot", "* * * *", ""])
def test_both_refuse_it_or_find_nothing(expression: str) -> None:
    assert ours(expression, "UTC", "2025-01-01", 1) == theirs(expression, "UTC", "2025-01-01", 1) == REFUSED


@pytest.mark.parametrize(
    "expression", ["30 0 9 * * *", "*/20 * * * * *", "0 0 9 * * MON-FRI", "0 0 9 * * * 2030", "15 30 9 L 2 * 2024-2032"]
)
def test_croniter_says_the_same_of_six_and_seven_fields_when_seconds_are_to_be_first(expression: str) -> None:
    assert ours(expression, "UTC", "2025-01-01", 4) == theirs(expression, "UTC", "2025-01-01", 4, **SECONDS_FIRST) != REFUSED


@pytest.mark.parametrize(
    ("expression", "mine", "croniters"),
    [
        # six and seven fields: croniter has the seconds behind the days of the week, unless it is told otherwise
        ("30 0 9 * * *", ["2025-01-01T09:00:30", "2025-01-02T09:00:30"], ["2025-01-09T00:30:00", "2025-01-09T00:30:01"]),
        ("0 0 9 * * * 2030", ["2030-01-01T09:00:00", "2030-01-02T09:00:00"], ["2030-01-09T00:00:00", "2030-01-09T00:00:01"]),
        # a step beside days: croniter takes either, cronie both
        ("0 0 */2 * 1", REFUSED, ["2025-01-03T00:00:00", "2025-01-05T00:00:00"]),
        ("0 0 1 * */2", REFUSED, ["2025-01-02T00:00:00", "2025-01-04T00:00:00"]),
        # L
        ("0 0 L-2 * *", ["2025-01-29T00:00:00", "2025-02-26T00:00:00"], REFUSED),
        ("0 0 * * 5L", ["2025-01-31T00:00:00", "2025-02-28T00:00:00"], REFUSED),
        ("0 0 * * FRIL", ["2025-01-31T00:00:00", "2025-02-28T00:00:00"], REFUSED),
        ("0 0 * * L5", REFUSED, ["2025-01-31T00:00:00", "2025-02-28T00:00:00"]),
        # W
        ("0 0 LW * *", ["2025-01-31T00:00:00", "2025-02-28T00:00:00"], REFUSED),
        ("0 0 1W,15W * *", ["2025-01-15T00:00:00", "2025-02-03T00:00:00"], REFUSED),
        # #
        ("0 0 * * 1#1,5", ["2025-01-03T00:00:00", "2025-01-06T00:00:00"], REFUSED),
        ("0 0 15 * 1#1", ["2025-01-06T00:00:00", "2025-01-15T00:00:00"], REFUSED),
        # what is hardly meant
        ("*/60 * * * *", REFUSED, ["2025-01-01T01:00:00", "2025-01-01T02:00:00"]),
        ("*/90 * * * *", REFUSED, ["2025-01-01T01:00:00", "2025-01-01T02:00:00"]),
        ("0 0 5-1 * *", REFUSED, ["2025-01-05T00:00:00", "2025-01-06T00:00:00"]),
    ],
)
def test_croniter_says_something_else(expression: str, mine: list[str], croniters: list[str]) -> None:
    assert ours(expression, "UTC", "2025-01-01", 2) == [f"{one}+00:00" for one in mine]
    assert theirs(expression, "UTC", "2025-01-01", 2) == [f"{one}+00:00" for one in croniters]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "mine", "croniters"),
    [
        # a time that is skipped: croniter fires when the clocks have been set, Mechaway does not
        ("30 2 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-31T02:30:00+02:00"], ["2025-03-30T03:00:00+02:00"]),
        ("0 2 * * *", BERLIN, "2025-03-29T12:00", ["2025-03-31T02:00:00+02:00"], ["2025-03-30T03:00:00+02:00"]),
        ("0 */2 * * *", BERLIN, "2025-03-30T00:00", ["2025-03-30T04:00:00+02:00"], ["2025-03-30T03:00:00+02:00"]),
        ("30 2 * * *", NEW_YORK, "2025-03-08T12:00", ["2025-03-10T02:30:00-04:00"], ["2025-03-09T03:00:00-04:00"]),
        # a time that is there twice: croniter fires twice, Mechaway at the first
        (
            "30 2 * * *",
            BERLIN,
            "2025-10-26T02:00",
            ["2025-10-26T02:30:00+02:00", "2025-10-27T02:30:00+01:00"],
            ["2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+01:00"],
        ),
        (
            "0 2-4 * * *",
            BERLIN,
            "2025-10-26T01:00",
            ["2025-10-26T02:00:00+02:00", "2025-10-26T03:00:00+01:00"],
            ["2025-10-26T02:00:00+02:00", "2025-10-26T02:00:00+01:00"],
        ),
        (
            "30 1 * * *",
            NEW_YORK,
            "2025-11-02T00:00",
            ["2025-11-02T01:30:00-04:00", "2025-11-03T01:30:00-05:00"],
            ["2025-11-02T01:30:00-04:00", "2025-11-02T01:30:00-05:00"],
        ),
    ],
)
def test_croniter_does_something_else_when_clocks_are_set(
    expression: str, zone: str, after: str, mine: list[str], croniters: list[str]
) -> None:
    assert ours(expression, zone, after, len(mine)) == mine
    assert theirs(expression, zone, after, len(croniters)) == croniters


@pytest.mark.parametrize(
    ("expression", "after"),
    [
        ("15 * * * *", "2025-03-30T00:30"),
        ("*/30 * * * *", "2025-03-30T01:00"),
        ("0 2,3 * * *", "2025-03-29T12:00"),
        ("15 * * * *", "2025-10-26T01:00"),
        ("*/30 * * * *", "2025-10-26T01:00"),
        ("*/30 2 * * *", "2025-10-25T12:00"),
    ],
)
def test_croniter_goes_on_by_elapsed_time_as_we_do(expression: str, after: str) -> None:
    assert ours(expression, BERLIN, after, 6) == theirs(expression, BERLIN, after, 6)
