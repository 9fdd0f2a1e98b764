"""What EventBridge gets: expressions that fire in every wanted minute, in no other where that can be said, and else in few others."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mechaway_core.aws.cron import MOST, eventbridge, scheduler
from mechaway_core.cron import Cron, cron
from mechaway_core.errors import Invalid
from tests.eventbridge import rule_fires, scheduler_fires

YEAR = 2026  # from which on offsets count


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * * *", ["* * * * ? *"]),
        ("*/15 * * * *", ["0/15 * * * ? *"]),
        ("0,30 * * * *", ["0,30 * * * ? *"]),
        ("0 9 * * *", ["0 9 * * ? *"]),
        ("0 0 1 1 *", ["0 0 1 1 ? *"]),
        ("5-10 9-17/2 * JAN,mar-may *", ["5-10 9,11,13,15,17 * 1,3-5 ? *"]),
        ("0 22-2 * * *", ["0 0-2,22,23 * * ? *"]),
        ("0 8 * * 1-5", ["0 8 ? * 2-6 *"]),
        ("0 8 * * MON-FRI", ["0 8 ? * 2-6 *"]),
        ("0 8 * * 0", ["0 8 ? * 1 *"]),
        ("0 8 * * 7", ["0 8 ? * 1 *"]),
        ("0 8 * * FRI-SUN", ["0 8 ? * 1,6,7 *"]),
        ("0 8 * * */2", ["0 8 ? * 1,3,5,7 *"]),
        ("0 8 * * 0-7", ["0 8 * * ? *"]),
        ("0 8 ? * SAT", ["0 8 ? * 7 *"]),
        ("0 8 */10 * *", ["0 8 1/10 * ? *"]),
        ("0 8 1 * 1", ["0 8 1 * ? *", "0 8 ? * 2 *"]),
        ("0 8 L * *", ["0 8 L * ? *"]),
        ("0 8 15W * *", ["0 8 15W * ? *"]),
        ("0 8 * * FRIL", ["0 8 ? * 6L *"]),
        ("0 8 * * 0#5", ["0 8 ? * 1#5 *"]),
        ("0 0 8 * * *", ["0 8 * * ? *"]),
        ("*/20 0 8 * * *", ["0 8 * * ? *"]),
        ("59 */3 * * * *", ["0/3 * * * ? *"]),
        ("0 0 8 1 1 * 2030-2032", ["0 8 1 1 ? 2030-2032"]),
        ("0 0 8 1 1 * 2030/2", ["0 8 1 1 ? 2030/2"]),
        ("@hourly", ["0 * * * ? *"]),
        ("@Daily", ["0 0 * * ? *"]),
        ("@weekly", ["0 0 ? * 1 *"]),
        ("  0   8 * * *  ", ["0 8 * * ? *"]),
        ("1-59 * * * *", ["1-59 * * * ? *"]),
    ],
)
def test_what_can_be_said_exactly_is(expression: str, said: list[str]) -> None:
    assert eventbridge(expression) == tuple(f"cron({one})" for one in said)


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("0 8 L-3 * *", "UTC", ["0 8 25-28 * ? *"]),
        ("0 8 LW * *", "UTC", ["0 8 26-31 * ? *"]),
        ("0 8 29W * *", "UTC", ["0 8 27-30 * ? *"]),
        ("0 8 31W * *", "UTC", ["0 8 31W 1,3,5,7,8,10,12 ? *"]),
        ("0 8 1,15W * *", "UTC", ["0 8 1,14-16 * ? *"]),
        ("0 8 * * MON#1,MON#3", "UTC", ["0 8 ? * 2 *"]),
        ("0 8 * * SAT,FRI#2", "UTC", ["0 8 ? * 6,7 *"]),
        ("0 0 1 3 *", "Europe/Berlin", ["0 22,23 L 2 ? *"]),
        ("0 0 1 1 *", "Europe/Berlin", ["0 23 L 12 ? *"]),
        ("0 0 0 1 1 * 2030", "Europe/Berlin", ["0 23 L 12 ? 2029"]),
        ("0 0 0 1 1 * 1970", "Asia/Tokyo", ["0 15 L 12 ? 1970"]),
        ("0 0 1,15 * *", "Europe/Berlin", ["0 22,23 14,28-31 * ? *"]),
        ("0 0 * 3 *", "Europe/Berlin", ["0 22,23 1-30 2,3 ? *"]),
        ("0 0 15W * *", "Europe/Berlin", ["0 22,23 13-15 * ? *"]),
        ("0 0 L * *", "Asia/Tokyo", ["0 15 27-30 * ? *"]),
        ("0 22 L * *", "America/New_York", ["0 2,3 1 * ? *"]),
        ("0 22 31 12 *", "America/New_York", ["0 3 1 1 ? *"]),
        ("0 22 * * FRIL", "America/New_York", ["0 2,3 ? * 7 *"]),
        ("0 22 * 6 FRIL", "America/New_York", ["0 2 ? 6,7 7 *"]),
        ("0 22 * 6 FRI#2", "America/New_York", ["0 2 ? 6 7 *"]),
        ("0 0 * 6 MON", "Europe/Berlin", ["0 22 ? 5,6 1 *"]),
        ("0 0,12 * * MON-SAT", "Europe/Berlin", ["0 10,11,22,23 * * ? *"]),
        ("0 0 1-30 * MON", "Asia/Tokyo", ["0 15 * * ? *"]),
        ("0 8 L-30 2 MON", "UTC", ["0 8 ? 2 2 *"]),
    ],
)
def test_what_cannot_be_said_widens_to_the_days_it_can_be(expression: str, zone: str, said: list[str]) -> None:
    assert eventbridge(expression, zone, YEAR) == tuple(f"cron({one})" for one in said)


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("0 9 * * *", "UTC", [("0 9 * * ? *", "UTC")]),
        ("30 2 * * SUN", "Europe/Berlin", [("30 2 ? * 1 *", "Europe/Berlin")]),
        ("0 0 1,15 * *", "Europe/Berlin", [("0 0 1,15 * ? *", "Europe/Berlin")]),
        ("0 0 1 * MON", "Europe/Berlin", [("0 0 1 * ? *", "Europe/Berlin"), ("0 0 ? * 2 *", "Europe/Berlin")]),
        ("0 0 L * *", "Asia/Tokyo", [("0 0 L * ? *", "Asia/Tokyo")]),
        ("0 0 LW * *", "Asia/Tokyo", [("0 0 26-31 * ? *", "Asia/Tokyo")]),
        ("30 0 9 * * *", "Europe/Berlin", [("0 9 * * ? *", "Europe/Berlin")]),
        ("*/10 * * * *", "Asia/Kolkata", [("0/10 * * * ? *", "Asia/Kolkata")]),
        ("*/10 * * * *", "Europe/Berlin", [("0/10 * * * ? *", "UTC")]),
        ("15 * * * *", "Australia/Lord_Howe", [("15,45 * * * ? *", "UTC")]),
        ("*/10 8-17 * * MON-FRI", "Europe/Berlin", [("0/10 8-17 ? * 2-6 *", "Europe/Berlin")]),
        ("*/10 2-5 * * MON-FRI", "Europe/Berlin", [("0/10 0-4 ? * 2-6 *", "UTC")]),
        ("*/10 3-5 * * *", "Europe/Berlin", [("0/10 3-5 * * ? *", "Europe/Berlin")]),
        ("*/10 23 * * *", "Africa/Cairo", [("0/10 20,21 * * ? *", "UTC")]),
    ],
)
def test_scheduler_keeps_the_zone_unless_clock_changes_are_gone_through_by_elapsed_time(
    expression: str, zone: str, said: list[tuple[str, str]]
) -> None:
    assert scheduler(expression, zone, YEAR) == tuple((f"cron({one})", where) for one, where in said)


def test_offsets_count_in_the_months_and_years_in_which_they_are() -> None:
    assert eventbridge("0 9 * 7 *", "Europe/Berlin", YEAR) == ("cron(0 7 * 7 ? *)",)
    assert eventbridge("0 9 * 12-1 *", "Europe/Berlin", YEAR) == ("cron(0 8 * 1,12 ? *)",)
    assert eventbridge("0 0 9 * * * 2015-2040", "Europe/Moscow", YEAR) == ("cron(0 6 * * ? 2015-2040)",)
    assert eventbridge("0 0 9 * * * 2015", "Europe/Istanbul", YEAR) == ("cron(0 6,7 * * ? 2015)",)


def test_without_a_year_offsets_count_from_this_one_on() -> None:
    assert eventbridge("0 9 * * *", "Europe/Moscow") == ("cron(0 6 * * ? *)",)
    assert scheduler("*/5 * * * *", "Europe/Moscow") == (("cron(0/5 * * * ? *)", "Europe/Moscow"),)


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("", "UTC", "5"),
        ("60 * * * *", "UTC", "minute must be within 0 and 59"),
        ("0 0 30 2 *", "UTC", "no day that there ever is"),
        ("0 0 */2 * 1", "UTC", "a step such as"),
        ("0 0 1 1 <due>", "UTC", "day of the week"),
        ("0 9 * * *", "Europe/Berlim", r"no time zone.*Europe/Berlin"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(expression: str, zone: str, words: str) -> None:
    for said in (eventbridge, scheduler):
        with pytest.raises(Invalid, match=words):
            said(expression, zone)


# -- for all expressions and zones

ZONES = sorted(zone for zone in zoneinfo.available_timezones() if not zone.lower().startswith(("right/", "posix", "local", "factory")))
OFTEN = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati",
    "Pacific/Chatham", "America/St_Johns", "Africa/Casablanca", "Africa/Cairo", "Pacific/Pago_Pago", "Asia/Tokyo", "America/Nuuk",
)  # fmt: skip


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    """A field: `*`, a number, a range, a step, or a list."""
    number = st.integers(least, most).map(str)
    spans = st.tuples(st.integers(least, most), st.integers(least, most)).map(sorted)
    step = st.integers(1, most - least)
    part = (
        number
        | spans.map(lambda span: f"{span[0]}-{span[1]}")
        | st.tuples(spans, step).map(lambda one: f"{one[0][0]}-{one[0][1]}/{one[1]}")
        | step.map(lambda one: f"{least}/{one}")
    )
    few = st.lists(part, min_size=1, max_size=3).map(",".join)
    many = st.sets(st.integers(least, most), min_size=1).map(lambda values: ",".join(map(str, sorted(values))))
    return st.just("*") | number | few | step.map(lambda one: f"*/{one}") | many


plain_days = numbers(1, 31).filter(lambda text: not text.startswith("*/"))
special_day = (
    st.sampled_from(["L", "LW", "L-1", "L-30"])
    | st.integers(1, 31).map(lambda day: f"{day}W")
    | st.integers(0, 30).map(lambda back: f"L-{back}")
)
special_weekday = st.tuples(st.integers(0, 7), st.sampled_from(["L", "#1", "#2", "#3", "#4", "#5"])).map(lambda one: f"{one[0]}{one[1]}")
days = plain_days | special_day | st.lists(special_day | st.integers(1, 31).map(str), min_size=1, max_size=3).map(",".join)
weekdays = (
    st.just("*")
    | st.sampled_from(["MON-FRI", "SUN", "SAT,SUN", "1-5", "FRI-MON"])
    | special_weekday
    | st.lists(special_weekday | st.integers(0, 6).map(str), min_size=1, max_size=3).map(",".join)
)
seconds = st.sampled_from(["0", "0", "30", "*/20", "59", "1,58"])
years = st.just("*") | st.sampled_from(["2026", "2026,2027", "2020-2030", "2027/2", "2026-2199", "*/3", "2050", "2027,2199"])
expressions = st.tuples(seconds, numbers(0, 59), numbers(0, 23), days, st.just("*") | numbers(1, 12), weekdays, years).map(" ".join)
zones = st.sampled_from(OFTEN) | st.sampled_from(ZONES)
CHANGES = ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-25", "2026-10-29", "2026-11-01", "2026-12-31", "2027-01-31", "2027-02-28"]
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)) | st.sampled_from(
    [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in CHANGES]  # of clocks, months and years
)


def schedule(expression: str, zone: str) -> Cron:
    try:
        return cron(expression, zone)
    except Invalid:  # it never fires, or both day fields are there with a step
        assume(False)
        raise


def window(wanted: Cron, moment: datetime, days: float) -> tuple[datetime, datetime]:
    """Some days around the next fire, within the years whose offsets count."""
    found = wanted.next(moment.timestamp())
    assume(found is not None)
    assert found is not None
    assume(found < datetime(2199, 12, 31, tzinfo=UTC).timestamp())
    middle = datetime.fromtimestamp(found, UTC).replace(second=0)
    assume(middle.year <= YEAR + 2 or wanted.zone.name not in ("Africa/Casablanca", "Africa/El_Aaiun"))  # other rules in each year
    return middle - timedelta(days=days), middle + timedelta(days=days)


def wanted_minutes(wanted: Cron, start: datetime, end: datetime) -> list[int]:
    found = []
    moment = wanted.next(start.timestamp() - 1)
    while moment is not None and moment < end.timestamp():
        minute = moment // 60 * 60
        found.append(minute)
        moment = wanted.next(minute + 59)
    return found


@settings(deadline=None)
@given(expressions, zones, moments)
@example("0 0 0 1 1 * *", "Pacific/Kiritimati", datetime(2026, 12, 30, tzinfo=UTC))
@example("0 30 2 29 2 * *", "Asia/Kathmandu", datetime(2027, 1, 1, tzinfo=UTC))
@example("59 59 23 31 12 * 2027", "Pacific/Pago_Pago", datetime(2027, 1, 1, tzinfo=UTC))
@example("0 */7 1-2 * * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC))
def test_rules_fire_in_every_wanted_minute_and_the_check_lets_no_other_pass(expression: str, zone: str, moment: datetime) -> None:
    wanted = schedule(expression, zone)
    start, end = window(wanted, moment, 0.5)
    said = eventbridge(expression, zone, YEAR)
    assert 1 <= len(said) <= 2
    assert all(len(one) <= MOST for one in said)
    fired = sorted({minute for one in said for minute in rule_fires(one, start, end)})
    assert set(wanted_minutes(wanted, start, end)) <= set(fired)
    passed = [due for minute in fired for due in wanted.between(minute, minute + 60)]
    assert passed == list(wanted.between(start.timestamp(), end.timestamp()))


@settings(deadline=None)
@given(expressions, zones, moments)
@example("0 30 2 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC))
@example("0 30 2 * * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC))
@example("0 15 1-2 * * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC))
def test_scheduler_fires_in_every_wanted_minute_too(expression: str, zone: str, moment: datetime) -> None:
    wanted = schedule(expression, zone)
    start, end = window(wanted, moment, 1)
    said = scheduler(expression, zone, YEAR)
    fired = {minute for one, where in said for minute in scheduler_fires(one, where, start, end)}
    assert set(wanted_minutes(wanted, start, end)) <= fired


plain = st.tuples(st.just("0"), numbers(0, 59), numbers(0, 23), plain_days, st.just("*") | numbers(1, 12), st.just("*"), st.just("*"))
by_weekday = st.tuples(
    st.just("0"),
    numbers(0, 59),
    numbers(0, 23),
    st.just("*"),
    st.just("*") | numbers(1, 12),
    special_weekday | st.just("MON-FRI"),
    st.just("*"),
)


@settings(deadline=None)
@given((plain | by_weekday).map(" ".join), zones, moments)
def test_what_names_minutes_and_one_kind_of_day_is_exact_in_utc_and_in_scheduler(expression: str, zone: str, moment: datetime) -> None:
    wanted = schedule(expression, "UTC")
    said = eventbridge(expression, "UTC", YEAR)
    assume(len(said[0]) < MOST - 24)  # else it may have been widened
    start, end = window(wanted, moment, 2)
    assert [rule_fires(one, start, end) for one in said] == [wanted_minutes(wanted, start, end)]
    there = schedule(expression, zone)
    [(native, where)] = scheduler(expression, zone, YEAR)
    if where == zone:
        start, end = window(there, moment, 2)
        assert sorted(scheduler_fires(native, zone, start, end)) == wanted_minutes(there, start, end)


@given(st.text(max_size=40), st.sampled_from(["UTC", "Europe/Berlin"]))
def test_no_text_is_anything_but_said_or_refused(text: str, zone: str) -> None:
    try:
        said = eventbridge(text, zone)
    except Invalid as error:
        assert str(error).startswith("the schedule ")  # noqa: PT017
    else:
        assert all(len(one) <= MOST for one in said)


# -- what the docs promise


def documented() -> list[list[str]]:
    """The rows of the table of common schedules: expression, zone, what rules get, extra wake-ups a year, what Scheduler gets."""
    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    _, _, table = text.partition("| schedule | zone | rules | extra | Scheduler |\n")
    lines = takewhile(lambda line: line.startswith("|"), table.splitlines()[1:])
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("expression", "zone", "rules", "extra", "native"), documented())
def test_the_docs_say_what_common_schedules_become_and_how_many_wake_ups_are_in_vain(
    expression: str, zone: str, rules: str, extra: str, native: str
) -> None:
    said = eventbridge(expression, zone, YEAR)
    assert " and ".join(said) == rules
    texts, zones_there = zip(*scheduler(expression, zone, YEAR), strict=True)
    assert f"{' and '.join(texts)} {zones_there[0]}" == native
    start, end = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    if len(said) == 1 and said[0].startswith(("cron(* * ", "cron(0/5 * ")):
        start, end = datetime(2027, 10, 20, tzinfo=UTC), datetime(2027, 11, 10, tzinfo=UTC)  # as every day, but for two changes of clocks
    wanted = wanted_minutes(cron(expression, zone), start, end)
    assert sum(len(rule_fires(one, start, end)) for one in said) - len(wanted) == int(extra.replace(",", ""))


def test_the_table_in_the_docs_is_found() -> None:
    assert len(documented()) >= 25
