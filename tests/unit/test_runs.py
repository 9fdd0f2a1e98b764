"""Runs from their start to their record: kept or not, long, cancelled, accepted, taken over, told of, and run again.

A process that dies is an app whose accepted runs nobody begins; the one that takes over is another app over the same folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.errors import Busy, Conflict, Invalid, Malformed, NodeError, NotFound, Unavailable
from mechaway_core.folders import FolderRecords, FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.node import Context, Item, ItemNode, Items, Node, Request, RunInfo, param
from mechaway_core.ports import ANY, Expect, RunQuery, RunRecord
from mechaway_core.record import Run
from mechaway_core.runs import Entry, Later, Pending, replay, runs
from mechaway_core.runs.replay import Wish, replay_all
from mechaway_core.runs.runs import MOST_ATTEMPTS
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.triggers import Call, idempotent
from mechaway_core.web.answers import serve
from mechaway_core.web.problems import Answer
from tests.home import app_over

PATIENCE = 30.0


class Time(LocalClock):
    """A clock that a test moves on; with `hurry` it is 10 s later whenever somebody looks."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self.hurry = False

    def now(self) -> float:
        if self.hurry:
            self.seconds += 10
        return self.seconds


class Held:
    """An `Invoke` that starts what it was given when the test says so."""

    here = True

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.full = False

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        self.started.append((project, run_id))

    def check(self) -> None:
        if self.full:
            raise Unavailable("too many accepted runs wait to begin")

    def close(self) -> None:
        pass


class Records(FolderRecords):
    """Records on a disk that may be full."""

    full = False

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        super().write(project, records, gone)


class Home:
    """A data folder, and processes that come and go: each an app, by the name of its owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = Time()
        self.apps: dict[str, App] = {}
        self.held: dict[str, Held] = {}
        self.records: dict[str, Records] = {}
        self.store: FolderStore | None = None

    def app(self, name: str = "a", store: Callable[[ProjectFiles], FolderStore] = FolderStore, **settings: Any) -> App:
        """The app of this name; made when it is not there yet."""
        if name not in self.apps:
            given: dict[str, Any] = {"data_dir": self.folder, "sync": "normal", "lua_workers": 1} | settings
            chosen = Settings(**given)
            files = ProjectFiles(chosen)
            self.held[name], self.records[name] = Held(), Records(files, name, chosen.runs_max_mb)
            self.store = store(files)
            others = {"records": self.records[name], "invoke": self.held[name], "clock": self.time, "store": self.store}
            self.apps[name] = app_over(chosen, files, **others)
        return self.apps[name]

    def work(self, name: str = "a") -> list[str]:
        """Run what this app was to start, and what that started, to the end; the ids."""
        done = []
        while self.held[name].started:
            project, run_id = self.held[name].started.pop(0)
            self.app(name).runs.work_off(project, run_id)
            self.app(name).runs.look_after()
            done.append(run_id)
        self.settled(name)
        return done

    def settled(self, name: str = "a") -> None:
        """Wait until all that was to be put on record is, or could not be."""
        with contextlib.suppress(Unavailable):
            Pending(self.app(name).runs.recorder, Entry("default", ())).wait()

    def close(self) -> None:
        """End them all."""
        for app in self.apps.values():
            app.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "data")
    yield made
    made.close()


class Begin(Node):
    """Start by hand."""

    trigger: ClassVar[bool] = True

    def run(self, items: Items, ctx: Context) -> Items:
        return items


class Act(ItemNode):
    """Do something that can be counted, and give its key."""

    mark: str = param("What it gives.", "")
    done: ClassVar[list[str]] = []

    def run_item(self, item: Item, inputs: Any, ctx: Context) -> Items:
        Act.done.append(ctx.key())
        return [{"n": item.get("n"), "mark": self.mark, "key": ctx.key()}]


class Fail(ItemNode):
    """Fail, as long as the test wants that."""

    on: ClassVar[bool] = True

    def run_item(self, item: Item, inputs: Any, ctx: Context) -> Items:
        if Fail.on:
            raise NodeError("no luck")
        return [item]


class FailTogether(Node):
    """Fail at the same time as another one."""

    meet: ClassVar[threading.Barrier] = threading.Barrier(2)

    def run(self, items: Items, ctx: Context) -> Items:
        if Fail.on:
            self.meet.wait(PATIENCE)
            raise NodeError("no luck")
        return items


class Gate(Node):
    """Wait until the test opens it."""

    came: ClassVar[threading.Semaphore]
    open: ClassVar[threading.Event]

    def run(self, items: Items, ctx: Context) -> Items:
        Gate.came.release()
        assert Gate.open.wait(PATIENCE)
        return items


@pytest.fixture(autouse=True)
def types(add_node_type: Callable[[type[Node]], None]) -> Iterator[None]:
    for node_type in (Begin, Act, Fail, FailTogether, Gate):
        add_node_type(node_type)
    Act.done.clear()
    Fail.on = True
    Gate.came, Gate.open = threading.Semaphore(0), threading.Event()
    yield
    Gate.open.set()


def node(node_id: str, node_type: str, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "node_type": node_type, **fields}


ACT = node("act", "Act")
FAIL = node("fail", "Fail")
GATE = node("gate", "Gate")


def chain(workflow_id: str, *nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A workflow in which each node leads to the next, behind `hook` where there is no trigger."""
    edges = [{"from": one["id"], "to": two["id"]} for one, two in pairwise(nodes)]
    return {"id": workflow_id, "nodes": list(nodes), "edges": edges, **fields}


def by_hand(*nodes: dict[str, Any], workflow_id: str = "w", **settings: Any) -> dict[str, Any]:
    return chain(workflow_id, node("go", "Begin"), *nodes, settings=settings)


