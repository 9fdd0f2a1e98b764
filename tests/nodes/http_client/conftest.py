"""The server that these tests call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web_server import WebServer


@pytest.fixture(scope="module")
def shared() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def web(shared: WebServer) -> WebServer:
    """The server, with nothing on its list."""
    shared.seen.clear()
    shared.counts.clear()
    return shared
