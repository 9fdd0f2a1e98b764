"""Documents to be checked, and what is said about them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow.check import Checked, check

SETTINGS = Settings()
Document = dict[str, Any]


def hook(node_id: str = "hook", path: Any = "/a", **more: Any) -> Document:
    params = {"path": path} | {name: more.pop(name) for name in ("method", "respond", "mode", "auth") if name in more}
    return {"id": node_id, "node_type": "Webhook", "params": params} | more


def lua(node_id: str = "calc", script: Any = "return data", **more: Any) -> Document:
    params = {"script": script} | {name: more.pop(name) for name in ("memory_mb",) if name in more}
    return {"id": node_id, "node_type": "FunLogic", "params": params} | more


def writer(node_id: str = "save", table: Any = "t", columns: Any = ("a",), inputs: Any = None, **params: Any) -> Document:
    node: Document = {"id": node_id, "node_type": "SimpleTableWriter", "params": {"table": table, "columns": list(columns)} | params}
    return node if inputs is None else node | {"inputs": inputs}


def node_of(node_type: str, params: Document, **more: Any) -> Document:
    return {"id": "x", "node_type": node_type, "params": params} | more


def edge(source: str, target: str, **more: Any) -> Document:
    return {"from": source, "to": target} | more


def chain(*nodes: Document, **more: Any) -> Document:
    """A workflow of nodes one after the other."""
    edges = [edge(before["id"], after["id"]) for before, after in pairwise(nodes)]
    return {"id": "w", "nodes": list(nodes), "edges": edges} | more


def after_hook(*nodes: Document, **more: Any) -> Document:
    """A workflow of one webhook and nodes that each follow it."""
    return {"id": "w", "nodes": [hook(), *nodes], "edges": [edge("hook", node["id"]) for node in nodes]} | more


def look(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Checked:
    return check(document, sandbox, settings)


Report = list[tuple[str, str | None, str]]


def errors(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Report:
    return [(one.pointer, one.node, one.message) for one in look(sandbox, document, settings).errors]


def warnings(sandbox: Sandbox, document: Any, settings: Settings = SETTINGS) -> Report:
    return [(one.pointer, one.node, one.message) for one in look(sandbox, document, settings).warnings]


def assert_says(report: Report, pointer: str, node: str | None, *words: str) -> None:
    """That one problem is there, and alone."""
    assert len(report) == 1, report
    assert_has(report, pointer, node, *words)


def assert_has(report: Report, pointer: str, node: str | None, *words: str) -> None:
    """That one problem is among others."""
    here = [message for where, who, message in report if (where, who) == (pointer, node)]
    assert any(all(word in message for word in words) for message in here), report
