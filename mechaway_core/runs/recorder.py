"""Puts runs on record: those that end in the same few milliseconds in one transaction.

A run ends in its own thread, which does not wait for the disk: its record goes to the thread here, which writes all that came while it
wrote the ones before, and then tells each of those who wait for theirs. With many callers at a time it waits a moment for more. Where a
process serves one request at a time there is nothing to gather, and a record is written at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from mechaway_core.errors import MechawayError, NotFound, NotOnRecord, Unavailable
from mechaway_core.ports import Records, RunRecord

T = TypeVar("T")

GROUP = 256  # runs of one transaction
CROWD = 16  # callers at a time from which on it pays to wait for more records: a transaction costs more than a record
GATHERING = 0.003  # seconds of that

log = logging.getLogger("mechaway.runs")

Told = Callable[[BaseException | None], None]
"""Is told that all is on record, or why it is not."""


class Entry(NamedTuple):
    """What is to be put on record together: records, and the ids of those to delete."""

    project: str
    records: tuple[RunRecord, ...]
    gone: tuple[str, ...] = ()


class Recorder:
    """Writes records. Thread-safe."""

    def __init__(self, records: Records, *, gathers: bool = True, sleep: Callable[[float], None] = time.sleep) -> None:
        """`gathers`: whether a thread of its own writes what comes from many."""
        self._records = records
        self.gathers = gathers
        self.crowd: Callable[[], int] = lambda: 0  # how many callers wait at this moment; whoever serves them says so
        self._sleep = sleep
        self._queue: SimpleQueue[tuple[Entry, Told] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def write(self, entry: Entry) -> None:
        """Put on record and wait for that. Raises `Unavailable`, and `NotFound` when the project is gone."""
        self._records.write(entry.project, entry.records, entry.gone)

    def add(self, entry: Entry, told: Told) -> None:
        """Put on record, and say so to `told`, in whatever thread.

        For a caller that is alone it is done here: another thread would only have to wake up. What is on record already waits in line,
        behind what there may be about the same run.
        """
        if not self.gathers or (self.crowd() == 1 and not entry.gone and not any(record.known for record in entry.records)):
            _say(told, entry, self._try([entry]))
            return
        if self._thread is None:
            self._begin()
        self._queue.put((entry, told))

    def close(self) -> None:
        """Write what came, then end."""
        with self._starting:
            thread, self._thread, self.gathers = self._thread, None, False
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None and self.gathers:
                self._thread = threading.Thread(target=self._serve, name="mechaway-recorder", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        closing, last = False, 0
        while not (closing and self._queue.empty()):  # what came at the same moment as the end is written, too
            group = [self._queue.get()]
            if max(last, self.crowd()) >= CROWD:
                self._sleep(GATHERING)
            try:
                while len(group) < GROUP:
                    group.append(self._queue.get_nowait())
            except Empty:
                pass
            closing = closing or None in group
            last = len(group)
            self._settle([one for one in group if one is not None])

    def _settle(self, group: list[tuple[Entry, Told]]) -> None:
        projects: dict[str, list[tuple[Entry, Told]]] = {}
        for one in group:
            projects.setdefault(one[0].project, []).append(one)
        for together in projects.values():
            failure = self._try([entry for entry, _ in together])
            if failure is None or len(together) == 1 or isinstance(failure, Unavailable | NotFound):
                outcomes = [failure] * len(together)
            else:  # one of them cannot be written: the others must not suffer for it
                outcomes = [self._try([entry]) for entry, _ in together]
            for (entry, told), outcome in zip(together, outcomes, strict=True):
                _say(told, entry, outcome)

    def _try(self, entries: Sequence[Entry]) -> BaseException | None:
        records: dict[str, RunRecord] = {}  # the last of each run: it may have begun and ended since the last time
        gone: list[str] = []
        for entry in entries:
            for run_id in entry.gone:
                records.pop(run_id, None)
                gone.append(run_id)
            for record in entry.records:
                records[record.line.id] = record
        try:
            self._records.write(entries[0].project, list(records.values()), gone)
        except MechawayError as error:
            return error
        except Exception as error:
            log.exception("runs could not be put on record by a mistake of ours")
            return error
        return None


def _say(told: Told, entry: Entry, outcome: BaseException | None) -> None:
    try:
        told(outcome if outcome is None else _about(entry, outcome))
    except Exception:  # others still wait for theirs
        log.exception("whoever waited for a record could not be told")


def _about(entry: Entry, failure: BaseException) -> BaseException:
    """The same failure with the run that it is about."""
    if not isinstance(failure, Unavailable) or not entry.records:
        return failure
    run_id = entry.records[0].line.id
    return NotOnRecord(f"run {run_id} could not be put on record: {failure}", run_id)


Otherwise = Callable[[Entry, BaseException], object]
"""Is told why something could not be put on record. Raises nothing."""


class Pending(NamedTuple):
    """What is still to be put on record before anybody may hear of it. Do one of the two, once."""

    recorder: Recorder
    entry: Entry
    then: Callable[[], None] | None = None  # what begins once it is on record
    otherwise: Otherwise | None = None  # what happens when it cannot be

    def wait(self) -> None:
        """Put it on record and wait for that. Raises as `Recorder.write` does."""
        done = threading.Event()
        failures: list[BaseException] = []

        def told(failure: BaseException | None) -> None:
            if failure is not None:
                failures.append(failure)
            done.set()

        self.tell(told)
        done.wait()
        if failures:
            raise failures[0]

    def tell(self, told: Told) -> None:
        """Put it on record and say so to `told`, in another thread."""
        if self.then is None and self.otherwise is None:
            self.recorder.add(self.entry, told)
        else:
            self.recorder.add(self.entry, lambda failure: self._begin(failure, told))

    def _begin(self, failure: BaseException | None, told: Told) -> None:
        try:
            if failure is None and self.then is not None:
                self.then()
            elif failure is not None and self.otherwise is not None:
                self.otherwise(self.entry, failure)
        except MechawayError as error:  # it is on record: whoever looks for abandoned runs finds it
            log.error("a run that was accepted could not be handed over yet: %s", error)
        finally:
            told(failure)


class Later(NamedTuple, Generic[T]):
    """A value that counts once something is on record."""

    value: T
    pending: Pending
