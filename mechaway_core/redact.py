"""Keeps secrets out of what is shown: every text that holds a secret's value gets `[secret NAME]` in its place.

A value is found as it is and in the shapes that software commonly gives it: percent-encoded in whole or in part, escaped for JSON, a
string literal or HTML, as UTF-8 that was read as Latin-1, in base64 of either alphabet wherever in the encoded text it stands, and in
hexadecimal. Of values that hold more than one thing the telling parts count too: the password in a connection string, the path of a URL,
the lines of a key in PEM.

Values shorter than four characters are only replaced where they are the whole text: every third word holds an "on". Searching is made
for texts that hold no secret: one look for the plainest piece of each value, and a pattern is only compiled once such a piece is found.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

SHORTEST = 4  # characters of a value that is looked for inside of texts
PIECE = 1000  # characters of a value that are looked for at once; a longer one is looked for piece by piece
ENCODED = 6  # bytes of a value whose base64 is looked for inside of texts
LINE = 16  # characters of a line, of a value with several, that counts by itself
MOST_LINES = 200
PATH = 12  # characters of the path of a URL that counts by itself
CUT = 8  # characters of a value at the end of a text that was cut there
MOST_CUTS = 100
REMEMBERED = 1000  # values that logs are kept clean of
MOST_REMEMBERED = 1_000_000  # characters of all of them

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
_PLAIN_RUN = re.compile(r"[A-Za-z0-9\-._]+")
_WORD_RUN = re.compile(r"[A-Za-z0-9]+")
_UNITS = re.compile(r"\\+[^\\]?|.", re.DOTALL)
_PASSWORD = re.compile(r"(?:^|[\s?&;])password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&;]+)", re.IGNORECASE)
_ELLIPSIS = re.compile(r"…|\.\.\.")
_BASE64 = r"[A-Za-z0-9+/_\-]"
_SLASHES = r"\\{1,8}+"  # possessive: whatever the value and the text are, there is one way to read them


@dataclass(frozen=True, slots=True, repr=False)
class _Needle:
    """A piece of a value in one shape: what every text with it holds, and how a pattern for it is made once such a text is met."""

    shown: str
    anchor: str
    piece: str
    pattern: Callable[[str], str]


class Redactor:
    """Replaces values in texts and JSON; they are given as value → name, None for what was derived from secrets. Thread-safe."""

    __slots__ = ("_least", "_lock", "_needles", "_numbers", "_patterns", "_values", "_whole")

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str | None] = {}
        self._needles: tuple[_Needle, ...] = ()
        self._least = 0  # no shorter text holds a needle
        self._whole: dict[str, str] = {}  # short values
        self._numbers: dict[float, str] = {}
        self._patterns: dict[tuple[_Needle, ...], re.Pattern[str]] = {}
        self.add(values)

    def add(self, values: Mapping[str, str | None]) -> None:
        """Look for more values from now on."""
        with self._lock:
            new = {value: name for value, name in values.items() if value and value not in self._values}
            if not new:
                return
            shown = {value: _shown(name) for value, name in new.items()}
            self._whole = self._whole | {value: label for value, label in shown.items() if len(value) < SHORTEST}
            numbers = {_number(value): label for value, label in shown.items() if len(value) >= SHORTEST}
            self._numbers = self._numbers | {number: label for number, label in numbers.items() if number is not None}
            needles = [needle for value, label in shown.items() if len(value) >= SHORTEST for needle in _needles(value, label)]
            # Longest first: of two values one of which begins with the other, the whole one is to be replaced.
            self._needles = tuple(sorted([*self._needles, *needles], key=lambda needle: -len(needle.piece)))
            self._least = min((len(needle.anchor) for needle in self._needles), default=0)
            self._values = self._values | new

    def text(self, text: str) -> str:
        """A text without the values."""
        if self._whole and text in self._whole:
            return self._whole[text]
        if len(text) < self._least:
            return text
        met = tuple([needle for needle in self._needles if needle.anchor in text])
        return self._replace(text, met) if met else text

    def message(self, text: str) -> str:
        """A message without the values, nor the beginning of one that was cut off at the message's end or before an ellipsis."""
        text = self.text(text)
        near = {value: name for value, name in self._values.items() if len(value) > CUT and value[:CUT] in text}
        return _without_cut(text, near) if near else text

    def value(self, value: T) -> T:
        """A JSON value without the values, keys of objects included. What holds none is answered itself; nothing is changed in place."""
        return self._clean(value)  # type: ignore[no-any-return]

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._clean_object(value)
        if isinstance(value, list | tuple):
            cleaned = [self._clean(one) for one in value]
            return value if all(one is two for one, two in zip(cleaned, value, strict=True)) else cleaned
        if self._numbers and isinstance(value, int | float) and not isinstance(value, bool):
            return self._numbers.get(value, value)
        return value

    def _clean_object(self, value: dict[Any, Any]) -> dict[Any, Any]:
        cleaned: dict[Any, Any] = {}
        same = True
        for key, inner in value.items():
            new_key, new = self._clean(key), self._clean(inner)
            same = same and new_key is key and new is inner
            cleaned[new_key] = new
        return value if same else cleaned

    def _replace(self, text: str, met: tuple[_Needle, ...]) -> str:
        pattern = self._patterns.get(met)
        if pattern is None:
            if len(self._patterns) > 50:
                self._patterns = {}
            pattern = self._patterns[met] = re.compile("|".join(f"({needle.pattern(needle.piece)})" for needle in met))
        out: list[str] = []
        at = 0
        for found in pattern.finditer(text):
            shown = met[(found.lastindex or 1) - 1].shown
            if found.start() > at or not out or out[-1] != shown:  # pieces of one value that follow each other are shown once
                out += [text[at : found.start()], shown]
            at = found.end()
        return "".join([*out, text[at:]]) if out else text


