"""Servers in processes of their own, on free ports of 127.0.0.1, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens. `spawned` is the `time.perf_counter()` just before its process was started."""

    pid: int
    port: int
    spawned: float


@contextlib.contextmanager
def serving(command: Sequence[str], folder: Path, **settings: object) -> Iterator[Server]:
    """Run a Python module that prints its address first. Its errors go to `folder`; `settings` become `MECHAWAY_…` variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MECHAWAY_")}
    environment |= {f"MECHAWAY_{name.upper()}": str(value) for name, value in settings.items()}
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "stderr.txt"
    with errors.open("ab") as stderr:
        spawned = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        yield Server(process.pid, _port(process, errors), spawned)
    finally:
        _end(process)


@contextlib.contextmanager
def mechaway(folder: Path, **settings: object) -> Iterator[Server]:
    """`mechaway dev` over the data folder `folder`/data, with one worker unless `settings` say otherwise."""
    command = ["mechaway_core.cli", "dev", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / "data")]
    with serving(command, folder, **{"grace": 1, "workers": 1} | settings) as server:
        yield server


def _port(process: subprocess.Popen[bytes], errors: Path) -> int:
    """The port in the first line that the process prints."""
    assert process.stdout is not None
    line = process.stdout.readline() if select.select([process.stdout], [], [], START_SECONDS)[0] else b""
    found = re.search(rb"http://127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise RuntimeError(f"the server did not start: {line.decode(errors='replace')}{errors.read_text(errors='replace')}")
    return int(found[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
