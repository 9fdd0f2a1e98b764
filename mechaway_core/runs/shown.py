"""Records as people see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechaway_core.node import MAIN
from mechaway_core.ports import RunLine
from mechaway_core.record import iso

if TYPE_CHECKING:
    from mechaway_core.runs.document import Reading


def shown_line(line: RunLine) -> dict[str, Any]:
    """A run as lists show it."""
    ended = line.ended
    said: dict[str, Any] = {
        "run_id": line.id,
        "workflow_id": line.workflow_id,
        "version": line.version,
        "status": line.status,
        "trigger": line.trigger,
        "start_node": line.node,
        "started_at": iso(line.began),
        "ended_at": None if ended is None else iso(ended),
        "took_ms": None if ended is None else round((ended - line.began) * 1000, 3),
    }
    if line.error is not None:
        said["message"] = line.error
    if line.parent is not None:
        said["parent"] = line.parent
    if line.attempt > 1:
        said["attempt"] = line.attempt
    return said


def shown(reading: Reading, most: int) -> dict[str, Any]:
    """A record in the shape that a manual start answers."""
    said = reading.said
    answer = {name: value for name, value in shown_line(reading.line).items() if name != "message"}
    answer["project"] = reading.project
    lists = _Lists(most)
    nodes = [_node(node, lists) for node in said["nodes"]]
    if "request" in said:
        answer["request"] = {name: value for name, value in said["request"].items() if value or name == "method"}
    if "start" in said:
        answer["input"] = lists.cut(said["start"])
    if reading.line.ended is not None:
        node_id, name = said.get("output", ("", ""))
        answer["output"] = lists.cut(lists.given[node_id][name]) if node_id else []
    answer["nodes"] = nodes
    for name in ("error", "response"):
        if name in said:
            answer[name] = said[name]
    if said.get("hidden"):
        answer["redacted"] = True
    return answer


class _Lists:
    """Lists of items, inside the record or only counted by it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.given: dict[str, dict[str, Any]] = {}  # by node and exit

    def taken(self, node: Mapping[str, Any]) -> Any:
        """What a node took; its parents have been looked at before."""
        if "input" in node:
            return node["input"]
        parts = [self.given[parent][name] for parent, name in node.get("from", ())]
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, list) for part in parts):
            return [item for part in parts for item in part]
        return {"items": sum(count(part) for part in parts), "bytes": sum(0 if isinstance(part, list) else part["bytes"] for part in parts)}

    def cut(self, items: Any) -> Any:
        """At most so many of them; of those that are not inside the record, where they are."""
        return items[: self._most] if isinstance(items, list) else items


def count(items: Any) -> int:
    """How many items there are in a list, or in one that was kept apart."""
    return len(items) if isinstance(items, list) else int(items["items"])


def _node(node: Mapping[str, Any], lists: _Lists) -> dict[str, Any]:
    taken = lists.taken(node)
    given = node.get("output", {})
    exits = {MAIN: taken} if given == "input" else given
    lists.given[node["id"]] = exits
    answer: dict[str, Any] = {name: node[name] for name in ("id", "node_type", "status", "attempts", "at_ms", "took_ms")}
    answer |= {
        "items_in": count(taken),
        "items_out": {name: count(items) for name, items in exits.items()},
        "input": lists.cut(taken),
        "output": {name: lists.cut(items) for name, items in exits.items()},
    }
    for name in ("failures", "error", "log"):
        if name in node:
            answer[name] = node[name]
    if node.get("replayed"):
        answer["replayed"] = True
    return answer
