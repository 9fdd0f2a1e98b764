"""PostgreSQL servers by connection string."""

from __future__ import annotations

from mechaway_core.settings import Settings


class Postgres:
    """PostgreSQL for nodes; one for a whole process. Thread-safe; connects to nothing before the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def close(self) -> None:
        """Close all connections."""
