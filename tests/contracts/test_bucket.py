"""Do the adapters over a bucket keep their promises when S3 or the network do not, and ask no more than they must?"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from mechaway_core.aws.clients import clients
from mechaway_core.aws.projects import S3Projects
from mechaway_core.aws.s3 import S3, Found
from mechaway_core.errors import Conflict, NotFound, QueryError, Stale, Unavailable
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.watch import read_workflow
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Column, Expect, InsertRows, Session, Stored, Tables
from mechaway_core.registry import Registry
from mechaway_core.settings import Settings
from mechaway_core.storage import Workflows
from tests.contracts.adapters import ROOT, Adapters, bucket_of, elsewhere
from tests.s3_server import Fault, Kind, Request, S3Server
from tests.s3_server import server as s3_server

pytestmark = pytest.mark.parametrize("make", ["s3"], indirect=True)

TABLES = "tables/default/0/simpletable.db"


@pytest.fixture
def server(make: Callable[..., Adapters]) -> Iterator[S3Server]:
    server = s3_server()
    yield server
    server.before = None


@pytest.fixture
def bucket(adapters: Adapters) -> S3:
    return clients(Settings(bucket=bucket_of(adapters.place))).s3


def writing(request: Request) -> bool:
    return request.method == "PUT"


def anything(request: Request) -> bool:
    return True


def once(server: S3Server, fits: Callable[[Request], bool], act: Callable[[], object], skip: int = 0) -> None:
    """Do something just before the server takes a request that fits; `skip` of those go by first."""
    left = [skip + 1]

    def before(request: Request) -> None:
        if fits(request) and left[0] > 0:
            left[0] -= 1
            if left[0] == 0:
                act()

    server.before = before


def insert(tables: Tables, value: Any, project: str = "default") -> Any:
    return tables.write(project, InsertRows("t", [{"a": value}], [Column("a")]))


def values(tables: Tables, project: str = "default") -> list[Any]:
    return [row["a"] for row in tables.read(project, lambda session: session.read_table("t", order_by="id")).rows]


# -- what passes by itself


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, ""), (409, "ConditionalRequestConflict")])
def test_what_passes_by_itself_is_tried_again(
    adapters: Adapters, server: S3Server, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    version = adapters.store.put("default", "k", b"1")
    with server.failing(Fault("answer", anything, 3, status, code)):
        version = adapters.store.put("default", "k", b"2", version)
    with server.failing(Fault("answer", anything, 3, status, code)):
        assert adapters.store.get("default", "k") == Stored(b"2", version)
    with server.failing(Fault("answer", writing, 3, status, code)):
        insert(adapters.tables, 1)
    assert values(adapters.tables) == [1]
    assert (f"S3 was asked 4 times for one PUT, since it answers {status} {code}".rstrip() in caplog.text) == (status != 409)


def test_what_does_not_pass_in_time_is_unavailable_and_nothing_is_changed(
    make: Callable[..., Adapters], server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    adapters = make(s3_timeout=0.3)
    version = adapters.store.put("default", "k", b"1")
    insert(adapters.tables, 1)
    with server.failing(Fault("answer", anything, 10_000)):
        with pytest.raises(Unavailable, match=r"within 0\.3 s \(MECHAWAY_S3_TIMEOUT\): it answers 503 SlowDown"):
            adapters.store.put("default", "k", b"2", version)
        with pytest.raises(Unavailable):
            insert(adapters.tables, 2)
        with pytest.raises(Unavailable):
            values(adapters.tables)
        with pytest.raises(Unavailable):
            adapters.projects.create("shop")
    assert adapters.store.get("default", "k") == Stored(b"1", version)
    assert values(adapters.tables) == [1]
    assert insert(adapters.tables, 3) == [(2, 1)]
    assert not adapters.projects.exists("shop")
    assert "S3 did not do it within 0.3 s" in caplog.text


def test_a_connection_that_was_closed_while_nobody_used_it_costs_nothing(adapters: Adapters, server: S3Server) -> None:
    version = adapters.store.put("default", "k", b"1")
    with server.failing(Fault("before", anything)):
        assert adapters.store.get("default", "k", version) is UNCHANGED
    with server.failing(Fault("before", anything)):
        adapters.store.put("default", "k", b"2", version)


def test_a_clock_that_is_wrong_is_corrected_by_that_of_s3(adapters: Adapters, server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    date = ("Date", "Mon, 01 Jan 2035 00:00:00 GMT")
    adapters.store.put("default", "k", b"1")
    skewed = Fault("answer", anything, 1, 403, "RequestTimeTooSkewed", (date,))
    for_good = Fault("answer", anything, 2, 403, "RequestTimeTooSkewed")
    with server.failing(skewed), server.counting() as requests:
        adapters.store.get("default", "k")
    assert [request.headers["x-amz-date"][:4] for request in requests][1] == "2035"
    assert re.search(r"the clock of this machine is -\d+ s from that of S3", caplog.text)
    with (
        pytest.raises(Unavailable, match="RequestTimeTooSkewed"),
        server.failing(for_good),
    ):
        adapters.store.get("default", "k")


# -- what does not pass


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "NoSuchBucket", "there is no bucket .* set MECHAWAY_BUCKET"),
        (403, "AccessDenied", "this process may not (read|write|list) .*AccessDenied"),
        (301, "PermanentRedirect", "is not in the Region us-east-1: set AWS_REGION"),
        (400, "ExpiredToken", "S3 answers 400 ExpiredToken"),
    ],
)
def test_what_is_wrong_with_the_bucket_is_said(adapters: Adapters, server: S3Server, status: int, code: str, says: str) -> None:
    adapters.projects.create("shop")
    store, tables, projects = adapters.store, adapters.tables, adapters.projects
    calls: list[Callable[[], object]] = [
        lambda: store.get("default", "k"),
        lambda: store.put("default", "k", b"1"),
        lambda: store.put("default", "k", b"1", ABSENT),
        lambda: store.keys("default", ""),
        lambda: store.delete("default", "k"),
        lambda: store.get("shop", "k"),
        lambda: values(tables),
        lambda: insert(tables, 1),
        lambda: projects.create("other"),
        lambda: projects.exists("shop"),
        projects.list,
    ]
    for call in calls:
        with server.failing(Fault("answer", anything, 10_000, status, code)), pytest.raises(Unavailable, match=says):
            call()


def test_a_bucket_that_is_not_there_is_unavailable(adapters: Adapters, bucket: S3, caplog: pytest.LogCaptureFixture) -> None:
    missing = clients(Settings(bucket="no-such-bucket-anywhere")).s3
    with pytest.raises(Unavailable, match='there is no bucket "no-such-bucket-anywhere"'):
        missing.get("k")
    with pytest.raises(Unavailable, match="there is no bucket"):
        missing.put("k", b"1", "0" * 32)
    assert caplog.text.count('there is no bucket "no-such-bucket-anywhere"') == 2


def test_an_object_of_somebody_else_is_no_document(adapters: Adapters, bucket: S3) -> None:
    bucket.put("documents/default/0/k", b"what is this")
    with pytest.raises(Unavailable, match="none that Mechaway wrote"):
        adapters.store.get("default", "k")
    adapters.store.put("default", "k", b"1")
    assert adapters.store.keys("default", "") == ["k"]


# -- answers that were lost


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("expect", [ABSENT, ANY, "a version"])
def test_a_document_whose_answer_was_lost_is_saved_once(adapters: Adapters, server: S3Server, kind: Kind, expect: str | Expect) -> None:
    store = adapters.store
    if isinstance(expect, str):
        expect = store.put("default", "k", b"1")
    with server.failing(Fault(kind, writing)):
        version = store.put("default", "k", b"2", expect)
    assert store.get("default", "k") == Stored(b"2", version)
    store.put("default", "k", b"3", version)


def test_a_lost_answer_under_what_somebody_made_of_it_was_still_a_success(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().store, make().store

    def build_on() -> None:
        found = two.get("default", "k")
        assert isinstance(found, Stored)
        two.put("default", "k", found.data + b" and more", found.version)

    once(server, writing, build_on, skip=1)
    with server.failing(Fault("after", writing)):
        version = one.put("default", "k", b"mine", ABSENT)
    assert two.get("default", "k", version) == one.get("default", "k")
    assert getattr(one.get("default", "k"), "data", None) == b"mine and more"
    with pytest.raises(Stale):
        one.put("default", "k", b"again", version)


def test_a_request_that_never_came_and_was_overtaken_is_a_conflict(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().store, make().store
    version = one.put("default", "k", b"1")
    for expect, error in ((version, Stale), (ABSENT, Conflict)):
        key = "k" if expect == version else "new"
        once(server, writing, lambda key=key: two.put("default", key, b"theirs"), skip=1)  # type: ignore[misc]
        with server.failing(Fault("before", writing)), pytest.raises(error):
            one.put("default", key, b"mine", expect)
        assert getattr(one.get("default", key), "data", None) == b"theirs"


def test_a_delete_whose_answer_was_lost_is_done(adapters: Adapters, server: S3Server) -> None:
    for expected in (True, False):
        version = adapters.store.put("default", "k", b"1")
        with server.failing(Fault("after", lambda request: request.method == "DELETE")):
            assert adapters.store.delete("default", "k", version if expected else ANY) is True
        assert adapters.store.get("default", "k") is None


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_row_whose_answer_was_lost_is_there_once(adapters: Adapters, server: S3Server, kind: Kind) -> None:
    for number in range(3):
        with server.failing(Fault(kind, writing)):
            assert insert(adapters.tables, number) == [(number + 1, 1)]
    assert values(adapters.tables) == [0, 1, 2]


def test_a_row_whose_answer_was_lost_is_there_once_also_below_those_of_others(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().tables, make().tables
    insert(one, "first")

    def others() -> None:
        for number in range(5):
            insert(two, number)

    once(server, writing, others, skip=1)
    with server.failing(Fault("after", writing)):
        assert insert(one, "mine") == [(2, 1)]
    assert values(one) == values(two) == ["first", "mine", 0, 1, 2, 3, 4]


def test_a_project_whose_creation_was_not_answered_is_made(adapters: Adapters, server: S3Server) -> None:
    with server.failing(Fault("after", writing)):
        adapters.projects.create("shop")
    with server.failing(Fault("after", lambda request: request.method == "DELETE")):
        assert adapters.projects.delete("shop") is True
    assert not adapters.projects.exists("shop")


# -- several at once


def test_a_writer_that_was_overtaken_works_on_what_is_there_now(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().tables, make().tables
    insert(one, "a")
    seen: list[int] = []

    def job(session: Session) -> int:
        count = len(session.read_table("t").rows)
        seen.append(count)
        session.insert_rows("t", [{"a": count}], [Column("a")])
        return count

    once(server, writing, lambda: insert(two, "b"))
    assert one.write("default", job) == 2
    assert seen == [1, 2]
    assert values(two) == ["a", "b", 2]


def test_a_writer_that_is_always_overtaken_gives_up_and_leaves_nothing(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make(s3_timeout=0.3).tables, make().tables
    insert(one, "a")
    mine = threading.local()

    def before(request: Request) -> None:
        if writing(request) and not getattr(mine, "busy", False) and request.key == TABLES and "busy" not in busy:
            busy.append("busy")
            insert(two, "b")
            busy.clear()

    busy: list[str] = []
    server.before = before
    with pytest.raises(Unavailable, match=r"too many write the tables .* nothing was saved"):
        insert(one, "mine")
    server.before = None
    assert set(values(one)) == {"a", "b"}
    assert values(one) == values(two)


def test_many_writers_on_many_machines_lose_nothing(make: Callable[..., Adapters], server: S3Server) -> None:
    server.before = lambda _: time.sleep(0.015)  # what a call takes in a Region
    machines = [make().tables for _ in range(10)]
    with ThreadPoolExecutor(50) as pool:
        stored = list(pool.map(lambda n: insert(machines[n % 10], n), range(100)))
    assert sorted(row_id for [(row_id, _)] in stored) == list(range(1, 101))
    assert sorted(values(machines[0])) == list(range(100))


def test_a_job_that_fails_on_an_old_copy_is_done_on_the_current_one(make: Callable[..., Adapters]) -> None:
    one, two = make().tables, make().tables
    one.write("default", lambda session: session.insert_rows("t", [{"id": 1, "a": "old"}], [Column("id"), Column("a")]))
    two.write("default", lambda session: session.query("DELETE FROM t", write=True))
    one.write("default", lambda session: session.insert_rows("t", [{"id": 1, "a": "new"}], [Column("id"), Column("a")]))
    assert values(two) == ["new"]
    two.write("default", lambda session: session.query("CREATE TABLE u (x)", write=True))
    one.write("default", lambda session: session.query("INSERT INTO u VALUES (1)", write=True))


def test_what_was_acknowledged_survives_the_death_of_the_process(make: Callable[..., Adapters]) -> None:
    adapters = make()
    acknowledged: list[int] = []
    for _ in range(4):
        process = elsewhere(adapters, "insert_for_ever", "w", len(acknowledged) and acknowledged[-1] + 1)
        assert process.stdout is not None
        for _ in range(10):
            acknowledged.append(int(process.stdout.readline()))
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        process.communicate()
        found = [row["n"] for row in adapters.tables.read("default", lambda session: session.read_table("t", order_by="id")).rows]
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1  # one may have been saved without the word reaching us
        if len(found) > len(acknowledged):
            acknowledged.append(acknowledged[-1] + 1)
    folders = list((adapters.place / "cache").glob("mechaway-tables-*"))
    assert len(folders) <= 2  # that of this process, and the last one's


# -- projects


def test_a_deletion_that_was_cut_off_leaves_no_project_and_nothing_for_the_next(adapters: Adapters, server: S3Server, bucket: S3) -> None:
    projects = cast(S3Projects, adapters.projects)
    projects.create("shop")
    adapters.store.put("shop", "k", b"1")
    insert(adapters.tables, 1, "shop")
    with server.failing(Fault("answer", lambda request: request.method == "POST", 10_000, 403, "AccessDenied")), pytest.raises(Unavailable):
        projects.delete("shop")
    assert not projects.exists("shop")
    assert projects.list() == ["default"]
    projects.create("shop")
    assert adapters.store.keys("shop", "") == []
    assert values(adapters.tables, "shop") == []
    assert len(bucket.listing("documents/shop/")) == 1
    assert projects.sweep() == 1
    assert bucket.listing("documents/shop/") == bucket.listing("tables/shop/") == []
    adapters.store.put("shop", "k", b"2")
    assert projects.sweep() == 1
    assert adapters.store.keys("shop", "") == ["k"]


def test_keys_that_xml_cannot_say_are_deleted_with_their_project(adapters: Adapters, bucket: S3) -> None:
    adapters.projects.create("shop")
    for key in ("a\x01b", "\uffff", "a&<>b", "a b+c", "%2F", "é"):
        adapters.store.put("shop", key, key.encode())
        assert getattr(adapters.store.get("shop", key), "data", None) == key.encode()
    assert len(adapters.store.keys("shop", "")) == 6
    adapters.projects.delete("shop")
    assert bucket.listing("documents/") == []


def test_a_slow_writer_whose_project_is_made_anew_writes_into_the_new_one(
    make: Callable[..., Adapters], server: S3Server, bucket: S3
) -> None:
    one, two = make(), make()
    one.projects.create("shop")

    def replace() -> None:
        two.projects.delete("shop")
        two.projects.create("shop")

    once(server, lambda request: writing(request) and request.key.startswith("documents/"), replace)
    version = one.store.put("shop", "k", b"mine")
    assert one.store.get("shop", "k") == two.store.get("shop", "k") == Stored(b"mine", version)
    once(server, lambda request: writing(request) and request.key.startswith("tables/"), replace)
    insert(one.tables, 1, "shop")
    assert values(one.tables, "shop") == values(two.tables, "shop") == [1]
    assert one.store.get("shop", "k") is None
    assert len(bucket.listing("tables/shop/")) == 1
    assert bucket.listing("documents/shop/") == []


@pytest.mark.parametrize("kind", ["documents", "tables"])
def test_what_a_slow_writer_puts_into_a_deleted_project_is_taken_away(
    make: Callable[..., Adapters], server: S3Server, bucket: S3, kind: str
) -> None:
    one, two = make(), make()
    one.projects.create("shop")
    one.projects.exists("shop")
    once(server, lambda request: writing(request) and request.key.startswith(kind), lambda: two.projects.delete("shop"))
    with pytest.raises(NotFound, match='no project "shop"'):
        _ = one.store.put("shop", "k", b"1", ABSENT) if kind == "documents" else insert(one.tables, 1, "shop")
    assert bucket.listing(f"{kind}/") == []


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
