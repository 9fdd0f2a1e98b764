"""Load on a server from another process: wrk where there is one, else our own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import processes
from bench.servers import Server

SPARE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw. Latencies in seconds; `cpu` is what the server used for a request, in seconds."""

    rate: float
    p50: float
    p99: float
    cpu: float = 0.0


def generator() -> str:
    """The name of the load generator that is used."""
    return "wrk" if shutil.which("wrk") else "bench.client"


def post(server: Server, path: str, body: bytes, connections: int, seconds: int, *, own: bool = False, headers: Sequence[str] = ()) -> Load:
    """POST a body over and over on keep-alive connections. Raises `RuntimeError` when any answer is not a success.

    `own` takes our own client although there is a wrk: wrk adds latencies that it thinks it missed, ours tells those it saw.
    """
    if generator() == "wrk" and not own:
        lua = Path(__file__).with_name("post.lua")
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            *(part for header in headers for part in ("-H", header)),
            "-s",
            str(lua),
            f"http://127.0.0.1:{server.port}{path}",
            "--",
            body.decode(),
        ]
    else:
        command = [sys.executable, "-m", "bench.client", str(server.port), path, body.decode(), str(connections), str(seconds)]
        command += headers
    used = processes.cpu_seconds_of(server.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=True)
    used = processes.cpu_seconds_of(server.pid) - used
    result = json.loads(done.stdout.strip().splitlines()[-1].removeprefix("RESULT "))
    if result["errors"] or not result["requests"]:
        raise RuntimeError(f"{result['errors']} of {result['requests']} requests to {path} failed")
    return Load(result["requests"] / result["seconds"], result["p50"], result["p99"], used / result["requests"])


def middle(loads: list[Load]) -> Load:
    """The medians of several rounds."""
    return Load(median(x.rate for x in loads), median(x.p50 for x in loads), median(x.p99 for x in loads), median(x.cpu for x in loads))
