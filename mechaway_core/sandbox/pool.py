"""Which Lua process makes which call: started when first needed, reused, replaced in the background.

At most `workers` processes are at work at a time. One more stands ready, so that the process a script took down costs the next call
nothing. The one that was used last is used next: it is warm. But a process that has answered takes its runtime apart and makes the next; so
one that was used just now is left alone when another one is free. A call that comes too early waits in its socket.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import Cancelled, Unavailable
from mechaway_core.sandbox.process import Gone, Late, LuaProcess, NotStarted

RECYCLE_AFTER = 5000  # calls. None has been seen to leak; the heap of one that had a large run to do stays large, though
MAKING = 0.0003  # seconds that a process mostly needs to make its next runtime
MAKING_BESIDE = 0.001  # the same while another is at work
NO_HURRY = 0.02  # seconds before a process is started that nobody waits for: the call that took the last one shall not feel it


@dataclass(slots=True)
class Counts:
    """What happened to processes so far."""

    spawned: int = 0
    killed: int = 0  # ended in the middle of a call: too long, or from outside
    failed: int = 0  # did not start


@dataclass(slots=True)
class _State:
    """All that is lost, on purpose, in a forked child: the processes belong to its parent."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Condition = field(init=False)  # with that lock
    idle: deque[LuaProcess] = field(default_factory=deque)
    busy: set[LuaProcess] = field(default_factory=set)
    starting: int = 0
    fresh: set[LuaProcess] = field(default_factory=set)  # started, not yet ready
    waiting: int = 0
    failures: int = 0
    failure: str = ""
    closed: bool = False

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self.lock)


