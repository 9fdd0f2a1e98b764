"""Scripts of these tests: how they are run, and what they say when they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mechaway_core.errors import ScriptError

Run = Callable[..., Any]
CONTEXT: dict[str, Any] = {"query": {}, "headers": {}, "path": {}, "run": {}}


def message_of(run: Run, script: str, *items: Any) -> str:
    with pytest.raises(ScriptError) as caught:
        run(script, *items)
    return str(caught.value)
