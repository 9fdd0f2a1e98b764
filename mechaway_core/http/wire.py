"""Requests on the wire: pooled connections that only go where the guard lets them, and that keep to the deadline of each exchange.

httpcore does HTTP/1.1 and the pool; the sockets are ours. httpcore gives the values of `extensions["timeout"]` to our sockets without
a look at them, so an `Exchange` stands there in place of seconds: every wait is then cut by one deadline for the whole exchange, and a
server that drips a byte a second does not outlive it. A run that is cancelled shuts down the socket on which it waits, for as long as it
waits there: between two waits the connection may have become that of another run.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import certifi
import httpcore
import httpx

from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import HttpError, Invalid, OutOfTime, Unavailable, Unreachable
from mechaway_core.http.guard import Guard

# Its debug lines hold headers of answers, and those hold cookies and tokens.
logging.getLogger("httpcore").setLevel(logging.INFO)

_IDLE_CONNECTIONS = 20
_IDLE_SECONDS = 30.0
_MOST_PER_ADDRESS = 5.0  # seconds to wait for one address while there are others to try


class Exchange:
    """One request and its answer: how long they may take and how far they came."""

    __slots__ = ("allowed", "cancellation", "connected", "deadline", "received")

    def __init__(self, deadline: float, cancellation: Cancellation) -> None:
        self.deadline = deadline
        self.cancellation = cancellation
        self.allowed = deadline - time.monotonic()
        self.connected = False  # whether a connection was opened for it
        self.received = False  # whether anything of an answer came

    def left(self) -> float:
        """The seconds that are left. Raises `OutOfTime` when none are."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise self.late()
        return seconds

    def late(self) -> OutOfTime:
        """The error to raise when the time is over."""
        return OutOfTime(f"there was no whole answer within {max(0.0, self.allowed):.3g} s")


class Dropped(HttpError):
    """The connection ended before an answer came."""


class Wire:
    """Sends requests. Thread-safe."""

    def __init__(self, guard: Guard, ca_file: str) -> None:
        self._closed = False
        self._pool = httpcore.ConnectionPool(
            ssl_context=_trust(ca_file),
            max_connections=None,  # there are no more than threads that run nodes
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_Sockets(guard),
        )

    def send(self, request: httpx.Request, exchange: Exchange) -> Received:
        """Send a request and wait for the head of its answer.

        Raises `HttpError` (`Dropped` when the connection ended before any answer), `AddressRefused`, `OutOfTime`, `Unavailable`,
        `Cancelled`.
        """
        self._open()
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        timeout = {"connect": exchange, "read": exchange, "write": exchange, "pool": exchange.left()}
        outgoing = httpcore.Request(
            request.method, target, headers=request.headers.raw, content=request.stream, extensions={"timeout": timeout}
        )
        try:
            with _Translated(exchange):
                return Received(self._pool.handle_request(outgoing), exchange)
        except HttpError:
            self._open()
            raise

    def close(self) -> None:
        """Close all connections, also those that somebody waits on."""
        self._closed = True
        self._pool.close()

    def _open(self) -> None:
        if self._closed:
            raise Unavailable("Mechaway is stopping")


class Received:
    """The head of an answer, and its body as it comes off the wire."""

    __slots__ = ("_exchange", "_response", "headers", "status")

    def __init__(self, response: httpcore.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        self.status = response.status
        self.headers = response.headers

    def __iter__(self) -> Iterator[bytes]:
        with _Translated(self._exchange):
            yield from self._response.iter_stream()

    def close(self) -> None:
        """Give the connection back to the pool, or close it when there is more to come on it."""
        self._response.close()


class _Translated:
    """Errors of httpcore as ours. Their texts hold what was sent or received, so none of it is kept."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpcore.TimeoutException):
            raise self._exchange.late() from None
        if isinstance(error, httpcore.LocalProtocolError):
            raise HttpError("the request cannot be sent as HTTP") from None
        if isinstance(error, httpcore.RemoteProtocolError):
            raise _not_http(self._exchange, str(error)) from None
        if isinstance(error, httpcore.NetworkError):
            raise _broken(self._exchange, str(error)) from None


def _not_http(exchange: Exchange, message: str) -> HttpError:
    if not exchange.received:
        return Dropped("the connection was closed before an answer came")
    if "closed connection" in message:  # h11: "peer closed connection without sending complete message body …"
        return HttpError("the connection was closed in the middle of the answer")
    if "too long" in message:
        return HttpError("the headers of the answer are too long")
    return HttpError("what the server answered is not HTTP")


def _broken(exchange: Exchange, why: str) -> HttpError:
    if exchange.received:
        return HttpError(f"the connection broke in the middle of the answer: {why}")
    return Dropped(f"the connection broke before an answer came: {why}")


class _Sockets(httpcore.NetworkBackend):
    """Opens connections, only to addresses that the guard gives."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None, socket_options: Any = None
    ) -> httpcore.NetworkStream:
        exchange = cast(Exchange, timeout)
        exchange.connected = True
        try:
            addresses = self._guard.addresses(host, port, exchange.deadline, exchange.cancellation)
        except Unreachable as error:
            raise HttpError(str(error)) from None
        return _Stream(_connect(addresses, port, exchange))


