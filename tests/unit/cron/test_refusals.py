"""What cannot be a schedule is refused with the field and the reason, soon, and never by anything but a sentence."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mechaway_core.cron import Cron, cron, sentence
from mechaway_core.errors import Invalid

FUZZ = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "it has 0 fields; it must have 5, or 6 with seconds first, or 7 with the year last"),
        (" \t\n", "it has 0 fields"),
        ("*", "it has 1 field;"),
        ("* * * *", "it has 4 fields"),
        ("* * * * * * * *", "it has 8 fields"),
        ("*" * 7, "it has 1 field;"),
        ("60 * * * *", "its minute must be within 0 and 59, not 60"),
        ("60 * * * * *", "its second must be within 0 and 59, not 60"),
        ("0 24 * * *", "its hour must be within 0 and 23, not 24"),
        ("0 0 0 * *", "its day of the month must be within 1 and 31, not 0"),
        ("0 0 32 * *", "its day of the month must be within 1 and 31, not 32"),
        ("0 0 1 0 *", "its month must be within 1 and 12, or JAN to DEC, not 0"),
        ("0 0 1 13 *", "its month must be within 1 and 12, or JAN to DEC, not 13"),
        ("0 0 1 JANUARY *", "its month must be within 1 and 12, or JAN to DEC, not JANUARY"),
        ("0 0 * * 8", "its day of the week must be within 0 and 7, or SUN to SAT, not 8"),
        ("0 0 * * Montag", "its day of the week must be within 0 and 7, or SUN to SAT, not MONTAG"),
        ("0 0 0 1 1 ? 1969", "its year must be within 1970 and 2199, not 1969"),
        ("0 0 0 1 1 ? 2200", "its year must be within 1970 and 2199, not 2200"),
        ("*/0 * * * *", 'the step in "*/0", its minute, must be within 1 and 59'),
        ("*/60 * * * *", 'the step in "*/60", its minute, must be within 1 and 59'),
        ("0 */24 * * *", 'the step in "*/24", its hour, must be within 1 and 23'),
        ("0 0 */31 * *", 'the step in "*/31", its day of the month, must be within 1 and 30'),
        ("0 0 * * */7", 'the step in "*/7", its day of the week, must be within 1 and 6'),
        ("*/-1 * * * *", '"*/-1" cannot be its minute'),
        ("*/x * * * *", 'the step in "*/X", its minute'),
        ("5/ * * * *", '"5/" cannot be its minute'),
        ("/5 * * * *", '"/5" cannot be its minute'),
        ("1-5/2/2 * * * *", '"1-5/2/2" cannot be its minute'),
        ("1- * * * *", '"1-" cannot be its minute'),
        ("-1 * * * *", '"-1" cannot be its minute'),
        ("*-5 * * * *", '"*-5" cannot be its minute'),
        ("1-2-3 * * * *", '"1-2-3" cannot be its minute'),
        (", * * * *", '"" cannot be its minute'),
        ("1,,2 * * * *", '"" cannot be its minute'),
        ("1, * * * *", '"" cannot be its minute'),
        ("1.5 * * * *", '"1.5" cannot be its minute'),
        ("+5 * * * *", '"+5" cannot be its minute'),
        ("1_0 * * * *", "its minute must be within 0 and 59, not 1_0"),
        ("0x5 * * * *", "its minute must be within 0 and 59, not 0X5"),
        ("9999999999 * * * *", "its minute must be within 0 and 59, not 9999999999"),
        ("0-9999999999 * * * *", "its minute must be within 0 and 59"),
        ("*/9999999999 * * * *", "must be within 1 and 59"),
        (f"{'9' * 400} * * * *", "its minute must be within 0 and 59, not 9999999999999999999…"),
        ("0 0 5-1 * *", '"5-1" cannot be its day of the month: the range ends before it begins'),
        ("0 0 31-1/2 * *", "the range ends before it begins"),
        ("0 0 0 1 1 ? 2030-2029", '"2030-2029" cannot be its year: the range ends before it begins'),
        ("? * * * *", '"?" can only stand for a day; for every minute write *'),
        ("0 ? * * *", '"?" can only stand for a day; for every hour write *'),
        ("0 0 1 ? *", '"?" can only stand for a day; for every month write *'),
        ("? 0 0 * * *", "for every second write *"),
        ("0 0 0 1 1 * ?", "for every year write *"),
        ("0 10 ? * MON-FRI *", '"?" can only stand for a day; for every hour write *'),
        ("0 0 ?,5 * *", '"?,5" is no day: "?" stands alone'),
        ("0 0 ?/2 * *", '"?/2" is no day: "?" stands alone'),
        ("0 0 * * ?-5", '"?-5" is no day: "?" stands alone'),
        ("0 0 L-31 * *", '"L-31" is no day of a month'),
        ("0 0 L-x * *", "its day of the month must be within 1 and 31, not L"),
        ("0 0 0W * *", "its day of the month must be within 1 and 31, not 0"),
        ("0 0 32W * *", "its day of the month must be within 1 and 31, not 32"),
        ("0 0 1-5W * *", "its day of the month must be within 1 and 31, not 5W"),
        ("0 0 W * *", "its day of the month must be within 1 and 31, not W"),
        ("0 0 L-3W * *", "its day of the month must be within 1 and 31, not L"),
        ("L * * * *", "its minute must be within 0 and 59, not L"),
        ("0 0 * * L", '"L" alone is no day of the week; write FRIL for the last Friday of the month, or SAT'),
        ("0 0 * * 8L", "its day of the week must be within 0 and 7, or SUN to SAT, not 8"),
        ("0 0 * * MON#0", '"MON#0" is no day: a month has a weekday up to 5 times'),
        ("0 0 * * MON#6", '"MON#6" is no day: a month has a weekday up to 5 times'),
        ("0 0 * * MON#01", '"MON#01" is no day'),
        ("0 0 * * #1", '"#1" cannot be its day of the week'),
        ("0 0 * * 9#1", "its day of the week must be within 0 and 7, or SUN to SAT, not 9"),
        ("0 0 * * 1#1#1", '"1#1#1" cannot be its day of the week'),
        ("0 0 1#1 * *", '"1#1" cannot be its day of the month'),
        ("0 0 * * 5W", "its day of the week must be within 0 and 7, or SUN to SAT, not 5W"),
        ("0 0 */2 * MON", "for either, write the days of the step as a range, such as 1-31/2"),
        ("0 0 1 * */2", "means both to some crons and either to others"),
        ("0 0 30 2 *", "it names no day that there ever is"),
        ("0 0 31 2,4,6,9,11 *", "it names no day that there ever is"),
        ("0 0 0 29 2 ? 2025-2027", "it names no day that there ever is"),
        ("0 0 L-30 4 *", "it names no day that there ever is"),
        ("0 0 0 ? 2 MON#5 2025-2043", "it names no day that there ever is"),
        ("@reboot", "there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"),
        ("@dayly", 'did you mean "@daily"?'),
        ("@every 5m", "there are @yearly"),
        ("@", "there are @yearly"),
        ("\u0663 * * * *", "the character U+0663, which has no meaning in a schedule"),
        ("\uff15 * * * *", "the character U+FF15, which has no meaning in a schedule"),
        ("0 0 * * \u017fun", "the character U+017F, which has no meaning in a schedule"),
        ("0\u00a00 * * *", "the character U+00A0, which has no meaning in a schedule"),
        ("0 0 * * *\0", "the character U+0000, which has no meaning in a schedule"),
        ("\x1b[2J * * * *", "the character U+001B, which has no meaning in a schedule"),
        ("0 0 * * \udcff", "the character U+DCFF, which has no meaning in a schedule"),
        ("* " * 5000, "it is longer than 512 characters"),
        ("1" * 10_000, "it is longer than 512 characters"),
        ("1," * 300 + "1 * * * *", "it is longer than 512 characters"),
        ("cron(0 8 * * ? *)", '"?" can only stand for a day; for every month write *'),
        ("cron(0 8 1 * MON)", '"MON)" cannot be its day of the week'),
        ("$(reboot) * * * *", "cannot be its minute"),
        ("0 0 1 1 * ; rm -rf /", "it has 9 fields"),
    ],
)
def test_bad_expressions(expression: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        cron(expression, "Europe/Berlin")
    told = str(refused.value)
    assert reason in told
    assert told.startswith('the schedule "')
    assert len(told) < 400
    assert told.isprintable()


@pytest.mark.parametrize(
    ("zone", "nearest"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("EUROPE/BERLIN", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("Europe/Berlin ", "Europe/Berlin"),
        ("Europe/Berlin/", "Europe/Berlin"),
        ("Europe//Berlin", "Europe/Berlin"),
        ("./Europe/Berlin", "Europe/Berlin"),
        ("Europe/Berlin\0", "Europe/Berlin"),
        ("Europe\\Berlin", "Europe/Berlin"),
        ("america/new_york", "America/New_York"),
        ("America/New York", "America/New_York"),
        ("utc", "UTC"),
        ("", None),
        (" ", None),
        (".", None),
        ("..", None),
        ("Europe", ...),
        ("America", ...),
        ("../../../../etc/passwd", None),
        ("/etc/passwd", None),
        ("/usr/share/zoneinfo/Europe/Berlin", ...),
        ("Europe/../Europe/Berlin", "Europe/Berlin"),
        ("zone.tab", None),
        ("tzdata.zi", None),
        ("leapseconds", None),
        ("localtime", None),
        ("posix/Europe/Berlin", "Europe/Berlin"),
        ("right/Europe/Berlin", "Europe/Berlin"),
        ("Factory", ...),
        ("+02:00", None),
        ("Europe/Berlin; rm -rf /", ...),
        ("\u0395urope/Berlin", "Europe/Berlin"),
        ("\udcff", None),
        ("x" * 10_000, None),
        ("a/" * 5000, None),
    ],
)
def test_bad_zones_are_told_the_nearest(zone: str, nearest: object) -> None:
    with pytest.raises(Invalid, match="there is no time zone") as refused:
        cron("* * * * *", zone)
    told = str(refused.value)
    assert told.isprintable()
    assert len(told) < 200
    if nearest is not ...:
        assert told.partition("; ")[2] == (f'did you mean "{nearest}"?' if nearest else "")


ALPHABET = st.sampled_from("0123456789*?,-/#LW @JANMONFRI\t")


def accepted(text: str, zone: str = "UTC") -> Cron | None:
    """What is made of a text; None when it is refused, in one line."""
    try:
        return cron(text, zone)
    except Invalid as error:
        told = str(error)
    assert told.isprintable()
    return None


@FUZZ
@given(st.one_of(st.text(max_size=60), st.text(ALPHABET, max_size=60), st.lists(st.text(ALPHABET, min_size=1, max_size=6)).map(" ".join)))
@example("0 0 L * MONL,TUE#5")
def test_any_text_is_read_or_refused(text: str) -> None:
    schedule = accepted(text)
    if schedule is not None:
        assert len(text.split()) in (1, 5, 6, 7)
        assert text.isascii()
        assert len(sentence(schedule)) < 2000
        assert schedule.next(0) is not None


@FUZZ
@given(st.one_of(st.text(max_size=60), st.text("/.EuropeBlin_-+0", max_size=30)))
def test_any_text_is_a_zone_or_refused(text: str) -> None:
    schedule = accepted("* * * * *", text)
    assert schedule is None or schedule.zone.name == text


@pytest.mark.parametrize(
    "text",
    [
        "0 0 31 2,4,6,9,11 *",
        "0 0 0 ? 2 MON#5 2100-2103",
        "0 0 0 L-30,31W,30 2 ? 1970-2199",
        "*," * 250 + "* * * * *",
        "0-59," * 95 + "0 * * * *",
        "* " * 1_000_000,
        "\0" * 1_000_000,
    ],
)
def test_reading_takes_no_time_whatever_it_is(text: str) -> None:
    """A bound that a slow machine keeps a hundred times over; how fast it is stands in the benchmarks."""
    begun = time.perf_counter()
    for _ in range(3):
        cron.cache_clear()
        with contextlib.suppress(Invalid):
            cron(text)
    assert time.perf_counter() - begun < 1
