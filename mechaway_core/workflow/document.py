"""The canonical form of a document: the fields in one order, aliases replaced, absent optional fields left out.

Nothing here refuses anything: what has the wrong shape is passed on as it is, for `check` to say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mechaway_core.node import params_of
from mechaway_core.nodes import catalogue

WORKFLOW_FIELDS = ("id", "name", "description", "active", "settings", "nodes", "edges", "meta")
NODE_FIELDS = (
    "id",
    "name",
    "node_type",
    "disabled",
    "params",
    "inputs",
    "outputs",
    "secrets",
    "timeout",
    "retry",
    "on_error",
    "meta",
)
EDGE_FIELDS = ("from", "to", "on", "meta")

_TYPE_ALIASES = {"Postgres": "PGQuery"}


def canonical(raw: Any) -> Any:
    """A document in canonical form. Unknown fields are kept, after the known ones, so that the check can name them."""
    if not isinstance(raw, dict):
        return raw
    document = _ordered({**raw, "edges": [] if raw.get("edges") is None else raw["edges"]}, WORKFLOW_FIELDS)
    if isinstance(document.get("settings"), dict):
        document["settings"] = _without_nulls(document["settings"])
    nodes = document.get("nodes")
    if isinstance(nodes, list):
        document["nodes"] = [_node(node) for node in nodes]
    edges = document.get("edges")
    if isinstance(edges, list):
        document["edges"] = [_ordered(edge, EDGE_FIELDS) if isinstance(edge, dict) else edge for edge in edges]
    return document


def node_type_name(written: str) -> str:
    """The node type that a written name means: `WebhookNode` is `Webhook`, `Postgres` is `PGQuery`."""
    known = catalogue()
    if written in known:
        return written
    short = written.removesuffix("Node")
    meant = _TYPE_ALIASES.get(short, short)
    return meant if meant in known or meant in _TYPE_ALIASES.values() else written


def _node(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    if "type" in raw and raw.get("node_type") is None:
        raw = {("node_type" if key == "type" else key): value for key, value in raw.items() if key != "node_type"}
    elif raw.get("type", "") is None:
        raw = {key: value for key, value in raw.items() if key != "type"}
    node = dict(raw)
    if isinstance(node.get("node_type"), str):
        node["node_type"] = node_type_name(node["node_type"])
    if isinstance(node.get("params"), dict):
        node["params"] = _params(node["params"], node.get("node_type"))
    elif node.get("params") is None:
        node["params"] = {}
    if isinstance(node.get("retry"), dict):
        node["retry"] = _without_nulls(node["retry"])
    return _ordered(node, NODE_FIELDS)


def _params(params: dict[str, Any], node_type: Any) -> dict[str, Any]:
    """`null` for an absent optional param, or field inside one, is dropped, unless it is a value that the param can have."""
    known = catalogue().get(node_type) if isinstance(node_type, str) else None
    free = {field.name for field in params_of(known) if field.metadata.get("literal")} if known else set()
    return {name: value if name in free else _without_nulls(value) for name, value in params.items() if value is not None or name in free}


def _without_nulls(value: Any) -> Any:
    """A value with the null fields of its objects left out, however deep; nulls in lists are kept."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _ordered(raw: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Known fields first and in order, null ones left out; unknown ones after them."""
    known = {name: raw[name] for name in order if raw.get(name) is not None}
    return known | {name: value for name, value in raw.items() if name not in order}
