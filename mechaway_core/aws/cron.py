"""Cron expressions as EventBridge says them.

Each field is read into the set of its values and written again: what cannot be said exactly is refused, never rounded. EventBridge has
minutes as its finest grain, counts days of the week from 1 for Sunday, and wants `?` for one of the two day fields. Where an expression
names days of the month *and* of the week, either is enough, as in every crontab; that takes two expressions. A minute that both name comes
twice, and is one run all the same: runs are claimed by their minute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count, groupby

from mechaway_core.errors import Invalid
from mechaway_core.names import shorten

MOST = 256  # characters of a schedule expression in EventBridge

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()
    first: int = 0  # the value of the first word


_MINUTE, _HOUR = _Field("minute", 0, 59), _Field("hour", 0, 23)
_DAY, _MONTH = _Field("day of the month", 1, 31), _Field("month", 1, 12, _MONTHS, 1)
_WEEKDAY = _Field("day of the week", 0, 7, _DAYS)
_YEAR = _Field("year", 1970, 2199)


def eventbridge(expression: str) -> tuple[str, ...]:
    """One or two `cron(…)` that together mean the expression: 5 fields, or 6 with seconds first, or 7 with the year last.

    Raises `Invalid` for what is no cron expression and for what EventBridge cannot say, such as seconds.
    """
    minute, hour, day, month, weekday, year = _fields(expression)
    days = _values(day, _DAY, expression)
    weekdays = {value % 7 + 1 for value in _values(weekday, _WEEKDAY, expression)}
    head = f"{_written(minute, _MINUTE, expression)} {_written(hour, _HOUR, expression)}"
    months, years = _written(month, _MONTH, expression), _written(year, _YEAR, expression)
    any_day, any_weekday = len(days) == 31, len(weekdays) == 7
    if not any_day and not any_weekday and (day.startswith("*") or weekday.startswith("*")):
        raise _refused(expression, "a step such as */2 in one day field beside days in the other means different things to different crons")
    said = []
    if not any_day or any_weekday:
        said.append(f"cron({head} {_text(days, _DAY)} {months} ? {years})")
    if not any_weekday:
        said.append(f"cron({head} ? {months} {','.join(map(str, sorted(weekdays)))} {years})")
    if any(len(one) > MOST for one in said):
        raise _refused(expression, f"it is longer than the {MOST} characters that EventBridge takes")
    return tuple(said)


def _fields(expression: str) -> tuple[str, str, str, str, str, str]:
    """Minute, hour, day, month, weekday and year, as written."""
    fields = _NICKNAMES.get(expression.strip().lower(), expression).upper().split()
    if len(fields) not in (5, 6, 7):
        raise _refused(expression, "it must have 5 fields, or 6 with seconds first, or 7 with the year last")
    if len(fields) > 5:
        seconds = fields.pop(0)
        if seconds not in ("0", "00"):
            raise _refused(expression, "EventBridge starts nothing within a minute; its seconds must be 0")
    minute, hour, day, month, weekday, year = fields if len(fields) == 6 else [*fields, "*"]
    return minute, hour, day, month, weekday, year


def _written(text: str, field: _Field, expression: str) -> str:
    return _text(_values(text, field, expression), field)


def _values(text: str, field: _Field, expression: str) -> set[int]:
    """The values that a field names."""
    values: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|\?|\w+)(?:-(\w+))?(?:/(\d{1,4}))?", part, re.ASCII)
        if match is None:
            raise _refused(expression, f'"{shorten(part, 20)}" cannot be its {field.name}')
        values.update(_range(match, field, expression))
    return values


def _range(match: re.Match[str], field: _Field, expression: str) -> range:
    start, end, step = match[1], match[2], match[3]
    if start in ("*", "?"):
        low, high = field.least, field.most
        if end is not None:
            raise _refused(expression, f'"{match[0]}" cannot be its {field.name}')
    else:
        low = _value(start, field, expression)
        high = _value(end, field, expression) if end is not None else field.most if step is not None else low
    if field is _WEEKDAY:
        if start in ("*", "?"):
            high = 6  # else a step would count Sunday at both ends
        elif end is not None and high == 0:
            high = 7  # FRI-SUN
    if low > high or (step is not None and int(step) == 0):
        raise _refused(expression, f'"{match[0]}" cannot be its {field.name}')
    return range(low, high + 1, int(step or 1))


def _value(text: str, field: _Field, expression: str) -> int:
    value = field.words.index(text) + field.first if text in field.words else int(text) if text.isdecimal() and len(text) <= 4 else -1
    if not field.least <= value <= field.most:
        raise _refused(expression, f"its {field.name} must be within {field.least} and {field.most}, not {shorten(text, 20)}")
    return value


def _text(values: set[int], field: _Field) -> str:
    """The values as EventBridge reads them: runs of three and more as ranges."""
    if len(values) == field.most - field.least + 1:
        return "*"
    numbered = count()
    runs = [list(run) for _, run in groupby(sorted(values), key=lambda value: value - next(numbered))]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def _refused(expression: str, why: str) -> Invalid:
    return Invalid(f'the schedule "{shorten(expression)}" cannot be kept: {why}')
