"""The real server in a thread of this process: for what a process of its own could not be given, such as secrets.

uvicorn, the bounded protocol, the gateway and the app over real files are those of `mechaway dev`; only the process is not its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import uvicorn

from mechaway_core.local import build
from mechaway_core.local.protocol import bounded
from mechaway_core.settings import Settings
from mechaway_core.web.gateway import Gateway
from tests.journeys.server import PATIENCE, until
from tests.nodes.doorstep import Kept


class Indoors:
    """A server on a free port with these secrets of the project `default`. Leave it as a context manager."""

    def __init__(self, data: Path, secrets: dict[str, str], **settings: Any) -> None:
        self.data = data
        given: dict[str, Any] = {"lua_workers": 1, "sync": "normal"} | settings
        self.settings = Settings(data_dir=data, **given)
        self.app = build(self.settings)
        self.app.door.secrets = Kept("default", **secrets)
        self.gateway = Gateway(self.app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        protocol = bounded(self.settings.body_timeout)
        self._server = uvicorn.Server(uvicorn.Config(self.gateway, http=protocol, lifespan="off", access_log=False, log_config=None))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def __enter__(self) -> Indoors:
        self._thread.start()
        until(lambda: self._server.started, "the server in its thread")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self.gateway.close()
        self._socket.close()

    def connect(self) -> socket.socket:
        """A plain connection, for what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def kept(self) -> list[Path]:
        """Every file of runs that there is."""
        return [path for path in (self.data / "default" / "files").rglob("*") if path.is_file()]

    def open_uploads(self) -> list[str]:
        """The files without a name that bodies are written down to, while they are open."""
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry))
        return [target for target in found if target.startswith(f"{self.data}/.upload") and target.endswith("(deleted)")]
