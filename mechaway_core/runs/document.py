"""What is kept of a run: a JSON document, made when the run ends and read when somebody asks.

    request?   {"method", "query", "headers", "path", "files"}
    start?     the items it was started with: of a run that has not ended
    replays?   {"run", "at", "items"?}: the run that it goes on with, from a node on
    promised?  true: it was accepted, so it is begun again when its process ends
    keys?      what `$run.key` is made from, where that is not the run's id
    nodes      [{"id", "node_type", "status", "attempts", "at_ms", "took_ms", "from", "input"?, "output", "failures"?, "error"?, "log"?}]
    output?    [node, exit]: whose items are the run's
    response?  {"status", "headers", "body", "file"?}
    error?     {"type", "message", "node"?, "status"?}
    hidden?    true: `redact` left something out, so what is here cannot be run again

What a node took is what its parents gave, so it is not written twice: `from` names them as [node, exit]; only the trigger has an `input`.
A list of items is written as it is, or, when it is large, kept as a file: {"file": handle, "items": count, "bytes": size}. One larger than
files may be is left out: {"items": count, "bytes": size}. `"output": "input"` says that a node hands on what it took.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from mechaway_core.errors import MechawayError, NotFound
from mechaway_core.node import MAIN, Items, Request
from mechaway_core.ports import RunLine, RunRecord
from mechaway_core.record import NodeRun, Replays, Run
from mechaway_core.runs.hiding import hide, hide_headers
from mechaway_core.workflow import Plan, Rules

LARGE = 64 * 1024  # bytes of a list of items that is kept as a file, in a record that is too large as a whole
MOST_ERROR = 500  # characters of an error in the line of a run

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
        None if failure is None else failure.message[:MOST_ERROR].encode("utf-8", "replace").decode(),
        run.parent,
        run.attempt,
    )


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
        if len(data) > most:
            data = orjson.dumps(_smaller(said, keep))
        if len(data) > most:
            data = orjson.dumps(_small(said))
    except TypeError:  # a node from elsewhere gave what JSON cannot hold
        data = json.dumps(_small(said), ensure_ascii=False, default=str).encode("utf-8", "replace")
    return RunRecord(line_of(run), data, known=run.opened, keep_days=_keep_days(plan.rules))


def current(run: Run, plan: Plan) -> RunRecord:
    """The record of a run as far as it is known by now: to be shown, not kept."""
    now = replace(run, nodes=run.nodes or list(run.walked.values()))
    return RunRecord(line_of(run), json.dumps(_said(now, plan), ensure_ascii=False, default=str).encode("utf-8", "replace"))


def cut_off(record: RunRecord, status: str, error: Mapping[str, Any], rules: Rules, now: float) -> RunRecord:
    """The record of an open run that will not end by itself: with the items it began with, so that it can be run again."""
    said = orjson.loads(record.data)
    said |= {
        "error": error,
        "nodes": [{"id": record.line.node, "node_type": "", "status": "skipped", "attempts": 0, "at_ms": 0, "took_ms": 0}],
    }
    said["nodes"][0]["input"] = said.pop("start")
    if "request" in said:
        said["request"] = {**said["request"], "headers": hide_headers(said["request"]["headers"])}
    line = replace(record.line, status=status, ended=now, error=str(error["message"])[:MOST_ERROR])
    data = orjson.dumps(_redacted(said, rules) if rules.redact else said)
    return RunRecord(line, data, known=True, keep_days=_keep_days(rules))


def _keep_days(rules: Rules) -> float | None:
    return None if rules.keep is None else rules.keep / 86_400


def _said(run: Run, plan: Plan) -> dict[str, Any]:
    given = {plan.index[node.id]: node for node in run.nodes if node.id in plan.index}
    first = run.nodes[0].began if run.nodes else 0.0
    said: dict[str, Any] = {"nodes": [_node(node, plan, given, node.began - first) for node in run.nodes]}
    if run.request is not None:
        said["request"] = _shown_request(run.request)
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


def _node(node: NodeRun, plan: Plan, given: Mapping[int, NodeRun], at: float) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": node.id,
        "node_type": node.node_type,
        "status": node.status,
        "attempts": node.attempts,
        "at_ms": round(at * 1000, 3),
        "took_ms": round(node.took * 1000, 3),
    }
    parents = plan.steps[plan.index[node.id]].parents
    if node.status != "skipped":
        sources = [[given[parent].id, name] for parent, name in parents if parent in given and name in given[parent].exits]
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


def _shown_request(request: Request) -> dict[str, Any]:
    return {**_request(request), "headers": hide_headers(request.headers)}


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
    if "response" in said:
        changed["response"] = {**said["response"], "body": hide(said["response"]["body"], items)}
    same = all(new is old for new, old in zip(changed["nodes"], said["nodes"], strict=True))
    if not same or changed.get("request") != said.get("request"):
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
    """Errors of items hold the item that failed, so they are looked into as well."""
    hidden = [_redacted_item(item, paths) for item in items]
    return hidden if any(new is not old for new, old in zip(hidden, items, strict=True)) else items


def _redacted_item(item: Any, paths: tuple[Any, ...]) -> Any:
    item = hide(item, paths)
    if isinstance(item, dict) and isinstance(item.get("error"), dict):
        inner = {name: hide(value, paths) if name in ("item", "items") else value for name, value in item["error"].items()}
        return {**item, "error": inner} if any(inner[name] is not value for name, value in item["error"].items()) else item
    return item


# -- records that are too large


def _smaller(said: dict[str, Any], keep: Keep) -> dict[str, Any]:
    """The same with each large list of items as a file."""
    return {**said, "nodes": [_lighter(node, lambda items: _apart(items, keep)) for node in said["nodes"]]}


def _small(said: dict[str, Any]) -> dict[str, Any]:
    """The same without items, for a run of very many nodes, or a disk that takes no files."""
    shown = {name: value for name, value in said.items() if name not in ("response", "request")}
    return {**shown, "nodes": [_lighter(_without_log(node), lambda items: {"items": len(items), "bytes": 0}) for node in said["nodes"]]}


def _without_log(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != "log"}


def _lighter(node: dict[str, Any], lighten: Callable[[Any], Any]) -> dict[str, Any]:
    lighter = dict(node)
    if isinstance(node.get("input"), list):
        lighter["input"] = lighten(node["input"])
    if isinstance(node.get("output"), dict):
        lighter["output"] = {name: lighten(items) if isinstance(items, list) else items for name, items in node["output"].items()}
    return lighter


def _apart(items: Items, keep: Keep) -> Any:
    data = orjson.dumps(items)
    if len(data) <= LARGE:
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
        return None if said is None else Replays(said["run"], said["at"], said.get("items"))

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
        """All that these nodes gave, as far as they ran, by node and exit. Raises `Left`."""
        found: dict[str, dict[str, Items]] = {}
        for node in self.said["nodes"]:  # parents stand before their children
            given = node.get("output")
            if given == "input":
                found[node["id"]] = {MAIN: self._taken(node, found)}
            elif given is not None and node["id"] in wanted:
                found[node["id"]] = {name: self._items(items) for name, items in given.items()}
        return {node_id: exits for node_id, exits in found.items() if node_id in wanted}

    def _taken(self, node: Mapping[str, Any], found: Mapping[str, dict[str, Items]]) -> Items:
        if "input" in node:
            return self._items(node["input"])
        items: Items = []
        for parent, name in node["from"]:
            items = items + found[parent][name] if parent in found else items + self.exits((parent,))[parent][name]
        return items

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
