"""Tables as the writer node sees them: made when missing, widened when a column is, and how a row gets in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mechaway_core.errors import QueryError
from mechaway_core.ports import Column, InsertRows, OnConflict
from mechaway_core.sqlite.guard import check_name, quote
from mechaway_core.sqlite.link import Link
from mechaway_core.sqlite.values import TYPES, Kind, encoder, kind_of

MAX_COLUMNS = 500


class Plan(NamedTuple):
    """How rows of certain columns get into a table."""

    sql: str
    fields: tuple[tuple[str, Callable[[Any], Any]], ...]  # name in the row, encoder of its cell
    returns: bool  # the statement itself gives the id
    find: str | None  # gives the id of the row that was kept
    find_by: tuple[int, ...]  # which of the cells `find` takes
    has_id: bool
    at_once: str | None  # the same for one row in one statement, which inserts nothing when the schema is not the one given last


class _Table(NamedTuple):
    name: str
    kinds: dict[str, tuple[str, Kind]]  # by folded name: the real name and the kind
    rowid_column: str | None  # the column that is the rowid by another name
    has_rowid: bool


def fold(name: str) -> str:
    """A name as SQLite compares it: A to Z are a to z, other letters keep their case."""
    return name.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")


def plan_for(link: Link, table: str, columns: tuple[Column, ...], conflict: OnConflict | None, rows: Sequence[Mapping[str, Any]]) -> Plan:
    """The plan for such rows; tables, columns and indexes that it needs are made. Inside a transaction."""
    [(version,)] = link.execute("PRAGMA schema_version").fetchall()
    if version != link.schema_version:
        link.forget_tables()
        link.schema_version = version
    key = (table, columns, conflict)
    plan: Plan | None = link.plans.get(key)
    if plan is not None:
        return plan
    _check(table, columns, conflict)
    changed = _make(link, table, columns, rows)
    found = _find(link, table)
    if found is None:
        raise QueryError(f'the table "{table}" cannot be written')
    if conflict is not None:
        changed = _make_unique(link, found, conflict) or changed
    plan = _plan(found, columns, conflict)
    if changed:
        link.forget_tables()  # if this is rolled back, another schema may get the same version
    elif len(link.plans) < 1000:
        link.plans[key] = plan
    return plan


def insert_at_once(link: Link, job: InsertRows) -> tuple[Any, int] | None:
    """Insert one row outside a transaction, in one statement, where it is known how.

    None when it is not, or no longer: then nothing was done, and the long way is to be taken. Raises `apsw.Error`.
    """
    plan: Plan | None = link.plans.get((job.table, tuple(job.columns), job.on_conflict))
    if plan is None or plan.at_once is None:
        return None
    row = job.rows[0]
    link.execute(plan.at_once, [*[encode(row.get(name)) for name, encode in plan.fields], link.schema_version])
    connection = link.connection
    if connection.changes() != 1:
        return None
    return (connection.last_insert_rowid() if plan.has_id else None, 1)


def _check(table: str, columns: tuple[Column, ...], conflict: OnConflict | None) -> None:
    problem = check_name(table)
    if problem:
        raise QueryError(f"table {table[:80]!r}: {problem}")
    if len(columns) > MAX_COLUMNS:
        raise QueryError(f"a table has {MAX_COLUMNS} columns at most")
    seen: set[str] = set()
    for column in columns:
        problem = check_name(column.name)
        if problem:
            raise QueryError(f"column {column.name[:80]!r}: {problem}")
        if column.type is not None and column.type.upper() not in TYPES:
            raise QueryError(f'column "{column.name}": the type is one of {", ".join(TYPES)}')
        if fold(column.name) in seen:
            raise QueryError(f'the column "{column.name}" is named twice; case makes no difference to SQLite')
        seen.add(fold(column.name))
    if conflict is not None:
        if not conflict.columns:
            raise QueryError("on_conflict names no columns")
        for name in (*conflict.columns, *(conflict.update if isinstance(conflict.update, tuple) else ())):
            if fold(name) not in seen:
                raise QueryError(f'on_conflict: "{name}" is not one of the columns')


def _find(link: Link, table: str) -> _Table | None:
    listed = link.execute("SELECT name, wr FROM pragma_table_list(?) WHERE schema='main'", (table,)).fetchall()
    if not listed:
        return None
    [(name, without_rowid)] = listed
    described = link.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)", (table,)).fetchall()
    keys = [(column, declared) for column, declared, position in described if position]
    alias = keys[0][0] if len(keys) == 1 and keys[0][1].upper() == "INTEGER" and not without_rowid else None
    return _Table(name, {fold(c): (c, kind_of(declared)) for c, declared, _ in described}, alias, not without_rowid)


def _make(link: Link, table: str, columns: tuple[Column, ...], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Make the table or its missing columns; whether anything was made."""
    found = _find(link, table)
    if found is None:
        declared = "".join(f", {_declare(column, rows)}" for column in columns if fold(column.name) != "id")
        link.execute(f"CREATE TABLE {quote(table)} (id INTEGER PRIMARY KEY AUTOINCREMENT{declared})")
        return True
    missing = [column for column in columns if fold(column.name) not in found.kinds]
    if len(found.kinds) + len(missing) > MAX_COLUMNS + 1:
        raise QueryError(f'the table "{table}" would have more than {MAX_COLUMNS} columns')
    for column in missing:
        link.execute(f"ALTER TABLE {quote(table)} ADD COLUMN {_declare(column, rows)}")
    return bool(missing)


