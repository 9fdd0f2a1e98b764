"""Bounds of params, for annotations such as `Annotated[int, Ge(1)]`.

pydantic reads them where documents are checked. Those of the package annotated-types, which nodes of others may use just as well, say the
same; but importing it takes 6 ms of each cold start, and a node's bounds are only looked at when a document is saved.
"""

from __future__ import annotations

from typing import Any


class _Bound:
    """A bound; `key` is what a schema of pydantic-core calls it."""

    key = ""
    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), self.key: self.value}


class Ge(_Bound):
    """So much or more."""

    key = "ge"
    __slots__ = ()


class Gt(_Bound):
    """More than that."""

    key = "gt"
    __slots__ = ()


class Le(_Bound):
    """So much or less."""

    key = "le"
    __slots__ = ()


class Lt(_Bound):
    """Less than that."""

    key = "lt"
    __slots__ = ()


class MinLen(_Bound):
    """So many items or more."""

    key = "min_length"
    __slots__ = ()
