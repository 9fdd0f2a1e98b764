"""Servers in processes of their own, on free ports of 127.0.0.1, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
def serving(
    command: Sequence[str], folder: Path, *, line: str = "", tree: Path | None = None, settings: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """Run a Python module that prints its address first.

    Its errors go to `folder`; `settings` become `MECHAWAY_…` variables. `line` is what it reads first, `tree` the folder that its
    modules come from.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MECHAWAY_")}
    environment |= {f"MECHAWAY_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    if tree is not None:
        environment["PYTHONPATH"] = str(tree)
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "stderr.txt"
    with errors.open("ab") as stderr:
        spawned = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.close()
    try:
        yield Server(process.pid, _port(process, errors), spawned)
    finally:
        _end(process)


@contextlib.contextmanager
def mechaway(folder: Path, tree: Path | None = None, **settings: object) -> Iterator[Server]:
    """`mechaway dev` over the data folder `folder`/data, with one worker unless `settings` say otherwise; of `tree` when given."""
    command = ["mechaway_core.cli", "dev", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / "data")]
    with serving(command, folder, tree=tree, settings={"grace": 1, "workers": 1} | settings) as server:
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
