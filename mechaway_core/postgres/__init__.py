"""PostgreSQL servers by connection string.

`statements` reads what users write, `conninfo` what connection strings may say, `link` is one connection with deadlines, `pool` keeps a
few, `values` says how JSON goes in and out, `query` runs a statement, `tables` makes tables and stores rows, `faults` turns what goes
wrong into our errors. psycopg is imported by the first call.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.ports import Column, OnConflict, Rows
from mechaway_core.postgres.conninfo import hosts_of, secrets_of
from mechaway_core.postgres.names import name_problem, type_problem
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mechaway_core.postgres.pool import Addresses, Pool, Pools
    from mechaway_core.postgres.statements import Statement

__all__ = ["Postgres", "hosts_of", "name_problem", "parse", "secrets_of", "type_problem"]


def parse(sql: str) -> Statement:
    """See `statements.parse`; its pattern takes 10 ms to be made, which is nothing for a workflow without PostgreSQL to wait for."""
    from mechaway_core.postgres import statements

    return statements.parse(sql)


class Postgres:
    """PostgreSQL for nodes; one for a whole process. Thread-safe; connects to nothing before the first call.

    `addresses(host, port, deadline, cancellation)` gives the addresses of a host that may be connected to, and raises a `NodeError` when
    there are none that may; connections go to exactly those. Without it the system resolves names and every address will do.
    """

    def __init__(self, settings: Settings, addresses: Addresses | None = None) -> None:
        self._settings = settings
        self._addresses = addresses
        self._lock = threading.Lock()
        self._pools: Pools | None = None

    def query(
        self,
        conninfo: str,
        sql: str,
        values: Sequence[Any],
        *,
        deadline: float,
        timeout: float | None = None,
        cancellation: Cancellation = NEVER,
    ) -> Rows:
        """What one statement gives; `values` are bound to `$1` ….

        It ends at `deadline` (an instant of `time.monotonic()`) or after `timeout` seconds, or with `Cancelled` when the run of
        `cancellation` is cancelled; then the connection is closed, and whether the statement took effect is not known. Raises
        `QueryError` for what the server refuses or what is too large, `OutOfTime`, `Unavailable` when no connection can be had for
        now, and `NodeError` when none can be had at all or it breaks. No error repeats the connection string.
        """
        from mechaway_core.postgres.query import query

        return query(self._pool(conninfo), self._settings, sql, values, deadline, timeout, cancellation)

    def insert_rows(
        self,
        conninfo: str,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        on_conflict: OnConflict | None = None,
        *,
        deadline: float,
        cancellation: Cancellation = NEVER,
    ) -> list[tuple[Any, int]]:
        """Insert `rows`, objects by column name, in one transaction; for each its id and how many rows it changed (0 or 1).

        The table (in the schema `mway_dynamic_tables`) and its missing columns are made. Raises what `query` raises.
        """
        from mechaway_core.postgres.tables import insert_rows

        return insert_rows(self._pool(conninfo), self._settings, table, rows, columns, on_conflict, deadline, cancellation)

    def close(self) -> None:
        """Close all connections, for good."""
        with self._lock:
            pools = self._pools
        if pools is not None:
            pools.close()

    def _pool(self, conninfo: str) -> Pool:
        from mechaway_core.postgres.pool import Pools

        with self._lock:
            if self._pools is None:
                self._pools = Pools(self._settings, self._addresses)
            pools = self._pools
        return pools.get(conninfo)
