"""HTTP calls to the outside, under a guard."""

from __future__ import annotations

from mechaway_core.settings import Settings


class Http:
    """HTTP calls for nodes; one for a whole process. Thread-safe; makes nothing before the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def close(self) -> None:
        """Close idle connections."""
