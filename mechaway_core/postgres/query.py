"""One statement of a user: its parameters bound, its rows read as far as the limits allow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult

from mechaway_core.cancellation import Cancellation
from mechaway_core.errors import NodeError, OutOfTime, QueryError
from mechaway_core.names import distinct
from mechaway_core.ports import Rows
from mechaway_core.postgres.faults import Late, Lost, ServerError, TooMuch, translate
from mechaway_core.postgres.link import Link
from mechaway_core.postgres.pool import Pool, Shape
from mechaway_core.postgres.values import DESCRIBE, TypeRow, Types, encode, guess
from mechaway_core.settings import Settings

T = TypeVar("T")

GRACE = 0.25  # seconds the server gets to stop a statement by itself, which keeps the connection
TICK = 0.05  # seconds by which the server's clock may go ahead of ours
MOST_TYPES = 16  # types made of types made of types …
_PARAMETER = re.compile(r"\$(\d+)")
_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)


@dataclass(frozen=True, slots=True)
class Time:
    """How long a statement may take: until when, and in words why no longer. `usual` when it is the server's own setting."""

    until: float
    words: str
    usual: bool

    @classmethod
    def of(cls, settings: Settings, deadline: float, timeout: float | None) -> Time:
        """The nearest of three. Raises `OutOfTime` when it is over already."""
        now = time.monotonic()
        limits = [(now + settings.pg_timeout, f"{settings.pg_timeout:g} s (MECHAWAY_PG_TIMEOUT)"), (deadline, "its timeout allows")]
        if timeout is not None:
            limits.append((now + timeout, f"{timeout:g} s, its timeout"))
        until, words = min(limits)
        if until <= now:
            raise OutOfTime("there was no time left for the statement")
        return cls(until, words, until == limits[0][0])


def guarded(link: Link, allowed: Time, job: Callable[[], T]) -> T:
    """What a job with a connection gives, what goes wrong as our errors. When the server is not to go on, the connection is closed."""
    try:
        return job()
    except ServerError as error:
        raise translate(error, allowed.words, time.monotonic() >= allowed.until - TICK) from None
    except Late:
        link.cancel()
        link.close()
        raise OutOfTime(f"the statement ran longer than {allowed.words}") from None
    except Lost:
        link.close()
        raise NodeError("the connection to PostgreSQL broke; whether the statement took effect is not known") from None
    except BaseException:  # rows were left unread, or the run was cancelled
        if link.busy:
            link.cancel()
            link.close()
        raise


def query(
    pool: Pool,
    settings: Settings,
    sql: str,
    values: Sequence[Any],
    deadline: float,
    timeout: float | None,
    cancellation: Cancellation,
) -> Rows:
    """The rows of one statement with `$1` …; see `Postgres.query`."""
    allowed = Time.of(settings, deadline, timeout)
    with pool.link(allowed.until, cancellation) as link:
        return guarded(link, allowed, lambda: _query(link, pool, settings, sql, values, allowed))


def limit_time(link: Link, allowed: Time) -> None:
    """Let the server itself stop a statement in time; shortly after that we stop waiting for it."""
    link.deadline = allowed.until + GRACE
    if not allowed.usual:
        left = max(1, int((allowed.until - time.monotonic()) * 1000))
        link.run(b"SELECT pg_catalog.set_config('statement_timeout', $1, false)", [str(left).encode()])


def _query(link: Link, pool: Pool, settings: Settings, sql: str, values: Sequence[Any], allowed: Time) -> Rows:
    limit_time(link, allowed)
    known = pool.shape(sql)
    if known is None:
        return _execute(link, pool.types, settings, sql, values, _shape(link, pool, sql, values))
    try:
        return _execute(link, pool.types, settings, sql, values, known)
    except ServerError as error:
        # Where the same words mean other types by now, the server did not even begin.
        pool.remember(sql, None)
        if not error.state.startswith("42"):
            raise
        shape = _shape(link, pool, sql, values)
        if shape == known:
            raise
        return _execute(link, pool.types, settings, sql, values, shape)


