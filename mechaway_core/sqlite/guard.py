"""What a user's SQL may do.

Three fences, one behind the other: the statement's first word (`parse`), SQLite's authorizer at prepare (`Guard`), and limits,
defensive mode and tamed functions on the connection (`confine`). The first gives the good sentences and serves the checks at
save time; the other two are what holds.
"""

from __future__ import annotations

import binascii
import re
import string
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import apsw

Mode = Literal["trusted", "read", "write", "shape"]

READING = frozenset({"SELECT", "VALUES"})
WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
SHAPING = frozenset({"CREATE", "ALTER", "DROP"})
MAX_SQL = 1_000_000  # characters of a statement
USUAL = 10_000  # characters of one: what is found out about longer ones is found out again each time


@lru_cache(maxsize=1)
def _token() -> re.Pattern[str]:
    """What a statement consists of. Made when the first one is read: it takes 5 ms, and a cold start may read none."""
    return re.compile(
        r"""
          [ \t\n\f\r]+ | --[^\n]* | /\*.*?(?:\*/|\Z)            # blanks and comments: not captured
        | (?P<quoted> '[^']*(?:''[^']*)*+'? | "[^"]*(?:""[^"]*)*+"? | `[^`]*(?:``[^`]*)*+`? | \[[^\]]*\]? )
        | (?P<word> [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
        | (?P<other> . )
        """,
        re.VERBOSE | re.DOTALL | re.ASCII,
    )


class Parsed(NamedTuple):
    """What a glance tells about a statement. `verb`: its first word, or for WITH and EXPLAIN the one that counts."""

    verb: str
    second: str
    several: bool
    open: str  # a quote, comment or bracket that is never closed
    stray: bool  # a bracket is closed that was never opened
    named: bool  # it has parameters with names, such as :name

    def mode(self, write: bool) -> Mode:
        """The authorizer's mode for it."""
        if not write:
            return "read"
        return "shape" if self.verb in SHAPING else "write"

    def problem(self, write: bool) -> str | None:
        """Why this statement is not run, or None."""
        if not self.verb:
            return "the statement is empty"
        if self.several:
            return "one statement at a time: there is more after the first ';'"
        if self.verb in READING:
            return None
        if self.verb in WRITING:
            return None if write else f'{self.verb} changes rows; set "write": true to allow it'
        if self.verb in SHAPING:
            if self.verb == "CREATE" and self.second in ("TRIGGER", "VIRTUAL", "TEMP", "TEMPORARY"):
                return f"CREATE {self.second} is not allowed here"
            return None if write else f'{self.verb} changes the tables; set "write": true to allow it'
        return f"{self.verb} is not allowed here"


def parse(sql: str) -> Parsed:
    """Look at a statement. Statements of usual length are looked at once."""
    return _parse_and_keep(sql) if len(sql) <= USUAL else _parse(sql)


@lru_cache(maxsize=2048)
def _parse_and_keep(sql: str) -> Parsed:
    return _parse(sql)


def _parse(sql: str) -> Parsed:
    words: list[str] = []  # of the first statement, outside of brackets
    depth, ended, several, unclosed, stray, named = 0, False, False, "", False, False
    mark = -1  # where a sign ended that makes a parameter of the word behind it
    for match in _token().finditer(sql):
        text = match.group()
        if match.lastgroup is None:
            if text.startswith("/*") and (len(text) < 4 or not text.endswith("*/")):
                unclosed = "/*"
            continue
        if text == ";":
            ended = ended or bool(words)
            continue
        if ended:
            several = True
        elif match.lastgroup == "word":
            named = named or match.start() == mark
            if depth == 0 and len(words) < 10_000:
                words.append(text.upper())
        elif match.lastgroup == "quoted":
            words = words or [text[:20]]
            if not _closed(text):
                unclosed = text[0]
        else:
            if not words:
                words.append(text)
            mark = match.end() if text in ":@$" else -1
            depth += (text == "(") - (text == ")")
            stray = stray or depth < 0
    verb, second = _leading(words)
    return Parsed(verb, second, several, unclosed or ("(" if depth > 0 else ""), stray, named)


def _closed(text: str) -> bool:
    if text[0] == "[":
        return text.endswith("]")
    return len(text) > 1 and text.count(text[0]) % 2 == 0


def _leading(words: list[str]) -> tuple[str, str]:
    rest = words[3:] if words[:3] == ["EXPLAIN", "QUERY", "PLAN"] else words[1:] if words[:1] == ["EXPLAIN"] else words
    if rest[:1] == ["WITH"]:
        rest = next((rest[i:] for i, word in enumerate(rest) if word in READING or word in WRITING), rest)
    return (rest[0] if rest else words[0] if words else "", rest[1] if len(rest) > 1 else "")


