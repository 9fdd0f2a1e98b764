"""Workflows that ask for schedules, for tests of what keeps time."""

from __future__ import annotations

from typing import Any


def clockwork(workflow: str = "wf", *nodes: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A workflow that writes the item of each of its triggers, (id, expression), into the table `seen`."""
    triggers = nodes or (("tick", "*/5 * * * *"),)
    columns = ["scheduled_for", "workflow_id", "project_slug", "trigger_type"]
    return {
        "id": workflow,
        "nodes": [
            *({"id": node, "node_type": "CronTrigger", "params": {"schedule": expression}} for node, expression in triggers),
            {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": columns}},
        ],
        "edges": [{"from": node, "to": "save"} for node, _ in triggers],
    } | more
