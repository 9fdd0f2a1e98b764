"""Tables that writers make: created when missing, widened when a column is, and rows stored in one transaction.

1. What the table has is looked up. When something is missing, a lock that all writers know is taken and it is looked up again, so that two
   writers never make the same thing; the lock and all that was made last until the end of the transaction.
2. The rows go in as one statement run for each, sent without waiting in between.
3. Any error undoes all of it. Where two writers got into each other's way, the whole is tried again.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg.pq.abc import PGresult

from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import QueryError, Unavailable
from mechaway_core.ports import Column, OnConflict
from mechaway_core.postgres.faults import Late, Lost, ServerError
from mechaway_core.postgres.link import Link, Value
from mechaway_core.postgres.names import as_type, name_problem, quote
from mechaway_core.postgres.pool import Pool
from mechaway_core.postgres.query import Time, guarded, learn, limit_time
from mechaway_core.postgres.values import INT8, LEAST, MOST, NAME_ARRAY, Types, encode
from mechaway_core.settings import Settings

SCHEMA = "mway_dynamic_tables"
ATTEMPTS = 8
PAUSE = 0.05  # seconds, at most, before the second attempt; more before later ones
EXACT = 2**53  # a double holds every whole number up to here

# made by somebody else meanwhile; deadlocks and collisions of transactions
_AGAIN = ("42P06", "42P07", "42701", "42710", "40001", "40P01")

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = b"SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1::text, 0))"
_COLUMNS = (
    b"SELECT a.attname, a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass($1::text) "
    b"AND a.attnum > 0 AND NOT a.attisdropped"
)
_UNIQUE = (
    b"SELECT 1 FROM pg_catalog.pg_index i, LATERAL (SELECT pg_catalog.array_agg(a.attname) AS names FROM pg_catalog.pg_attribute a "
    b"WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) k "
    b"WHERE i.indrelid = pg_catalog.to_regclass($1::text) AND i.indisunique AND i.indisvalid AND i.indimmediate "
    b"AND i.indpred IS NULL AND i.indexprs IS NULL AND k.names @> $2::name[] AND k.names <@ $2::name[]"
)


def insert_rows(
    pool: Pool,
    settings: Settings,
    table: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    conflict: OnConflict | None,
    deadline: float,
    cancellation: Cancellation,
) -> list[tuple[Any, int]]:
    """Store rows; see `Postgres.insert_rows`."""
    _check(table, [column.name for column in columns], conflict)
    write = _Write(pool.types, table, rows, columns, conflict)
    allowed = Time.of(settings, deadline, None)
    with pool.link(allowed.until, cancellation) as link:
        return guarded(link, allowed, lambda: _again(lambda: _transaction(link, allowed, write), allowed.until))


def _check(table: str, names: Sequence[str], conflict: OnConflict | None) -> None:
    for name in (table, *names):
        problem = name_problem(name)
        if problem:
            raise QueryError(problem)
    if conflict is not None:
        for name in (*conflict.columns, *(conflict.update if isinstance(conflict.update, tuple) else ())):
            if name not in names:
                raise QueryError(f'on_conflict: "{name}" is not one of the columns')


def _again(job: Callable[[], list[tuple[Any, int]]], until: float) -> list[tuple[Any, int]]:
    """The result of a job, done again while it fails for what others do at the same time."""
    for attempt in range(1, ATTEMPTS):
        try:
            return job()
        except ServerError as error:
            if error.state not in _AGAIN:
                raise
        # Not at once: two that lock each other out would meet again.
        time.sleep(max(0.0, min(random.random() * PAUSE * attempt, until - time.monotonic())))
    return job()


def _transaction(link: Link, allowed: Time, write: _Write) -> list[tuple[Any, int]]:
    limit_time(link, allowed)
    link.run(_BEGIN)
    try:
        results = write.run(link)
    except (ServerError, QueryError):
        with suppress(ServerError, Late, Lost):
            link.run(b"ROLLBACK")
        raise
    except Lost:  # before the end of the transaction: the server undoes it by itself
        link.close()
        raise Unavailable("the connection to PostgreSQL broke; nothing was stored") from None
    link.run(b"COMMIT")
    return results


@dataclass(frozen=True, slots=True)
class _Write:
    """One write of one node."""

    types: Types
    table: str
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    conflict: OnConflict | None

    @property
    def name(self) -> str:
        return f"{quote(SCHEMA)}.{quote(self.table)}"

    def run(self, link: Link) -> list[tuple[Any, int]]:
        """Inside a transaction."""
        found = self.find(link)
        if self.lacks(link, found):
            link.run(_LOCK, [SCHEMA.encode()])
            self.make(link, self.find(link))
            found = self.find(link)
        learn(link, self.types, list(found.values()))
        return self.insert(link, found)

    # -- the table

    def find(self, link: Link) -> dict[str, int]:
        """The columns of the table and their types; none when there is no such table."""
        result = link.run(_COLUMNS, [self.name.encode()])
        return {_cell(result, row, 0): int(_cell(result, row, 1)) for row in range(result.ntuples)}

    def lacks(self, link: Link, found: Mapping[str, int]) -> bool:
        return any(column.name not in found or self.narrow(column, found) for column in self.columns) or not self.unique(link)

    def make(self, link: Link, found: Mapping[str, int]) -> None:
        if not found:
            if not link.run(b"SELECT pg_catalog.to_regnamespace($1::text)", [quote(SCHEMA).encode()]).get_value(0, 0):
                link.run(f"CREATE SCHEMA {quote(SCHEMA)}".encode())
            declared = "".join(f", {self.declare(column)}" for column in self.columns if column.name != "id")
            link.run(f"CREATE TABLE {self.name} (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY{declared})".encode())
        else:
            changes = [f"ADD COLUMN {self.declare(column)}" for column in self.columns if column.name not in found]
            changes += [f"ALTER COLUMN {quote(column.name)} TYPE numeric" for column in self.columns if self.narrow(column, found)]
            if changes:
                link.run(f"ALTER TABLE {self.name} {', '.join(changes)}".encode())
        if self.conflict is not None and not self.unique(link):
            names = ", ".join(map(quote, self.conflict.columns))
            link.run(f"CREATE UNIQUE INDEX {quote(_index_name(self.table, self.conflict.columns))} ON {self.name} ({names})".encode())

    def declare(self, column: Column) -> str:
        kind = as_type(column.type) if column.type is not None else infer(row.get(column.name) for row in self.rows)
        if kind is None:
            raise QueryError(f'the column "{column.name}" has a type that is not known')
        return f"{quote(column.name)} {kind}"

    def narrow(self, column: Column, found: Mapping[str, int]) -> bool:
        """Whether a column that was made for whole numbers must take others now."""
        if found.get(column.name) != INT8 or column.type is not None or column.name == "id":
            return False
        return any(_is_wide(row.get(column.name)) for row in self.rows)

    def unique(self, link: Link) -> bool:
        """Whether there is an index for `on_conflict`, or none is needed."""
        if self.conflict is None:
            return True
        names = encode(list(dict.fromkeys(self.conflict.columns)), self.types.kind(NAME_ARRAY))
        return link.run(_UNIQUE, [self.name.encode(), names]).ntuples > 0

    # -- the rows

    def insert(self, link: Link, found: Mapping[str, int]) -> list[tuple[Any, int]]:
        names = [column.name for column in self.columns]
        types = [found[name] for name in names]
        places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        sql = f"INSERT INTO {self.name} ({', '.join(map(quote, names))}) VALUES ({places}){self.on_conflict(names)}"  # noqa: S608
        sql += " RETURNING id" if "id" in found else ""
        results = []
        kept = []  # numbers of the rows whose place was taken
        for number, result in enumerate(link.many(sql.encode(), types, self.values(self.rows, names, types))):
            changes = result.command_tuples or 0
            results.append((_row_id(result, found), changes))
            if not changes:
                kept.append(number)
        if kept and "id" in found:
            for number, row_id in zip(kept, self.ids_of(link, found, [self.rows[number] for number in kept]), strict=True):
                results[number] = (row_id, 0)
        return results

    def ids_of(self, link: Link, found: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The ids of the rows that were there already."""
        assert self.conflict is not None
        names = list(self.conflict.columns)
        types = [found[name] for name in names]
        where = " AND ".join(f"{quote(name)} = ${number}" for number, name in enumerate(names, 1))
        sql = f"SELECT id FROM {self.name} WHERE {where} LIMIT 1"  # noqa: S608 - the names are quoted
        return [_row_id(result, found) for result in link.many(sql.encode(), types, self.values(rows, names, types))]

    def values(self, rows: Iterable[Mapping[str, Any]], names: Sequence[str], types: Sequence[int]) -> Iterator[Sequence[Value]]:
        fields = list(zip(names, map(self.types.kind, types), strict=True))
        for row in rows:
            yield [encode(row.get(name), kind) for name, kind in fields]

    def on_conflict(self, names: Sequence[str]) -> str:
        if self.conflict is None:
            return ""
        target = self.conflict.columns
        start = f" ON CONFLICT ({', '.join(map(quote, target))}) DO"
        if self.conflict.update is False:
            return f"{start} NOTHING"
        chosen = [name for name in names if name not in target] if self.conflict.update is True else list(self.conflict.update)
        chosen = chosen or list(target[:1])  # nothing to change, but the row counts as met
        return f"{start} UPDATE SET {', '.join(f'{quote(name)} = excluded.{quote(name)}' for name in chosen)}"


