"""What is counted and logged about those who were not let in. The log says why, the caller is not told."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

from mechaway_core.errors import Refused
from mechaway_core.logs import about
from mechaway_core.names import shorten

log = logging.getLogger("mechaway.access")


class Refusals:
    """Refusals of this process by reason."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, error: Refused, *, source: str, target: str, request_id: str) -> None:
        """Count a refusal and put it into the log. `target` is what was called, as the caller wrote it."""
        with self._lock:
            self._counts[error.reason] += 1
        detail = f" ({_plain(error.detail)})" if error.detail else ""
        log.warning(
            "refused: %s%s; source %s, target %s, request %s",
            error.reason, detail, _plain(source) or "unknown", _plain(target), request_id,
            extra=about(request_id=request_id, reason=error.reason, source=source or None),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Counts by reason, and their sum."""
        with self._lock:
            counts = dict(sorted(self._counts.items()))
        return {"refusals": counts, "total": sum(counts.values())}


def _plain(text: str) -> str:
    """One line that cannot pass for another line of the log."""
    return shorten(text, 200).encode("unicode_escape").decode("ascii")
