"""The fields of a cron expression: what each may hold, and the values that it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mechaway_core.errors import Invalid

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")  # as unix counts them, from 0

Refuse = Callable[[str], Invalid]

_PART = re.compile(r"(\*|\?|\w+)(?:-(\w+))?(?:/(\w+))?", re.ASCII)


def quoted(text: str, most: int = 80) -> str:
    """A text for a message: cut when long, and what cannot be seen as its number."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its name, its least and greatest value, and the words that stand for values, the first for `first`."""

    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()
    first: int = 0
    turns: bool = True  # a range may go over the end: 22-2 are hours, FRI-MON are days
    also: int | None = None  # one more number for the least value: 7 is Sunday, too

    def values(self, text: str, refuse: Refuse) -> frozenset[int]:
        """The values that a field names: `*`, `5`, `1-5`, `*/10`, `2-20/3`, `5/15`, names, and lists of these."""
        found: set[int] = set()
        for part in text.split(","):
            found.update(self.part(part, refuse))
        return frozenset(found)

    def part(self, text: str, refuse: Refuse) -> range | list[int]:
        """The values of one part of a list."""
        match = _PART.fullmatch(text)
        if match is None or (match[1] in ("*", "?") and match[2] is not None) or (match[1] == "?" and text != "?"):
            raise refuse(f'"{quoted(text, 20)}" cannot be its {self.name}')
        start, end, step = match.groups()
        stride = 1 if step is None else self._step(step, text, refuse)
        if start in ("*", "?"):
            return range(self.least, self.most + 1, stride)
        low = self._number(start, refuse)
        high = self._number(end, refuse) if end is not None else low if step is None else self.most
        if low > high:
            if not self.turns:
                raise refuse(f'"{quoted(text, 20)}" cannot be its {self.name}: the range ends before it begins')
            high += self._whole
        return [(number - self.least) % self._whole + self.least for number in range(low, high + 1, stride)]

    def value(self, text: str, refuse: Refuse) -> int:
        """The value that a number or a name stands for."""
        return (self._number(text, refuse) - self.least) % self._whole + self.least

    @property
    def _whole(self) -> int:
        return self.most - self.least + 1

    def _number(self, text: str, refuse: Refuse) -> int:
        """A number as it is written, such as 7 for a Sunday, or the one that a name stands for."""
        if text in self.words:
            return self.words.index(text) + self.first
        most = self.most if self.also is None else self.also
        number = int(text) if text.isdecimal() and len(text) <= 6 else None
        if number is None or not self.least <= number <= most:
            known = f", or {self.words[0]} to {self.words[-1]}" if self.words else ""
            raise refuse(f"its {self.name} must be within {self.least} and {most}{known}, not {quoted(text, 20)}")
        return number

    def _step(self, text: str, part: str, refuse: Refuse) -> int:
        step = int(text) if text.isdecimal() and len(text) <= 6 else 0
        if not 0 < step <= self.most - self.least:
            most = self.most - self.least
            raise refuse(f'the step in "{quoted(part, 20)}", its {self.name}, must be within 1 and {most}')
        return step


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of the month", 1, 31, turns=False)
MONTH = Field("month", 1, 12, MONTHS, 1)
WEEKDAY = Field("day of the week", 0, 6, WEEKDAYS, also=7)
YEAR = Field("year", 1970, 2199, turns=False)
