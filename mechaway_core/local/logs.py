"""Logs of the local server: warnings and errors of everything, on standard error, without secrets.

They are lines of text on a terminal and lines of JSON elsewhere (`MECHAWAY_LOG`). Whatever text a library makes (psycopg and httpx put
connection strings and URLs into messages and tracebacks) passes through the formatters of `mechaway_core.logs`, which leave out every
value that this process has used. What Python would print by itself is logged instead.
"""

from __future__ import annotations

import logging
import resource
import sys
import threading
from types import TracebackType

from mechaway_core.logs import JsonFormatter, TextFormatter

CHATTY = ("httpx", "httpcore", "psycopg", "psycopg.pool")  # they log addresses and statements below WARNING

log = logging.getLogger("mechaway")


def set_up(form: str) -> None:
    """Send what is logged to standard error, in the form that `MECHAWAY_LOG` names: `auto`, `text` or `json`.

    Also let a crash leave no copy of the memory, where keys and secrets stand, on the disk.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text = sys.stderr.isatty() if form == "auto" else form == "text"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
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
