"""When a trigger is due, and what becomes of times that were missed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mechaway_core.nodes.cron_trigger import CronTrigger
from mechaway_core.timing import MOST_CAUGHT_UP, MOST_COUNTED, Missed, Timing, moment_of


def timing(schedule: str, **params: Any) -> Timing:
    return CronTrigger(schedule=schedule, **params).timing


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def hours(*numbers: int) -> tuple[int, ...]:
    return tuple(int(at(f"2026-11-25T{number:02}:00:00")) for number in numbers)


NOON = at("2026-11-25T12:00:30")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, Missed(hours(12), 3)),
        ({"grace": 1}, Missed((), 4)),
        ({"grace": 30}, Missed(hours(12), 3)),
        ({"grace": 7230}, Missed(hours(10, 11, 12), 1)),
        ({"catch_up": "last"}, Missed(hours(11, 12), 2)),
        ({"catch_up": "last", "grace": 1}, Missed(hours(12), 3)),
        ({"catch_up": "all"}, Missed(hours(9, 10, 11, 12), 0)),
        ({"catch_up": "all", "grace": 1}, Missed(hours(9, 10, 11, 12), 0)),
        ({"catch_up": "all", "starts_at": "2026-11-25T11:00:00"}, Missed(hours(11, 12), 0)),
        ({"catch_up": "all", "ends_at": "2026-11-25T11:00:00"}, Missed(hours(9, 10), 0)),
    ],
)
def test_after_downtime_the_rule_applies(params: dict[str, Any], expected: Missed) -> None:
    looked = at("2026-11-25T08:00:00")  # which had its run
    assert timing("0 * * * *", **params).since(looked, NOON) == expected


def test_when_nothing_was_due_nothing_was_missed() -> None:
    for rule in ("skip", "last", "all"):
        assert timing("0 * * * *", catch_up=rule).since(at("2026-11-25T12:00:00"), NOON) == Missed()


def test_catching_up_is_bounded_and_takes_the_newest() -> None:
    looked = NOON - 30 * 86_400
    missed = timing("* * * * * *", catch_up="all", grace=2).since(looked, NOON)
    assert missed.run == tuple(range(int(NOON) - MOST_CAUGHT_UP - 2, int(NOON) + 1))
    assert missed.lost == MOST_COUNTED - MOST_CAUGHT_UP
    missed = timing("* * * * * *", grace=86_400).since(looked, NOON)
    assert missed.run == tuple(range(int(NOON) - MOST_CAUGHT_UP + 1, int(NOON) + 1))


def test_it_is_due_from_its_start_on_and_before_its_end() -> None:
    bounded = timing("0 0 * * *", starts_at="2026-03-01T00:00:00Z", ends_at="2026-03-03T00:00:00Z")
    assert list(bounded.between(0, at("2027-01-01T00:00:00"))) == [at("2026-03-01T00:00:00"), at("2026-03-02T00:00:00")]
    assert bounded.next(at("2026-03-02T00:00:00")) is None
    assert bounded.latest(0, at("2027-01-01T00:00:00"), 5) == [at("2026-03-01T00:00:00"), at("2026-03-02T00:00:00")]


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-07-01T12:00:00", "Europe/Berlin", at("2026-07-01T10:00:00")),
        ("2026-07-01T12:00:00+05:00", "Europe/Berlin", at("2026-07-01T07:00:00")),
        ("2026-07-01T12:00:00Z", "Europe/Berlin", at("2026-07-01T12:00:00")),
        ("2026-07-01", "UTC", at("2026-07-01T00:00:00")),
        ("tomorrow", "UTC", None),
        ("", "UTC", None),
        ("0000-00-00", "UTC", None),
        ("9999-01-01T00:00:00Z", "UTC", None),
        ("0001-01-01T00:00:00+14:00", "UTC", None),
    ],
)
def test_times_are_read_in_their_zone(text: str, zone: str, moment: float | None) -> None:
    assert moment_of(text, zone) == moment
