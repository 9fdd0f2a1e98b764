"""Runs on record over HTTP: lists, what happens now, stop, again, and runs that were accepted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.server import PATIENCE, Server, chain, echo, hook, lua, lua_workers, problem, server_workers, until
from tests.web_server import WebServer

TOKEN = "s3cret-token"
STOP = {"id": "stop", "node_type": "Stop", "params": {"message": "no Ärger {{ $json.n }}"}}
SAVE = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "seen", "columns": ["n"]}}
NIL = "01900000-0000-7000-8000-000000000000"


def accepting(workflow_id: str, *nodes: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A workflow whose callers do not wait."""
    return chain(workflow_id, hook(mode="accept"), *nodes, settings=settings)


def accept(server: Server, workflow_id: str, body: Any = None, **headers: str) -> str:
    """The address of a run that was accepted, by a connection of its own."""
    answer = httpx.post(f"{server.url}/webhook/{workflow_id}", json={} if body is None else body, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def ended(server: Server, where: str) -> dict[str, Any]:
    """The record of a run once it is over."""

    def look() -> dict[str, Any] | None:
        record: dict[str, Any] = httpx.get(server.url + where, timeout=PATIENCE).json()  # whichever process answers
        return record if record["ended_at"] is not None else None

    return until(look, f"the end of {where}")


def working(server: Server, where: str, node_id: str) -> None:
    """Wait until a run is at a node, in whatever process it goes on."""

    def at_it() -> bool:
        nodes = httpx.get(server.url + where, timeout=PATIENCE).json()["nodes"]
        return any(node["id"] == node_id and node["status"] == "running" for node in nodes)

    until(at_it, f"the run at its node {node_id}")


# -- lists


@pytest.fixture(scope="module")
def seeded(server: Server) -> dict[str, list[str]]:
    """Ids of runs of two workflows, oldest first."""
    server.save(chain("well", hook(), lua("work", "return {n = item.n, text = 'needle ' .. tostring(item.n)}")))
    server.save(chain("badly", hook(), STOP))
    ids: dict[str, list[str]] = {"well": [], "badly": []}
    for number in range(6):
        answer = server.http.post("/webhook/well", json={"n": number})
        ids["well"].append(answer.headers["mechaway-run-id"])
        ids["badly"].append(server.record("badly", items=[{"n": number}])["run_id"])
    return ids


def listed(server: Server, query: str = "", prefix: str = "") -> list[str]:
    """Ids of all runs that a filter finds, by pages."""
    ids: list[str] = []
    cursor = ""
    while True:
        answer = server.http.get(f"{prefix}/api/runs?{query}&cursor={cursor}")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [line["run_id"] for line in page["runs"]]
        if page["next"] is None:
            return ids
        cursor = page["next"]


def newest(ids: list[str]) -> list[str]:
    return sorted(ids, reverse=True)


def test_every_filter_finds_what_it_says_on_pages_of_any_size(server: Server, seeded: dict[str, list[str]]) -> None:
    well, badly = seeded["well"], seeded["badly"]
    third = server.http.get(f"/api/runs/{well[2]}").json()["started_at"]
    found = {
        "": well + badly,
        "workflow=well": well,
        "workflow=nothing": [],
        "status=failed": badly,
        "status=failed&status=cancelled": badly,
        "status=succeeded&status=failed": well + badly,
        "status=running": [],
        "trigger=webhook": well,
        "trigger=manual": badly,
        "trigger=manual&workflow=well": [],
        f"since={third}&workflow=well": well[2:],
        f"until={third}&workflow=well": well[:2],
        f"since={third}&until={third}": [],
        "text=NEEDLE 3": [well[3]],
        "text=%C3%84rger 4": [badly[4]],
        "text=%C3%84RGER&status=failed": badly,
        "text=" + badly[1][:20] + "&workflow=well": [one for one in well if one.startswith(badly[1][:20])],
        "text=nowhere to be found": [],
    }
    for query, ids in found.items():
        for limit in (1, 2, 5, 1000):
            assert listed(server, f"{query}&limit={limit}") == newest(ids), (query, limit)


def test_a_line_tells_what_a_list_needs(server: Server, seeded: dict[str, list[str]]) -> None:
    [line] = [one for one in server.http.get("/api/runs").json()["runs"] if one["run_id"] == seeded["badly"][0]]
    assert set(line) == {
        "run_id", "workflow_id", "version", "status", "trigger", "start_node", "started_at", "ended_at", "took_ms", "message",
    }  # fmt: skip
    assert (line["workflow_id"], line["status"], line["trigger"], line["start_node"]) == ("badly", "failed", "manual", "hook")
    assert line["message"] == 'node "stop": no Ärger 0'


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "status=failed&status=",
        "limit=0",
        "limit=1001",
        "limit=x",
        "since=yesterday",
        "until=2026-13-01",
        "text=" + "x" * 201,
    ],
)
def test_a_filter_that_makes_no_sense_is_told(server: Server, query: str) -> None:
    problem(server.http.get(f"/api/runs?{query}"), 422)


