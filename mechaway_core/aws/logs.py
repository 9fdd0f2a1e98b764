"""Logs in Lambda: a line is one JSON object, without secrets.

The runtime has put its own handler on the root logger, which leaves out what is below the level that the function is configured with and
hands lines on. With `LogFormat: JSON` it takes what it gets for JSON, and neither it nor Lambda wraps that once more. So its handler stays,
and what makes its lines is ours: those of `mechaway_core.logs`, and what is known about the invocation, in Powertools' words.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from mechaway_core.logs import JsonFormatter
from mechaway_core.redact import remembered
from mechaway_core.settings import AwsVariables

CHATTY = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "psycopg", "psycopg.pool")  # they log addresses and statements


class _Invocations:
    """Those of this environment, one at a time: how many there were, and what Lambda tells about the one that goes on."""

    def __init__(self) -> None:
        self.count = 0
        self.context: object = None

    def fields(self) -> Mapping[str, Any]:
        """What a line says about it. Lines before the first one are part of the cold start."""
        variables = AwsVariables.load()
        known = {
            "cold_start": self.count <= 1,
            "function_name": variables.function_name,
            "function_request_id": getattr(self.context, "aws_request_id", ""),
            "xray_trace_id": variables.trace_id,
        }
        return {name: value for name, value in known.items() if value != ""}


_invocations = _Invocations()


def invoked(context: object) -> None:
    """Say that an invocation begins, which lines are about from now on."""
    _invocations.count += 1
    _invocations.context = context


class LambdaFormatter(JsonFormatter):
    """Lines for the runtime's handler, which ends none by itself. `runtime` is the formatter that the runtime had put there."""

    def __init__(self, runtime: logging.Formatter | None) -> None:
        super().__init__(_invocations.fields)
        self._runtime = runtime

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with its end."""
        if self._runtime is not None:
            with contextlib.suppress(Exception):
                self._runtime.format(record)  # notes in the record that it is JSON, and of which level, for Lambda
        return super().format(record) + "\n"


class CleanFormatter(logging.Formatter):
    """A formatter around another, whose lines hold no secret."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return remembered.message(self._inner.format(record))


def set_up() -> None:
    """Write lines as said above, and show what Mechaway says at INFO. May be called again.

    Outside of Lambda, where a handler is tried by hand, lines keep their form and are only kept clean.
    """
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(level=logging.WARNING)
    in_lambda = bool(AwsVariables.load().function_name)
    for handler in root.handlers:
        known = handler.formatter
        if not isinstance(known, LambdaFormatter | CleanFormatter):
            handler.setFormatter(LambdaFormatter(known) if in_lambda else CleanFormatter(known or logging.Formatter()))
    logging.captureWarnings(True)
    logging.getLogger("mechaway").setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
