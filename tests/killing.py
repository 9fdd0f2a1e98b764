"""Kills servers at random under load, starts them again, and then compares what callers were told with what is on record.

    python -m tests.killing --minutes 5 --workers 2

Callers wait for runs or have them accepted, with a key of their own and without; a schedule is due each second. Every run writes a row and
calls a server of the test, both under `$run.key`. Meanwhile `kill -9` meets whatever is there: the server, one of its workers, the one that
keeps time, the supervisor, Lua processes; and now and then a server is told to stop. Nothing that was promised may be missing at the end,
and nothing may be there under two names.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from mechaway_core.local.timekeeper import LOCK
from mechaway_core.runs.runs import MOST_ATTEMPTS
from tests.journeys.server import Server, alive, chain, family, hook, lua, lua_workers, server_workers, until

CALLERS = 6
PAUSE = (0.3, 2.5)  # seconds between two kills
SLOW = 0.01  # share of runs that take longer than a second
SETTLED = 120.0  # seconds after which no run may be open any more
UNHURRIED = 40.0  # seconds for which a caller with a key tries again once the killing is over: a claim that was cut off runs out

WORK = "local t = os.clock() while os.clock() - t < (item.seconds or 0) do end return data"


@dataclass
class Ledger:
    """What callers were told. `n` is what each request calls itself."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: dict[str, str] = field(default_factory=dict)  # n → run, for requests that were answered with what the run gave
    accepted: dict[str, str] = field(default_factory=dict)  # n → run
    several: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # n → all runs that answers named
    unexpected: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def told(self, mode: str, n: str, run_id: str) -> None:
        with self.lock:
            self.counts[mode] += 1
            (self.answered if mode == "wait" else self.accepted)[n] = run_id
            self.several[n].add(run_id)


