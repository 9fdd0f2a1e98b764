"""JSON values to PostgreSQL and back. `docs/postgres.md` has the table for users.

Both ways go by text. The type that the server infers for a parameter decides how a value is written: JSON for json and jsonb, an array
literal for arrays, base64 for bytea; all else is what PostgreSQL itself reads. What comes back is a JSON value where one is exact, and
else the text that PostgreSQL writes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, Literal, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types import TypeInfo
from psycopg.types.array import register_array
from psycopg.types.bool import BoolLoader
from psycopg.types.numeric import IntLoader
from psycopg.types.string import TextLoader

from mechaway_core import jsontext
from mechaway_core.errors import QueryError
from mechaway_core.names import shorten
from mechaway_core.sqlite.values import dump, load

Buffer: TypeAlias = bytes | bytearray | memoryview
Form = Literal["json", "bytea", "whole", "plain", "array"]

BUILT_IN = psycopg.postgres.types
FIRST_CUSTOM = 16_384  # OIDs from here on are made by users
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*+\\u0000")
LEAST, MOST = -(2**63), 2**63 - 1

BOOL, INT8, TEXT, FLOAT8, NUMERIC, JSONB = (BUILT_IN[name].oid for name in ("bool", "int8", "text", "float8", "numeric", "jsonb"))
NAME_ARRAY = BUILT_IN["name"].array_oid


# -- to PostgreSQL


@dataclass(frozen=True, slots=True)
class Kind:
    """How values are written for a type; `element` and `delimiter` are those of an array."""

    form: Form
    element: Kind | None = None
    delimiter: str = ","


PLAIN = Kind("plain")
_FORMS: dict[str, Form] = {
    "json": "json",
    "jsonb": "json",
    "bytea": "bytea",
    "int2": "whole",
    "int4": "whole",
    "int8": "whole",
    "oid": "whole",
}
_BUILT_IN_KINDS = {info.oid: Kind(_FORMS.get(info.name, "plain")) for info in BUILT_IN}
_BUILT_IN_KINDS |= {info.array_oid: Kind("array", _BUILT_IN_KINDS[info.oid], info.delimiter) for info in BUILT_IN if info.array_oid}


def guess(value: Any) -> int:
    """The type of a parameter that the server cannot infer, by the value."""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT8 if LEAST <= value <= MOST else NUMERIC
    if isinstance(value, float):
        return FLOAT8
    return JSONB if isinstance(value, dict | list) else TEXT


def encode(value: Any, kind: Kind) -> bytes | None:
    """A value as the text that PostgreSQL reads for a parameter of this kind; None is NULL. Raises `QueryError`."""
    if value is None:
        return None
    text = _WRITERS[kind.form](value, kind)
    if "\0" in text:
        raise QueryError("a text holds a NUL character, which PostgreSQL cannot store")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise QueryError("a text holds half of a surrogate pair, which is not text") from None


def _plain(value: Any, _kind: Kind) -> str:
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return dump(value).decode()  # numbers are JSON as they are PostgreSQL


def _whole(value: Any, kind: Kind) -> str:
    if type(value) is float and value.is_integer():
        value = int(value)
    return _plain(value, kind)


def _json(value: Any, _kind: Kind) -> str:
    text = dump(value).decode()
    if _ESCAPED_NUL.search(text):
        raise QueryError("a text holds a NUL character, which PostgreSQL cannot store")
    return text


def _bytea(value: Any, _kind: Kind) -> str:
    if type(value) is not str:
        raise QueryError("a bytea takes base64 text")
    if value.startswith("\\x"):
        return value
    try:
        return "\\x" + base64.b64decode(value, validate=True).hex()
    except (binascii.Error, ValueError):
        raise QueryError(f'"{shorten(value, 30)}" is not base64, which a bytea takes') from None


def _array(value: Any, kind: Kind) -> str:
    if not isinstance(value, list):
        return _plain(value, kind)  # an array as PostgreSQL writes it, {1,2}; anything else the server refuses
    if kind.element is None:
        raise AssertionError("an array has elements")
    # In an array of JSON a list is an element, elsewhere a further dimension.
    nests = kind.element.form != "json"
    parts = [_array(part, kind) if nests and isinstance(part, list) else _element(part, kind.element) for part in value]
    return "{" + kind.delimiter.join(parts) + "}"


def _element(value: Any, kind: Kind) -> str:
    if value is None:
        return "NULL"
    text = _WRITERS[kind.form](value, kind).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


_WRITERS: dict[Form, Callable[[Any, Kind], str]] = {"json": _json, "bytea": _bytea, "whole": _whole, "plain": _plain, "array": _array}


# -- from PostgreSQL

_ZONE = re.compile(r"[+-]\d\d$")


def _text(data: Buffer) -> str:
    return bytes(data).decode()


class _Number(Loader):
    """numeric: a number where JSON's readers keep it exactly, else its text."""

    def load(self, data: Buffer) -> Any:
        text = _text(data)
        if "." not in text:
            whole = int(text) if text.lstrip("-").isdigit() else None  # else NaN or an infinity
            return whole if whole is not None and LEAST <= whole <= MOST else text
        number = float(text)
        return number if Decimal(repr(number)) == Decimal(text) else text


