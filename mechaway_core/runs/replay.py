"""Runs again: from the start, from where it failed, or from any node, by the same version of the workflow or the current one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mechaway_core.engine import Carried
from mechaway_core.errors import Conflict, Invalid, MechawayError
from mechaway_core.names import did_you_mean, shorten
from mechaway_core.node import Items
from mechaway_core.ports import RunQuery
from mechaway_core.record import Replays, Run
from mechaway_core.runs.document import BAD, Reading
from mechaway_core.runs.recorder import Pending
from mechaway_core.runs.runs import Runs
from mechaway_core.workflow import Plan

START, FAILED = "start", "failed"
MOST = 1000  # runs of one replay by filter


@dataclass(frozen=True, slots=True)
class Wish:
    """How a run is to be run again. `start` is "start", "failed", or the id of a node; `items` take the place of those it took."""

    start: str = FAILED
    version: Literal["same", "current"] = "current"
    items: Items | None = None


def replay(runs: Runs, project: str, run_id: str, wish: Wish) -> tuple[Run, Pending]:
    """A run that repeats another one, accepted once what is pending is on record.

    Raises `NotFound`, `Conflict` while the other one goes on, `Invalid` for a wish that cannot be.
    """
    reading = runs.reading(project, run_id)
    line = reading.line
    if line.ended is None:
        raise Conflict(f"run {run_id} goes on; it can be run again when it is over")
    plan = runs.plan(project, line.workflow_id, line.version if wish.version == "same" else None)
    place = plan.index.get(line.node)
    if place is None or not plan.steps[place].node.trigger:
        raise Invalid(f'version {plan.version} of workflow "{line.workflow_id}" has no trigger "{line.node}", at which run {run_id} began')
    at = _node(reading, plan, wish.start, place)
    if reading.hidden and not (at is None and wish.items is not None):
        raise Invalid(f"the record of run {run_id} lacks what redact names, so it cannot be run again; from start it can, with items")
    keys = reading.keys or line.id if wish.start == FAILED else ""
    run = runs.engine.prepare(plan, plan.steps[place], project, "replay", keys=keys)
    run.request, run.parent = reading.request(), run_id
    if at is None:
        return run, runs.accept(plan, run, wish.items if wish.items is not None else reading.start())
    run.replays = Replays(run_id, at, wish.items, only=wish.start != FAILED)
    carried = runs.carried(project, run.replays, plan)
    if run.replays.only and wish.items is None and not _takes(plan, at, carried):
        raise Invalid(f'run {run_id} never came to node "{at}", so there is nothing that it took; say items')
    return run, runs.accept(plan, run, reading.start(), carried)


def _takes(plan: Plan, node_id: str, carried: Carried) -> bool:
    """Whether a node has a live parent in what was carried over."""
    return any(name in carried.exits.get(parent, ()) for parent, name in plan.steps[plan.index[node_id]].parents)


def _node(reading: Reading, plan: Plan, start: str, trigger: int) -> str | None:
    """The node to begin at; None for the start."""
    if start == START:
        return None
    if start == FAILED:
        bad = next((node["id"] for node in reading.said["nodes"] if node["status"] in BAD), None)
        if bad is None and reading.line.status == "succeeded":
            raise Conflict(f'run {reading.line.id} succeeded; to run it again, say from: "start" or a node')
        if bad is None or bad == plan.steps[trigger].id:
            return None
        if bad not in plan.index:
            raise Invalid(f'run {reading.line.id} failed at node "{bad}", which the workflow does not have any more; say another node')
        return str(bad)
    place = plan.index.get(start)
    if place is None:
        raise Invalid(f'there is no node "{shorten(start)}" in version {plan.version} of the workflow{did_you_mean(start, plan.index)}')
    if place not in plan.start(trigger).order:
        raise Invalid(f'no run that begins at "{plan.steps[trigger].id}" comes to node "{start}"')
    return None if place == trigger else start


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay by filter: for each run the one that repeats it, or why none does. `more`: others fit as well."""

    runs: tuple[tuple[str, str | None, str | None], ...]
    more: bool

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        lines = [
            {"run_id": run_id} | ({} if again is None else {"replayed_by": again}) | ({} if problem is None else {"problem": problem})
            for run_id, again, problem in self.runs
        ]
        return {"runs": lines, "count": len(lines), "more": self.more}


def replay_all(runs: Runs, project: str, query: RunQuery, wish: Wish, *, act: bool) -> Replayed:
    """Run all runs again that fit, oldest first, `MOST` of the newest at most; or only tell which these are."""
    ids: list[str] = []
    after: str | None = query.after
    while len(ids) < MOST:
        page = runs.records.find(project, query._replace(after=after, limit=min(query.limit, MOST - len(ids))))
        ids += [line.id for line in page.lines if line.ended is not None]
        after = page.after
        if after is None:
            break
    return Replayed(tuple(_one(runs, project, run_id, wish, act) for run_id in reversed(ids)), after is not None)


def _one(runs: Runs, project: str, run_id: str, wish: Wish, act: bool) -> tuple[str, str | None, str | None]:
    if not act:
        return run_id, None, None
    try:
        run, pending = replay(runs, project, run_id, wish)
        pending.wait()
    except MechawayError as error:
        return run_id, None, str(error)
    return run_id, run.info.id, None
