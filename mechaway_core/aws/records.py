"""Runs on record as objects. Names say what lists show, so that a page of a list is a listing of the bucket.

    runs/{slug}/{generation}/{id}~{ended}~{the rest of its line}    a run that is over
    kept/{slug}/{generation}/{id}~{ended}~{the rest of its line}    the same, where its workflow says how long to keep it
    open/{slug}/{generation}/{id}                                   a run that has not ended
    stops/{slug}/{generation}/{id}                                  that somebody asked a run to stop

S3 lists in the order of names; ids and times are turned round in them, so the newest come first. An object holds the line as JSON, a line
break, and the record's data.

A run that somebody waits for is one PUT. One that was open is put as ended first and then deleted among the open ones; whatever is cut off
in between, who reads prefers the end, and of two ends the later. Together with an end come the open runs of those who hear of it: they are
put before it. The bucket's lifecycle deletes what is old: under `runs/` after the days of the stack, under `kept/` after those of the
object's tag, which are of a few classes, for each takes a rule.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes

import orjson

from mechaway_core.aws.projects import Moved, S3Projects
from mechaway_core.aws.s3 import PAGE, S3, Found
from mechaway_core.errors import NotFound
from mechaway_core.folders.files import RUN_ID
from mechaway_core.names import least_run_id
from mechaway_core.ports import RunLine, RunPage, RunQuery, RunRecord

OWNER = "aws"  # whose all open runs are: functions come and go
KEEP_CLASSES = (1, 3, 7, 14, 30, 90, 180, 365, 1095, 3650, 36_500)  # days; template.yaml has a rule for each
LOOKED_THROUGH = 5000  # runs of one page
READING = 25  # as many of them as looking into an object counts for
LONGEST_NAME = 1024  # bytes
FEW = 20  # runs that are asked about one by one

_RUNS, _KEPT, _OPEN, _STOPS = "runs/", "kept/", "open/", "stops/"
_GOING = ("queued", "running")
_SAFE = " !'(),-.:;=@[]_"  # what an error in a name may hold beside letters and digits
_FAR = 10**14  # milliseconds since 1970: later than all there will be
_TURN = str.maketrans("0123456789abcdef", "fedcba9876543210", "-")


class _Entry(NamedTuple):
    """A run as a listing has it. In their order the newest comes first, and its end before all else there is of it."""

    name: str  # the id, turned round
    kind: int
    rest: str
    key: str


class S3Records:
    """`Records` in a bucket. `owner` is what the processes that share it are called there."""

    def __init__(self, s3: S3, projects: S3Projects, owner: str = OWNER) -> None:
        self._s3 = s3
        self._projects = projects
        self._owner = owner

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        """See `Records.write`. Ends come last: who is cut off before leaves the run open, and another one ends it."""
        for record in sorted(records, key=lambda record: record.line.ended is not None):
            self._write(project, record)
        for run_id in gone:
            self._forget(self._projects.place(project), _turned(run_id))

    def get(self, project: str, run_id: str) -> RunRecord | None:
        """See `Records.get`."""
        if not RUN_ID.fullmatch(run_id):
            self._projects.ask(project)
            return None
        return self._projects.look(project, lambda place: self._get(place, _turned(run_id)))

    def find(self, project: str, query: RunQuery) -> RunPage:
        """See `Records.find`."""

        def find(place: str) -> RunPage | None:
            page = self._find(place, query)
            return page if page.lines or page.after else None

        return self._projects.look(project, find) or RunPage([])

    def since(self, project: str, mark: int | None, limit: int = 100) -> tuple[list[RunLine], int]:
        """See `Records.since`."""
        raise NotFound("a bucket does not tell in which order runs were put on record; ask for the list again")

    def ask_to_stop(self, project: str, run_id: str) -> None:
        """See `Records.ask_to_stop`."""
        self._put(project, lambda place: f"{_STOPS}{place}/{_turned(run_id)}", b"")

    def asked_to_stop(self, project: str, run_ids: Sequence[str]) -> set[str]:
        """See `Records.asked_to_stop`."""
        prefix = f"{_STOPS}{self._projects.place(project)}/"
        if len(run_ids) <= FEW:
            return {run_id for run_id in run_ids if self._s3.get(prefix + _turned(run_id)) is not None}
        asked = set(self._names(prefix))
        return {run_id for run_id in run_ids if _turned(run_id) in asked}

    def abandoned(self, project: str, owner: str | None, before: float, limit: int = 100) -> list[RunRecord]:
        """See `Records.abandoned`."""
        after = "" if owner is not None else _turned(least_run_id(before)) + "~"
        return self._projects.look(project, lambda place: self._abandoned(place, owner, after, limit))

    def prune(self, project: str, keep: Callable[[str], float] | None, until: float | None = None) -> int:
        """See `Records.prune`. The bucket's lifecycle does it."""
        return 0

    # -- writing

    def _write(self, project: str, record: RunRecord) -> None:
        line, name = record.line, _turned(record.line.id)
        data = _closed(record, self._owner)
        if line.ended is None:
            self._put(project, lambda place: f"{_OPEN}{place}/{name}", data)
            return
        kind, tags = (_RUNS, "") if record.keep_days is None else (_KEPT, f"days={keep_class(record.keep_days)}")
        place = self._put(project, lambda place: _ended_key(f"{kind}{place}/{name}", line), data, tags)
        if record.known:
            self._s3.delete(f"{_OPEN}{place}/{name}")

    def _put(self, project: str, key_at: Callable[[str], str], data: bytes, tags: str = "") -> str:
        """Put an object where the project is; where that was. Raises `NotFound`, and then leaves nothing."""
        while True:
            place = self._projects.place(project)
            key = key_at(place)
            self._s3.put(key, data, tags=tags)
            try:
                self._projects.confirm(project, place, key)
            except Moved:
                continue
            return place

    def _forget(self, place: str, name: str) -> None:
        self._s3.delete(f"{_OPEN}{place}/{name}")
        for kind in (_RUNS, _KEPT):
            for line in self._s3.listing(f"{kind}{place}/{name}"):
                self._s3.delete(line.key)

    # -- reading

    def _get(self, place: str, name: str) -> RunRecord | None:
        """What there is of a run. The open one is read first: when it is gone, the end is there."""
        going = self._read(f"{_OPEN}{place}/{name}")
        return self._ended(place, name) or (None if going is None else going[0])

    def _ended(self, place: str, name: str) -> RunRecord | None:
        for kind in (_RUNS, _KEPT):
            for line in self._s3.listing(f"{kind}{place}/{name}", limit=1):
                found = self._read(line.key)
                if found is not None:
                    return found[0]
        return None

    def _read(self, key: str) -> tuple[RunRecord, str] | None:
        """A record, and its owner."""
        found = self._s3.get(key)
        return _opened(found.data) if isinstance(found, Found) else None

    def _abandoned(self, place: str, owner: str | None, after: str, limit: int) -> list[RunRecord]:
        records: list[RunRecord] = []
        for name in reversed(list(self._names(f"{_OPEN}{place}/", after))):
            found = self._read(f"{_OPEN}{place}/{name}")
            if found is None or (owner is not None and found[1] != owner):
                continue
            if self._ended(place, name) is not None:  # who ended it was cut off right then
                self._s3.delete(f"{_OPEN}{place}/{name}")
                continue
            records.append(found[0])
            if len(records) == limit:
                break
        return records

    # -- lists

    def _find(self, place: str, query: RunQuery) -> RunPage:
        lines: list[RunLine] = []
        looked, last = 0, ""
        for entry in self._newest_first(place, query):
            looked += 1 if entry.rest and query.text is None else READING
            line = self._fitting(entry, query)
            last = _turned_back(entry.name)
            if line is not None:
                lines.append(line)
            if len(lines) == query.limit or looked >= LOOKED_THROUGH:
                return RunPage(lines, last)
        return RunPage(lines)

    def _newest_first(self, place: str, query: RunQuery) -> Iterator[_Entry]:
        """The runs of a span of time, each once."""
        kinds = [_RUNS, _KEPT] if not query.statuses or not set(query.statuses) <= set(_GOING) else []
        kinds += [_OPEN] if not query.statuses or set(query.statuses) & set(_GOING) else []
        plain = not query.statuses and query.workflow_id is None and query.trigger is None and query.text is None
        size = min(PAGE, query.limit + 1) if plain else PAGE
        end = _turned(least_run_id(query.since)) if query.since is not None else "~"
        before = ""
        for entry in heapq.merge(*(self._entries(f"{kind}{place}/", rank, query, size) for rank, kind in enumerate(kinds))):
            if entry.name[: len(end)] > end:
                return
            if entry.name != before:
                before = entry.name
                yield entry

    def _entries(self, prefix: str, rank: int, query: RunQuery, size: int) -> Iterator[_Entry]:
        starts = [
            _turned(end) + "~~" for end in (query.after, None if query.until is None else least_run_id(query.until)) if end is not None
        ]
        for found in self._names(prefix, max(starts, default=""), size):
            name, _, rest = found.partition("~")
            yield _Entry(name, rank, rest, prefix + found)

    def _names(self, prefix: str, after: str = "", size: int = PAGE) -> Iterator[str]:
        """What stands behind a prefix in keys, in their order, from behind `after` on. `size` is what is fetched at first."""
        start = prefix + after if after else ""
        while True:
            page = self._s3.listing(prefix, start, size)
            yield from (line.key.removeprefix(prefix) for line in page)
            if len(page) < size:
                return
            start, size = page[-1].key, PAGE

    def _fitting(self, entry: _Entry, query: RunQuery) -> RunLine | None:
        """The line of a run that fits. Of an ended one the name tells it; only for a text is it opened."""
        line = _line_of(entry) if entry.rest else None
        if line is not None and not _fits(line, query):
            return None
        if line is not None and query.text is None:
            return line
        found = self._read(entry.key)
        if found is None:  # deleted, or ended, since it was listed
            return None
        record, _ = found
        return record.line if _fits(record.line, query) and _has_text(record, query.text) else None


