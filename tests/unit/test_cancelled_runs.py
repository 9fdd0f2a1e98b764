"""A run that is cancelled ends at once, whatever its nodes wait for, and takes nothing else with it."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.node import Context, Items, Node
from mechaway_core.record import Run
from tests.conftest import MakeApp
from tests.postgres import Server
from tests.web_server import Seen, WebServer

PATIENCE = 30.0  # seconds; nothing here takes that long unless it is broken
AT_ONCE = 5.0  # seconds; all that is waited for here would take a minute
MINUTE = 60
FOREVER = "while true do end"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
WRITER = {"node_type": "SimpleTableWriter", "params": {"table": "t", "columns": ["n"]}, "inputs": ["1"]}


@pytest.fixture
def app(make_app: MakeApp) -> App:
    """An app whose limits of time are all far away."""
    return make_app(lua_timeout=MINUTE, lua_timeout_max=MINUTE, http_timeout=MINUTE, sql_timeout=MINUTE, pg_timeout=MINUTE)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def lua(script: str, **more: Any) -> dict[str, Any]:
    return {"node_type": "FunLogic", "params": {"script": script}, **more}


def call(url: str, **params: Any) -> dict[str, Any]:
    return {"node_type": "HTTPClient", "params": {"url": url, **params}}


def sql(query: str, **params: Any) -> dict[str, Any]:
    return {"node_type": "SimpleTableQuery", "params": {"query": query, **params}}


def save(app: App, nodes: dict[str, Any], workflow_id: str = "wf", *, branches: bool = False) -> None:
    """Nodes behind a webhook, one after the other or side by side."""
    shaped = [{"id": "go", "node_type": "Webhook", "params": {"path": "/"}}, *({"id": name} | node for name, node in nodes.items())]
    names = list(nodes)
    before = ["go"] * len(names) if branches else ["go", *names]
    edges = [{"from": one, "to": other} for one, other in zip(before, names, strict=False)]
    app.put("default", {"id": workflow_id, "nodes": shaped, "edges": edges})


def until(what: Callable[[], bool]) -> None:
    """Wait for what another thread or process does."""
    late = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < late, "it never came to that"
        time.sleep(0.002)


def at(function: str) -> Callable[[], bool]:
    """Whether some thread is inside a function at this moment."""

    def inside() -> bool:
        for frame in list(sys._current_frames().values()):
            while frame is not None:
                if frame.f_code.co_qualname == function:
                    return True
                frame = frame.f_back  # type: ignore[assignment]
        return False

    return inside


def cancelled(app: App, in_flight: Callable[[], bool], workflow_id: str = "wf") -> Run:
    """The run of a workflow that is cancelled while this is in flight; it must end at once, as a cancelled one."""
    with ThreadPoolExecutor(1) as pool:
        future: Future[Run] = pool.submit(app.start, "default", workflow_id)
        until(in_flight)
        began = time.monotonic()
        [one] = app.runs._going.values()
        one.run.cancel()
        run = future.result(PATIENCE)
        assert time.monotonic() - began < AT_ONCE
    assert run.status == "cancelled"
    assert run.failure is not None
    assert run.failure.kind == "cancelled"
    assert run.failure.message.startswith("the run was cancelled; it was at node")
    return run


def going(app: App, workflow_id: str) -> Run:
    """The run of a workflow that goes on at this moment, or soon."""
    found: list[Run] = []

    def begun() -> bool:
        found[:] = [one.run for one in list(app.runs._going.values()) if one.run.info.workflow_id == workflow_id]
        return bool(found)

    until(begun)
    return found[0]


def statuses(run: Run) -> dict[str, str]:
    return {node.id: node.status for node in run.nodes}


def gives(app: App, node: dict[str, Any]) -> list[Any]:
    """What one node gives in a run of its own."""
    save(app, {"only": node}, "other")
    run = app.start("default", "other")
    assert run.failure is None, run.failure
    return run.output


# -- Lua


def test_a_script_that_goes_on_for_ever_is_ended(app: App) -> None:
    save(app, {"first": WRITER, "busy": lua(FOREVER), "never": lua("return 1")})
    run = cancelled(app, at("LuaProcess._receive"))
    assert statuses(run) == {"go": "succeeded", "first": "succeeded", "busy": "cancelled"}
    assert gives(app, lua("return {n = 2}")) == [{"n": 2}]


def test_an_expression_that_goes_on_for_ever_is_ended(app: App) -> None:
    save(app, {"busy": WRITER | {"inputs": ["(function() while true do end end)()"]}})
    assert statuses(cancelled(app, at("LuaProcess._receive"))) == {"go": "succeeded", "busy": "cancelled"}


def test_a_run_that_waits_for_a_lua_process_is_ended_and_the_one_that_has_it_goes_on(make_app: MakeApp) -> None:
    app = make_app(lua_workers=1, lua_timeout=MINUTE, lua_timeout_max=MINUTE)
    save(app, {"busy": lua(FOREVER)}, "busy")
    save(app, {"waits": lua("return 1")}, "waits")
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(app.start, "default", "busy")
        until(at("LuaProcess._receive"))
        waiting = pool.submit(app.start, "default", "waits")
        until(at("Pool._await"))
        going(app, "waits").cancel()
        assert waiting.result(PATIENCE).status == "cancelled"
        assert not busy.done()
        assert app.sandbox.stats()["killed"] == 0
        going(app, "busy").cancel()
        assert busy.result(PATIENCE).status == "cancelled"


def test_no_run_loses_its_process_because_another_is_cancelled(app: App) -> None:
    save(app, {"quick": lua("return {n = 1}")}, "quick")
    save(app, {"a": lua(FOREVER), "b": lua("return 1")}, "busy")
    stop = threading.Event()

    def others() -> list[Run]:
        runs = []
        while not stop.is_set():
            runs.append(app.start("default", "quick"))
        return runs

    with ThreadPoolExecutor(2) as pool:
        quick = pool.submit(others)
        for _ in range(5):
            busy = pool.submit(app.start, "default", "busy")
            going(app, "busy").cancel()
            assert busy.result(PATIENCE).status == "cancelled"
        stop.set()
        assert {run.status for run in quick.result(PATIENCE)} == {"succeeded"}


# -- HTTP


@pytest.mark.parametrize("path", ["/silent", "/drip", "/drip-head", "/endless"])
def test_a_call_is_ended_however_its_server_behaves(app: App, web: WebServer, path: str) -> None:
    save(app, {"call": call(web.url + path, response="file")})
    run = cancelled(app, lambda: web.counts.get(path, 0) > 0)
    assert statuses(run) == {"go": "succeeded", "call": "cancelled"}
    assert gives(app, call(web.url + "/status/200"))[0]["status"] == 200


def test_a_call_is_ended_while_a_token_is_fetched(app: App, web: WebServer) -> None:
    app.put_secret("default", "PASS", "word")
    oauth = {"kind": "oauth2_client_credentials", "client_id": "me", "client_secret": "$secret.PASS"}
    save(app, {"call": call(web.url + "/echo", auth=oauth | {"token_url": web.url + "/silent"})})
    run = cancelled(app, lambda: web.counts.get("/silent", 0) > 0)
    assert statuses(run)["call"] == "cancelled"
    assert "/echo" not in web.paths()
    assert gives(app, call(web.url + "/echo", auth=oauth | {"token_url": web.url + "/token"}))[0]["status"] == 200


def test_a_call_is_ended_while_it_sends_its_body(app: App) -> None:
    with _listener() as listener:
        script = {"node_type": "FunLogic", "params": {"script": "return {text = string.rep('x', 8000000)}", "memory_mb": 64}}
        save(app, {"text": script, "call": call(_url(listener), method="POST", body="{{ $json.text }}")})
        assert statuses(cancelled(app, lambda: _hello(listener)))["call"] == "cancelled"


def test_a_call_is_ended_while_it_connects(app: App) -> None:
    with _listener(backlog=0) as listener, _crowd(listener) as waiting:
        save(app, {"call": call(_url(listener))})
        before = waiting()
        assert statuses(cancelled(app, lambda: waiting() > before))["call"] == "cancelled"


def test_a_call_is_ended_in_the_middle_of_the_handshake(app: App) -> None:
    with _listener() as listener:
        save(app, {"call": call(_url(listener).replace("http:", "https:"))})
        assert statuses(cancelled(app, lambda: _hello(listener)))["call"] == "cancelled"


def test_a_call_is_ended_while_its_host_is_looked_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(*_arguments: Any, **_more: Any) -> list[Any]:
        asked.set()
        go.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    save(app, {"call": call("http://slow.example/")})
    try:
        assert statuses(cancelled(app, asked.is_set))["call"] == "cancelled"
    finally:
        go.set()


def test_the_connection_of_another_run_is_left_alone(app: App, web: WebServer) -> None:
    together = threading.Barrier(2)

    def answers(_seen: Seen) -> Iterator[bytes]:
        together.wait(PATIENCE)
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
        together.wait(PATIENCE)
        yield b"ok"

    save(app, {"call": call(web.on("/answers", answers))}, "good")
    save(app, {"call": call(web.url + "/silent")}, "bad")
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(app.start, "default", "good")
        together.wait(PATIENCE)
        bad = pool.submit(app.start, "default", "bad")
        until(lambda: web.counts.get("/silent", 0) > 0)
        going(app, "bad").cancel()
        assert bad.result(PATIENCE).status == "cancelled"
        together.wait(PATIENCE)
        assert good.result(PATIENCE).output[0]["data"] is not None


_kept: list[socket.socket] = []


def _hello(listener: socket.socket) -> bool:
    """Take a connection and the first byte that comes on it, and be silent from then on."""
    peer, _ = listener.accept()
    _kept.append(peer)
    return bool(peer.recv(1))


@contextlib.contextmanager
def _listener(backlog: int = 5) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        listener.settimeout(PATIENCE)
        yield listener
    for peer in _kept:
        peer.close()
    _kept.clear()


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def _crowd(listener: socket.socket) -> Iterator[Callable[[], int]]:
    """So many connections that the next one waits to be taken; gives what counts those that wait."""
    port = listener.getsockname()[1]

    def waiting() -> int:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(words[2].endswith(f":{port:04X}") and words[3] == "02" for words in lines)  # SYN_SENT

    with contextlib.ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        if not waiting():
            pytest.skip("this system takes every connection")
        yield waiting


# -- tables


def test_a_query_that_goes_on_for_ever_is_ended(app: App) -> None:
    save(app, {"query": sql(ENDLESS + "SELECT count(*) FROM n")})
    assert statuses(cancelled(app, at("SqliteSession.query")))["query"] == "cancelled"
    assert gives(app, sql("SELECT 1 AS n")) == [{"n": 1}]


def test_a_write_that_is_ended_takes_nothing_of_others_with_it(app: App) -> None:
    gives(app, WRITER)
    save(app, {"first": WRITER, "write": sql(ENDLESS + "INSERT INTO t (n) SELECT i FROM n", write=True, table="t")}, "long")
    save(app, {"writer": WRITER}, "short")
    with ThreadPoolExecutor(4) as pool:
        long = pool.submit(app.start, "default", "long")
        until(at("SqliteSession.query"))
        run = going(app, "long")
        short = [pool.submit(app.start, "default", "short") for _ in range(3)]
        until(at("Database._await"))
        run.cancel()
        ended = long.result(PATIENCE)
        assert (ended.status, statuses(ended)) == ("cancelled", {"go": "succeeded", "first": "succeeded", "write": "cancelled"})
        assert [one.result(PATIENCE).status for one in short] == ["succeeded"] * 3
    assert gives(app, sql("SELECT count(*) AS n, min(n) AS least, max(n) AS most FROM t")) == [{"n": 5, "least": 1, "most": 1}]


def test_a_write_that_waits_for_others_is_called_off(app: App) -> None:
    gives(app, WRITER)
    save(app, {"write": sql(ENDLESS + "INSERT INTO t (n) SELECT i FROM n", write=True, table="t")}, "long")
    save(app, {"writer": WRITER}, "short")
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(app.start, "default", "long")
        until(at("SqliteSession.query"))
        short = pool.submit(app.start, "default", "short")
        until(at("Database._await"))
        leader = going(app, "long")
        going(app, "short").cancel()
        assert short.result(PATIENCE).status == "cancelled"
        assert not long.done()
        leader.cancel()
        assert long.result(PATIENCE).status == "cancelled"
    assert gives(app, sql("SELECT count(*) AS n FROM t")) == [{"n": 1}]


def test_a_read_that_waits_for_a_connection_is_ended(make_app: MakeApp) -> None:
    app = make_app(sql_timeout=MINUTE, max_branches=8)
    gives(app, WRITER)  # where there are no tables yet, nobody waits for any
    endless = sql(ENDLESS + "SELECT count(*) FROM n")
    save(app, {f"n{number}": endless for number in range(12)}, branches=True)
    run = cancelled(app, at("Database._count_or_wait"))
    assert {status for name, status in statuses(run).items() if name != "go"} == {"cancelled"}
    assert gives(app, sql("SELECT 1 AS n")) == [{"n": 1}]


# -- PostgreSQL


def pg(query: str) -> dict[str, Any]:
    return {"node_type": "PGQuery", "params": {"query": query}, "secrets": ["$secret.DB"]}


def test_a_statement_on_postgresql_is_ended_and_its_server_told(app: App, server: Server, database: str) -> None:
    app.put_secret("default", "DB", database)
    name = database.rpartition("/")[2]
    save(app, {"asleep": pg(f"SELECT pg_sleep({MINUTE})"), "never": pg("CREATE TABLE never ()")})

    def asleep() -> bool:
        return any("pg_sleep" in text and state == "active" for state, text in server.sessions(name))

    run = cancelled(app, asleep)
    assert statuses(run) == {"go": "succeeded", "asleep": "cancelled"}
    until(lambda: not asleep())
    assert gives(app, pg("SELECT to_regclass('never') IS NULL AS none")) == [{"none": True}]


def test_a_run_that_waits_for_a_connection_to_postgresql_is_ended(make_app: MakeApp, server: Server, database: str) -> None:
    app = make_app(pg_pool=1, pg_timeout=MINUTE)
    app.put_secret("default", "DB", database)
    save(app, {"a": pg(f"SELECT pg_sleep({MINUTE})"), "b": pg(f"SELECT pg_sleep({MINUTE})")}, branches=True)
    name = database.rpartition("/")[2]
    run = cancelled(app, lambda: any("pg_sleep" in text for _, text in server.sessions(name)) and at("Cancellation.acquire")())
    assert statuses(run) == {"go": "succeeded", "a": "cancelled", "b": "cancelled"}


def test_connecting_to_a_silent_postgresql_is_ended(app: App) -> None:
    with _listener() as listener:
        app.put_secret("default", "DB", f"postgresql://me:word@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=disable")
        save(app, {"query": pg("SELECT 1")})
        assert statuses(cancelled(app, lambda: _hello(listener)))["query"] == "cancelled"


# -- what the run makes of it


class Catches(Node):
    """Wait for the test, and fail with an error that says nothing of being cancelled."""

    came: ClassVar[threading.Event] = threading.Event()

    def run(self, items: Items, ctx: Context) -> Items:
        ended = threading.Event()
        ctx.cancellation.begin(ended.set)
        try:
            self.came.set()
            ended.wait(PATIENCE)
            raise ValueError("interrupted")
        finally:
            ctx.cancellation.end(ended.set)


@pytest.mark.parametrize("on_error", ["stop", "continue", "branch"])
def test_being_cancelled_is_nothing_to_retry_or_to_go_on_with(app: App, add_node_type: Callable[[type[Node]], None], on_error: str) -> None:
    add_node_type(Catches)
    Catches.came.clear()
    retry = {"attempts": 5, "delay": 0.01}
    save(app, {"catches": {"node_type": "Catches", "on_error": on_error, "retry": retry}, "after": lua("return 1")})
    run = cancelled(app, Catches.came.is_set)
    assert statuses(run) == {"go": "succeeded", "catches": "cancelled"}
    [_, node] = run.nodes
    assert (node.attempts, node.failures, node.exits) == (1, 0, {})


def test_a_script_is_not_tried_again_when_its_run_is_cancelled(app: App) -> None:
    save(app, {"busy": lua(FOREVER, on_error="continue", retry={"attempts": 3, "delay": 0.01}), "after": lua("return data")})
    run = cancelled(app, at("LuaProcess._receive"))
    assert (statuses(run), run.nodes[1].attempts) == ({"go": "succeeded", "busy": "cancelled"}, 1)


def test_a_run_that_waits_for_its_next_attempt_is_ended(app: App) -> None:
    save(app, {"bad": lua("error('no')", retry={"attempts": 2, "delay": MINUTE, "max_delay": MINUTE})})
    assert statuses(cancelled(app, at("Attempts._pause"))) == {"go": "succeeded", "bad": "cancelled"}


def test_all_branches_of_a_run_are_ended(make_app: MakeApp, web: WebServer) -> None:
    app = make_app(lua_workers=2, lua_timeout=MINUTE, lua_timeout_max=MINUTE, sql_timeout=MINUTE, http_timeout=MINUTE, max_branches=4)
    nodes = {"busy": lua(FOREVER), "call": call(web.url + "/silent"), "query": sql(ENDLESS + "SELECT count(*) FROM n")}
    save(app, nodes, branches=True)
    waits = (at("LuaProcess._receive"), at("SqliteSession.query"), lambda: web.counts.get("/silent", 0) > 0)
    run = cancelled(app, lambda: all(wait() for wait in waits))
    assert statuses(run) == {"go": "succeeded", "busy": "cancelled", "call": "cancelled", "query": "cancelled"}
    assert gives(app, lua("return {n = 1}")) == [{"n": 1}]
