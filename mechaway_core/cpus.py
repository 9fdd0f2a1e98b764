"""The processors that this process and its children may use. Where the system does not tell (macOS), nothing is chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SYSTEM = Path("/sys/devices/system/cpu")
STRENGTHS = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")  # ARM says the first, most others the second, virtual machines neither
NEARLY = 0.85  # cores of one kind differ by a few percent


@cache
def allowed() -> tuple[int, ...]:
    """Their numbers, as they were when this was first asked; a container's set counts. Empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else ()


def count() -> int:
    """How many there are."""
    return len(allowed()) or os.cpu_count() or 1


def strong(system: Path = SYSTEM) -> tuple[int, ...]:
    """Those that are nearly as quick as the quickest: some machines have small ones beside the large. All where `system` does not tell."""
    for file in STRENGTHS:
        known = {number: strength for number in allowed() if (strength := _number(system / f"cpu{number}" / file)) is not None}
        if len(known) == len(allowed()):
            return tuple(number for number, strength in known.items() if strength >= NEARLY * max(known.values()))
    return allowed()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def bind(thread: int, numbers: Iterable[int]) -> bool:
    """Let a thread or process, by its number in the system, run on these alone. False when it is gone, or this may not be."""
    if sys.platform != "linux":
        return False
    try:
        os.sched_setaffinity(thread, numbers)
    except (OSError, ValueError):  # ValueError: none at all
        return False
    return True