def _declare(column: Column, rows: Sequence[Mapping[str, Any]]) -> str:
    if column.type is not None:
        declared = "" if column.type.upper() == "ANY" else column.type.upper()
    else:
        first = next((value for row in rows if (value := row.get(column.name)) is not None), None)
        declared = "BOOLEAN" if isinstance(first, bool) else ""
    return f"{quote(column.name)} {declared}".rstrip()


def _make_unique(link: Link, table: _Table, conflict: OnConflict) -> bool:
    wanted = {fold(name) for name in conflict.columns}
    if table.rowid_column is not None and wanted == {fold(table.rowid_column)}:
        return False
    indexes = link.execute('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (table.name,)).fetchall()
    for (index,) in indexes:
        members = link.execute("SELECT name FROM pragma_index_info(?)", (index,)).fetchall()
        if {fold(name) if name is not None else None for (name,) in members} == wanted:
            return False
    names = [table.kinds[fold(name)][0] for name in conflict.columns]
    index = quote(f"{table.name} unique {', '.join(names)}")
    link.execute(f"CREATE UNIQUE INDEX {index} ON {quote(table.name)} ({', '.join(map(quote, names))})")
    return True


def _plan(table: _Table, columns: tuple[Column, ...], conflict: OnConflict | None) -> Plan:
    known = [table.kinds[fold(column.name)] for column in columns]
    names = [name for name, _ in known]
    fields = tuple(
        (column.name, _as_is if name == table.rowid_column else encoder(kind)) for column, (name, kind) in zip(columns, known, strict=True)
    )
    into = f"INSERT INTO {quote(table.name)}"
    into += f" ({', '.join(map(quote, names))}) VALUES ({', '.join('?' * len(names))})" if names else " DEFAULT VALUES"
    identity = _identity(table)
    if conflict is None:
        returns = identity is not None and identity != "rowid" and identity != quote(table.rowid_column or "")
        at_once = None if returns or not names else _guarded(table, names)
        return Plan(f"{into} RETURNING {identity}" if returns else into, fields, returns, None, (), identity is not None, at_once)
    target = [table.kinds[fold(name)][0] for name in conflict.columns]
    into += f" ON CONFLICT ({', '.join(map(quote, target))}) DO {_update(table, names, target, conflict)}"
    where = " AND ".join(f"{quote(name)} IS ?" for name in target)
    find = f"SELECT {identity or 'NULL'} FROM {quote(table.name)} WHERE {where}"  # noqa: S608 - the names are quoted
    return Plan(f"{into} RETURNING {identity or 'NULL'}", fields, True, find, tuple(names.index(name) for name in target), True, None)


def _guarded(table: _Table, names: list[str]) -> str:
    into = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))})"
    return f"{into} SELECT {', '.join('?' * len(names))} WHERE (SELECT schema_version FROM pragma_schema_version) = ?"  # noqa: S608


def _identity(table: _Table) -> str | None:
    """What gives a row's id: the column `id`, else the rowid, as SQL."""
    if "id" in table.kinds:
        return quote(table.kinds["id"][0])
    if table.rowid_column is not None:
        return quote(table.rowid_column)
    return "rowid" if table.has_rowid and "rowid" not in table.kinds else None


def _update(table: _Table, names: list[str], target: list[str], conflict: OnConflict) -> str:
    if conflict.update is False:
        return "NOTHING"
    if conflict.update is True:
        chosen = [name for name in names if name not in target and name != table.rowid_column]
    else:
        chosen = [table.kinds[fold(name)][0] for name in conflict.update]
    if not chosen:  # nothing to change, but the row counts as met
        chosen = target[:1]
    return "UPDATE SET " + ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in chosen)


def _as_is(value: Any) -> Any:
    """A row's own number: SQLite takes whole numbers and refuses all else."""
    if type(value) is str or type(value) is int or type(value) is float or value is None:
        return value
    raise QueryError("the id of a row must be a whole number")
