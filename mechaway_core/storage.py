"""Workflows and their versions, over one `Store`: the same on a laptop and on S3.

    workflows/{id}              the current version: {"version", "created_at", "updated_at", "document"}
    versions/{id}/{number}      what was current before, one object each, number of eight digits

Saving first copies the current version into the history, then swaps the current one by compare-and-set. Whatever is cut off between
the two leaves a copy of what is still current, never a hole or a half-saved document, and two writers cannot lose each other's work.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from mechaway_core import jsontext
from mechaway_core.errors import Conflict, NotFound, Stale
from mechaway_core.logs import about
from mechaway_core.names import shorten
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Clock, Store, Stored, Unchanged
from mechaway_core.record import iso

log = logging.getLogger("mechaway.storage")

_CURRENT, _OLD = "workflows/", "versions/"
_ATTEMPTS = 20  # of a save without If-Match that meets other writers


class Entry(NamedTuple):
    """One version of a workflow. `token` is the store's own version of the current one: it never repeats. Times are ISO 8601."""

    document: Mapping[str, Any]
    version: int
    created_at: str
    updated_at: str
    token: str

    @property
    def etag(self) -> str:
        """The entity tag of the current version (RFC 9110): changes with every save."""
        return f'"{self.token}"'


class Workflows:
    """The workflows of all projects."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def get(self, project: str, workflow_id: str) -> Entry:
        """The current version. Raises `NotFound`."""
        found = self.get_if_changed(project, workflow_id, None)
        assert not isinstance(found, Unchanged)
        return found

    def get_if_changed(self, project: str, workflow_id: str, token: str | None) -> Entry | Unchanged:
        """The current version unless it is the one that the caller has already. Raises `NotFound`."""
        stored = self._store.get(project, _current(workflow_id), token)
        if stored is None:
            raise NotFound(f'there is no workflow "{shorten(workflow_id)}"{_in(project)}')
        return UNCHANGED if isinstance(stored, Unchanged) else _entry(stored)

    def create(self, project: str, document: Mapping[str, Any]) -> Entry:
        """Save a new workflow as version 1. Raises `Conflict` when the id is taken."""
        now = iso(self._clock.now())
        try:
            return self._put(project, document, 1, now, now, expect=ABSENT)
        except Conflict:
            raise Conflict(f'there is a workflow "{document["id"]}"{_in(project)} already; PUT changes it') from None

    def update(self, project: str, document: Mapping[str, Any], if_match: Collection[str] | None = None) -> Entry:
        """Save a new version of a workflow. Raises `NotFound`, and `Stale` when none of the entity tags `if_match` is the current one's."""
        workflow_id = document["id"]
        for _ in range(_ATTEMPTS):
            current = self.get(project, workflow_id)
            if if_match is not None and current.etag not in if_match:
                raise _stale(project, workflow_id)
            self._store.put(project, _old(workflow_id, current.version), _bytes(current))
            now = iso(self._clock.now())
            try:
                return self._put(project, document, current.version + 1, current.created_at, now, expect=current.token)
            except Stale:
                if if_match is not None:
                    raise _stale(project, workflow_id) from None
        raise Conflict(f'workflow "{workflow_id}" is being saved by many at once; try again')

    def delete(self, project: str, workflow_id: str, if_match: Collection[str] | None = None) -> None:
        """Delete a workflow with its history. Raises `NotFound`, and `Stale` as `update` does."""
        current = self.get(project, workflow_id)
        if if_match is not None and current.etag not in if_match:
            raise _stale(project, workflow_id)
        if not self._store.delete(project, _current(workflow_id), ANY if if_match is None else current.token):
            raise NotFound(f'there is no workflow "{shorten(workflow_id)}"{_in(project)}')
        while keys := self._store.keys(project, _old_prefix(workflow_id)):
            for key in keys:
                self._store.delete(project, key)

    def find(self, project: str, after: str = "", limit: int = 100) -> list[Entry]:
        """Current versions in the order of their ids, those behind the id `after`."""
        keys = self._store.keys(project, _CURRENT, _current(after) if after else "", limit)
        found = (self._store.get(project, key) for key in keys)
        return [_entry(stored) for stored in found if isinstance(stored, Stored)]

    def versions(self, project: str, workflow_id: str, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Number, time and name of the versions below `before`, newest first, `limit` at most. Raises `NotFound`."""
        current = self.get(project, workflow_id)
        newest = current.version if before is None else min(before - 1, current.version)
        numbers = range(newest, max(newest - limit, 0), -1)
        return [self._about(project, workflow_id, number, current) for number in numbers]

    def version(self, project: str, workflow_id: str, number: int) -> Entry:
        """One version, current or old. Raises `NotFound`."""
        current = self.get(project, workflow_id)
        if number == current.version:
            return current
        stored = self._store.get(project, _old(workflow_id, number)) if 0 < number < current.version else None
        if not isinstance(stored, Stored):
            raise NotFound(f'workflow "{workflow_id}" has no version {number}; the newest is {current.version}')
        return _entry(stored)

    # -- moving between stores

    def ids(self, project: str) -> Iterator[str]:
        """The ids of all workflows, in order."""
        last = ""
        while keys := self._store.keys(project, _CURRENT, last):
            yield from (key.removeprefix(_CURRENT) for key in keys)
            last = keys[-1]

    def history(self, project: str, workflow_id: str) -> Iterator[Entry]:
        """Every version from the first on, the current one last. Raises `NotFound` when the workflow is deleted meanwhile."""
        current = self.get(project, workflow_id)
        for number in range(1, current.version):
            yield self.version(project, workflow_id, number)
        yield current

    def lay_down(self, project: str, entry: Entry) -> None:
        """Put a version into the history, as it is. Nobody sees it before the workflow is published."""
        self._store.put(project, _old(entry.document["id"], entry.version), _bytes(entry))

    def publish(self, project: str, workflow_id: str, number: int) -> None:
        """Make a version that was laid down the current one, unless the workflow has one already."""
        stored = self._store.get(project, _old(workflow_id, number))
        if isinstance(stored, Stored):
            with contextlib.suppress(Conflict):
                self._store.put(project, _current(workflow_id), stored.data, ABSENT)

    def is_empty(self, project: str) -> bool:
        """Whether there is no workflow, nor any version of one."""
        return not any(self._store.keys(project, prefix, limit=1) for prefix in (_CURRENT, _OLD))

    def discard_versions(self, project: str) -> None:
        """Delete every version that was laid down."""
        while keys := self._store.keys(project, _OLD):
            for key in keys:
                self._store.delete(project, key)

    def _about(self, project: str, workflow_id: str, number: int, current: Entry) -> dict[str, Any]:
        entry = current if number == current.version else self.version(project, workflow_id, number)
        return {"version": number, "saved_at": entry.updated_at, "current": number == current.version, "name": _name(entry.document)}

    def _put(self, project: str, document: Mapping[str, Any], version: int, created: str, updated: str, expect: Any) -> Entry:
        entry = Entry(document, version, created, updated, "")
        token = self._store.put(project, _current(document["id"]), _bytes(entry), expect)
        return Entry(document, version, created, updated, token)


def summary(entry: Entry) -> dict[str, Any]:
    """A line of a list: id, name, active, version, times and the ids and types of the triggers."""
    document = entry.document
    return {
        "id": document["id"],
        "name": _name(document),
        "active": document.get("active", True),
        "version": entry.version,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "triggers": _triggers(document),
    }


def _triggers(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    from mechaway_core.nodes import catalogue  # the types say which nodes are triggers

    known = catalogue()
    return [
        {"node": node["id"], "node_type": node["node_type"], **{k: node["params"][k] for k in ("path", "method") if k in node["params"]}}
        for node in document["nodes"]
        if (node_type := known.get(node["node_type"])) is not None and node_type.trigger
    ]


def _name(document: Mapping[str, Any]) -> str:
    return str(document.get("name", document["id"]))


def _bytes(entry: Entry) -> bytes:
    return jsontext.encode(
        {"version": entry.version, "created_at": entry.created_at, "updated_at": entry.updated_at, "document": entry.document}
    )


def _entry(stored: Stored) -> Entry:
    held = orjson.loads(stored.data)
    return Entry(held["document"], held["version"], held["created_at"], held["updated_at"], stored.version)


def _current(workflow_id: str) -> str:
    return f"{_CURRENT}{workflow_id}"


def _old_prefix(workflow_id: str) -> str:
    return f"{_OLD}{workflow_id}/"


def _old(workflow_id: str, number: int) -> str:
    return f"{_old_prefix(workflow_id)}{number:08d}"


def _in(project: str) -> str:
    return "" if project == "default" else f' in project "{project}"'


def _stale(project: str, workflow_id: str) -> Stale:
    place = about(project=project, workflow_id=workflow_id)
    log.info("a save of workflow %s in project %s came second: somebody else had changed it", workflow_id, project, extra=place)
    return Stale(f'workflow "{workflow_id}" was changed by somebody else; get it again and repeat the change on that')