def keep_class(days: float) -> int:
    """The days for which a record is kept that is to be kept for so many."""
    return next((one for one in KEEP_CLASSES if one >= days), KEEP_CLASSES[-1])


def _fits(line: RunLine, query: RunQuery) -> bool:
    return (
        query.workflow_id in (None, line.workflow_id)
        and query.trigger in (None, line.trigger)
        and (not query.statuses or line.status in query.statuses)
    )


def _has_text(record: RunRecord, text: str | None) -> bool:
    if text is None:
        return True
    wanted, line = text.encode("utf-8", "replace").lower(), record.line  # of bytes, these are the letters from A to Z
    return wanted in record.data.lower() or wanted in (line.error or "").encode().lower() or wanted in line.id.encode()


# -- what objects hold


def _closed(record: RunRecord, owner: str) -> bytes:
    line = record.line
    said = (
        line.id, line.workflow_id, line.version, line.status, line.trigger, line.node, line.began, line.ended, line.error, line.parent,
        line.attempt, owner,
    )  # fmt: skip
    return orjson.dumps(said) + b"\n" + record.data


def _opened(data: bytes) -> tuple[RunRecord, str]:
    said, _, rest = data.partition(b"\n")
    fields: list[Any] = orjson.loads(said)
    return RunRecord(RunLine(*fields[:11]), rest, known=True), str(fields[11])


