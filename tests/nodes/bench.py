"""A place to try nodes on: the real engine, sandbox and tables, with one webhook in front of the nodes in question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mechaway_core.app import App
from mechaway_core.calls import Answered
from mechaway_core.ports import Tables
from mechaway_core.record import Run
from mechaway_core.triggers import Call
from mechaway_core.workflow.plan import segments_of

Document = dict[str, Any]


def node(
    node_type: str,
    *,
    id: str = "",  # noqa: A002 - what the document calls it
    inputs: list[Any] | None = None,
    about: Document | None = None,
    **params: Any,
) -> Document:
    """A node as a document; `about` holds its other fields, such as `on_error`."""
    document: Document = {"id": id or node_type, "node_type": node_type, "params": params} | (about or {})
    return document if inputs is None else document | {"inputs": inputs}


@dataclass(frozen=True)
class Bench:
    """One project of an app, for one test."""

    app: App
    project: str
    _tables: Tables

    def run(self, *nodes: Document, items: Any = None) -> Run:
        """The run of a chain of nodes behind a webhook, started by hand with these items."""
        return self.app.start(self.project, self.put(*nodes), "hook", items)

    def gives(self, *nodes: Document, items: Any = None) -> list[Any]:
        """What the last of these nodes gives; the run must succeed."""
        run = self.run(*nodes, items=items)
        assert run.failure is None, run.failure
        return run.output

    def fails(self, *nodes: Document, items: Any = None) -> str:
        """The sentence that the run of these nodes fails with."""
        run = self.run(*nodes, items=items)
        assert run.failure is not None, run.output
        assert run.status == "failed"
        return run.failure.message

    def put(self, *nodes: Document, hook: Document | None = None) -> str:
        """Save the chain as a workflow; its id."""
        first = hook or node("Webhook", id="hook", path="/", method="any")
        chain: Sequence[Document] = [first, *nodes]
        edges = [{"from": before["id"], "to": after["id"]} for before, after in pairwise(chain)]
        self.app.put(self.project, {"id": "w", "nodes": chain, "edges": edges})
        return "w"

    def call(
        self,
        *nodes: Document,
        hook: Document | None = None,
        method: str = "POST",
        path: str = "/",
        query: bytes = b"",
        body: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
    ) -> Answered:
        """The chain called by its webhook."""
        return self.app.calls.answer(self.project, self.put(*nodes, hook=hook), Call(method, segments_of(path), query, headers, body))

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of the project's tables, asked beside the nodes."""
        rows: list[dict[str, Any]] = self._tables.write(self.project, lambda session: session.query(query, write=True)).rows
        return rows

    def types(self, table: str) -> dict[str, str | None]:
        """The columns of a table and their declared types."""
        [info] = [info for info in self.app.tables(self.project) if info.name == table]
        return {column.name: column.type for column in info.columns}


class Connected:
    """The secret DB of a project, which the nodes of a test connect by. Setting `conninfo` changes it."""

    def __init__(self, bench: Bench, conninfo: str) -> None:
        self._bench = bench
        self.conninfo = conninfo

    @property
    def conninfo(self) -> str:
        """The connection string."""
        return self._conninfo

    @conninfo.setter
    def conninfo(self, value: str) -> None:
        self._conninfo = value
        self._bench.app.put_secret(self._bench.project, "DB", value)
