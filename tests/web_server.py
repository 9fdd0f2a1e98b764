"""A real HTTP server on loopback for tests: it answers well, badly, slowly or not at all, as its paths say, and keeps what came.

A test adds its own paths with `on`. What a handler gives is a `Reply`, or an iterable of bytes that go onto the connection as they are,
before it is closed; waits in such an iterable use `server.wait`, which ends when the server does.
"""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import brotli


@dataclass(frozen=True)
class Seen:
    """A request as it came. Header names are in lower case; `peer` is the port of the client, one for each connection."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    peer: int

    def as_json(self) -> dict[str, Any]:
        """The same as JSON, the body as Latin-1."""
        return {
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "headers": dict(self.headers),
            "body": self.body.decode("latin-1"),
        }


@dataclass(frozen=True)
class Reply:
    """An answer; `Content-Length` is added unless `headers` speak of the length."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = field(default_factory=dict)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer."""
    return Reply(json.dumps(value).encode(), status, {"content-type": "application/json"} | dict(headers or {}))


Handler = Callable[[Seen], "Reply | Iterable[bytes]"]


class WebServer:
    """The server; a context manager. `context` makes it speak TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.counts: dict[str, int] = {}
        self.stopping = threading.Event()
        self._handlers: dict[str, Handler] = {}
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.web = self
        self._context = context
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        for path, handler in _PATHS.items():
            self._handlers[path] = handler.__get__(self)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address of the server, without a slash at its end."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def on(self, path: str, handler: Handler | Reply) -> str:
        """Answer a path in this way; its URL."""
        self._handlers[path] = (lambda seen: handler) if isinstance(handler, Reply) else handler
        return self.url + path

    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [seen.path for seen in self.seen]

    def wait(self, seconds: float) -> None:
        """Let time go by, until the server stops."""
        self.stopping.wait(seconds)

    def answer(self, seen: Seen) -> Reply | Iterable[bytes]:
        """What to answer."""
        self.seen.append(seen)
        self.counts[seen.path] = self.counts.get(seen.path, 0) + 1
        handler = self._handlers.get(seen.path) or self._handlers.get("/" + seen.path.split("/")[1])
        return handler(seen) if handler else Reply(b"nothing here", 404, {"content-type": "text/plain"})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- paths that are always there

    def echo(self, seen: Seen) -> Reply:
        """What came, as JSON."""
        return as_json(seen.as_json())

    def status(self, seen: Seen) -> Reply:
        """`/status/503` answers 503."""
        return Reply(b"it is so", int(seen.path.split("/")[2]), {"content-type": "text/plain"})

    def redirect(self, seen: Seen) -> Reply:
        """To `to`, with `status` (302)."""
        return Reply(b"", int(seen.query.get("status", ["302"])[0]), {"location": seen.query["to"][0]})

    def encoded(self, seen: Seen) -> Reply:
        """`/encoded/gzip,br` encodes a JSON value in this way."""
        names = seen.path.split("/")[2]
        body = json.dumps({"encoded": names, "long": "x" * 200_000}).encode()
        for name in names.split(","):
            body = compress(name, body)
        return Reply(body, 200, {"content-type": "application/json", "content-encoding": names})

    def bomb(self, seen: Seen) -> Reply:
        """`/bomb/br` is a few kilobytes that unpack into 200 MB."""
        names = seen.path.split("/")[2]
        return Reply(bomb(names), 200, {"content-type": "text/plain", "content-encoding": names})

    def drip(self, seen: Seen) -> Iterator[bytes]:
        """The head at once, then a byte every 20 ms without end."""
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        while not self.stopping.is_set():
            yield b"."
            self.wait(0.02)

    def drip_head(self, seen: Seen) -> Iterator[bytes]:
        """A head that comes byte by byte and never ends."""
        yield b"HTTP/1.1 200 OK\r\nx-long: "
        while not self.stopping.is_set():
            yield b"."
            self.wait(0.02)

    def silent(self, seen: Seen) -> Iterator[bytes]:
        """No answer at all."""
        self.stopping.wait()
        yield b""

    def drop(self, seen: Seen) -> Iterable[bytes]:
        """The connection is closed before an answer."""
        return []

    def half(self, seen: Seen) -> Iterable[bytes]:
        """The connection is closed in the middle of the answer."""
        return [b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"half of it"]

    def nonsense(self, seen: Seen) -> Iterable[bytes]:
        """Not HTTP."""
        return [b"220 mail.example ESMTP ready\r\n"]

    def huge_head(self, seen: Seen) -> Iterable[bytes]:
        """A head of a megabyte."""
        return [b"HTTP/1.1 200 OK\r\n", *[b"x-filler: " + b"y" * 1000 + b"\r\n"] * 1000, b"\r\n"]

    def chunked(self, seen: Seen) -> Iterable[bytes]:
        """JSON in chunks."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        pieces = [b'{"chu', b'nked": ', b"true}"]
        return [head, *[b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces], b"0\r\n\r\n"]

    def endless(self, seen: Seen) -> Iterator[bytes]:
        """Text as fast as it goes, without end."""
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        while not self.stopping.is_set():
            yield b"z" * 65536

    def bytes(self, seen: Seen) -> Reply:
        """Bytes and a type as the query says them: `?hex=…&type=…`."""
        return Reply(bytes.fromhex(seen.query["hex"][0]), 200, {"content-type": seen.query["type"][0]} if "type" in seen.query else {})

    def flaky(self, seen: Seen) -> Reply:
        """`/flaky/2?status=503&after=1` fails twice in this way, then answers."""
        if self.counts[seen.path] <= int(seen.path.split("/")[2]):
            after = {"retry-after": seen.query["after"][0]} if "after" in seen.query else {}
            return Reply(b"not yet", int(seen.query.get("status", ["503"])[0]), after)
        return as_json({"ok": True})

    def pages(self, seen: Seen) -> Reply:
        """`/pages/link|body|page|cursor` in three pages of two items."""
        kind = seen.path.split("/")[2]
        number = int(seen.query.get("page", seen.query.get("cursor", ["1"]))[0])
        items = [{"n": n} for n in range(number * 2 - 1, number * 2 + 1)] if number <= 3 else []
        more = number < 3
        if kind == "link":
            link = {"link": f'<?page={number - 1}>; rel="prev", </pages/link?page={number + 1}>; title="a, b"; rel="next"'} if more else {}
            return as_json(items, headers=link)
        if kind == "body":
            return as_json({"items": items, "next": f"body?page={number + 1}" if more else None})
        if kind == "cursor":
            return as_json({"items": items, "meta": {"next": number + 1 if more else ""}})
        return as_json({"items": items})

    def token(self, seen: Seen) -> Reply:
        """A token endpoint of OAuth 2; the form must be in order."""
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if form.get("grant_type") != "client_credentials" or form.get("client_secret", "wrong") == "bad secret":
            return as_json({"error": "invalid_client", "error_description": "no such client"}, 401)
        return as_json({"access_token": f"token-{self.counts[seen.path]}", "token_type": "Bearer", "expires_in": 3600})


