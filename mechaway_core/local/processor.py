"""One processor for the threads of a server process.

Python runs one of its threads at a time, and in a request a thread gives up the interpreter's lock and takes it again some ten times. On
two processors each of these moves the lock, and all that the next thread touches, from one cache to another, and wakes a processor that
went to sleep: a server whose threads stay together answers up to 1.8 times as many requests. So they do. Lua processes go where they like.

Two things would be worse for it, and are looked for. A thread that works for long without waiting is outside of the interpreter (a query of
SQLite, a checksum), where it could work beside the others: it may go anywhere until it waits again. And when other programs need the
same processor while another has time, all move there.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mechaway_core import cpus

EVERY = 0.25  # seconds between two looks at the threads
BUSY = 0.6  # of a processor: below it no thread is in another's way
LEAST = 0.1  # of a processor: who uses less is in nobody's way
STRETCH = 0.001  # seconds of work without a wait; threads in the midst of requests wait ten times as often
MOVE_EVERY = 5.0  # seconds between two looks at the processors
CROWDED = 0.3  # of a processor that others use, more than they use of the one to move to

TASKS = Path("/proc/self/task")
STAT = Path("/proc/stat")

log = logging.getLogger("mechaway.server")


class Use(NamedTuple):
    """What a thread has used so far: seconds on a processor, and how often it waited for something."""

    seconds: float
    waits: int


class Processor:
    """Keeps the threads of this process on one processor. `start` and `stop` once each."""

    def __init__(self, number: int) -> None:
        """`number` tells processes apart that begin together: each takes another processor."""
        strong = cpus.strong()
        self.home = strong[number % len(strong)] if len(cpus.allowed()) > 1 and uses() else None
        self._apart: set[int] = set()  # threads that may go anywhere
        self._seen: Mapping[int, Use] = {}
        self._ticks: Mapping[int, float] = {}
        self._own = 0.0  # seconds that this process had used when `_ticks` were read
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="mechaway-processor", daemon=True)

    def start(self) -> None:
        """Bring the threads together; those that they start stay with them. Does nothing where there is nothing to choose from."""
        if self.home is not None and self._settle(self.home):
            self._thread.start()
        else:
            self.home = None

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        before, used_before, moved = time.monotonic(), time.process_time(), time.monotonic()
        while not self._stopped.wait(EVERY):
            now, used = time.monotonic(), time.process_time()
            share = (used - used_before) / (now - before)
            try:
                if share >= BUSY:
                    self.sort_out(uses(), now - before)
                elif self._apart:
                    self._come_back(set(self._apart))
                if now - moved >= MOVE_EVERY:
                    moved = now
                    self.look_around(busy(), used)
            except (OSError, ValueError) as error:  # a system that shows less than others
                log.warning("the threads are left where they are: %s", error)
                return
            before, used_before = now, used

    def sort_out(self, now: Mapping[int, Use], elapsed: float) -> None:
        """Let threads go that work for long without waiting, and bring back those that wait again. `now` is what each has used so far."""
        before, self._seen = self._seen, now
        for thread, use in now.items():
            since = before.get(thread)
            if since is None:  # it is where the thread is that started it
                self._come_back({thread})
                continue
            alone = works_alone(Use(use.seconds - since.seconds, use.waits - since.waits), elapsed)
            if alone and thread not in self._apart:
                self._apart.add(thread)
                cpus.bind(thread, cpus.allowed())
            elif not alone and thread in self._apart:
                self._come_back({thread})
        self._apart &= now.keys()

    def look_around(self, ticks: Mapping[int, float], used: float) -> None:
        """Move where there is more time. `ticks` are seconds that each processor has worked so far, `used` those of this process."""
        before, own = self._ticks, used - self._own
        self._ticks, self._own = ticks, used
        if not before or own < LEAST * MOVE_EVERY or self.home is None:  # who is crowded out uses little
            return
        worked = {number: ticks[number] - before[number] for number in cpus.strong() if number in ticks and number in before}
        target = roomier(worked, self.home, own, MOVE_EVERY)
        if target is not None:
            log.info("others need processor %d; the server moves to %d", self.home, target)
            self._settle(target)

    def _settle(self, home: int) -> bool:
        self.home = home
        self._apart.clear()
        return all(cpus.bind(int(task), {home}) or not (TASKS / task).exists() for task in os.listdir(TASKS))

    def _come_back(self, threads: set[int]) -> None:
        assert self.home is not None
        for thread in threads:
            cpus.bind(thread, {self.home})
        self._apart -= threads


def works_alone(use: Use, elapsed: float) -> bool:
    """Whether a thread that used this in `elapsed` seconds works for long without waiting."""
    return use.seconds >= LEAST * elapsed and use.seconds >= STRETCH * (use.waits + 1)


def roomier(worked: Mapping[int, float], home: int, own: float, elapsed: float) -> int | None:
    """The processor to move to, if any. `worked` are seconds that each did in `elapsed`, `own` those that this process did at home."""
    if home not in worked or len(worked) < 2:
        return None
    others = worked[home] - own
    target = min((number for number in worked if number != home), key=lambda number: worked[number])
    return target if others - worked[target] >= CROWDED * elapsed else None


def uses() -> dict[int, Use]:
    """What each thread of this process has used so far; empty where the system does not tell."""
    found = {}
    for task in os.listdir(TASKS) if TASKS.exists() else ():
        try:
            nanoseconds = (TASKS / task / "schedstat").read_text().split(maxsplit=1)[0]
            _, _, rest = (TASKS / task / "status").read_text().rpartition("\nvoluntary_ctxt_switches:")
            found[int(task)] = Use(int(nanoseconds) / 1e9, int(rest.split(maxsplit=1)[0]))
        except (OSError, IndexError, ValueError):  # it ended, or this kernel does not count
            continue
    return found


def busy() -> dict[int, float]:
    """Seconds that each processor of the machine has worked, for whomever, by its number."""
    worked = {}
    for line in STAT.read_text().splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, columns[:8])
            worked[int(name[3:])] = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return worked
