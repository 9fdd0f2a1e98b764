"""Each suite runs once for every set of adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.ports import Projects, Store, Tables
from tests.contracts.adapters import FACTORIES, Adapters


@pytest.fixture(params=list(FACTORIES))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Adapters]]:
    """Makes sets of adapters over one place; keywords are settings, and `owner`, whose the open runs are."""
    made: list[Adapters] = []

    def factory(**settings: Any) -> Adapters:
        adapters = FACTORIES[request.param](tmp_path / "data", **({"sync": "normal"} | settings))
        made.append(adapters)
        return adapters

    yield factory
    for adapters in made:
        adapters.close()


@pytest.fixture
def adapters(make: Callable[..., Adapters]) -> Adapters:
    """One set of adapters."""
    return make()


@pytest.fixture
def store(adapters: Adapters) -> Store:
    return adapters.store


@pytest.fixture
def tables(adapters: Adapters) -> Tables:
    return adapters.tables


@pytest.fixture
def projects(adapters: Adapters) -> Projects:
    return adapters.projects
