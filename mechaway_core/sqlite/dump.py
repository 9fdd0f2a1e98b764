"""All tables of a project as lines of JSON, and back: what moves between a laptop and a cloud.

    {"format": "mechaway tables 1"}
    {"schema": "table" | "index" | "view", "name": …, "sql": …}      in the order in which they are to be made
    {"rows": table, "columns": […], "last_id": n?}                   then a list for each row, cells in the order of the columns
    {"end": number of rows}

A cell is what SQLite holds, not what a workflow sees: null, numbers and text as themselves, all else as an object (`{"blob": base64}`,
`{"text": base64}` for text that is not UTF-8, `{"real": "inf"}`). So every value comes back as the same cell, whichever version of SQLite
wrote it. A row has its rowid with it where no column is that already, for pages of rows go by it; `last_id` keeps ids from being given
twice. The file itself would be quicker, but a file from elsewhere can be made to break SQLite, and text cannot: what a dump says about
the schema runs under the guard, like any statement of a user.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple

import apsw
import orjson

from mechaway_core.errors import Conflict, Invalid, OutOfTime, QueryError
from mechaway_core.names import shorten
from mechaway_core.sqlite.guard import parse, quote
from mechaway_core.sqlite.link import Link
from mechaway_core.sqlite.values import Cell

FORMAT = "mechaway tables 1"
MOST_SCHEMAS = 10_000  # tables, indexes and views of one dump
KINDS = ("table", "index", "view")

# What SQLite says about a line, as opposed to what happens to the file.
_REFUSED = (apsw.ConstraintError, apsw.SQLError, apsw.MismatchError, apsw.TooBigError, apsw.AuthError, apsw.RangeError)
_BATCH = 500  # rows between two looks at the clock
_LEAST, _MOST = -(2**63), 2**63 - 1
_ROWIDS = ("rowid", "_rowid_", "oid")
_SCHEMA = (
    "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
    "AND type IN ('table', 'index', 'view') ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 ELSE 3 END, rowid"
)


# -- out


def dump(link: Link) -> Iterator[bytes]:
    """The lines of a dump, each with its line break. Call it inside a transaction: it is of one moment then."""
    schema = link.execute(_SCHEMA).fetchall()
    yield _line({"format": FORMAT})
    for kind, name, sql in schema:
        if parse(sql).second == "VIRTUAL":
            raise QueryError(f'the table "{shorten(name)}" is a virtual one, made elsewhere; it cannot be exported')
        yield _line({"schema": kind, "name": name, "sql": sql})
    count = 0
    for kind, name, _ in schema:
        if kind == "table":
            columns = _columns(link, name)
            yield _line({"rows": name, "columns": columns, **_last_id(link, name)})
            for row in _rows(link, name, columns):
                count += 1
                yield _line([_written(cell) for cell in row])
    yield _line({"end": count})


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _columns(link: Link, table: str) -> list[str]:
    """The columns that hold something of their own, a name of the rowid first where that is none of them."""
    found = link.execute("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)", (table,)).fetchall()
    columns = [name for name, _, _, hidden in found if hidden == 0]
    keys = [declared.upper() for _, declared, position, _ in found if position]
    [(without_rowid,)] = link.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,)).fetchall()
    taken = {name.lower() for name, *_ in found}
    free = next((name for name in _ROWIDS if name not in taken), None)
    if without_rowid or keys == ["INTEGER"] or free is None:
        return columns
    return [free, *columns]


def _last_id(link: Link, table: str) -> dict[str, int]:
    if not link.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchall():
        return {}
    found = link.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchall()
    return {"last_id": found[0][0]} if found and type(found[0][0]) is int else {}


def _rows(link: Link, table: str, columns: Sequence[str]) -> Iterator[Sequence[Cell]]:
    """The rows of a table. Those behind a text that is not UTF-8 are read in a way that is slower and takes any bytes."""
    read = 0
    try:
        for row in _select(link, table, ", ".join(map(_name, columns))):
            read += 1
            yield row
        return
    except UnicodeError:
        pass
    text = "typeof({0}), CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END"
    careful = ", ".join(text.format(_name(column)) for column in columns)
    for number, row in enumerate(_select(link, table, careful)):
        if number >= read:
            yield [_Bytes(cell) if kind == "text" else cell for kind, cell in zip(row[::2], row[1::2], strict=True)]


class _Bytes(bytes):
    """A text, as the bytes it is made of."""


def _select(link: Link, table: str, what: str) -> Iterator[tuple[Any, ...]]:
    return iter(link.connection.cursor().execute(f"SELECT {what} FROM {quote(table)}"))  # noqa: S608 - the names are quoted


def _name(column: str) -> str:
    return column if column in _ROWIDS else quote(column)


def _written(cell: Cell) -> Any:
    if isinstance(cell, _Bytes):
        try:
            return cell.decode()
        except UnicodeError:
            return {"text": base64.b64encode(cell).decode()}
    if isinstance(cell, bytes):
        return {"blob": base64.b64encode(cell).decode()}
    if isinstance(cell, float) and not isfinite(cell):
        return {"real": "inf" if cell > 0 else "-inf"}
    return cell


# -- in


class _Target(NamedTuple):
    """The table that rows go into: its name and how many cells a row has."""

    table: str
    columns: tuple[str, ...]


class Loader:
    """Reads a dump into an empty database, line by line. Call it inside a transaction, which undoes all of it when it raises.

    `make` runs a statement of the dump's schema under the guard, until `deadline` (of `time.monotonic()`).
    """

    def __init__(self, link: Link, make: Callable[[str], object], deadline: float | None) -> None:
        self._link = link
        self._make = make
        self._deadline = deadline
        self._target: _Target | None = None
        self._batch: list[list[Any]] = []
        self._made = 0
        self._count = 0
        self._ended = False

    def load(self, lines: Iterable[bytes]) -> int:
        """Make everything that the lines say; how many rows there were. Raises `Invalid` with the number of the line, `Conflict`."""
        if self._link.execute(f"{_SCHEMA} LIMIT 1").fetchall():
            raise Conflict("there are tables already; a dump goes only where there are none")
        number = 0
        for number, line in enumerate(lines, 1):
            try:
                self._take(number, orjson.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise Invalid(f"line {number} of the tables cannot be read: {shorten(str(error)) or type(error).__name__}") from None
            except (*_REFUSED, QueryError) as error:
                raise Invalid(f"line {number} of the tables cannot be stored: {shorten(str(error), 200)}") from error
        if not self._ended:
            raise Invalid(f"the tables end after line {number}, in the middle")
        return self._count

    def _take(self, number: int, value: Any) -> None:
        if self._ended:
            raise ValueError("there is more after the end")
        if number == 1:
            if value != {"format": FORMAT}:
                raise ValueError("it is not a dump of tables that this version reads")
        elif isinstance(value, list):
            self._row(value)
        elif not isinstance(value, dict):
            raise ValueError("it is neither a row nor an object")
        elif "schema" in value:
            self._schema(value["schema"], value["name"], value["sql"])
        elif "rows" in value:
            self._rows(value["rows"], value["columns"], value.get("last_id"))
        else:
            self._flush()
            self._ended = True
            if value["end"] != self._count:
                raise ValueError(f"there are {self._count} rows, not {value['end']}")

    def _schema(self, kind: Any, name: Any, sql: Any) -> None:
        if kind not in KINDS or not isinstance(name, str) or not isinstance(sql, str):
            raise ValueError("it names no table, index or view")
        parsed = parse(sql)
        word = "INDEX" if parsed.second == "UNIQUE" else parsed.second
        if parsed.verb != "CREATE" or word != kind.upper() or self._target is not None:
            raise ValueError(f"it does not make the {kind} that it names")
        self._made += 1
        if self._made > MOST_SCHEMAS:
            raise ValueError(f"there are more than {MOST_SCHEMAS} tables, indexes and views")
        self._make(sql)
        if not self._link.execute("SELECT 1 FROM sqlite_schema WHERE type = ? AND name = ?", (kind, name)).fetchall():
            raise ValueError(f"it does not make the {kind} that it names")

    def _rows(self, table: Any, columns: Any, last_id: Any) -> None:
        self._flush()
        if not isinstance(table, str) or not isinstance(columns, list) or not all(isinstance(name, str) for name in columns) or not columns:
            raise ValueError("it names no table and columns")
        if list(columns) != _columns_of(self._link, table):
            raise ValueError(f'the columns are not those of the table "{shorten(table)}"')
        if self._link.execute(f"SELECT 1 FROM {quote(table)} LIMIT 1").fetchall():  # noqa: S608 - the name is quoted
            raise ValueError(f'the rows of "{shorten(table)}" come twice')
        self._target = _Target(table, tuple(columns))
        if last_id is not None:
            if type(last_id) is not int or not 0 <= last_id <= _MOST:
                raise ValueError("last_id is no number of a row")
            self._link.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            self._link.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last_id))

    def _row(self, cells: list[Any]) -> None:
        if self._target is None or len(cells) != len(self._target.columns):
            raise ValueError("the row has another number of cells than the table has columns")
        self._batch.append([_read(cell) for cell in cells])
        self._count += 1
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._batch or self._target is None:
            return
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise OutOfTime("loading the tables took longer than its timeout allows; nothing was saved")
        batch, self._batch = self._batch, []
        cursor = self._link.connection.cursor()
        plain = [row for row in batch if not any(isinstance(cell, _Bytes) for cell in row)]
        cursor.executemany(_insert(self._target, frozenset()), plain)
        for row in batch if len(plain) < len(batch) else ():
            odd = frozenset(place for place, cell in enumerate(row) if isinstance(cell, _Bytes))
            if odd:
                cursor.execute(_insert(self._target, odd), [bytes(cell) if isinstance(cell, _Bytes) else cell for cell in row])


def clear(link: Link) -> None:
    """Drop every table and view. Inside a transaction."""
    for kind in ("view", "table"):  # indexes go with their tables
        for (name,) in link.execute(
            "SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'", (kind,)
        ).fetchall():
            link.execute(f"DROP {kind} {quote(name)}")
    link.forget_tables()


def _columns_of(link: Link, table: str) -> list[str] | None:
    """The columns that a dump has of a table, None when there is no such table."""
    there = link.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'", (table,)
    )
    return _columns(link, table) if there.fetchall() else None


def _insert(target: _Target, texts: frozenset[int]) -> str:
    """The statement that inserts a row; the cells at these places come as bytes and are texts."""
    cells = ", ".join("CAST(? AS TEXT)" if place in texts else "?" for place in range(len(target.columns)))
    return f"INSERT INTO {quote(target.table)} ({', '.join(map(_name, target.columns))}) VALUES ({cells})"  # noqa: S608


def _read(written: Any) -> Cell:
    if isinstance(written, bool):
        raise ValueError("a cell is neither true nor false")
    if not isinstance(written, dict):
        if isinstance(written, list) or (isinstance(written, int) and not _LEAST <= written <= _MOST):
            raise ValueError("a cell is null, a number, a text or an object")
        return written  # type: ignore[no-any-return]
    [(kind, text)] = written.items()
    if kind == "real":
        return {"inf": inf, "-inf": -inf}[text]
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("a cell is not base64") from None
    if kind not in ("blob", "text"):
        raise ValueError(f"a cell cannot be a {shorten(str(kind))}")
    return _Bytes(data) if kind == "text" else data
