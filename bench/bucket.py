"""A bucket for measures: S3 as far as Mechaway asks it, in memory, each call as slow as over a network: `python -m bench.bucket 0.015`.

It counts calls: `GET /_calls` answers them by method, and begins again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

CALLS = "/_calls"

_step = threading.Lock()  # over all that follows
_objects: dict[str, tuple[bytes, str, dict[str, str]]] = {}  # by path: data, entity tag, what else is kept with it
_calls: Counter[str] = Counter()
_numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    delay = 0.0

    def do_GET(self) -> None:
        """Read an object, or list."""
        url = urlsplit(self.path)
        if url.path == CALLS:
            with _step:
                said = json.dumps(_calls).encode()
                _calls.clear()
            self._answer(200, said)
            return
        query = parse_qs(url.query, keep_blank_values=True)
        with self._call():
            if "list-type" in query:
                self._answer(200, _listing(unquote(url.path), query))
                return
            data, etag, kept = _objects.get(unquote(url.path), (b"", "", {}))
        if not etag:
            self._refuse(404, "NoSuchKey")
        elif self.headers["if-none-match"] == etag:
            self._answer(304, b"", etag)
        else:
            self._answer(200, data, etag, kept)

    def do_PUT(self) -> None:
        """Write an object if what is expected is there."""
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        key = unquote(urlsplit(self.path).path)
        with self._call():
            there = _objects.get(key, (b"", "", {}))[1]
            wanted = self.headers["if-match"]
            if (self.headers["if-none-match"] == "*" and there) or (wanted and there and wanted != there):
                self._refuse(412, "PreconditionFailed")
            elif wanted and not there:
                self._refuse(404, "NoSuchKey")
            else:
                etag = f'"{hashlib.md5(body + str(next(_numbers)).encode()).hexdigest()}"'
                kept = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
                _objects[key] = (body, etag, kept)
                self._answer(200, b"", etag)

    def do_DELETE(self) -> None:
        """Delete an object."""
        with self._call():
            _objects.pop(unquote(urlsplit(self.path).path), None)
            self._answer(204, b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing of each request."""

    def _call(self) -> threading.Lock:
        time.sleep(self.delay)
        with _step:
            _calls[self.command] += 1
        return _step

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(self, status: int, body: bytes, etag: str = "", kept: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        for name, value in (kept or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _listing(bucket: str, query: dict[str, list[str]]) -> bytes:
    start = f"{bucket.rstrip('/')}/"
    prefix, after, most = query["prefix"][0], query.get("start-after", [""])[0], int(query["max-keys"][0])
    keys = sorted(key.removeprefix(start) for key in _objects if key.startswith(start + prefix))
    found = [key for key in keys if key > after]
    lines = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>2026-11-20T00:00:00.000Z</LastModified></Contents>" for key in found[:most]
    )
    return f"<ListBucketResult><IsTruncated>{'true' if len(found) > most else 'false'}</IsTruncated>{lines}</ListBucketResult>".encode()


def main() -> None:
    """Serve until the process is ended."""
    Handler.delay = float(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
