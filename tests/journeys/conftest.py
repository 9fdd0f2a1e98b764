"""One server for a whole module where its state allows; what servers logged is shown with every test that fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share."""
    with Server(tmp_path_factory.mktemp("server") / "data") as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a server of one test keeps its data."""
    return tmp_path / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of running servers to the report of a failure."""
    report = yield
    if report.failed:
        for server in running:
            report.sections.append((f"server {server.process.pid}: standard error", server.err[-8000:]))
    return report
