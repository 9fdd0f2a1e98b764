"""Do the adapters over a bucket keep their promises when others are at it, too?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from mechaway_core.aws.projects import S3Projects
from mechaway_core.aws.s3 import S3
from mechaway_core.errors import NotFound, Unavailable
from mechaway_core.ports import ABSENT, Column, Session, Stored
from tests.contracts.adapters import Adapters, elsewhere
from tests.contracts.bucket.tampering import ONLY_S3, TABLES, insert, once, values, writing
from tests.s3_server import Fault, Request, S3Server

pytestmark = ONLY_S3


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
