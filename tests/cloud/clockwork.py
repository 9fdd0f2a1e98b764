"""Workflows that the clock starts, and what they wrote down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.cloud.stack import Cloud
from tests.journeys.server import chain

PATIENCE = 200  # seconds: the emulator fires a rule for the first time after 67


def clock(workflow_id: str, schedule: str, timezone: str = "UTC") -> dict[str, Any]:
    """A workflow that writes down when it was due."""
    trigger = {"id": "tick", "node_type": "CronTrigger", "params": {"schedule": schedule, "timezone": timezone}}
    columns = ["workflow_id", "scheduled_for", "timestamp"]
    return chain(workflow_id, trigger, {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "fires", "columns": columns}})


def soon(timezone: str) -> str:
    """A schedule that names an hour of a zone: some minutes from now on, which in UTC are in another hour."""
    there = [datetime.now(UTC).astimezone(ZoneInfo(timezone)) + timedelta(minutes=minute) for minute in range(1, 7)]
    return f"{','.join(str(one.minute) for one in there)} {','.join(sorted({str(one.hour) for one in there}))} * * *"


def fires(server: Cloud, workflow_id: str) -> list[datetime]:
    """The due times of the runs of a workflow, in their order; one that had two runs is there twice."""
    answer = server.http.get("/api/tables/fires/rows", params={"limit": 1000})
    rows = [] if answer.status_code == 404 else answer.json()["rows"]
    return sorted(datetime.fromisoformat(row["scheduled_for"]) for row in rows if row["workflow_id"] == workflow_id)
