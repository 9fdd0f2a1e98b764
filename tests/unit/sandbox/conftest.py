"""A sandbox for the tests of a module, and a script's way into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mechaway_core.sandbox import Limits, Sandbox
from tests.unit.sandbox.scripts import CONTEXT, Run


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(workers=2)
    yield box
    box.close()


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    def value(script: str, *items: Any, limits: Limits | None = None, **context: Any) -> Any:
        return sandbox.run(script, list(items), CONTEXT | context, limits or Limits()).value

    return value
