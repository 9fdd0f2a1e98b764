"""Content-Encoding undone in small steps, so that a few bytes that unpack into gigabytes are stopped, not held.

Each decoder takes what came off the wire and gives pieces of about `STEP` bytes, never twice that; whoever takes them counts and stops.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from mechaway_core.errors import HttpError
from mechaway_core.names import shorten

ACCEPTED = "gzip, deflate, br"  # what requests ask for
STEP = 64 * 1024
_MOST_LAYERS = 2  # encodings over each other; nobody needs more, and every one multiplies


class Decoder(Protocol):
    """One encoding being undone."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes give, in small pieces. Raises `ValueError` when they are not what they should be."""

    def at_end(self) -> bool:
        """Whether what came so far is whole."""


def decoded(chunks: Iterable[bytes], content_encoding: str) -> Iterator[bytes]:
    """A body with its encodings undone. Raises `HttpError` for encodings nobody knows and for bytes that are not in them."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    layers = [name for name in names if name not in ("", "identity")]
    if len(layers) > _MOST_LAYERS:
        raise HttpError(f"the answer is encoded {len(layers)} times over ({shorten(content_encoding)}); {_MOST_LAYERS} times is the most")
    for name in reversed(layers):
        chunks = _through(chunks, name)
    return iter(chunks)


def _through(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    decoder = _decoder(name)
    begun = False
    try:
        for chunk in chunks:
            begun = begun or bool(chunk)
            yield from decoder.feed(chunk)
    except (ValueError, zlib.error):
        raise HttpError(f"the answer says it is encoded in {name}, but it is not") from None
    if begun and not decoder.at_end():
        raise HttpError(f"the answer ended in the middle of its {name} encoding")


def _decoder(name: str) -> Decoder:
    if name in ("gzip", "x-gzip"):
        return Gzip()
    if name == "deflate":
        return Deflate()
    if name == "br":
        return Brotli()
    raise HttpError(f'the answer is encoded in "{shorten(name, 40)}", which is not known here; known are {ACCEPTED}')


class Gzip:
    """gzip (RFC 1952), also several members one after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Decoder.feed`."""
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # members may be padded
                if not data:
                    return
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            yield from _inflate(self._member, data)
            data = self._member.unused_data

    def at_end(self) -> bool:
        """See `Decoder.at_end`."""
        return self._member.eof


class Deflate:
    """deflate: zlib's format (RFC 1950) as HTTP says, or the bare stream (RFC 1951) as many servers send."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Decoder.feed`."""
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return
            data = self._head
            # RFC 1950, 2.2: method 8 in the low bits, and both bytes together a multiple of 31
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if not self._stream.eof:
            yield from _inflate(self._stream, data)

    def at_end(self) -> bool:
        """See `Decoder.at_end`."""
        return self._stream is not None and self._stream.eof


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while data and not stream.eof:
        piece = stream.decompress(data, STEP)
        data = stream.unconsumed_tail
        if piece:
            yield piece


class Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        import brotli  # only for answers that need it

        self._error: type[Exception] = brotli.error
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Decoder.feed`."""
        try:
            piece = self._stream.process(data, output_buffer_limit=STEP)
            # It may have more to give although it takes more: only an empty answer says that it is done.
            while piece or not self._stream.can_accept_more_data():
                if piece:
                    yield piece
                piece = self._stream.process(b"", output_buffer_limit=STEP)
        except self._error as error:
            raise ValueError(str(error)) from None

    def at_end(self) -> bool:
        """See `Decoder.at_end`."""
        return bool(self._stream.is_finished())
