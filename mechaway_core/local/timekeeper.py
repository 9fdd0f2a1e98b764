"""Who keeps time on this machine: starts the runs of schedules when they are due.

Of all server processes of a data folder one leads, the one that has the lock on `.clock`; when it ends, however it ends, the system gives
the lock to another that waits for it. The leader knows when each schedule is due next and sleeps until the first of them, or until somebody
rings because a workflow was saved. Nothing is believed for longer than that: a run is started only for what the current document asks for,
and only by who claims the due time first, so that a leader that was stopped and goes on beside its successor starts nothing twice.

A due time nobody looked at in time, because no server ran, the machine slept or its clock was set forward, was missed: `timing.py` says
what becomes of it, the log says so, and it is counted (`fires.py`).
"""

from __future__ import annotations

import fcntl
import heapq
import logging
import os
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from mechaway_core.app import App
from mechaway_core.errors import Invalid, MechawayError, NotFound, Stale, Unavailable
from mechaway_core.fires import about_schedule, missed_sentence
from mechaway_core.handover import Taken
from mechaway_core.local.schedules import Bell
from mechaway_core.logs import about
from mechaway_core.ports import Schedule
from mechaway_core.record import Run, iso, new_run_id
from mechaway_core.timing import Timing

log = logging.getLogger("mechaway.clock")

LOCK = ".clock"

NAP = 10.0  # seconds: the longest sleep, for machines that were suspended and clocks that were set
RELOAD = 600.0  # seconds between two looks at all schedules, for saves whose process died before it rang
SET = 1.0  # seconds by which a clock is set back at least; less is how clocks are kept right
TRY_AGAIN = 1.0  # seconds after which a run that could not begin is tried again, while it is within its grace
MOST_QUEUED = 100  # due times that wait for the run of an earlier one

_Place = tuple[str, str, str]  # project, workflow, node
_Found = dict[str, dict[_Place, tuple[Schedule, Timing]] | None]  # by project; None where they cannot be had now


@dataclass(slots=True)
class _Entry:
    """A schedule that is kept. `turn` tells what was said about it last from what was said before."""

    project: str
    schedule: Schedule
    timing: Timing
    next: int | None = None
    turn: int = 0
    going: dict[int, Run | None] = field(default_factory=dict)  # by due time; None until the run has begun
    waiting: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)  # over the two above

    @property
    def place(self) -> _Place:
        return (self.project, self.schedule.workflow_id, self.schedule.node_id)

    def about(self, due: float) -> dict[str, Any]:
        """The fields of a line of the log about a due time."""
        return about_schedule(self.project, self.schedule, due)


