"""Stops statements at their deadline, or when their run is cancelled.

One thread for all connections sleeps until the earliest deadline and calls `interrupt()`. A progress handler in Python would
do too, but it takes the interpreter's lock every few thousand steps of a statement: beside busy Python threads each of those
waits up to 5 ms, and a statement with expensive steps is looked at too rarely.
"""

from __future__ import annotations

import heapq
import threading
import time

import apsw

STALE = 1000  # cleared alarms that may wait for their time to pass
AGAIN = 0.01  # interrupting a statement that has not begun does nothing; so it is tried again until the statement has ended


class Alarm:
    """The deadline of one statement. `rang` tells that it was reached."""

    __slots__ = ("at", "connection", "rang")

    def __init__(self, at: float, connection: apsw.Connection) -> None:
        self.at = at
        self.connection: apsw.Connection | None = connection
        self.rang = False

    def __lt__(self, other: Alarm) -> bool:
        return self.at < other.at


class Watch:
    """Rings alarms. Its thread starts with the first one."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._alarms: list[Alarm] = []
        self._stale = 0
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    def set(self, connection: apsw.Connection, at: float) -> Alarm:
        """Interrupt what `connection` runs once `time.monotonic()` reaches `at`, and until `clear`."""
        alarm = Alarm(at, connection)
        with self._changed:
            heapq.heappush(self._alarms, alarm)
            if at < self._wakes_at:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._ring, name="mechaway-sql-deadlines", daemon=True)
                    self._thread.start()
                self._wakes_at = at
                self._changed.notify()
        return alarm

    def hurry(self, alarm: Alarm) -> None:
        """Ring an alarm now, whatever it was set to."""
        with self._changed:
            if alarm.connection is not None and not alarm.rang:
                alarm.at = time.monotonic()
                heapq.heapify(self._alarms)
                self._wakes_at = alarm.at
                self._changed.notify()

    def clear(self, alarm: Alarm) -> bool:
        """Stop watching; whether the deadline was reached. When this returns, the alarm interrupts nothing any more."""
        with self._changed:
            if alarm.connection is not None:
                alarm.connection = None
                self._stale += 1
                if self._stale > max(STALE, len(self._alarms) // 2):
                    self._alarms = [each for each in self._alarms if each.connection is not None]
                    heapq.heapify(self._alarms)
                    self._stale = 0
            return alarm.rang

    def _ring(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._alarms and (self._alarms[0].connection is None or self._alarms[0].at <= now):
                    alarm = heapq.heappop(self._alarms)
                    if alarm.connection is None:
                        self._stale -= 1
                    else:
                        alarm.rang = True
                        alarm.connection.interrupt()
                        alarm.at = now + AGAIN
                        heapq.heappush(self._alarms, alarm)
                self._wakes_at = self._alarms[0].at if self._alarms else float("inf")
                self._changed.wait(self._wakes_at - now if self._alarms else None)


watch = Watch()
