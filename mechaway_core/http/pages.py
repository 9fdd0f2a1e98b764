"""Pagination: which call brings the next page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from mechaway_core.errors import HttpError
from mechaway_core.http.message import Call
from mechaway_core.names import shorten

if TYPE_CHECKING:
    from mechaway_core.http.talk import Answer

Find = Callable[[Any], Any]  # a part of an answer's data; None where there is none


class Pages(Protocol):
    """One way to go from page to page."""

    def first(self, call: Call) -> Call:
        """The call for the first page."""

    def after(self, call: Call, answer: Answer, data: Any) -> Call | None:
        """The call for the page after an answer; None when there is none. Raises `HttpError` when the answer says something odd."""


@dataclass(frozen=True, slots=True)
class ByLink:
    """The header `Link: <…>; rel="next"` says where the next page is."""

    def first(self, call: Call) -> Call:
        """See `Pages.first`."""
        return call

    def after(self, call: Call, answer: Answer, data: Any) -> Call | None:
        """See `Pages.after`."""
        target = answer.next_link()
        return None if target is None else replace(call, url=target, query=())


@dataclass(frozen=True, slots=True)
class ByBody:
    """A part of the body says where the next page is: a URL, or a reference relative to the page's own."""

    next: Find

    def first(self, call: Call) -> Call:
        """See `Pages.first`."""
        return call

    def after(self, call: Call, answer: Answer, data: Any) -> Call | None:
        """See `Pages.after`."""
        said = self.next(data)
        if said in (None, "", False):
            return None
        if not isinstance(said, str):
            raise HttpError(f"{answer.what}: what should be the URL of the next page is not a text")
        return replace(call, url=answer.joined(said), query=())


@dataclass(frozen=True, slots=True)
class ByNumber:
    """Pages are counted; the first that is empty, or not there (404), is behind the last."""

    param: str
    start: int
    items: Find
    size: tuple[tuple[str, str], ...] = ()  # the field that says how many a page holds

    def first(self, call: Call) -> Call:
        """See `Pages.first`."""
        return replace(call, query=(*_without(call, self.param), *self.size, (self.param, str(self.start))))

    def after(self, call: Call, answer: Answer, data: Any) -> Call | None:
        """See `Pages.after`."""
        if self.items(data) in (None, "", [], {}):
            return None
        number = next(int(value) for name, value in call.query if name == self.param)
        return replace(call, query=(*_without(call, self.param), (self.param, str(number + 1))))


@dataclass(frozen=True, slots=True)
class ByCursor:
    """A part of the body is what the next call sends along."""

    param: str
    next: Find

    def first(self, call: Call) -> Call:
        """See `Pages.first`."""
        return call

    def after(self, call: Call, answer: Answer, data: Any) -> Call | None:
        """See `Pages.after`."""
        cursor = self.next(data)
        if cursor in (None, "", False):
            return None
        if isinstance(cursor, bool) or not isinstance(cursor, str | int | float):
            raise HttpError(f"{answer.what}: the cursor of the next page is neither a text nor a number: {shorten(str(cursor), 40)}")
        return replace(call, query=(*_without(call, self.param), (self.param, str(cursor))))


def _without(call: Call, param: str) -> tuple[tuple[str, str], ...]:
    return tuple(entry for entry in call.query if entry[0] != param)
