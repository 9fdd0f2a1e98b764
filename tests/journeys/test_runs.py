"""Runs by hand, and what their records tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.journeys.server import Server, chain, echo, hook, lua, problem

FLAKY = {
    "id": "flaky",
    "node_type": "SimpleTableQuery",
    "params": {"query": "INSERT INTO once (n) VALUES (?)", "write": True},
    "inputs": ["$json.n"],
}


def by_id(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in record["nodes"]}


def test_a_record_tells_what_each_node_took_and_gave(server: Server) -> None:
    server.save(
        chain("told", hook(), lua("double", "log('seen', #data) return {n = item.n * 2}"), lua("last", "return {data[1], data[1]}"))
    )
    record = server.record("told", items=[{"n": 21}])
    assert record["status"] == "succeeded"
    assert (record["workflow_id"], record["project"], record["trigger"], record["start_node"]) == ("told", "default", "manual", "hook")
    assert record["version"] == 1
    assert record["output"] == [{"n": 42}, {"n": 42}]
    assert record["started_at"].endswith("Z")
    assert record["started_at"] <= record["ended_at"]
    nodes = by_id(record)
    assert list(nodes) == ["hook", "double", "last"]
    double = nodes["double"]
    assert (double["status"], double["attempts"], double["items_in"], double["items_out"]) == ("succeeded", 1, 1, {"main": 1})
    assert (double["input"], double["output"]) == ([{"n": 21}], {"main": [{"n": 42}]})
    assert len(double["log"]) == 1
    assert "seen" in double["log"][0]
    assert all(node["took_ms"] >= 0 for node in record["nodes"])


@pytest.mark.parametrize("query", ["status=done", "trigger=hand", "since=yesterday", "limit=0"])
def test_a_list_of_runs_refuses_what_it_does_not_know(query: str, server: Server) -> None:
    assert query.partition("=")[0] in problem(server.http.get(f"/api/runs?{query}"), 422)["detail"]


def test_a_run_by_hand_starts_where_it_is_told_to(server: Server) -> None:
    nodes = [
        hook("/a") | {"id": "a"},
        hook("/b") | {"id": "b"},
        lua("one", "return 'one'"),
        lua("two", "return {n = #data, q = query and 1}"),
    ]
    server.save({"id": "doors", "nodes": nodes, "edges": [{"from": "a", "to": "one"}, {"from": "b", "to": "two"}]})
    assert server.record("doors")["output"] == ["one"]
    record = server.record("doors", node="b", items=[1, 2, 3])
    assert record["output"][0]["n"] == 3
    assert list(by_id(record)) == ["b", "two"]
    assert server.record("doors", node="b", items=[])["output"][0]["n"] == 0
    assert server.http.post("/api/workflows/doors/run").json()["status"] == "succeeded"


def test_a_run_by_hand_that_makes_no_sense_is_told(server: Server) -> None:
    server.save(echo("plain"))
    address = "/api/workflows/plain/run"
    wrong: list[Any] = [
        {"node": "nope"},
        {"node": "work"},
        {"node": 5},
        {"node": ""},
        {"items": {}},
        {"items": "x"},
        {"items": 5},
        {"other": 1},
        {"node": "hook\0"},
    ]
    for body in wrong:
        problem(server.http.post(address, json=body), 422)
    for text in (b"[]", b"5", b"{", b"null"):
        problem(server.http.post(address, content=text), 400)
    for body in ({}, {"node": None, "items": None}):
        assert server.http.post(address, json=body).json()["status"] == "succeeded"


def test_a_failed_node_is_on_record_and_what_follows_is_not_run(server: Server) -> None:
    server.save(chain("broken", hook(), lua("bad", "log('before') error('no such luck')"), lua("after", "return 1")))
    record = server.record("broken")
    assert record["status"] == "failed"
    assert record["error"]["node"] == "bad"
    assert "no such luck" in record["error"]["message"]
    nodes = by_id(record)
    assert (nodes["bad"]["status"], nodes["bad"]["error"]["type"]) == ("failed", "script")
    assert nodes["bad"]["log"]
    assert "after" not in nodes or nodes["after"]["status"] == "skipped"


def test_a_failed_attempt_is_made_again(server: Server) -> None:
    server.save(chain("again", hook(), lua("bad", "error('no')", retry={"attempts": 3, "delay": 0.01})))
    assert by_id(server.record("again"))["bad"]["attempts"] == 3
    server.save(chain("again", hook(), lua("bad", "error('no')", retry={"attempts": 3, "delay": 0.01, "on": ["timeout", 429]})))
    assert by_id(server.record("again"))["bad"]["attempts"] == 1
    server.save(chain("again", hook(), lua("bad", "error('no')", retry={"attempts": 2, "delay": 0, "on": ["script"]})))
    assert by_id(server.record("again"))["bad"]["attempts"] == 2


def test_retry_without_attempts_means_as_many_as_the_api_describes(server: Server) -> None:
    schemas = server.http.get("/openapi.json").json()["components"]["schemas"]
    default = schemas["RetryShape"]["properties"]["attempts"]["default"]
    for retry in ({"delay": 0.01}, {"delay": 0.01, "attempts": None}):
        server.save(chain("default", hook(), lua("bad", "error('no')", retry=retry)))
        assert by_id(server.record("default"))["bad"]["attempts"] == default


def test_what_failed_comes_good_at_a_later_attempt(server: Server) -> None:
    """The table appears between the attempts, made by a branch beside."""
    server.save(chain("maker", hook(), {"id": "m", "node_type": "SimpleTableWriter", "params": {"table": "once", "columns": ["n"]}}))
    server.save(chain("flaky", hook(), FLAKY | {"retry": {"attempts": 100, "delay": 0.05, "backoff": 1}}))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.record, "flaky", items=[{"n": 5}])
        server.record("maker", items=[{"n": 1}])
        record = running.result()
    assert record["status"] == "succeeded"
    assert [row["n"] for row in server.http.get("/api/tables/once/rows").json()["rows"]] == [1, 5]


def test_an_error_can_go_on_as_an_item(server: Server) -> None:
    server.save(
        chain("goes-on", hook(), lua("bad", "error('oh no')", on_error="continue"), lua("after", "return {said = item.error.message}"))
    )
    record = server.record("goes-on")
    assert record["status"] == "succeeded"
    assert "oh no" in record["output"][0]["said"]
    assert by_id(record)["bad"]["error"]["type"] == "script"


def test_output_pins_do_not_wipe_out_an_error_that_goes_on(server: Server) -> None:
    """`continue` makes the item `{"error": {...}}`; what comes next must be able to see that."""
    bad = lua("bad", "error('oh no')", on_error="continue", outputs={"total": "$json.total"})
    server.save(chain("shaped", hook(), bad))
    output = server.record("shaped")["output"]
    assert "oh no" in output[0]["error"]["message"]


def test_an_output_pin_that_fails_is_an_error_of_the_node(server: Server) -> None:
    bad = lua("bad", "return {a = {}}", on_error="continue", outputs={"total": "$json.a + 1"})
    server.save(chain("pins", hook(), bad))
    record = server.record("pins")
    assert record["status"] == "succeeded"
    assert record["output"][0]["error"]["type"] == "script"


def test_an_error_can_leave_by_its_own_exit_item_by_item(server: Server) -> None:
    nodes = [
        hook(),
        {
            "id": "each",
            "node_type": "SimpleTableQuery",
            "params": {"query": "SELECT ? AS n"},
            "inputs": ["$json.n // $json.by"],
            "on_error": "branch",
        },
        lua("good", "local t = array{} for i, d in ipairs(data) do t[i] = d.n end return {good = t}"),
        lua("bad", "local t = array{} for i, d in ipairs(data) do t[i] = d.error.item.n end return {bad = t}"),
        lua("end", "return data"),
    ]
    edges = [
        {"from": "hook", "to": "each"},
        {"from": "each", "to": "good"},
        {"from": "each", "to": "bad", "on": "error"},
        {"from": "good", "to": "end"},
        {"from": "bad", "to": "end"},
    ]
    server.save({"id": "branches", "nodes": nodes, "edges": edges})
    mixed = server.record("branches", items=[{"n": 8, "by": 2}, {"n": 5, "by": 0}, {"n": 9, "by": 3}])
    assert mixed["status"] == "succeeded"
    assert mixed["output"] == [{"good": [4, 3]}, {"bad": [5]}]
    assert by_id(mixed)["each"]["failures"] == 1
    well = server.record("branches", items=[{"n": 8, "by": 2}])
    assert well["output"] == [{"good": [4]}]
    assert by_id(well)["bad"]["status"] == "skipped"
    badly = server.record("branches", items=[{"n": 8, "by": 0}])
    assert badly["output"] == [{"bad": [8]}]
    assert by_id(badly)["good"]["status"] == "skipped"


def test_a_disabled_node_hands_on_what_it_is_given(server: Server) -> None:
    server.save(chain("off", hook(), lua("skipped", "error('never')", disabled=True), lua("end", "return data")))
    record = server.record("off", items=[{"a": 1}])
    assert (record["status"], record["output"]) == ("succeeded", [{"a": 1}])
    assert by_id(record)["skipped"]["status"] == "disabled"


def test_a_run_that_is_out_of_time_says_so(server: Server) -> None:
    server.save(chain("slow", hook(), lua("busy", "while true do end"), settings={"timeout": 0.2}))
    record = server.record("slow")
    assert record["status"] == "timed_out"
    assert by_id(record)["busy"]["status"] == "timed_out"
    server.save(chain("slow-node", hook(), lua("busy", "while true do end", timeout=0.2)))
    record = server.record("slow-node")
    assert (record["status"], record["error"]["type"]) == ("failed", "timeout")
    server.save(chain("patient", hook(), lua("bad", "error('no')", retry={"attempts": 5, "delay": 60}), settings={"timeout": 0.5}))
    assert server.record("patient")["status"] == "timed_out"


def test_a_record_shows_the_first_items_of_many(server: Server) -> None:
    server.save(chain("many", hook(), lua("make", "local t = {} for i = 1, 250 do t[i] = i end return t")))
    record = server.record("many")
    make = by_id(record)["make"]
    assert make["items_out"] == {"main": 250}
    assert len(make["output"]["main"]) == 100
    assert len(record["output"]) == 100


def test_branches_side_by_side_give_what_walking_alone_gives(server: Server) -> None:
    sides = [lua(f"side{number}", f"for i = 1, {(7 - number) * 20000} do end return {number}") for number in range(8)]
    nodes = [hook(), *sides, lua("end", "return data")]
    edges = [{"from": "hook", "to": side["id"]} for side in sides] + [{"from": side["id"], "to": "end"} for side in reversed(sides)]
    server.save({"id": "sides", "nodes": nodes, "edges": edges})
    for _ in range(10):
        assert server.record("sides")["output"] == [7, 6, 5, 4, 3, 2, 1, 0]