# -- names


def _turned(run_id: str) -> str:
    """An id, or its beginning, so that later ones come before earlier ones."""
    return run_id.translate(_TURN)


def _turned_back(name: str) -> str:
    text = name.translate(_TURN)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _ended_key(start: str, line: RunLine) -> str:
    """The key of a run that is over. What does not fit of its error is in the object."""
    assert line.ended is not None
    fields = (
        start, f"{_FAR - int(line.ended * 1000):014d}", line.workflow_id, str(line.version), line.status, line.trigger, line.node,
        repr(line.began), repr(line.ended), str(line.attempt), line.parent or "", "",
    )  # fmt: skip
    key = "~".join(fields)
    return key + _shortened(quote(line.error or "", safe=_SAFE), LONGEST_NAME - len(key))


def _shortened(quoted: str, most: int) -> str:
    """A quoted text of so many characters at most, with an ellipsis where it was longer."""
    if len(quoted) <= most:
        return quoted
    ellipsis = quote("…")
    whole = re.sub("%.?$", "", quoted[: most - len(ellipsis)])
    text = unquote_to_bytes(whole).decode(errors="ignore")  # without half a character at its end
    return quote(text, safe=_SAFE) + ellipsis


def _line_of(entry: _Entry) -> RunLine:
    _, workflow_id, version, status, trigger, node, began, ended, attempt, parent, error = entry.rest.split("~", 10)
    return RunLine(
        _turned_back(entry.name), workflow_id, int(version), status, trigger, node, float(began), float(ended), unquote(error) or None,
        parent or None, int(attempt),
    )  # fmt: skip
