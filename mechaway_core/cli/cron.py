"""`mechaway cron`: what a schedule means, before a workflow has it."""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from mechaway_core.aws.cron import eventbridge, scheduler
from mechaway_core.cron import Cron, cron, sentence
from mechaway_core.errors import Invalid
from mechaway_core.names import shorten

MOST = 1000

_CRON = """Say what a schedule means: as a sentence, as the next times it fires, in its time zone and in UTC, and as what AWS gets.
Nothing is started.

  mechaway cron '*/15 9-17 * * MON-FRI' --tz Europe/Berlin
  mechaway cron '0 9 LW * *' --tz America/New_York --count 12       the last weekday of every month
  mechaway cron '30 2 * * *' --tz Europe/Berlin --from 2025-10-25   what it does when the clocks are set

An expression has 5 fields; with 6 the seconds are first, with 7 the year is last:

  second  minute  hour  day of the month  month  day of the week  year
   0-59    0-59   0-23  1-31 L L-n LW nW   1-12   0-7 n#k nL       1970-2199

Every field takes * and lists (1,5), ranges (9-17), steps (*/10, 9-17/2, 5/15), months and days of the week their names (JAN, MON).
0 and 7 are Sunday, also with 6 and 7 fields; Quartz counts from 1, so names are safer: FRI#2 is the second Friday, FRIL the last.
Where both day fields name days, either will do; ? says that a field does not. There are @hourly, @daily, @weekly, @monthly and @yearly.

Quote the expression, or the shell makes file names of its stars. docs/schedules.md has it all.
"""


def add_command(commands: Any) -> None:
    """Add `cron` to the commands of the command line."""
    parser = commands.add_parser(
        "cron", help="say what a schedule means and when it fires", description=_CRON, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("expression", metavar="EXPR", help="the expression, in quotes, such as '0 9 * * MON-FRI'")
    parser.add_argument("--tz", default="UTC", metavar="ZONE", help="its time zone, such as Europe/Berlin (default UTC)")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="TIME",
        help="from this time on (default now): 2025-10-26T01:00 in the zone, or 2025-10-26T01:00Z, or with an offset such as +02:00",
    )
    parser.add_argument("--count", type=int, default=5, metavar="N", help=f"so many times, {MOST} at most (default 5)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(command=_cron)


def _cron(arguments: argparse.Namespace) -> int:
    schedule = cron(arguments.expression, arguments.tz)
    if not 1 <= arguments.count <= MOST:
        raise Invalid(f"--count must be within 1 and {MOST}, not {arguments.count}")
    start = time.time() if arguments.start is None else _moment(arguments.start, schedule.zone.name)
    fires = list(islice(schedule.between(start, math.inf), arguments.count))
    if not fires:
        raise Invalid(
            f'the schedule "{shorten(arguments.expression)}" does not fire {"any more" if arguments.start is None else "from then on"}'
        )
    if arguments.json:
        print(json.dumps(_as_json(schedule, fires), indent=2, ensure_ascii=False))
    else:
        print(sentence(schedule))
        _print_fires(schedule, fires, arguments.count)
        _print_aws(schedule)
    return 0


def _moment(text: str, zone: str) -> float:
    """A time as it was typed, in the zone unless it says another; seconds since 1970."""
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo is not None else given.replace(tzinfo=ZoneInfo(zone))).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(f'--from takes a time such as 2025-10-26T01:00, 2025-10-26 or 2025-10-26T01:00Z, not "{shorten(text)}"') from None


def _as_json(schedule: Cron, fires: list[int]) -> dict[str, Any]:
    return {
        "expression": schedule.expression.text,
        "timezone": schedule.zone.name,
        "sentence": sentence(schedule),
        "fires": [{"local": _shown(moment, schedule).isoformat(), "utc": _utc(moment)} for moment in fires],
        "aws": {
            "rules": eventbridge(schedule.expression.text, schedule.zone.name),
            "scheduler": [{"expression": said, "timezone": zone} for said, zone in scheduler(schedule.expression.text, schedule.zone.name)],
        },
    }


def _print_fires(schedule: Cron, fires: list[int], count: int) -> None:
    print(f"\n{schedule.zone.name:<29}  UTC")
    for moment in fires:
        shown = _shown(moment, schedule)
        print(f"{shown:%a} {shown.isoformat(sep=' ')}  {_utc(moment)}")
    if len(fires) < count:
        print("and never again")


def _print_aws(schedule: Cron) -> None:
    print("\nIn AWS")
    for said in eventbridge(schedule.expression.text, schedule.zone.name):
        print(f"rule       {said}")
    for said, zone in scheduler(schedule.expression.text, schedule.zone.name):
        print(f"Scheduler  {said}, {zone}")


def _shown(moment: int, schedule: Cron) -> datetime:
    return datetime.fromtimestamp(moment, ZoneInfo(schedule.zone.name))


def _utc(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
