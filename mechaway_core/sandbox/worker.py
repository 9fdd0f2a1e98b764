"""The program of a Lua process: one call in, one answer out, a fresh Lua runtime for each.

Started by `process.py` by its path, isolated (`-I -S`), with one end of a socket pair as its standard input: it imports nothing of the
package and nothing it can do without, so that it starts fast and stays small. Its life:

1. shut every door that is not needed: signals, core dumps, files;
2. make a runtime with the box in it, say READY, wait for a call;
3. arm the kernel's timer, make the call, disarm, answer;
4. throw the runtime away, also under a timer, and go to 2. End of input is the end of the process.

The timer is SIGALRM with its default action: the kernel ends the process, whatever Lua is doing. No Python handler could: it would wait
until Lua returns.
"""

from __future__ import annotations

import os
import signal
import sys
from struct import Struct
from typing import Any

READY = b"R"
FAILED = b"F"  # followed by the reason, up to the end of the stream; only instead of the first READY

CALL = Struct("<QdQB")  # bytes that follow; seconds; bytes of Lua memory; number of parts. Then a LENGTH for each part, then the parts
ANSWER = Struct("<QBI")  # bytes that follow; 1 when the process ends after this answer; number of parts. Then as above
LENGTH = Struct("<Q")

MB = 1 << 20
LEAVE_AT = 32 * MB  # taking a runtime of this size apart costs more than a new process, which is also smaller
TEARDOWN = 2.0  # seconds for taking a runtime apart and making the next one
HEADROOM = 256 * MB  # address space on top of what a call may need; limits are multiples of it, so that they seldom change


def join(parts: list[bytes]) -> bytes:
    """The lengths of the parts, then the parts."""
    return b"".join([LENGTH.pack(len(part)) for part in parts] + parts)


def split(body: bytes | bytearray | memoryview, count: int) -> list[bytes]:
    """The parts that `join` put together."""
    view = memoryview(body)
    at = count * LENGTH.size
    parts = []
    for i in range(count):
        (length,) = LENGTH.unpack_from(view, i * LENGTH.size)
        parts.append(bytes(view[at : at + length]))
        at += length
    return parts


def main() -> None:
    """Serve calls on file descriptor 0 until it ends. Arguments: the lupa.lua54 extension, the box."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # Ctrl-C and a service manager's stop are for the server; we end when it does
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        make = box(sys.argv[1], sys.argv[2])
        lock_down()
    except BaseException as error:
        write(FAILED + f"{type(error).__name__}: {error}".encode())
        raise SystemExit(1) from None
    serve(make)


def serve(make: Any) -> None:
    """Answer calls until the other end is gone, each in a runtime that is made before the call comes and dropped after the answer."""
    limit_memory = address_space()
    while True:
        runtime, run, base = make()
        signal.setitimer(signal.ITIMER_REAL, 0)
        write(READY)
        head = read(CALL.size)
        if not head:
            return
        size, seconds, memory, count = CALL.unpack(head)
        parts = split(read(size), count)
        pushed = sum(map(len, parts))
        limit_memory(memory, pushed)
        # What we push is on top, so that pushing can never fail: outside a protected call that would be the end of the process.
        runtime.set_max_memory(base + memory + pushed + 4096, total=True)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))  # 0 would mean: never
        try:
            answer = run(*parts)
        except MemoryError:
            answer = (b"memory", b"", b"script")
        except Exception as error:
            # Also lupa's own memory error, which is no MemoryError; its text is Lua's.
            text = str(error).encode(errors="replace")
            answer = (b"memory", b"", b"script") if b"not enough memory" in text else (b"error", b"", text)
        signal.setitimer(signal.ITIMER_REAL, 0)
        leave = runtime.get_memory_used(total=True) > LEAVE_AT
        body = join(list(answer))
        write(ANSWER.pack(len(body), leave, len(answer)) + body)
        if leave:
            os._exit(0)
        signal.setitimer(signal.ITIMER_REAL, TEARDOWN)
        runtime.set_max_memory(0)  # nothing may fail for lack of memory while it is taken apart
        del answer, body, parts, head, run, runtime


def box(extension: str, source: str) -> Any:
    """A function that makes a fresh runtime: (runtime, the box's one function, bytes of Lua memory it uses)."""
    import gc
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    sys.path.append(os.path.dirname(os.path.dirname(extension)))  # should the extension want the rest of lupa
    loader = ExtensionFileLoader("lupa.lua54", extension)
    lua54: Any = loader.create_module(ModuleSpec("lupa.lua54", loader, origin=extension))
    loader.exec_module(lua54)

    def runtime() -> Any:
        # encoding=None: bytes in, bytes out. Anything else can raise on text that is not UTF-8. max_memory=0: counted, not yet limited.
        return lua54.LuaRuntime(encoding=None, register_eval=False, register_builtins=False, max_memory=0)

    compile_to_bytes = runtime().eval(b"function(source) return string.dump(assert(load(source, '=box', 't')), true) end")

    def compiled(name: str) -> Any:
        with open(os.path.join(os.path.dirname(source), name), "rb") as file:
            return compile_to_bytes(file.read())

    main, sha256, check = (compiled(name) for name in (os.path.basename(source), "sha256.lua", "check.lua"))

    def make() -> Any:
        fresh = runtime()
        return fresh, fresh.execute(main, sha256, check), fresh.get_memory_used(total=True)

    make()
    gc.disable()  # nothing here makes cycles
    gc.freeze()
    return make


def lock_down() -> None:
    """Give up what is not needed: even code that got out of Lua could open no file and no socket, and start nothing.

    Every limit is one more wall behind the box, so a system that lacks one is served with the others.
    """
    import resource

    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        try:
            resource.setrlimit(limit, (0, 0))
        except (OSError, ValueError):
            continue


def address_space() -> Any:
    """A function that bounds the address space of this process for a call: the second wall behind Lua's own count.

    macOS does not enforce RLIMIT_AS; there Lua's count is the only limit.
    """
    import resource

    now = 0
    most = resource.getrlimit(resource.RLIMIT_AS)[1]

    def limit(memory: int, pushed: int) -> None:
        nonlocal now
        # Python holds the call and the answer beside Lua, and memory that was freed is not always whole again.
        need = HEADROOM + (3 * memory + 4 * pushed) // HEADROOM * HEADROOM
        if need == now:
            return
        now = need
        try:
            resource.setrlimit(resource.RLIMIT_AS, (need if most == resource.RLIM_INFINITY else min(need, most), most))
        except (OSError, ValueError):
            return  # Lua's own count remains

    return limit


def read(size: int) -> bytes | bytearray:
    """Exactly `size` bytes, or nothing when the other end is gone."""
    data = os.read(0, size)
    if len(data) == size:
        return data
    whole = bytearray(data)
    while len(whole) < size:
        data = os.read(0, min(size - len(whole), MB))
        if not data:
            return b""
        whole += data
    return whole


def write(data: bytes) -> None:
    """All of it. Ends the process when the other end is gone."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(0, view) :]
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
