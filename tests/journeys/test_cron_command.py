"""`mechaway cron`, as people and programs use it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.journeys.server import mechaway

BERLIN = ("--tz", "Europe/Berlin")


def test_it_says_the_sentence_and_the_next_fires_in_the_zone_and_in_utc() -> None:
    done = mechaway("cron", "30 2 * * *", *BERLIN, "--from", "2025-10-25", "--count", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "at 02:30 every day, Europe/Berlin",
        "",
        "Europe/Berlin                  UTC",
        "Sat 2025-10-25 02:30:00+02:00  2025-10-25T00:30:00Z",
        "Sun 2025-10-26 02:30:00+02:00  2025-10-26T00:30:00Z",
        "Mon 2025-10-27 02:30:00+01:00  2025-10-27T01:30:00Z",
        "",
        "In AWS",
        "rule       cron(30 0,1 * * ? *)",
        "Scheduler  cron(30 2 * * ? *), Europe/Berlin",
    ]


def test_programs_read_it_as_json() -> None:
    done = mechaway("cron", "*/30 * * * *", *BERLIN, "--from", "2025-10-26T02:30", "--count", "2", "--json")
    assert json.loads(done.stdout) == {
        "expression": "*/30 * * * *",
        "timezone": "Europe/Berlin",
        "sentence": "every 30th minute",
        "fires": [
            {"local": "2025-10-26T02:30:00+02:00", "utc": "2025-10-26T00:30:00Z"},
            {"local": "2025-10-26T02:00:00+01:00", "utc": "2025-10-26T01:00:00Z"},
        ],
        "aws": {"rules": ["cron(0,30 * * * ? *)"], "scheduler": [{"expression": "cron(0,30 * * * ? *)", "timezone": "UTC"}]},
    }


@pytest.mark.parametrize("start", ["2025-10-26T02:00", "2025-10-26T02:00+02:00", "2025-10-26T00:00Z", "20251026T020000"])
def test_a_time_to_begin_with_is_in_the_zone_unless_it_says_another_and_counts_itself(start: str) -> None:
    done = mechaway("cron", "0 * * * *", *BERLIN, "--from", start, "--count", "1", "--json")
    assert json.loads(done.stdout)["fires"][0]["utc"] == "2025-10-26T00:00:00Z"


def test_without_more_words_it_is_from_now_on_in_utc() -> None:
    report = json.loads(mechaway("cron", "* * * * * *", "--json").stdout)
    assert (report["timezone"], len(report["fires"])) == ("UTC", 5)
    assert abs(datetime.fromisoformat(report["fires"][0]["utc"]) - datetime.now(UTC)) < timedelta(minutes=5)


def test_it_says_when_a_schedule_ends() -> None:
    done = mechaway("cron", "0 0 0 1 1 ? 2030-2031", "--from", "2020-01-01")
    assert done.stdout.splitlines()[5] == "and never again"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["60 * * * *"], "its minute must be within 0 and 59, not 60"),
        (["* * * *"], "it has 4 fields"),
        ([""], "it has 0 fields"),
        (["-1 * * * *"], '"-1" cannot be its minute'),
        (["0 0 30 2 *"], "it names no day that there ever is"),
        (["* * * * *", "--tz", "europe/berlin"], 'did you mean "Europe/Berlin"?'),
        (["* * * * *", "--tz", "../../etc/passwd"], "there is no time zone"),
        (["* * * * *", "--from", "tomorrow"], "--from takes a time such as"),
        (["* * * * *", "--from", ""], "--from takes a time such as"),
        (["* * * * *", "--from", "9999-12-31T23:59"], "does not fire from then on"),
        (["* * * * *", "--count", "0"], "--count must be within 1 and 1000, not 0"),
        (["* * * * *", "--count", "1001"], "--count must be within 1 and 1000"),
        (["0 0 0 1 1 ? 2000"], "does not fire any more"),
        (["30 2 * 3 SUNL", *BERLIN], "does not fire any more"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: list[str], words: str) -> None:
    done = mechaway("cron", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mechaway: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_expression_without_quotes_is_not_understood() -> None:
    for arguments in (["*", "*", "*", "*", "*"], [], ["* * * * *", "--count", "x"]):
        assert mechaway("cron", *arguments).returncode == 2


def test_its_help_teaches() -> None:
    told = mechaway("cron", "--help").stdout
    for words in ("'*/15 9-17 * * MON-FRI' --tz Europe/Berlin", "0 and 7 are Sunday", "either will do", "docs/schedules.md"):
        assert words in told
