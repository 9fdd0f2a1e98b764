"""Cron expressions as EventBridge says them: the very minutes, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.aws.cron import MOST, eventbridge
from mechaway_core.errors import Invalid


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * * *", ["* * * * ? *"]),
        ("*/15 * * * *", ["0,15,30,45 * * * ? *"]),
        ("0 10 * * *", ["0 10 * * ? *"]),
        ("0 0 1 1 *", ["0 0 1 1 ? *"]),
        ("5-10 9-17/2 * JAN,mar-may *", ["5-10 9,11,13,15,17 * 1,3-5 ? *"]),
        ("0 8 * * 1-5", ["0 8 ? * 2,3,4,5,6 *"]),
        ("0 8 * * MON-FRI", ["0 8 ? * 2,3,4,5,6 *"]),
        ("0 8 * * 0", ["0 8 ? * 1 *"]),
        ("0 8 * * 7", ["0 8 ? * 1 *"]),
        ("0 8 * * FRI-SUN", ["0 8 ? * 1,6,7 *"]),
        ("0 8 * * */2", ["0 8 ? * 1,3,5,7 *"]),
        ("0 8 * * 0-7", ["0 8 * * ? *"]),
        ("0 8 ? * SAT", ["0 8 ? * 7 *"]),
        ("0 8 */10 * *", ["0 8 1,11,21,31 * ? *"]),
        ("0 8 1 * 1", ["0 8 1 * ? *", "0 8 ? * 2 *"]),
        ("0 0 8 * * *", ["0 8 * * ? *"]),
        ("0 */3 * * * *", ["0,3,6,9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57 * * * ? *"]),
        ("0 0 8 1 1 * 2030-2032", ["0 8 1 1 ? 2030-2032"]),
        ("@hourly", ["0 * * * ? *"]),
        ("@Daily", ["0 0 * * ? *"]),
        ("@weekly", ["0 0 ? * 1 *"]),
        ("  0   8 * * *  ", ["0 8 * * ? *"]),
        ("1-59 * * * *", ["1-59 * * * ? *"]),
    ],
)
def test_it_is_said_exactly(expression: str, said: list[str]) -> None:
    assert eventbridge(expression) == tuple(f"cron({one})" for one in said)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "5 fields"),
        ("* * * *", "5 fields"),
        ("* * * * * * * *", "5 fields"),
        ("*/30 * * * * *", "within a minute"),
        ("* * * * * *", "within a minute"),
        ("60 * * * *", "minute must be within 0 and 59, not 60"),
        ("* 24 * * *", "hour must be within"),
        ("* * 0 * *", "day of the month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day of the week"),
        ("* * * FOO *", "month must be within 1 and 12, not FOO"),
        ("* * * * MON-", "day of the week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("*-5 * * * *", "minute"),
        (", * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("* * L * *", "day of the month"),
        ("* * * * 1#2", "day of the week"),
        ("0 0 */2 * 1", "means different things"),
        ("0 0 1 * */2", "means different things"),
        ("@reboot", "5 fields"),
        ("0 0 0 1 1 * 1969", "year"),
        ("٣ * * * *", "minute"),
        ("0 0 1 1 <due>", "day of the week"),
    ],
)
def test_what_eventbridge_cannot_say_is_refused_with_the_reason(expression: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        eventbridge(expression)


def some(least: int, most: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(least, most), min_size=1)


@given(some(0, 59), some(0, 23), some(1, 31), some(1, 12), some(0, 6))
def test_any_sets_of_values_are_said_exactly_or_refused_for_their_length(
    minutes: set[int], hours: set[int], days: set[int], months: set[int], weekdays: set[int]
) -> None:
    written = [",".join(map(str, sorted(values))) for values in (minutes, hours, days, months, weekdays)]
    try:
        said = eventbridge(" ".join(written))
    except Invalid as error:
        assert f"longer than the {MOST} characters" in str(error)  # noqa: PT017
        return
    assert all(len(one) <= MOST for one in said)
    read = [[_read(field) for field in one[5:-1].split()] for one in said]
    for minute, hour, day, month, weekday, year in read:
        assert (minute or set(range(60)), hour or set(range(24)), month or set(range(1, 13)), year) == (minutes, hours, months, None)
        assert day is None or day == days
        assert weekday is None or {value - 1 for value in weekday} == weekdays
    restricted = (len(days) < 31) + (len(weekdays) < 7)
    assert len(said) == max(1, restricted)


def _read(field: str) -> set[int] | None:
    """What EventBridge reads in a field; None for any."""
    if field in ("*", "?"):
        return None
    values: set[int] = set()
    for part in field.split(","):
        low, _, high = part.partition("-")
        values.update(range(int(low), int(high or low) + 1))
    return values


@given(st.text(max_size=40))
def test_no_text_is_anything_but_said_or_refused(text: str) -> None:
    try:
        eventbridge(text)
    except Invalid as error:
        assert str(error).startswith("the schedule ")  # noqa: PT017