class Pool:
    """Lua processes. Thread-safe. Starts nothing until first used."""

    def __init__(self, *, workers: int, spawn_timeout: float) -> None:
        self._workers = workers
        self._spawn_timeout = spawn_timeout
        self._state = _State()
        self._counts = Counts()

    def call(
        self,
        parts: list[bytes],
        memory: int,
        timeout: float,
        *,
        wait: float,
        deadline: float | None,
        cancellation: Cancellation = NEVER,
    ) -> list[bytes]:
        """Make one call on whichever process is free.

        `memory` in bytes; `timeout` and `wait` (for a free process) in seconds; `deadline`, a `time.monotonic()`, bounds both.
        When the run that it is for is cancelled, the process is killed. Raises `Gone`, `Late`, `Cancelled`, or `Unavailable` when no
        process was to be had.
        """
        until = time.monotonic() + wait
        if deadline is not None:
            until = min(until, deadline)
        cancellation.check()
        while True:
            process = self._claim(until, cancellation)
            seconds = timeout if deadline is None else min(timeout, deadline - time.monotonic())
            if seconds <= 0:
                self._give_back(process)
                raise Late
            try:
                with cancellation.during(process.kill):
                    answer = process.call(parts, memory, seconds)
            except NotStarted:
                self._lost(process)
                continue
            except (Gone, Late):
                self._lost(process)
                if self._state.closed:
                    raise Unavailable("the Lua sandbox was closed") from None
                self._counts.killed += 1
                raise
            except Cancelled:
                self._lost(process)
                self._counts.killed += 1
                raise
            except BaseException:
                self._lost(process)
                raise
            self._give_back(process)
            return answer

    def prepare(self) -> None:
        """Start a process now, so that the first call finds it."""
        state = self._state
        with state.changed:
            self._keep_ready(state)
            state.changed.notify_all()

    def close(self) -> None:
        """End all processes. Calls under way fail with `Unavailable`, as do later ones."""
        state = self._state
        if state.pid != os.getpid():
            return
        with state.changed:
            state.closed = True
            for process in (*state.busy, *state.fresh):
                process.kill()
            idle, state.idle = state.idle, deque()
            state.changed.notify_all()
        for process in idle:
            process.end()
        with state.changed:
            state.changed.wait_for(lambda: not state.starting and not state.busy, timeout=5)

    def stats(self) -> dict[str, int]:
        """Processes now (alive, idle, busy, starting) and so far (spawned, killed, failed)."""
        state = self._state
        with state.changed:
            return {
                "alive": len(state.idle) + len(state.busy) + len(state.fresh),
                "idle": len(state.idle),
                "busy": len(state.busy),
                "starting": state.starting,
                "spawned": self._counts.spawned,
                "killed": self._counts.killed,
                "failed": self._counts.failed,
            }

    def _claim(self, until: float, cancellation: Cancellation) -> LuaProcess:
        """A process that is free, now at work for the caller. Raises `Unavailable`, `Cancelled`."""
        state = self._state
        if state.pid != os.getpid():
            state = self._state = _State()
        with state.lock:
            if state.idle and len(state.busy) < self._workers and not state.closed:
                return self._take(state)
        wake = partial(self._wake, state)
        cancellation.begin(wake)
        try:
            return self._await(state, until, cancellation)
        finally:
            cancellation.end(wake)

    @staticmethod
    def _wake(state: _State) -> None:
        with state.changed:
            state.changed.notify_all()

    def _await(self, state: _State, until: float, cancellation: Cancellation) -> LuaProcess:
        with state.lock:
            failures, announced = state.failures, False
            while not state.closed:
                cancellation.check()
                if state.idle and len(state.busy) < self._workers:
                    return self._take(state)
                if state.failures > failures and not state.starting:
                    raise Unavailable(state.failure)
                left = until - time.monotonic()
                if left <= 0:
                    if len(state.busy) >= self._workers:
                        raise Unavailable(f"all {self._workers} Lua processes are at work")
                    raise Unavailable("no Lua process got ready in time")
                state.waiting += 1
                try:
                    self._keep_ready(state)
                    if not announced:
                        announced = True
                        state.changed.notify_all()  # who starts one may have thought there was no hurry
                    state.changed.wait(left)
                finally:
                    state.waiting -= 1
            raise Unavailable("the Lua sandbox is closed")

    def _take(self, state: _State) -> LuaProcess:
        process = self._warmest(state.idle, MAKING_BESIDE if state.busy else MAKING)
        state.busy.add(process)
        if not state.idle or state.waiting:
            self._keep_ready(state)
        return process

    @staticmethod
    def _warmest(idle: deque[LuaProcess], making: float) -> LuaProcess:
        """The one used last, but for those that are perhaps still making their next runtime; taken off the list."""
        before = time.monotonic() - making
        for place in range(len(idle) - 1, 0, -1):
            if idle[place].free_since <= before:
                process = idle[place]
                del idle[place]
                return process
        return idle.popleft()

    def _keep_ready(self, state: _State) -> None:
        """Start processes until one stands ready and whoever waits and may have one gets one."""
        wanted = max(1, min(state.waiting, self._workers - len(state.busy)))
        while not state.closed and len(state.idle) + state.starting < wanted and self._count(state) <= self._workers:
            try:
                threading.Thread(target=self._start, args=(state,), name="lua-start", daemon=True).start()
            except RuntimeError as error:  # too many threads, or the program is ending
                state.failures += 1
                state.failure = f"no Lua process could be started: {error}"
                return
            state.starting += 1
            self._counts.spawned += 1

    @staticmethod
    def _count(state: _State) -> int:
        return len(state.idle) + len(state.busy) + state.starting

    def _start(self, state: _State) -> None:
        with state.changed:
            state.changed.wait_for(lambda: state.waiting or state.closed, NO_HURRY)
        process: LuaProcess | None = None
        failure = ""
        try:
            process = LuaProcess()
            with state.changed:
                state.fresh.add(process)
                if state.closed:
                    process.kill()
            if not process.ready(self._spawn_timeout):
                failure = f"no Lua process could be started: it was not ready after {self._spawn_timeout:g} s"
        except Gone as error:
            failure = f"no Lua process could be started: it ended at once ({error})"
        except Unavailable as error:
            failure = str(error)
        except Exception as error:
            failure = f"no Lua process could be started: {error}"
        with state.changed:
            if process is not None and not failure and not state.closed:
                state.fresh.discard(process)
                state.idle.appendleft(process)
                state.starting -= 1
                state.changed.notify_all()
                return
        if process is not None:
            process.end()
        with state.changed:
            if process is not None:
                state.fresh.discard(process)
            state.starting -= 1
            state.failures += 1
            state.failure = failure
            self._counts.failed += 1
            state.changed.notify_all()

    def _give_back(self, process: LuaProcess) -> None:
        state = self._state
        spent = process.leaving or process.calls >= RECYCLE_AFTER
        with state.lock:
            if not spent and not state.closed:
                state.busy.discard(process)
                process.free_since = time.monotonic()
                state.idle.append(process)
                if state.waiting:
                    state.changed.notify()
                return
        self._lost(process)

    def _lost(self, process: LuaProcess) -> None:
        """See a process off. It counts as at work until it has ended, so that `close` waits for it."""
        state = self._state
        process.end()
        with state.changed:
            state.busy.discard(process)
            if not state.closed:
                self._keep_ready(state)
            state.changed.notify_all()
