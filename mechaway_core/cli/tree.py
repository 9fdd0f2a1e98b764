"""The record of a run on a screen: a line of the run, then its nodes as the graph has them, each below the last of its parents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechaway_core.cli.screen import Screen, clean, local_time, span

_DEEPEST = 20  # levels of indentation; a long chain goes on below each other

_Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is shown of each node beside its line."""

    log: bool
    items: bool


def lines(record: Mapping[str, Any], edges: Sequence[Mapping[str, Any]], wanted: Wanted, screen: Screen) -> Iterator[str]:
    """The lines of a record; `edges` are those of the document that ran, empty where that is gone."""
    yield _head(record, screen)
    nodes = in_tree(record["nodes"], edges)
    said = [node["error"]["message"] for _, node in nodes if "error" in node]
    if "error" in record and record["error"]["message"] not in said:
        yield from _error(record["error"], "  ", screen)
    if wanted.items and "input" in record:
        yield from _items("in", record["input"], "  ", screen)
    if not nodes:
        yield "  nothing is on record yet of what its nodes did" if record["ended_at"] is None else "  no node of it is on record"
    width = max((2 * depth + len(node["id"]) for depth, node in nodes), default=0)
    types = max((len(node["node_type"]) for _, node in nodes), default=0)
    for depth, node in nodes:
        yield _line(node, depth, width, types, screen)
        yield from _below(node, "  " * (depth + 3), wanted, screen)
    if record.get("redacted"):
        yield "  some values are not on record (settings.redact)"


def in_tree(nodes: Sequence[_Node], edges: Sequence[Mapping[str, Any]]) -> list[tuple[int, _Node]]:
    """Nodes and how deep each stands. One with several parents comes when the last of them has come."""
    known = {node["id"]: node for node in nodes}
    pairs = {(edge["from"], edge["to"]): None for edge in edges if edge["from"] in known and edge["to"] in known}
    children = {one: [child for child in known if (one, child) in pairs] for one in known}
    missing = {one: sum(child == one for _, child in pairs) for one in known}
    stack = [(0, one) for one in reversed(known) if not missing[one]]
    found = []
    while stack:
        depth, one = stack.pop()
        found.append((min(depth, _DEEPEST), known[one]))
        for child in children[one]:
            missing[child] -= 1
        stack += [(depth + 1, child) for child in reversed(children[one]) if not missing[child]]
    return found


def _head(record: Mapping[str, Any], screen: Screen) -> str:
    status = record["status"]
    parts = [
        f"{screen.mark(status)} {screen.colour(status, status)}",
        f"{record['workflow_id']}, {_version(record)}",
        record["trigger"],
        local_time(record["started_at"]),
    ]
    if record["took_ms"] is not None:
        parts.append(span(record["took_ms"]))
    if record.get("attempt", 1) > 1:
        parts.append(f"attempt {record['attempt']}")
    if "parent" in record:
        parts.append(f"{'repeats' if record['trigger'] == 'replay' else 'because of'} {record['parent']}")
    return " · ".join(parts)


def _version(record: Mapping[str, Any]) -> str:
    return f"version {record['version']}" if record["version"] else "not saved"


def _line(node: _Node, depth: int, width: int, types: int, screen: Screen) -> str:
    mark = "replayed" if node.get("replayed") else node["status"]
    name = f"{'  ' * depth}{screen.mark(mark)} {node['id']}{' ' * (width - 2 * depth - len(node['id']))}"
    line = f"  {name}  {node['node_type']:<{types}}"
    if node["status"] == "skipped":
        return f"{line}  {'–':>9}  {screen.colour('skipped', 'skipped')}"
    exits = ", ".join(f"{count}" if name == "main" else f"{count} by {name}" for name, count in node["items_out"].items())
    parts = [f"{node['items_in']} → {exits or '–'}"]
    if node.get("replayed"):
        parts.append("from the earlier run")
    elif node["status"] in ("disabled", "cancelled", "timed_out"):
        parts.append(screen.colour(node["status"], node["status"]))
    if node["attempts"] > 1:
        parts.append(f"{node['attempts']} attempts")
    if node.get("failures"):
        parts.append(f"{node['failures']} failed")
    took = "–" if node.get("replayed") else span(node["took_ms"])
    return f"{line}  {took:>9}  {', '.join(parts)}"


def _below(node: _Node, indent: str, wanted: Wanted, screen: Screen) -> Iterator[str]:
    if "error" in node:
        yield from _error(node["error"], indent, screen)
    if wanted.log:
        for said in node.get("log", ()):
            yield from _text(f"log: {said}", indent)
    if wanted.items and (node["input"] or node["status"] != "skipped"):
        yield from _items("in", node["input"], indent, screen)
        for name, items in node["output"].items():
            yield from _items(f"out by {name}", items, indent, screen, node["items_out"][name])


def _error(error: Mapping[str, Any], indent: str, screen: Screen) -> Iterator[str]:
    for line in _text(f"{error['type']}: {error['message']}", indent):
        yield indent + screen.colour(line.removeprefix(indent), "failed")


def _text(text: str, indent: str) -> Iterator[str]:
    return (indent + line for line in clean(text).splitlines())


def _items(what: str, items: Any, indent: str, screen: Screen, count: int | None = None) -> Iterator[str]:
    """A line for each item, or where those are that the record itself does not hold."""
    if isinstance(items, list):
        for item in items:
            yield indent + screen.fit(f"{what}: {json.dumps(item, ensure_ascii=False)}", len(indent))
        if count is not None and count > len(items):
            yield f"{indent}{what}: … {count - len(items)} more"
    elif "file" in items:
        yield f"{indent}{what}: {items['items']} items of {items['bytes']} bytes in the file {items['file']}"
    else:
        yield f"{indent}{what}: {items['items']} items, which were too large to be kept"
