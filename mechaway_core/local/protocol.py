"""uvicorn's HTTP protocol, with a limit to what comes before a body and with offers to upgrade declined.

uvicorn collects headers without end, and drops the body of a request that offers to upgrade (Java's HttpClient offers HTTP/2 with
every request; RFC 9110, section 7.8, lets a server ignore that). So the head of a request is held back until it is whole.
"""

from __future__ import annotations

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mechaway_core.web.problems import problem

MAX_HEAD = 128 * 1024  # bytes of request line and headers

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_METHOD = re.compile(rb"\s*[A-Z]{0,20}(?![^A-Z ])")  # how a request begins; what begins otherwise is for the parser to refuse


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held = b""  # the head so far, when a request begins with a segment
        self._in_head = False  # the parser is in one, which began behind another request in the same segment
        self._in_body = False
        self._head = 0  # bytes of that

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""
        if self._in_body or self._in_head:
            super().data_received(data)
            if self._in_head:
                self._head += len(data)
                if self._head > MAX_HEAD:
                    self._refuse()
            return
        held = self._held + data if self._held else data
        end = held.find(b"\r\n\r\n")
        if max(end, 0 if end >= 0 else len(held)) > MAX_HEAD:
            self._refuse()
        elif end < 0 and b"\n\n" not in held and _METHOD.match(held):
            self._held = held
            self._unset_keepalive_if_required()
        else:
            self._held = b""
            end = max(end, 0)
            super().data_received(_UPGRADE.sub(b"\r\nx-upgrade:", held[:end]) + held[end:] if b"pgrade" in held[:end].lower() else held)

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

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as a request."""
        self._say(400, "the request cannot be read as HTTP/1.1")

    def _refuse(self) -> None:
        self._say(431, f"the request line and headers are larger than {MAX_HEAD // 1024} KB together")

    def _say(self, status: int, sentence: str) -> None:
        if self.transport.is_closing():
            return
        answer = problem(status, sentence)
        head = (
            f"HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + answer.body)
        self.transport.close()
