"""The processors that this process and its children may use. Where the system does not tell (macOS), nothing is chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache


@cache
def allowed() -> tuple[int, ...]:
    """Their numbers, as they were when this was first asked; a container's set counts. Empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else ()


def count() -> int:
    """How many there are."""
    return len(allowed()) or os.cpu_count() or 1


def bind(thread: int, numbers: Iterable[int]) -> bool:
    """Let a thread or process, by its number in the system, run on these alone. False when it is gone, or this may not be."""
    if sys.platform != "linux":
        return False
    try:
        os.sched_setaffinity(thread, numbers)
    except (OSError, ValueError):  # ValueError: none at all
        return False
    return True