def somebody_leads(folder: Path) -> bool:
    """Whether a process keeps time for a data folder: so whether a server runs there."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who is about to lead waits for this moment
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


class Timekeeper:
    """Keeps time for an app, if this process leads. `start` and `stop` once each."""

    def __init__(self, app: App, folder: Path, threads: int) -> None:
        self._app = app
        self._folder = folder
        self._bell = Bell(folder)
        self._holder = uuid.uuid4().hex
        self._entries: dict[_Place, _Entry] = {}
        self._nodes: dict[tuple[str, str], set[str]] = {}  # of these, by project and workflow
        self._line: list[tuple[float, int, _Place, int]] = []  # a heap of (when, turn, whose, due time)
        self._turns = 0
        self._look_again = 0.0
        self._looking: Future[tuple[_Found, bool]] | None = None  # the look at all schedules that is under way
        self._saved_meanwhile: set[tuple[str, str]] = set()  # (project, workflow) that were rung for since it began
        self._outdated: set[tuple[str, str]] = set()  # (project, workflow) whose documents turned out to ask for something else
        self._ahead = 0.0  # the clock of the machine before the one that only goes forward
        self._stopped = threading.Event()
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._notes = ThreadPoolExecutor(1, thread_name_prefix="mechaway-clock-notes")
        self._thread = threading.Thread(target=self._serve, name="mechaway-clock", daemon=True)
        self._since = 0.0  # when this process came to lead: who claimed something before that is gone
        self.leads = False

    def start(self) -> None:
        """Wait for the lead in the background, then keep time."""
        self._thread.start()

    def stop(self) -> None:
        """Start nothing any more and let another lead. Runs that go on, go on."""
        self._stopped.set()
        self._bell.ring("", "")
        if self.leads:
            self._thread.join()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._notes.shutdown()

    # -- the lead

    def _serve(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.error("schedules start nothing: the data folder cannot be used: %s: %s", error.strerror, self._folder)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._since = self._app.clock.now()
            self.leads = True
            if not self._stopped.is_set():
                self._lead()
        except Exception:
            log.exception("schedules start nothing any more: the clock stopped by a mistake of ours")
        finally:
            self._bell.close()
            os.close(lock)

    def _lead(self) -> None:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mechaway-scheduled")
        while not self._stopped.is_set():
            try:
                self._bell.listen()
                while not self._stopped.is_set():
                    self._go_round()
            except Unavailable as error:
                log.error("schedules start nothing for now: %s", error)
            except Exception:  # a mistake of ours must not stop the clock for good
                log.exception("the clock met a mistake of ours and looks at all schedules again")
            self._look_again = 0.0
            self._looking = None
            self._stopped.wait(TRY_AGAIN)

    def _go_round(self) -> None:
        """Start what is due, sleep until something is or somebody rings, and do what that asks for."""
        if self._app.clock.monotonic() >= self._look_again:
            self._look_at_all()
        self._notice_set_back()
        self._start_due()
        rung = self._bell.wait(min(self._until_next(), NAP))
        if rung is None:
            self._look_again = 0.0
        outdated, self._outdated = self._outdated, set()
        self._load((rung or set()) | outdated)

    def _notice_set_back(self) -> None:
        """After the clock of the machine was set back, wait for times that seemed to be past; those that had their run get no other."""
        ahead = self._app.clock.now() - self._app.clock.monotonic()
        if ahead < self._ahead - SET:
            log.warning("the clock was set back by %.0f s", self._ahead - ahead)
            for entry in self._entries.values():
                self._wait_for(entry, self._app.clock.now())
        self._ahead = ahead

    def _until_next(self) -> float:
        return self._line[0][0] - self._app.clock.now() if self._line else NAP

    # -- what is kept

    def _look_at_all(self) -> None:
        """Look at all schedules, in a thread of its own: with many that takes seconds, in which others are due."""
        if self._looking is None:
            assert self._pool is not None
            self._saved_meanwhile.clear()
            self._looking = self._pool.submit(self._read_all)
        elif self._looking.done():
            found, sound = self._looking.result()
            self._looking = None
            self._look_again = self._app.clock.monotonic() + (RELOAD if sound else TRY_AGAIN)
            self._take_over(found)

    def _read_all(self) -> tuple[_Found, bool]:
        """The schedules of each project, those left out that cannot be had now; and whether there were none such."""
        found: _Found = {}
        sound = True
        try:
            for project in self._app.projects.list():
                try:
                    found[project] = self._read_project(project)
                except MechawayError as error:
                    log.error("the schedules of project %s cannot be read: %s", project, error, extra=about(project=project))
                    sound = False
                    found[project] = None
        except MechawayError as error:
            log.error("the projects cannot be listed: %s", error)
            sound = False
            found.update((project, None) for project, _ in self._nodes.copy() if project not in found)
        finally:
            self._bell.ring("", "")
        return found, sound

    def _read_project(self, project: str) -> dict[_Place, tuple[Schedule, Timing]]:
        self._app.timetable.settle_project(project)
        self._app.handover.sweep(project, self._app.clock.now())
        return self._kept(project, None)

    def _kept(self, project: str, workflow_id: str | None) -> dict[_Place, tuple[Schedule, Timing]]:
        """The schedules of a workflow or project that are kept and asked for."""
        timings = self._app.timetable.timings(project, workflow_id)
        kept = self._app.timetable.kept(project, workflow_id) if timings else []
        return {
            (project, one.workflow_id, one.node_id): (one, timing)
            for one in kept
            if (timing := timings.get((one.workflow_id, one.node_id))) is not None
        }

    def _take_over(self, found: _Found) -> None:
        """Keep what was found and nothing else, but for what was saved while it was looked for."""
        for project, schedules in found.items():
            for place, (schedule, timing) in (schedules or {}).items():
                if not self._was_saved_meanwhile(*place[:2]):
                    self._keep(project, schedule, timing)
        for place in list(self._entries):
            schedules = found.get(place[0], {})
            if schedules is not None and place not in schedules and not self._was_saved_meanwhile(*place[:2]):
                self._drop(place)

    def _was_saved_meanwhile(self, project: str, workflow_id: str) -> bool:
        return not self._saved_meanwhile.isdisjoint(((project, workflow_id), (project, "")))

    def _load(self, rung: set[tuple[str, str]]) -> None:
        """Look at the schedules of the workflows that somebody rang for."""
        for project, workflow_id in rung:
            if not project:
                continue
            self._saved_meanwhile.add((project, workflow_id))
            try:
                found = self._kept(project, workflow_id or None)
            except NotFound:
                found = {}
            except MechawayError as error:
                where = about(project=project, workflow_id=workflow_id or None)
                log.error("the schedules of workflow %s in project %s cannot be read: %s", workflow_id, project, error, extra=where)
                self._look_again = 0.0
                continue
            for schedule, timing in found.values():
                self._keep(project, schedule, timing)
            workflows = [workflow_id] if workflow_id else [known for there, known in self._nodes if there == project]
            for known in workflows:
                for node_id in self._nodes.get((project, known), set()).copy():
                    if (project, known, node_id) not in found:
                        self._drop((project, known, node_id))

    def _drop(self, place: _Place) -> None:
        """Keep a schedule no longer."""
        del self._entries[place]
        nodes = self._nodes[place[:2]]
        nodes.discard(place[2])
        if not nodes:
            del self._nodes[place[:2]]

    def _keep(self, project: str, schedule: Schedule, timing: Timing) -> None:
        """Keep a schedule. One that is kept as it is goes on; another begins where nobody has looked yet."""
        place = (project, schedule.workflow_id, schedule.node_id)
        known = self._entries.get(place)
        if known is not None and known.schedule == schedule and known.schedule.since == schedule.since:
            if known.timing != timing:
                known.timing = timing
                now = self._app.clock.now()
                self._wait_for(known, now if known.next is None else min(now, known.next - 1))
            return
        entry = self._entries[place] = _Entry(project, schedule, timing)
        self._nodes.setdefault(place[:2], set()).add(place[2])
        if known is not None:
            entry.going, entry.waiting, entry.lock = known.going, known.waiting, known.lock
        self._turns += 1
        entry.turn = self._turns
        looked = max(schedule.since, self._app.fires.get(*place).due)
        now = self._app.clock.now()
        self._catch_up(entry, looked, now)
        self._wait_for(entry, now)

    def _wait_for(self, entry: _Entry, after: float) -> None:
        """Put the next due time into the line."""
        self._turns += 1
        entry.turn = self._turns
        entry.next = entry.timing.next(after)
        if entry.next is not None:
            self._put(entry, entry.next)

    def _put(self, entry: _Entry, due: int) -> None:
        when = due + (random.uniform(0, entry.timing.jitter) if entry.timing.jitter else 0.0)
        heapq.heappush(self._line, (when, entry.turn, entry.place, due))

    def _catch_up(self, entry: _Entry, looked: float, now: float) -> None:
        """Do what is to be done for the due times since somebody looked."""
        missed = entry.timing.since(looked, now)
        lost = missed.lost - (self._begun(entry, looked, now - entry.timing.grace) if missed.lost else 0)
        if lost > 0:
            self._lost(entry, now, lost)
        for due in missed.run:
            self._begin(entry, due)

    def _begun(self, entry: _Entry, looked: float, until: float) -> int:
        """How many of the first due times had begun before who kept time then was cut off and could not note it."""
        dues = islice(entry.timing.between(looked + 1e-3, until), MOST_QUEUED)
        return sum(1 for _ in takewhile(lambda due: self._had_run(entry, self._app.handover.holder(*self._what(entry, due))), dues))

    def _had_run(self, entry: _Entry, holder: str | None) -> bool:
        """Whether the run that a claim was made for began. Who was cut off between its claim and the record of its run began none."""
        keeper, _, run_id = (holder or "").partition("/")
        if not run_id or keeper == self._holder:
            return holder is not None
        return not self._app.runs.keeps_all(entry.project, entry.schedule.workflow_id) or self._app.runs.is_kept(entry.project, run_id)

    @staticmethod
    def _what(entry: _Entry, due: int) -> tuple[str, float, Sequence[str]]:
        return entry.project, due, entry.schedule.claimed

    def _lost(self, entry: _Entry, due: float, count: int) -> None:
        sentence = missed_sentence(entry.project, entry.schedule, count, due)
        log.error("%s", sentence, extra=entry.about(due))
        self._note(entry, lambda: self._app.fires.missed(*entry.place, due, count))
        self._note(entry, lambda: self._app.runs.missed(*entry.place, due, count, sentence))

    # -- what is due

    def _start_due(self) -> None:
        now = self._app.clock.now()
        while self._line and self._line[0][0] <= now and not self._stopped.is_set():
            _, turn, place, due = heapq.heappop(self._line)
            entry = self._entries.get(place)
            if entry is None or entry.turn != turn:
                continue
            if due < now - entry.timing.grace - entry.timing.jitter:
                self._catch_up(entry, due - 1, now)
                self._wait_for(entry, now)
            else:
                self._wait_for(entry, due)
                self._begin(entry, due)

    def _begin(self, entry: _Entry, due: int) -> None:
        """Start the run of a due time, or do what `overlap` says."""
        with entry.lock:
            how = entry.timing.overlap if entry.going else "allow"
            if how == "queue" and len(entry.waiting) < MOST_QUEUED:
                entry.waiting.append(due)
                return
            if how in ("queue", "skip"):
                self._skipped(entry, due)
                return
            if how == "cancel_previous":
                for run in entry.going.values():
                    if run is not None:
                        run.cancel()
            entry.going[due] = None
        assert self._pool is not None
        try:
            self._pool.submit(self._run, entry, due)
        except RuntimeError:  # told to stop at this moment; who leads next finds it
            with entry.lock:
                entry.going.pop(due, None)

    def _skipped(self, entry: _Entry, due: int) -> None:
        log.warning(
            "workflow %s in project %s was due at %s at node %s and was skipped: its run before goes on",
            entry.schedule.workflow_id, entry.project, iso(due), entry.schedule.node_id, extra=entry.about(due),
        )  # fmt: skip
        self._note(entry, lambda: self._app.fires.skipped(*entry.place, due))

    def _run(self, entry: _Entry, due: int) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._run_once(entry, due)
                    return
                except Unavailable as error:  # a disk that is full, say: it may pass
                    if self._app.clock.now() + TRY_AGAIN > due + entry.timing.grace:
                        log.error(
                            "workflow %s in project %s, due at %s: %s",
                            entry.schedule.workflow_id, entry.project, iso(due), error, extra=entry.about(due),
                        )  # fmt: skip
                        self._lost(entry, due, 1)
                        return
                self._stopped.wait(TRY_AGAIN)
        except (NotFound, Invalid):  # deleted or changed, and nobody rang
            self._outdated.add(entry.place[:2])
            log.info(
                "workflow %s in project %s asks for nothing at %s any more",
                entry.schedule.workflow_id, entry.project, iso(due), extra=entry.about(due),
            )  # fmt: skip
        except Exception:
            log.exception(
                "workflow %s in project %s, due at %s, met a mistake of ours",
                entry.schedule.workflow_id, entry.project, iso(due), extra=entry.about(due),
            )  # fmt: skip
        finally:
            self._ended(entry, due)

    def _run_once(self, entry: _Entry, due: int) -> None:
        project, schedule = entry.project, entry.schedule
        if not self._app.asks_for(project, schedule):
            raise NotFound("the document asks for something else by now")
        run_id = new_run_id(self._app.clock.now())
        what, holder = self._what(entry, due), f"{self._holder}/{run_id}"
        claim = self._app.handover.claim(*what, holder)
        if isinstance(claim, Taken):
            if due >= self._since or self._had_run(entry, claim.holder):
                return
            try:
                claim = self._app.handover.take_over(*what, claim, holder)
            except Stale:  # who leads beside us was quicker
                return

        def begun(run: Run) -> None:
            with entry.lock:
                entry.going[due] = run

        try:
            run = self._app.start_scheduled(project, schedule, due, begun=begun, run_id=run_id)
        except MechawayError:
            self._app.handover.release(claim)
            raise
        if run.failure is not None:
            log.error("%s", run.told(), extra=run.about() | about(scheduled_for=iso(due)))
        self._note(entry, lambda: self._app.fires.ran(*entry.place, due, run))

    def _ended(self, entry: _Entry, due: int) -> None:
        with entry.lock:
            entry.going.pop(due, None)
            following = entry.waiting.pop(0) if entry.waiting and not entry.going else None
        if following is not None and not self._stopped.is_set():
            self._begin(entry, following)

    def _note(self, entry: _Entry, write: Callable[[], None]) -> None:
        """Write down what became of a schedule, behind the runs that are to begin: nothing waits for it."""
        try:
            self._notes.submit(self._write, entry, write)
        except RuntimeError:  # told to stop, and this is about the last runs
            self._write(entry, write)

    @staticmethod
    def _write(entry: _Entry, write: Callable[[], None]) -> None:
        try:
            write()
        except MechawayError as error:  # a project deleted meanwhile, a full disk: the run itself is not touched by it
            log.warning("what became of a schedule could not be noted: %s", error, extra=about_schedule(entry.project, entry.schedule))
