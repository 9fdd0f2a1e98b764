"""Logs of the local server: warnings and errors of everything, on standard error, one line each, without secrets.

Whatever text a library makes (psycopg and httpx put connection strings and URLs into messages and tracebacks) passes through the
formatter here, which leaves out every value that this process has used. What Python would print by itself is logged instead.
"""

from __future__ import annotations

import logging
import resource
import sys
import threading
from types import TracebackType

from mechaway_core.redact import remembered

CHATTY = ("httpx", "httpcore", "psycopg", "psycopg.pool")  # they log addresses and statements below WARNING

log = logging.getLogger("mechaway")


class CleanFormatter(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no secret."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return remembered.message(super().format(record))


def set_up() -> None:
    """Send what is logged to standard error, and let a crash leave no copy of the memory, where keys and secrets stand, on the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CleanFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("mechaway").setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("the process ends by a mistake", exc_info=(kind, error, trace))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread is not None else "?"
        log.error("the thread %s ended by a mistake", name, exc_info=arguments.exc_value)


def _unraisable(arguments: sys.UnraisableHookArgs) -> None:
    log.error("%s", arguments.err_msg or "an error nobody could be told of", exc_info=arguments.exc_value)
