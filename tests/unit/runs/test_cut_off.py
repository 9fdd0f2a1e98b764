"""Runs whose process ends before they do, or whose disk does not take what is to be put on record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.errors import Invalid, NotFound, NotOnRecord, Unavailable
from mechaway_core.folders import FolderRecords
from mechaway_core.local.clock import LocalClock
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.nodes import catalogue
from mechaway_core.ports import RunQuery, RunRecord
from mechaway_core.runs import Entry, Recorder
from mechaway_core.runs.replay import Wish
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.web.gateway import Gateway
from tests.home import app_over
from tests.journeys.server import chain, hook, lua, until

PATIENCE = 30.0
P = "default"


class Line:
    """An `Invoke` that keeps what is started, so that the test says when it begins."""

    here = True

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        self.started.append(run_id)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class Disk(FolderRecords):
    """Records on a disk that is full when the test says so."""

    full = False

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        super().write(project, records, gone)


class Gate(Node):
    """Let items through when the test says so."""

    came: ClassVar[threading.Event] = threading.Event()
    opened: ClassVar[threading.Event] = threading.Event()

    def run(self, items: Items, ctx: Context) -> Items:
        self.came.set()
        assert self.opened.wait(PATIENCE)
        return items


class Many(Node):
    """Give so many items of a kilobyte."""

    count: int = param("How many.", 1)

    def run(self, items: Items, ctx: Context) -> Items:
        return [{"n": number, "text": "x" * 1000} for number in range(self.count)]


class Set(LocalClock):
    """A clock that the test sets."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class Turns(Node):
    """Set the clock by so many seconds."""

    seconds: float = param("Seconds.", 0.0)
    clock: ClassVar[Set] = Set()

    def run(self, items: Items, ctx: Context) -> Items:
        self.clock.ahead += self.seconds
        return items