@pytest.mark.parametrize("cursor", ["%00", "x" * 5000, "%F0%9F%94%91", "../..", "%25", "'--", "zzz", "0"])
def test_any_cursor_is_a_place_in_the_list(server: Server, seeded: dict[str, list[str]], cursor: str) -> None:
    answer = server.http.get(f"/api/runs?cursor={cursor}")
    assert answer.status_code == 200
    assert {line["run_id"] for line in answer.json()["runs"]} <= {*seeded["well"], *seeded["badly"]}


@pytest.mark.parametrize(
    "run_id", [NIL, "nope", "%00", "%F0%9F%94%91", "%C3%28", "..", "x" * 10_000, "a%2Fb", "'%3B--", "%0D%0A", "replay"]
)
@pytest.mark.parametrize(("method", "what"), [("GET", ""), ("POST", "/cancel"), ("POST", "/replay")])
def test_a_run_that_is_not_there_is_not_found_whatever_it_is_called(server: Server, run_id: str, method: str, what: str) -> None:
    answer = server.http.request(method, f"/api/runs/{run_id}{what}")
    assert answer.status_code in (404, 405, 414), answer.text
    problem(answer, answer.status_code)
    if run_id in (NIL, "nope", "%F0%9F%94%91"):
        assert "there is no run" in answer.json()["detail"]


def test_runs_of_a_project_are_found_below_its_address_alone(server: Server, seeded: dict[str, list[str]]) -> None:
    server.http.post("/api/projects", json={"slug": "shop"}).raise_for_status()
    server.save(accepting("later", lua("work", "error('no')")), "shop")
    answer = server.http.post("/p/shop/webhook/later", json={})
    where = answer.headers["location"]
    assert where.startswith("/p/shop/api/runs/")
    run_id = where.rpartition("/")[2]
    assert ended(server, where)["status"] == "failed"
    again = server.http.post(f"{where}/replay", json={})
    assert again.headers["location"] == f"/p/shop/api/runs/{again.json()['run_id']}"
    assert ended(server, again.headers["location"])["parent"] == run_id
    assert set(listed(server, "", "/p/shop")) == {run_id, again.json()["run_id"]}
    assert run_id not in listed(server)
    for method, path in (
        ("GET", f"/api/runs/{run_id}"),
        ("POST", f"/api/runs/{run_id}/cancel"),
        ("POST", f"/api/runs/{run_id}/replay"),
        ("GET", f"/p/shop/api/runs/{seeded['well'][0]}"),
        ("GET", "/p/nowhere/api/runs"),
        ("GET", "/p/nowhere/api/runs/events"),
        ("GET", f"/p/nowhere/api/runs/{run_id}"),
    ):
        problem(server.http.request(method, path), 404)


def test_a_project_that_is_deleted_takes_its_runs_along(server: Server) -> None:
    server.http.post("/api/projects", json={"slug": "gone"}).raise_for_status()
    server.save(echo("w"), "gone")
    run_id = server.http.post("/p/gone/webhook/w", json={}).headers["mechaway-run-id"]
    assert listed(server, "", "/p/gone") == [run_id]
    server.http.delete("/api/projects/gone").raise_for_status()
    server.http.post("/api/projects", json={"slug": "gone"}).raise_for_status()
    assert listed(server, "", "/p/gone") == []
    problem(server.http.get(f"/p/gone/api/runs/{run_id}"), 404)


# -- again