class Effects:
    """A server that knows keys: it acts once for each, and counts the rest."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acted: dict[str, str] = {}  # key → n
        self.mixed: list[str] = []  # keys that came with something else later
        self.calls: Counter[str] = Counter()
        effects = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                effects._act(self.headers["idempotency-key"], body["n"])
                self.send_response(200)
                self.send_header("content-length", "2")
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # callers are killed here
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _act(self, key: str, n: str) -> None:
        with self.lock:
            if self.acted.setdefault(key, n) != n:
                self.mixed.append(key)
            self.calls[key] += 1

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class House:
    """A server over one data folder that is killed and started again."""

    def __init__(self, data: Path, workers: int, chance: random.Random, ledger: Ledger) -> None:
        self.data = data
        self.workers = workers
        self.chance = chance
        self.ledger = ledger
        self.orphans: list[int] = []  # workers whose supervisor was killed; they end by themselves
        self.server = self._start()

    def _start(self) -> Server:
        return Server(self.data, "--workers", str(self.workers), lua_workers=2, grace=1, run_timeout=20)

    @property
    def processes(self) -> list[int]:
        """Those that serve."""
        return server_workers(self.server.process.pid) if self.workers > 1 else [self.server.process.pid]

    def hurt(self) -> None:
        """Kill something, or tell the server to stop, and see to it that one serves again."""
        victims = ["server", "lua", "stop"] if self.workers == 1 else ["worker", "leader", "server", "lua", "stop", "all"]
        victim = self.chance.choice(victims)
        self.ledger.count(f"killed: {victim}" if victim != "stop" else "told to stop")
        getattr(self, f"_{victim}")()
        if self.server.process.poll() is not None:
            self.server.close()
            self.server = self._start()

    def _server(self) -> None:
        self.orphans += self.processes if self.workers > 1 else []
        self.server.kill()

    def _worker(self) -> None:
        _kill(self.chance.choice(self.processes or [0]))

    def _leader(self) -> None:
        holder = holder_of(self.data / LOCK)
        _kill(holder if holder in family(self.server.process.pid) else 0)  # not one that the test did not start

    def _lua(self) -> None:
        found = lua_workers(self.server.process.pid)
        _kill(self.chance.choice(found or [0]))

    def _stop(self) -> None:
        self.server.signal(signal.SIGTERM)
        self.server.process.wait(30)

    def _all(self) -> None:
        for pid in [self.server.process.pid, *family(self.server.process.pid)]:
            _kill(pid)
        self.server.process.wait()

    def close(self) -> None:
        self.server.close()
        until(lambda: not any(alive(pid) for pid in self.orphans), "the end of workers without a supervisor")


def _kill(pid: int | None) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def holder_of(path: Path) -> int | None:
    """The process that has the lock on a file."""
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rsplit(":", 1)[1] == str(inode):
            return int(fields[4])
    return None


def documents(effects: str) -> Iterator[dict[str, Any]]:
    """The workflows: one that callers wait for, one that accepts, one that a schedule starts."""
    call = {"id": "call", "node_type": "HTTPClient", "params": {"url": effects, "method": "POST", "idempotency_key": True}}
    again = {"retry": {"attempts": 5, "delay": 0.05}}
    for mode in ("wait", "accept"):
        row = {"table": mode, "columns": ["key", "n", "run"], "on_conflict": {"columns": ["key"]}}
        yield chain(
            mode,
            hook("/", "POST", mode=mode),
            lua("work", WORK, **again),
            {"id": "row", "node_type": "SimpleTableWriter", "params": row, "inputs": ["$run.key", "$json.n", "$run.id"], **again},
            call | {"inputs": ["$json"]} | again,
            settings={"timeout": 5 if mode == "wait" else 60},
        )
    row = {"table": "tick", "columns": ["key", "due", "run"], "on_conflict": {"columns": ["key"]}}
    yield chain(
        "tick",
        {"id": "clock", "node_type": "CronTrigger", "params": {"schedule": "* * * * * *"}},
        {"id": "row", "node_type": "SimpleTableWriter", "params": row, "inputs": ["$run.key", "$json.scheduled_for", "$run.id"]},
        settings={"timeout": 5},
    )


class Caller(threading.Thread):
    """Sends requests one after the other until told to stop, each until it is answered, if it has a key."""

    def __init__(self, house: House, name: str, seed: int) -> None:
        super().__init__(name=f"caller-{name}", daemon=True)
        self.house = house
        self.ledger = house.ledger
        self.me = name
        self.chance = random.Random(seed)
        self.ended = threading.Event()
        self.patience = float("inf")

    def run(self) -> None:
        number = 0
        try:
            with httpx.Client(timeout=30) as http:
                while not self.ended.is_set():
                    number += 1
                    self._one(http, number)
        except Exception as error:
            self.ledger.unexpected.append(f"{self.name} ended: {error!r}")

    def stop(self, patience: float) -> None:
        self.patience = time.monotonic() + patience
        self.ended.set()

    def _one(self, http: httpx.Client, number: int) -> None:
        mode = self.chance.choice(("wait", "accept"))
        keyed = self.chance.random() < 0.5
        n = f"{self.me}-{number}{'k' if keyed else ''}"
        seconds = 1.2 if self.chance.random() < SLOW else self.chance.choice((0.0, 0.0, 0.01))
        while True:
            status = self._send(http, mode, n, seconds, keyed)
            if status in (200, 202) or not keyed:
                return
            if time.monotonic() > self.patience:
                self.ledger.count("given up")
                return
            self.ledger.count("tried again")
            time.sleep(0.2)

    def _send(self, http: httpx.Client, mode: str, n: str, seconds: float, keyed: bool) -> int:
        headers = {"idempotency-key": n} if keyed else {}
        try:
            answer = http.post(f"{self.house.server.url}/webhook/{mode}", json={"n": n, "seconds": seconds}, headers=headers)
        except httpx.TransportError:
            self.ledger.count("cut off")
            return 0
        status = answer.status_code
        if status in (200, 202):
            if "mechaway-repeated" in answer.headers:
                self.ledger.count("answered again")
            self.ledger.told(mode, n, answer.headers["mechaway-run-id"])
        elif status in (409, 503, 504):
            self.ledger.count(f"answered {status}")
        else:
            self.ledger.unexpected.append(f"{n}: {status} {answer.text[:300]}")
        return status


# -- afterwards


@dataclass
class Found:
    """What there is at the end: runs by id, rows of each table, what schedules missed."""

    runs: dict[str, dict[str, Any]]
    rows: dict[str, list[dict[str, Any]]]
    missed: int
    dues: Counter[int]  # of the schedule, by the due time of its runs


def look(server: Server) -> Found:
    """Wait until no run is open, then read everything."""
    beyond = round(time.time()) + 1  # whoever keeps time now has caught up once it comes to this
    until(lambda: any(_moment(row["due"]) > beyond for row in _pages(server, "/api/tables/tick/rows", "rows")), "a due time")
    [schedule] = server.http.get("/api/schedules").json()["schedules"]
    server.http.put("/api/workflows/tick", json={**server.http.get("/api/workflows/tick").json(), "active": False})
    open_runs = "/api/runs?status=queued&status=running&limit=1"
    until(lambda: not server.http.get(open_runs).json()["runs"], "the end of all runs", SETTLED)
    runs = {run["run_id"]: run for run in _pages(server, "/api/runs", "runs")}
    rows = {table: list(_pages(server, f"/api/tables/{table}/rows", "rows")) for table in ("wait", "accept", "tick")}
    dues = Counter(_moment(row["due"]) for row in rows["tick"])
    written = {row["run"] for row in rows["tick"]}
    for run_id, run in runs.items():
        if run["workflow_id"] == "tick" and run_id not in written:
            record = server.http.get(f"/api/runs/{run_id}").json()
            taken = record["input"] if "input" in record else record["nodes"][0]["input"]
            dues[_moment(taken[0]["scheduled_for"])] += 1
    return Found(runs, rows, schedule["missed"] + schedule.get("skipped", 0), dues)


def _pages(server: Server, path: str, name: str) -> Iterator[dict[str, Any]]:
    cursor: Any = None
    while True:
        page = server.http.get(path, params={"limit": 1000} | ({} if cursor is None else {"cursor": cursor})).json()
        yield from page[name]
        cursor = page["next"]
        if cursor is None:
            return


def _moment(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


def given_up(run: dict[str, Any]) -> bool:
    """Whether a run was ended because its process was killed at each of the attempts that it has."""
    return bool(run["status"] == "failed" and run.get("attempt") == MOST_ATTEMPTS and "its process ended 3 times" in run["message"])


def holes(ledger: Ledger, found: Found, effects: Effects) -> Iterator[str]:
    """Each promise that was not kept, as a sentence."""
    yield from ledger.unexpected
    rows: dict[str, set[str]] = defaultdict(set)
    for table in ("wait", "accept"):
        for row in found.rows[table]:
            rows[row["n"]].add(row["key"])
    acted: dict[str, set[str]] = defaultdict(set)
    for key, n in effects.acted.items():
        acted[n].add(key)
    for told in (ledger.answered, ledger.accepted):
        for n, run_id in told.items():
            run = found.runs.get(run_id)
            if run is not None and given_up(run):
                continue
            if run is None or run["status"] != "succeeded":
                yield f"request {n} was answered with run {run_id}, which {'is not on record' if run is None else run['status']}: {run}"
            if not rows[n]:
                yield f"request {n} (run {run_id}) has no row"
            if not acted[n]:
                yield f"request {n} (run {run_id}) had no effect outside"
    yield from (f"request {n} was answered with {len(ids)} runs: {sorted(ids)}" for n, ids in ledger.several.items() if len(ids) > 1)
    yield from (f"request {n} has rows of {len(keys)} keys: {sorted(keys)}" for n, keys in rows.items() if len(keys) > 1)
    yield from (f"request {n} acted {len(keys)} times outside: {sorted(keys)}" for n, keys in acted.items() if len(keys) > 1)
    yield from (f"key {key} came with different requests" for key in effects.mixed)
    yield from (f"run {run_id} is still {run['status']}" for run_id, run in found.runs.items() if run["ended_at"] is None)
    yield from _holes_in_time(found)


def _holes_in_time(found: Found) -> Iterator[str]:
    yield from (f"the schedule had {count} runs for {due}" for due, count in found.dues.items() if count > 1)
    empty = without(found)
    if len(empty) > found.missed:
        yield f"the schedule had no run at {len(empty)} due times, of which {found.missed} are counted: {empty}"


def without(found: Found) -> list[int]:
    """The due times that had no run."""
    return [due for due in range(min(found.dues), max(found.dues)) if due not in found.dues]


def summary(ledger: Ledger, found: Found, effects: Effects) -> str:
    """The ledger, in lines."""
    statuses = Counter(f"{run['workflow_id']} {run['status']}" for run in found.runs.values())
    attempts = Counter(run.get("attempt", 1) for run in found.runs.values())
    lines = [
        *(f"{name}: {count}" for name, count in sorted(ledger.counts.items())),
        *(f"on record: {name}: {count}" for name, count in sorted(statuses.items())),
        f"begun once {attempts[1]}, twice {attempts[2]}, three times {attempts[3]}",
        f"lost because their process was killed {MOST_ATTEMPTS} times: {sum(map(given_up, found.runs.values()))}",
        f"effects outside: {len(effects.acted)}, repeated calls with the same key: {sum(effects.calls.values()) - len(effects.acted)}",
        f"due times: {len(found.dues)} with a run, {len(without(found))} without, of which {found.missed} are counted",
    ]
    return "\n".join(lines)


@contextmanager
def load(house: House, seed: int, patience: float) -> Iterator[list[Caller]]:
    """Callers that send until the block is left; those with a key go on with their last request for so many seconds."""
    callers = [Caller(house, str(number), seed + number) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield callers
    finally:
        for caller in callers:
            caller.stop(patience)
        for caller in callers:
            caller.join(patience + 60)


def kill_for(seconds: float, workers: int, seed: int, data: Path, patience: float = UNHURRIED) -> tuple[str, list[str]]:
    """Kill for so long; the ledger, and what was not kept."""
    ledger, effects, chance = Ledger(), Effects(), random.Random(seed)
    house = House(data, workers, chance, ledger)
    try:
        for document in documents(effects.url):
            house.server.save(document)
        with load(house, seed, patience):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(chance.uniform(*PAUSE))
                house.hurt()
        found = look(house.server)
        return summary(ledger, found, effects), list(holes(ledger, found, effects))
    finally:
        house.close()
        effects.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, print the ledger, and tell what was not kept; 1 when anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--data", type=Path, default=None, help="a folder that stays; otherwise one that goes")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    if given.data is not None:
        given.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mechaway-killing-") as folder:
        told, missing = kill_for(given.minutes * 60, given.workers, seed, (given.data or Path(folder)) / "data")
    print(told)
    print(f"{len(missing)} holes")
    for one in missing[:50]:
        print(f"  {one}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
