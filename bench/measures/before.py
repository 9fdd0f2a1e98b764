"""The POC of an earlier commit beside that of this one, in the same run: `python -m bench --only before --against REVISION`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from bench import client, load
from bench.report import Row, at_least, information
from bench.servers import mechaway
from bench.setup import BODY, Bench, check_answer, interleaved, poc, poc_path, store

ROOT = Path(__file__).parents[2]


def measure(bench: Bench) -> Iterator[Row]:
    """Throughput and latency as a share of what they were."""
    if not bench.against:
        yield Row("not measured", "name an earlier commit with --against")
        return
    with ExitStack() as stack:
        tree = stack.enter_context(_checked_out(bench.against, bench.folder / "tree"))
        for sync in ("full", "normal"):
            folders = [bench.folder / f"{side}-{sync}" for side in ("before", "now")]
            for folder in folders:
                store(folder, poc())
            before = stack.enter_context(mechaway(folders[0], tree, sync=sync, record="none"))
            now = stack.enter_context(mechaway(folders[1], sync=sync, record="none"))  # the earliest versions kept none
            for server in (before, now):
                for _ in range(50):
                    check_answer(client.call_ok(server.port, "POST", poc_path(), BODY))
            for connections in (1, 32):
                jobs = [partial(load.post, server, poc_path(), BODY, connections, bench.seconds) for server in (before, now)]
                were, are = interleaved(bench.rounds, jobs)
                ratios = [one.rate / other.rate for other, one in zip(were, are, strict=True)]
                lines = "1 connection" if connections == 1 else f"{connections} connections"
                detail = f"rounds from {min(ratios):.2f} to {max(ratios):.2f}"
                yield at_least(f"now ÷ {bench.against}, req/s, sync {sync}, {lines}", median(ratios), 1, detail=detail)
                for label, loads in (("now", are), ("before", were)):
                    seen = load.middle(loads)
                    about = f"p50 {seen.p50 * 1000:.3g}, p99 {seen.p99 * 1000:.3g} ms; CPU {seen.cpu * 1e6:.0f} µs a request"
                    yield information(f"· {label}", seen.rate, " req/s", about)


class _checked_out:  # noqa: N801 - used like a function
    """A commit in a folder of its own, for the time of a `with`."""

    def __init__(self, revision: str, folder: Path) -> None:
        self._revision = revision
        self._folder = folder

    def __enter__(self) -> Path:
        _git("worktree", "add", "--detach", str(self._folder), self._revision)
        return self._folder

    def __exit__(self, *_: object) -> None:
        _git("worktree", "remove", "--force", str(self._folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)