def _shape(link: Link, pool: Pool, sql: str, values: Sequence[Any]) -> Shape:
    """Ask the server for the types in a statement. It need not be able to tell those of parameters; then their values do."""
    text = sql.encode()
    given: list[int] = []  # types that the values tell
    while True:
        try:
            parameters, columns = link.describe(text, given)
            break
        except ServerError as error:
            met = _PARAMETER.search(error.message) if error.state == "42P18" else None
            number = int(met[1]) if met else 0
            given = given or [0] * len(values)
            if not 0 < number <= len(given) or given[number - 1]:
                raise
            given[number - 1] = guess(values[number - 1])
    if len(parameters) != len(values):
        raise QueryError(f"the statement has {len(parameters)} parameters, but there are {len(values)} values")
    learn(link, pool.types, [*parameters, *columns])
    shape = (tuple(parameters), tuple(columns))
    if not given:
        pool.remember(sql, shape)
    return shape


def learn(link: Link, types: Types, oids: Sequence[int]) -> None:
    """Ask the server for types that users made, and for those that they are made of."""
    wanted = types.unknown(oids)
    for _ in range(MOST_TYPES):
        if not wanted:
            return
        result = link.run(DESCRIBE, [f"{{{','.join(map(str, wanted))}}}".encode()])
        wanted |= types.learn([_type_row(result, row) for row in range(result.ntuples)])
        wanted = types.unknown(wanted)


def _type_row(result: PGresult, row: int) -> TypeRow:
    oid, name, element, base, delimiter = ((result.get_value(row, column) or b"").decode() for column in range(5))
    return TypeRow(int(oid), name, int(element), int(base), delimiter)


def _execute(link: Link, types: Types, settings: Settings, sql: str, values: Sequence[Any], shape: Shape) -> Rows:
    oids = shape[0]
    bound = [encode(value, types.kind(oid)) for value, oid in zip(values, oids, strict=True)]
    collect = _Collect(types, settings)
    link.most = link.received() + 2 * collect.most_bytes + 1_000_000
    try:
        for result in link.stream(sql.encode(), bound, oids):
            collect.take(result)
    except TooMuch:
        raise collect.too_large() from None
    learn(link, types, collect.unknown)
    return collect.rows()


class _Collect:
    """Gathers the rows of a statement within the limits."""

    def __init__(self, types: Types, settings: Settings) -> None:
        self._types = types
        self._transformer = Transformer(types.adapters)
        self._most_rows = settings.sql_max_rows
        self.most_bytes = int(settings.sql_max_mb * 1_000_000)
        self._names: list[str] = []
        self._rows: list[tuple[Any, ...]] = []
        self._count = 0
        self._size = 0
        self._changes = 0
        self._waiting: list[PGresult] = []  # rows with types that are unknown until the server can be asked
        self.unknown: list[int] = []

    def take(self, result: PGresult) -> None:
        if result.status in _COPYING:
            raise QueryError("COPY from or to the client is not possible here; use INSERT or SELECT")
        if result.status == pq.ExecStatus.COMMAND_OK:
            self._changes = result.command_tuples or 0
            return
        if not self._names:
            self._names = distinct([(result.fname(column) or b"").decode() for column in range(result.nfields)])
            self.unknown = list(self._types.unknown(result.ftype(column) for column in range(result.nfields)))
        if result.status == pq.ExecStatus.TUPLES_OK:
            self._changes = result.command_tuples or 0
        count = result.ntuples
        self._count += count
        if self._count > self._most_rows:
            raise QueryError(f"the query returns more than {self._most_rows} rows (MECHAWAY_SQL_MAX_ROWS); add a LIMIT")
        self._size += 8 * count * result.nfields
        self._size += sum(len(result.get_value(row, column) or b"") for row in range(count) for column in range(result.nfields))
        if self._size > self.most_bytes:
            raise self.too_large()
        if self.unknown:
            self._waiting.append(result)
        else:
            self._load(result)

    def _load(self, result: PGresult) -> None:
        self._transformer.set_pgresult(result)
        self._rows.extend(self._transformer.load_rows(0, result.ntuples, tuple))

    def rows(self) -> Rows:
        for result in self._waiting:
            self._load(result)
        return Rows(self._names, [dict(zip(self._names, row, strict=True)) for row in self._rows], self._changes)

    def too_large(self) -> QueryError:
        return QueryError(f"the query returns more than {self.most_bytes / 1_000_000:g} MB (MECHAWAY_SQL_MAX_MB); add a LIMIT")
