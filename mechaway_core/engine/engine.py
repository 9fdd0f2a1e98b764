"""Runs of plans: made, walked, and put on record."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mechaway_core.engine.context import RunFiles
from mechaway_core.engine.secrets import RunSecrets
from mechaway_core.engine.walk import Carried, Walk
from mechaway_core.engine.world import World
from mechaway_core.errors import ScriptError
from mechaway_core.node import Items, RunInfo
from mechaway_core.record import Failure, Run, iso, new_run_id
from mechaway_core.sandbox import Limits, LuaExpression
from mechaway_core.workflow import Plan, Step

log = logging.getLogger("mechaway.engine")


class Engine:
    """Runs plans. One for a whole process; `close` ends its helper threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        helpers = world.settings.max_branches
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="mechaway-branch") if helpers else None
        self._limits = Limits(world.settings.lua_memory_mb, world.settings.lua_timeout)

    def prepare(self, plan: Plan, trigger: Step, project: str, kind: str, run_id: str | None = None, keys: str = "") -> Run:
        """A run that has not begun: it has an id and is `queued`. Its request, if there is one, is set before it runs."""
        began = self.world.clock.now()
        info = RunInfo(run_id or new_run_id(began), plan.workflow_id, project, iso(began), kind, keys)
        return Run(info, plan.version, trigger.id, began=began)

    def area(self, run: Run) -> RunFiles:
        """The files of a run, for what is kept before it begins."""
        return RunFiles(self.world, run.info)

    def cleaned(self, plan: Plan, run: Run, items: Items) -> Items:
        """The items, and the run's request, as its nodes will see them: without the secrets that it needs. For what is kept before it runs.

        Raises `Unavailable` when the vault cannot be opened.
        """
        needed = plan.start(plan.index[run.start_node]).secrets
        if not (needed or run.shown):
            return items
        secrets = RunSecrets()
        secrets.open(self._there(run.info.project, needed), self._there(run.info.project, run.shown))
        run.request = secrets.request(run.request)
        return secrets.clean(items)

    def _there(self, project: str, names: Collection[str]) -> Mapping[str, str]:
        missing = self.world.vault.missing(project, names)
        return self.world.vault.values(project, [name for name in names if name not in missing])

    def run(self, plan: Plan, run: Run, items: Items, timeout: float | None = None, carried: Carried | None = None) -> Run:
        """Walk the plan from the run's trigger with these items until it ends, well or not; never raises.

        `timeout`, in seconds, cuts the time that the workflow or the server allows a run. `carried` is what it has of another run.
        """
        start = plan.index[run.start_node]
        allowed = plan.timeout if plan.timeout is not None else self.world.settings.run_timeout
        limit = allowed if timeout is None else min(allowed, timeout)
        walk = Walk(self, plan, plan.start(start), run, items, self.world.clock.monotonic() + limit, limit, carried)
        run.status = "running"
        run.walked = walk.records
        try:
            if not (walk.start.secrets or run.shown) or walk.unlock():
                walk.go(None if walk.start.chain else self._helpers)
        except Exception:  # a mistake of ours; the caller still gets an answer and the log says the rest
            log.exception("run %s of workflow %s ended by a mistake in the engine", run.info.id, plan.workflow_id, extra=run.about())
            run.failure = Failure("internal", "the engine failed unexpectedly; the server's log says more")
        run.nodes = [walk.records[index] for index in walk.start.order if index in walk.records]
        run.status = _status(run.failure)
        if run.failure is None:
            run.output = walk.output()
            run.response = walk.response()
        run.ended = max(self.world.clock.now(), run.began)  # the clock of the machine may have been set back meanwhile
        return run

    def lua_limits(self, memory_mb: int | None, timeout: float | None) -> Limits:
        """The limits of one execution; what a node asks for is kept within the server's."""
        if memory_mb is None and timeout is None:
            return self._limits
        settings = self.world.settings
        return Limits(
            min(memory_mb or settings.lua_memory_mb, settings.lua_memory_mb_max),
            min(timeout or settings.lua_timeout, settings.lua_timeout_max),
        )

    def evaluate(self, needed: Sequence[LuaExpression], rows: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any] | ScriptError]:
        """Lua expressions that belong to no run yet."""
        return self.world.sandbox.evaluate(needed, rows, self._limits, deadline=self.world.clock.monotonic() + self._limits.timeout)

    def close(self) -> None:
        """End the helper threads, once what they do is done."""
        if self._helpers is not None:
            self._helpers.shutdown(cancel_futures=True)


def _status(failure: Failure | None) -> Any:
    if failure is None:
        return "succeeded"
    return {"timeout": "timed_out", "cancelled": "cancelled"}.get(failure.kind, "failed") if failure.node is None else "failed"
