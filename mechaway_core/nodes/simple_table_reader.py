"""The node that reads rows of a table of the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from mechaway_core.bounds import Ge, Le
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Rows, Session, check_name, check_where


class SimpleTableReader(Node):
    """Read rows of a table of this project, once, however many items come in.

    Gives one item `{"results": […], "count": n, "table": "…"}`, or an item for each row. A table that nothing was written to yet has
    no rows.
    """

    group: ClassVar[str] = "Tables"
    uses_inputs: ClassVar[str] = "values for each ? in `where`, in order, taken for the first item"

    table: str = param("Name of the table.")
    where: str | None = param('Condition in SQL, such as "passed = 1 AND score > ?".', None)
    order_by: str = param("Order in SQL.", "id DESC")
    limit: Annotated[int, Ge(1), Le(10_000_000)] = param("The most rows to read.", 100)
    output: Literal["list", "items"] = param("One item that holds all rows, or an item for each row.", "list")

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = check_name(self.table)
        if problem:
            yield "table", problem
        if self.limit > settings.sql_max_rows:
            yield "limit", f"this server reads at most {settings.sql_max_rows} rows at once (MECHAWAY_SQL_MAX_ROWS)"
        for name, problem in (("where", check_where(self.where)), ("order_by", check_where(None, self.order_by))):
            if problem:
                yield name, problem
        if inputs and not self.where:
            yield "where", "there are inputs, but no `where` to bind them to"

    def run(self, items: Items, ctx: Context) -> Items:
        first = items[:1] or [None]
        values = ctx.inputs(first)[0] if ctx.has_inputs() else []

        def read(session: Session) -> Rows:
            return session.read_table(self.table, self.where, values, self.order_by, self.limit)

        rows = ctx.read_tables(read).rows
        if self.output == "items":
            return list(rows)
        return [{"results": rows, "count": len(rows), "table": self.table}]
