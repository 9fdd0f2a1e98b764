"""The program of a Lua process: one call in, one answer out, a fresh Lua runtime for each.

Started by `process.py` by its path, isolated (`-I -S`), with one end of a socket pair as its standard input: it imports nothing of the
package and nothing it can do without, so that it starts fast and stays small. Its life:

1. shut every door that is not needed: signals, core dumps, files;
2. make a runtime with the box in it, say READY once, wait for a call;
3. arm the kernel's timer, make the call, answer;
4. throw the runtime away and make the next, also under a timer, and wait for a call again. End of input is the end of the process.

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

CALL = Struct("<QdQB")  # bytes that follow; seconds; bytes of Lua memory; number of parts. Then the length of each part, then the parts
ANSWER = Struct("<QBI")  # bytes that follow; 1 when the process ends after this answer; number of parts. Then as above

MB = 1 << 20
LEAVE_AT = 32 * MB  # taking a runtime of this size apart costs more than a new process, which is also smaller
TEARDOWN = 2.0  # seconds for taking a runtime apart and making the next one
HEADROOM = 256 * MB  # address space on top of what a call may need; limits are multiples of it, so that they seldom change


_lengths: dict[int, Struct] = {}  # by the number of parts


def lengths(count: int) -> Struct:
    """The layout of the lengths of so many parts."""
    layout = _lengths.get(count)
    if layout is None:
        layout = _lengths[count] = Struct(f"<{count}Q")
    return layout


def join(parts: list[bytes]) -> bytes:
    """The lengths of the parts, then the parts."""
    return lengths(len(parts)).pack(*map(len, parts)) + b"".join(parts)


def split(data: bytes | bytearray, count: int, start: int = 0) -> list[bytes]:
    """The parts that `join` put together, out of `data` from `start` on."""
    layout = lengths(count)
    parts = []
    at = start + layout.size
    for length in layout.unpack_from(data, start):
        parts.append(bytes(data[at : at + length]))
        at += length
    return parts


def main() -> None:
    """Serve calls on file descriptor 0 until it ends. Arguments: the lupa.lua54 extension, the folder of the box."""
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
    runtime, run, base = make()
    write(READY)
    data: bytes | bytearray
    while data := read():
        size, seconds, memory, count = CALL.unpack_from(data)
        if len(data) < CALL.size + size:
            data = read_on(data, CALL.size + size)
        parts = split(data, count, CALL.size)
        limit_memory(memory, size)
        # What we push is on top, so that pushing can never fail: outside a protected call that would be the end of the process.
        runtime.set_max_memory(base + memory + size + 4096, total=True)
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
        del answer, body, parts, data, run, runtime
        runtime, run, base = make()
        signal.setitimer(signal.ITIMER_REAL, 0)


def box(extension: str, folder: str) -> Any:
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
        with open(os.path.join(folder, name), "rb") as file:
            return compile_to_bytes(file.read())

    main = compiled("box.lua")
    parts = [compiled(name) for name in sorted(os.listdir(folder)) if name.endswith(".lua") and name != "box.lua"]

    def make() -> Any:
        fresh = runtime()
        return fresh, fresh.execute(main, *parts), fresh.get_memory_used(total=True)

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


def read() -> bytes:
    """A call, or as much of it as is here by now and at least its head; nothing when the other end is gone."""
    data = os.read(0, 65536)
    while data and len(data) < CALL.size:
        more = os.read(0, 65536)
        data = data + more if more else b""
    return data


def read_on(data: bytes, size: int) -> bytearray:
    """The rest of a call of `size` bytes. Ends the process when the other end is gone."""
    whole = bytearray(data)
    while len(whole) < size:
        more = os.read(0, min(size - len(whole), MB))
        if not more:
            os._exit(0)
        whole += more
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
