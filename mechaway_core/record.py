"""What is known about a run: its id, status, times, and what each node took and gave.

It holds references to the items themselves; what is kept of it is made in `runs/document.py`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from mechaway_core.cancellation import Cancellation
from mechaway_core.logs import about
from mechaway_core.node import Exits, Items, Request, Response, RunInfo

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "timed_out"]
NodeStatus = Literal["succeeded", "failed", "skipped", "disabled", "timed_out", "cancelled"]


class Failure(NamedTuple):
    """Why a run or node failed. `kind` is one of: error, timeout, script, query, http, secret, stop, unavailable, internal, cancelled."""

    kind: str
    message: str
    node: str | None = None
    status: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object, as records and `{"error": …}` items show it."""
        shown: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.node is not None:
            shown["node"] = self.node
        if self.status is not None:
            shown["status"] = self.status
        return shown


@dataclass(slots=True)
class NodeRun:
    """One node of a run. `took` in seconds; `failures` counts items that failed and went on by `on_error`."""

    id: str
    node_type: str
    status: NodeStatus = "succeeded"
    attempts: int = 0
    began: float = 0.0
    took: float = 0.0
    given: Items = field(default_factory=list)
    exits: Exits = field(default_factory=dict)
    failures: int = 0
    failure: Failure | None = None
    log: list[str] = field(default_factory=list)
    replayed: bool = False  # it did not run: this is what it gave in an earlier run


class Replays(NamedTuple):
    """Which run a run goes on with, from which node on, and the items that this node takes, if not those it took then.

    `only`: nothing runs but this node and what it leads to; else also what came to no end then.
    """

    run: str
    at: str
    items: Items | None = None
    only: bool = False

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {"run": self.run, "at": self.at, "only": self.only} | ({} if self.items is None else {"items": self.items})


@dataclass(slots=True)
class Run:
    """One run, while it goes and after. `began` and `ended` are seconds since 1970.

    `shown` are the names of the secrets by which its caller may have come in: nobody may find them in what the caller sent. `parent` is
    the run that this one repeats or speaks of; `attempt` counts how often it was begun.
    """

    info: RunInfo
    version: int
    start_node: str
    request: Request | None = None
    shown: tuple[str, ...] = ()
    status: Status = "queued"
    began: float = 0.0
    ended: float | None = None
    nodes: list[NodeRun] = field(default_factory=list)
    walked: Mapping[int, NodeRun] = field(default_factory=dict)  # while it goes on: its nodes so far
    output: Items = field(default_factory=list)
    response: Response | None = None
    failure: Failure | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    parent: str | None = None
    replays: Replays | None = None
    attempt: int = 1
    opened: bool = False  # it is on record already that it began, or is to begin
    promised: bool = False  # it was accepted: when its process ends it is begun again

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self.cancellation.asked

    def cancel(self) -> None:
        """Stop the run: what it has in flight is ended, and no further node begins. From any thread; returns at once."""
        self.cancellation.ask()

    def about(self, node_id: str | None = None) -> dict[str, Any]:
        """What a line of the log about it says beside its sentence; the node is the one that failed unless another is named."""
        if node_id is None and self.failure is not None:
            node_id = self.failure.node
        info = self.info
        return about(
            project=info.project,
            workflow_id=info.workflow_id,
            version=self.version,
            run_id=info.id,
            trigger=info.trigger,
            node_id=node_id,
            status=self.status,
        )

    def told(self) -> str:
        """What became of it, in a sentence for the log."""
        info, failure = self.info, self.failure
        sentence = f"run {info.id} of workflow {info.workflow_id} in project {info.project} {self.status}"
        return sentence if failure is None else f"{sentence}: {failure.message}"


def new_run_id(now: float) -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, 12 bits of the fraction below them, then chance; sorts by time."""
    ticks = int(now * 4_096_000)  # milliseconds with 12 bits below them
    text = f"{ticks >> 12 & 0xFFFFFFFFFFFF:012x}7{ticks & 0xFFF:03x}{0b10 << 62 | _chance():016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def run_id_of(moment: float, *seeds: str) -> str:
    """An id that is always the same for the same moment, in seconds since 1970, and seeds: whoever makes it again makes no second run."""
    digest = hashlib.sha256("\0".join(seeds).encode()).hexdigest()
    text = f"{int(moment * 1000):012x}7{digest[:3]}8{digest[3:18]}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_chances = struct.iter_unpack("Q", b"")


def _chance() -> int:
    """62 bits of the system's randomness, drawn from it a page at a time: a call each would give up the interpreter's lock each time."""
    global _chances  # noqa: PLW0603 - one page for the process; the worst a race can do is to draw one more
    drawn = next(_chances, None)
    while drawn is None:  # another thread may use a fresh page up before this one gets its turn
        _chances = struct.iter_unpack("Q", os.urandom(4096))
        drawn = next(_chances, None)
    return int(drawn[0]) >> 2


def iso(moment: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    milliseconds = int(moment * 1000)
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")[:-6]
