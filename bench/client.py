"""A light HTTP client on raw sockets: for single calls, and as a load generator in a process of its own where there is no wrk.

    python -m bench.client PORT PATH BODY CONNECTIONS SECONDS ["NAME: VALUE" …]

It knows just enough HTTP for servers that answer with a content-length.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status and body."""

    status: int
    body: bytes


def request_bytes(method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> bytes:
    """A whole request; a body is announced as JSON. `headers` are lines."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{line}\r\n" for line in headers)
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> Reply:
        """Send a request and wait for its answer."""
        return self.exchange(request_bytes(method, path, body, headers))

    def exchange(self, request: bytes) -> Reply:
        """Send the bytes of a request and wait for its answer."""
        self._socket.sendall(request)
        data = b""
        while (end := _end(data)) is None:
            data += self._more()
        while len(data) < end:
            data += self._more()
        return Reply(int(data[9:12]), data[data.index(b"\r\n\r\n") + 4 : end])

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def call(port: int, method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> Reply:
    """One request on a connection of its own."""
    with Connection(port) as connection:
        return connection.call(method, path, body, headers)


def call_ok(port: int, method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> bytes:
    """The body of an answer that must be a success."""
    reply = call(port, method, path, body, headers)
    if reply.status >= 300:
        raise RuntimeError(f"{method} {path} answered {reply.status}: {reply.body[:500].decode(errors='replace')}")
    return reply.body


def _end(data: bytes) -> int | None:
    """Where the answer ends, once its head is here."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    for line in data[:head].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + 4 + int(value)
    return head + 4


class _Lane:
    """A connection of the load generator: always one request under way."""

    __slots__ = ("data", "sent", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.sent = 0.0

    def send(self, request: bytes) -> None:
        self.data = b""
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is there; whether the answer is complete."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the server closed a connection")
        self.data += piece
        end = _end(self.data)
        return end is not None and len(self.data) >= end


def generate(port: int, request: bytes, connections: int, seconds: float) -> tuple[list[float], int, float]:
    """Latencies in seconds, how many answers were no success, and how long it took."""
    lanes = [_Lane(port) for _ in range(connections)]
    latencies: list[float] = []
    failures = 0
    with selectors.DefaultSelector() as selector:
        for lane in lanes:
            selector.register(lane.socket, selectors.EVENT_READ, lane)
        began = time.perf_counter()
        until = began + seconds
        for lane in lanes:
            lane.send(request)
        under_way = connections
        while under_way:
            ready = selector.select(TIMEOUT)
            if not ready:
                raise TimeoutError("the server does not answer")
            for key, _ in ready:
                lane = key.data
                if not lane.receive():
                    continue
                now = time.perf_counter()
                latencies.append(now - lane.sent)
                failures += lane.data[9:10] != b"2"
                if now < until:
                    lane.send(request)
                else:
                    under_way -= 1
    took = time.perf_counter() - began
    for lane in lanes:
        lane.socket.close()
    return latencies, failures, took


def main() -> None:
    """Generate load and print a JSON line."""
    port, path, body, connections, seconds, *headers = sys.argv[1:]
    request = request_bytes("POST", path, body.encode(), headers)
    latencies, failures, took = generate(int(port), request, int(connections), float(seconds))
    latencies.sort()
    count = len(latencies)
    print(
        json.dumps(
            {
                "requests": count,
                "seconds": took,
                "p50": latencies[count // 2],
                "p99": latencies[min(count - 1, int(count * 0.99))],
                "errors": failures,
            }
        )
    )


if __name__ == "__main__":
    main()
