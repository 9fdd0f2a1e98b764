"""A schedule as a sentence for people."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from mechaway_core.cron.expression import Days
from mechaway_core.cron.fields import HOUR, MINUTE, MONTH, SECOND, YEAR, Field
from mechaway_core.cron.schedule import Cron

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth")
_TIMES = 6  # times of a day that are listed; more are told by hours and minutes


def sentence(cron: Cron) -> str:
    """Such as "every third minute", or "at 09:00 on the last weekday of the month, Europe/Berlin"."""
    expression = cron.expression
    time, named = _time(expression.seconds, expression.minutes, expression.hours)
    date = _date(cron)
    said = f"{time} {date or ('every day' if named and not time.endswith('hour') else '')}".rstrip()
    return f"{said}, {cron.zone.name}" if named or date else said


def _time(seconds: tuple[int, ...], minutes: tuple[int, ...], hours: tuple[int, ...]) -> tuple[str, bool]:
    """The time of day, and whether it names hours."""
    every_hour = len(hours) == 24
    step = _step(hours, HOUR)
    if step is not None and step > 1 and len(minutes) == len(seconds) == 1:
        past = "" if minutes == seconds == (0,) else f"at {_past(minutes, seconds)} "
        return f"{past}every {_nth(step)}hour", True
    if not every_hour and len(hours) * len(minutes) * len(seconds) <= _TIMES:
        shown = [
            f"{hour:02}:{minute:02}" + (f":{second:02}" if seconds != (0,) else "")
            for hour, minute, second in product(hours, minutes, seconds)
        ]
        return f"at {_listed(shown)}", True
    within = "" if every_hour else f" {_hours(hours, minutes, seconds)}"
    return f"{_within_an_hour(seconds, minutes, every_hour)}{within}", not every_hour


def _within_an_hour(seconds: tuple[int, ...], minutes: tuple[int, ...], every_hour: bool) -> str:
    step, stride = _step(minutes, MINUTE), _stride(minutes)
    if seconds == (0,) and step is not None:
        return f"every {_nth(step)}minute"
    if seconds == minutes == (0,):
        return "every hour" if every_hour else "on the hour"
    if seconds == (0,) and stride is not None:
        return f"{_named(minutes, 'minute')} past the hour"
    if len(seconds) == 1 and step is None and stride is None:
        return f"at {_past(minutes, seconds)} the hour"
    if step == 1:
        return _seconds(seconds)
    return f"{_seconds(seconds)} of {f'every {_nth(step)}minute' if step is not None else _named(minutes, 'minute')}"


def _seconds(seconds: tuple[int, ...]) -> str:
    step = _step(seconds, SECOND)
    if step is not None:
        return f"every {_nth(step)}second"
    if _stride(seconds) is not None:
        return f"{_named(seconds, 'second')} past the minute"
    return f"at {_counted(seconds, 'second')} past the minute"


def _past(minutes: tuple[int, ...], seconds: tuple[int, ...]) -> str:
    """So many minutes, and with `seconds` of another minute's beginning the seconds, past."""
    said = _counted(minutes, "minute")
    return f"{said} past" if seconds == (0,) else f"{said} and {_counted(seconds, 'second')} past"


def _counted(values: tuple[int, ...], unit: str) -> str:
    return f"{_spans(values, str)} {unit}{'' if values == (1,) else 's'}"


def _hours(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> str:
    """The hours: where they follow one another as the first and the last time of the day."""
    if len(_runs(hours)) == 1 and len(hours) * len(minutes) * len(seconds) > 1:
        return f"from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return f"in {_named(hours, 'hour')}"


def _date(cron: Cron) -> str:
    expression = cron.expression
    days = []
    if expression.days is not None:
        days.append(_days_of_month(expression.days, expression.special_days))
    if expression.weekdays is not None:
        days.append(_days_of_week(expression.weekdays, expression.special_weekdays))
    said = [f"on {' or on '.join(days)}"] if days else []
    months = _months(expression.months)
    if expression.days is not None and not months and expression.weekdays is None:
        said.append("of the month")
    elif months:
        said.append(("of " if expression.days is not None else "in ") + months)
    if len(expression.years) < YEAR.most - YEAR.least + 1:
        said.append("in " + _spans(expression.years, str))
    return " ".join(said)


def _days_of_month(days: frozenset[int], special: Days) -> str:
    said = []
    if days:
        values = tuple(sorted(days))
        said.append(f"day {_spans(values, str)}" if _stride(values) is None else _named(values, "day"))
    for back in sorted(special.before_last):
        said.append(
            "the last day" if back == 0 else "the day before the last day" if back == 1 else f"the day {back} days before the last day"
        )
    for day in sorted(special.nearest):
        said.append("the last weekday" if day == 0 else f"the weekday nearest to day {day}")
    return _listed(said)


def _days_of_week(weekdays: frozenset[int], special: Days) -> str:
    said = []
    if weekdays:
        from_monday = tuple(sorted((day - 1) % 7 for day in weekdays))
        said.append(_spans(from_monday, lambda day: _WEEKDAYS[(day + 1) % 7]))
    for weekday, which in sorted(special.nth):
        said.append(f"the {'last' if which < 0 else _ORDINALS[which]} {_WEEKDAYS[weekday]} of the month")
    return _listed(said)


def _months(months: tuple[int, ...]) -> str:
    if len(months) == 12:
        return ""
    step = _step(months, MONTH)
    return f"every {_nth(step)}month" if step is not None and step > 1 else _spans(months, lambda month: _MONTHS[month - 1])


def _step(values: tuple[int, ...], field: Field) -> int | None:
    """The step of values that come back in one rhythm for ever, such as 0, 15, 30 and 45; None where they do not.

    Two hours or months in a day or year are better named.
    """
    if values[0] != field.least or len(values) < (2 if field in (SECOND, MINUTE) else 3):
        return None
    step = values[1] - values[0]
    whole = field.most - field.least + 1
    return step if whole % step == 0 and values == tuple(range(field.least, field.most + 1, step)) else None


def _stride(values: tuple[int, ...]) -> int | None:
    """What lies between values, where that is the same between all of many and they do not follow one another."""
    if len(values) < 4:
        return None
    stride = values[1] - values[0]
    return stride if stride > 1 and values == tuple(range(values[0], values[-1] + 1, stride)) else None


def _nth(step: int) -> str:
    if step == 1:
        return ""
    if step == 2:  # "every second minute" could be of 2 or of 120 seconds
        return "other "
    if step < len(_ORDINALS):
        return f"{_ORDINALS[step]} "
    ending = "th" if step % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(step % 10, "th")
    return f"{step}{ending} "


def _named(values: tuple[int, ...], unit: str) -> str:
    if (stride := _stride(values)) is not None:
        return f"every {_nth(stride)}{unit} from {values[0]} to {values[-1]}"
    return f"{unit}{'s' if len(values) > 1 else ''} {_spans(values, str)}"


def _runs(values: tuple[int, ...]) -> list[tuple[int, int]]:
    """Spans of values that follow one another."""
    spans: list[tuple[int, int]] = []
    for value in values:
        if spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return spans


def _spans(values: tuple[int, ...], name: Callable[[int], str]) -> str:
    said = []
    for low, high in _runs(values):
        said += [name(low)] if low == high else [name(low), name(high)] if high == low + 1 else [f"{name(low)} to {name(high)}"]
    return _listed(said)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
