"""What a job of `Tables.read` or `Tables.write` is given: a project's tables, under the guard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import Cancelled, MechawayError, OutOfTime, QueryError, Unavailable
from mechaway_core.names import distinct
from mechaway_core.ports import Column, OnConflict, Params, Rows, TableInfo, TablePage
from mechaway_core.sqlite import dump as dumps
from mechaway_core.sqlite import guard as guards
from mechaway_core.sqlite.faults import translate
from mechaway_core.sqlite.guard import quote
from mechaway_core.sqlite.link import Link, Options
from mechaway_core.sqlite.schema import plan_for
from mechaway_core.sqlite.values import bind, decoder, kind_of
from mechaway_core.sqlite.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBER = "_mechaway_row"  # a name for rowids that no table is likely to have
COUNTING = 0.25  # seconds that counting the rows of all tables may take


class SqliteSession:
    """A `Session` on one connection, for the time of one job. `execute` is for our own statements, the rest for users."""

    __slots__ = ("_cancellation", "_deadline", "_link", "_options", "_over", "_owner", "_path", "broken")

    def __init__(
        self, link: Link, options: Options, owner: str, path: Path, deadline: float | None, cancellation: Cancellation = NEVER
    ) -> None:
        self._link = link
        self._options = options
        self._owner = owner
        self._path = path
        self._deadline = deadline
        self._cancellation = cancellation
        self._over = False
        self.broken: MechawayError | None = None  # why SQLite undid the transaction by itself

    def end(self) -> None:
        """The job is over: whoever kept the session finds it shut."""
        self._over = True

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a trusted statement and give its rows as tuples."""
        self._check()
        try:
            rows: list[tuple[Any, ...]] = self._link.execute(sql, params).fetchall()
        except (apsw.Error, UnicodeError) as error:
            raise self._fault(error) from error
        return rows

    @property
    def last_id(self) -> int:
        """The rowid of the row inserted last."""
        return self._link.connection.last_insert_rowid()

    @property
    def changes(self) -> int:
        """How many rows the last statement changed."""
        return self._link.connection.changes()

    def query(
        self,
        sql: str,
        params: Params = (),
        *,
        write: bool = False,
        deadline: float | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> Rows:
        """Run one statement of a user under the guard.

        `params` bind like values of an untyped column, but booleans as 1 and 0: `WHERE passed = ?` finds what a writer stored,
        an object or array is JSON text that SQL's own JSON functions take, and a *string* that looks like one is a tagged BLOB.
        """
        self._check()
        if "\0" in sql:
            raise QueryError("SQL cannot hold a NUL character")
        parsed = guards.parse(sql)
        problem = parsed.problem(write)
        if problem:
            raise QueryError(problem)
        if write and not self._link.writable:
            raise QueryError("this session only reads")
        link = self._link
        bound = bind(params)
        described: list[tuple[str, str]] = []

        def look(cursor: apsw.Cursor, _sql: str, _params: Any) -> bool:
            described.extend(cursor.get_description())  # afterwards it is lost when there are no rows
            return write or cursor.is_readonly

        cursor = link.connection.cursor()
        cursor.exec_trace = look
        with self._in_time(deadline):
            # Notice now what other connections did to the schema: noticed in the middle, the statement would be prepared anew and
            # give other columns than it announced.
            link.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            link.guard.enter(parsed.mode(write))
            try:
                cursor.execute(sql, bound, can_cache=False)
                rows = self._collect(cursor, described, max_rows, max_bytes)
            finally:
                link.guard.mode = "trusted"
                cursor.close(True)
        columns = distinct([name for name, _ in described])
        changed = write and parsed.verb in guards.WRITING
        inserted = changed and parsed.verb in ("INSERT", "REPLACE") and self.changes > 0
        return Rows(
            columns,
            [dict(zip(columns, row, strict=True)) for row in rows],
            self.changes if changed else 0,
            self.last_id if inserted else None,
        )

    def insert_rows(
        self, table: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], on_conflict: OnConflict | None = None
    ) -> list[tuple[Any, int]]:
        """Insert rows; see `Session.insert_rows`."""
        self._check_writable()
        link = self._link
        try:
            plan = plan_for(link, table, tuple(columns), on_conflict, rows)
            if len(rows) == 1:
                return [self._insert(plan, rows[0])]
            inserted = []
            for number, row in enumerate(rows):
                if number % 256 == 0:
                    self._cancellation.check()
                    if self._deadline is not None and time.monotonic() >= self._deadline:
                        raise OutOfTime(f"storing {len(rows)} rows took longer than the node's timeout; nothing was saved")
                inserted.append(self._insert(plan, row))
        except (apsw.Error, UnicodeError) as error:
            raise self._fault(error) from error
        return inserted

    def read_table(
        self, table: str, where: str | None = None, params: Params = (), order_by: str | None = None, limit: int | None = None
    ) -> Rows:
        """Read rows; see `Session.read_table`."""
        where, order_by = where or None, order_by or None
        problem = guards.part_problem(where, order_by)
        if problem:
            raise QueryError(problem)
        try:
            return self.query(guards.select(table, where, order_by, limit), params)
        except QueryError:
            if self.has_table(table):
                raise
            return Rows([], [], missing=True)

    def has_table(self, table: str) -> bool:
        """Whether there is a table or view of this name."""
        return bool(self.execute("SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE", (table,)))

    def tables(self) -> list[TableInfo]:
        """Every table and view with its columns, by name."""
        until = time.monotonic() + COUNTING
        names = self.execute(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        return [TableInfo(name, self._columns(name), self._count(name, until)) for (name,) in names]

    def page(self, table: str, after: int = 0, limit: int = 100) -> TablePage | None:
        """Some rows of a table; see `Session.page`."""
        if not self.has_table(table):
            return None
        name = quote(table)
        behind, params = ("WHERE rowid > ?", (after, limit + 1)) if after else ("", (limit + 1,))
        try:  # behind a rowid: as quick at the end of a large table as at its beginning
            found = self.query(f"SELECT rowid AS {quote(NUMBER)}, * FROM {name} {behind} ORDER BY rowid LIMIT ?", params)  # noqa: S608
            numbers = [row.pop(NUMBER) for row in found.rows]
            columns = found.columns[1:]
        except QueryError:  # a view, or a table without rowids
            found = self.query(f"SELECT * FROM {name} LIMIT ? OFFSET ?", (limit + 1, after))  # noqa: S608
            numbers, columns = list(range(after + 1, after + 2 + len(found.rows))), found.columns
        if len(found.rows) <= limit:
            return TablePage(columns, found.rows, None)
        end = limit + (numbers[limit - 1] == 0)  # 0 would mean the beginning
        return TablePage(columns, found.rows[:end], numbers[end - 1])

    def dump(self) -> Iterator[bytes]:
        """All tables as lines of text; see `Session.dump`."""
        self._check()
        try:
            yield from dumps.dump(self._link)
        except (apsw.Error, UnicodeError) as error:
            raise self._fault(error) from error

    def load(self, lines: Iterable[bytes]) -> int:
        """Make what a dump says; see `Session.load`."""
        self._check_writable()
        loader = dumps.Loader(self._link, lambda sql: self.query(sql, write=True), self._deadline)
        try:
            return loader.load(lines)
        except apsw.Error as error:
            raise self._fault(error) from error
        finally:
            self._link.forget_tables()

    def clear(self) -> None:
        """Drop every table and view; see `Session.clear`."""
        self._check_writable()
        try:
            dumps.clear(self._link)
        except apsw.Error as error:
            raise self._fault(error) from error

    def _check_writable(self) -> None:
        self._check()
        if not self._link.writable:
            raise QueryError("this session only reads")

    def _check(self) -> None:
        if self._over:
            raise RuntimeError("a session is only good for the job that it was given to")
        if self.broken is not None:
            raise self.broken

    def _insert(self, plan: Any, row: Mapping[str, Any]) -> tuple[Any, int]:
        link = self._link
        cells = [encode(row.get(name)) for name, encode in plan.fields]
        cursor = link.execute(plan.sql, cells)
        if not plan.returns:
            return (link.connection.last_insert_rowid() if plan.has_id else None, 1)
        given = cursor.fetchall()
        if given:
            return (given[0][0], 1)
        kept = link.execute(plan.find, [cells[i] for i in plan.find_by]).fetchall()
        return (kept[0][0] if kept else None, 0)

    def _collect(
        self, cursor: apsw.Cursor, described: list[tuple[str, str]], max_rows: int | None, max_bytes: int | None
    ) -> list[list[Any]]:
        most_rows = self._options.sql_max_rows if max_rows is None else max_rows
        most_bytes = int(self._options.sql_max_mb * 1_000_000) if max_bytes is None else max_bytes
        decoders: list[Callable[[Any], Any]] = []
        rows: list[list[Any]] = []
        size = 0
        for cells in cursor:
            if not rows:
                decoders = [decoder(kind_of(declared)) for _, declared in described]
            size += 8 * len(cells)
            for cell in cells:
                if type(cell) is str or type(cell) is bytes:
                    size += len(cell)
            if len(rows) >= most_rows:
                raise QueryError(f"the query returns more than {most_rows} rows (MECHAWAY_SQL_MAX_ROWS); add a LIMIT")
            if size > most_bytes:
                raise QueryError(f"the query returns more than {most_bytes / 1_000_000:g} MB (MECHAWAY_SQL_MAX_MB); add a LIMIT")
            rows.append([decode(cell) for decode, cell in zip(decoders, cells, strict=True)])
        return rows

    @contextmanager
    def _in_time(self, deadline: float | None) -> Iterator[None]:
        """Stop the statement at the nearest of three deadlines or when its run is cancelled, and translate what goes wrong."""
        now = time.monotonic()
        at = now + self._options.sql_timeout
        limit = f"{self._options.sql_timeout:g} s (MECHAWAY_SQL_TIMEOUT)"
        for other in (deadline, self._deadline):
            if other is not None and other < at:
                at, limit = other, "its timeout allows"
        if at <= now:
            raise OutOfTime("there was no time left for the statement")
        alarm = watch.set(self._link.connection, at)
        try:
            with self._cancellation.during(partial(watch.hurry, alarm)):
                yield
        except Cancelled as cancelled:
            self._note(cancelled)
            raise
        except (apsw.Error, UnicodeError, KeyError) as error:
            late = watch.clear(alarm)
            if late and isinstance(error, apsw.InterruptError):
                fault: MechawayError = OutOfTime(f"the statement ran longer than {limit}")
                self._note(fault)
                raise fault from error
            raise self._fault(error) from error
        finally:
            watch.clear(alarm)

    def _fault(self, error: Exception) -> MechawayError:
        if isinstance(error, apsw.BindingsError | KeyError):
            fault: MechawayError = QueryError(_about_bindings(error))
        elif isinstance(error, apsw.ExecTraceAbort):
            fault = QueryError('this statement changes something; set "write": true to allow it')
        else:
            fault = translate(error, self._path, self._owner, self._options, self._link.guard.refusal)
        self._note(fault)
        return fault

    def _note(self, fault: MechawayError) -> None:
        """Remember when SQLite undid the whole transaction: statements after this would each be saved on their own."""
        if self._link.writable and not self._link.connection.in_transaction:
            self.broken = fault if isinstance(fault, QueryError | OutOfTime | Unavailable | Cancelled) else Unavailable(str(fault))

    def _columns(self, table: str) -> list[Column]:
        described = self.execute("SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)", (table,))
        return [Column(name, declared or None) for name, declared in described]

    def _count(self, table: str, until: float) -> int | None:
        try:
            found = self.query(f"SELECT count(*) FROM {quote(table)}", deadline=until)  # noqa: S608
        except (OutOfTime, QueryError):
            return None
        return int(next(iter(found.rows[0].values())))


def _about_bindings(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no value for the parameter :{error.args[0]}"
    words = str(error)
    if "has no name" in words:
        return "the statement has a parameter without a name (?), but the values have names"
    numbers = [int(word) for word in words.replace(".", " ").split() if word.isdigit()]
    if len(numbers) >= 2 and "supplied" in words:
        return f"the statement has {numbers[0]} parameters, but there are {numbers[1]} values"
    return f"SQLite: {words}"
