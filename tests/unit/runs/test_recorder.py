"""Runs that end at about the same time are put on record together, and each waits for its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from mechaway_core.errors import MechawayError, NotFound, Unavailable
from mechaway_core.folders import FolderProjects, FolderRecords
from mechaway_core.ports import RunLine, RunQuery, RunRecord
from mechaway_core.record import new_run_id
from mechaway_core.runs import Entry, Pending, Recorder
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

PATIENCE = 30.0


class Watched(FolderRecords):
    """Records that tell what was written together, wait at a gate, and refuse what holds `bad`."""

    def __init__(self, files: ProjectFiles) -> None:
        super().__init__(files, "a test", 1000)
        self.groups: list[tuple[str, list[str]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_work = threading.Event()
        self.full = False

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        self.at_work.set()
        assert self.gate.wait(PATIENCE)
        self.groups.append((project, [record.line.id for record in records]))
        if self.full:
            raise Unavailable("the disk is full")
        if any(b"bad" in record.data for record in records):
            raise ValueError("a mistake of ours")
        super().write(project, records, gone)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ProjectFiles]:
    made = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    yield made
    made.close()


@pytest.fixture
def records(files: ProjectFiles) -> Watched:
    return Watched(files)


@pytest.fixture
def recorder(records: Watched) -> Iterator[Recorder]:
    made = Recorder(records)
    yield made
    records.gate.set()
    made.close()


def record(run_id: str, status: str = "succeeded", data: bytes = b"{}", *, known: bool = False) -> RunRecord:
    ended = None if status in ("queued", "running") else 2.0
    return RunRecord(RunLine(run_id, "w", 1, status, "manual", "hook", 1.0, ended), data, known)


def entry(*records: RunRecord, project: str = "default", gone: tuple[str, ...] = ()) -> Entry:
    return Entry(project, records, gone)


class Outcomes:
    """What was told, in its order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException | None]] = []
        self._changed = threading.Condition()

    def of(self, name: str) -> Callable[[BaseException | None], None]:
        def tell(failure: BaseException | None) -> None:
            with self._changed:
                self.told.append((name, failure))
                self._changed.notify_all()

        return tell

    def wait(self, count: int) -> dict[str, BaseException | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= count, PATIENCE)
        return dict(self.told)


def held_back(recorder: Recorder, records: Watched, outcomes: Outcomes) -> None:
    """Have the recorder at work with one record, so that what comes from now on is gathered."""
    records.gate.clear()
    recorder.add(entry(record(new_run_id(0.5))), outcomes.of("first"))
    assert records.at_work.wait(PATIENCE)


def test_of_many_threads_each_is_told_once_its_own_run_is_on_record(recorder: Recorder, records: Watched) -> None:
    threads, each = 8, 50
    missing: list[str] = []

    def go() -> None:
        for _ in range(each):
            run_id = new_run_id(1.0)
            Pending(recorder, entry(record(run_id))).wait()
            if records.get("default", run_id) is None:
                missing.append(run_id)

    going = [threading.Thread(target=go) for _ in range(threads)]
    for one in going:
        one.start()
    for one in going:
        one.join()
    assert missing == []
    assert len(records.find("default", RunQuery(limit=1000)).lines) == threads * each
    assert len(records.groups) <= threads * each


def test_what_comes_while_the_disk_is_at_work_is_written_at_once_for_each_project(
    recorder: Recorder, records: Watched, files: ProjectFiles
) -> None:
    FolderProjects(files).create("other")
    outcomes = Outcomes()
    held_back(recorder, records, outcomes)
    for number in range(10):
        recorder.add(entry(record(new_run_id(1.0 + number)), project=("default", "other")[number % 2]), outcomes.of(str(number)))
    records.gate.set()
    assert set(outcomes.wait(11).values()) == {None}
    assert [(project, len(ids)) for project, ids in records.groups[1:]] == [("default", 5), ("other", 5)]


def test_a_project_that_was_deleted_costs_only_its_own_runs(recorder: Recorder, records: Watched, files: ProjectFiles) -> None:
    projects = FolderProjects(files)
    projects.create("gone")
    outcomes = Outcomes()
    held_back(recorder, records, outcomes)
    recorder.add(entry(record(new_run_id(1.0)), project="gone"), outcomes.of("gone"))
    recorder.add(entry(record(new_run_id(1.0))), outcomes.of("stays"))
    projects.delete("gone")
    records.gate.set()
    told = outcomes.wait(3)
    assert isinstance(told["gone"], NotFound)
    assert told["stays"] is None
    assert not projects.exists("gone")


def test_a_record_that_cannot_be_written_does_not_take_the_others_with_it(recorder: Recorder, records: Watched) -> None:
    outcomes = Outcomes()
    held_back(recorder, records, outcomes)
    ids = [new_run_id(1.0 + number) for number in range(3)]
    for run_id, data in zip(ids, (b"{}", b'"bad"', b"{}"), strict=True):
        recorder.add(entry(record(run_id, data=data)), outcomes.of(run_id))
    records.gate.set()
    told = outcomes.wait(4)
    assert [told[run_id] is None for run_id in ids] == [True, False, True]
    assert [records.get("default", run_id) is not None for run_id in ids] == [True, False, True]


