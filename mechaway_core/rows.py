"""Items as rows of a table: what the nodes that write tables have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from mechaway_core.bounds import MinLen
from mechaway_core.errors import NodeError
from mechaway_core.node import Context, Item, Items
from mechaway_core.ports import Column, OnConflict

if sys.version_info >= (3, 12):
    from typing import NotRequired, Required, TypedDict
else:
    from typing_extensions import NotRequired, Required, TypedDict  # what pydantic asks for below 3.12


class OnConflictParam(TypedDict):
    """What happens when a row with the same values in `columns` is there already."""

    columns: Required[Annotated[list[str], MinLen(1)]]
    update: NotRequired[bool | list[str]]


def columns_of(entries: Sequence[str | Mapping[str, Any]]) -> list[Column]:
    """The columns that a param `columns` names."""
    return [Column(entry) if isinstance(entry, str) else Column(entry["name"], entry.get("type")) for entry in entries]


def conflict_of(param: OnConflictParam | None) -> OnConflict | None:
    """What a param `on_conflict` says."""
    if param is None:
        return None
    update = param.get("update", True)
    return OnConflict(tuple(param["columns"]), update if isinstance(update, bool) else tuple(update))


def column_problems(
    columns: Sequence[Column],
    conflict: OnConflict | None,
    inputs: int,
    *,
    name_problem: Callable[[str], str | None],
    fold: Callable[[str], str] = str,
    twice: str = "",
) -> Iterator[tuple[str, str]]:
    """What is wrong with columns, as (way below the params, sentence).

    `name_problem` says what is wrong with a name, `fold` makes names that the database takes for the same equal, and `twice` is said of
    those.
    """
    seen: set[str] = set()
    for number, (name, _) in enumerate(columns):
        problem = name_problem(name)
        if problem:
            yield f"columns/{number}", problem
        elif fold(name) in seen:
            yield f"columns/{number}", f'the column "{name}" is named twice{twice}'
        seen.add(fold(name))
    if inputs and inputs != len(columns):
        yield "columns", f"there are {len(columns)} columns but {inputs} inputs; each column takes one"
    if conflict is not None:
        for name in [*conflict.columns, *(conflict.update if isinstance(conflict.update, tuple) else ())]:
            if fold(name) not in seen:
                yield "on_conflict", f'"{name}" is not one of the columns'


def rows_of(items: Items, columns: Sequence[Column], ctx: Context) -> list[dict[str, Any]]:
    """A row for each item: the values of the input pins in the order of the columns, or without pins the item's values of their names."""
    names = [column.name for column in columns]
    if ctx.has_inputs():
        return [dict(zip(names, values, strict=True)) for values in ctx.inputs(items)]
    return [_by_name(item, names, number) for number, item in enumerate(items)]


def stored(items: Items, columns: Sequence[Column], results: Sequence[tuple[Any, int]]) -> Items:
    """The items with `_inserted_id` and `_rows_affected` added, keys that are columns first, as the table has them."""
    names = [column.name for column in columns]
    return [
        {**_in_order(item, names), "_inserted_id": row_id, "_rows_affected": affected}
        for item, (row_id, affected) in zip(items, results, strict=True)
    ]


def _by_name(item: Item, names: list[str], number: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        kind = "null" if item is None else type(item).__name__
        raise NodeError(f"item {number + 1} is not an object ({kind}), so its columns have no values; name them with inputs")
    return {name: item.get(name) for name in names}


def _in_order(item: Item, names: list[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"value": item}
    return {name: item[name] for name in names if name in item} | item
