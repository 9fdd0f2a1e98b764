"""An environment of a function, as Lambda has it, to be started as a process of its own: `python -m tests.lambda_environment FOLDER`.

It reads events as lines of JSON and answers each with a line, and between two of them it does nothing, as an environment that is frozen.
What is written outside of the folder is refused like on a read-only disk, and so is whatever is opened in shared memory. What it logs is on
standard error, as Lambda's runtime would hand it on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree")


def read_only_but(folder: str) -> None:
    """Refuse from here on what Lambda would refuse this process."""

    def refuse(happened: str, about: tuple[Any, ...]) -> None:
        if happened == "open":
            path, mode, flags = about
            changes = bool(flags & _WRITES) if mode is None else any(letter in mode for letter in "wax+")
        elif happened in _CHANGES:
            path, changes = about[0], True
        else:
            return
        if not isinstance(path, str | bytes):
            return
        place = os.path.abspath(os.fsdecode(path))
        relative = about[-1] if happened in ("os.mkdir", "os.remove", "os.rmdir") else -1  # to an open folder, which was asked for before
        if place.startswith("/dev/shm") or (changes and relative == -1 and not place.startswith((folder, "/dev/null"))):
            raise OSError(errno.EROFS, "Read-only file system", place)

    sys.addaudithook(refuse)


class RuntimeFormatter(logging.Formatter):
    """What the runtime makes lines with when `LogFormat` is JSON (`lambda_runtime_log_utils.JsonFormatter` of awslambdaric)."""

    def format(self, record: logging.LogRecord) -> str:
        """A line with its end. The record is told what kind of line it is."""
        record._frame_type = f"json {record.levelname}"
        line = {"level": record.levelname, "message": record.getMessage(), "logger": record.name, "requestId": "of the runtime"}
        return json.dumps(line) + "\n"


class RuntimeHandler(logging.Handler):
    """Hands lines on (`bootstrap.LambdaLoggerHandlerWithFrameType`): the kind goes ahead of a line, and nothing comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(RuntimeFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or fail: the runtime catches nothing here."""
        line = self.format(record)
        sys.stderr.write(f"{getattr(record, '_frame_type', 'text')}: {line}")
        sys.stderr.flush()


def main() -> None:
    """Serve events until there are no more."""
    folder = sys.argv[1]
    logging.getLogger().addHandler(RuntimeHandler())
    logging.getLogger().setLevel(logging.INFO)  # ApplicationLogLevel
    read_only_but(folder)

    from mechaway_core import aws, local
    from mechaway_core.settings import Settings
    from tests.lambda_events import Context

    app = local.build(aws.behind_http_api(Settings.load()))
    app.runs.recorder.gathers = False  # as in an installation
    handler = aws.api_handler(lambda: app)
    for line in sys.stdin:
        event = json.loads(line)
        if event == "about":
            said: dict[str, Any] = {
                "lua": app.sandbox.stats(),
                "threads": [thread.name for thread in threading.enumerate()],
                "modules": sorted(sys.modules),
                "shared": "/dev/shm" in Path("/proc/self/maps").read_text(),
            }
        else:
            said = handler(event, Context())
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
