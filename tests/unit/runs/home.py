"""Apps over one folder, as several processes have them, and what their tests of runs have in common.

A process that dies is an app whose accepted runs nobody begins; the one that takes over is another app over the same folder.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from mechaway_core.app import App
from mechaway_core.errors import NodeError, Unavailable
from mechaway_core.folders import FolderRecords, FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.node import Context, Item, ItemNode, Items, Node, param
from mechaway_core.ports import RunQuery, RunRecord
from mechaway_core.runs import Entry, Later, Pending
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.triggers import Call
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
