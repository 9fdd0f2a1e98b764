"""The node that runs SQL on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from mechaway_core.bounds import Gt
from mechaway_core.node import Context, Item, ItemNode, Items, param
from mechaway_core.postgres import parse, secrets_of
from mechaway_core.settings import Settings


class PGQuery(ItemNode):
    """Run one SQL statement on a PostgreSQL server, for each item.

    The values of `inputs` are bound to `$1`, `$2`, … in order, never put into the text; `?` may stand for them too, and `??` then
    for the operator `?`. Each statement is a transaction of its own. Gives an item for each row; a statement without rows gives
    `{_rows_affected}`.
    """

    group: ClassVar[str] = "Databases"
    uses_inputs: ClassVar[str] = "values for $1, $2, … in order"
    uses_secrets: ClassVar[str] = "the connection string, postgresql://user:password@host:5432/database"
    needs_secrets: ClassVar[int] = 1

    query: str = param("One SQL statement.")
    output: Literal["items", "list"] = param("An item for each row, or one item `{results, count}`.", "items")
    timeout: Annotated[float, Gt(0)] | None = param("Seconds the statement may take; the server's limit when left out.", None)

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        statement = parse(self.query)
        if statement.problem:
            yield "query", statement.problem
        elif statement.count != inputs:
            hint = "; write ?? for the operator ?" if "?" in self.query and not inputs else ""
            yield "query", f"the statement has {statement.count} parameters, but there are {inputs} inputs{hint}"
        if self.timeout is not None and self.timeout > settings.pg_timeout:
            yield "timeout", f"this server allows at most {settings.pg_timeout:g} s (MECHAWAY_PG_TIMEOUT)"

    def run_item(self, item: Item, inputs: Sequence[object], ctx: Context) -> Items:
        conninfo = ctx.secrets[0]
        for text in secrets_of(conninfo):
            ctx.hide(text)
        rows = ctx.postgres.query(
            conninfo, parse(self.query).sql, inputs, deadline=ctx.deadline, timeout=self.timeout, cancellation=ctx.cancellation
        )
        if not rows.columns:
            return [{"_rows_affected": rows.changes}]
        if self.output == "items":
            return list(rows.rows)
        return [{"results": rows.rows, "count": len(rows.rows)}]
