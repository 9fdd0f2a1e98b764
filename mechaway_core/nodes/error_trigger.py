"""The node that starts a run when another run failed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar, Literal

from mechaway_core.names import ID_RULE, is_id, shorten
from mechaway_core.node import Trigger, param
from mechaway_core.settings import Settings

Event = Literal["failed", "timed_out", "lost", "missed", "cancelled"]


class ErrorTrigger(Trigger):
    """Start a run when a run of another workflow failed, took too long, was lost with its process, or was missed by the clock.

    Gives one item: the `event`, and the record of the run without secrets: `run_id`, `workflow_id`, `status`, `error` with `type`,
    `message` and `node`, `nodes`, and what else `GET /api/runs/{id}` answers. Of due times that were missed there is no run: the item has
    `workflow_id`, `node`, `due` (the last of them), `missed` (how many) and `error`. A run that this trigger started, and one of the same
    workflow, starts it not again.
    """

    group: ClassVar[str] = "Triggers"

    workflows: list[str] | None = param(
        "Ids of the workflows to hear of; all of the project when left out. A workflow whose `settings.on_failure` names this one is heard "
        "of in any case.",
        None,
    )
    events: list[Event] = param(
        "What to hear of: failed, timed_out, lost, missed, cancelled.", default_factory=lambda: ["failed", "timed_out", "lost", "missed"]
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        for number, one in enumerate(self.workflows or ()):
            if not is_id(one):
                yield f"workflows/{number}", f'"{shorten(one)}" cannot be the id of a workflow: an id {ID_RULE}'
        if not self.events:
            yield "events", "the list of events is empty; leave it out for failed, timed_out, lost and missed"

    @cached_property
    def named(self) -> frozenset[str] | None:
        """The workflows to hear of; None for all."""
        return None if self.workflows is None else frozenset(self.workflows)
