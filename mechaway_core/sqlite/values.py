"""JSON values in SQLite cells, so that each reads back as what it was.

A column's *kind* follows from its declared type:

| kind | declared as | holds |
|---|---|---|
| plain | nothing, `BLOB` | numbers, strings and null as themselves; objects and arrays as JSON text |
| boolean | `BOOLEAN`, `BOOL` | true and false as 1 and 0 |
| text | what SQLite calls text (`TEXT`, `VARCHAR(9)`, …) | text: numbers become text, and so do objects and arrays, as JSON |
| json | `JSON` | JSON text (numbers as numbers) |
| number | any other (`INTEGER`, `REAL`, …) | like plain, but true and false as 1 and 0; text that looks like a number becomes one |

Text that starts with `{` or `[` and is JSON reads back as the object or array, whoever wrote it, except in a text column; so
`json_object(…)` gives objects. What would be mistaken for something else (a *string* that looks like an object, a boolean
outside a boolean column, anything else inside one, an integer beyond 64 bits) is stored as a tagged BLOB: a zero byte, then
its JSON. Any other BLOB reads back as base64 text. NaN and the infinities are null: JSON knows no others.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, Literal

import orjson

from mechaway_core.errors import QueryError

Kind = Literal["plain", "boolean", "text", "json", "number"]
Cell = None | int | float | str | bytes

TYPES = ("TEXT", "INTEGER", "REAL", "NUMERIC", "BOOLEAN", "JSON", "ANY")

TAG = b"\0"
OPENINGS = frozenset("{[")
# orjson reads integers beyond 64 bits as floats; nineteen digits in a row may be one.
LONG_NUMBER = re.compile(r"\d{19}")
LEAST, MOST = -(2**63), 2**63 - 1


@lru_cache(maxsize=1024)
def kind_of(declared: str | None) -> Kind:
    """The kind of a column declared so, by SQLite's rules of affinity (https://sqlite.org/datatype3.html#determination_of_column_affinity)."""
    name = (declared or "").strip().upper()
    if name in ("BOOLEAN", "BOOL"):
        return "boolean"
    if name == "JSON":
        return "json"
    if "INT" in name:
        return "number"
    if "CHAR" in name or "CLOB" in name or "TEXT" in name:
        return "text"
    if not name or "BLOB" in name:
        return "plain"
    return "number"


def encoder(kind: Kind) -> Callable[[Any], Cell]:
    """What turns a JSON value into a cell of such a column. It raises `QueryError` for what is not JSON."""
    return _ENCODERS[kind]


def decoder(kind: Kind) -> Callable[[Any], Any]:
    """What turns a cell of such a column into a JSON value."""
    return _DECODERS[kind]


def bind(params: Sequence[Any] | Mapping[str, Any]) -> tuple[Cell, ...] | dict[str, Cell]:
    """Bind parameters as cells: like a plain column, but booleans as 1 and 0, so that `WHERE passed = ?` finds them."""
    if isinstance(params, Mapping):
        return {name: _parameter(value) for name, value in params.items()}
    return tuple([_parameter(value) for value in params])


def _parameter(value: Any) -> Cell:
    return int(value) if value is True or value is False else _to_plain(value)


def _to_plain(value: Any) -> Cell:
    kind = type(value)
    if kind is str:
        return value if value[:1] not in OPENINGS or _container(value) is None else _tagged(value)
    if value is None:
        return None
    if kind is int:
        return value if LEAST <= value <= MOST else _tagged(value)
    if kind is float:
        return value if isfinite(value) else None
    if kind is bool:
        return _tagged(value)
    if isinstance(value, dict | list | tuple):
        return dump(value).decode()
    raise QueryError(f"a table cannot hold a value of type {kind.__name__}; it holds JSON values")


def _to_boolean(value: Any) -> Cell:
    if value is True or value is False:
        return int(value)
    return None if value is None else _tagged(value)


def _to_text(value: Any) -> Cell:
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value) if not LEAST <= value <= MOST else value
    return _to_plain(value)


def _to_json(value: Any) -> Cell:
    if type(value) is str or value is True or value is False:
        return dump(value).decode()
    if type(value) is float and value.is_integer():  # the column's affinity would make 1.0 the integer 1
        return _tagged(value)
    return _to_plain(value)


def _to_number(value: Any) -> Cell:
    return int(value) if value is True or value is False else _to_plain(value)


def _from_plain(cell: Any) -> Any:
    kind = type(cell)
    if kind is str:
        if cell[:1] in OPENINGS:
            value = _container(cell)
            return cell if value is None else value
        return cell
    if kind is float:
        return cell if isfinite(cell) else None
    if kind is bytes:
        return _from_blob(cell)
    return cell


def _from_boolean(cell: Any) -> Any:
    if type(cell) is int and 0 <= cell <= 1:
        return cell == 1
    return _from_plain(cell)


def _from_text(cell: Any) -> Any:
    return cell if type(cell) is str else _from_plain(cell)


def _from_json(cell: Any) -> Any:
    if type(cell) is str:
        try:
            return load(cell)
        except ValueError:  # a user's own SQL put other text there
            return cell
    return _from_plain(cell)


def _from_blob(cell: bytes) -> Any:
    if cell[:1] == TAG:
        try:
            return load(cell[1:].decode())
        except ValueError:
            pass
    return base64.b64encode(cell).decode()


def dump(value: Any) -> bytes:
    """Compact JSON. Raises `QueryError` when the value has none."""
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, or deeper than orjson goes
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise QueryError(f"a table cannot hold this value: {error}") from error


def load(text: str) -> Any:
    """The value of a JSON text, integers exact. Raises `ValueError` for what is not JSON."""
    if LONG_NUMBER.search(text) is None:
        return orjson.loads(text)
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is not text
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _container(text: str) -> Any:
    """The object or array that a text is the JSON of, or None."""
    try:
        return load(text)
    except ValueError:
        return None


def _tagged(value: Any) -> bytes:
    return TAG + dump(value)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


_ENCODERS: dict[Kind, Callable[[Any], Cell]] = {
    "plain": _to_plain,
    "boolean": _to_boolean,
    "text": _to_text,
    "json": _to_json,
    "number": _to_number,
}
_DECODERS: dict[Kind, Callable[[Any], Any]] = {
    "plain": _from_plain,
    "boolean": _from_boolean,
    "text": _from_text,
    "json": _from_json,
    "number": _from_plain,
}
