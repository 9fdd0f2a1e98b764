"""The secrets of one run, and what keeps them out of everything that leaves its nodes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from mechaway_core.expressions import revealed
from mechaway_core.node import Request, Response
from mechaway_core.redact import Redactor, remembered

T = TypeVar("T")


class RunSecrets:
    """The secrets of one run. What nodes give, say and log passes through here before anybody else sees it."""

    __slots__ = ("_lock", "_redactor", "_values")

    def __init__(self) -> None:
        self._values: Mapping[str, str] = {}
        self._redactor: Redactor | None = None
        self._lock = threading.Lock()

    def open(self, values: Mapping[str, str], shown: Mapping[str, str]) -> None:
        """Take the values of the run's secrets, by name, and those that its caller may have `shown`, which are for no node."""
        self._values = values
        self._watch({value: name for name, value in (*shown.items(), *values.items())})

    def hide(self, value: str) -> None:
        """Hide a text that was made from secrets, too."""
        remembered.add({value: None})
        self._watch({value: None})

    def _watch(self, values: Mapping[str, str | None]) -> None:
        with self._lock:
            if self._redactor is None:
                self._redactor = Redactor(values)
            else:
                self._redactor.add(values)

    def get(self, name: str) -> str:
        """The value of a secret that the plan named."""
        return self._values[name]

    def reveal(self, value: Any) -> Any:
        """A param with every `$secret.NAME` of the document replaced. A text that only looks like one, from an item, is left alone."""
        return revealed(value, self._values)

    # -- what leaves a node

    def clean(self, value: T) -> T:
        """A JSON value without secrets; itself when it holds none."""
        return value if self._redactor is None else self._redactor.value(value)

    def message(self, text: str) -> str:
        """A sentence or log line without secrets."""
        return text if self._redactor is None else self._redactor.message(text)

    def response(self, response: Response) -> Response:
        """What the caller gets, without secrets."""
        if self._redactor is None:
            return response
        return response._replace(headers=self.clean(dict(response.headers)), body=self.clean(response.body))

    def request(self, request: Request | None) -> Request | None:
        """What expressions and scripts see of the request: a caller may have sent a secret to show who it is."""
        if self._redactor is None or request is None:
            return request
        query, headers, path, files = (self.clean(dict(part)) for part in (request.query, request.headers, request.path, request.files))
        return Request(request.method, query, headers, path, files)
