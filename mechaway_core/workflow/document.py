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
    document = _ordered(raw, WORKFLOW_FIELDS)
    nodes = document.get("nodes")
    if isinstance(nodes, list):
        document["nodes"] = [_node(node) for node in nodes]
    edges = document.get("edges")
    if isinstance(edges, list):
        document["edges"] = [_ordered(edge, EDGE_FIELDS) if isinstance(edge, dict) else edge for edge in edges]
    elif edges is None:
        document["edges"] = []
    return document


def node_type_name(written: str) -> str:
    """The node type that a written name means: `WebhookNode` is `Webhook`, `Postgres` is `PGQuery`."""
    known = catalogue()
    if written in known:
        return written
    short = written.removesuffix("Node")
    return _TYPE_ALIASES.get(short, short if short else written)


def _node(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    if "type" in raw and "node_type" not in raw:
        raw = {("node_type" if key == "type" else key): value for key, value in raw.items()}
    node = _ordered(raw, NODE_FIELDS)
    if isinstance(node.get("node_type"), str):
        node["node_type"] = node_type_name(node["node_type"])
    if isinstance(node.get("params"), dict):
        node["params"] = _params(node["params"], node.get("node_type"))
    elif node.get("params") is None:
        node["params"] = {}
    if isinstance(node.get("retry"), dict):
        node["retry"] = {key: value for key, value in node["retry"].items() if value is not None}
    return _ordered(node, NODE_FIELDS)


def _params(params: dict[str, Any], node_type: Any) -> dict[str, Any]:
    """`null` for an absent optional param is dropped, unless null is a value that this param can have."""
    known = catalogue().get(node_type) if isinstance(node_type, str) else None
    literal = {field.name for field in params_of(known) if field.metadata.get("literal")} if known else set()
    return {name: value for name, value in params.items() if value is not None or name in literal}


def _ordered(raw: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Known fields first and in order, null ones left out; unknown ones after them."""
    known = {name: raw[name] for name in order if raw.get(name) is not None}
    return known | {name: value for name, value in raw.items() if name not in order}
