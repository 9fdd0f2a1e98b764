"""The threads that runs happen in, awaited from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mechaway_core.errors import Unavailable

T = TypeVar("T")


class Threads:
    """At most `most` jobs at a time, at most `waiting` more in line; beyond that callers are told to come back."""

    def __init__(self, most: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(most, thread_name_prefix="mechaway-run")
        self._room = most + waiting
        self.busy = 0  # jobs that were taken on and are not over; only the event loop's thread touches it

    async def run(self, job: Callable[[], T]) -> T:
        """The result of a job. Raises `Unavailable` when there is no room. A caller that goes away does not stop the job."""
        if self.busy >= self._room:
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

        self.busy += 1
        try:
            self._executor.submit(work)
        except BaseException:
            self.busy -= 1
            raise
        return await future

    def close(self) -> None:
        """End the threads; jobs in line are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