def test_a_run_is_run_again_over_http(server: Server) -> None:
    server.save(chain("fix", hook(), lua("first", "return {n = item.n + 1}"), STOP))
    run_id = server.record("fix", items=[{"n": 1}])["run_id"]
    server.save(chain("fix", hook(), lua("first", "return {n = 100}"), lua("stop", "return {n = item.n * 2}")))
    for body, output in (({}, [{"n": 4}]), ({"from": "start"}, [{"n": 200}]), ({"from": "stop", "items": [{"n": 5}]}, [{"n": 10}])):
        answer = server.http.post(f"/api/runs/{run_id}/replay", json=body)
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"run_id": answer.json()["run_id"], "parent": run_id, "status": "queued"}
        record = ended(server, answer.headers["location"])
        assert (record["status"], record["output"], record["parent"], record["trigger"]) == ("succeeded", output, run_id, "replay")
    same = server.http.post(f"/api/runs/{run_id}/replay", json={"version": "same"})
    assert ended(server, same.headers["location"])["status"] == "failed"
    assert server.http.post(f"/api/runs/{run_id}/replay").status_code == 202, "a body is not needed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"from": 5}, 422),
        ({"from": "nope"}, 422),
        ({"version": "old"}, 422),
        ({"items": {}}, 422),
        ({"items": 5}, 422),
        ({"other": 1}, 422),
        ([], 400),
    ],
)
def test_a_replay_that_makes_no_sense_is_told(server: Server, seeded: dict[str, list[str]], body: Any, status: int) -> None:
    problem(server.http.post(f"/api/runs/{seeded['badly'][0]}/replay", json=body), status)


def test_what_succeeded_does_not_go_on_from_where_it_failed(server: Server, seeded: dict[str, list[str]]) -> None:
    assert "succeeded" in problem(server.http.post(f"/api/runs/{seeded['well'][0]}/replay"), 409)["detail"]


def test_all_that_a_filter_finds_run_again_when_that_is_meant(server: Server) -> None:
    server.save(chain("many", hook(), STOP))
    ids = [server.record("many", items=[{"n": number}])["run_id"] for number in range(3)]
    wish = {"filter": {"workflow": "many", "status": "failed"}}
    told = server.http.post("/api/runs/replay", json=wish)
    assert (told.status_code, told.json()) == (200, {"runs": [{"run_id": one} for one in ids], "count": 3, "more": False})
    assert listed(server, "workflow=many&trigger=replay") == []
    done = server.http.post("/api/runs/replay", json={**wish, "dry_run": False})
    assert done.status_code == 202
    for one in done.json()["runs"]:
        assert ended(server, f"/api/runs/{one['replayed_by']}")["parent"] == one["run_id"]
    assert [one["run_id"] for one in done.json()["runs"]] == ids


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": {}},
        {"filter": []},
        {"filter": {"status": ["lost"]}},
        {"filter": {"status": []}},
        {"filter": {"workflow": None, "text": ""}},
        {"filter": {"status": 5}},
        {"filter": {"workflow": 5}},
        {"filter": {"since": "yesterday"}},
        {"filter": {"since": 5}},
        {"filter": {"other": 1}},
        {"filter": {"workflow": "w"}, "dry_run": "no"},
        {"filter": {"workflow": "w"}, "items": []},
        {"filter": {"workflow": "w"}, "version": "old"},
    ],
)
def test_a_replay_of_many_that_makes_no_sense_is_told(server: Server, body: Any) -> None:
    problem(server.http.post("/api/runs/replay", json=body), 422)


# -- what happens now


@pytest.fixture
def pair(data: Path) -> Iterator[Server]:
    with Server(data, "--workers", "2", lua_timeout=60, lua_timeout_max=60, run_timeout=60) as server:
        until(lambda: len(server_workers(server.process.pid)) == 2, "two processes")
        yield server