def check_sql(sql: str, *, write: bool) -> str | None:
    """What is wrong with a user's statement, found without its tables: one sentence, or None.

    Finds what the guard would refuse and what is not SQL; not tables and columns that are missing: they may be there when it runs.
    """
    if "\0" in sql:
        return "SQL cannot hold a NUL character"
    if len(sql) > MAX_SQL:
        return f"the statement is longer than {MAX_SQL} characters"
    parsed = parse(sql)
    prepare = _prepare_problem if len(sql) <= USUAL else _prepare_problem.__wrapped__
    return parsed.problem(write) or prepare(sql, parsed.mode(write))


def has_names(sql: str) -> bool:
    """Whether a statement has parameters with names (`:name`), outside of texts and comments."""
    return parse(sql).named


def check_where(where: str | None, order_by: str | None = None) -> str | None:
    """What is wrong with the condition or the order of `Session.read_table`, as one sentence, or None."""
    for name, part in (("where", where), ("order_by", order_by)):
        if part is None:
            continue
        problem = _part_problem(part)
        if problem:
            return f"{name}: {problem}"
    return check_sql(select("t", where, order_by, 1), write=False)


@lru_cache(maxsize=1024)
def _part_problem(part: str) -> str | None:
    parsed = parse(part)
    if not parsed.verb:
        return "it is empty"
    if ";" in part and (parsed.several or part.rstrip().endswith(";")):
        return "it cannot hold a ';'"
    if parsed.open:
        return f"a {parsed.open} is never closed"
    return "a ) is never opened" if parsed.stray else None


def select(table: str, where: str | None, order_by: str | None, limit: int | None) -> str:
    """The statement of `Session.read_table`. Line ends keep a comment at the end of a part from swallowing what follows."""
    sql = f"SELECT * FROM {quote(table)}"  # noqa: S608 - the name is quoted; the rest is the user's SQL and runs under the guard
    if where is not None:
        sql += f" WHERE ({where}\n)"
    if order_by is not None:
        sql += f" ORDER BY {order_by}\n"
    return sql if limit is None else f"{sql} LIMIT {limit:d}"


def part_problem(where: str | None, order_by: str | None) -> str | None:
    """What would make `select` mean something else than it says."""
    problem = _part_problem(where) if where is not None else None
    if problem is None and order_by is not None:
        problem = _part_problem(order_by)
    return problem


def quote(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def check_name(name: str) -> str | None:
    """Why this cannot be the name of a table or column, as one sentence, or None."""
    if not name:
        return "a name cannot be empty"
    if len(name) > 128:
        return "a name has 128 characters at most"
    if not name.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in name):
        return "a name cannot hold control characters"
    if name[:7].lower() == "sqlite_":
        return 'names that start with "sqlite_" belong to SQLite'
    return None


# What SQLite says about statements that are wrong whatever tables there are.
_SYNTAX = re.compile(
    r"syntax error$|^incomplete input|^unrecognized token|^no such function|^wrong number of arguments|^misuse of|"
    r"^too many|^parser stack overflow|^Expression tree is too large|^Recursion limit|should come (after|before)|"
    r"^SELECTs to the left and right|clause is required|^sub-select returns|^all VALUES must have|^row value misused|"
    r"^unsupported frame|^circular reference|^string or blob too big|^variable number must be|^multiple recursive"
)


@lru_cache(maxsize=1024)
def _prepare_problem(sql: str, mode: Mode) -> str | None:
    guard = Guard()
    connection = apsw.Connection(":memory:")
    try:
        confine(connection, guard, None)
        guard.enter(mode)
        cursor = connection.cursor()
        cursor.exec_trace = lambda _cursor, _sql, _bindings: False  # prepared; that is all we want
        cursor.execute(sql, can_cache=False)
    except (apsw.BindingsError, apsw.ExecTraceAbort):  # it has parameters; or it was stopped as we asked
        return None
    except (apsw.AuthError, apsw.SQLError, apsw.TooBigError) as error:
        if "may not be modified" in str(error):
            return f"SQLite: {error}; that is not allowed here"
        return guard.refusal or (f"SQLite: {error}" if _SYNTAX.search(str(error)) else None)
    finally:
        connection.close(True)
    return None


_NAMES = {code: name for code, name in apsw.mapping_authorizer_function.items() if isinstance(code, int)}

# Reading the shape of tables is fine, by statements such as `SELECT * FROM pragma_table_info('t')`.
_SAFE_PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log"})
_READS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_WRITES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_SHAPES = frozenset(
    {
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_REINDEX,
    }
)


