"""Workflows that call HTTP servers, through the real server process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.server import Server, chain, hook, problem
from tests.web_server import Reply, Seen, WebServer, as_json

WEATHER = {
    "location": {"name": "Zürich", "coordinates": [47.37, 8.54]},
    "current": {"temp_c": 11.5, "condition": {"text": "Partly cloudy"}},
}


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def call(node_id: str = "call", **params: Any) -> dict[str, Any]:
    return {"id": node_id, "node_type": "HTTPClient", "params": params}


def test_weather_is_polled_and_stored_with_nested_pins_and_the_time(server: Server, web: WebServer) -> None:
    url = web.on("/v1/current.json", lambda seen: as_json(WEATHER | {"asked": seen.query["q"][0]}))
    store = {
        "id": "store",
        "node_type": "SimpleTableWriter",
        "params": {"table": "weather", "columns": ["city", "latitude", "celsius", "words", "asked", "at"]},
        "inputs": [
            "$json.data.location.name",
            "$json.data.location.coordinates[0]",
            "$json.data.current.temp_c",
            '$json.data["current"].condition.text',
            "$json.data.asked",
            "date('%Y-%m-%d %H:%M:%S')",
        ],
    }
    server.save(chain("weather", hook(), call(url=url, query={"q": "Zürich & around"}, timeout=10), store))
    record = server.record("weather")
    assert record["status"] == "succeeded"
    [row] = server.http.get("/api/tables/weather/rows").json()["rows"]
    assert (row["city"], row["latitude"], row["celsius"], row["words"]) == ("Zürich", 47.37, 11.5, "Partly cloudy")
    assert row["asked"] == "Zürich & around"
    assert len(row["at"]) == len("2030-01-01 00:00:00")


def test_a_webhook_can_hand_on_what_a_server_says_and_tells_why_it_cannot(server: Server, web: WebServer) -> None:
    server.save(chain("pass", hook(), call(url=web.url + "/status/{{ $json.status }}", response="text")))
    assert server.http.post("/webhook/pass/", json={"status": 200}).json()["data"] == "it is so"
    said = problem(server.http.post("/webhook/pass/", json={"status": 404}), 422)
    assert said["node_id"] == "call"
    assert "answered 404 Not Found: it is so" in said["detail"]


def test_a_run_that_waits_for_a_server_ends_with_its_workflow_s_time(server: Server, web: WebServer) -> None:
    server.save(chain("patient", hook(), call(url=web.url + "/silent"), settings={"timeout": 0.5}))
    assert server.http.post("/webhook/patient/", json={}).status_code == 504


def test_a_server_on_which_private_networks_are_refused_calls_none(data: Path, web: WebServer) -> None:
    web.on("/admin", lambda seen: Reply(b"the keys"))
    with Server(data, http_private="refuse", http_refuse="127.0.0.1:9") as server:
        server.save(chain("inside", hook(), call(url="{{ $json.url }}")))
        for url in (f"{web.url}/admin", f"http://localhost:{web.port}/admin", f"http://0x7f000001:{web.port}/admin"):
            said = problem(server.http.post("/webhook/inside/", json={"url": url}), 422)
            assert "MECHAWAY_HTTP_PRIVATE" in said["detail"]
        for url in ("http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:9/"):
            assert "never call" in problem(server.http.post("/webhook/inside/", json={"url": url}), 422)["detail"]
    assert "/admin" not in web.paths()


def test_a_server_stops_although_a_call_waits(data: Path, web: WebServer) -> None:
    asked = threading.Event()

    def never(seen: Seen) -> Iterator[bytes]:
        asked.set()
        return web.silent(seen)

    url = web.on("/never", never)
    with Server(data, grace=0.2) as server:
        server.save(chain("waits", hook(), call(url=url)))
        with server.connect() as connection:
            connection.sendall(b"GET /webhook/waits/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert asked.wait(20)
            server.close()
        assert server.process.returncode == 0
