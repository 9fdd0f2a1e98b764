"""The processes behind a sandbox: how many there are, and what becomes of everybody when one ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.errors import OutOfTime, ScriptError, Unavailable
from mechaway_core.sandbox import Limits, Sandbox
from tests.unit.sandbox.scripts import CONTEXT


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox whose processes a test may harm."""
    box = Sandbox(workers=2)
    yield box
    box.close()


def children(of: int | None = None) -> set[int]:
    """Processes whose parent is `of` (default: this one), zombies too."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == (of or os.getpid()) and not row[2].startswith("ps ")}


def eventually(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until it holds."""
    until = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.005)
    return result


def run_in_thread(sandbox: Sandbox, script: str, timeout: float = 30.0) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(sandbox.run(script, [], CONTEXT, Limits(timeout=timeout)).value)
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ended


def test_nothing_is_started_before_the_first_use() -> None:
    before = children()
    sandbox = Sandbox(workers=4)
    sandbox.names()
    assert sandbox.stats()["alive"] == 0
    assert children() == before
    sandbox.close()


def test_one_process_stands_ready_beside_those_at_work(own: Sandbox) -> None:
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    eventually(lambda: own.stats()["idle"] == 2)
    thread, ended = run_in_thread(own, "while true do end", timeout=1)
    for _ in range(20):
        own.run("return 1", [], CONTEXT, Limits())
    thread.join()
    assert isinstance(ended[0], OutOfTime)
    eventually(lambda: own.stats()["idle"] >= 2)
    assert own.stats()["alive"] <= 3


def test_a_busy_process_that_is_killed_fails_its_run_only(own: Sandbox) -> None:
    before = children()
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    thread, ended = run_in_thread(own, "while true do end")
    eventually(lambda: own.stats()["busy"] == 1)
    (busy,) = own._pool._state.busy
    time.sleep(0.05)
    os.kill(busy.pid, signal.SIGKILL)
    thread.join(10)
    assert isinstance(ended[0], ScriptError)
    assert "the Lua process was killed (signal 9)" in str(ended[0])
    assert own.run("return 2", [], CONTEXT, Limits()).value == 2
    assert busy.pid not in children() - before