class _Float(Loader):
    """A float; NaN and the infinities, which JSON does not know, as text."""

    def load(self, data: Buffer) -> Any:
        number = float(data)
        return number if isfinite(number) else _text(data)


class _Moment(Loader):
    """Timestamps and times as ISO 8601; the infinities and years before Christ as PostgreSQL writes them."""

    def load(self, data: Buffer) -> str:
        text = _text(data)
        if text[-1] == "C" or text[-1] == "y":  # "… BC", "infinity"
            return text
        if _ZONE.search(text, 5) and ":" in text:
            text += ":00"
        return text.replace(" ", "T", 1)


class _Bytes(Loader):
    """bytea as base64."""

    def load(self, data: Buffer) -> str:
        return base64.b64encode(bytes.fromhex(_text(data)[2:])).decode()


class _Json(Loader):
    """json and jsonb as their value."""

    def load(self, data: Buffer) -> Any:
        text = _text(data)
        try:
            value = load(text)
        except ValueError:  # a number too large for JSON's readers, half a surrogate pair
            return text
        if jsontext.depth(value) > jsontext.MAX_DEPTH:
            raise QueryError(f"the query returns JSON that is nested deeper than {jsontext.MAX_DEPTH} levels")
        return value


def _base_adapters() -> AdaptersMap:
    """What turns cells into JSON values: by type, text for all the others."""
    adapters = AdaptersMap(types=BUILT_IN)
    adapters.register_loader(0, TextLoader)
    loaders: dict[str, type[Loader]] = {"bool": BoolLoader, "numeric": _Number, "bytea": _Bytes}
    loaders |= dict.fromkeys(("int2", "int4", "int8", "oid"), IntLoader) | dict.fromkeys(("float4", "float8"), _Float)
    loaders |= dict.fromkeys(("timestamp", "timestamptz", "timetz"), _Moment) | dict.fromkeys(("json", "jsonb"), _Json)
    for name, loader in loaders.items():
        adapters.register_loader(name, loader)
    for info in BUILT_IN:
        if info.array_oid:
            register_array(info, adapters)
    return adapters


_ADAPTERS = _base_adapters()


# -- the types of one database


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A type made by users, as pg_type describes it. `element` is 0 unless it is an array, `base` unless it is a domain."""

    oid: int
    name: str
    element: int
    base: int
    delimiter: str


DESCRIBE = (
    b"SELECT t.oid, t.typname, CASE WHEN e.typarray = t.oid THEN e.oid ELSE 0 END, t.typbasetype, coalesce(e.typdelim, ',') "
    b"FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem WHERE t.oid = ANY($1::oid[])"
)


class Types:
    """The types of one database: the built-in ones, and those of users as they are met."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(_ADAPTERS)
        self._kinds = dict(_BUILT_IN_KINDS)

    def unknown(self, oids: Iterable[int]) -> set[int]:
        """Those of these types that must be asked for before anything is made of them."""
        return {oid for oid in oids if oid >= FIRST_CUSTOM and oid not in self._kinds}

    def kind(self, oid: int) -> Kind:
        """How values are written for a type."""
        return self._kinds.get(oid, PLAIN)

    def learn(self, rows: Iterable[TypeRow]) -> set[int]:
        """Take in what the server says about types; the types that these are made of and that are still unknown."""
        waiting: set[int] = set()
        for row in rows:
            below = row.element or row.base
            if self.unknown([below]):
                waiting.add(below)
            elif row.element:
                self._kinds[row.oid] = Kind("array", self.kind(row.element), row.delimiter)
                register_array(TypeInfo(row.name, row.element, row.oid, delimiter=row.delimiter), self.adapters)
            else:
                self._kinds[row.oid] = self.kind(row.base) if row.base else PLAIN
                loader = self.adapters.get_loader(row.base, pq.Format.TEXT) if row.base else None
                if loader is not None:  # columns come under the base type's OID, elements of arrays under the domain's
                    self.adapters.register_loader(row.oid, loader)
        return waiting
