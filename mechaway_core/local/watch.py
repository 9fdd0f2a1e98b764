"""Workflow files: reading them, and keeping a project in step with a folder of them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mechaway_core import jsontext
from mechaway_core.app import DEFAULT_PROJECT, App
from mechaway_core.errors import Invalid, Malformed, MechawayError

log = logging.getLogger("mechaway.watch")

SUFFIXES = (".json", ".yaml", ".yml")


def read_workflow(path: Path) -> Any:
    """The document in a file. Raises `Malformed` with the file's name when it cannot be read as JSON or YAML."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Malformed(f"{path} cannot be read: {error.strerror or error}") from None
    if path.suffix in (".yaml", ".yml"):
        return _yaml(data, path)
    return jsontext.decode(data, str(path))


def _yaml(data: bytes, path: Path) -> Any:
    import yaml

    try:
        document = yaml.safe_load(data)
        # Once through JSON: YAML has dates, sets and keys that are numbers, and none of these are in a workflow.
        return jsontext.decode(json.dumps(document, allow_nan=False), str(path))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1}, column {place.column + 1})" if place is not None else ""
        raise Malformed(f"{path} is not valid YAML{where}: {getattr(error, 'problem', None) or type(error).__name__}") from None
    except (TypeError, ValueError) as error:
        raise Malformed(f"{path} holds a value that JSON cannot ({error}); put dates into quotes") from None


def workflow_files(folder: Path) -> list[Path]:
    """The workflow files of a folder and those below it, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def load_all(app: App, paths: Iterable[Path], tell: Callable[[str], None], project: str = DEFAULT_PROJECT) -> int:
    """Save every file that differs from what is saved, telling about each; returns how many could not be."""
    failed = 0
    for path in paths:
        try:
            saved = app.put(project, read_workflow(path))
        except Invalid as error:
            failed += 1
            tell(f"{path}: not saved")
            for problem in error.problems:
                tell(f"  {problem}")
        except MechawayError as error:
            failed += 1
            tell(f"{path}: not saved: {error}")
        else:
            if saved is not None:
                tell(f'{path}: workflow "{saved.entry.document["id"]}" saved as version {saved.entry.version}')
    return failed


def follow(app: App, folder: Path, tell: Callable[[str], None], stop: threading.Event) -> None:
    """Keep saving files of the folder as they change, until `stop`. A file that is removed leaves its workflow as it is."""
    from watchfiles import Change, watch

    for changes in watch(folder, stop_event=stop, raise_interrupt=False, debounce=100, step=20):
        paths = sorted({Path(name) for change, name in changes if change != Change.deleted})
        load_all(app, [path for path in paths if path.suffix in SUFFIXES and path.is_file()], tell)