def test_a_full_disk_is_told_to_all_and_is_no_end(recorder: Recorder, records: Watched) -> None:
    records.full = True
    with pytest.raises(Unavailable, match="the disk is full"):
        Pending(recorder, entry(record(new_run_id(1.0)))).wait()
    records.full = False
    Pending(recorder, entry(record(new_run_id(1.0)))).wait()


def test_somebody_who_cannot_be_told_does_not_keep_the_others_waiting(recorder: Recorder, records: Watched) -> None:
    outcomes = Outcomes()
    held_back(recorder, records, outcomes)

    def gone(failure: BaseException | None) -> None:
        raise RuntimeError("the event loop is closed")

    recorder.add(entry(record(new_run_id(1.0))), gone)
    recorder.add(entry(record(new_run_id(2.0))), outcomes.of("second"))
    records.gate.set()
    assert outcomes.wait(2)["second"] is None
    recorder.add(entry(record(new_run_id(3.0))), outcomes.of("third"))
    assert outcomes.wait(3)["third"] is None


@pytest.mark.parametrize("gathers", [True, False])
def test_the_last_that_is_said_of_a_run_stands(records: Watched, files: ProjectFiles, gathers: bool) -> None:
    recorder, outcomes = Recorder(records, gathers=gathers), Outcomes()
    if gathers:
        held_back(recorder, records, outcomes)
    ended, forgotten = new_run_id(1.0), new_run_id(2.0)
    recorder.add(entry(record(ended, "running", b'"a"')), outcomes.of("a"))
    recorder.add(entry(record(ended, "succeeded", b'"b"', known=True)), outcomes.of("b"))
    recorder.add(entry(record(forgotten, "running")), outcomes.of("c"))
    recorder.add(entry(gone=(forgotten,)), outcomes.of("d"))
    records.gate.set()
    assert set(outcomes.wait(4 + gathers).values()) == {None}
    recorder.close()
    found = records.get("default", ended)
    assert found is not None
    assert (found.line.status, found.data) == ("succeeded", b'"b"')
    assert records.get("default", forgotten) is None
    assert records.abandoned("default", "a test", 99.0) == []
    rows = files.runs("default").read(lambda session: session.execute("SELECT count(*) FROM records"))
    assert rows[0][0] == 1 + gathers, "nothing is left that no run has"


def test_close_writes_what_came(records: Watched) -> None:
    recorder, outcomes = Recorder(records), Outcomes()
    held_back(recorder, records, outcomes)
    ids = [new_run_id(1.0 + number) for number in range(600)]
    for run_id in ids:
        recorder.add(entry(record(run_id)), outcomes.of(run_id))
    closing = threading.Thread(target=recorder.close)
    closing.start()
    records.gate.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert [name for name, failure in outcomes.told[1:] if failure is None] == ids
    recorder.add(entry(record(new_run_id(1.0))), outcomes.of("late"))
    assert dict(outcomes.told)["late"] is None


def test_what_follows_a_record_happens_once_it_is_there_and_not_without_it(recorder: Recorder, records: Watched) -> None:
    seen: list[str] = []
    run_id = new_run_id(1.0)

    def then() -> None:
        assert records.get("default", run_id) is not None
        seen.append("then")

    Pending(recorder, entry(record(run_id)), then, lambda _entry, _failure: seen.append("otherwise")).wait()
    assert seen == ["then"]
    records.full = True
    with pytest.raises(Unavailable):
        Pending(recorder, entry(record(new_run_id(1.0))), then, lambda _entry, _failure: seen.append("otherwise")).wait()
    assert seen == ["then", "otherwise"]


def test_a_run_that_cannot_be_handed_over_is_on_record_all_the_same(recorder: Recorder, records: Watched) -> None:
    def then() -> None:
        raise MechawayError("the server is shutting down")

    run_id = new_run_id(1.0)
    Pending(recorder, entry(record(run_id, "queued")), then).wait()
    assert records.get("default", run_id) is not None


def test_with_many_callers_what_comes_within_a_moment_is_written_together(records: Watched) -> None:
    came = threading.Event()

    def sleep(seconds: float) -> None:
        assert came.wait(PATIENCE)

    recorder = Recorder(records, sleep=sleep)
    recorder.crowd = lambda: 20
    heard: SimpleQueue[BaseException | None] = SimpleQueue()
    for number in range(10):
        recorder.add(entry(record(new_run_id(1.0 + number))), heard.put)
    came.set()
    assert [heard.get(timeout=PATIENCE) for _ in range(10)] == [None] * 10
    recorder.close()
    assert len(records.groups) == 1


def test_few_callers_wait_for_nobody(records: Watched) -> None:
    recorder = Recorder(records, sleep=lambda _: pytest.fail("it waited"))
    for number in range(3):
        Pending(recorder, entry(record(new_run_id(1.0 + number)))).wait()
    recorder.close()


def test_the_record_of_a_caller_that_is_alone_is_written_in_its_thread_unless_its_run_is_on_record_already(records: Watched) -> None:
    recorder = Recorder(records)
    recorder.crowd = lambda: 1
    told: list[int] = []
    recorder.add(entry(record(new_run_id(1.0))), lambda _: told.append(threading.get_ident()))
    assert told == [threading.get_ident()]
    for one in (entry(record(new_run_id(2.0), known=True)), entry(gone=(new_run_id(3.0),))):
        recorder.add(one, lambda _: told.append(threading.get_ident()))
    recorder.close()
    assert threading.get_ident() not in told[1:]
    assert len(told) == 3
