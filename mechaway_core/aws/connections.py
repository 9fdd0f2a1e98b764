"""Connections to one HTTP server, kept open between requests.

A function that was frozen wakes up with connections that the other side closed meanwhile, and nothing tells but the next request. So a
request that fails says whether its connection was an old one, for then it is sent again at once, and whether the server may have had it.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CONNECTING = 3.0  # seconds
SILENCE = 10.0  # seconds that the other side may say nothing
KEPT = 8  # connections that wait for the next request


class Lost(Exception):
    """A request without an answer. `sent`: the server may have had it; `old`: its connection had been used before."""

    def __init__(self, why: str, *, sent: bool, old: bool) -> None:
        super().__init__(why)
        self.sent = sent
        self.old = old


class Answer(NamedTuple):
    """What the server said; names of headers in lower case. `body` is empty when it went into a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """The connections to `host`, a name or address with or without a port. Safe to use from several threads."""

    def __init__(self, host: str, *, secure: bool, ca_bundle: str = "") -> None:
        self._host = host
        self._secure = secure
        self._ca_bundle = ca_bundle
        self._tls: object = None
        self._idle: deque[http.client.HTTPConnection] = deque()

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes, into: Path | None = None) -> Answer:
        """The answer to a request; the body of one that is 200 goes `into` a file. Raises `Lost`, and `OSError` for that file."""
        connection, old = self._take()
        sent = False
        try:
            if connection.sock is None:
                connection.connect()
                _speaking(connection).settimeout(SILENCE)
            sent = True
            connection.request(method, target, body or None, dict(headers))
            with connection.getresponse() as response:
                said = {name.lower(): value for name, value in response.getheaders()}
                if into is not None and response.status == 200:
                    answer = Answer(200, said, b"")
                    _write(response, into)
                else:
                    answer = Answer(response.status, said, response.read())
                reusable = not response.will_close
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if isinstance(error, _FileFails):
                raise error.error from error
            raise Lost(f"{type(error).__name__}: {error}", sent=sent, old=old) from error
        except BaseException:  # stopped in the middle: what is left of the answer must not be taken for the next one
            connection.close()
            raise
        self._keep(connection, reusable)
        return answer

    def close(self) -> None:
        """Close those that wait; used again, new ones are opened."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        try:
            return self._idle.pop(), True
        except IndexError:
            return self._new(), False

    def _keep(self, connection: http.client.HTTPConnection, reusable: bool) -> None:
        if reusable and len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, timeout=CONNECTING)
        import ssl

        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_bundle or None)
        assert isinstance(self._tls, ssl.SSLContext)
        return http.client.HTTPSConnection(self._host, timeout=CONNECTING, context=self._tls)


def _speaking(connection: http.client.HTTPConnection) -> socket.socket:
    found: socket.socket | None = connection.sock  # its stubs do not know that connecting sets it
    assert found is not None
    return found


class _FileFails(OSError):
    """Not the connection failed, but the file that the answer goes into."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _write(response: http.client.HTTPResponse, into: Path) -> None:
    expected = response.length
    try:
        file = into.open("wb")
    except OSError as error:
        raise _FileFails(error) from error
    with file:
        shutil.copyfileobj(response, _Guarded(file))
        if expected is not None and file.tell() != expected:  # reading in pieces does not notice a connection that ended early
            raise http.client.IncompleteRead(b"", expected - file.tell())


class _Guarded:
    """A file whose errors can be told from those of the connection."""

    def __init__(self, file: object) -> None:
        self._write = file.write  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        try:
            written: int = self._write(data)
        except OSError as error:
            raise _FileFails(error) from error
        return written
