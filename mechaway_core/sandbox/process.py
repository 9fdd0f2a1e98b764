"""One Lua process, seen from the server: start it, call it, know how it ended."""

from __future__ import annotations

import functools
import importlib.util
import math
import signal
import socket
import struct
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from mechaway_core import cpus
from mechaway_core.errors import Unavailable
from mechaway_core.sandbox.worker import ANSWER, CALL, FAILED, READY, TEARDOWN, join, split

HERE = Path(__file__).parent
GRACE = TEARDOWN + 0.5  # seconds after which we end a process that its own timer should have ended: of the last call, then of this one


class Gone(Exception):
    """The process ended before it answered. `status` is as in `subprocess.Popen.returncode`: minus the signal, or an exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"signal {-status}" if status < 0 else f"exit status {status}")
        self.status = status


class NotStarted(Exception):
    """The process was gone before it read the call, so nothing of the call has happened.

    Linux tells by ECONNRESET that something sent was never read. Elsewhere a process that dies in the very moment it is called is `Gone`.
    """


class Late(Exception):
    """It did not answer in time, nor was ended by its own timer; it has been killed."""


class LuaProcess:
    """One worker process. Used by one thread at a time; `kill` may come from any.

    Between two calls it makes its next runtime. A call that comes earlier waits in the socket.
    """

    def __init__(self) -> None:
        """Start the process; it becomes usable with the first `ready`. Raises `Unavailable` when it cannot be started at all."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(HERE / "worker.py"), _extension(), str(HERE / "box")],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
            )
        except (OSError, ValueError) as error:
            ours.close()
            raise Unavailable(f"no Lua process could be started: {error}") from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        # Blocking, with a timeout kept by the kernel: one system call to wait and to read, where a timeout of Python's takes two, and
        # each gives up the interpreter's lock once more.
        ours.setblocking(True)
        self._socket = ours
        cpus.bind(self._process.pid, cpus.allowed())  # wherever the threads here keep
        self._timeout = 0.0
        self.pid = self._process.pid
        self.calls = 0
        self.free_since = 0.0  # kept by the pool
        self.leaving = False  # it said that it ends after its last answer

    def ready(self, wait: float) -> bool:
        """Whether it is ready for its first call within `wait` seconds. Raises `Gone` when it has ended, `Unavailable` with its reason."""
        self._keep_to(time.monotonic() + wait)
        try:
            said = self._socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        if said == READY:
            return True
        if said.startswith(FAILED):
            raise Unavailable(f"no Lua process could be started: {said[1:].decode(errors='replace')}")
        raise Gone(self.end())

    def call(self, parts: list[bytes], memory: int, seconds: float) -> list[bytes]:
        """Make one call to a ready process: `memory` in bytes for Lua, `seconds` of wall time for all of it.

        Raises `NotStarted`, `Gone` or `Late`. After each of them the process is over and has been cleaned up.
        """
        body = join(parts)
        until = time.monotonic() + seconds + GRACE
        self.calls += 1
        self._keep_to(until)
        if not self._send(CALL.pack(len(body), seconds, memory, len(parts)) + body, until):
            self.end()
            raise NotStarted
        answer = self._receive(ANSWER.size, until)
        size, leaving, count = ANSWER.unpack_from(answer)
        self.leaving = leaving != 0
        missing = ANSWER.size + size - len(answer)
        if missing > 0:
            answer += self._receive(missing, until)
        return split(answer, count, ANSWER.size)

    def _send(self, data: bytes, until: float) -> bool:
        sent = 0
        while sent < len(data):
            try:
                sent += self._socket.send(memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                self._keep_to(until)
            except OSError:
                return False
        return True

    def _receive(self, least: int, until: float) -> bytes:
        """At least so many bytes; more when they are there already."""
        pieces, have = [], 0
        while have < least:
            try:
                piece = self._socket.recv(max(65536, min(least - have, 1 << 20)))
            except BlockingIOError:
                self._keep_to(until)
                continue
            except ConnectionResetError:
                self.end()
                raise NotStarted from None
            except OSError:
                piece = b""
            if not piece:
                raise Gone(self.end())
            pieces.append(piece)
            have += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep_to(self, until: float) -> None:
        """Let sending and receiving give up at `until`, or some tenths of a second later. Raises `Late` when that is past."""
        left = until - time.monotonic()
        if left <= 0:
            self.end()
            raise Late
        rounded = math.ceil(left * 4) / 4  # in steps, so that it need not be set anew for every call
        if rounded != self._timeout:
            self._timeout = rounded
            seconds = struct.pack("ll", int(rounded), int(rounded % 1 * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)

    def kill(self) -> None:
        """Make it end now; whoever waits for it sees `Gone`."""
        self._process.kill()

    def end(self) -> int:
        """Kill it when it still runs, reap it, close the socket; how it ended, as in `Gone`. May be called again.

        A process that closed its end is dying already: its own status tells more than our signal would.
        """
        try:
            status = self._process.wait(0.2 if self._closed_its_end() else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._socket.close()
        return status

    def _closed_its_end(self) -> bool:
        if self._socket.fileno() < 0:
            return True
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def ended_by_timer(status: int) -> bool:
    """Whether this is how a process ends that took too long."""
    return status == -int(signal.SIGALRM)


@functools.cache
def _extension() -> str:
    """Where lupa's Lua 5.4 is. It is loaded from there directly: neither `site` nor the rest of lupa is needed for it."""
    package = importlib.util.find_spec("lupa")
    for folder in package.submodule_search_locations or () if package else ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder) / f"lua54{suffix}"
            if path.exists():
                return str(path)
    raise Unavailable("no Lua process could be started: lupa with Lua 5.4 is not installed")


def _environment() -> dict[str, str]:
    """Nothing of ours. TZ, in the form that needs no file, makes `os.date` and `os.time` UTC; LC_ALL makes text bytes, sorted as bytes."""
    # A runtime is thousands of small pieces, all of them freed and asked for again by the next one: glibc's quick lists hold 7 of a
    # size unless told otherwise, and a runtime then takes half as long again. Other C libraries do not look at this.
    environment = {"TZ": "UTC0", "LC_ALL": "C", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=20000"}
    libraries = Path(sys.base_prefix) / "lib"
    if sys.base_prefix != "/usr" and any(libraries.glob("libpython3*")):
        # An interpreter in a place of its own (AWS Lambda's is in /var/lang) may find its library only through this.
        environment["LD_LIBRARY_PATH"] = str(libraries)
    return environment