def test_a_process_whose_own_timer_does_not_end_it_is_ended_from_outside(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    thread, ended = run_in_thread(own, "while true do end", timeout=0.5)
    eventually(lambda: own.stats()["busy"] == 1)
    (busy,) = own._pool._state.busy
    os.kill(busy.pid, signal.SIGSTOP)  # a stopped process takes no signal but the last
    thread.join(10)
    assert isinstance(ended[0], OutOfTime)
    assert own.run("return 2", [], CONTEXT, Limits()).value == 2


def test_an_idle_process_that_is_killed_costs_nobody_anything(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    for process in own._pool._state.idle:
        os.kill(process.pid, signal.SIGKILL)
    for number in range(10):
        assert own.run(f"return {number}", [], CONTEXT, Limits()).value == number


def test_when_the_server_is_killed_its_processes_end(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(
        "import threading, time\n"
        "from mechaway_core.sandbox import Limits, Sandbox\n"
        "box = Sandbox(workers=2)\n"
        "box.run('return 1', [], {}, Limits())\n"
        "threading.Thread(target=lambda: box.run('while true do end', [], {}, Limits(timeout=1))).start()\n"
        "while box.stats()['alive'] < 2 or not box.stats()['busy'] or not box.stats()['idle']: time.sleep(0.01)\n"
        "print(*[p.pid for p in (*box._pool._state.idle, *box._pool._state.busy)], flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(program)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        pids = [int(pid) for pid in server.stdout.readline().split()]
        server.kill()
    assert len(pids) >= 2
    eventually(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False).stdout.strip()
    return bool(listed) and not listed.startswith("Z")


def test_many_threads_share_a_few_processes(own: Sandbox) -> None:
    def work(n: int) -> int:
        if n % 40 == 7:
            with pytest.raises(OutOfTime):
                own.run("while true do end", [], CONTEXT, Limits(timeout=0.05), wait=30)
        if n % 10 == 3:
            with pytest.raises(ScriptError):
                own.run("error('no')", [], CONTEXT, Limits(), wait=30)
        result: int = own.run("return data[1] * 2", [n], CONTEXT, Limits(), wait=30).value
        return result

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(400))) == [n * 2 for n in range(400)]
    assert own.stats()["alive"] <= 3


def test_when_all_are_at_work_a_call_waits_and_then_gives_up(own: Sandbox) -> None:
    running = [run_in_thread(own, "while true do end", timeout=1.0) for _ in range(2)]
    eventually(lambda: own.stats()["busy"] == 2)
    with pytest.raises(Unavailable, match="all 2 Lua processes are at work"):
        own.run("return 1", [], CONTEXT, Limits(), wait=0.05)
    with pytest.raises(Unavailable, match="all 2 Lua processes are at work"):
        own.run("return 1", [], CONTEXT, Limits(), deadline=time.monotonic() + 0.05)
    assert own.run("return 3", [], CONTEXT, Limits(), wait=30).value == 3
    for thread, _ in running:
        thread.join()


def test_close_leaves_no_process_and_no_descriptor() -> None:
    before = children()
    descriptors = len(os.listdir("/dev/fd"))
    sandbox = Sandbox(workers=3)
    running = [run_in_thread(sandbox, "while true do end") for _ in range(2)]
    eventually(lambda: sandbox.stats()["busy"] == 2)
    sandbox.close()
    for thread, ended in running:
        thread.join(10)
        assert isinstance(ended[0], Unavailable)
    assert sandbox.stats()["alive"] == 0
    assert children() == before
    assert len(os.listdir("/dev/fd")) == descriptors
    with pytest.raises(Unavailable, match="closed"):
        sandbox.run("return 1", [], CONTEXT, Limits())
    sandbox.close()


def test_a_sandbox_that_is_closed_while_it_starts_leaves_no_process() -> None:
    before = children()
    for pause in (0, 0.001, 0.005, 0.02):
        sandbox = Sandbox(workers=2)
        thread, ended = run_in_thread(sandbox, "return 1")
        time.sleep(pause)
        sandbox.close()
        thread.join(10)
        assert ended[0] == 1 or isinstance(ended[0], Unavailable)
    assert children() == before


def test_a_sandbox_that_is_forgotten_leaves_no_process() -> None:
    before = children()
    sandbox = Sandbox(workers=1)
    sandbox.run("return 1", [], CONTEXT, Limits())
    del sandbox
    eventually(lambda: children() == before)


def test_a_process_that_cannot_start_is_an_error_that_says_so(own: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="no Lua process could be started"):
        own.run("return 1", [], CONTEXT, Limits())
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable, match="no Lua process could be started"):
        own.run("return 1", [], CONTEXT, Limits())
    monkeypatch.undo()
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1


def test_a_process_ignores_the_signals_that_are_meant_for_the_server(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    spawned = own.stats()["spawned"]
    for process in own._pool._state.idle:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    assert own.stats()["spawned"] == spawned


def test_a_process_is_replaced_after_a_large_run_and_nobody_notices(own: Sandbox) -> None:
    for number in range(4):
        script = f"kept = {{}} for i = 1, 500000 do kept[i] = {{i}} end return {number}"
        assert own.run(script, [], CONTEXT, Limits(memory_mb=128, timeout=30)).value == number
        assert own.run("return 1", [], CONTEXT, Limits()).value == 1
    assert own.stats()["killed"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_has_no_environment_no_files_and_no_rights_to_more(own: Sandbox) -> None:
    own.run("return 1", [], CONTEXT, Limits())
    eventually(lambda: own.stats()["idle"] == 2)
    for process in own._pool._state.idle:
        proc = Path(f"/proc/{process.pid}")
        environment = proc.joinpath("environ").read_bytes().split(b"\0")
        assert {entry.split(b"=")[0] for entry in environment if entry} <= {b"TZ", b"LC_ALL", b"GLIBC_TUNABLES", b"LD_LIBRARY_PATH"}
        assert {entry.name for entry in proc.joinpath("fd").iterdir()} <= {"0", "1", "2"}
        limits = proc.joinpath("limits").read_text()
        assert re.search(r"Max open files\s+0\s+0", limits)
        assert re.search(r"Max core file size\s+0\s+0", limits)
        assert re.search(r"Max file size\s+0\s+0", limits)
        assert os.readlink(proc / "cwd") == "/"
