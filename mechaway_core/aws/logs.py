"""Logs in Lambda: as the runtime writes them, without secrets.

The runtime has put its own handler on the root logger, which writes text or JSON and leaves out what is below the level that the
function is configured with. What is done here: every line passes through a formatter that leaves out the values of secrets.
"""

from __future__ import annotations

import logging

from mechaway_core.redact import remembered

CHATTY = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "psycopg", "psycopg.pool")  # they log addresses and statements


class CleanFormatter(logging.Formatter):
    """A formatter around another, whose lines hold no secret."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return remembered.message(self._inner.format(record))


def set_up() -> None:
    """Keep secrets out of what is logged, and show what Mechaway says at INFO. May be called again."""
    root = logging.getLogger()
    if not root.handlers:  # not in Lambda
        logging.basicConfig(level=logging.WARNING)
    for handler in root.handlers:
        if not isinstance(handler.formatter, CleanFormatter):
            handler.setFormatter(CleanFormatter(handler.formatter or logging.Formatter()))
    logging.captureWarnings(True)
    logging.getLogger("mechaway").setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
