"""An S3 for tests: moto's, behind an edge that counts calls, can fail in every way a network can, and makes each call one step.

The last matters: moto compares and sets in two steps, and between them other threads of it would set too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

Kind = Literal["before", "after", "answer"]


@dataclass(frozen=True)
class Request:
    """A request as it came; `key` without the bucket."""

    method: str
    bucket: str
    key: str
    query: str
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to `times` requests that fit.

    "before": the connection ends and nothing was done; "after": it was done and the connection ends; "answer": nothing was done and
    this is the answer, with an XML body of S3's error of that `code`.
    """

    kind: Kind
    fits: Callable[[Request], bool]
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    headers: tuple[tuple[str, str], ...] = ()


class S3Server:
    """The server, in threads of this process."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        class Quiet(MotoRequestHandler):
            def log(self, *args: Any) -> None:
                return None

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._step = threading.RLock()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.before: Callable[[Request], None] | None = None
        self._server = make_server("127.0.0.1", 0, self._answer, True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Fail so inside; all the faults must have happened at the end."""
        self.faults = list(faults)
        try:
            yield
            left = [fault for fault in self.faults if 0 < fault.times < 1000]
            assert not left, f"these never happened: {left}"
        finally:
            self.faults = []

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[Request]]:
        """The requests that come inside."""
        start = len(self.requests)
        seen: list[Request] = []
        yield seen
        seen += self.requests[start:]

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = _request(environ)
        if self.before is not None:
            self.before(request)
        with self._step:
            self.requests.append(request)
            fault = next((fault for fault in self.faults if fault.times > 0 and fault.fits(request)), None)
            if fault is not None:
                fault.times -= 1
            if fault is not None and fault.kind != "after":
                if fault.kind == "before":
                    return _hang_up(environ)
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                body = f"<Error><Code>{fault.code}</Code></Error>".encode()
                start_response(f"{fault.status} x", [("Content-Length", str(len(body))), *fault.headers])
                return [body]
            said: list[Any] = []
            body_parts = list(self._moto(environ, lambda *given: said.append(given)))
        if fault is not None:
            return _hang_up(environ)
        start_response(*said[0])
        return body_parts


def _request(environ: dict[str, Any]) -> Request:
    path = unquote(environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0])
    bucket, _, key = path.lstrip("/").partition("/")
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    return Request(environ["REQUEST_METHOD"], bucket, key, environ.get("QUERY_STRING", ""), headers)


def _hang_up(environ: dict[str, Any]) -> Iterable[bytes]:
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


_started: list[S3Server] = []


def server() -> S3Server:
    """The server of this process, started when first asked for."""
    if not _started:
        _started.append(S3Server())
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": _started[0].url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
    return _started[0]


def reach() -> None:
    """Have a server to talk to: the one that the environment names, in a process that a test started, else one of our own."""
    if not os.environ.get("AWS_ENDPOINT_URL_S3"):
        server()