def _connect(addresses: list[str], port: int, exchange: Exchange) -> socket.socket:
    """A connection to the first address that takes one. Others get a turn before the time is used up."""
    failed: OSError | None = None
    for number, address in enumerate(addresses):
        left = exchange.left()
        others = len(addresses) - number - 1
        try:
            connection = _connected(address, port, min(left / (others + 1), _MOST_PER_ADDRESS) if others else left, exchange)
        except OSError as error:
            failed = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    exchange.left()
    raise HttpError(f"cannot connect: {_reason(failed)}")


def _connected(address: str, port: int, seconds: float, exchange: Exchange) -> socket.socket:
    """A connection to an IP address. Raises `OSError`, `Cancelled`."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with exchange.cancellation.during(partial(_shut_down, connection)):
            connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _shut_down(connection: socket.socket) -> None:
    """Wake a thread that waits on a connection; closing alone does not. TLS is left as it is: its thread is still at work with it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Stream(httpcore.NetworkStream):
    """One connection; every wait on it is cut by the exchange that it is for."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._wake = partial(_shut_down, connection)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = cast(Exchange, timeout)
        try:
            with exchange.cancellation.during(self._wake):
                self._socket.settimeout(exchange.left())
                data = self._socket.recv(max_bytes)
        except TimeoutError:
            raise exchange.late() from None
        except OSError as error:
            raise httpcore.ReadError(_reason(error)) from None
        exchange.received = exchange.received or bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        exchange = cast(Exchange, timeout)
        view = memoryview(buffer)
        try:
            with exchange.cancellation.during(self._wake):
                while view:
                    self._socket.settimeout(exchange.left())
                    view = view[self._socket.send(view) :]
        except TimeoutError:
            raise exchange.late() from None
        except OSError as error:
            raise httpcore.WriteError(_reason(error)) from None

    def close(self) -> None:
        _shut_down(self._socket)
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        exchange = cast(Exchange, timeout)
        try:
            self._socket.settimeout(exchange.left())
            # The socket goes over into the new one, on which the handshake can be ended.
            self._socket = secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname, do_handshake_on_connect=False)
            with exchange.cancellation.during(partial(_shut_down, secured)):
                secured.do_handshake()
            return _Stream(secured)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, TimeoutError):
                raise exchange.late() from None
            if isinstance(error, ssl.SSLCertVerificationError):
                raise HttpError(f"the server's certificate is not trusted: {error.verify_message}") from None
            if isinstance(error, OSError | ValueError):
                raise HttpError(f"TLS with the server failed: {_reason(error)}") from None
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":  # an idle connection on which something comes was closed by the server
            return _readable(self._socket)
        return None


def _readable(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(0))


def _reason(error: Exception | None) -> str:
    """What the system says of an error, without what Python puts around it."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "the name of the host is not valid" if error is not None else "there is no address"


def _trust(ca_file: str) -> ssl.SSLContext:
    """Whom TLS trusts: the system's authorities, those of certifi (some systems have none), and the file of the settings."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ValueError) as error:
            raise Invalid(f"the certificates of MECHAWAY_HTTP_CA_FILE cannot be read: {_reason(error)}") from None
    return context
