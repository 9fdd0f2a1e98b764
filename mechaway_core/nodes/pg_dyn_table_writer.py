"""The node that stores items as rows of a table on a PostgreSQL server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, ClassVar

from mechaway_core.bounds import MinLen
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.postgres import name_problem, secrets_of, type_problem
from mechaway_core.rows import OnConflictParam, column_problems, columns_of, conflict_of, rows_of, stored
from mechaway_core.settings import Settings

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12


class PGColumnParam(TypedDict):
    """A column with a type of PostgreSQL."""

    name: Required[str]
    type: NotRequired[str]


class PGDynTableWriter(Node):
    """Store each item as a row of a table on a PostgreSQL server; all of them or, when one cannot be stored, none.

    The table lies in the schema `mway_dynamic_tables`. Schema, table (with `id` as its key) and missing columns are made when they are
    missing, their types taken from the first values. Gives each item with `_inserted_id` and `_rows_affected` added.
    """

    group: ClassVar[str] = "Databases"
    uses_inputs: ClassVar[str] = "the values of the columns, in their order; without them each column takes the item's value of its name"
    uses_secrets: ClassVar[str] = "the connection string, postgresql://user:password@host:5432/database"
    needs_secrets: ClassVar[int] = 1

    table: str = param("Name of the table.")
    columns: Annotated[list[str | PGColumnParam], MinLen(1)] = param(
        "Columns to fill: names, or objects with name and type (text, bigint, double precision, numeric, boolean, jsonb, timestamptz, …)."
    )
    on_conflict: OnConflictParam | None = param(
        "With `columns`, the ones that make a row the same. `update`: true (default) updates the other columns, a list only those, "
        "false keeps the row that is there. With `$run.key` in such a column a row is stored once, however often the write is tried.",
        None,
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = name_problem(self.table)
        if problem:
            yield "table", problem
        columns = columns_of(self.columns)
        yield from column_problems(columns, conflict_of(self.on_conflict), inputs, name_problem=name_problem)
        for number, column in enumerate(columns):
            problem = type_problem(column.type)
            if problem:
                yield f"columns/{number}", problem

    def run(self, items: Items, ctx: Context) -> Items:
        columns = columns_of(self.columns)
        rows = rows_of(items, columns, ctx)
        if not rows:
            return []
        conninfo = ctx.secrets[0]
        for text in secrets_of(conninfo):
            ctx.hide(text)
        results = ctx.postgres.insert_rows(
            conninfo, self.table, rows, columns, conflict_of(self.on_conflict), deadline=ctx.deadline, cancellation=ctx.cancellation
        )
        return stored(items, columns, results)
