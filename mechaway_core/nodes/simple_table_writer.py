"""The node that stores items as rows of a table of the project."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MinLen

from mechaway_core.errors import NodeError
from mechaway_core.node import Context, Item, Items, Node, param
from mechaway_core.settings import Settings
from mechaway_core.sqlite import Column, InsertRows, OnConflict, check_name

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12


class ColumnParam(TypedDict):
    """A column with a type."""

    name: Required[str]
    type: NotRequired[Literal["TEXT", "INTEGER", "REAL", "NUMERIC", "BOOLEAN", "JSON", "ANY"]]


class OnConflictParam(TypedDict):
    """What happens when a row with the same values in `columns` is there already."""

    columns: Required[Annotated[list[str], MinLen(1)]]
    update: NotRequired[bool | list[str]]


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
        "false keeps the row that is there.",
        None,
    )

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        problem = check_name(self.table)
        if problem:
            yield "table", problem
        names = [column.name for column in self._columns()]
        seen: set[str] = set()
        for number, name in enumerate(names):
            problem = check_name(name)
            if problem:
                yield f"columns/{number}", problem
            elif name.lower() in seen:
                yield f"columns/{number}", f'the column "{name}" is named twice; case makes no difference to SQLite'
            seen.add(name.lower())
        if inputs and inputs != len(names):
            yield "columns", f"there are {len(names)} columns but {inputs} inputs; each column takes one"
        if self.on_conflict is not None:
            update = self.on_conflict.get("update", True)
            for name in [*self.on_conflict["columns"], *(update if isinstance(update, list) else [])]:
                if name.lower() not in seen:
                    yield "on_conflict", f'"{name}" is not one of the columns'

    def run(self, items: Items, ctx: Context) -> Items:
        columns, names = self._layout
        if ctx.has_inputs():
            rows = [dict(zip(names, values, strict=True)) for values in ctx.inputs(items)]
        else:
            rows = [_by_name(item, names, number) for number, item in enumerate(items)]
        if not rows:
            return []
        stored = ctx.write_tables(InsertRows(self.table, rows, columns, self._conflict()))
        return [
            {**_in_order(item, names), "_inserted_id": row_id, "_rows_affected": affected}
            for item, (row_id, affected) in zip(items, stored, strict=True)
        ]

    @cached_property
    def _layout(self) -> tuple[tuple[Column, ...], list[str]]:
        """The columns and their names."""
        columns = tuple(self._columns())
        return columns, [column.name for column in columns]

    def _columns(self) -> list[Column]:
        return [Column(entry) if isinstance(entry, str) else Column(entry["name"], entry.get("type")) for entry in self.columns]

    def _conflict(self) -> OnConflict | None:
        if self.on_conflict is None:
            return None
        update = self.on_conflict.get("update", True)
        return OnConflict(tuple(self.on_conflict["columns"]), update if isinstance(update, bool) else tuple(update))


def _by_name(item: Item, names: list[str], number: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        kind = "null" if item is None else type(item).__name__
        raise NodeError(f"item {number + 1} is not an object ({kind}), so its columns have no values; name them with inputs")
    return {name: item.get(name) for name in names}


def _in_order(item: Item, names: list[str]) -> dict[str, Any]:
    """The item with the keys that are columns first, as the table has them."""
    if not isinstance(item, dict):
        return {"value": item}
    return {name: item[name] for name in names if name in item} | item
