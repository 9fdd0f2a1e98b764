"""How the bare applications of the benchmarks are served: by uvicorn with its quick parts, as Mechaway is."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


def serve(app: Any, name: str) -> None:
    """Serve an ASGI application on a free port of 127.0.0.1; the first line printed tells which."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(2048)
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    print(f"{name} on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[sock])
