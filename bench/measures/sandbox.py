"""What the sandbox adds to a script: the POC's, called in this process and through the process that can be killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from statistics import median

from lupa import lua54

from bench import floor
from bench.report import Row, information
from bench.setup import Bench, interleaved, poc_script
from mechaway_core.local import make_sandbox
from mechaway_core.sandbox import Limits
from mechaway_core.settings import Settings

CALLS = 400
ROUNDS = 7
CONTEXT = {"query": {}, "headers": {}, "path": {}, "run": {"id": "r"}}


def measure(bench: Bench) -> Iterator[Row]:
    """Medians per call: a prepared runtime, a fresh one for each call, the sandbox (JSON both ways, a fresh one in another process)."""
    script = poc_script()
    chunk = floor.wrapped(script)
    prepared_call = lua54.LuaRuntime(register_eval=False, register_builtins=False).compile(chunk)
    limits = Limits()
    with closing(make_sandbox(Settings(data_dir=bench.folder))) as sandbox:
        jobs: list[Callable[[], object]] = [
            partial(prepared_call, "s123", 85),
            partial(floor.run_fresh, chunk, "s123", 85),
            partial(sandbox.run, script, [{"student_id": "s123", "score": 85}], CONTEXT, limits),
        ]
        for _ in range(100):
            jobs[2]()
        prepared, fresh, boxed = (median(chain(*rounds)) for rounds in interleaved(ROUNDS, [partial(_times, job) for job in jobs]))
    yield information("script in a prepared runtime in-process, median", prepared, " µs")
    yield information("script in a fresh runtime in-process (the floor's), median", fresh, " µs")
    yield information("script through the sandbox, median", boxed, " µs", "JSON both ways, a fresh runtime in another process")
    yield information("the sandbox adds, over prepared", boxed - prepared, " µs", f"over fresh {boxed - fresh:.0f}")


def _times(job: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        job()
        times.append((time.perf_counter() - began) * 1e6)
    return times
