"""Connections are few, are made as new, and are replaced; seen from the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import NodeError, OutOfTime, QueryError, Unavailable
from mechaway_core.postgres import Postgres, pool
from mechaway_core.settings import Settings
from tests.postgres import Proxy, Server, free_port


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    made = Postgres(Settings())
    yield made
    made.close()


def soon(seconds: float = 30) -> float:
    return time.monotonic() + seconds


def name_of(conninfo: str) -> str:
    return conninfo.rpartition("/")[2]


def until(condition: object) -> None:
    """Wait for something that happens on the server."""
    end = soon()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_connection_serves_one_run_after_another(postgres: Postgres, database: str) -> None:
    pids = {postgres.query(database, "SELECT pg_backend_pid() AS pid", [], deadline=soon()).rows[0]["pid"] for _ in range(5)}
    assert len(pids) == 1


def test_closing_ends_all_connections_for_good(postgres: Postgres, server: Server, database: str) -> None:
    postgres.query(database, "SELECT 1", [], deadline=soon())
    assert server.sessions(name_of(database))
    postgres.close()
    until(lambda: not server.sessions(name_of(database)))
    with pytest.raises(Unavailable, match="shutting down"):
        postgres.query(server.url(), "SELECT 1", [], deadline=soon())


def test_connections_that_nobody_uses_are_closed(server: Server, database: str) -> None:
    pools = pool.Pools(Settings(), None)
    mine = pools.get(database)
    with mine.link(soon()) as link:
        link.run(b"SELECT 1")
    mine.trim(time.monotonic())
    assert len(server.sessions(name_of(database))) == 1
    mine.trim(time.monotonic() + pool.MAX_IDLE + 1)
    until(lambda: not server.sessions(name_of(database)))
    pools.close()


def test_the_pool_that_was_used_least_recently_makes_room(server: Server, database: str) -> None:
    pools = pool.Pools(Settings(), None)
    with pools.get(database).link(soon()):
        pass
    for number in range(pool.MOST_POOLS):
        pools.get(f"{database}?application_name=other{number}")
    until(lambda: not server.sessions(name_of(database)))
    pools.close()


def test_a_connection_left_in_a_transaction_is_not_used_again(server: Server, database: str) -> None:
    pools = pool.Pools(Settings(), None)
    with pools.get(database).link(soon()) as link:
        link.run(b"BEGIN")
    until(lambda: not server.sessions(name_of(database)))
    pools.close()


def test_a_kept_connection_that_something_between_forgot_is_replaced(server: Server, database: str) -> None:
    """No answer, and no word that it has ended."""
    proxy = Proxy(server.port)
    pools = pool.Pools(Settings(), None)
    mine = pools.get(server.url(name_of(database), port=proxy.port))
    with mine.link(soon()) as link:
        link.run(b"SELECT 1")
        proxy.forget()  # so making the session as new is never answered
    with mine.link(soon()) as link:
        assert link.run(b"SELECT 2").get_value(0, 0) == b"2"
    pools.close()
    proxy.close()


def test_connecting_to_a_silent_server_ends_in_time(server: Server) -> None:
    proxy = Proxy(server.port)
    proxy.silence()
    quick = Postgres(Settings(pg_connect_timeout=0.3))
    began = time.monotonic()
    with pytest.raises(OutOfTime, match="did not answer in time when connecting"):
        quick.query(server.url(port=proxy.port), "SELECT 1", [], deadline=soon())
    assert time.monotonic() - began < 10
    quick.close()
    proxy.close()


def test_the_first_host_that_answers_is_taken(postgres: Postgres, server: Server, database: str) -> None:
    several = database.replace(f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()},127.0.0.1:{server.port}")
    assert postgres.query(several, "SELECT 1 AS n", [], deadline=soon()).rows == [{"n": 1}]


def test_a_host_that_refuses_the_user_ends_the_search(postgres: Postgres, server: Server) -> None:
    asked: list[str] = []

    def addresses(host: str, port: int, deadline: float, cancellation: Cancellation) -> list[str]:
        asked.append(host)
        return ["127.0.0.1", "127.0.0.1"]

    guarded = Postgres(Settings(), addresses)
    wrong = server.url(password="wrong").replace(f"127.0.0.1:{server.port}", f"a:{server.port},b:{server.port}")
    with pytest.raises(NodeError, match="does not accept this user and password"):
        guarded.query(wrong, "SELECT 1", [], deadline=soon())
    assert asked == ["a"]
    guarded.close()


def test_an_address_that_is_not_allowed_is_not_connected_to(server: Server, database: str) -> None:
    def refuse(host: str, port: int, deadline: float, cancellation: Cancellation) -> list[str]:
        raise NodeError("the host is not allowed")

    guarded = Postgres(Settings(), refuse)
    with pytest.raises(NodeError, match="the host is not allowed"):
        guarded.query(database, "SELECT 1", [], deadline=soon())
    assert server.sessions(name_of(database)) == []
    guarded.close()


def test_a_statement_that_an_administrator_stopped_is_not_out_of_time(postgres: Postgres, server: Server, database: str) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            postgres.query(database, "SELECT pg_sleep(20)", [], deadline=soon())
        except QueryError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    sleeping = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep(20)%' AND state = 'active'"
    until(lambda: server.admin(sleeping, name_of(database)))
    thread.join()
    assert [str(failure) for failure in failures] == ["PostgreSQL: canceling statement due to user request (SQLSTATE 57014)"]


def test_no_time_left_is_out_of_time(postgres: Postgres, database: str) -> None:
    with pytest.raises(OutOfTime, match="no time left"):
        postgres.query(database, "SELECT 1", [], deadline=time.monotonic() - 1)
