"""A few connections per connection string.

A connection is made by whoever needs it, so that a wrong password is that caller's error at once. What comes back is made as new: the
script that resets the session is sent right away and its answer read at the next use, so a run does not wait for it. Each use begins
with a look whether the server is still there; a dead connection is replaced before anything was sent by it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import MechawayError, OutOfTime, Unavailable, Unreachable
from mechaway_core.http.guard import Guard
from mechaway_core.postgres import conninfo as strings
from mechaway_core.postgres.conninfo import Target
from mechaway_core.postgres.faults import Late, Lost, connecting
from mechaway_core.postgres.link import Link, connect
from mechaway_core.postgres.values import Types
from mechaway_core.settings import Settings

MOST_POOLS = 32
MAX_IDLE = 300.0  # seconds an unused connection is kept
MAX_LIFETIME = 3600.0
SETTLING = 2.0  # seconds that a kept connection gets to show that it is alive, but half of what is left at most
MOST_SHAPES = 1000
EVERY = 30.0  # seconds between two looks for connections that are idle for too long

Addresses: TypeAlias = Callable[[str, int, float, Cancellation], Sequence[str]]
Shape: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # types of the parameters and of the columns

# DISCARD ALL in parts, because it cannot be sent together with others; then what values rely on, whatever server or role prefer.
_RESET = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DEALLOCATE ALL; DISCARD SEQUENCES; DISCARD TEMP; "
    "SELECT pg_catalog.pg_advisory_unlock_all(), {settings}"
)
_SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "statement_timeout": "{timeout}",
    "idle_in_transaction_session_timeout": "{timeout}",
}


def _reset_script(timeout: float) -> bytes:
    """What makes a session as new, with this many seconds for each statement."""
    settings = ", ".join(f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())
    return _RESET.format(settings=settings).format(timeout=max(1, int(timeout * 1000))).encode()


class Pool:
    """The connections of one connection string, and what is known about its database."""

    def __init__(self, conninfo: str, settings: Settings, addresses: Addresses | None) -> None:
        self._targets = strings.targets(conninfo)
        self._connect_timeout = min(settings.pg_connect_timeout, strings.connect_timeout(conninfo) or settings.pg_connect_timeout)
        self._reset = _reset_script(settings.pg_timeout)
        self._size = settings.pg_pool
        self._addresses = addresses or Guard(settings).addresses
        self._free = threading.BoundedSemaphore(self._size)
        self._idle: list[Link] = []
        self._lock = threading.Lock()
        self._closed = False
        self.types = Types()
        self.shapes: OrderedDict[str, Shape] = OrderedDict()

    @contextmanager
    def link(self, deadline: float, cancellation: Cancellation = NEVER) -> Iterator[Link]:
        """A connection for one use. Raises `OutOfTime`, `Unavailable`, `Cancelled`, and `NodeError` when the server lets nobody in.

        When the run that it is for is cancelled, so does every wait on the connection.
        """
        if not cancellation.acquire(self._free, deadline):
            raise OutOfTime(f"all {self._size} connections to this database are in use (MECHAWAY_PG_POOL)")
        try:
            link = self._kept(deadline) or self._connect(deadline, cancellation)
            link.deadline = deadline
            link.cancellation = cancellation
            try:
                yield link
            finally:
                link.most = None
                link.cancellation = NEVER
                self._give_back(link)
        finally:
            self._free.release()

    def shape(self, sql: str) -> Shape | None:
        """What is known about the types of a statement."""
        with self._lock:
            return self.shapes.get(sql)

    def remember(self, sql: str, shape: Shape | None) -> None:
        """Keep the types of a statement for the next time, or forget them."""
        with self._lock:
            self.shapes.pop(sql, None)
            if shape is not None:
                self.shapes[sql] = shape
                if len(self.shapes) > MOST_SHAPES:
                    self.shapes.popitem(last=False)

    def trim(self, now: float) -> None:
        """Close connections that nobody used for long."""
        with self._lock:
            old = [link for link in self._idle if now - link.idle_since > MAX_IDLE]
            self._idle = [link for link in self._idle if link not in old]
        for link in old:
            link.close()

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def _kept(self, deadline: float) -> Link | None:
        """A kept connection that is alive and as new."""
        while True:
            with self._lock:
                link = self._idle.pop() if self._idle else None
            if link is None:
                return None
            now = time.monotonic()
            link.deadline = now + min(SETTLING, (deadline - now) / 2)
            if now - link.born < MAX_LIFETIME and link.settle():
                return link
            link.close()

    def _give_back(self, link: Link) -> None:
        if link.reset(self._reset):
            with self._lock:
                if not self._closed:
                    self._idle.append(link)
                    return
        link.close()

    def _connect(self, deadline: float, cancellation: Cancellation) -> Link:
        """A new connection to the first of the servers that takes one. One that says no to this user ends the search."""
        until = min(deadline, time.monotonic() + self._connect_timeout)
        failure: MechawayError = Unavailable("the PostgreSQL server cannot be reached")
        for number, target in enumerate(self._targets):
            try:
                return self._reach(target, _share(until, len(self._targets) - number), cancellation)
            except (Unavailable, OutOfTime) as error:
                failure = error
        raise failure

    def _reach(self, target: Target, until: float, cancellation: Cancellation) -> Link:
        """A connection to the first address of a host that takes one."""
        failure: MechawayError = Unavailable("the PostgreSQL server cannot be reached")
        try:
            found = self._addresses(target.host, target.port, until, cancellation)
        except Unreachable:  # its sentence names the host, and that is a part of a secret
            raise Unavailable("the host of the connection string has no address") from None
        for number, address in enumerate(found):
            try:
                return self._open({**target.params, "hostaddr": address}, _share(until, len(found) - number), cancellation)
            except (Unavailable, OutOfTime) as error:
                failure = error
        raise failure

    def _open(self, params: Mapping[str, str], until: float, cancellation: Cancellation) -> Link:
        try:
            link = connect(params, until, cancellation)
        except Late:
            raise OutOfTime("the PostgreSQL server did not answer in time when connecting") from None
        except Lost as lost:
            raise connecting(str(lost)) from None
        link.deadline = until
        link.cancellation = cancellation
        if link.reset(self._reset) and link.settle():
            return link
        link.close()
        raise Unavailable("the PostgreSQL server ended the connection as soon as it was made")


class Pools:
    """The pools of one process; the least recently used one makes room when there are too many."""

    def __init__(self, settings: Settings, addresses: Addresses | None) -> None:
        self._settings = settings
        self._addresses = addresses
        self._pools: OrderedDict[str, Pool] = OrderedDict()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper: threading.Thread | None = None

    def get(self, conninfo: str) -> Pool:
        """The pool of a connection string. Raises `NodeError` when it cannot be read."""
        with self._lock:
            pool = self._pools.get(conninfo)
            if pool is not None:
                self._pools.move_to_end(conninfo)
                return pool
        made = Pool(conninfo, self._settings, self._addresses)
        oldest: Pool | None = None
        with self._lock:
            if self._closing.is_set():
                raise Unavailable("the server is shutting down")
            pool = self._pools.setdefault(conninfo, made)
            if len(self._pools) > MOST_POOLS:
                oldest = self._pools.popitem(last=False)[1]
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="mechaway-postgres", daemon=True)
                self._sweeper.start()
        if oldest is not None:
            oldest.close()
        return pool

    def close(self) -> None:
        """Close all of them, for good."""
        with self._lock:
            self._closing.set()
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()
        if self._sweeper is not None:
            self._sweeper.join()

    def _sweep(self) -> None:
        while not self._closing.wait(EVERY):
            with self._lock:
                pools = list(self._pools.values())
            for pool in pools:
                pool.trim(time.monotonic())


def _share(until: float, ways: int) -> float:
    """When to give up on the first of several ways, so that there is time for the others."""
    now = time.monotonic()
    return now + max(0.0, until - now) / ways
