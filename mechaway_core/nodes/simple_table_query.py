"""The node that runs SQL on the tables of the project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mechaway_core.node import Context, Item, ItemNode, Items, param
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Rows, Session, check_name, check_sql, has_names


class SimpleTableQuery(ItemNode):
    """Run one SQL statement on the tables of this project, for each item.

    Reads only, unless `write` is on. With `inputs`, their values are bound to `?` or `:name` in the order in which these stand; one
    input that is an object binds by its keys; without inputs, `:name` takes the item's value of that name.
    """

    group: ClassVar[str] = "Tables"
    uses_inputs: ClassVar[str] = "values for the parameters of the statement, in order"

    query: str = param("One SQL statement.")
    table: str | None = param("The table it is about. While that does not exist, a query that reads gives no rows.", None)
    write: bool = param("Whether the statement may change something.", False)
    output: Literal["items", "list"] = param(
        "An item for each row, or one item `{results, count, table}`. A statement that gives no rows gives `{_rows_affected, "
        "_inserted_id}`.",
        "items",
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = check_sql(self.query, write=self.write)
        if problem:
            yield "query", problem
        problem = check_name(self.table) if self.table is not None else None
        if problem:
            yield "table", problem

    def run_item(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Items:
        values = self._values(item, inputs, ctx)

        def execute(session: Session) -> Rows | None:
            if self.table is not None and not self.write and not session.has_table(self.table):
                return None
            return session.query(self.query, values, write=self.write)

        rows = (ctx.write_tables if self.write else ctx.read_tables)(execute)
        if rows is not None and not rows.columns:
            return [{"_rows_affected": rows.changes, "_inserted_id": rows.last_id}]
        found = rows.rows if rows is not None else []
        if self.output == "items":
            return list(found)
        return [{"results": found, "count": len(found), "table": self.table}]

    def _values(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Sequence[Any] | Mapping[str, Any]:
        if not has_names(self.query):
            return inputs
        if not ctx.has_inputs():
            return item if isinstance(item, dict) else {}
        if len(inputs) == 1 and isinstance(inputs[0], dict):
            return dict(inputs[0])
        return inputs
