"""What was answered is kept, and no writer overwrites another unseen."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.journeys.server import PATIENCE, Server, chain, echo, hook, statuses


def test_every_row_that_was_answered_is_there_after_a_crash(data: Path) -> None:
    answered: set[str] = set()
    chance = random.Random(5)
    for life in range(4):
        with Server(data, lua_workers=2, sync="full") as server:
            _compare(server, answered)
            if life == 0:
                writer = {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "kept", "columns": ["key"]}}
                server.save(chain("keep", hook(), writer))
            enough = len(answered) + 50 + chance.randrange(200)
            threads = [threading.Thread(target=_post, args=(server, f"{life}-{number}", answered)) for number in range(4)]
            for thread in threads:
                thread.start()
            end = time.monotonic() + PATIENCE
            while len(answered) < enough and time.monotonic() < end:
                time.sleep(0.001)
            server.kill()
            for thread in threads:
                thread.join()
            assert len(answered) >= enough
    with Server(data) as server:
        _compare(server, answered)


def _post(server: Server, name: str, answered: set[str]) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as http:
        for number in range(100_000):
            key = f"{name}-{number}"
            try:
                answer = http.post("/webhook/keep", json={"key": key})
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            answered.add(key)


def _compare(server: Server, answered: set[str]) -> None:
    kept: list[str] = []
    cursor = 0
    while answered:
        page = server.http.get("/api/tables/kept/rows", params={"limit": 1000, "cursor": cursor}).json()
        kept.extend(row["key"] for row in page["rows"])
        if page["next"] is None:
            break
        cursor = page["next"]
    assert len(set(kept)) == len(kept)
    assert answered <= set(kept)


def test_every_save_that_was_answered_is_there_after_a_crash(data: Path) -> None:
    answered = 0
    chance = random.Random(7)
    for life in range(4):
        with Server(data, sync="full") as server:
            if life == 0:
                server.save(echo("w", "return 1"))
                answered = 1
            now = server.http.get("/api/workflows/w/versions", params={"limit": 1}).json()["versions"][0]["version"]
            assert answered <= now <= answered + 1
            answered = now
            assert server.http.post("/webhook/w").json() == now
            killer = threading.Timer(0.2 + chance.random() * 0.4, server.process.kill)
            killer.start()
            try:
                while True:
                    saved = server.http.put("/api/workflows/w", json=echo("w", f"return {answered + 1}"))
                    assert saved.json()["version"] == answered + 1
                    answered += 1
            except httpx.TransportError:
                pass
            killer.join()
    with Server(data) as server:
        versions = server.http.get("/api/workflows/w/versions", params={"limit": 1000}).json()["versions"]
        assert len(versions) in (min(answered, 1000), min(answered + 1, 1000))
        for one in versions[:: max(1, len(versions) // 20)]:
            document = server.http.get(f"/api/workflows/w/versions/{one['version']}").json()
            assert document["nodes"][1]["params"]["script"] == f"return {one['version']}"


def test_of_two_writers_with_the_same_etag_exactly_one_wins(data: Path) -> None:
    with Server(data, "--workers", "2") as server, ThreadPoolExecutor(2) as pool:
        server.save(echo("w"))
        for turn in range(25):
            etag = server.http.get("/api/workflows/w").headers["etag"]
            barrier = threading.Barrier(2)

            def put(who: int, etag: str = etag, barrier: threading.Barrier = barrier, turn: int = turn) -> httpx.Response:
                barrier.wait(PATIENCE)
                document = echo("w", f"return {turn * 2 + who}")
                return httpx.put(f"{server.url}/api/workflows/w", json=document, headers={"if-match": etag}, timeout=PATIENCE, verify=False)

            answers = list(pool.map(put, range(2)))
            assert sorted(statuses(answers)) == [200, 412]
            winner = statuses(answers).index(200)
            assert server.http.post("/webhook/w").json() == turn * 2 + winner
        versions = server.http.get("/api/workflows/w/versions").json()["versions"]
        assert [one["version"] for one in versions] == list(range(26, 0, -1))


def test_no_save_of_many_at_once_is_lost(data: Path) -> None:
    with Server(data, "--workers", "2") as server, ThreadPoolExecutor(8) as pool:
        server.save(echo("w", "return 0"))

        def put(number: int) -> httpx.Response:
            return httpx.put(f"{server.url}/api/workflows/w", json=echo("w", f"return {number}"), timeout=PATIENCE, verify=False)

        answers = list(pool.map(put, range(1, 97)))
        assert set(statuses(answers)) == {200}
        numbers = sorted(answer.json()["version"] for answer in answers)
        assert numbers == list(range(2, 98))
        versions = server.http.get("/api/workflows/w/versions", params={"limit": 1000}).json()["versions"]
        assert len(versions) == 97
        kept = {server.http.get(f"/api/workflows/w/versions/{one['version']}").json()["nodes"][1]["params"]["script"] for one in versions}
        assert kept == {f"return {number}" for number in range(97)}


def test_many_writers_of_rows_lose_none(data: Path) -> None:
    with Server(data, "--workers", "2") as server, ThreadPoolExecutor(8) as pool:
        server.save(
            chain("keep", hook(), {"id": "save", "node_type": "SimpleTableWriter", "params": {"table": "kept", "columns": ["key"]}})
        )

        def post(number: int) -> int:
            answer = httpx.post(f"{server.url}/webhook/keep", json={"key": number}, timeout=PATIENCE, verify=False)
            return int(answer.json()["_inserted_id"])

        ids = list(pool.map(post, range(300)))
        assert sorted(ids) == list(range(1, 301))
        rows = server.http.get("/api/tables/kept/rows", params={"limit": 1000}).json()["rows"]
        assert {row["id"]: row["key"] for row in rows} == {row_id: number for number, row_id in enumerate(ids)}