class Guard:
    """A connection's authorizer.

    It stays in place and changes its `mode`: to swap authorizers would expire every prepared statement. SQLite asks it when a
    statement is prepared, so users' statements are never taken from the statement cache.
    """

    __slots__ = ("_refused", "mode")

    def __init__(self) -> None:
        self.mode: Mode = "trusted"
        self._refused = ""

    def enter(self, mode: Mode) -> None:
        """A user's statement begins."""
        self._refused = ""
        self.mode = mode

    def __call__(self, action: int, first: str | None, second: str | None, database: str | None, _via: str | None) -> int:
        if self.mode == "trusted" or action in _READS:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION:
            if (second or "").lower() not in _FORBIDDEN_FUNCTIONS:
                return apsw.SQLITE_OK
            return self._refuse(f"the function {second}")
        if action == apsw.SQLITE_PRAGMA and (first or "").lower() in _SAFE_PRAGMAS:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_ALTER_TABLE:  # alone in naming the database first
            first, database = second, first
        if self.mode != "read" and database == "main":
            # SQLite itself keeps users off sqlite_schema; but it must go there itself to create and drop
            if action in _WRITES and (self.mode == "shape" or not (first or "").lower().startswith("sqlite_")):
                return apsw.SQLITE_OK
            if action in _SHAPES and self.mode == "shape":
                return apsw.SQLITE_OK
        if self.mode == "shape" and action == apsw.SQLITE_UPDATE and first == "sqlite_temp_master":
            return apsw.SQLITE_OK  # a renaming looks there too; nobody can put anything in
        return self._refuse(self._describe(action, first))

    @property
    def refusal(self) -> str | None:
        """What was refused to the statement, as a sentence."""
        return f"{self._refused} is not allowed here" if self._refused else None

    def _refuse(self, what: str) -> int:
        self._refused = what
        return apsw.SQLITE_DENY

    @staticmethod
    def _describe(action: int, first: str | None) -> str:
        name = str(_NAMES.get(action, "this")).removeprefix("SQLITE_").replace("_", " ")
        return f"{name} {first}" if first and action in (*_WRITES, apsw.SQLITE_PRAGMA) else name


def confine(connection: apsw.Connection, guard: Guard, largest_value: int | None) -> None:
    """Put a connection under the guard. `largest_value` in bytes; None leaves SQLite's own (1 GB)."""
    connection.authorizer = guard
    for option, value in _OPTIONS:
        connection.config(option, value)
    for limit, most in _LIMITS:
        connection.limit(limit, most)
    if largest_value is not None:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, largest_value)
    for name, count, function in _tamed(largest_value or 1_000_000_000):
        connection.create_scalar_function(name, function, count, deterministic=True, flags=apsw.SQLITE_INNOCUOUS)


_OPTIONS = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),  # nobody can make one here; a file from elsewhere may hold some
)
_LIMITS = (
    (apsw.SQLITE_LIMIT_SQL_LENGTH, MAX_SQL * 4),
    (apsw.SQLITE_LIMIT_COLUMN, 1000),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, 200),
    (apsw.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (apsw.SQLITE_LIMIT_VDBE_OP, 1_000_000),
    (apsw.SQLITE_LIMIT_FUNCTION_ARG, 100),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
    (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    (apsw.SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (apsw.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
)


# SQLite's own versions of these take time that grows with the product of the lengths of their arguments: hours for two texts of
# some megabytes, in one step that neither a deadline nor an interrupt ends. Python's searches take time that grows with the sum.
MAX_SET = 1000  # characters that `trim` and `unhex` may be told to remove


def _tamed(largest: int) -> Iterator[tuple[str, int, Callable[..., Any]]]:
    def replace(text: Any, old: Any, new: Any) -> Any:
        if text is None or old is None or new is None:
            return None
        given, text, old, new = text, _as_text(text), _as_text(old), _as_text(new)
        if not old:
            return given
        if len(text) + text.count(old) * (len(new) - len(old)) > largest:
            raise apsw.TooBigError("string or blob too big")
        return text.replace(old, new)

    def unhex(text: Any, ignore: Any) -> bytes | None:
        if text is None or ignore is None:
            return None
        if len(ignore := _as_text(ignore)) > MAX_SET:
            raise apsw.SQLError(f"unhex() can ignore {MAX_SET} characters at most")
        between = "".join(f"\\U{ord(character):08x}" for character in ignore if character not in string.hexdigits)
        skip = f"[{between}]*+" if between else ""
        pair = "[0-9a-fA-F]{2}"
        text = _as_text(text)
        if re.fullmatch(f"(?:{skip}{pair})*+{skip}", text) is None:
            return None
        return binascii.unhexlify("".join(re.findall(pair, text)))

    yield "instr", 2, _instr
    yield "replace", 3, replace
    yield "unhex", 2, unhex
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        yield name, 2, _trim(name, strip)


def _instr(text: Any, part: Any) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _as_text(text).find(_as_text(part)) + 1


def _trim(name: str, strip: Callable[[str, str], str]) -> Callable[[Any, Any], str | None]:
    def trim(text: Any, characters: Any) -> str | None:
        if text is None or characters is None:
            return None
        characters = _as_text(characters)
        if len(characters) > MAX_SET:
            raise apsw.SQLError(f"{name}() can remove {MAX_SET} characters at most")
        return strip(_as_text(text), characters)

    return trim


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else str(value)