def infer(values: Iterable[Any]) -> str:
    """The type of a column for these values; null says nothing. Values of several types, or none, go into jsonb, which keeps each."""
    given = [value for value in values if value is not None]
    kinds = {type(value) for value in given}
    if kinds == {bool}:
        return "boolean"
    if kinds == {str}:
        return "text"
    if kinds == {float}:
        return "double precision"
    if kinds == {int}:
        return "bigint" if all(LEAST <= value <= MOST for value in given) else "numeric"
    if kinds == {int, float}:
        return "double precision" if all(type(value) is float or abs(value) <= EXACT for value in given) else "numeric"
    return "jsonb"


def _is_wide(value: Any) -> bool:
    return not value.is_integer() if type(value) is float else type(value) is int and not LEAST <= value <= MOST


def _index_name(table: str, columns: Sequence[str]) -> str:
    """A name that no other index has, short enough."""
    digest = hashlib.sha256("\0".join([table, *columns]).encode()).hexdigest()[:16]
    return table.encode()[:40].decode(errors="ignore") + f"_{digest}_key"


def _row_id(result: PGresult, found: Mapping[str, int]) -> Any:
    if "id" not in found or not result.ntuples:
        return None
    text = _cell(result, 0, 0)
    return int(text) if text.lstrip("-").isdigit() else text


def _cell(result: PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode()
