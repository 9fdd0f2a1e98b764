"""What tests of several folders share: an app over real adapters, and node types made for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.local import build
from mechaway_core.node import Node
from mechaway_core.nodes import catalogue
from mechaway_core.settings import Settings
from tests import postgres
from tests.account import Account

_databases = count(1)

MakeApp = Callable[..., App]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Makes apps over the folder of the test; settings by keyword. They are closed at its end."""
    apps: list[App] = []

    def make(**settings: Any) -> App:
        chosen: dict[str, Any] = {"data_dir": tmp_path / "data", "sync": "normal", "lua_workers": 2} | settings
        app = build(Settings(**chosen))
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def app(make_app: MakeApp) -> App:
    """An app with the default settings."""
    return make_app()


@pytest.fixture
def add_node_type(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Node]], None]:
    """Adds a node type for the time of the test, as a plug-in would."""

    def add(node_type: type[Node]) -> None:
        monkeypatch.setitem(catalogue(), node_type.__name__, node_type)

    return add


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    """An AWS account for all tests of this process."""
    started = Account()
    yield started
    started.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for all tests of this process."""
    started = postgres.Server.start()
    yield started
    started.close()


@pytest.fixture(scope="session")
def server(postgres_server: postgres.Server) -> postgres.Server:
    """The same, where no other kind of server is about; in journeys a server is Mechaway's."""
    return postgres_server


@pytest.fixture
def database(postgres_server: postgres.Server) -> Iterator[str]:
    """The connection string of a fresh database."""
    name = f"db{next(_databases)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which PostgreSQL it was."""
    for line in postgres.used():
        terminalreporter.write_line(f"PostgreSQL of these tests: {line}")
