"""What the engine itself knows of a run, told straight from its memory: what records are compared with."""

from __future__ import annotations

from typing import Any

from mechaway_core.record import NodeRun, Run, iso


def told(run: Run, most: int) -> dict[str, Any]:
    """A run as records show it; each list of items is cut after `most`."""
    ended = run.ended if run.ended is not None else run.began
    shown: dict[str, Any] = {
        "run_id": run.info.id,
        "workflow_id": run.info.workflow_id,
        "version": run.version,
        "project": run.info.project,
        "trigger": run.info.trigger,
        "start_node": run.start_node,
        "status": run.status,
        "started_at": run.info.started_at,
        "ended_at": iso(run.ended) if run.ended is not None else None,
        "took_ms": round((ended - run.began) * 1000, 3),
        "output": run.output[:most],
        "nodes": [told_node(node, most) for node in run.nodes or list(run.walked.values())],
    }
    if run.parent is not None:
        shown["parent"] = run.parent
    if run.attempt > 1:
        shown["attempt"] = run.attempt
    if run.failure is not None:
        shown["error"] = run.failure.as_json()
    if run.response is not None:
        shown["response"] = run.response.as_json()
    return shown


def told_node(node: NodeRun, most: int) -> dict[str, Any]:
    """One node of it."""
    shown: dict[str, Any] = {
        "id": node.id,
        "node_type": node.node_type,
        "status": node.status,
        "attempts": node.attempts,
        "took_ms": round(node.took * 1000, 3),
        "items_in": len(node.given),
        "items_out": {name: len(items) for name, items in node.exits.items()},
        "input": node.given[:most],
        "output": {name: items[:most] for name, items in node.exits.items()},
    }
    if node.failures:
        shown["failures"] = node.failures
    if node.failure is not None:
        shown["error"] = node.failure.as_json()
    if node.log:
        shown["log"] = node.log
    if node.replayed:
        shown["replayed"] = True
    return shown
