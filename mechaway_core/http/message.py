"""What is sent: a call and its body."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

_CHUNK = 64 * 1024


class Body(Protocol):
    """A body that can be sent more than once, as a redirect or another try may ask."""

    @property
    def content_type(self) -> str:
        """What the header Content-Type says when the node does not."""

    def length(self) -> int:
        """Its size in bytes."""

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that is in memory."""

    data: bytes
    content_type: str

    def length(self) -> int:
        """See `Body.length`."""
        return len(self.data)

    def __iter__(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True)
class File:
    """A file as a body; opened whenever it is sent."""

    open: Callable[[], BinaryIO]
    content_type: str

    def length(self) -> int:
        """See `Body.length`."""
        with self.open() as file:
            return file.seek(0, os.SEEK_END)

    def __iter__(self) -> Iterator[bytes]:
        with self.open() as file:
            while chunk := file.read(_CHUNK):
                yield chunk


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart form; `filename` when it is a file."""

    name: str
    body: Body
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Multipart:
    """A form of fields and files (RFC 7578)."""

    parts: Sequence[Part]
    boundary: str = field(default_factory=lambda: f"mechaway-{uuid.uuid4().hex}")

    @property
    def content_type(self) -> str:
        """See `Body.content_type`."""
        return f"multipart/form-data; boundary={self.boundary}"

    def length(self) -> int:
        """See `Body.length`."""
        return sum(len(self._head(part)) + part.body.length() + 2 for part in self.parts) + len(self._end())

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            yield self._head(part)
            yield from part.body
            yield b"\r\n"
        yield self._end()

    def _head(self, part: Part) -> bytes:
        head = io.StringIO()
        head.write(f'--{self.boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"')
        if part.filename is not None:
            head.write(f'; filename="{_quoted(part.filename)}"')
        if part.body.content_type:
            head.write(f"\r\nContent-Type: {part.body.content_type}")
        head.write("\r\n\r\n")
        return head.getvalue().encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def _quoted(text: str) -> str:
    """A name inside quotes, as browsers write it (WHATWG, multipart/form-data encoding algorithm)."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a node wants it. `query` is added to what the URL has; header values are clean."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    body: Body | None = None
