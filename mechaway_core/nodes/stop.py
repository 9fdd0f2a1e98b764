"""The node that ends a run."""

from __future__ import annotations

from typing import ClassVar

from mechaway_core.errors import Stopped
from mechaway_core.expressions import as_text
from mechaway_core.node import Context, Items, Node, param

_MESSAGE = "the workflow says stop"


class Stop(Node):
    """End the run as failed when an item comes here.

    The record has the error with the type "stop" and the message, and the caller of a webhook gets it with the status 422. What the
    nodes before it did is done. Without items the run goes on, and so do nodes behind it. `retry` and `on_error` make no sense here and
    are refused.
    """

    group: ClassVar[str] = "Flow"
    ends_run: ClassVar[bool] = True

    message: str = param("What the run fails with, for the first item.", _MESSAGE, template=True)

    def run(self, items: Items, ctx: Context) -> Items:
        if not items:
            return items
        raise Stopped(as_text(ctx.render(self.message, items[0])).strip() or _MESSAGE)
