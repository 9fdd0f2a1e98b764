"""The threads that runs happen in, awaited from the event loop.

Python runs one thread at a time, so threads beyond what keeps the processor busy only get into each other's way: measured with quick
runs, thirty threads do half of what three do. Slow runs, which mostly wait, need many. So there are a few threads to begin with; while
jobs wait in line and the process does not use its processor, one more is added every few milliseconds, up to the limit, and those
go again when they are not needed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from mechaway_core.errors import Unavailable

T = TypeVar("T")

_FEW = 3
_TICK = 0.01  # seconds between two looks at the line
_BUSY = 0.6  # of one processor: from here on more threads would not help
_IDLE = 2.0  # seconds after which an added thread that has nothing to do ends

_Job = Callable[[], None]


class Threads:
    """At most `most` jobs at a time, at most `waiting` more in line; beyond that callers are told to come back."""

    def __init__(self, most: int, waiting: int) -> None:
        self.most = most
        self.room = most + waiting
        self.busy = 0  # jobs that were taken on and are not over; only the event loop's thread touches it
        self.added = 0  # threads beyond the first few; changes under the lock
        self._few = min(_FEW, most)
        self._line: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._looking = False
        self._last_look = (0.0, 0.0)
        self._started = False

    async def run(self, job: Callable[[], T]) -> T:
        """The result of a job. Raises `Unavailable` when there is no room. A caller that goes away does not stop the job."""
        if self.busy >= self.room:
            raise Unavailable("too many runs are waiting; try again soon (MECHAWAY_MAX_RUNS, MECHAWAY_MAX_WAITING)")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self.busy -= 1
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            try:
                result = job()
            except BaseException as error:
                loop.call_soon_threadsafe(settle, None, error)
            else:
                loop.call_soon_threadsafe(settle, result, None)

        if not self._started:
            self._start()
        self.busy += 1
        self._line.put(work)
        if not self._looking and self.busy > self._few:
            self._looking = True
            self._last_look = (time.monotonic(), time.process_time())
            loop.call_later(_TICK, self._look, loop)
        return await future

    def close(self) -> None:
        """End the threads, each after the job it is at."""
        for _ in range(self._few + self.added):
            self._line.put(None)

    def _start(self) -> None:
        self._started = True
        for number in range(self._few):
            threading.Thread(target=self._serve, name=f"mechaway-run-{number}", daemon=True).start()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Add a thread when jobs wait although the processor does not have its hands full."""
        if self._line.empty():
            self._looking = False
            return
        before, used = self._last_look
        now, using = self._last_look = (time.monotonic(), time.process_time())
        if (using - used) < _BUSY * (now - before):
            self._add()
        loop.call_later(_TICK, self._look, loop)

    def _add(self) -> None:
        with self._lock:
            if self._few + self.added >= self.most:
                return
            self.added += 1
        threading.Thread(target=self._serve_for_now, name="mechaway-run-added", daemon=True).start()

    def _serve(self) -> None:
        while (work := self._line.get()) is not None:
            work()

    def _serve_for_now(self) -> None:
        try:
            while (work := self._line.get(timeout=_IDLE)) is not None:
                began = time.monotonic()
                work()
                if time.monotonic() - began < _TICK:  # quick jobs: the first few can do them alone
                    return
        except Empty:
            pass
        finally:
            with self._lock:
                self.added -= 1
