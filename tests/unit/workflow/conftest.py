"""What tests of documents share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mechaway_core.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    yield sandbox
    sandbox.close()
