"""Workflow files: reading them, and keeping a project in step with a folder of them."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from mechaway_core import jsontext
from mechaway_core.app import DEFAULT_PROJECT, App
from mechaway_core.errors import Invalid, Malformed, MechawayError

log = logging.getLogger("mechaway.watch")

MAX_VALUES = 1_000_000  # of a YAML file with its aliases written out
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
        document = yaml.load(data, _loader())  # noqa: S506 - a safe loader, see there
        if _unfolded(document, {}) > MAX_VALUES:
            raise Malformed(f"{path} holds more than {MAX_VALUES} values once its aliases are written out")
        # Once through JSON: YAML has dates, sets and keys that are numbers, and none of these are in a workflow.
        return jsontext.decode(json.dumps(document, allow_nan=False), str(path))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1}, column {place.column + 1})" if place is not None else ""
        raise Malformed(f"{path} is not valid YAML{where}: {getattr(error, 'problem', None) or type(error).__name__}") from None
    except (TypeError, ValueError) as error:
        raise Malformed(f"{path} holds a value that JSON cannot ({error}); put dates into quotes") from None


@cache
def _loader() -> Any:
    """yaml's safe loader, but `on`, `off`, `yes` and `no` are words, as in YAML 1.2: edges have a field `on`."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))
    return Loader


def _unfolded(value: Any, known: dict[int, int]) -> int:
    """How many values there are when every alias is written out. One that holds itself counts as too many."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_VALUES + 1  # until it is known: that is what it is when it is met again on the way
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded(child, known) for child in inside)
    return known[id(value)]


def workflow_files(folder: Path) -> list[Path]:
    """The workflow files of a folder and those below it, sorted; hidden ones are left out."""
    return sorted(path for path in folder.rglob("*") if _is_workflow(path, folder))


def _is_workflow(path: Path, folder: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


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

    folder = folder.resolve()
    for changes in watch(folder, stop_event=stop, raise_interrupt=False, debounce=100, step=20):
        changed = {Path(name) for change, name in changes if change != Change.deleted}
        # A folder that was moved here is one change, whatever is in it.
        inside = {path for one in changed if one.is_dir() for path in one.rglob("*")}
        load_all(app, sorted(path for path in changed | inside if _is_workflow(path, folder)), tell)
