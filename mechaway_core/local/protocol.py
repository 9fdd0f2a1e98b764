"""uvicorn's HTTP protocol, with a limit to what comes before a body and with offers to upgrade declined.

uvicorn collects headers without end, and drops the body of a request that offers to upgrade (Java's HttpClient offers HTTP/2 with
every request; RFC 9110, section 7.8, lets a server ignore that). So the head of a request is held back until it is whole.

Neither does it mind how slowly a request arrives. Each connection looks at itself a few times while the time that a head or a body has
goes by; requests that arrive at once cost nothing by that. The application may give a body more time, as it does to uploads.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mechaway_core.web import headers
from mechaway_core.web.problems import CONTENT_TYPE, problem
from mechaway_core.web.transfers import MORE_TIME

LONG = 32 * 1024  # bytes of one write that are not worth copying

MAX_HEAD = 128 * 1024  # bytes of request line and headers
LEAST_RATE = 100_000  # bytes of a body that earn it one more second

_LOOKS = 4  # at a connection, in the time that a head or body has

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_METHOD = re.compile(rb"\s*[A-Z]{0,20}(?![^A-Z ])")  # how a request begins; what begins otherwise is for the parser to refuse


def bounded(patience: float) -> type[BoundedProtocol]:
    """The protocol with so many seconds for a head, and for a body, to arrive."""
    return type("BoundedProtocol", (BoundedProtocol,), {"patience": patience})


class OneWrite:
    """A transport that hands on in one system call what belongs together: head and body of an answer, or what one step of the loop writes.

    For a short answer that call takes a third of the time of the event loop's thread, most of it to wake the caller at the other end.
    So it is made once, and through a socket of Python's own, which gives up the interpreter's lock meanwhile; the transport's write does
    not. What the socket does not take at once goes the usual way.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        sock = transport.get_extra_info("socket")
        self._socket: socket.socket | None = socket.socket(sock.family, sock.type, sock.proto, sock.fileno()) if sock is not None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write now what is long, else with `flush`, at the latest at the end of this step."""
        self._pieces.append(data)
        if len(data) > LONG:
            self.flush()
        elif len(self._pieces) == 1:
            self._loop.call_soon(self.flush)

    def close(self) -> None:
        """Write what there is and close."""
        self.flush()
        self.let_go()
        self._transport.close()

    def let_go(self) -> None:
        """Leave the socket to the transport alone, which closes it."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def flush(self) -> None:
        """Write what there is."""
        if not self._pieces:
            return
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._socket is not None and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            try:
                sent = self._socket.send(data)
            except OSError:  # full, or the other end is gone: the transport knows what to do
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._transport.write(data)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    patience = 60.0  # seconds

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits_since: float | None = None  # something of a request is here, or nothing at all yet
        self._arrived = 0  # bytes of its body
        self._granted = 0.0  # seconds that its body has beyond those of every body
        self._timer: asyncio.TimerHandle | None = None
        self._held = b""  # the head so far, when a request begins with a segment
        self._in_head = False  # the parser is in one, which began behind another request in the same segment
        self._in_body = False
        self._head = 0  # bytes of that

    def connection_made(self, transport: Any) -> None:
        """A caller is there."""
        self._out = OneWrite(transport, self.loop)
        super().connection_made(self._out)  # type: ignore[arg-type]
        self._waits_since = self.loop.time()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._out.let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""
        was_in_body = self._in_body
        self._take(data)
        if not (self._in_body or self._in_head or self._held):
            self._waits_since = None
        elif self._waits_since is None or (self._in_body and not was_in_body):
            self._waits_since, self._arrived = self.loop.time(), 0
        elif self._in_body:
            self._arrived += len(data)

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self.patience / _LOOKS, self._look)

    def _look(self) -> None:
        """Give up a request that takes too long to arrive."""
        if self._waits_since is not None:
            waited = self.loop.time() - self._waits_since
            if self.pipeline:  # nothing more is read before the request in front has its answer
                self._waits_since = self.loop.time()
            elif waited > self.patience + self._granted + self._arrived / LEAST_RATE:
                self._give_up()
                return
        self._look_later()

    def _more_time(self, seconds: float) -> None:
        """Give the body that is arriving so many seconds more."""
        if self._in_body:
            self._granted = seconds

    def _give_up(self) -> None:
        cycle = self.cycle
        if self._in_body and cycle is not None and cycle.response_started:  # the answer went ahead of the body: nothing more to say
            self.transport.close()
        elif not self._in_body and cycle is not None and not cycle.response_complete:  # the answer before it is still on its way
            self._look_later()
        else:
            self._say(408, f"the request did not arrive within {self.patience:g} seconds (MECHAWAY_BODY_TIMEOUT)")

    def _take(self, data: bytes) -> None:
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
            super().data_received(
                held if _UPGRADE.search(held, 0, end) is None else _UPGRADE.sub(b"\r\nx-upgrade:", held[:end]) + held[end:]
            )

    def on_message_begin(self) -> None:
        """The head begins."""
        self._in_head = True
        self._head = 0
        super().on_message_begin()
        self.scope[MORE_TIME] = self._more_time  # type: ignore[literal-required]  # a key of ours

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is over."""
        self._in_body = False
        self._waits_since, self._granted = None, 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is whole."""
        self._out.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as a request."""
        self._say(400, "the request cannot be read as HTTP/1.1")

    def _refuse(self) -> None:
        self._say(431, f"the request line and headers are larger than {MAX_HEAD // 1024} KB together")

    def _say(self, status: int, sentence: str) -> None:
        if self.transport.is_closing():
            return
        answer = problem(status, sentence)
        about = [
            (b"connection", b"close"),
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            headers.NOSNIFF,
            (b"x-request-id", headers.request_id(None)),
        ]
        head = b"".join(b"%s: %s\r\n" % pair for pair in about)
        self.transport.write(b"HTTP/1.1 %d -\r\n%s\r\n%s" % (status, head, answer.body))
        self.transport.close()
