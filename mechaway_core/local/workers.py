"""Several server processes on one socket: a supervisor that starts them, replaces those that die, and stops them together.

Run as a module this is one of the workers; the socket comes as a file descriptor, the settings through the environment.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count

from mechaway_core.settings import Settings

log = logging.getLogger("mechaway.server")

_SOON = 2.0  # a worker that dies within so many seconds of its start is not replaced at once
_MOST_FAILURES = 5  # in a row, after which the supervisor gives up


def supervise(settings: Settings, sock: socket.socket) -> int:
    """Run `settings.workers` processes until told to stop; returns the exit status, 1 when they cannot be kept alive."""
    return _Supervisor(settings, sock).run()


class _Supervisor:
    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self.settings = settings
        self.sock = sock
        self.workers: dict[int, tuple[subprocess.Popen[bytes], float]] = {}  # by their number
        self.stop = threading.Event()
        self.hurry = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        failures = 0
        while not self.stop.is_set():
            while len(self.workers) < self.settings.workers:
                self._start()
            for process, began in self._ended():
                early = time.monotonic() - began < _SOON
                failures = failures + 1 if early else 0
                log.error("server process %d ended with %s; starting another", process.pid, process.returncode)
            if failures >= _MOST_FAILURES:
                log.error("server processes end as soon as they start; giving up")
                self._end_all()
                return 1
            self.stop.wait(min(2.0, 0.1 * 2**failures))
        self._end_all()
        return 0

    def _start(self) -> None:
        number = next(number for number in count() if number not in self.workers)
        command = [sys.executable, "-m", "mechaway_core.local.workers", str(self.sock.fileno()), str(os.getpid()), str(number)]
        # A session of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
        process = subprocess.Popen(
            command, env=self.settings.child_environment(), pass_fds=[self.sock.fileno()], start_new_session=True, stdin=subprocess.DEVNULL
        )
        self.workers[number] = (process, time.monotonic())

    def _ended(self) -> list[tuple[subprocess.Popen[bytes], float]]:
        ended = {number: worker for number, worker in self.workers.items() if worker[0].poll() is not None}
        for number in ended:
            del self.workers[number]
        return list(ended.values())

    def _told_to_stop(self, *_: object) -> None:
        self.hurry = self.stop.is_set()
        self.stop.set()

    def _end_all(self) -> None:
        for process, _ in self.workers.values():
            process.terminate()
        until = time.monotonic() + self.settings.grace + 5
        while self.workers and time.monotonic() < until and not self.hurry:
            self._ended()
            time.sleep(0.02)
        for process, _ in self.workers.values():
            process.kill()
            process.wait()


def main() -> None:
    """One worker: `python -m mechaway_core.local.workers FD PARENT NUMBER`."""
    from mechaway_core.local.logs import set_up
    from mechaway_core.local.server import serve

    settings = Settings.load()
    set_up(settings.log)
    descriptor, parent, number = map(int, sys.argv[1:])
    serve(settings, socket.socket(fileno=descriptor), parent=parent, number=number)


if __name__ == "__main__":
    main()