_PATHS: dict[str, Any] = {
    "/echo": WebServer.echo,
    "/status": WebServer.status,
    "/redirect": WebServer.redirect,
    "/encoded": WebServer.encoded,
    "/bomb": WebServer.bomb,
    "/drip": WebServer.drip,
    "/drip-head": WebServer.drip_head,
    "/silent": WebServer.silent,
    "/drop": WebServer.drop,
    "/half": WebServer.half,
    "/nonsense": WebServer.nonsense,
    "/huge-head": WebServer.huge_head,
    "/chunked": WebServer.chunked,
    "/endless": WebServer.endless,
    "/bytes": WebServer.bytes,
    "/flaky": WebServer.flaky,
    "/pages": WebServer.pages,
    "/token": WebServer.token,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    web: WebServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are what some tests are about."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the second would wait for the client's delayed word on the first
    server: _Server

    def _go(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body(headers)
        seen = Seen(self.command, parts.path, parse_qs(parts.query, keep_blank_values=True), headers, body, self.client_address[1])
        reply = self.server.web.answer(seen)
        if not isinstance(reply, Reply):
            self.close_connection = True
            for piece in reply:
                self.wfile.write(piece)
                self.wfile.flush()
            return
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        pairs = list(reply.headers.items() if isinstance(reply.headers, Mapping) else reply.headers)
        self.send_response(reply.status)
        for name, value in pairs:
            self.send_header(name, value)
        if not {name.lower() for name, _ in pairs} & {"content-length", "transfer-encoding"}:
            self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", "0")))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _go

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
        """Say nothing."""


def compress(name: str, data: bytes) -> bytes:
    """Data in one content encoding; `raw-deflate` is deflate without its frame."""
    if name == "br":
        return bytes(brotli.compress(data))
    if name == "deflate":
        return zlib.compress(data)
    return gzip.compress(data) if name == "gzip" else data


def bomb(names: str, size: int = 200_000_000) -> bytes:
    """Zeros in these encodings, made without holding them all."""
    first, *more = names.split(",")
    if first == "br":
        compressor = brotli.Compressor(quality=1)
        packed = b"".join([compressor.process(bytes(1_000_000)) for _ in range(size // 1_000_000)]) + compressor.finish()
    else:
        stream = zlib.compressobj(wbits=16 + zlib.MAX_WBITS if first == "gzip" else zlib.MAX_WBITS)
        packed = b"".join([stream.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]) + stream.flush()
    for name in more:
        packed = compress(name, packed)
    return bytes(packed)


def certificate(folder: Path, *, name: str = "127.0.0.1", expired: bool = False) -> tuple[ssl.SSLContext, Path]:
    """A self-signed certificate for an address: a context for the server, and the file that a client must trust."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    until = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
