"""multipart/form-data (RFC 7578) as a stream: fields into memory within limits, files into the area of a run as they come.

1. What stands before the first boundary is dropped (RFC 2046, section 5.1.1), and boundaries without end are refused.
2. python_multipart cuts the rest into events: headers, that they are over, data, the end of a part.
3. Parts are taken from the events one by one; the data of a file goes on piece by piece, that of a field is put together.

What is read here was sent by anybody: every count and size has a limit, and whatever is not well-formed is `Malformed`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from mechaway_core.charsets import charset_of, decode
from mechaway_core.errors import Malformed, TooLarge, Unsupported
from mechaway_core.names import ANY_BYTES, shorten
from mechaway_core.node import Area

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_PARAMETER = re.compile(rf";[ \t]*+([\w!#$&+.^`|~*'-]++)[ \t]*+=[ \t]*+({_QUOTED}|[^;]*+)", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_MOST_BLANKS = 100_000
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one body may hold. `text` is the size of all fields together, names included, in bytes."""

    fields: int
    text: int
    files: int


@dataclass(slots=True)
class Form:
    """What a body held. What came several times under one name is a list; files are JSON objects as `$file.NAME` gives them."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)


def read(chunks: Iterable[bytes], content_type: str, area: Area, limits: Limits) -> Form:
    """Read a body. Files are kept in `area`, also when it then turns out that the rest cannot be read.

    Raises `Malformed` for what is not multipart/form-data, `Unsupported` for parts that are encoded, `TooLarge` past a limit.
    """
    boundary = _boundary(content_type)
    most = limits.fields + limits.files + 2  # one before the first part, one after the last
    return _Reader(area, limits).read(_parts(_events(_not_too_often(_from_first(chunks, boundary), boundary, most), boundary)))


class _Reader:
    def __init__(self, area: Area, limits: Limits) -> None:
        self.area = area
        self.limits = limits
        self.form = Form()
        self.fields = 0
        self.files = 0
        self.text = 0

    def read(self, parts: Iterator[_Part]) -> Form:
        for part in parts:
            if part.filename is not None or part.content_type.lower().startswith("multipart/"):
                self.take_file(part)
            else:
                self.take_field(part)
        return self.form

    def take_field(self, part: _Part) -> None:
        self.fields += 1
        if self.fields > self.limits.fields:
            raise Malformed(f"the multipart body has more than {self.limits.fields} fields")
        self.count_text(len(part.name.encode()))
        pieces = []
        for piece in part.data:
            self.count_text(len(piece))
            pieces.append(piece)
        charset = charset_of(part.content_type.partition(";")[2])
        _add(self.form.fields, part.name, decode(b"".join(pieces), charset, f'the field "{shorten(part.name)}"'))

    def count_text(self, size: int) -> None:
        self.text += size
        if self.text > self.limits.text:
            raise TooLarge(f"the fields of the multipart body are larger than {self.limits.text / 1_000_000:g} MB (MECHAWAY_MAX_BODY_MB)")

    def take_file(self, part: _Part) -> None:
        first = next(part.data, b"")
        if not first and not part.filename:  # a file field of a form in which nobody chose a file
            return
        self.files += 1
        if self.files > self.limits.files:
            raise TooLarge(f"the multipart body has more than {self.limits.files} files (MECHAWAY_MAX_UPLOAD_FILES)")
        info = self.area.write(part.filename or "", part.content_type or ANY_BYTES, _with(first, part.data))
        _add(self.form.files, part.name, info.as_json())


def _add(into: dict[str, Any], name: str, value: Any) -> None:
    if name not in into:
        into[name] = value
    elif isinstance(into[name], list):
        into[name].append(value)
    else:
        into[name] = [into[name], value]


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


# -- parts


@dataclass(frozen=True, slots=True)
class _Part:
    """One part. `data` must be taken to its end before the next part. `filename` is None for what is no file."""

    name: str
    filename: str | None
    content_type: str
    data: Iterator[bytes]


class _Event(Enum):
    HEADER = auto()  # with b"name: value"
    BODY = auto()  # the headers are over
    DATA = auto()
    END = auto()  # of the part


_Events = Iterator[tuple[_Event, bytes]]


def _parts(events: _Events) -> Iterator[_Part]:
    number = 1
    headers: dict[str, str] = {}
    for event, data in events:
        if event is _Event.HEADER:
            name, value = _header(data, number)
            if name in headers:
                raise Malformed(f"part {number} of the multipart body has the header {shorten(name)} twice")
            headers[name] = value
        elif event is _Event.BODY:
            yield _part(headers, number, _data(events))
            headers = {}
            number += 1


def _data(events: _Events) -> Iterator[bytes]:
    for event, data in events:
        if event is _Event.END:
            return
        yield data


def _header(raw: bytes, number: int) -> tuple[str, str]:
    name, _, value = raw.partition(b":")
    text = decode(value, "utf-8", f"a header of part {number} of the multipart body")
    return name.decode("latin-1").lower(), text.strip()


def _part(headers: Mapping[str, str], number: int, data: Iterator[bytes]) -> _Part:
    kind, parameters = _options(headers.get("content-disposition", ""), number)
    if kind != "form-data" or "name" not in parameters:
        raise Malformed(f'part {number} of the multipart body has no header Content-Disposition: form-data; name="…"')
    encoding = headers.get("content-transfer-encoding", "").lower()
    if encoding not in _PLAIN_ENCODINGS:
        raise Unsupported(f"part {number} of the multipart body is encoded as {shorten(encoding, 40)}; send its bytes as they are")
    filename = parameters.get("filename")
    if filename is None and "filename*" in parameters:
        filename = _extended(parameters["filename*"], number)
    return _Part(parameters["name"], filename, headers.get("content-type", ""), data)


def _options(header: str, number: int) -> tuple[str, dict[str, str]]:
    """The value of a header and its parameters, names in lower case."""
    kind, separator, rest = header.partition(";")
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(separator + rest):
        key = name.lower()
        if key in found:
            raise Malformed(f"part {number} of the multipart body says {shorten(key, 40)} twice")
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        found[key] = _ESCAPED.sub(r"\1", value[1:-1]) if quoted else value.strip()
    return kind.strip().lower(), found


def _extended(value: str, number: int) -> str:
    """A value as RFC 8187 writes it. RFC 7578 forbids it in forms, yet some clients send names that are not ASCII only so."""
    from urllib.parse import unquote_to_bytes

    charset, _, rest = value.partition("'")
    return decode(unquote_to_bytes(rest.partition("'")[2]), charset or "utf-8", f"the filename of part {number} of the multipart body")


# -- events


def _boundary(content_type: str) -> bytes:
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == "boundary":
            boundary = _ESCAPED.sub(r"\1", value[1:-1] if value[:1] == '"' else value.strip())
            if 0 < len(boundary) <= 70 and boundary.isascii() and boundary.isprintable():  # RFC 2046, section 5.1.1
                return boundary.encode()
    raise Malformed("the Content-Type of the multipart body names no boundary of 1 to 70 characters")


def _events(chunks: Iterable[bytes], boundary: bytes) -> _Events:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, MultipartState

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what a caller sends wrongly is told to the caller
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks())
    blanks = 0  # behind a boundary; the parser takes them one by one
    for chunk in chunks:
        padded = parser.state == MultipartState.BOUNDARY_PADDING
        try:
            parser.write(chunk)
        except FormParserError as error:
            yield from collector.take()
            raise Malformed(f"part {collector.parts} of the multipart body is not well-formed: {_reason(error)}") from None
        yield from collector.take()
        blanks = blanks + len(chunk) if padded and parser.state == MultipartState.BOUNDARY_PADDING else 0
        if blanks > _MOST_BLANKS:
            raise Malformed(f"the boundary behind part {collector.parts} of the multipart body is followed by blanks without end")
    if not collector.over:
        raise Malformed(f"the multipart body ends in the middle of part {collector.parts}; its last boundary is missing")


def _reason(error: Exception) -> str:
    """What the parser says, without positions, which count from where it happened to be."""
    return re.sub(r" (?:at (?:index )?\d+|\(\d+\))$", "", str(error)).lower()


class _Collector:
    """What the parser calls; it keeps events until they are taken."""

    def __init__(self) -> None:
        self.parts = 0
        self.over = False
        self._events: list[tuple[_Event, bytes]] = []
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._more_of(self._name),
            "on_header_value": self._more_of(self._value),
            "on_header_end": self._header_end,
            "on_headers_finished": self._put(_Event.BODY),
            "on_part_data": self._data,
            "on_part_end": self._put(_Event.END),
            "on_end": self._end,
        }

    def take(self) -> list[tuple[_Event, bytes]]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events

    def _begin(self) -> None:
        self.parts += 1

    @staticmethod
    def _more_of(text: bytearray) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: text.extend(data[start:end])

    def _header_end(self) -> None:
        self._events.append((_Event.HEADER, bytes(self._name + b":" + self._value)))
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append((_Event.DATA, data[start:end]))

    def _put(self, event: _Event) -> Callable[[], None]:
        return lambda: self._events.append((event, b""))

    def _end(self) -> None:
        self.over = True


def _from_first(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """The chunks from the first boundary on. It stands at the begin of a line, and the body begins with one."""
    mark = b"\r\n--" + boundary
    begin, found = b"\r\n", False
    for chunk in chunks:
        if found:
            yield chunk
            continue
        begin += chunk
        at = begin.find(mark)
        if at >= 0:
            found = True
            yield begin[at + 2 :]
        else:
            begin = begin[-len(mark) :]
    if not found:
        raise Malformed("the boundary that the Content-Type names does not come in the multipart body")


def _not_too_often(chunks: Iterable[bytes], boundary: bytes, most: int) -> Iterator[bytes]:
    """The chunks, as long as no more lines begin with the boundary than there may be parts.

    What only begins like a boundary is not one, but the parser looks at each byte by byte; a body of nothing else would keep it busy.
    """
    mark, seen = b"\r\n--" + boundary, 0
    for chunk in chunks:
        seen += chunk.count(mark)
        if seen > most:
            raise Malformed(f"more than {most} lines of the multipart body begin with its boundary")
        yield chunk
