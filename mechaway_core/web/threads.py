"""The threads that runs happen in, awaited from the event loop.

Python runs one thread at a time, so threads beyond what keeps the processor busy only get into each other's way: measured with quick
runs, thirty threads do half of what two do. Slow runs, which mostly wait, need many. So there are a few to begin with, of which the
one that was busy last is asked first; while jobs wait in line and the process does not use its processor, one more is added every few
milliseconds, up to the limit, and these go again when they are not needed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from mechaway_core.errors import Unavailable
from mechaway_core.runs import Later

T = TypeVar("T")

FEW = 2  # threads to begin with
FEW_THAT_SYNC = 8  # where each answer waits for the disk: while one of them does, others bring it more rows for the same wait
_TICK = 0.01  # seconds between two looks at the line
_BUSY = 0.3  # of one processor: from here on more threads would not help

_Job = Callable[[], None]
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class Threads:
    """At most `most` jobs at a time, at most `waiting` more in line; beyond that callers are told to come back."""

    def __init__(self, most: int, waiting: int, few: int = FEW) -> None:
        self.most = most
        self.room = most + waiting
        self.busy = 0  # jobs that were taken on and are not over; only the event loop's thread touches it
        self.draining = False  # set when the server is told to stop: what is running ends, nothing new begins
        self.added = 0  # threads beyond the first few
        self._few = min(few, most)
        self._lock = threading.Lock()  # over `added` and the next two
        self._line: deque[_Job] = deque()
        self._idle: list[SimpleQueue[_Job | None]] = []  # where the first few threads wait, the one busy last at the end
        self._doors: list[SimpleQueue[_Job | None]] = []
        self._done: deque[_Outcome] = deque()
        self._told = False
        self._looking = False
        self._last_look = (0.0, 0.0)

    async def run(self, job: Callable[[], T | Later[T]]) -> T:
        """The result of a job. Raises `Unavailable` when there is no room. A caller that goes away does not stop the job.

        A result that counts later is not waited for in a thread.
        """
        if self.busy >= self.room:
            raise Unavailable("too many runs are waiting; try again soon (MECHAWAY_MAX_RUNS, MECHAWAY_MAX_WAITING)")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()  # with the id of the request, for the log

        def work() -> None:
            try:
                result = context.run(job)
                if type(result) is Later:
                    value, pending = result.value, result.pending
                    pending.tell(lambda failure: self._finish((future, value, failure), loop))
                    return
                outcome: _Outcome = (future, result, None)
            except BaseException as error:
                outcome = (future, None, error)
            self._finish(outcome, loop)

        self.busy += 1
        self._put(work, loop)
        return await future

    def put(self, job: _Job) -> None:
        """Have a job done that nobody waits for, and that raises nothing. From the event loop only."""
        self._put(job, asyncio.get_running_loop())

    def _finish(self, outcome: _Outcome, loop: asyncio.AbstractEventLoop) -> None:
        self._done.append(outcome)
        if not self._told:  # one wake-up of the loop serves all that is done until it looks
            self._told = True
            loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._told = False  # first: what is done from here on is either seen below or told anew
        while self._done:
            future, result, error = self._done.popleft()
            self.busy -= 1
            if future.cancelled():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def close(self) -> None:
        """End the threads, each after the job it is at."""
        for door in self._doors:
            door.put(None)

    def _put(self, work: _Job, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            door = self._idle.pop() if self._idle else None
            if door is None and len(self._doors) == self._few:
                self._line.append(work)
        if door is not None:
            door.put(work)
        elif len(self._doors) < self._few:
            self._start(work)
        elif not self._looking:
            self._looking = True
            self._last_look = (time.monotonic(), time.process_time())
            loop.call_later(_TICK, self._look, loop)

    def _start(self, work: _Job) -> None:
        door: SimpleQueue[_Job | None] = SimpleQueue()
        door.put(work)
        self._doors.append(door)
        threading.Thread(target=self._serve, args=(door,), name=f"mechaway-run-{len(self._doors)}", daemon=True).start()

    def _serve(self, door: SimpleQueue[_Job | None]) -> None:
        work: _Job | None = None
        while work is not None or (work := door.get()) is not None:
            work()
            with self._lock:
                work = self._line.popleft() if self._line else None
                if work is None:
                    self._idle.append(door)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Add a thread when jobs wait although the processor does not have its hands full."""
        if not self._line:
            self._looking = False
            return
        before, used = self._last_look
        now, using = self._last_look = (time.monotonic(), time.process_time())
        if (using - used) < _BUSY * (now - before) and self._few + self.added < self.most:
            with self._lock:
                self.added += 1
            threading.Thread(target=self._help, name="mechaway-run-added", daemon=True).start()
        loop.call_later(_TICK, self._look, loop)

    def _help(self) -> None:
        """An added thread: works until nothing waits in line, or what waits is quick enough for the first few alone."""
        quick = False
        while True:
            with self._lock:
                if quick or not self._line:
                    self.added -= 1
                    return
                work = self._line.popleft()
            began = time.monotonic()
            work()
            quick = time.monotonic() - began < _TICK


class OneAtATime(Threads):
    """No threads: a job runs where it is asked for. For a loop that serves one request at a time, as that of a Lambda function does."""

    def __init__(self) -> None:
        super().__init__(1, 0)

    async def run(self, job: Callable[[], T | Later[T]]) -> T:
        """The result of a job; the loop stands still meanwhile."""
        result = job()
        if isinstance(result, Later):
            result.pending.wait()
            return cast(T, result.value)
        return result
