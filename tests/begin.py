"""The least that a workflow can begin with."""

from __future__ import annotations

from typing import ClassVar

from mechaway_core.node import Context, Items, Node


class Begin(Node):
    """Start by hand."""

    trigger: ClassVar[bool] = True

    def run(self, items: Items, ctx: Context) -> Items:
        return items
