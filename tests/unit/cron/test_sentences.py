"""Schedules as sentences."""

from __future__ import annotations

import pytest

from mechaway_core.cron import cron, sentence

TABLE = {
    "* * * * *": "every minute",
    "*/3 * * * *": "every third minute",
    "*/7 * * * *": "every seventh minute from 0 to 56 past the hour",
    "@hourly": "every hour",
    "30 * * * *": "at 30 minutes past the hour",
    "1 * * * *": "at 1 minute past the hour",
    "5,35 * * * *": "at 5 and 35 minutes past the hour",
    "1-59/2 * * * *": "every other minute from 1 to 59 past the hour",
    "0-30 * * * *": "at 0 to 30 minutes past the hour",
    "*/30 * * * *": "every 30th minute",
    "*/40 * * * *": "at 0 and 40 minutes past the hour",
    "* * * * * *": "every second",
    "*/10 * * * * *": "every tenth second",
    "30 * * * * *": "at 30 seconds past the minute",
    "1-59/3 * * * * *": "every third second from 1 to 58 past the minute",
    "*/10 */5 * * * *": "every tenth second of every fifth minute",
    "*/10 1-59/2 * * * *": "every tenth second of every other minute from 1 to 59",
    "15 0 * * * *": "at 0 minutes and 15 seconds past the hour",
    "1 1 * * * *": "at 1 minute and 1 second past the hour",
    "1,2 3,4 5,6 * * *": "at 1 and 2 seconds past the minute of minutes 3 and 4 from 05:03 to 06:04 every day, Europe/Berlin",
    "0 */2 * * *": "every other hour, Europe/Berlin",
    "30 */2 * * *": "at 30 minutes past every other hour, Europe/Berlin",
    "@daily": "at 00:00 every day, Europe/Berlin",
    "@weekly": "at 00:00 on Sunday, Europe/Berlin",
    "@monthly": "at 00:00 on day 1 of the month, Europe/Berlin",
    "@yearly": "at 00:00 on day 1 of January, Europe/Berlin",
    "*/30 9-17 * * *": "every 30th minute from 09:00 to 17:30 every day, Europe/Berlin",
    "0 8-18 * * *": "on the hour from 08:00 to 18:00 every day, Europe/Berlin",
    "* 9 * * *": "every minute from 09:00 to 09:59 every day, Europe/Berlin",
    "0 22-2 * * *": "at 00:00, 01:00, 02:00, 22:00 and 23:00 every day, Europe/Berlin",
    "0 1-23/2 * * *": "on the hour in every other hour from 1 to 23 every day, Europe/Berlin",
    "*/15 8-10,14-16 * * MON-FRI": "every 15th minute in hours 8 to 10 and 14 to 16 on Monday to Friday, Europe/Berlin",
    "0 0 */2 * *": "at 00:00 on every other day from 1 to 31 of the month, Europe/Berlin",
    "0 0 1 */2 *": "at 00:00 on day 1 of every other month, Europe/Berlin",
    "0 0 * */3 *": "at 00:00 in every third month, Europe/Berlin",
    "* * * 1 *": "every minute in January, Europe/Berlin",
    "0 0 L-1,15W * *": "at 00:00 on the day before the last day and the weekday nearest to day 15 of the month, Europe/Berlin",
    "0 0 L-5 * *": "at 00:00 on the day 5 days before the last day of the month, Europe/Berlin",
    "0 0 0 1 1 ? 2030": "at 00:00 on day 1 of January in 2030, Europe/Berlin",
    "59 59 23 31 12 ? 2030-2035,2040": "at 23:59:59 on day 31 of December in 2030 to 2035 and 2040, Europe/Berlin",
    "0 */12 * * *": "at 00:00 and 12:00 every day, Europe/Berlin",
    "* * * * SAT,SUN": "every minute on Saturday and Sunday, Europe/Berlin",
    "0 9 LW * *": "at 09:00 on the last weekday of the month, Europe/Berlin",
    "0 9 * * MON#1": "at 09:00 on the first Monday of the month, Europe/Berlin",
    "0 9 * * FRIL": "at 09:00 on the last Friday of the month, Europe/Berlin",
    "0 0 13 * FRI": "at 00:00 on day 13 or on Friday, Europe/Berlin",
    "0 0 L * 5L": "at 00:00 on the last day or on the last Friday of the month, Europe/Berlin",
    "0 9 1-7 * MON": "at 09:00 on day 1 to 7 or on Monday, Europe/Berlin",
    "0 9 1 JAN,JUL *": "at 09:00 on day 1 of January and July, Europe/Berlin",
    "*/5 9-17 * * MON-FRI": "every fifth minute from 09:00 to 17:55 on Monday to Friday, Europe/Berlin",
    "30 2 29 2 *": "at 02:30 on day 29 of February, Europe/Berlin",
    "*/30 * * * * MON#2,FRIL": "every 30th second on the second Monday of the month and the last Friday of the month, Europe/Berlin",
    "0 0 1 NOV-FEB *": "at 00:00 on day 1 of January, February, November and December, Europe/Berlin",
}


@pytest.mark.parametrize(("expression", "said"), TABLE.items())
def test_a_schedule_is_a_sentence(expression: str, said: str) -> None:
    assert sentence(cron(expression, "Europe/Berlin")) == said


def test_a_sentence_names_the_zone_where_it_matters() -> None:
    assert sentence(cron("*/5 * * * *", "Asia/Tokyo")) == "every fifth minute"
    assert sentence(cron("0 9 * * *", "Asia/Tokyo")) == "at 09:00 every day, Asia/Tokyo"


def test_what_is_the_same_is_said_the_same() -> None:
    for ways in (
        ("0 9 * * 0", "0 9 * * 7", "0 9 ? * SUN", "0 0 9 ? * 7-7 *"),
        ("0 0 * * *", "@daily", "@midnight", "0 0 1-31 * *", "0 0 ? * ?", "0 0 1 * 0-6", "0 0 */1 * *"),
        ("*/15 * * * *", "0,15,30,45 * * * *", "0/15 * * * *", "0 0-45/15 0-23 * * *"),
    ):
        assert len({sentence(cron(way)) for way in ways}) == 1, ways
