"""uvicorn's HTTP protocol, with a limit to what comes before a body and with offers to upgrade declined.

uvicorn collects headers without end, and drops the body of a request that offers to upgrade (Java's HttpClient offers HTTP/2 with
every request; RFC 9110, section 7.8, lets a server ignore that).
"""

from __future__ import annotations

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 128 * 1024  # bytes of request line and headers

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_REFUSED = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = False
        self._in_body = False
        self._head = 0  # bytes that came while in the head

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""
        if not self._in_body and b"pgrade" in data:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nx-upgrade:", head) + end + rest
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.transport.write(_REFUSED)
                self.transport.close()

    def on_message_begin(self) -> None:
        """The head begins."""
        self._in_head = True
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is over."""
        self._in_body = False
        super().on_message_complete()
