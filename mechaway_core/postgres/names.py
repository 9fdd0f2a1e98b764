"""Names and types of tables and columns, as far as they can be judged without a server."""

from __future__ import annotations

import re

from mechaway_core.names import did_you_mean, shorten

MOST_BYTES = 63  # PostgreSQL cuts longer names, and two could become one

TYPES = (
    "text", "varchar", "character varying", "char", "character", "boolean", "bool", "smallint", "integer", "int", "bigint", "int2", "int4",
    "int8", "real", "double precision", "float4", "float8", "numeric", "decimal", "date", "time", "timetz", "time with time zone",
    "time without time zone", "timestamp", "timestamptz", "timestamp with time zone", "timestamp without time zone", "interval", "uuid",
    "json", "jsonb", "bytea", "inet", "cidr", "macaddr", "any",
)  # fmt: skip
_TYPE = re.compile(r"([a-z0-9]+(?: [a-z]+){0,3})(\(\d{1,5}(?:,\d{1,5})?\))?((?:\[\]){0,6})")


def quote(name: str) -> str:
    """A name as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def name_problem(name: str) -> str | None:
    """Why this cannot be the name of a table or column, as one sentence, or None."""
    if not name:
        return "a name cannot be empty"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "a name cannot hold half of a surrogate pair"
    if length > MOST_BYTES:
        return f'"{shorten(name, 30)}" is longer than the {MOST_BYTES} bytes that a name in PostgreSQL may have'
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
        return "a name cannot hold control characters"
    return None


def type_problem(written: str | None) -> str | None:
    """Why this cannot be the type of a column, or None."""
    if written is None or as_type(written) is not None:
        return None
    return (
        f'"{shorten(written, 40)}" is not a type a column can have here{did_you_mean(written, TYPES) or "; there are " + ", ".join(TYPES)}'
    )


def as_type(written: str) -> str | None:
    """A type as SQL, or None when it is not one of those that are known. `any` takes every JSON value."""
    match = _TYPE.fullmatch(re.sub(r"\s*([(),\[\]])\s*", r"\1", " ".join(written.lower().split())))
    if match is None or match[1] not in TYPES:
        return None
    name = "jsonb" if match[1] == "any" else match[1]
    return name + (match[2] or "") + match[3]