def hooked(*nodes: dict[str, Any], workflow_id: str = "w", params: Any = None, **settings: Any) -> dict[str, Any]:
    return chain(workflow_id, node("hook", "Webhook", params={"path": "/", **(params or {})}), *nodes, settings=settings)


def accepting(*nodes: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return hooked(*nodes, params={"mode": "accept"}, **settings)


def call(body: Any = None, key: str | bytes | None = None, query: bytes = b"") -> Call:
    headers = [(b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"Idempotency-Key", key.encode() if isinstance(key, str) else key))
    return Call("POST", (), query, headers, json.dumps({"n": 1} if body is None else body).encode())


def post(app: App, body: Any = None, key: str | bytes | None = None, workflow_id: str = "w") -> Answer:
    """The answer to a call of a webhook, once it may go out."""
    found = serve(app, "default", workflow_id, call(body, key))
    if isinstance(found, Later):
        found.pending.wait()
        answer: Answer = found.value
        return answer
    return found


def run_id_in(answer: Answer) -> str:
    return str(answer.headers["mechaway-run-id"])


def accept(app: App, body: Any = None, workflow_id: str = "w") -> str:
    """The id of a run that was accepted."""
    answer = post(app, body, workflow_id=workflow_id)
    assert answer.status == 202
    return run_id_in(answer)


def listed(app: App, project: str = "default", **query: Any) -> list[dict[str, Any]]:
    return app.history.find(project, RunQuery(**query))[0]


def statuses(record: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["status"] for one in record["nodes"]}


# -- which runs are kept


@pytest.mark.parametrize(
    ("server", "workflow", "well", "badly"),
    [
        ("all", None, True, True),
        ("errors", None, False, True),
        ("none", None, False, False),
        ("none", "all", True, True),
        ("none", "errors", False, True),
        ("all", "errors", False, True),
        ("all", "none", False, False),
    ],
)
def test_runs_are_kept_as_their_workflow_says_or_else_the_server(
    home: Home, server: str, workflow: str | None, well: bool, badly: bool
) -> None:
    app = home.app(record=server)
    settings = {} if workflow is None else {"record": workflow}
    app.put("default", by_hand(ACT, workflow_id="well", **settings))
    app.put("default", by_hand(FAIL, workflow_id="badly", **settings))
    for workflow_id, kept in (("well", well), ("badly", badly)):
        run = app.start("default", workflow_id)
        assert [one["run_id"] for one in listed(app, workflow_id=workflow_id)] == ([run.info.id] if kept else [])


def test_what_is_kept_is_what_the_starter_got(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, FAIL))
    run = app.start("default", "w", items=[{"n": 1}, {"n": 2}])
    found, live = app.history.get("default", run.info.id), run.as_json(100)
    for name in ("run_id", "workflow_id", "version", "status", "trigger", "start_node", "started_at", "ended_at", "took_ms", "error"):
        assert found[name] == live[name], name
    assert [{**one, "at_ms": 0} for one in found["nodes"]] == [{**one, "at_ms": 0} for one in live["nodes"]]


def test_nobody_hears_of_a_run_that_is_not_on_record(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    home.records["a"].full = True
    for key in (None, "once"):
        with pytest.raises(Unavailable, match="the disk is full"):
            post(app, key=key)
    home.records["a"].full = False
    first, again = post(app, key="once"), post(app, key="once")
    assert (first.status, run_id_in(first)) == (200, run_id_in(again))
    assert len(Act.done) == 3


def test_a_full_disk_is_no_obstacle_where_nothing_is_kept(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT, record="none"))
    home.records["a"].full = True
    assert post(app).status == 200


# -- runs that take long


def going(app: App, pool: ThreadPoolExecutor, workflow_id: str = "w") -> Any:
    """A run that waits at its gate."""
    future = pool.submit(app.start, "default", workflow_id)
    assert Gate.came.acquire(timeout=PATIENCE)
    return future


def on_record(home: Home, app: App) -> str:
    """The id of the run that goes on, once it is on record because it takes long."""
    home.time.seconds += 2
    app.runs.look_after()
    home.settled()
    [line] = listed(app, statuses=("running",))
    return str(line["run_id"])


def test_a_run_that_takes_long_is_on_record_while_it_goes_on(home: Home) -> None:
    app, other = home.app(), home.app("b")
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        app.runs.look_after()
        home.settled()
        assert listed(app) == [], "it does not take long yet"
        run_id = on_record(home, app)
        assert statuses(app.history.get("default", run_id)) == {"go": "succeeded", "gate": "running"}
        elsewhere = other.history.get("default", run_id)
        assert (elsewhere["status"], elsewhere["input"], elsewhere["nodes"]) == ("running", [{}], [])
        with pytest.raises(Conflict, match="goes on"):
            app.history.replay("default", run_id, Wish())
        Gate.open.set()
        run = future.result()
    assert run.info.id == run_id
    assert [one["status"] for one in listed(other)] == ["succeeded"]
    assert statuses(other.history.get("default", run_id)) == {"go": "succeeded", "gate": "succeeded", "act": "succeeded"}
    assert home.records["a"].abandoned("default", "a", 9e9) == []


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_a_long_run_that_is_not_to_be_kept_leaves_nothing(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, record=policy))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        home.time.seconds += 2
        app.runs.look_after()
        home.settled()
        assert len(listed(app)) == (policy == "errors")
        Gate.open.set()
        future.result()
    assert listed(app) == []


