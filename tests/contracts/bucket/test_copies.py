"""What becomes of the copies of a bucket's tables, and how often S3 is asked."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mechaway_core.aws.s3 import S3, Found
from mechaway_core.errors import NotFound, QueryError, Unavailable
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.watch import read_workflow
from mechaway_core.ports import UNCHANGED, Column, InsertRows, Stored
from mechaway_core.registry import Registry
from mechaway_core.storage import Workflows
from tests.contracts.adapters import ROOT, Adapters
from tests.contracts.bucket.tampering import ONLY_S3, TABLES, insert, once, values, writing
from tests.s3_server import Request, S3Server

pytestmark = ONLY_S3


# -- copies


def test_a_file_with_a_write_ahead_log_from_elsewhere_is_taken(adapters: Adapters, bucket: S3, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "wal.db") as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        made.execute("INSERT INTO t (a) VALUES ('theirs')")
    made.close()
    bucket.put(TABLES, (tmp_path / "wal.db").read_bytes())
    assert values(adapters.tables) == ["theirs"]
    insert(adapters.tables, "mine")
    assert values(adapters.tables) == ["theirs", "mine"]


def test_tables_that_somebody_removed_from_the_bucket_are_empty(adapters: Adapters, bucket: S3) -> None:
    insert(adapters.tables, 1)
    bucket.delete(TABLES)
    assert values(adapters.tables) == []
    insert(adapters.tables, 2)
    bucket.delete(TABLES)
    assert insert(adapters.tables, 3) == [(1, 1)]
    assert values(adapters.tables) == [3]


def test_a_copy_that_was_damaged_is_taken_again(adapters: Adapters) -> None:
    insert(adapters.tables, 1)
    [path] = (adapters.place / "cache").rglob("simpletable.db")
    path.write_bytes(b"this is not a database at all" * 500)
    with pytest.raises(Unavailable, match="damaged"):
        values(adapters.tables)
    assert values(adapters.tables) == [1]
    insert(adapters.tables, 2)
    assert values(adapters.tables) == [1, 2]


def test_copies_stay_within_their_size(make: Callable[..., Adapters]) -> None:
    adapters = make(cache_max_mb=2)
    for number in range(6):
        adapters.projects.create(f"p{number}")
        insert(adapters.tables, "x" * 700_000, f"p{number}")
    for _ in range(2):
        for number in range(6):
            assert len(values(adapters.tables, f"p{number}")) == 1
            copies = list((adapters.place / "cache").rglob("simpletable.db"))
            assert sum(path.stat().st_size for path in copies) <= 2_000_000


def test_a_folder_for_copies_that_cannot_be_used_is_unavailable(make: Callable[..., Adapters], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tables = make(cache_dir=tmp_path / "file").tables
    with pytest.raises(Unavailable, match="MECHAWAY_CACHE_DIR"):
        values(tables)


def test_tables_that_outgrow_a_bucket_are_told_where_to_go(make: Callable[..., Adapters]) -> None:
    tables = make(s3_tables_max_mb=1).tables
    insert(tables, 1)
    with pytest.raises(QueryError, match=r"may take 1 MB \(MECHAWAY_S3_TABLES_MAX_MB; .* EFS, .* or in PostgreSQL\); nothing was saved"):
        tables.write("default", InsertRows("t", [{"a": "x" * 100_000}] * 20, [Column("a")]))
    assert values(tables) == [1]


def test_what_is_in_the_bucket_is_a_sound_file_whatever_was_done(adapters: Adapters, bucket: S3, tmp_path: Path) -> None:
    tables = adapters.tables
    for number, sql in enumerate(
        (
            "CREATE TABLE big (id INTEGER PRIMARY KEY, a)",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000) "
            "INSERT INTO big (a) SELECT hex(randomblob(200)) FROM c",
            "CREATE INDEX i ON big (a)",
            "DELETE FROM big WHERE id % 3 = 0",
            "CREATE TABLE more AS SELECT * FROM big",
            "UPDATE more SET a = a || a",
            "DROP INDEX i",
            "DROP TABLE big",
            "ALTER TABLE more ADD COLUMN b JSON",
        )
    ):
        tables.write("default", lambda session, sql=sql: session.query(sql, write=True))  # type: ignore[misc]
        found = bucket.get(TABLES)
        assert isinstance(found, Found)
        path = tmp_path / f"{number}.db"
        path.write_bytes(found.data)
        with sqlite3.connect(path) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        opened.close()
    assert tables.read("default", lambda session: session.query("SELECT count(*) AS n FROM more")).rows == [{"n": 2000}]


# -- how often S3 is asked


def calls(requests: list[Request]) -> list[tuple[str, str]]:
    return [(request.method, request.key) for request in requests]


@pytest.mark.parametrize("project", ["default", "shop"])
def test_a_run_asks_as_little_as_it_can(make: Callable[..., Adapters], server: S3Server, project: str) -> None:
    adapters = make()
    if project == "shop":
        adapters.projects.create(project)
    version = adapters.store.put(project, "workflows/w", b"1")
    insert(adapters.tables, 1, project)
    with server.counting() as requests:
        assert adapters.store.get(project, "workflows/w", version) is UNCHANGED
    assert len(requests) == 1
    assert requests[0].headers["if-none-match"] == f'"{version}"'
    with server.counting() as requests:
        insert(adapters.tables, 2, project)
    assert [request.method for request in requests] == ["PUT"]
    assert "if-match" in requests[0].headers
    with server.counting() as requests:
        values(adapters.tables, project)
    assert [request.method for request in requests] == ["GET"]
    with server.counting() as requests:
        adapters.tables.write(project, lambda session: session.query("SELECT 1 AS one"))
    assert [request.method for request in requests] == ["GET"]  # nothing was changed, and that is so


def test_a_workflow_that_is_compiled_costs_one_question_and_a_saved_change_is_live(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make(), make()
    workflows = Workflows(one.store, LocalClock())
    document = read_workflow(ROOT / "examples" / "poc.json")
    workflows.create("default", document)
    registry = Registry(Workflows(two.store, LocalClock()), 10)
    first = registry.get("default", document["id"])
    with server.counting() as requests:
        assert registry.get("default", document["id"]) is first
    assert calls(requests) == [("GET", f"documents/default/0/workflows/{document['id']}")]
    workflows.update("default", {**document, "name": "Another name"})
    assert registry.get("default", document["id"]).version == 2


def test_a_cold_process_asks_once_more(make: Callable[..., Adapters], server: S3Server) -> None:
    adapters = make()
    insert(adapters.tables, 1)
    cold = make()
    with server.counting() as requests:
        insert(cold.tables, 2)
    assert calls(requests) == [("GET", TABLES), ("PUT", TABLES)]


def test_writers_that_meet_in_one_process_share_a_put(adapters: Adapters, server: S3Server) -> None:
    insert(adapters.tables, "first")
    started = threading.Barrier(21)

    def one(number: int) -> None:
        started.wait()
        insert(adapters.tables, number)

    arrived = threading.Event()
    once(server, writing, lambda: arrived.wait(1))
    with server.counting() as requests, ThreadPoolExecutor(20) as pool:
        done = [pool.submit(one, number) for number in range(20)]
        started.wait()
        for each in done:
            each.result()
    assert len(requests) < 20
    assert sorted(values(adapters.tables)[1:]) == list(range(20))


def test_what_counts_as_current_is_not_asked_again(make: Callable[..., Adapters], server: S3Server) -> None:
    adapters = make(revalidate_seconds=3600.0)
    adapters.projects.create("shop")
    version = adapters.store.put("shop", "k", b"1")
    insert(adapters.tables, 1, "shop")
    with server.counting() as requests:
        for _ in range(3):
            assert adapters.store.get("shop", "k", version) is UNCHANGED
            assert values(adapters.tables, "shop") == [1]
    assert requests == []
    newer = adapters.store.put("shop", "k", b"2", version)
    assert adapters.store.get("shop", "k", version) == Stored(b"2", newer)
    adapters.store.delete("shop", "k")
    assert adapters.store.get("shop", "k", newer) is None
    insert(adapters.tables, 2, "shop")
    assert values(adapters.tables, "shop") == [1, 2]
    make().tables.write("shop", lambda session: session.query("DELETE FROM t", write=True))
    insert(adapters.tables, 3, "shop")  # a write always meets what is there
    assert values(adapters.tables, "shop") == [3]


def test_a_job_that_fails_rightly_costs_one_question(adapters: Adapters, server: S3Server) -> None:
    insert(adapters.tables, 1)
    with server.counting() as requests, pytest.raises(QueryError):
        adapters.tables.write("default", lambda session: session.query("INSERT INTO nothing VALUES (1)", write=True))
    assert calls(requests) == [("GET", TABLES)]


def test_an_unknown_project_is_asked_for_once(adapters: Adapters, server: S3Server) -> None:
    with server.counting() as requests, pytest.raises(NotFound):
        adapters.store.get("nobody", "k")
    assert calls(requests) == [("GET", "projects/nobody")]
