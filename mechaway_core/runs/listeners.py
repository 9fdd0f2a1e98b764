"""Who hears of runs that failed, were lost or were missed: workflows with an `ErrorTrigger`.

    listeners/{workflow}    {}

A note says that a workflow may listen, so that nobody has to look through all of them when a run fails. It is made before the document
that asks for it is saved and goes after one that asks no longer; what is cut off between the two is a note about nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mechaway_core.errors import Invalid, MechawayError, NotFound
from mechaway_core.ports import Store
from mechaway_core.registry import Registry
from mechaway_core.storage import Workflows
from mechaway_core.workflow import Plan, Step

KIND = "ErrorTrigger"

_NOTES = "listeners/"

log = logging.getLogger("mechaway.runs")


def listens(document: Mapping[str, Any]) -> bool:
    """Whether a canonical document has a trigger that hears of failures and is switched on."""
    if not document.get("active", True):
        return False
    return any(node["node_type"] == KIND and not node.get("disabled", False) for node in document["nodes"])


class Listeners:
    """The listeners of all projects."""

    def __init__(self, store: Store, workflows: Workflows, registry: Registry) -> None:
        self._store = store
        self._workflows = workflows
        self._registry = registry

    @contextmanager
    def saving(self, project: str, document: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[None]:
        """Keep the notes in step while the document is saved inside; `before` is what it replaces."""
        if listens(document):
            self._store.put(project, _NOTES + document["id"], b"{}")
        try:
            yield
        finally:
            if before is not None and listens(before) and not listens(document):
                self.settle(project, document["id"])

    def settle(self, project: str, workflow_id: str) -> None:
        """Make the note about a workflow what its document says."""
        try:
            if self._asks(project, workflow_id):
                self._store.put(project, _NOTES + workflow_id, b"{}")
            elif self._store.delete(project, _NOTES + workflow_id) and self._asks(project, workflow_id):
                self._store.put(project, _NOTES + workflow_id, b"{}")  # it was saved meanwhile
        except MechawayError as error:
            log.warning("whether workflow %s in project %s hears of failures could not be noted: %s", workflow_id, project, error)

    def settle_project(self, project: str) -> None:
        """The same for all workflows of a project that was imported."""
        after = ""
        with contextlib.suppress(NotFound):
            while entries := self._workflows.find(project, after):
                for entry in entries:
                    if listens(entry.document):
                        self._store.put(project, _NOTES + entry.document["id"], b"{}")
                after = str(entries[-1].document["id"])

    def find(self, project: str, workflow_id: str, event: str, named: str | None) -> list[tuple[Plan, Step]]:
        """The triggers that an event of a workflow starts; `named` is the workflow that its `on_failure` names.

        A workflow does not hear of itself.
        """
        ids = dict.fromkeys([key.removeprefix(_NOTES) for key in self._store.keys(project, _NOTES)] + ([named] if named else []))
        found = [(one, self._plan(project, one)) for one in ids if one != workflow_id]
        return [
            (plan, step)
            for one, plan in found
            if plan is not None
            for step in plan.triggers
            if step.node_type == KIND and not step.disabled and self._hears(step, workflow_id, event, one == named)
        ]

    def _hears(self, step: Step, workflow_id: str, event: str, named: bool) -> bool:
        node: Any = step.node
        return event in node.events and (named or (node.named is None or workflow_id in node.named))

    def _plan(self, project: str, workflow_id: str) -> Plan | None:
        try:
            plan = self._registry.get(project, workflow_id)
        except (NotFound, Invalid) as error:
            log.error("workflow %s in project %s cannot hear of failures: %s", workflow_id, project, error)
            return None
        return plan if plan.active else None

    def _asks(self, project: str, workflow_id: str) -> bool:
        try:
            return listens(self._workflows.get(project, workflow_id).document)
        except NotFound:
            return False
