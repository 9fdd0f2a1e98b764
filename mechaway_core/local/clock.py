"""The clock of this machine."""

from mechaway_core.clock import SystemClock as LocalClock

__all__ = ["LocalClock"]