def _shown(name: str | None) -> str:
    return f"[secret {name}]" if name is not None else "[secret]"


# -- shapes of a value


def _needles(value: str, shown: str) -> tuple[_Needle, ...]:
    return _few_needles(value, shown) if len(value) <= PIECE else tuple(_shapes(value, shown))


@lru_cache(maxsize=REMEMBERED)
def _few_needles(value: str, shown: str) -> tuple[_Needle, ...]:
    return tuple(_shapes(value, shown))


def _shapes(value: str, shown: str) -> Iterator[_Needle]:
    plain = value.strip() if len(value.strip()) >= SHORTEST else value
    data = plain.encode("utf-8", "surrogatepass")
    yield from _raw(plain, shown)
    if not plain.isascii():  # what comes in a header was sent as UTF-8 and is read as Latin-1
        yield from _raw(data.decode("latin-1"), shown)
    yield from _base64(data, shown)
    yield from _hexadecimal(data, shown)
    for part in dict.fromkeys(_parts(value)):
        if len(part) >= SHORTEST and part != plain:
            yield from _raw(part, shown)


def _raw(value: str, shown: str) -> Iterator[_Needle]:
    for piece in _pieces(value):
        yield _Needle(shown, _longest(_PLAIN_RUN, piece), piece, _of_raw)


def _of_raw(text: str) -> str:
    """A pattern for a text, each of its characters as it is or as encoders write it."""
    return "".join(_any_way(unit) for unit in _UNITS.findall(text))


