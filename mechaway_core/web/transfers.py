"""Bodies on their way: into memory when they are small, onto the disk when they are uploads, and out from files.

An upload is written down as it comes, to a file that has no name: whatever becomes of the call or of this process, nothing is left of
it. It lies in the data folder, because what is called temporary elsewhere is often memory. The event loop never waits for the disk: half
a megabyte at a time goes there in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, BinaryIO

from mechaway_core.errors import Malformed, TooLarge, TooSlow, Unavailable
from mechaway_core.names import plain_filename
from mechaway_core.ports import FileInfo
from mechaway_core.settings import Settings
from mechaway_core.triggers import is_form_data

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_IN_MEMORY = 512 * 1024  # bytes of an upload that are kept before they go to the disk
_CHUNK = 256 * 1024  # bytes of a file that go out at a time
_UPLOAD_LIMIT = "MECHAWAY_MAX_UPLOAD_MB"
_BODY_LIMIT = "MECHAWAY_MAX_BODY_MB"

# In a scope: the body as an open file, where it may be larger than memory should hold.
FILE_BODY = "mechaway.file_body"

# In a scope, where the server watches how long a body takes: a function that gives this one so many seconds more.
MORE_TIME = "mechaway.more_time"

# In a scope, where it is known when whoever stands in front of the server gives up: an instant of `time.monotonic()`.
UNTIL = "mechaway.until"


# -- in


async def whole_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, of `limit` bytes at most; refused by its announced length before anything is read, and by its real one as it comes.

    Raises `TooLarge`, `Malformed`, and `Unavailable` when the caller goes away.
    """
    announced = announced_length(scope, limit, _BODY_LIMIT)
    message = await next_message(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await next_message(receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit, _BODY_LIMIT)
        body = b"".join(parts)
    if len(body) > limit:
        raise too_large(limit, _BODY_LIMIT)
    check_length(announced, len(body))
    return body


def brings_files(scope: Scope) -> bool:
    """Whether a request has a body that may bring files."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return is_form_data(value.decode("latin-1")) and _has_body(scope)
    return False


def _has_body(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")) for name, value in scope["headers"])


@contextlib.asynccontextmanager
async def spooled(scope: Scope, receive: Receive, settings: Settings) -> AsyncIterator[tuple[bytes, BinaryIO | None]]:
    """The body of an upload: its bytes when it is small, else a file. It is gone when the context is left.

    Raises `TooLarge`, `TooSlow`, `Malformed`, and `Unavailable` when the disk takes no more or the caller goes away.
    """
    upload = _Upload(settings)
    try:
        yield await upload.read(scope, receive), upload.file
    finally:
        upload.close()


class _Upload:
    """A body that comes in: pieces in memory, and a file once there are more of them than `_IN_MEMORY`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limit = int(settings.max_upload_mb * 1_000_000)
        self.file: BinaryIO | None = None
        self._pieces: list[bytes] = []
        self._held = 0  # bytes of the pieces
        self._size = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body to its end; what is left of it in memory, which is all of it unless there is a file."""
        announced = announced_length(scope, self.limit, _UPLOAD_LIMIT)
        until = asyncio.get_running_loop().time() + self.settings.upload_timeout
        give_more_time = scope.get(MORE_TIME)
        if give_more_time is not None:  # on top of what any body gets, so that it is said here when the time is over
            give_more_time(self.settings.upload_timeout)
        more = True
        while more:
            message = await self._next(receive, until)
            more = message.get("more_body", False)
            self._take(message.get("body", b""))
            if self._held > _IN_MEMORY or (self.file is not None and not more):
                await asyncio.to_thread(self._write_down)
        check_length(announced, self._size)
        return b"".join(self._pieces)

    async def _next(self, receive: Receive, until: float) -> Message:
        try:
            async with asyncio.timeout_at(until):  # never around a write: that could not be stopped
                return await next_message(receive)
        except TimeoutError:
            seconds = self.settings.upload_timeout
            raise TooSlow(f"the body did not come in whole within {seconds:g} s (MECHAWAY_UPLOAD_TIMEOUT)") from None

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self.limit:
            raise too_large(self.limit, _UPLOAD_LIMIT)
        self._held += len(piece)
        self._pieces.append(piece)

    def _write_down(self) -> None:
        pieces, self._pieces, self._held = self._pieces, [], 0
        try:
            if self.file is None:
                self.file = self._make()
            self.file.writelines(pieces)
            self.file.flush()
        except OSError as error:
            raise Unavailable(f"the upload cannot be written to the disk: {error.strerror or error}") from error

    def _make(self) -> BinaryIO:
        import tempfile

        folder = self.settings.data_dir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder, prefix=".upload-")

    def close(self) -> None:
        """Let go of the file. Freeing a large one takes a while, so that is done beside the event loop."""
        if self.file is not None:
            asyncio.get_running_loop().run_in_executor(None, _close, self.file)


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # of what could not be written
        file.close()


def announced_length(scope: Scope, limit: int, setting: str) -> int | None:
    """The length of a body by its header, None when it has none. Raises `TooLarge` before anything is read."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            if int(value) > limit:
                raise too_large(limit, setting)
            return int(value)
    return None


def check_length(announced: int | None, size: int) -> None:
    """Raise `Malformed` when a body is not as long as its header said."""
    if announced is not None and announced != size:
        raise Malformed(f"the body has {size} bytes, but Content-Length says {announced}")


async def next_message(receive: Receive) -> Message:
    """The next piece of a body. Raises `Unavailable` when the caller went away."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Unavailable("the caller went away before its body was here")
    return message


def too_large(limit: int, setting: str) -> TooLarge:
    """The error for a body over a limit in bytes."""
    return TooLarge(f"the body is larger than {limit / 1_000_000:g} MB ({setting})")


# -- out


def file_headers(info: FileInfo) -> dict[str, str]:
    """Headers of an answer that is a file. Whoever uploaded it chose its type, so browsers are told to save it, not to show it."""
    return {"content-disposition": _disposition(plain_filename(info.filename))}


_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["%\\]')


def _disposition(filename: str) -> str:
    """`attachment` with a name (RFC 6266): in ASCII for those that know no better, and as it is for all others (RFC 8187)."""
    if not filename:
        return "attachment"
    plain = _NOT_PLAIN.sub("_", filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    from urllib.parse import quote

    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"


async def send_file(file: BinaryIO, length: int, receive: Receive, send: Send) -> None:
    """Send the body of an answer from a file. It stops when the caller goes away, or the file ends before its time."""
    news = asyncio.ensure_future(receive())  # of a request whose body was read there is only one: that the caller is gone
    try:
        while length and not news.done():
            chunk = await asyncio.to_thread(file.read, min(_CHUNK, length))
            if not chunk:  # the server closes the connection, which tells the caller that something is missing
                return
            length -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not length:
            await send({"type": "http.response.body", "body": b""})
    finally:
        news.cancel()
