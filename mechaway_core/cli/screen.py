"""What standard output can show: marks or plain letters, colours or none, lines of what width."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from datetime import datetime

_MARKS = {"succeeded": "✓", "failed": "✗", "timed_out": "✗", "cancelled": "✗", "skipped": "–", "disabled": "·", "replayed": "↻"}
_PLAIN = {"succeeded": "+", "failed": "x", "timed_out": "x", "cancelled": "x", "skipped": "-", "disabled": ".", "replayed": "~"}
_SIGNS = {"→": "->", "…": "...", "·": "|", "–": "-"}
_COLOURS = {"succeeded": 32, "failed": 31, "timed_out": 31, "cancelled": 33, "queued": 36, "running": 36, "skipped": 2, "disabled": 2}


@dataclass(frozen=True, slots=True)
class Screen:
    """`width` in columns, None where nothing is cut; `plain` for an encoding that lacks the marks."""

    width: int | None
    colours: bool
    plain: bool
    encoding: str

    @classmethod
    def here(cls) -> Screen:
        """Standard output as it is. The variable COLUMNS says its width, too."""
        out = sys.stdout
        width = shutil.get_terminal_size((0, 0)).columns if out.isatty() else 0
        encoding = out.encoding or "ascii"
        try:
            "".join((*_MARKS.values(), *_SIGNS)).encode(encoding)
        except UnicodeEncodeError:
            return cls(width or None, out.isatty(), True, encoding)
        return cls(width or None, out.isatty(), False, encoding)

    def say(self, line: str) -> None:
        """Print a line at once."""
        if self.plain:
            for sign, letters in _SIGNS.items():
                line = line.replace(sign, letters)
            line = line.encode(self.encoding, "backslashreplace").decode(self.encoding)
        print(line, flush=True)

    def mark(self, status: str) -> str:
        """The mark of a status, in one column."""
        return self.colour((_PLAIN if self.plain else _MARKS).get(status, "*"), status)

    def colour(self, text: str, status: str) -> str:
        """A text in the colour of a status, on a terminal."""
        return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if self.colours and status in _COLOURS else text

    def fit(self, text: str, used: int) -> str:
        """A text on one line, cut to what `used` columns leave; twenty in any case."""
        flat = " ".join(clean(text).split())
        most = len(flat) if self.width is None else max(self.width - used, 20)
        return flat if len(flat) <= most else flat[: most - 1] + "…"


def clean(text: str) -> str:
    """A text from anywhere without what would move the cursor of a terminal or change its colours."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else " " * 4 if sign == "\t" else sign.encode("unicode_escape").decode() for sign in text
    )


def local_time(text: str) -> str:
    """A time in ISO 8601 as the clock on the wall of this machine shows it."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def span(milliseconds: float | None) -> str:
    """How long something took."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