class Watcher:
    """Who reads the stream of a project, in a thread."""

    def __init__(self, url: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self._client = httpx.Client(timeout=PATIENCE)
        self._ready = threading.Event()
        self._url = url
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        with contextlib.suppress(httpx.TransportError), self._client.stream("GET", self._url) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                self._ready.set()
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "run":
                    self.events.append(json.loads(value))
        self.ended.set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(Exception):
            self._client.close()


def test_who_watches_hears_of_runs_of_every_process(pair: Server) -> None:
    pair.save(echo("w"))
    pair.save(accepting("later", lua("work", "return data")))
    pair.http.post("/api/projects", json={"slug": "other"}).raise_for_status()
    pair.save(echo("w"), "other")
    before = httpx.post(f"{pair.url}/webhook/w", json={}).headers["mechaway-run-id"]
    with Watcher(f"{pair.url}/api/runs/events") as one, Watcher(f"{pair.url}/api/runs/events") as two:
        ids = {httpx.post(f"{pair.url}/webhook/w", json={}, timeout=PATIENCE).headers["mechaway-run-id"] for _ in range(40)}
        httpx.post(f"{pair.url}/p/other/webhook/w", json={}, timeout=PATIENCE).raise_for_status()
        later = accept(pair, "later").rpartition("/")[2]
        for watcher in (one, two):
            until(lambda w=watcher: ids <= {event["run_id"] for event in w.events}, "all events")  # type: ignore[misc]
            until(
                lambda w=watcher: any(event["run_id"] == later and event["status"] == "succeeded" for event in w.events),  # type: ignore[misc]
                "the end of the accepted run",
            )
            assert {event["run_id"] for event in watcher.events} == {*ids, later}, "none of before, none of another project"
            assert before not in {event["run_id"] for event in watcher.events}
            assert all(event["workflow_id"] in ("w", "later") for event in watcher.events)
            assert len([event for event in watcher.events if event["run_id"] in ids]) == len(ids), "each is told once"


def test_a_server_that_is_told_to_stop_does_not_wait_for_those_who_watch(data: Path) -> None:
    with Server(data) as server:
        server.save(echo("w"))
        with Watcher(f"{server.url}/api/runs/events") as watcher:
            server.signal(signal.SIGTERM)
            assert server.process.wait(PATIENCE) == 0
            assert watcher.ended.wait(PATIENCE)
        assert "Traceback" not in server.err


def test_a_watcher_whose_project_goes_away_is_let_go(data: Path) -> None:
    with Server(data) as server:
        server.http.post("/api/projects", json={"slug": "shop"}).raise_for_status()
        with Watcher(f"{server.url}/p/shop/api/runs/events") as watcher:
            server.http.delete("/api/projects/shop").raise_for_status()
            assert watcher.ended.wait(PATIENCE)
        assert server.http.get("/api/runs").status_code == 200
        assert "Traceback" not in server.err


# -- to stop


def test_a_busy_loop_is_stopped_over_http_whichever_process_hears_of_it(pair: Server) -> None:
    pair.save(accepting("busy", lua("loop", "while true do end"), SAVE))
    for _ in range(3):
        where = accept(pair, "busy")
        working(pair, where, "loop")
        with httpx.Client(base_url=pair.url, timeout=PATIENCE) as http:
            answer = http.post(f"{where}/cancel")
            assert (answer.status_code, answer.json()["run_id"]) == (202, where.rpartition("/")[2])
        record = ended(pair, where)
        assert record["status"] == "cancelled"
        assert record["error"]["type"] == "cancelled"
        assert [node["id"] for node in record["nodes"]] == ["hook", "loop"]
        problem(pair.http.post(f"{where}/cancel"), 409)
    assert pair.http.get("/api/tables").json()["tables"] == []


def test_a_call_that_gets_no_answer_is_stopped_over_http(data: Path) -> None:
    with WebServer() as web, Server(data, allow_private_hosts="true", run_timeout=60) as server:
        call = {"id": "call", "node_type": "HTTPClient", "params": {"url": f"{web.url}/silent", "timeout": 60}}
        server.save(accepting("calls", call))
        where = accept(server, "calls")
        working(server, where, "call")
        assert server.http.post(f"{where}/cancel").status_code == 202
        assert ended(server, where)["status"] == "cancelled"


def test_a_caller_that_waits_is_told_that_its_run_was_stopped(data: Path) -> None:
    with Server(data, lua_timeout=60, run_timeout=60) as server, ThreadPoolExecutor(1) as pool:
        server.save(echo("busy", "while true do end"))
        waits = pool.submit(httpx.post, f"{server.url}/webhook/busy", json={}, timeout=PATIENCE)
        [line] = until(lambda: server.http.get("/api/runs?status=running").json()["runs"] or None, "the run on record")
        assert server.http.post(f"/api/runs/{line['run_id']}/cancel").status_code == 202
        answer = waits.result()
        assert problem(answer, 503)["run_id"] == line["run_id"]


# -- accepted runs


def counts(server: Server) -> dict[int, int]:
    """How often each number was written."""
    found: dict[int, int] = {}
    for row in server.http.get("/api/tables/seen/rows?limit=1000").json()["rows"]:
        found[row["n"]] = found.get(row["n"], 0) + 1
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_accepted_happens_after_the_next_start(data: Path, number: signal.Signals) -> None:
    settings: dict[str, Any] = {"max_runs": 2, "lua_timeout": 30, "grace": 0.5}
    script = "local t = os.clock() while os.clock() - t < 0.2 do end return data"
    with Server(data, **settings) as server:
        server.save(accepting("slow", lua("work", script), SAVE))
        places = [accept(server, "slow", {"n": one}) for one in range(12)]
        assert {server.http.get(where).json()["status"] for where in places} & {"queued"}
        server.signal(number)
        server.process.wait(PATIENCE)
    with Server(data, **settings) as server:
        records = [ended(server, where) for where in places]
        assert {record["status"] for record in records} == {"succeeded"}
        done = counts(server)
        assert set(done) == set(range(12))
        assert sum(done.values()) <= 13, "no more than the run that was cut off has acted twice"
        assert max(record.get("attempt", 1) for record in records) <= 2


def test_a_process_that_is_killed_beside_others_leaves_its_accepted_runs_to_them(pair: Server) -> None:
    pair.save(accepting("slow", lua("work", "local t = os.clock() while os.clock() - t < 0.2 do end return data"), SAVE))
    places = [accept(pair, "slow", {"n": one}) for one in range(12)]
    os.kill(server_workers(pair.process.pid)[0], signal.SIGKILL)
    for where in places:
        assert ended(pair, where)["status"] == "succeeded"
    assert set(counts(pair)) == set(range(12))


def test_an_accepted_run_that_ends_its_process_is_not_begun_for_ever(data: Path) -> None:
    """A Lua process may die, a server must not; so the server is killed each time that the run is at work."""
    settings: dict[str, Any] = {"lua_timeout": 60, "run_timeout": 60}
    where = ""
    for attempt in range(1, 5):
        with Server(data, **settings) as server:
            if not where:
                server.save(accepting("deadly", lua("work", "while true do end")))
                where = accept(server, "deadly")
            if attempt == 4:
                record = ended(server, where)
                assert (record["status"], record["error"]["type"]) == ("failed", "lost")
                return
            working(server, where, "work")
            assert lua_workers(server.process.pid)
            server.kill()


def test_many_at_once_with_the_same_key_are_one_run(pair: Server) -> None:
    pair.save(chain("once", hook(), lua("work", "return data"), SAVE))
    pair.save(accepting("later", lua("work", "return data"), SAVE))

    def post(workflow_id: str, key: str) -> httpx.Response:
        return httpx.post(f"{pair.url}/webhook/{workflow_id}", json={"n": 1}, headers={"idempotency-key": key}, timeout=PATIENCE)

    with ThreadPoolExecutor(8) as pool:
        for workflow_id in ("once", "later"):
            answers = list(pool.map(lambda _: post(workflow_id, "k"), range(24)))  # noqa: B023
            assert {answer.status_code for answer in answers} <= {200, 202, 409}
            for answer in answers:
                if answer.status_code == 409:
                    assert answer.headers["retry-after"]
            ids = {answer.headers["mechaway-run-id"] for answer in answers if answer.status_code < 300}
            assert len(ids) == 1
            again = post(workflow_id, "k")
            assert ids == {again.headers["mechaway-run-id"]}
            assert again.headers["mechaway-repeated"] == "true"
            ended(pair, f"/api/runs/{ids.pop()}")
    assert counts(pair) == {1: 2}


# -- who may


def test_keys_reach_what_their_scopes_say(data: Path) -> None:
    with Server(data, api_token=TOKEN, auth_delay=0) as server:
        server.http.headers["authorization"] = f"Bearer {TOKEN}"
        for slug in ("shop", "other"):
            server.http.post("/api/projects", json={"slug": slug}).raise_for_status()
        server.save(chain("badly", hook(), STOP), "shop")
        run_id = server.http.post("/p/shop/api/workflows/badly/run", json={}).json()["run_id"]
        keys = {
            scope: server.http.post("/api/keys", json={"project": "shop", "name": scope, "scopes": [scope]}).json()["key"]
            for scope in ("read", "run", "write")
        }
        calls = {
            ("GET", "runs"): "read",
            ("GET", f"runs/{run_id}"): "read",
            ("POST", f"runs/{run_id}/cancel"): "run",
            ("POST", f"runs/{run_id}/replay"): "run",
            ("POST", "runs/replay"): "run",
        }
        for (method, path), needed in calls.items():
            for scope, key in keys.items():

                def ask(prefix: str, method: str = method, path: str = path, key: str = key) -> httpx.Response:
                    body = {"filter": {"workflow": "w"}} if path == "runs/replay" else None
                    headers = {"authorization": f"Bearer {key}"}
                    return httpx.request(method, f"{server.url}{prefix}/api/{path}", json=body, headers=headers, timeout=PATIENCE)

                answer = ask("/p/shop")
                assert (answer.status_code == 403) == (scope != needed), (method, path, scope, answer.text)
                assert answer.status_code in (200, 202, 403, 409)
                assert {ask("/p/other").status_code, ask("").status_code} <= {403, 404}
        for scope, key in keys.items():
            with httpx.stream("GET", f"{server.url}/p/shop/api/runs/events", headers={"authorization": f"Bearer {key}"}) as answer:
                assert answer.status_code == (200 if scope == "read" else 403)
        for path in ("runs", f"runs/{run_id}", "runs/events"):
            problem(httpx.get(f"{server.url}/p/shop/api/{path}"), 401)
