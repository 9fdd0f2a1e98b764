"""The examples of accepted runs and of polling, a failure that is heard of, and a replay after the workflow was mended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.journeys.server import EXAMPLES, Server, until
from tests.web_server import Reply, Seen, WebServer, as_json

ORDER = {"customer": "ann", "lines": [{"price": 2.5, "count": 2}, {"price": 1, "count": 11}]}


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


class Payments:
    """Charges once for each key, and refuses what says no currency where one is needed."""

    def __init__(self, *, needs_currency: bool = False) -> None:
        self.needs_currency = needs_currency
        self.keys: list[str] = []
        self.charged: dict[str, Any] = {}

    def charge(self, seen: Seen) -> Reply:
        key, body = seen.headers["idempotency-key"], json.loads(seen.body)
        self.keys.append(key)
        if self.needs_currency and "currency" not in body:
            return as_json({"error": "which currency?"}, 422)
        self.charged.setdefault(key, body)
        return as_json({"id": f"ch-{list(self.charged).index(key) + 1}"})


def example(name: str, url: str) -> dict[str, Any]:
    """An example that calls this address in the place of its own."""
    text = (EXAMPLES / name).read_text()
    document: dict[str, Any] = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    for node in document["nodes"]:
        if "url" in node["params"]:
            node["params"]["url"] = url
    return document


def ended(server: Server, run_id: str) -> dict[str, Any]:
    """The record of a run, once it is over."""

    def found() -> dict[str, Any] | None:
        record: dict[str, Any] = server.http.get(f"/api/runs/{run_id}").json()
        return record if record["ended_at"] is not None else None

    return until(found, f"the end of run {run_id}")


def rows(server: Server, table: str) -> list[dict[str, Any]]:
    answer = server.http.get(f"/api/tables/{table}/rows")
    found: list[dict[str, Any]] = answer.json()["rows"] if answer.status_code == 200 else []
    return found


def order(server: Server, body: Mapping[str, Any], key: str | None = None) -> str:
    """The run that an order was accepted as."""
    answer = server.http.post("/webhook/orders", json=body, headers={} if key is None else {"idempotency-key": key})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == answer.json()["location"]
    run_id: str = answer.json()["run_id"]
    return run_id


def test_an_order_is_accepted_charged_and_kept_once_however_often_it_is_sent(server: Server, web: WebServer) -> None:
    payments = Payments()
    server.save(example("orders.json", web.on("/charges", payments.charge)))
    runs = {order(server, ORDER, key="order-1") for _ in range(3)}
    assert len(runs) == 1
    assert ended(server, runs.pop())["status"] == "succeeded"
    [row] = rows(server, "orders")
    assert (row["customer"], row["total"], row["charge"]) == ("ann", 16.0, "ch-1")
    assert list(payments.charged.values()) == [{"customer": "ann", "total": 16.0}]


def test_an_order_that_failed_is_kept_where_somebody_looks(server: Server, web: WebServer) -> None:
    server.save(example("orders.json", web.on("/charges", Payments().charge)))
    server.save(example("orders-failed.json", ""))
    run_id = order(server, {"customer": "bob"})
    record = ended(server, run_id)
    assert (record["status"], record["error"]["node"]) == ("failed", "total")
    row = until(lambda: next((row for row in rows(server, "failed_orders") if row["run_id"] == run_id), None), "the row of the failure")
    assert (row["event"], row["node"]) == ("failed", "total")
    assert "an order needs lines" in row["message"]


def test_a_run_that_failed_is_replayed_from_there_once_the_workflow_was_mended(server: Server, web: WebServer) -> None:
    payments = Payments(needs_currency=True)
    document = example("orders.json", web.on("/charges", payments.charge))
    server.save(document)
    first = ended(server, order(server, ORDER))
    assert (first["status"], first["error"]["node"]) == ("failed", "charge")

    charge = next(node for node in document["nodes"] if node["id"] == "charge")
    charge["inputs"] = ["{customer = $json.customer, total = $json.total, currency = 'EUR'}"]
    server.save(document)
    before = len(rows(server, "orders"))
    answer = server.http.post(f"/api/runs/{first['run_id']}/replay", json={"from": "failed"})
    assert answer.status_code == 202, answer.text
    again = ended(server, answer.json()["run_id"])

    assert (again["status"], again["parent"], again["version"]) == ("succeeded", first["run_id"], first["version"] + 1)
    replayed = {node["id"]: node.get("replayed", False) for node in again["nodes"]}
    assert replayed == {"order": True, "total": True, "charge": False, "keep": False}
    assert len(set(payments.keys)) == 1, "the same call, whichever attempt makes it"
    assert list(payments.charged.values()) == [{"customer": "ann", "total": 16.0, "currency": "EUR"}]
    assert len(rows(server, "orders")) == before + 1


def test_a_poller_hands_on_what_it_has_not_seen(server: Server, web: WebServer) -> None:
    entries: list[dict[str, Any]] = [{"id": 1, "title": "one"}, {"id": 2, "title": "two"}]
    server.save(example("poller.yaml", web.on("/entries", lambda _: as_json(entries))))
    assert [item["title"] for item in server.record("poller")["output"]] == ["one", "two"]
    assert server.record("poller")["output"] == []
    entries.insert(0, {"id": 3, "title": "three"})
    assert [item["title"] for item in server.record("poller")["output"]] == ["three"]
    assert [row["entry"] for row in rows(server, "seen")] == [1, 2, 3]
