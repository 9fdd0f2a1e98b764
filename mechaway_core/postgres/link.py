"""One connection to a server, on libpq itself, with a deadline for every wait, which the end of its run cuts short.

Nothing blocks: libpq reads and writes what the socket takes, and `_wait` sleeps until it takes more or the deadline is over. So a server
that stopped answering holds nobody. A connection that was given up in the middle is closed, never used again.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TypeAlias

from psycopg import Error, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGcancelConn, PGconn, PGresult

from mechaway_core.cancellation import LOOK, NEVER, Cancellation
from mechaway_core.postgres.faults import Late, Lost, ServerError, TooMuch

Value: TypeAlias = bytes | None
Way: TypeAlias = int  # selectors.EVENT_READ | selectors.EVENT_WRITE

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
ROWS_AT_ONCE = 64
BATCH = 256  # statements of a pipeline between two looks at their results
CANCELLING = 0.5  # seconds that asking a server to stop may take
_CHUNKED = pq.version() >= 170_000
_BYTES_RECEIVED = struct.Struct("128xQ")  # tcpi_bytes_received of Linux' struct tcp_info


def connect(params: Mapping[str, str], deadline: float, cancellation: Cancellation = NEVER) -> Link:
    """A connection to one server.

    Raises `Late`, `Cancelled`, and `Lost` with what libpq says, which holds parts of the connection string.
    """
    try:
        pgconn = pq.PGconn.connect_start(make_conninfo(**params).encode())
    except (Error, ValueError) as error:
        raise Lost(str(error)) from None
    try:
        while pgconn.status != pq.ConnStatus.BAD:
            state = pgconn.connect_poll()
            if state == pq.PollingStatus.OK:
                pgconn.nonblocking = 1
                return Link(pgconn)
            if state == pq.PollingStatus.FAILED:
                break
            _sleep(pgconn.socket, READ if state == pq.PollingStatus.READING else WRITE, deadline, cancellation)
        raise Lost(pgconn.get_error_message())
    except BaseException:
        pgconn.finish()
        raise


class Link:
    """One connection; used by one thread at a time. `deadline` is an instant of `time.monotonic()` that every call keeps to."""

    __slots__ = ("_pgconn", "_resetting", "_selector", "_socket", "born", "cancellation", "deadline", "idle_since", "most")

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._resetting = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(pgconn.socket, READ)
        self._socket = socket.fromfd(pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) if sys.platform == "linux" else None
        self.born = self.idle_since = time.monotonic()
        self.deadline = self.born
        self.cancellation = NEVER  # of the run that uses it
        self.most: int | None = None  # what `received` may come to, looked at while an answer arrives

    # -- statements

    def describe(self, sql: bytes, types: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """The types of the parameters and of the columns of a statement, which is not run."""
        self._call(lambda: self._pgconn.send_prepare(b"", sql, types or None))
        self._last()
        self._call(lambda: self._pgconn.send_describe_prepared(b""))
        result = self._last()
        return [result.param_type(i) for i in range(result.nparams)], [result.ftype(i) for i in range(result.nfields)]

    def run(self, sql: bytes, values: Sequence[Value] = (), types: Sequence[int] | None = None) -> PGresult:
        """The result of a statement of ours."""
        self._call(lambda: self._pgconn.send_query_params(sql, values, types))
        return self._last()

    def stream(self, sql: bytes, values: Sequence[Value], types: Sequence[int]) -> Iterator[PGresult]:
        """The rows of a statement, some at a time, and at the end its result. Leaving early leaves the connection unusable."""

        def send() -> None:
            self._pgconn.send_query_params(sql, values, types)
            if _CHUNKED:
                self._pgconn.set_chunked_rows_mode(ROWS_AT_ONCE)
            else:
                self._pgconn.set_single_row_mode()

        self._call(send)
        return self._results()

    def many(self, sql: bytes, types: Sequence[int], rows: Iterable[Sequence[Value]]) -> Iterator[PGresult]:
        """The results of one statement for each of these rows of values, without waiting in between."""
        self._call(lambda: self._pgconn.send_prepare(b"", sql, types))
        self._last()
        self._pgconn.enter_pipeline_mode()
        waiting = iter(rows)
        try:
            while batch := list(islice(waiting, BATCH)):
                yield from self._batch(batch)
        finally:
            with suppress(Error):  # in the middle of a batch it is not possible; then the connection is not used again
                self._pgconn.exit_pipeline_mode()

    @property
    def busy(self) -> bool:
        """Whether the server has not finished with what it was sent."""
        return self._pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    # -- between uses

    def reset(self, script: bytes) -> bool:
        """Begin to make the session as new; `settle` waits for the end. False when the connection cannot be used again."""
        if self._pgconn.transaction_status != pq.TransactionStatus.IDLE or self._pgconn.pipeline_status:
            return False
        try:
            self._pgconn.send_query(script)
            self._pgconn.flush()
        except Error:
            return False
        self._resetting = True
        self.idle_since = time.monotonic()
        return True

    def settle(self) -> bool:
        """Whether the session is as new and the server still there; asked before each use."""
        try:
            if self._resetting:
                self._resetting = False
                self._flush()
                while (result := self._next()) is not None:
                    if result.status == pq.ExecStatus.FATAL_ERROR:
                        return False
            elif self._selector.select(0):
                return False  # an idle server has nothing to say but goodbye
            return not self._selector.select(0)
        except (Lost, Late, ServerError):
            return False

    def received(self) -> int:
        """Bytes that came from the server so far, where the system tells, else 0."""
        if self._socket is None:
            return 0
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        return int(_BYTES_RECEIVED.unpack(info)[0]) if len(info) == _BYTES_RECEIVED.size else 0

    def cancel(self) -> None:
        """Ask the server to stop what it does for this connection, but do not insist."""
        try:
            asking = self._pgconn.cancel_conn()
            asking.start()
            _poll(asking, time.monotonic() + CANCELLING)
        except (Error, Late):
            pass

    def close(self) -> None:
        """Close it, whatever state it is in."""
        self._selector.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._pgconn.finish()

    # -- the protocol

    def _batch(self, batch: Sequence[Sequence[Value]]) -> Iterator[PGresult]:
        for row in batch:
            self._call(lambda row=row: self._pgconn.send_query_prepared(b"", row), flush=False)  # type: ignore[misc]
        self._call(self._pgconn.pipeline_sync)
        failure: ServerError | None = None
        for _ in batch:
            for result in self._results(check=False):
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    failure = failure or self._error(result)
                elif failure is None:
                    yield result
        self._next()  # that of the sync
        if failure is not None:
            raise failure

    def _call(self, send: Callable[[], None], *, flush: bool = True) -> None:
        try:
            send()
        except Error as error:
            raise Lost(str(error)) from None
        if flush:
            self._flush()

    def _flush(self) -> None:
        """Write what is waiting; reads meanwhile, or both sides would wait for each other."""
        try:
            while self._pgconn.flush():
                if self._wait(READ | WRITE) & READ:
                    self._pgconn.consume_input()
        except Error as error:
            raise Lost(str(error)) from None

    def _results(self, *, check: bool = True) -> Iterator[PGresult]:
        """The results of one statement. With `check`, one that is an error is raised when all are read."""
        failure: ServerError | None = None
        while (result := self._next(failure)) is not None:
            if check and result.status == pq.ExecStatus.FATAL_ERROR:
                failure = failure or self._error(result)
                continue
            yield result
            if result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                return  # it would go on for ever
        if failure is not None:
            raise failure

    def _last(self) -> PGresult:
        results = list(self._results())
        if not results:
            raise Lost("no result")
        return results[-1]

    def _next(self, failure: ServerError | None = None) -> PGresult | None:
        """The next result. When the connection ends, `failure`, the server's last words, says more than we could."""
        try:
            while self._pgconn.is_busy():
                self._wait(READ)
                self._pgconn.consume_input()
                if self.most is not None and self.received() > self.most:
                    raise TooMuch
            return self._pgconn.get_result()
        except Error as error:
            raise failure or Lost(str(error)) from None

    def _error(self, result: PGresult) -> ServerError:
        error = ServerError.of(result)
        if not error.state:  # libpq's own words: the connection is gone
            raise Lost(error.message)
        return error

    def _wait(self, ways: Way) -> Way:
        if ways != READ:
            self._selector.modify(self._pgconn.socket, ways)
        try:
            return _select(self._selector, self.deadline, self.cancellation)
        finally:
            if ways != READ:
                self._selector.modify(self._pgconn.socket, READ)


def _poll(asking: PGcancelConn, deadline: float) -> None:
    while (state := asking.poll()) in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        _sleep(asking.socket, READ if state == pq.PollingStatus.READING else WRITE, deadline, NEVER)


def _sleep(fileno: int, way: Way, deadline: float, cancellation: Cancellation) -> None:
    """Wait for a socket that may be another one the next time."""
    with selectors.DefaultSelector() as selector:
        selector.register(fileno, way)
        _select(selector, deadline, cancellation)


def _select(selector: selectors.BaseSelector, deadline: float, cancellation: Cancellation) -> Way:
    """What a socket is ready for. Raises `Late`, `Cancelled`.

    A socket that was shut down could not ask the server to stop any more, so a cancelled run is noticed by looking.
    """
    while (left := deadline - time.monotonic()) > 0:
        cancellation.check()
        ready = selector.select(min(left, LOOK))
        if ready:
            return ready[0][1]
    raise Late
