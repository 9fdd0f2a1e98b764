"""The local server: uvicorn around the gateway, in one process or several.

Told to stop (SIGTERM, SIGINT), a process first drains: it goes on listening, answers new requests with 503, lets running runs end
within the grace period, and only then closes. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from mechaway_core.errors import Invalid, Unavailable
from mechaway_core.local import build
from mechaway_core.local.caretaker import Caretaker
from mechaway_core.local.invoke import LocalInvoke
from mechaway_core.local.owner import Owner
from mechaway_core.local.processor import Processor
from mechaway_core.local.protocol import bounded
from mechaway_core.local.timekeeper import Timekeeper
from mechaway_core.settings import Settings
from mechaway_core.web.gateway import Gateway

log = logging.getLogger("mechaway.server")

BACKLOG = 2048
MOST_FILES = 10_000
SWEEP_EVERY = 3600.0  # seconds between two looks for files of old runs


def bind(settings: Settings) -> socket.socket:
    """A listening socket. Raises `Invalid` when the settings forbid it, `Unavailable` when the address cannot be had."""
    if not settings.api_token and not is_loopback(settings.host):
        raise Invalid(
            f"listening on {settings.host} would let everybody on the network use the API; "
            "set MECHAWAY_API_TOKEN first, or listen on 127.0.0.1"
        )
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(settings, error) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(settings, error) from None
    sock.setblocking(False)
    return sock


def _cannot_listen(settings: Settings, error: OSError) -> Unavailable:
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return Unavailable(f"cannot listen on {settings.host} port {settings.port}: {reason}; choose another with --host or --port")


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(settings: Settings, sock: socket.socket, *, parent: int | None = None, number: int = 0) -> None:
    """Serve on a bound socket until told to stop, in this process.

    With `parent`, also end when that process is gone; `number` tells its processes apart.
    """
    _allow_files()
    processor = Processor((parent or os.getpid()) + number)
    if settings.processors == "one":
        processor.start()
    owner = Owner(settings.data_dir, durable=settings.sync == "full")
    invoke = LocalInvoke(max(1, settings.max_runs // 2), settings.max_accepted, owner.at)
    app = Gateway(build(settings, owner, invoke))
    # What there is by now stays: the collector need not walk it again and again while requests wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    config = uvicorn.Config(
        app,
        http=bounded(settings.body_timeout),
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # whom to believe about that is for MECHAWAY_TRUSTED_PROXIES to say
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=BACKLOG,
    )
    _Server(config, app, parent, owner, invoke).run(sockets=[sock])
    processor.stop()


def _allow_files() -> None:
    """Have as many files open as it takes: each open project has three databases, each with a journal and several readers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system that has its reasons
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """A uvicorn server that drains before it closes."""

    def __init__(self, config: uvicorn.Config, app: Gateway, parent: int | None, owner: Owner, invoke: LocalInvoke) -> None:
        super().__init__(config)
        self._app = app
        self._parent = parent
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = owner
        self._invoke = invoke
        self._caretaker = Caretaker(app.app, owner)
        settings = app.app.settings
        self._clock = Timekeeper(app.app, settings.data_dir, settings.max_runs)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._invoke.serve(self._app.app.runs.work_off, self._submit)
        self._caretaker.start()
        self._clock.start()
        self._tasks.append(asyncio.ensure_future(self._sweep()))
        if self._parent is not None:
            self._tasks.append(asyncio.ensure_future(self._watch_parent(self._parent)))

    def _submit(self, job: Callable[[], None]) -> None:
        """Have a job done in the threads that webhooks have, too."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._app.threads.put, job)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._app.draining:
            super().handle_exit(sig, frame)
        else:
            self._app.draining = True
            self._loop.call_soon_threadsafe(lambda: self._tasks.append(asyncio.ensure_future(self._drain())))

    async def _drain(self) -> None:
        await asyncio.to_thread(self._clock.stop)
        await asyncio.to_thread(self._caretaker.stop)
        await asyncio.to_thread(self._invoke.close)
        cancelled = await self._app.drain(self._app.app.settings.grace)
        if cancelled:
            log.warning("%d runs were still going after the grace period and were cancelled", cancelled)
        self.should_exit = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.to_thread(self._app.app.sweep)
            await asyncio.sleep(SWEEP_EVERY)

    async def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            await asyncio.sleep(1)
        log.warning("the process that started this one is gone; it ends too")
        self.handle_exit(signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await super().shutdown(sockets)
        self._app.close()
        self._owner.close()