def _any_way(unit: str) -> str:
    """A pattern for one character, or backslashes and the character behind them, as it is or as encoders write it.

    Unreserved characters (RFC 3986) are left alone by all of them.
    """
    if unit in _UNRESERVED:
        return unit if unit.isalnum() or unit == "_" else re.escape(unit)
    if unit[0] != "\\":
        return f"(?:{'|'.join([*_plain_ways(unit), *(_SLASHES + tail for tail in _escapes(unit))])})"
    character = unit.lstrip("\\")
    count = len(unit) - len(character)
    percent = f"(?:{_percent(chr(92))}){{{count}}}"
    if not character:
        return f"(?:{_slashes(count)}|{percent})"
    # The slashes of the value and those of an escape behind them stand in one row; counting them together leaves one way to read it.
    escaped = "".join(f"|{_slashes(count + 1)}{tail}" for tail in _escapes(character))
    return f"(?:(?:{_slashes(count)}|{percent}){_any_way(character)}{escaped})"


def _slashes(count: int) -> str:
    """So many backslashes, or as many more as escaping them again and again makes of them."""
    return rf"\\{{{count},{8 * count}}}+"


def _percent(character: str) -> str:
    """A pattern for a character that is percent-encoded, once or several times."""
    return "".join(f"%(?:25){{0,3}}{_any_case(f'{octet:02X}')}" for octet in character.encode("utf-8", "surrogatepass"))


def _plain_ways(character: str) -> Iterator[str]:
    """The character without backslashes; longer ways first, so that of a value's last one everything is taken."""
    yield _percent(character)
    yield from {"&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"], '"': ["&quot;", "&#34;"], "'": ["&#x27;", "&#39;", "&apos;"]}.get(
        character, []
    )
    yield from {" ": [r"\+"], "\n": [r"\r\n"]}.get(character, [])
    yield re.escape(character)


def _escapes(character: str) -> Iterator[str]:
    """What stands behind the backslash in escapes of JSON and string literals."""
    units = character.encode("utf-16-be", "surrogatepass")
    yield _SLASHES.join("u" + _any_case(units[at : at + 2].hex().upper()) for at in range(0, len(units), 2))
    if ord(character) < 256:
        yield "x" + _any_case(f"{ord(character):02X}")
    short = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", '"': '"', "'": "'", "/": "/"}.get(character)
    if short is not None:
        yield short


def _any_case(pattern: str) -> str:
    """The same with hexadecimal letters of either case."""
    return re.sub("[A-F]", lambda found: f"[{found[0]}{found[0].lower()}]", pattern)


def _base64(data: bytes, shown: str) -> Iterator[_Needle]:
    """The base64 of any text with the value in it holds one of three middles, by where the value stands in it modulo three."""
    if len(data) < ENCODED:
        whole = base64.b64encode(data).decode().rstrip("=")
        yield _Needle(shown, _longest(_WORD_RUN, whole), whole, _of_base64_alone)
        return
    for before, first in ((0, 0), (1, 2), (2, 3)):  # the characters before `first` also hold bits of what stands before the value
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        full = (before + len(data)) * 8 // 6  # the character behind, if any, also holds bits of what stands behind
        *pieces, last = _pieces(encoded[first:full])
        for piece in pieces:
            yield _Needle(shown, _longest(_WORD_RUN, piece), piece, _of_base64)
        yield _Needle(shown, _longest(_WORD_RUN, last), last, _of_base64_end if full == len(encoded) else _of_base64_end_and_one)


def _of_base64(text: str) -> str:
    """A pattern for base64 of either alphabet, percent-encoded or not."""
    ways = {"+": r"(?:[+\-]|%2[bB])", "/": rf"(?:[/_]|%2[fF]|{_SLASHES}/)"}
    return "".join(ways.get(character, character) for character in text)


def _of_base64_alone(text: str) -> str:
    return f"(?<!{_BASE64}){_of_base64(text)}(?!{_BASE64})=*"


def _of_base64_end(text: str) -> str:
    return _of_base64(text) + "(?:=|%3[dD]){0,2}"


def _of_base64_end_and_one(text: str) -> str:
    return f"{_of_base64(text)}{_BASE64}?(?:=|%3[dD]){{0,2}}"