class House:
    """Apps over one folder, as server processes have them one after the other."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(data_dir=folder, sync="normal", lua_workers=1, **settings)
        self.files = ProjectFiles(self.settings)
        self.apps: list[App] = []
        self.lines: list[Line] = []

    def app(self, **others: Any) -> App:
        line = Line()
        parts = {"records": Disk(self.files, str(len(self.apps)), 1024), "invoke": line} | others
        app = app_over(self.settings, self.files, **parts)
        self.apps.append(app)
        self.lines.append(line)
        return app

    def successor(self, begun: set[str] | None = None) -> App:
        """An app that takes over the runs of the one made before."""
        before = str(len(self.apps) - 1)
        app = self.app()
        app.runs.take_over(P, before, app.clock.now(), begun)
        return app

    def close(self) -> None:
        for app in self.apps:
            app.close()


@pytest.fixture
def house(tmp_path: Path, add_node_type: Callable[[type[Node]], None]) -> Iterator[House]:
    for node_type in (Gate, Many, Turns):
        add_node_type(node_type)
    Gate.came.clear()
    Gate.opened.clear()
    made = House(tmp_path / "data")
    yield made
    Gate.opened.set()
    made.close()


def status(app: App, run_id: str) -> str:
    return str(app.history.get(P, run_id)["status"])


def over(app: App, run_id: str) -> dict[str, Any]:
    """The record of a run, once its end is on record."""
    return until(lambda: record if (record := app.history.get(P, run_id))["ended_at"] is not None else None, "the end of the run")


def at_the_gate(app: App) -> tuple[str, threading.Thread]:
    """A run that has come to its gate, and the thread in which it goes on behind that."""
    app.put(P, chain("gated", hook(), {"id": "gate", "node_type": "Gate", "params": {}}, lua("after", "return data")))
    run_id = app.start_elsewhere(P, "gated").info.id
    thread = threading.Thread(target=app.runs.work_off, args=(P, run_id))
    thread.start()
    assert Gate.came.wait(PATIENCE)
    return run_id, thread


def through(thread: threading.Thread) -> None:
    """Open the gate and wait until the run has ended."""
    Gate.opened.set()
    thread.join(PATIENCE)


def gated(**settings: Any) -> dict[str, Any]:
    return chain("gated", hook(), {"id": "gate", "node_type": "Gate", "params": {}}, settings=settings)


# -- taken over


def test_a_run_that_only_waited_may_be_taken_over_as_often_as_need_be(house: House) -> None:
    app = house.app()
    app.put(P, chain("w", hook(), lua("work", "return data")))
    run = app.start_elsewhere(P, "w")
    for _ in range(5):
        app = house.successor(begun=set())
        assert house.lines[-1].started == [run.info.id]
    app.runs.work_off(P, run.info.id)
    record = over(app, run.info.id)
    assert (record["status"], record.get("attempt", 1)) == ("succeeded", 1)


def test_a_run_whose_process_ends_three_times_is_lost(house: House) -> None:
    app = house.app()
    app.put(P, chain("w", hook(), lua("work", "return data")))
    run_id = app.start_elsewhere(P, "w").info.id
    for _ in range(2):
        app = house.successor(begun={run_id})
        assert house.lines[-1].started == [run_id]
    app = house.successor(begun={run_id})
    assert house.lines[-1].started == []
    record = app.history.get(P, run_id)
    assert record["status"] == "failed"
    assert "ended 3 times" in record["error"]["message"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_is_not_to_be_repeated_is_begun_by_another_process_if_it_had_not_begun(house: House, begun: bool) -> None:
    app = house.app()
    app.put(P, gated(on_lost="fail"))
    run_id = app.start_elsewhere(P, "gated").info.id
    if begun:
        thread = threading.Thread(target=app.runs.work_off, args=(P, run_id))
        thread.start()
        assert Gate.came.wait(PATIENCE)
    app = house.successor(begun=set())
    assert house.lines[-1].started == ([] if begun else [run_id])
    assert status(app, run_id) == ("failed" if begun else "queued")
    Gate.opened.set()
    if begun:
        thread.join(PATIENCE)
    else:
        app.runs.work_off(P, run_id)
        assert over(app, run_id)["status"] == "succeeded"


# -- told to stop


def test_an_accepted_run_that_a_server_stops_because_it_ends_is_left_for_the_next(house: House) -> None:
    app = house.app()
    run_id, thread = at_the_gate(app)
    assert app.cancel_all() == 1
    through(thread)
    assert status(app, run_id) == "queued"
    app = house.successor()
    app.runs.work_off(P, run_id)
    assert over(app, run_id)["status"] == "succeeded"


def test_a_run_that_somebody_stopped_does_not_begin_again_when_the_server_ends_at_that_moment(house: House) -> None:
    app = house.app()
    run_id, thread = at_the_gate(app)
    app.history.cancel(P, run_id)
    app.cancel_all()
    through(thread)
    assert over(app, run_id)["status"] == "cancelled"


def test_a_run_that_ends_well_while_the_server_stops_it_is_over(house: House) -> None:
    app = house.app()
    app.put(P, gated())
    run_id = app.start_elsewhere(P, "gated").info.id
    thread = threading.Thread(target=app.runs.work_off, args=(P, run_id))
    thread.start()
    assert Gate.came.wait(PATIENCE)
    app.cancel_all()
    through(thread)
    assert over(app, run_id)["status"] == "succeeded"


def test_who_waits_for_a_run_that_does_not_end_in_time_is_told_to_try_again(house: House) -> None:
    app = house.app()
    app.put(P, gated())
    gateway = Gateway(app)
    sent: list[dict[str, Any]] = []

    async def call() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        path = "/webhook/gated"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
        task = asyncio.create_task(gateway(scope, receive, send))
        await asyncio.to_thread(Gate.came.wait, PATIENCE)
        gateway.draining = True
        task.cancel()
        await task
        Gate.opened.set()

    asyncio.run(call())
    gateway.threads.close()
    assert sent[0]["status"] == 503
    assert b"shut down" in sent[1]["body"]


def test_a_server_that_ends_begins_nothing(house: House) -> None:
    app = house.app()
    app.put(P, chain("w", hook(), lua("work", "return data")))
    run_id = app.start_elsewhere(P, "w").info.id
    app.cancel_all()
    app.runs.work_off(P, run_id)
    assert status(app, run_id) == "queued"


# -- a full disk


def test_a_run_that_could_not_be_accepted_is_named_and_never_begins(house: House) -> None:
    disk = Disk(house.files, "0", 1024)
    app = house.app(records=disk)
    app.put(P, chain("w", hook(), lua("work", "return data")))
    disk.full = True
    with pytest.raises(NotOnRecord, match="could not be put on record: the disk is full") as failed:
        app.start_elsewhere(P, "w")
    disk.full = False
    assert failed.value.run_id in str(failed.value)
    assert house.lines[0].started == []
    assert app.runs.begin(P, failed.value.run_id) is None


def test_the_end_of_an_accepted_run_is_written_once_there_is_room(house: House) -> None:
    disk = Disk(house.files, "0", 1024)
    app = house.app(records=disk)
    app.put(P, chain("w", hook(), lua("work", "return data")))
    run_id = app.start_elsewhere(P, "w").info.id
    disk.full = True
    app.runs.work_off(P, run_id)
    app.runs.look_after()
    disk.full = False

    def again() -> bool:
        app.runs.look_after()
        return status(app, run_id) == "succeeded"

    until(again, "the end of the run")


def test_who_is_told_of_a_record_cannot_stop_the_others_from_hearing(house: House) -> None:
    recorder = Recorder(Disk(house.files, "0", 1024))
    heard = threading.Event()

    def fails(_: BaseException | None) -> None:
        raise RuntimeError("a loop that is closed, say")

    recorder.add(Entry(P, ()), fails)
    recorder.add(Entry(P, ()), lambda _: heard.set())
    assert heard.wait(PATIENCE)
    recorder.close()


# -- records of odd runs


def test_a_run_with_disabled_nodes_on_both_sides_of_a_node_is_replayed_from_that(house: House) -> None:
    app = house.app()
    off = [lua(f"off{number}", "error('never')", disabled=True) for number in (1, 2)]
    app.put(P, chain("w", hook(), lua("one", "return {n = 1}"), off[0], lua("two", "return {n = item.n + 1}"), off[1]))
    run = app.start(P, "w")
    again = app.history.replay(P, run.info.id, Wish("two"))
    app.runs.work_off(P, again.info.id)
    record = over(app, again.info.id)
    assert (record["status"], record["output"]) == ("succeeded", [{"n": 2}])


def test_a_chain_of_two_thousand_disabled_nodes_is_shown_and_replayed(house: House) -> None:
    app = house.app()
    off = [lua(f"off{number}", "error('never')", disabled=True) for number in range(2000)]
    app.put(P, chain("w", hook(), *off, lua("last", "return {n = item.n + 1}")))
    run = app.start(P, "w", items=[{"n": 1}])
    assert app.history.get(P, run.info.id)["nodes"][2000]["output"] == {"main": [{"n": 1}]}
    again = app.history.replay(P, run.info.id, Wish("last"))
    app.runs.work_off(P, again.info.id)
    assert over(app, again.info.id)["output"] == [{"n": 2}]


def test_a_node_type_that_is_gone_ends_an_accepted_run_and_refuses_a_replay_by_name(
    house: House,
) -> None:
    class Gone(Node):
        """Hand on."""

        def run(self, items: Items, ctx: Context) -> Items:
            return items

    app = house.app()
    with pytest.MonkeyPatch.context() as there:
        there.setitem(catalogue(), "Gone", Gone)
        app.put(P, chain("w", hook(), {"id": "old", "node_type": "Gone", "params": {}}))
        done = app.start(P, "w")
        waiting = app.start_elsewhere(P, "w", items=[{"card": "4111", "n": 1}]).info.id
        app.put(P, chain("w", hook(), lua("new", "return data")) | {"settings": {"redact": ["card"]}})
    app = house.successor()
    app.runs.work_off(P, waiting)
    record = over(app, waiting)
    assert record["status"] == "failed"
    assert record["input"] == [{"card": "[redacted]", "n": 1}]  # what is to be hidden, the current version says
    assert "Gone" in record["error"]["message"]
    with pytest.raises(Invalid, match="Gone"):
        app.history.replay(P, done.info.id, Wish("start", version="same"))
    assert app.history.replay(P, done.info.id, Wish("start")).version == 2


def many(count: int) -> dict[str, Any]:
    last = lua("last", "return {came = #data}", timeout=60) | {
        "params": {"script": "return {came = #data}", "memory_mb": 256, "timeout": 60}
    }
    return chain("many", hook(), {"id": "many", "node_type": "Many", "params": {"count": count}}, last)


def test_items_too_large_for_a_record_are_kept_as_a_file_and_replayed_from_it(house: House) -> None:
    app = house.app()
    app.put(P, many(50_000))
    run = app.start(P, "many")
    assert run.failure is None, run.failure
    shown = app.history.get(P, run.info.id)["nodes"][1]
    assert shown["items_out"] == {"main": 50_000}
    assert shown["output"]["main"]["bytes"] > 50_000_000
    again = app.history.replay(P, run.info.id, Wish("last"))
    app.runs.work_off(P, again.info.id)
    assert over(app, again.info.id)["output"] == [{"came": 50_000}]


def test_items_larger_than_a_file_may_be_are_counted_and_the_replay_says_what_is_missing(tmp_path: Path, house: House) -> None:
    small = House(tmp_path / "small", max_file_mb=1)
    app = small.app()
    app.put(P, many(2000))
    run = app.start(P, "many")
    kept = app.history.get(P, run.info.id)["nodes"][1]["output"]["main"]
    assert (kept["items"], kept["bytes"] > 2_000_000, "file" in kept) == (2000, True, False)
    with pytest.raises(NotFound, match=r"2000 items of run .* were too large to be kept"):
        app.history.replay(P, run.info.id, Wish("last"))
    assert app.history.replay(P, run.info.id, Wish("start")).status == "queued"
    small.close()


@pytest.mark.parametrize("seconds", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_while_a_run_goes_on_leaves_its_record_readable(house: House, seconds: float) -> None:
    Turns.clock = Set()
    app = house.app(clock=Turns.clock)
    app.put(P, chain("w", hook(), {"id": "turn", "node_type": "Turns", "params": {"seconds": seconds}}, lua("after", "return data")))
    first = app.start(P, "w")
    assert first.status == "succeeded"
    assert app.history.get(P, first.info.id)["took_ms"] >= 0
    waiting = app.start_elsewhere(P, "w").info.id
    app = house.successor(begun=set())
    app.runs.look_after()
    app.runs.work_off(P, waiting)
    assert over(app, waiting)["status"] == "succeeded"
    lines, _ = app.history.find(P, RunQuery())
    assert {line["run_id"] for line in lines} == {first.info.id, waiting}
