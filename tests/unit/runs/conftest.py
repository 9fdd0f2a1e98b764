"""A home for apps, and types of nodes that tests look into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mechaway_core.node import Node
from tests.begin import Begin
from tests.unit.runs.home import Act, Fail, FailTogether, Gate, Home


@pytest.fixture
def home(tmp_path: Path, types: None) -> Iterator[Home]:
    made = Home(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def types(add_node_type: Callable[[type[Node]], None]) -> Iterator[None]:
    for node_type in (Begin, Act, Fail, FailTogether, Gate):
        add_node_type(node_type)
    Act.done.clear()
    Fail.on = True
    Gate.came, Gate.open = threading.Semaphore(0), threading.Event()
    yield
    Gate.open.set()
