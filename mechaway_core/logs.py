"""The log: what its lines say beside a sentence, and the two forms they are written in.

    log.error("the schedules of project %s cannot be read: %s", project, error, extra=about(project=project))

The sentence is for who reads along and can be understood by itself. The fields are for who searches, and are called what they are called
in answers of the API. A line that is written while a request is served has its id too, wherever in the house that happens.

Whatever is written passes through `redact.remembered`: sentence, fields and traceback each by itself, before it is escaped, so that no
value of a secret gets out and none breaks the form of a line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

from mechaway_core.redact import remembered


class Fields(TypedDict, total=False):
    """What a line may say beside its sentence. What is None is not known and not written."""

    project: str | None
    workflow_id: str | None
    version: int | None  # of the workflow
    run_id: str | None
    trigger: str | None  # what started the run, as its record says it
    node_id: str | None
    status: str | None  # of the run
    scheduled_for: str | None  # the due time of a schedule, ISO 8601 in UTC
    request_id: str | None  # the X-Request-Id of a request
    reason: str | None  # why a caller was refused, in one word
    source: str | None  # the address of that caller


FIELDS = tuple(Fields.__annotations__)
SERVICE = "mechaway"  # in lines of JSON: who wrote them, where several programs share a log

request_id: ContextVar[bytes | None] = ContextVar("request_id", default=None)
"""The id of the request that is served. The gateway sets it; threads that work for a request run in a copy of its context."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # ends a line, steers a terminal, or is no character
_BARE = re.compile(r'[^\s"=]+')


def about(**fields: Unpack[Fields]) -> dict[str, Any]:
    """The fields of a line, for `extra`."""
    return {name: value for name, value in fields.items() if value is not None}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record, in their order; its request's is known even where nobody gave it."""
    given = record.__dict__
    serving = request_id.get()
    known = given if serving is None else {"request_id": serving.decode("latin-1")} | given
    return {name: known[name] for name in FIELDS if known.get(name) is not None}


class JsonFormatter(logging.Formatter):
    """A line is one JSON object; its keys are those of Powertools for AWS Lambda, `logger` and the fields. `more` gives further ones."""

    def __init__(self, more: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        said = {"service": SERVICE, "logger": record.name, "message": _sentence(record), **fields_of(record), **self._more()}
        said |= self._traces(record)
        line = {"timestamp": _moment(record.created), "level": record.levelname} | {name: _clean(value) for name, value in said.items()}
        return _escaped(json.dumps(line, ensure_ascii=False, separators=(",", ":")))

    def _traces(self, record: logging.LogRecord) -> dict[str, str]:
        shown: dict[str, str] = {}
        if record.exc_info and record.exc_info[0] is not None:
            shown["exception_name"] = record.exc_info[0].__name__
            shown["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            shown["stack"] = record.stack_info
        return shown


class TextFormatter(logging.Formatter):
    """A line for a terminal: time, level, logger, sentence, and the fields that it does not name. A traceback has lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and the lines of its traceback."""
        sentence = str(_clean(_sentence(record)))
        fields = "".join(f" {name}={_bare(value)}" for name, value in fields_of(record).items() if not _names(sentence, value))
        lines = [f"{self.formatTime(record)} {record.levelname} {record.name}: {sentence}{fields}"]
        if record.exc_info:
            lines += remembered.message(self.formatException(record.exc_info)).split("\n")
        if record.stack_info:
            lines += remembered.message(record.stack_info).split("\n")
        return "\n".join(_escaped(line) for line in lines)


def _sentence(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a library's values do not fit its text: Python would print both, secrets and all
        return f"{record.msg} {record.args!r}"


def _clean(value: Any) -> str | int:
    """A value as a line shows it, without secrets."""
    text = remembered.message(str(value))
    return value if isinstance(value, int) and text == str(value) else text


def _names(sentence: str, value: Any) -> bool:
    """Whether a sentence says this value already; numbers could be any."""
    return isinstance(value, str) and re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", sentence) is not None


def _bare(value: Any) -> str:
    text = str(_clean(value))
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escaped(line: str) -> str:
    """One line, whatever is in it. What JSON leaves as it is becomes what JSON would also have written."""
    return _CONTROL.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", line)


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _moment(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
