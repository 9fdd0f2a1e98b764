"""What processes use, where the kernel tells (Linux): memory, time of the CPUs, and how busy the machine is with others."""

from __future__ import annotations

import os
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


def memory_of(pid: int) -> Memory:
    """Of a process and all below it. Raises `OSError` where there is no /proc."""
    family = [pid, *_below(pid)]
    found = [_rollup(member) for member in family]
    return Memory(sum(one["Rss"] for one in found), sum(one["Pss"] for one in found), len(family))


def cpu_seconds_of(pid: int) -> float:
    """CPU time of a process and all below it so far; those that have ended count in their parents. 0 where the kernel does not tell."""
    ticks = 0
    try:
        for member in [pid, *_below(pid)]:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    except OSError:
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK")


class Others:
    """How much of the CPUs somebody else used since this was made."""

    def __init__(self) -> None:
        self._ticks, self._ours = _ticks(), _our_seconds()

    def share(self) -> float | None:
        """Of all CPUs, 0…1; None where the kernel does not tell. Only our processes that have ended count as ours."""
        idle, total = (after - before for after, before in zip(_ticks(), self._ticks, strict=True))
        if not total:
            return None
        ours = (_our_seconds() - self._ours) * os.sysconf("SC_CLK_TCK")
        return max(0.0, (total - idle - ours) / total)


def _our_seconds() -> float:
    return sum(os.times()[:4])


def _ticks() -> tuple[int, int]:
    """Idle and all ticks of the machine so far; zeros where there is no /proc."""
    if not Path("/proc/stat").exists():
        return 0, 0
    numbers = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return numbers[3] + numbers[4], sum(numbers)


def _below(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield int(child)
            yield from _below(int(child))


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