@pytest.mark.parametrize("policy", ["all", "errors"])
def test_a_run_that_ends_as_it_is_put_on_record_for_taking_long_has_ended(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, record=policy))
    home.time.hurry = True
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            app.runs.look_after()

    with ThreadPoolExecutor(5) as pool:
        looking = pool.submit(look)
        ids = [one.info.id for one in pool.map(lambda _number: app.start("default", "w"), range(200))]
        over.set()
        looking.result()
    home.settled()
    lines = listed(app, limit=1000)
    assert {one["status"] for one in lines} <= {"succeeded"}
    assert {one["run_id"] for one in lines} == (set(ids) if policy == "all" else set())
    assert home.records["a"].abandoned("default", "a", 9e12) == []


def test_what_is_to_stay_hidden_is_hidden_while_a_run_goes_on(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, redact=["card"]))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(app.start, "default", "w", items=[{"card": "c4nary"}])
        assert Gate.came.acquire(timeout=PATIENCE)
        run_id = on_record(home, app)
        assert "c4nary" not in json.dumps([app.history.get("default", run_id), home.app("b").history.get("default", run_id)])
        Gate.open.set()
        future.result()
    assert "c4nary" not in json.dumps(app.history.get("default", run_id))


# -- to stop


def test_a_run_is_stopped_by_the_app_that_it_goes_on_in(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        app.history.cancel("default", run_id)
        Gate.open.set()
        assert future.result().status == "cancelled"
    assert app.history.get("default", run_id)["status"] == "cancelled"
    assert Act.done == []
    with pytest.raises(Conflict, match=r"is over already \(cancelled\)"):
        app.history.cancel("default", run_id)


def test_a_run_is_stopped_by_any_other_app(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        home.app("b").history.cancel("default", run_id)
        app.runs.look_after()
        Gate.open.set()
        assert future.result().status == "cancelled"
    with pytest.raises(Conflict):
        home.app("b").history.cancel("default", run_id)


@pytest.mark.parametrize("held", [0, 1000])
@pytest.mark.parametrize("by", ["a", "b"])
def test_a_run_that_has_not_begun_is_stopped_before_its_first_node(home: Home, by: str, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HELD", held)  # whether it waits in memory, or only on record
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    home.app(by).history.cancel("default", run_id)
    app.runs.look_after()
    home.work()
    assert home.app("b").history.get("default", run_id)["status"] == "cancelled"
    assert Act.done == []


def test_a_run_that_was_to_stop_when_its_process_ended_is_not_begun_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    app.put("default", listener(events=["cancelled"]))
    run_id = accept(app)
    app.history.cancel("default", run_id)
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    record = other.history.get("default", run_id)
    assert (record["status"], record["error"]["type"], record["input"]) == ("cancelled", "cancelled", [{"n": 1}])
    assert Act.done == []
    assert [event["event"] for event in heard(home, "b")] == ["cancelled"]


def test_a_run_that_is_not_there_cannot_be_stopped(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT))
    app.create_project("other")
    run = app.start("default", "w")
    for project, run_id in (("default", "nope"), ("other", run.info.id), ("default", "\0"), ("nowhere", run.info.id)):
        with pytest.raises(NotFound):
            app.history.cancel(project, run_id)
        with pytest.raises(NotFound):
            app.history.get(project, run_id)
        with pytest.raises(NotFound):
            app.history.replay(project, run_id, Wish("start"))


# -- accepted runs


def test_an_accepted_run_is_on_record_before_that_is_said_and_happens(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    answer = post(app, {"n": 5})
    run_id = run_id_in(answer)
    where = f"/api/runs/{run_id}"
    assert json.loads(answer.body) == {"run_id": run_id, "status": "queued", "location": where}
    assert answer.headers["location"] == where
    assert home.app("b").history.get("default", run_id)["status"] == "queued"
    assert Act.done == []
    assert home.work() == [run_id]
    record = app.history.get("default", run_id)
    assert (record["status"], record["output"][0]["n"], record["request"]["method"]) == ("succeeded", 5, "POST")


def test_a_run_that_cannot_be_put_on_record_is_not_accepted(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    home.records["a"].full = True
    for key in (None, "once"):
        with pytest.raises(Unavailable, match="the disk is full"):
            post(app, key=key)
    home.records["a"].full = False
    assert home.work() == []
    home.held["a"].full = True
    with pytest.raises(Unavailable, match="too many accepted runs"):
        post(app)
    assert listed(app) == []
    home.held["a"].full = False
    accept(app)
    assert len(home.work()) == len(Act.done) == 1


def test_files_of_a_run_that_could_not_be_accepted_go_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nhello\r\n--x--\r\n'
    upload = Call("POST", (), b"", [(b"content-type", b"multipart/form-data; boundary=x")], form)
    home.records["a"].full = True
    found = serve(app, "default", "w", upload)
    assert isinstance(found, Later)
    with pytest.raises(Unavailable):
        found.pending.wait()
    assert [path for path in (home.folder / "default" / "files").rglob("*") if path.is_file()] == []


def test_the_end_of_an_accepted_run_is_put_on_record_when_the_disk_takes_it(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    home.records["a"].full = True
    home.work()
    home.records["a"].full = False
    assert app.history.get("default", run_id)["status"] == "queued"
    app.runs.look_after()
    home.settled()
    assert app.history.get("default", run_id)["status"] == "succeeded"
    assert len(Act.done) == 1


def test_a_disk_that_was_away_as_an_accepted_run_was_to_begin_only_delays_it(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT, on_lost="fail"))
    run_id = accept(app)
    home.records["a"].full = True
    [(project, _)] = home.held["a"].started
    home.held["a"].started.clear()
    app.runs.work_off(project, run_id)
    assert Act.done == []
    home.records["a"].full = False
    app.runs.look_after()
    assert home.work() == [run_id]
    assert app.history.get("default", run_id)["status"] == "succeeded"


def test_the_version_that_was_accepted_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for held in (1000, 0):
        monkeypatch.setattr(runs, "HELD", held)
        app = home.app()
        app.put("default", accepting(node("act", "Act", params={"mark": "old"})))
        run_id = accept(app)
        app.put("default", accepting(node("act", "Act", params={"mark": "new"})))
        home.work()
        assert app.history.get("default", run_id)["output"][0]["mark"] == "old"


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_an_accepted_run_that_is_not_to_be_kept_is_gone_when_it_is_over(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", accepting(ACT, record=policy))
    run_id = accept(app)
    home.work()
    with pytest.raises(NotFound):
        app.history.get("default", run_id)
    assert len(Act.done) == 1


# -- runs of a process that is gone


def test_an_accepted_run_is_begun_again_by_who_takes_over_so_often_and_not_more(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    app.put("default", listener())
    run_id = accept(app, {"n": 7})
    names = ["a", *(f"p{number}" for number in range(2, MOST_ATTEMPTS + 2))]
    for attempt, (before, name) in enumerate(pairwise(names), 2):
        other = home.app(name)
        assert other.runs.take_over("default", "nobody", 9e9) == 0
        assert other.runs.take_over("default", before, 9e9) == 1
        record = other.history.get("default", run_id)
        if attempt <= MOST_ATTEMPTS:
            assert (record["status"], record["attempt"], home.held[name].started) == ("queued", attempt, [("default", run_id)])
    assert (record["status"], record["error"]["type"]) == ("failed", "lost")
    assert record["error"]["message"] == f"its process ended {MOST_ATTEMPTS} times while the run went on; it is not begun again"
    assert record["input"] == [{"n": 7}]
    assert Act.done == []
    [event] = heard(home, names[-1])
    assert (event["event"], event["run_id"], event["input"]) == ("lost", run_id, [{"n": 7}])


def test_what_is_begun_again_is_the_same_run(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    answer = serve(app, "default", "w", call({"n": 7}, query=b"q=x"))
    assert isinstance(answer, Later)
    answer.pending.wait()
    run_id = run_id_in(answer.value)
    app.put("default", by_hand(FAIL) | {"active": False})  # neither matters: the version that was accepted runs
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    assert home.work("b") == [run_id]
    record = other.history.get("default", run_id)
    assert (record["status"], record["version"], record["attempt"], record["request"]["query"]) == ("succeeded", 1, 2, {"q": "x"})
    assert record["output"][0]["key"] == RunInfo(run_id, "w", "default", "", "").key("act", 0)


@pytest.mark.parametrize(("on_lost", "again"), [(None, False), ("fail", False), ("again", True)])
def test_a_run_that_nobody_was_promised_is_begun_again_only_where_its_workflow_says_so(
    home: Home, on_lost: str | None, again: bool
) -> None:
    app = home.app()
    app.put("default", by_hand(GATE, ACT, **({} if on_lost is None else {"on_lost": on_lost})))
    with ThreadPoolExecutor(1) as pool:
        future = going(app, pool)
        run_id = on_record(home, app)
        other = home.app("b")
        assert other.runs.take_over("default", "a", 9e9) == 1
        record = other.history.get("default", run_id)
        if again:
            assert (record["status"], record["attempt"]) == ("queued", 2)
        else:
            assert (record["status"], record["error"]["type"]) == ("failed", "lost")
            assert "its nodes may have acted" in record["error"]["message"]
        Gate.open.set()
        future.result()
    assert home.work("b") == ([run_id] if again else [])


def test_an_accepted_run_that_must_not_be_begun_twice_is_begun_once(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(GATE, ACT, on_lost="fail"))
    run_id = accept(app)
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1, "nothing of it has acted: it begins"
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(home.work, "b")
        assert Gate.came.acquire(timeout=PATIENCE)
        third = home.app("c")
        assert third.runs.take_over("default", "b", 9e9) == 1
        assert third.history.get("default", run_id)["error"]["type"] == "lost"
        Gate.open.set()
        future.result()
    assert home.work("c") == []


def test_a_run_whose_workflow_is_gone_ends_with_a_sentence(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    app.delete("default", "w")
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    record = other.history.get("default", run_id)
    assert (record["status"], record["error"]["type"]) == ("failed", "lost")
    assert 'there is no workflow "w"' in record["error"]["message"]


def test_a_server_that_is_told_to_end_leaves_accepted_runs_to_the_next_and_no_others(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(GATE, ACT))
    app.put("default", by_hand(GATE, ACT, workflow_id="hand"))
    run_id = accept(app)
    with ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(home.work)
        waited = pool.submit(app.start, "default", "hand")
        for _ in range(2):
            assert Gate.came.acquire(timeout=PATIENCE)
        assert app.cancel_all() == 2
        Gate.open.set()
        accepted.result()
        assert waited.result().status == "cancelled"
    assert app.history.get("default", run_id)["status"] == "queued"
    assert app.history.get("default", waited.result().info.id)["status"] == "cancelled"
    assert home.app("b").runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    assert app.history.get("default", run_id)["status"] == "succeeded"


def test_an_accepted_run_that_ended_although_the_server_was_to_end_is_not_begun_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT, GATE))
    run_id = accept(app)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(home.work)
        assert Gate.came.acquire(timeout=PATIENCE)
        app.cancel_all()  # too late for it to matter: no node is left
        Gate.open.set()
        future.result()
    assert home.app("b").history.get("default", run_id)["status"] == "succeeded"
    assert home.app("b").runs.take_over("default", "a", 9e9) == 0


# -- Idempotency-Key


def test_the_same_request_with_the_same_key_has_the_same_answer_and_acts_once(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    first = post(app, key="k")
    again = post(home.app("b"), key="k")
    assert (again.status, again.body, again.content_type) == (first.status, first.body, first.content_type)
    assert run_id_in(again) == run_id_in(first)
    assert again.headers["mechaway-repeated"] == "true"
    assert "mechaway-repeated" not in first.headers
    assert len(Act.done) == 1
    assert run_id_in(post(app, key="another")) != run_id_in(first)
    assert run_id_in(post(app)) != run_id_in(first)


def test_another_request_with_the_same_key_is_refused(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    app.put("default", accepting(ACT, workflow_id="later"))
    for workflow_id in ("w", "later"):
        post(app, {"n": 1}, "k", workflow_id)
        with pytest.raises(Invalid, match="came with another request before"):
            post(app, {"n": 2}, "k", workflow_id)
        with pytest.raises(Invalid, match="came with another request before"):
            serve(app, "default", workflow_id, call({"n": 1}, "k", b"q=1"))
    home.work()
    assert len(Act.done) == 2


def test_while_the_first_goes_on_the_second_is_told_to_come_back(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(post, app, None, "k")
        assert Gate.came.acquire(timeout=PATIENCE)
        with pytest.raises(Busy, match="try again soon"):
            post(home.app("b"), key="k")
        Gate.open.set()
        first = future.result()
    assert post(app, key="k").body == first.body
    assert len(Act.done) == 1


def test_after_a_failure_the_same_key_gets_another_try(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(FAIL, ACT))
    assert post(app, key="k").status == 422
    Fail.on = False
    assert post(app, key="k").status == 200
    assert len(Act.done) == 1


def test_keys_are_texts_of_a_certain_length(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    for key in ("x" * 255, "ключ 🔑", "ä".encode("latin-1"), '"quoted"', "../../x", " padded "):
        first = post(app, key=key)
        assert run_id_in(post(app, key=key)) == run_id_in(first), key
    assert len(set(Act.done)) == len(Act.done) == 6
    assert run_id_in(post(app, key="padded")) == run_id_in(post(app, key=" padded "))
    with pytest.raises(Malformed, match="longer than 255 characters"):
        post(app, key="x" * 256)
    assert run_id_in(post(app, key="")) != run_id_in(post(app, key="")), "an empty key is none"


def test_who_comes_after_a_run_that_was_cut_off_does_nothing_twice(home: Home) -> None:
    app = home.app(run_timeout=60.0)
    app.put("default", hooked(ACT))
    first = idempotent(call(key="k"), Request("POST", {}, {"idempotency-key": "k"}, {}), "the run that was cut off", 60.0)
    assert first is not None
    app.door.deliveries.claim("default", "w", "hook", first)
    with pytest.raises(Busy):
        post(app, key="k")
    home.time.seconds += 70
    answer = post(app, key="k")
    assert json.loads(answer.body)["key"] == RunInfo("the run that was cut off", "w", "default", "", "").key("act", 0)
    assert run_id_in(answer) != "the run that was cut off"


class Forgetful(FolderStore):
    """A store that takes the first word of a delivery and refuses the last."""

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        if key.startswith("deliveries/") and b'"done"' in data:
            raise Unavailable("the disk is full")
        return super().put(project, key, data, expect)


def test_an_accepted_run_is_found_although_nobody_noted_the_answer(home: Home) -> None:
    app = home.app(store=Forgetful)
    app.put("default", accepting(ACT))
    first = post(app, key="k")
    for worked in (False, True):
        if worked:
            home.work()
        for later in (0.0, 100.0):
            home.time.seconds += later
            again = post(home.app("b"), key="k")
            assert (again.status, run_id_in(again), again.headers["mechaway-repeated"]) == (202, run_id_in(first), "true")
    assert len(Act.done) == 1
    with pytest.raises(Invalid, match="another request"):
        post(home.app("b"), {"n": 2}, "k")


# -- workflows that hear of failures


def listener(workflow_id: str = "alarm", **params: Any) -> dict[str, Any]:
    return chain(workflow_id, node("hear", "ErrorTrigger", params=params), node("act", "Act", params={"mark": workflow_id}))


def heard(home: Home, name: str = "a", workflow_id: str = "alarm", project: str = "default") -> list[dict[str, Any]]:
    """What a listener was told, once all runs are over, oldest first."""
    home.work(name)
    lines = listed(home.app(name), project, workflow_id=workflow_id)
    assert {one["trigger"] for one in lines} <= {"error"}
    assert {one["status"] for one in lines} <= {"succeeded"}
    records = [home.app(name).history.get(project, one["run_id"]) for one in reversed(lines)]
    return [item for record in records for item in record["nodes"][0]["input"]]


def test_a_listener_gets_the_record_of_the_run_that_failed(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(ACT, FAIL))
    run = app.start("default", "w", items=[{"n": n} for n in range(50)])
    [event] = heard(home)
    assert (event["event"], event["run_id"], event["workflow_id"], event["status"]) == ("failed", run.info.id, "w", "failed")
    assert event["error"] == {"type": "error", "message": 'node "fail": no luck', "node": "fail"}
    assert statuses(event) == {"go": "succeeded", "act": "succeeded", "fail": "failed"}
    assert len(event["nodes"][0]["input"]) == 10, "it may be large"
    [line] = listed(app, workflow_id="alarm")
    assert (line["parent"], line["start_node"]) == (run.info.id, "hear")


def test_well_ended_runs_are_told_to_nobody(home: Home) -> None:
    app = home.app()
    app.put("default", listener(events=["failed", "timed_out", "lost", "missed", "cancelled"]))
    app.put("default", by_hand(ACT))
    app.start("default", "w")
    assert heard(home) == []


def failing(home: Home, event: str) -> str:
    """Have a run end in this way; the app that starts what hears of it."""
    app = home.app()
    if event == "failed":
        app.start("default", "w")
    elif event == "timed_out":
        app.start("default", "w", timeout=1e-9)
    elif event == "missed":
        app.runs.missed("default", "w", "go", 1_700_000_000.0, 3, "nobody kept the time")
    else:
        with ThreadPoolExecutor(1) as pool:
            future = going(app, pool, "gated")
            run_id = on_record(home, app)
            if event == "lost":
                home.app("b").runs.take_over("default", "a", 9e9)
            else:
                app.history.cancel("default", run_id)
            Gate.open.set()
            future.result()
    return "b" if event == "lost" else "a"


@pytest.mark.parametrize("event", ["failed", "timed_out", "lost", "missed", "cancelled"])
def test_a_listener_hears_of_the_events_it_chose(home: Home, event: str) -> None:
    app = home.app()
    others = [one for one in ("failed", "timed_out", "lost", "missed", "cancelled") if one != event]
    app.put("default", listener("by-default"))
    app.put("default", listener("chosen", events=[event]))
    app.put("default", listener("others", events=others))
    app.put("default", by_hand(FAIL))
    app.put("default", by_hand(GATE, ACT, workflow_id="gated"))
    teller = failing(home, event)
    told = {name: [one["event"] for one in heard(home, teller, workflow_id=name)] for name in ("by-default", "chosen", "others")}
    assert told == {"by-default": [] if event == "cancelled" else [event], "chosen": [event], "others": []}


def test_due_times_that_were_missed_are_told_as_such(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(ACT))
    for _ in range(2):  # two processes may find the same
        app.runs.missed("default", "w", "go", 1_700_000_000.0, 3, "nobody kept the time")
        assert len(heard(home)) == 1
    [event] = heard(home)
    assert event == {
        "event": "missed",
        "workflow_id": "w",
        "project": "default",
        "node": "go",
        "due": "2023-11-14T22:13:20.000Z",
        "missed": 3,
        "error": {"type": "missed", "message": "nobody kept the time"},
    }
    assert len(Act.done) == 1
    app.runs.missed("default", "w", "go", 1_700_000_060.0, 1, "nobody kept the time")
    assert len(heard(home)) == 2


def test_a_listener_hears_of_the_workflows_it_chose_and_of_those_that_chose_it(home: Home) -> None:
    app = home.app()
    app.put("default", listener("all"))
    app.put("default", listener("one", workflows=["first"]))
    app.put("default", listener("named", workflows=[]))
    app.put("default", by_hand(FAIL, workflow_id="first"))
    app.put("default", by_hand(FAIL, workflow_id="second", on_failure="named"))
    for workflow_id in ("first", "second"):
        home.time.seconds += 1
        app.start("default", workflow_id)
    told = {name: [one["workflow_id"] for one in heard(home, workflow_id=name)] for name in ("all", "one", "named")}
    assert told == {"all": ["first", "second"], "one": ["first"], "named": ["second"]}


def test_a_listener_hears_neither_of_itself_nor_of_runs_that_failures_started(home: Home) -> None:
    app = home.app()
    both = chain("both", node("go", "Begin"), node("fail", "Fail"))
    both["nodes"].append(node("hear", "ErrorTrigger"))
    both["edges"].append({"from": "hear", "to": "fail"})
    app.put("default", both | {"settings": {"on_failure": "both"}})
    app.put("default", listener())
    app.start("default", "both")
    assert [event["workflow_id"] for event in heard(home)] == ["both"]
    assert [one["trigger"] for one in listed(app, workflow_id="both")] == ["manual"]
    app.put("default", by_hand(FAIL, workflow_id="other"))
    home.time.seconds += 1
    app.start("default", "other")
    assert [event["workflow_id"] for event in heard(home)] == ["both", "other"]
    assert [one["trigger"] for one in listed(app, workflow_id="both")] == ["error", "manual"], "it failed, and nobody was told"


def notes(home: Home, project: str = "default") -> list[str]:
    """Which workflows are noted as listeners."""
    assert home.store is not None
    return [key.removeprefix("listeners/") for key in home.store.keys(project, "listeners/")]


def test_only_listeners_that_are_there_and_on_hear_of_anything(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(FAIL, on_failure="alarm"))
    deaf = listener()
    deaf["nodes"][0]["disabled"] = True
    changes: list[tuple[Callable[[], Any], bool]] = [
        (lambda: app.create("default", listener()), True),
        (lambda: app.update("default", "alarm", listener() | {"active": False}), False),
        (lambda: app.update("default", "alarm", listener()), True),
        (lambda: app.update("default", "alarm", deaf), False),
        (lambda: app.restore("default", "alarm", 1), True),
        (lambda: app.put("default", by_hand(ACT, workflow_id="alarm")), False),
        (lambda: app.put("default", listener()), True),
        (lambda: app.delete("default", "alarm"), False),
    ]
    for number, (change, hears) in enumerate(changes):
        change()
        assert notes(home) == (["alarm"] if hears else []), number
        before = len(listed(app, trigger="error"))
        home.time.seconds += 1
        app.start("default", "w")
        home.work()
        assert len(listed(app, trigger="error")) == before + hears, number


def test_a_save_that_fails_makes_nobody_deaf(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    with pytest.raises(Conflict):
        app.create("default", by_hand(ACT, workflow_id="alarm"))
    with pytest.raises(Conflict):
        app.update("default", "alarm", by_hand(ACT, workflow_id="alarm"), ['"stale"'])
    assert notes(home) == ["alarm"]


def test_every_listener_hears_of_it_once(home: Home) -> None:
    app = home.app()
    two = listener("two")
    two["nodes"].append(node("hear-too", "ErrorTrigger"))
    two["edges"].append({"from": "hear-too", "to": "act"})
    app.put("default", listener("one"))
    app.put("default", two)
    app.put("default", by_hand(FAIL))
    app.start("default", "w")
    home.work()
    assert sorted((one["workflow_id"], one["start_node"]) for one in listed(app, trigger="error")) == [
        ("one", "hear"), ("two", "hear"), ("two", "hear-too"),
    ]  # fmt: skip
    assert len(Act.done) == 3


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_whether_a_run_is_kept_does_not_matter_to_listeners(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL, record=policy))
    app.start("default", "w")
    assert len(heard(home)) == 1


def test_what_is_hidden_is_not_told(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL, redact=["card"]))
    app.start("default", "w", items=[{"card": "c4nary"}])
    assert "c4nary" not in json.dumps(heard(home))


def test_a_listener_is_heard_of_by_every_project_for_itself_and_moves_with_it(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL))
    file = io.BytesIO()
    app.export_project("default", file)
    file.seek(0)
    app.import_project(file, "moved")
    assert notes(home, "moved") == ["alarm"]
    app.start("moved", "w")
    assert [event["workflow_id"] for event in heard(home, project="moved")] == ["w"]
    assert heard(home) == []


def test_a_failure_and_what_it_starts_are_on_record_together_or_not_at_all(home: Home) -> None:
    app = home.app()
    app.put("default", listener())
    app.put("default", by_hand(FAIL))
    home.records["a"].full = True
    with pytest.raises(Unavailable):
        app.start("default", "w")
    home.records["a"].full = False
    assert listed(app) == []
    assert heard(home) == []


# -- again


def replayed(home: Home, run_id: str, *wish: Any, project: str = "default", **others: Any) -> dict[str, Any]:
    """The record of a run that repeats another one."""
    again = home.app().history.replay(project, run_id, Wish(*wish, **others))
    home.work()
    record = home.app().history.get(project, again.info.id)
    assert (record["trigger"], record["parent"]) == ("replay", run_id)
    return record


def broken(home: Home, *, items: Items | None = None) -> str:
    """The id of a run that failed at its third node."""
    home.app().put("default", by_hand(ACT, FAIL, node("last", "Act")))
    return home.app().start("default", "w", items=items).info.id


def test_a_run_goes_on_from_where_it_failed_with_what_it_had(home: Home) -> None:
    first = broken(home, items=[{"n": 1}, {"n": 2}])
    assert len(Act.done) == 2
    record = replayed(home, first)
    assert (record["status"], len(Act.done)) == ("failed", 2), "it fails again, and nothing before it acts again"
    Fail.on = False
    record = replayed(home, first)
    assert record["status"] == "succeeded"
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, True, False, False]
    assert [item["n"] for item in record["output"]] == [1, 2]
    assert len(Act.done) == 4
    info = RunInfo(first, "w", "default", "", "")
    assert [item["key"] for item in record["output"]] == [info.key("last", number) for number in range(2)], (
        "what carries keys is not done twice"
    )


def test_a_replay_that_failed_can_be_replayed_and_keeps_the_keys_of_the_first(home: Home) -> None:
    first = broken(home)
    second = replayed(home, first)
    Fail.on = False
    third = replayed(home, second["run_id"])
    assert third["output"][0]["key"] == RunInfo(first, "w", "default", "", "").key("last", 0)


def test_from_the_start_everything_is_done_again_with_keys_of_its_own(home: Home) -> None:
    first = broken(home, items=[{"n": 5}])
    Fail.on = False
    record = replayed(home, first, "start")
    assert not any(one.get("replayed") for one in record["nodes"])
    assert record["nodes"][0]["input"] == [{"n": 5}]
    assert record["output"][0]["key"] == RunInfo(record["run_id"], "w", "default", "", "").key("last", 0)
    assert replayed(home, first, "start", items=[{"n": 6}, {"n": 7}])["nodes"][0]["input"] == [{"n": 6}, {"n": 7}]


def test_from_a_node_all_behind_it_is_done_again_with_what_it_took_or_is_given(home: Home) -> None:
    first = broken(home, items=[{"n": 5}])
    Fail.on = False
    record = replayed(home, first, "act")
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, False, False, False]
    record = replayed(home, first, "fail", items=[{"n": 8}])
    taken = {one["id"]: one["input"] for one in record["nodes"]}
    assert taken["fail"] == [{"n": 8}]
    assert taken["act"] == [{"n": 5}]
    assert record["output"][0]["n"] == 8
    assert not any(one.get("replayed") for one in replayed(home, first, "go")["nodes"])


def test_the_current_version_runs_again_or_the_same(home: Home) -> None:
    first = broken(home)
    app = home.app()
    app.put("default", by_hand(ACT, node("fail", "Act", params={"mark": "mended"})))
    record = replayed(home, first)
    assert (record["version"], record["status"], record["output"][0]["mark"]) == (2, "succeeded", "mended")
    record = replayed(home, first, version="same")
    assert (record["version"], record["status"]) == (1, "failed")
    Fail.on = False
    assert replayed(home, first, "start", "same")["output"][0]["mark"] == ""


def test_branches_that_failed_at_the_same_time_are_both_done_again(home: Home) -> None:
    app = home.app()
    document = by_hand(node("left", "FailTogether"), node("end", "Act"))
    document["nodes"].insert(2, node("right", "FailTogether"))
    document["edges"] += [{"from": "go", "to": "right"}, {"from": "right", "to": "end"}]
    app.put("default", document)
    run = app.start("default", "w", items=[{"n": 1}])
    assert [(one.id, one.status) for one in run.nodes] == [("go", "succeeded"), ("left", "failed"), ("right", "failed")]
    Fail.on = False
    again = replayed(home, run.info.id)
    assert statuses(again) == dict.fromkeys(("go", "left", "right", "end"), "succeeded")
    assert [item["n"] for item in again["output"]] == [1, 1]
    assert [one["id"] for one in again["nodes"] if one.get("replayed")] == ["go"]


def test_what_cannot_be_run_again_is_said(home: Home) -> None:
    app = home.app()
    first = broken(home)
    app.put("default", by_hand(ACT, workflow_id="well"))
    well = app.start("default", "well").info.id
    with pytest.raises(Conflict, match='succeeded; to run it again, say from: "start" or a node'):
        app.history.replay("default", well, Wish())
    with pytest.raises(Invalid, match='there is no node "lost" in version 1'):
        app.history.replay("default", first, Wish("lost"))
    document = chain("w", node("go", "Begin"), ACT)
    document["nodes"] += [node("new", "Begin"), node("apart", "Act")]
    document["edges"].append({"from": "new", "to": "apart"})
    app.put("default", document)
    with pytest.raises(Invalid, match='failed at node "fail", which the workflow does not have any more'):
        app.history.replay("default", first, Wish())
    with pytest.raises(Invalid, match='no run that begins at "go" comes to node "apart"'):
        app.history.replay("default", first, Wish("apart"))
    app.put("default", chain("w", node("other", "Begin"), FAIL))
    with pytest.raises(Invalid, match='has no trigger "go"'):
        app.history.replay("default", first, Wish("start"))
    assert app.history.replay("default", first, Wish(version="same")).version == 1
    app.delete("default", "w")
    for version in ("same", "current"):
        with pytest.raises(NotFound, match='there is no workflow "w"'):
            app.history.replay("default", first, Wish("start", version))


def test_what_is_hidden_cannot_be_run_again_but_with_items(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, FAIL, redact=["card"]))
    hidden = app.start("default", "w", items=[{"n": 1, "card": "4111"}]).info.id
    plain = app.start("default", "w", items=[{"n": 1}]).info.id
    for wish in (Wish(), Wish("start"), Wish("act"), Wish("fail", items=[{}])):
        with pytest.raises(Invalid, match="lacks what redact names"):
            app.history.replay("default", hidden, wish)
    assert replayed(home, hidden, "start", items=[{"n": 2}])["status"] == "failed"
    assert replayed(home, plain)["status"] == "failed"


def test_values_that_were_deleted_by_now_are_named(home: Home) -> None:
    app = home.app(record_kb=1.0)
    big = node("big", "FunLogic", params={"script": "return {text = string.rep('x', 50000)}"})
    app.put("default", by_hand(big, FAIL, node("last", "Act")))
    first = app.start("default", "w").info.id
    Fail.on = False
    assert replayed(home, first)["status"] == "succeeded"
    for path in (home.folder / "default" / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(NotFound, match="kept as a file, which was deleted by now"):
        app.history.replay("default", first, Wish())
    assert replayed(home, first, "start")["status"] == "succeeded"


def test_a_replay_is_kept_as_an_accepted_run_is(home: Home) -> None:
    first = broken(home)
    Fail.on = False
    again = home.app().history.replay("default", first, Wish()).info.id
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    record = other.history.get("default", again)
    assert (record["status"], record["parent"], record["attempt"]) == ("succeeded", first, 2)
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, True, False, False]
    assert record["output"][0]["key"] == RunInfo(first, "w", "default", "", "").key("last", 0)


def test_all_that_a_filter_finds_run_again_or_are_only_told(home: Home) -> None:
    app = home.app()
    ids = []
    for _ in range(5):
        home.time.seconds += 1
        ids.append(broken(home))
    app.put("default", by_hand(ACT, workflow_id="well"))
    app.start("default", "well")
    query = RunQuery(statuses=("failed",), limit=2)
    told = app.history.replay_all("default", query, Wish(), act=False)
    assert told.as_json() == {"runs": [{"run_id": one} for one in ids], "count": 5, "more": False}
    assert home.held["a"].started == []
    Fail.on = False
    done = app.history.replay_all("default", query, Wish(), act=True)
    assert [(one, problem) for one, _, problem in done.runs] == [(one, None) for one in ids]
    assert home.work() == [again for _, again, _ in done.runs]
    assert {one["run_id"]: one["parent"] for one in listed(app, trigger="replay")} == {again: one for one, again, _ in done.runs}
    everything = app.history.replay_all("default", RunQuery(workflow_id="well"), Wish(), act=True)
    assert "succeeded; to run it again" in str(everything.runs[0][2])


def test_a_replay_of_many_is_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replay.MOST == 1000
    monkeypatch.setattr(replay, "MOST", 3)
    ids = []
    for _ in range(5):
        home.time.seconds += 1
        ids.append(broken(home))
    found = replay_all(home.app().runs, "default", RunQuery(), Wish(), act=False)
    assert [one for one, _, _ in found.runs] == ids[2:]
    assert found.more


def test_a_replay_of_a_run_by_webhook_has_its_request(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(FAIL, node("look", "FunLogic", params={"script": "return {q = query.q}"})))
    found = serve(app, "default", "w", call({"n": 1}, query=b"q=x"))
    assert isinstance(found, Later)
    found.pending.wait()
    Fail.on = False
    assert replayed(home, listed(app)[0]["run_id"])["output"] == [{"q": "x"}]


def test_runs_are_of_one_project(home: Home) -> None:
    app = home.app()
    app.create_project("other")
    app.put("other", by_hand(FAIL))
    run: Run = app.start("other", "w")
    assert listed(app) == []
    assert [one["run_id"] for one in listed(app, "other")] == [run.info.id]
    Fail.on = False
    assert replayed(home, run.info.id, project="other")["status"] == "succeeded"
