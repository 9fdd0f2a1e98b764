"""Calls of webhooks: from the request to the run that answers it."""

from __future__ import annotations

from typing import Any, NamedTuple

from mechaway_core import triggers
from mechaway_core.access import Door
from mechaway_core.access.deliveries import WINDOW, Claim, Delivery
from mechaway_core.access.webhook import Lock
from mechaway_core.engine import Engine
from mechaway_core.errors import NotAllowed, NotFound
from mechaway_core.node import Items, Node
from mechaway_core.ports import Clock, Files
from mechaway_core.record import Run
from mechaway_core.registry import Registry
from mechaway_core.runs import Pending, Runs
from mechaway_core.settings import Settings
from mechaway_core.workflow import Plan, Step

ACCEPTING = 25.0  # seconds from the claim to a delivery to the record of the run that was accepted, at most


class Answered(NamedTuple):
    """A run that a webhook started, and the webhook itself. It is over, or has been `accepted` and is to begin.

    Nobody may hear of it before what is `pending` is on record. `claim`, when there is one, waits to be settled with the answer then.
    """

    run: Run
    webhook: Node
    claim: Claim | None = None
    pending: Pending | None = None
    accepted: bool = False


class Calls:
    """Answers calls of webhooks. Methods raise the errors of `errors.py`."""

    def __init__(self, settings: Settings, registry: Registry, engine: Engine, runs: Runs, files: Files, door: Door, clock: Clock) -> None:
        self.settings = settings
        self.door = door
        self._registry = registry
        self._engine = engine
        self._runs = runs
        self._files = files
        self._clock = clock

    def expect(self, project: str, workflow_id: str, call: triggers.Call) -> None:
        """Raise what `answer` would raise for the head of a webhook call alone, before its body is read: it may be a large one."""
        _, step, _ = self._find(project, workflow_id, call)
        lock = _lock(step)
        if lock is not None:
            self.door.check_head(lock, project, call.headers, call.client)

    def answer(self, project: str, workflow_id: str, call: triggers.Call) -> Answered:
        """Run the workflow that a webhook call is for to its end, or accept the run. Raises `NotFound`, `NotAllowed`, `Malformed`, …

        The caller is looked at before its body is read (`Refused`). A delivery that was answered before raises `Delivered`, one that was
        accepted before `KeptBefore`.
        A run that fails is not an error here: its record says so.
        """
        plan, step, named = self._find(project, workflow_id, call)
        lock = _lock(step)
        if lock is not None:
            self.door.unlock(lock, project, call.headers, triggers.body_chunks(call), call.client)
        run = self._engine.prepare(plan, step, project, "webhook")
        run.shown = lock.secrets if lock is not None and lock.hides else ()
        items = self.read(run, call, named, lock.hides if lock is not None else "")
        claim = self._claim(plan, step, run, items, call)
        try:
            if _accepts(step):
                return Answered(run, step.node, claim, self._accept(plan, run, items), accepted=True)
            return Answered(run, step.node, claim, self._runs.run(plan, run, items, self._patience(call.until)))
        except BaseException:
            if claim is not None:
                claim.release()
            raise

    def _accept(self, plan: Plan, run: Run, items: Items) -> Pending:
        try:
            return self._runs.accept(plan, run, items)
        except BaseException:
            self._forget_files(run)
            raise

    def takes(self, project: str, workflow_id: str, call: triggers.Call) -> bool:
        """Whether a webhook answers this call; nothing is run."""
        try:
            self._find(project, workflow_id, call)
        except (NotFound, NotAllowed):
            return False
        return True

    def _find(self, project: str, workflow_id: str, call: triggers.Call) -> tuple[Plan, Step, dict[str, str]]:
        plan = self._registry.get(project, workflow_id)
        if not plan.active:
            raise NotFound(f'workflow "{workflow_id}" is switched off (active: false)')
        return plan, *triggers.route(plan, call)

    def read(self, run: Run, call: triggers.Call, named: dict[str, str], hide: str = "") -> Items:
        """The items that a call brings; what else it says becomes the run's request. Its files are kept under the run's id."""
        try:
            run.request, items = triggers.read(call, named, self._engine.area(run), self.settings, hide)
        except BaseException:
            self._forget_files(run)
            raise
        finally:
            if call.spool is not None:  # its files are kept by now; a run that takes long need not keep it too
                call.spool.close()
        return items

    def _forget_files(self, run: Run) -> None:
        """What is kept for a run before it begins goes again when something keeps it from beginning."""
        self._files.delete(run.info.project, run.info.id)

    def _claim(self, plan: Plan, step: Step, run: Run, items: Items, call: triggers.Call) -> Claim | None:
        """The right to answer this delivery, where the webhook or the caller tells deliveries apart."""
        try:
            delivery = self._delivery(plan, step, run, items, call)
            if delivery is None:
                return None
            project = run.info.project
            kept: dict[str, Any] = {"is_kept": lambda run_id: self._runs.is_kept(project, run_id)} if _accepts(step) else {}
            claim = self.door.deliveries.claim(project, plan.workflow_id, step.id, delivery, **kept)
        except BaseException:
            self._forget_files(run)
            raise
        if claim.keys != run.info.id:
            run.info = run.info._replace(keys=claim.keys)
        return claim

    def _delivery(self, plan: Plan, step: Step, run: Run, items: Items, call: triggers.Call) -> Delivery | None:
        node: Any = step.node
        template = getattr(node, "delivery", None)
        if run.request is None:
            return None
        allowed = plan.timeout if plan.timeout is not None else self.settings.run_timeout
        seconds = ACCEPTING if _accepts(step) else allowed
        if template is None:
            return triggers.idempotent(call, run.request, run.info.id, seconds)
        key = triggers.delivery_key(template, items[0], run.request, run.info, self._engine.evaluate)
        return Delivery(key, run.info.id, seconds, node.dedupe.get("window", WINDOW), node.dedupe.get("answer", "first"))

    def _patience(self, until: float | None) -> float | None:
        """Seconds that whoever stands in front of webhooks waits: by the settings, or less where it is known for this call."""
        known = [seconds for seconds in (self.settings.front_door_timeout or None, self.left(until)) if seconds is not None]
        return min(known, default=None)

    def left(self, until: float | None) -> float | None:
        """Seconds until an instant of `time.monotonic()`; hardly any when it is past, so that a run ends as one that took too long."""
        return None if until is None else max(until - self._clock.monotonic(), 0.001)


def _accepts(step: Step) -> bool:
    """Whether a webhook accepts runs instead of waiting for them."""
    return getattr(step.node, "mode", "wait") == "accept"


def _lock(step: Step) -> Lock | None:
    """What callers must fit, where the trigger asks for something. Raises `Malformed` when this server cannot read what."""
    lock: Lock | None = getattr(step.node, "lock", None)
    return lock
