"""What is kept of a run: a JSON document, made when the run ends and read when somebody asks.

    request?   {"method", "query", "headers", "path", "files"}
    start?     the items it was started with: of a run that has not ended
    replays?   {"run", "at", "only", "items"?}: the run that it goes on with, from a node on
    promised?  true: it was accepted, so it is begun again when its process ends
    keys?      what `$run.key` is made from, where that is not the run's id
    nodes      [{"id", "node_type", "status", "attempts", "at_ms", "took_ms", "from", "input"?, "output", "failures"?, "error"?, "log"?}]
    output?    [node, exit]: whose items are the run's
    response?  {"status", "headers", "body", "file"?}
    error?     {"type", "message", "node"?, "status"?}
    hidden?    true: `redact` left something out, so what is here cannot be run again

What a node took is what its parents gave, so it is not written twice: `from` names them as [node, exit]; only the trigger has an `input`,
and the node that a replay gave other items.
A list of items is written as it is, or, when the record as a whole is too large, kept as a file: {"file": handle, "items": count,
"bytes": size}; the largest go first. One larger than files may be, or that JSON cannot hold, is left out: {"items": count, "bytes": size}.
A response whose body is too large has its `bytes` instead. `"output": "input"` says that a node hands on what it took.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import orjson

from mechaway_core.errors import MechawayError, NotFound
from mechaway_core.logs import about
from mechaway_core.node import MAIN, Items, Request
from mechaway_core.ports import RunLine, RunRecord
from mechaway_core.record import NodeRun, Replays, Run
from mechaway_core.runs.hiding import hide, hide_headers
from mechaway_core.workflow import Plan, Rules

LINE = 1000  # bytes for each node beyond what is allowed: a long run is no large one
APART = 300  # bytes that say where a list of items is: smaller ones are not worth a file
MOST_ERROR = 500  # characters of an error in the line of a run
ANY_SIZE = 1 << 62  # bytes
BAD = ("failed", "timed_out", "cancelled")  # statuses of nodes that did not get to their end
CANCELLED = "the run was cancelled"

Parents = tuple[tuple[int, str], ...]  # of a step: (index of the step above, exit)
Keep = Callable[[bytes], str]
"""Keeps items as a file of the run and answers its handle. Raises `MechawayError` when it cannot."""


def line_of(run: Run) -> RunLine:
    """The line of a run as it is now."""
    info, failure = run.info, run.failure
    return RunLine(
        info.id,
        info.workflow_id,
        run.version,
        run.status,
        info.trigger,
        run.start_node,
        run.began,
        run.ended,
        None if failure is None else _plain(failure.message[:MOST_ERROR]),
        run.parent,
        run.attempt,
    )


def about_line(project: str, line: RunLine) -> dict[str, Any]:
    """What a line of the log about a run on record says beside its sentence."""
    return about(
        project=project, workflow_id=line.workflow_id, version=line.version, run_id=line.id, trigger=line.trigger, node_id=line.node
    )  # fmt: skip


def opened(run: Run, items: Items) -> RunRecord:
    """The record of a run that is to begin, or has begun, with these items: all that is needed to begin it again."""
    said: dict[str, Any] = {"start": items, "nodes": []}
    if run.promised:
        said["promised"] = True
    if run.replays is not None:
        said["replays"] = run.replays.as_json()
    if run.request is not None:
        said["request"] = _request(run.request)
    if run.info.keys:
        said["keys"] = run.info.keys
    return RunRecord(line_of(run), orjson.dumps(said), known=run.opened)


def ended(run: Run, plan: Plan, most: int, keep: Keep) -> RunRecord:
    """The record of a run that is over. Beyond `most` bytes its large values are kept as files."""
    said = _said(run, plan)
    try:
        data = orjson.dumps(said)
    except TypeError:  # a node from elsewhere gave what JSON cannot hold
        said = _holdable(said)
        data = orjson.dumps(said)
    if len(data) > most:
        data = orjson.dumps(_smaller(said, len(data) - most, keep))
    if len(data) > most + LINE * len(run.nodes):
        data = orjson.dumps(_small(said))
    return RunRecord(line_of(run), data, known=run.opened, keep_days=_keep_days(plan.rules))


def lost(record: RunRecord, rules: Rules, message: str, now: float) -> RunRecord:
    """The record of a run that began and will not end: with the items it began with, so that it can be run again."""
    said = _shared(record, rules) | {"error": {"type": "lost", "message": message}}
    line = record.line._replace(status="failed", ended=now, error=message)
    return RunRecord(line, orjson.dumps(said), known=True, keep_days=_keep_days(rules))


def cancelled(record: RunRecord, rules: Rules, now: float) -> RunRecord:
    """The record of a run that somebody asked to stop and whose process did not live to do it."""
    said = _shared(record, rules) | {"error": {"type": "cancelled", "message": CANCELLED}}
    line = record.line._replace(status="cancelled", ended=now, error=CANCELLED)
    return RunRecord(line, orjson.dumps(said), known=True, keep_days=_keep_days(rules))


def as_far(run: Run, plan: Plan) -> RunRecord:
    """The record of a run that goes on, as it is by now."""
    return ended(run, plan, ANY_SIZE, lambda _data: "")


def without_hidden(record: RunRecord, rules: Rules) -> RunRecord:
    """The record of a run that has not ended as people may see it: it holds all that is needed to begin."""
    return RunRecord(record.line, orjson.dumps(_shared(record, rules)), known=record.known)


def _shared(record: RunRecord, rules: Rules) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(record.data)
    if "request" in said:
        said["request"] |= {"headers": hide_headers(said["request"]["headers"])}
    return _redacted(said, rules) if rules.redact else said


def _keep_days(rules: Rules) -> float | None:
    return None if rules.keep is None else rules.keep / 86_400


def _said(run: Run, plan: Plan) -> dict[str, Any]:
    walked = dict(run.walked)  # in one step: it may grow
    places = sorted(walked)
    first = walked[places[0]].began if places else 0.0
    brought = None if run.replays is None or run.replays.items is None else plan.index.get(run.replays.at)
    said: dict[str, Any] = {
        "nodes": [_node(walked[at], plan.steps[at].parents if at != brought else (), walked, first, run.ended is not None) for at in places]
    }
    if run.request is not None:
        said["request"] = _request(run.request) | {"headers": hide_headers(run.request.headers)}
    if run.info.keys:
        said["keys"] = run.info.keys
    output = _output(run)
    if output is not None:
        said["output"] = output
    if run.response is not None:
        said["response"] = run.response.as_json()
    if run.failure is not None:
        said["error"] = run.failure.as_json()
    return _redacted(said, plan.rules) if plan.rules.redact else said


def _node(node: NodeRun, parents: Parents, walked: Mapping[int, NodeRun], first: float, over: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": node.id,
        "node_type": node.node_type,
        "status": node.status if over or node.took else "running",
        "attempts": node.attempts,
        "at_ms": round((node.began - first) * 1000, 3),
        "took_ms": round(node.took * 1000, 3),
    }
    if node.status != "skipped":
        sources = [[above.id, name] for parent, name in parents if (above := walked.get(parent)) is not None and name in above.exits]
        if sources:
            said["from"] = sources
        else:
            said["input"] = node.given
        exits = node.exits
        said["output"] = "input" if len(exits) == 1 and exits.get(MAIN) is node.given else exits
    if node.failures:
        said["failures"] = node.failures
    if node.failure is not None:
        said["error"] = node.failure.as_json()
    if node.log:
        said["log"] = node.log
    if node.replayed:
        said["replayed"] = True
    return said


def _output(run: Run) -> list[str] | None:
    for node in reversed(run.nodes):
        for name, items in node.exits.items():
            if items is run.output:
                return [node.id, name]
    return None


def _request(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "query": dict(request.query),
        "headers": dict(request.headers),
        "path": dict(request.path),
        "files": dict(request.files),
    }


def _redacted(said: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """The same without what `redact` names, in whatever items it stands."""
    items = tuple(path for path in rules.redact if path.root == "json")
    changed = dict(said)
    changed["nodes"] = [_redacted_node(node, items) for node in said["nodes"]]
    if "request" in said:
        request = dict(said["request"])
        for path in rules.redact:
            if path.root != "json":
                request[path.root] = hide(request[path.root], [path])
        changed["request"] = request
    if "start" in said:
        changed["start"] = _redacted_items(said["start"], items)
    if "response" in said:
        changed["response"] = {**said["response"], "body": hide(said["response"]["body"], items)}
    same = all(new is old for new, old in zip(changed["nodes"], said["nodes"], strict=True))
    if not same or any(changed.get(name) != said.get(name) for name in ("request", "start")):
        changed["hidden"] = True
    return changed


def _redacted_node(node: dict[str, Any], paths: tuple[Any, ...]) -> dict[str, Any]:
    changed = dict(node)
    if "input" in node:
        changed["input"] = _redacted_items(node["input"], paths)
    if isinstance(node.get("output"), dict):
        exits = {name: _redacted_items(items, paths) for name, items in node["output"].items()}
        changed["output"] = exits if any(exits[name] is not node["output"][name] for name in exits) else node["output"]
    return changed if any(changed[name] is not node[name] for name in node) else node


def _redacted_items(items: Items, paths: tuple[Any, ...]) -> Items:
    """Errors of items hold the items that failed, so they are looked into as well, however often they failed."""
    hidden = [_redacted_item(item, paths) for item in items]
    return hidden if any(new is not old for new, old in zip(hidden, items, strict=True)) else items


def _redacted_item(item: Any, paths: tuple[Any, ...]) -> Any:
    item = hide(item, paths)
    if isinstance(item, dict) and isinstance(item.get("error"), dict):
        error = item["error"]
        inner = dict(error)
        if "item" in error:
            inner["item"] = _redacted_item(error["item"], paths)
        if isinstance(error.get("items"), list):
            inner["items"] = _redacted_items(error["items"], paths)
        return {**item, "error": inner} if any(inner[name] is not error[name] for name in error) else item
    return item


# -- what JSON cannot hold, and records that are too large


def _holdable(said: dict[str, Any]) -> dict[str, Any]:
    """The same without the lists, and the response, that JSON cannot hold, and with `?` for what is no character."""
    held = {**said, "nodes": [_lighter(_plainly(node), _held) for node in said["nodes"]]}
    if "error" in said:
        held["error"] = _plain_error(said["error"])
    if "response" in said and not _is_holdable(said["response"]):
        del held["response"]
    return held


def _plainly(node: dict[str, Any]) -> dict[str, Any]:
    plainly = dict(node)
    if "error" in node:
        plainly["error"] = _plain_error(node["error"])
    if "log" in node:
        plainly["log"] = [_plain(line) for line in node["log"]]
    return plainly


def _plain_error(error: dict[str, Any]) -> dict[str, Any]:
    return {**error, "message": _plain(error["message"])}


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _held(items: Items) -> Any:
    return items if _is_holdable(items) else {"items": len(items), "bytes": 0}


def _is_holdable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _smaller(said: dict[str, Any], excess: int, keep: Keep) -> dict[str, Any]:
    """The same, smaller by `excess` bytes if that can be, with its largest lists of items as files."""
    large = APART
    for size in sorted((len(orjson.dumps(value)) for value in _values(said)), reverse=True):
        excess -= size - APART
        if excess <= 0:
            large = size
            break
    smaller = {**said, "nodes": [_lighter(node, lambda items: _apart(items, large, keep)) for node in said["nodes"]]}
    size = len(orjson.dumps(said["response"]["body"])) if "response" in said else 0
    if _goes(size, large):
        smaller["response"] = {name: value for name, value in said["response"].items() if name != "body"} | {"bytes": size}
    return smaller


def _goes(size: int, large: int) -> bool:
    return size >= large and size > APART


def _values(said: dict[str, Any]) -> Iterator[Any]:
    """What can be kept apart."""
    for node in said["nodes"]:
        yield node.get("input", ())
        if isinstance(node.get("output"), dict):
            yield from node["output"].values()
    if "response" in said:
        yield said["response"]["body"]


def _small(said: dict[str, Any]) -> dict[str, Any]:
    """The same without items, for a run of very many nodes, or a disk that takes no files."""
    shown = {name: value for name, value in said.items() if name not in ("response", "request")}
    return {**shown, "nodes": [_lighter(_without_log(node), lambda items: {"items": len(items), "bytes": 0}) for node in said["nodes"]]}


def _without_log(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != "log"}


def _lighter(node: dict[str, Any], lighten: Callable[[Any], Any]) -> dict[str, Any]:
    lighter = dict(node)
    if "input" in node and not isinstance(node["input"], dict):
        lighter["input"] = lighten(node["input"])
    if isinstance(node.get("output"), dict):
        lighter["output"] = {name: items if isinstance(items, dict) else lighten(items) for name, items in node["output"].items()}
    return lighter


def _apart(items: Items, large: int, keep: Keep) -> Any:
    data = orjson.dumps(items)
    if not _goes(len(data), large):
        return items
    about: dict[str, Any] = {"items": len(items), "bytes": len(data)}
    try:
        return {"file": keep(data), **about}
    except MechawayError:
        return about


# -- read again


class Left(NotFound):
    """Items that the record does not hold, or no longer."""


class Reading:
    """A record as it is read. `open_file` gives the bytes of a file by its handle; raises `NotFound`."""

    def __init__(self, project: str, record: RunRecord, open_file: Callable[[str], bytes]) -> None:
        self.project = project
        self.line = record.line
        self.said: dict[str, Any] = orjson.loads(record.data)
        self._open_file = open_file

    @property
    def hidden(self) -> bool:
        """Whether `redact` left something out."""
        return bool(self.said.get("hidden"))

    @property
    def keys(self) -> str:
        """What the run's `$run.key` is made from: see `RunInfo.keys`."""
        return str(self.said.get("keys", ""))

    @property
    def replays(self) -> Replays | None:
        """What it goes on with, of a run that has not ended."""
        said = self.said.get("replays")
        return None if said is None else Replays(said["run"], said["at"], said.get("items"), said["only"])

    @property
    def promised(self) -> bool:
        """Whether the run was accepted."""
        return bool(self.said.get("promised"))

    def request(self) -> Request | None:
        """The request that started the run."""
        said = self.said.get("request")
        return None if said is None else Request(said["method"], said["query"], said["headers"], said["path"], said["files"])

    def start(self) -> Items:
        """The items that the run was started with. Raises `Left`."""
        if "start" in self.said:
            return self._items(self.said["start"])
        first = self.said["nodes"][0] if self.said["nodes"] else {}
        if "input" not in first:
            raise Left(f"the record of run {self.line.id} does not hold the items it was started with")
        return self._items(first["input"])

    def exits(self, wanted: Collection[str]) -> dict[str, dict[str, Items]]:
        """All that these nodes gave, as far as they ran to their end, by node and exit. Raises `Left`."""
        needed = set(wanted)
        for node in reversed(self.said["nodes"]):  # parents stand before their children
            if node["id"] in needed and node.get("output") == "input":
                needed.update(parent for parent, _ in node.get("from", ()))
        found: dict[str, dict[str, Items]] = {}
        for node in self.said["nodes"]:
            given = node.get("output")
            if node["id"] not in needed or given is None or node["status"] in BAD:
                continue
            if given == "input":
                found[node["id"]] = {MAIN: self._taken(node, found)}
            else:
                found[node["id"]] = {name: self._items(items) for name, items in given.items()}
        return {node_id: exits for node_id, exits in found.items() if node_id in wanted}

    def _taken(self, node: Mapping[str, Any], found: Mapping[str, dict[str, Items]]) -> Items:
        if "input" in node:
            return self._items(node["input"])
        parts = [found[parent][name] for parent, name in node["from"]]
        return parts[0] if len(parts) == 1 else [item for part in parts for item in part]

    def _items(self, value: Any) -> Items:
        if isinstance(value, list):
            return value
        if "file" not in value:
            raise Left(f"{value['items']} items of run {self.line.id} were too large to be kept")
        try:
            found: Items = orjson.loads(self._open_file(value["file"]))
        except NotFound:
            raise Left(f"{value['items']} items of run {self.line.id} were kept as a file, which was deleted by now") from None
        return found
