"""The real server with a watch in its hand: its webhook node answers when the request came in and when the node started.

    python -m bench.probe DATA_DIR

Times are `time.perf_counter_ns()`, on Linux the machine's one monotonic clock, so that a client in another process can subtract its own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest.mock import patch

from mechaway_core.local.server import bind, serve
from mechaway_core.node import Context, Items
from mechaway_core.nodes import catalogue
from mechaway_core.nodes.webhook import Webhook
from mechaway_core.settings import Settings
from mechaway_core.web.gateway import Gateway
from mechaway_core.web.transfers import Receive, Scope, Send

_entered = 0
_http = Gateway.http


class Watched(Webhook):
    """A webhook that gives the two times instead of the body."""

    def run(self, items: Items, ctx: Context) -> Items:
        return [{"entered": _entered, "started": time.perf_counter_ns()}]


async def _watched(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    global _entered  # noqa: PLW0603 - one request at a time
    _entered = time.perf_counter_ns()
    await _http(gateway, scope, receive, send)


def main() -> None:
    """Serve on a free port of 127.0.0.1; the first line printed tells which."""
    catalogue()["Webhook"] = Watched
    settings = Settings(data_dir=Path(sys.argv[1]), port=0)
    sock = bind(settings)
    print(f"probe on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    with patch.object(Gateway, "http", _watched):
        serve(settings, sock)


if __name__ == "__main__":
    main()
