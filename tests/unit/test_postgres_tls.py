"""TLS to the server: used when asked for, and refused to a server that nobody vouches for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechaway_core.errors import NodeError
from mechaway_core.postgres import Postgres
from mechaway_core.settings import Settings
from tests.postgres import Server

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def secure() -> Iterator[Server]:
    try:
        started = Server.start(tls=True)
    except RuntimeError as error:
        if "SSL is not supported by this build" not in str(error):
            raise
        pytest.skip("the PostgreSQL of these tests was built without TLS; install one that has it to run these")
    yield started
    started.close()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    made = Postgres(Settings())
    yield made
    made.close()


def ask(postgres: Postgres, conninfo: str, sql: str = ENCRYPTED) -> list[dict[str, object]]:
    return postgres.query(conninfo, sql, [], deadline=time.monotonic() + 60).rows


def test_large_answers_come_through_tls(postgres: Postgres, secure: Server) -> None:
    url = f"{secure.url()}?sslmode=require"
    assert ask(postgres, url) == [{"ssl": True}]
    assert len(str(ask(postgres, url, "SELECT repeat('x', 5000000) AS v")[0]["v"])) == 5_000_000
    assert ask(postgres, url) == [{"ssl": True}]


def test_a_server_that_nobody_vouches_for_is_refused(postgres: Postgres, secure: Server, tmp_path: Path) -> None:
    url = secure.url().replace("127.0.0.1", "localhost")
    for options in ("sslmode=verify-full", "sslmode=verify-full&sslrootcert=system"):
        with pytest.raises(NodeError, match="certificate"):
            ask(postgres, f"{url}?{options}")


def test_a_server_that_the_operator_vouches_for_is_trusted_under_its_name(
    postgres: Postgres, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(secure.folder / "server.crt"))
    url = f"{secure.url()}?sslmode=verify-full"
    assert ask(postgres, url.replace("127.0.0.1", "localhost")) == [{"ssl": True}]
    with pytest.raises(NodeError, match="certificate"):
        ask(postgres, url)
