"""One app for all tests of nodes, and a project of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from mechaway_core.app import App
from mechaway_core.folders import FolderTables
from mechaway_core.local import build
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from tests.nodes.bench import Bench, Connected

_numbers = count(1)


@pytest.fixture(scope="package")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("nodes"), lua_workers=1, sync="normal", sql_max_rows=1000)


@pytest.fixture(scope="package")
def app(settings: Settings) -> Iterator[App]:
    app = build(settings)
    yield app
    app.close()


@pytest.fixture(scope="package")
def tables(settings: Settings, app: App) -> Iterator[FolderTables]:
    files = ProjectFiles(settings)
    yield FolderTables(files)
    files.close()


@pytest.fixture
def bench(app: App, tables: FolderTables) -> Bench:
    project = f"test-{next(_numbers)}"
    app.create_project(project)
    return Bench(app, project, tables)


@pytest.fixture
def connected(bench: Bench, database: str) -> Connected:
    """A fresh database that the secret `$secret.DB` leads to."""
    return Connected(bench, database)
