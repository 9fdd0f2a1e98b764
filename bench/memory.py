"""How much memory a process and its children hold, where the kernel tells (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes. `rss` counts pages that several processes share in each of them, `pss` once in all."""

    rss: int
    pss: int
    processes: int


def held_by(pid: int) -> Memory:
    """By a process and all below it. Raises `OSError` where there is no /proc."""
    family = [pid, *_below(pid)]
    found = [_rollup(member) for member in family]
    return Memory(sum(one["Rss"] for one in found), sum(one["Pss"] for one in found), len(family))


def _below(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield int(child)
            yield from _below(int(child))


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
