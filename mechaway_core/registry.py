"""Compiled workflows by project and id, each swapped whole when its stored version changes.

Every lookup asks the store whether what is compiled is still current: a point read of some microseconds locally, a conditional GET on
S3. So a change that was saved, by whatever process, is what the next request gets. No lock: entries are immutable, and the worst
that two threads can do is to compile the same version twice.
"""

from __future__ import annotations

from typing import NamedTuple

from mechaway_core.errors import NotFound
from mechaway_core.ports import Unchanged
from mechaway_core.storage import Workflows
from mechaway_core.workflow import Plan, compile_plan


class _Compiled(NamedTuple):
    token: str
    plan: Plan


class Registry:
    """Plans, compiled when first needed; at most `most` are kept."""

    def __init__(self, workflows: Workflows, most: int) -> None:
        self._workflows = workflows
        self._most = most
        self._compiled: dict[tuple[str, str], _Compiled] = {}

    def get(self, project: str, workflow_id: str) -> Plan:
        """The plan of the current version. Raises `NotFound`, and `Invalid` when this server cannot run that version."""
        key = (project, workflow_id)
        have = self._compiled.get(key)
        try:
            entry = self._workflows.get_if_changed(project, workflow_id, have.token if have else None)
        except NotFound:
            self._compiled.pop(key, None)
            raise
        if isinstance(entry, Unchanged):
            assert have is not None
            return have.plan
        plan = compile_plan(entry.document, entry.version)
        self._compiled[key] = _Compiled(entry.token, plan)
        if len(self._compiled) > self._most:
            self._drop_oldest(key)
        return plan

    def _drop_oldest(self, keep: tuple[str, str]) -> None:
        try:
            oldest = next(iter(self._compiled))
        except (StopIteration, RuntimeError):  # another thread changes it just now; the next one that adds drops one
            return
        if oldest != keep:
            self._compiled.pop(oldest, None)
