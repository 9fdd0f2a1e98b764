"""The node that stores items as rows of a table of the project."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from mechaway_core.bounds import MinLen
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.rows import OnConflictParam, column_problems, columns_of, conflict_of, rows_of, stored
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Column, InsertRows, check_name

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12


class ColumnParam(TypedDict):
    """A column with a type."""

    name: Required[str]
    type: NotRequired[Literal["TEXT", "INTEGER", "REAL", "NUMERIC", "BOOLEAN", "JSON", "ANY"]]


class SimpleTableWriter(Node):
    """Store each item as a row of a table of this project; all of them or, when one cannot be stored, none.

    The table is made when it is missing (with `id` as its key), and so are missing columns. Values keep their type: numbers, texts,
    booleans and null as themselves, lists and objects as JSON. Gives each item with `_inserted_id` and `_rows_affected` added.
    """

    group: ClassVar[str] = "Tables"
    uses_inputs: ClassVar[str] = "the values of the columns, in their order; without them each column takes the item's value of its name"

    table: str = param("Name of the table.")
    columns: Annotated[list[str | ColumnParam], MinLen(1)] = param("Columns to fill: names, or objects with name and type.")
    on_conflict: OnConflictParam | None = param(
        "With `columns`, the ones that make a row the same. `update`: true (default) updates the other columns, a list only those, "
        "false keeps the row that is there. With `$run.key` in such a column a row is stored once, however often the write is tried.",
        None,
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = check_name(self.table)
        if problem:
            yield "table", problem
        yield from column_problems(
            columns_of(self.columns),
            conflict_of(self.on_conflict),
            inputs,
            name_problem=check_name,
            fold=str.lower,
            twice="; case makes no difference to SQLite",
        )

    def run(self, items: Items, ctx: Context) -> Items:
        columns = self._layout
        rows = rows_of(items, columns, ctx)
        if not rows:
            return []
        return stored(items, columns, ctx.write_tables(InsertRows(self.table, rows, columns, conflict_of(self.on_conflict))))

    @cached_property
    def _layout(self) -> tuple[Column, ...]:
        return tuple(columns_of(self.columns))