def _hexadecimal(data: bytes, shown: str) -> Iterator[_Needle]:
    for piece in _pieces(data.hex()):
        for digits in dict.fromkeys((piece, piece.upper())):
            yield _Needle(shown, digits, digits, str)


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of about the same length."""
    size = -(-len(text) // -(-len(text) // PIECE))
    return (text[at : at + size] for at in range(0, len(text), size))


def _longest(runs: re.Pattern[str], text: str) -> str:
    """The longest run in a text; empty, which every text holds, when there is none."""
    return max(runs.findall(text), key=len, default="")


def _parts(value: str) -> Iterator[str]:
    """Parts of a value that tell as much as the whole."""
    if "://" in value:
        yield from _parts_of_url(value)
    for found in _PASSWORD.finditer(value):
        yield re.sub(r"\\(.)", r"\1", found[1][1:-1]) if found[1].startswith("'") else found[1]
        yield unquote(found[1])
    if "\n" in value:
        lines = (line.strip() for line in value.splitlines()[:MOST_LINES])
        yield from (line for line in lines if len(line) >= LINE and not line.startswith("-----"))


def _parts_of_url(value: str) -> Iterator[str]:
    try:
        url = urlsplit(value.strip())
    except ValueError:
        return
    user, _, _ = url.netloc.rpartition("@")
    password = user.partition(":")[2]
    yield password
    yield unquote(password)
    if url.scheme.lower() in ("http", "https"):
        path = url.path + (f"?{url.query}" if url.query else "")
        if len(path) >= PATH:
            yield path


def _number(value: str) -> float | None:
    """The number that JSON could write this value as."""
    if not re.fullmatch(r"-?\d{1,300}(?:\.\d{1,300})?", value, re.ASCII):
        return None
    return float(value) if "." in value else int(value)


# -- values that were cut


def _without_cut(text: str, values: Mapping[str, str | None]) -> str:
    """A text without the beginnings of values that stand at its end or before an ellipsis."""
    ends = [found.start() for found in _ELLIPSIS.finditer(text)][-MOST_CUTS:]
    for end in [len(text), *reversed(ends)]:
        for value, name in values.items():
            head = _cut_head(text, end, value)
            if head:
                text = text[: end - head] + _shown(name) + text[end:]
                break
    return text


def _cut_head(text: str, end: int, value: str) -> int:
    """How many characters before `end` are the beginning of a value; 0 when they are too few to tell anything."""
    least = max(CUT, value.find("://") + 7)
    for length in range(min(len(value) - 1, end, PIECE), least - 1, -1):
        if text.endswith(value[:length], 0, end):
            return length
    return 0


# -- logs


class Remembered:
    """The values that this process used, those used last; what logs are kept clean of. Thread-safe.

    They are remembered after their run has ended: a library may speak of a connection long after the run that opened it.
    """

    def __init__(self, most: int = REMEMBERED, most_characters: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[str, str | None] = OrderedDict()
        self._latest: str | None = None  # the one that was added last, if it was added alone
        self._redactor: Redactor | None = None

    def add(self, values: Mapping[str, str | None]) -> None:
        """Remember values, given as value → name."""
        if len(values) == 1 and self._latest in values:  # most often it is the same one again
            return
        with self._lock:
            self._latest = next(iter(values)) if len(values) == 1 else None
            for value, name in values.items():
                if value in self._values:
                    self._values.move_to_end(value)
                    continue
                self._values[value] = name
                self._characters += len(value)
                self._redactor = None
            while len(self._values) > self._most or self._characters > self._most_characters:
                self._characters -= len(self._values.popitem(last=False)[0])

    def message(self, text: str) -> str:
        """A text without them."""
        with self._lock:
            if not self._values:
                return text
            redactor = self._redactor
            if redactor is None:
                redactor = self._redactor = Redactor(self._values)
        return redactor.message(text)


remembered = Remembered()  # one for the process, as its log is
