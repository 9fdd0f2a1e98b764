"""HTTPClient nodes, and what a single call gives."""

from __future__ import annotations

from typing import Any

from tests.nodes.bench import Bench, Document, node


def http(**params: Any) -> Document:
    about = params.pop("about", None)
    return node("HTTPClient", inputs=params.pop("inputs", None), about=about, **params)


def one(bench: Bench, *, items: Any = None, **params: Any) -> Any:
    """What a single call gives."""
    [item] = bench.gives(http(**params), items=items)
    return item
