"""Pins and `{{ … }}`: text to values.

An expression is, in this order: a path (`$json.a[0]["odd key"]`), JSON (`10`, `"text"`), or one line of Lua in which paths may stand.
Paths are walked here and never enter Lua; the Lua ones of a node are sent to the sandbox together, one call for all items, with
the values of their paths as arguments. Everything is parsed once, when the workflow is compiled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson

from mechaway_core import jsontext
from mechaway_core.errors import Malformed, ScriptError
from mechaway_core.names import SECRET, did_you_mean, secret_name, shorten
from mechaway_core.node import Item, Items, Request, RunInfo
from mechaway_core.sandbox import Chunk, LuaExpression
from mechaway_core.sandbox.sandbox import NAMES

MAX_LENGTH = 10_000  # characters of one expression
ROOTS = ("json", "query", "headers", "path", "file", "node", "run", "secret")
RUN_FIELDS = ("id", "workflow_id", "project", "started_at", "trigger", "key")

# Quantifiers are possessive: a text made to be nearly a path must not make the search try all ways to read it.
_BRACKETED = r"\[\d{1,9}+\]|\[\"(?:[^\"\\]|\\.)*+\"\]|\['(?:[^'\\]|\\.)*+'\]"
_PLAIN = r"\.[A-Za-z_]\w*+|" + _BRACKETED
# On its own a path may hold hyphens ($headers.content-type); inside Lua a hyphen is a minus, except after $headers and $node,
# whose keys commonly have them.
_HYPHENED = r"\.[A-Za-z_]\w*+(?:-[A-Za-z_]\w*+)*+|" + _BRACKETED
_WHOLE = re.compile(rf"\$(\w++)((?:{_HYPHENED})*+)", re.ASCII)
_INSIDE = re.compile(rf"\$(?:(headers|node)\b((?:{_HYPHENED})*+)|(\w++)((?:{_PLAIN})*+))", re.ASCII)
_PART = re.compile(_HYPHENED, re.ASCII)
_STRING = re.compile(r"""(?:"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+')""", re.DOTALL)
_LONG = re.compile(r"\[(=*)\[")
_BARE_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PROSE = re.compile(r"[\w .,!?'’:@/\-]+")
_ARGUMENT = re.compile(r"\b(?:local|global|field|upvalue) 'p(\d+)'")


class Literal(NamedTuple):
    """A value that is the same for every item."""

    value: Any


class Path(NamedTuple):
    """A way into the item (`json`), the request (`query`, `headers`, `path`, `file`), what a node gave (`node`), or the run (`run`)."""

    root: str
    parts: tuple[str | int, ...]
    text: str


class Lua(NamedTuple):
    """An expression for the sandbox; the values of `paths` are its arguments `p1`, `p2`, …"""

    text: str
    expression: LuaExpression
    paths: tuple[Path, ...]


Pin = Literal | Path | Lua


class Scope(Protocol):
    """What paths can reach beside the item."""

    @property
    def run(self) -> RunInfo:
        """About the run."""

    @property
    def request(self) -> Request | None:
        """The request that triggered the run, if one did."""

    def first_item_of(self, node_id: str) -> Item:
        """The first item of what a node gave, None when it did not run."""

    def key(self, number: int) -> str:
        """`$run.key` of the item with this number, from 0."""


Evaluate = Callable[[Sequence[LuaExpression], Sequence[Sequence[Sequence[Any]]]], list[list[Any] | ScriptError]]


# -- parsing ------------------------------------------------------------------------------------------------------------------


def parse(text: Any, name: str = "expression") -> Pin:
    """One expression. A value that is not text is itself. Raises `Malformed` with a sentence about what is wrong.

    Lua is only cut out here; whether it compiles is for the sandbox to say (`chunks`).
    """
    if not isinstance(text, str):
        return Literal(text)
    source = text.strip()
    if not source:
        raise Malformed('the expression is empty; for an empty string write "\\"\\""')
    if len(source) > MAX_LENGTH:
        raise Malformed(f"an expression has {MAX_LENGTH} characters at most; put longer Lua into a FunLogic node")
    if "\n" in source or "\r" in source:
        raise Malformed("an expression is one line; put longer Lua into a FunLogic node")
    whole = _WHOLE.fullmatch(source)
    if whole:
        return _path(whole[1], whole[2], source)
    if source[0] in '{["-0123456789tfn':
        try:
            return Literal(orjson.loads(source))
        except orjson.JSONDecodeError:
            pass
    if _BARE_WORD.fullmatch(source) and source not in NAMES and source != "nil":
        hint = did_you_mean(source, NAMES).removesuffix("?")
        near = f"{hint}, or" if hint else "; did you mean"
        raise Malformed(f'"{source}" is neither JSON nor a name that Lua knows{near} the string "\\"{source}\\""?')
    return _lua(source, name)


def _path(root: str, rest: str, text: str) -> Path:
    if root not in ROOTS:
        raise Malformed(f"${root} is not known{did_you_mean(root, ROOTS).replace(chr(34), '') or f'; known are {_known_roots()}'}")
    parts = tuple(_parts(rest))
    if root == "secret":
        raise Malformed("$secret may only stand in `secrets` of a node, or as the whole of a param that takes a secret: $secret.NAME")
    if root == "run" and parts and parts[0] not in RUN_FIELDS:
        raise Malformed(f"{shorten(text)} is not known; a run has {', '.join('$run.' + name for name in RUN_FIELDS)}")
    if root == "node" and not (parts and isinstance(parts[0], str)):
        raise Malformed('$node needs the id of a node: $node.ID or $node["ID"]')
    if root == "headers" and parts and isinstance(parts[0], str):
        parts = (parts[0].lower(), *parts[1:])
    return Path(root, parts, text)


def _parts(rest: str) -> Iterator[str | int]:
    for match in _PART.finditer(rest):
        part = match[0]
        if part[0] == ".":
            yield part[1:]
        elif part[1].isdigit():
            yield int(part[1:-1])
        elif part[1] == '"':
            yield str(jsontext.decode(part[1:-1], "a key in brackets"))
        else:
            yield re.sub(r"\\(.)", r"\1", part[2:-2])


def is_key(path: Path) -> bool:
    """Whether it is `$run.key`."""
    return path.root == "run" and path.parts[:1] == ("key",)


def paths_in(pin: Pin) -> tuple[Path, ...]:
    """The paths that an expression asks for."""
    return pin.paths if isinstance(pin, Lua) else (pin,) if isinstance(pin, Path) else ()


def _known_roots() -> str:
    return ", ".join("$" + root for root in ROOTS)


def _lua(source: str, name: str) -> Lua:
    """Cut the paths out of Lua, leaving strings alone, and number them: the same path twice is one argument."""
    paths: dict[str, Path] = {}
    numbers: dict[str, int] = {}
    out, at = [], 0

    def take(piece: str) -> str:
        def number(match: re.Match[str]) -> str:
            text = match[0]
            if text not in paths:
                paths[text] = _path(match[1] or match[3], match[2] or match[4] or "", text)
                numbers[text] = len(numbers) + 1
            return f"p{numbers[text]}"

        cut = _INSIDE.sub(number, piece)
        if "$" in cut:
            raise Malformed(f'"$" in {shorten(source)!r} is not followed by a known name ({_known_roots()})')
        return cut

    for start, end in _quoted(source):
        out.append(take(source[at:start]))
        out.append(source[start:end])
        at = end
    out.append(take(source[at:]))
    return Lua(source, LuaExpression("".join(out), len(paths), name), tuple(paths.values()))


def _quoted(source: str) -> Iterator[tuple[int, int]]:
    """Where Lua strings stand. The key of a path (`$json["a"]`) is a part of the path, not a string."""
    at = 0
    while at < len(source):
        if source[at] == "$":
            path = _INSIDE.match(source, at)
            at = path.end() if path else at + 1
            continue
        end = _string_end(source, at)
        if end > at:
            yield at, end
        at = max(end, at + 1)


def _string_end(text: str, at: int) -> int:
    """Where the Lua string that starts at `at` ends; `at` when none starts there. A long one that never ends goes on to the end."""
    if text[at] in "\"'":
        span = _STRING.match(text, at)
        return span.end() if span else at
    start = _LONG.match(text, at) if text[at] == "[" else None
    if start is None:
        return at
    end = text.find(f"]{start[1]}]", start.end())
    return len(text) if end < 0 else end + len(start[0])


# -- templates ----------------------------------------------------------------------------------------------------------------


class Template(NamedTuple):
    """Text with expressions in it. With a single expression and nothing around it, the value keeps its type."""

    parts: tuple[str | Pin, ...]

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The expressions, in order."""
        return tuple(part for part in self.parts if not isinstance(part, str))


@lru_cache(maxsize=4096)
def template(text: str, name: str = "template") -> Template:
    """Parse text with `{{ expression }}`s. Raises `Malformed`. Text without any is a template of one part."""
    parts: list[str | Pin] = []
    at = 0
    while True:
        start = text.find("{{", at)
        if start < 0:
            break
        end = _closing(text, start + 2)
        if end < 0:
            raise Malformed('"{{" is never closed by "}}"; to write it as it is, use {{ "{{" }}')
        if text[at:start]:
            parts.append(text[at:start])
        parts.append(parse(text[start + 2 : end].replace("\n", " "), name))
        at = end + 2
    if text[at:] or not parts:
        parts.append(text[at:])
    return Template(tuple(parts))


def _closing(text: str, at: int) -> int:
    """Where the `}}` of an expression is, or -1: not inside a string, nor closing a brace that the expression opened."""
    open_braces = 0
    most = min(len(text), at + MAX_LENGTH)
    while at < most:
        end = _string_end(text, at)
        if end > at:
            at = end
            continue
        if open_braces == 0 and text.startswith("}}", at):
            return at
        open_braces += (text[at] == "{") - (text[at] == "}")
        at += 1
    return -1


def templates_in(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Every string inside a template param that holds an expression, as (pointer below the param, text)."""
    return ((below, text) for below, text in texts_in(value, pointer) if "{{" in text and not isinstance(text, SecretText))


def as_text(value: Any) -> str:
    """A value inside text: strings as they are, null as nothing, everything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


# -- secrets ------------------------------------------------------------------------------------------------------------------


class SecretRef(str):
    """`$secret.NAME` as the document has it, in a place that takes a secret. A text of an item is never one, whatever it says."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self[len(SECRET) :]


class SecretText(str):
    """The value of a secret. It is never taken for a template, and its repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[secret]'"


def texts_in(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a value, however deep, as (pointer below it, text)."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from texts_in(child, f"{pointer}/{number}")
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from texts_in(child, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


def with_refs(value: Any) -> Any:
    """A param that takes secrets, each `$secret.NAME` in it marked as one of the document's own."""
    if isinstance(value, str):
        return SecretRef(value) if secret_name(value) is not None else value
    if isinstance(value, list):
        return [with_refs(child) for child in value]
    if isinstance(value, dict):
        return {key: with_refs(child) for key, child in value.items()}
    return value


def revealed(value: Any, values: Mapping[str, str]) -> Any:
    """A param of a plan with every `$secret.NAME` of the document replaced by its value."""
    if isinstance(value, SecretRef):
        return SecretText(values[value.name])
    if isinstance(value, list):
        return [revealed(child, values) for child in value]
    if isinstance(value, dict):
        return {key: revealed(child, values) for key, child in value.items()}
    return value


# -- evaluation ---------------------------------------------------------------------------------------------------------------


def walk(value: Any, parts: Sequence[str | int]) -> Any:
    """Follow keys and indexes; None where there is nothing."""
    for part in parts:
        if isinstance(part, str):
            value = value.get(part) if isinstance(value, Mapping) else None
        else:
            value = value[part] if isinstance(value, list) and part < len(value) else None
        if value is None:
            return None
    return value


def value_of(path: Path, item: Item, scope: Scope, number: int = 0) -> Any:
    """What a path leads to. `number` is that of the item, from 0."""
    root, parts = path.root, path.parts
    if root == "json":
        return walk(item, parts)
    if root == "node":
        return walk(scope.first_item_of(str(parts[0])), parts[1:])
    if root == "run":
        return walk(scope.key(number), parts[1:]) if is_key(path) else walk(scope.run.as_json(), parts)
    request = scope.request
    return walk(dict(getattr(request, "files" if root == "file" else root)), parts) if request is not None else None


@dataclass(frozen=True, slots=True)
class Pins:
    """The expressions of one node, ready to be evaluated for many items at once."""

    entries: tuple[Pin, ...]
    lua: tuple[Lua, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lua", tuple(entry for entry in self.entries if isinstance(entry, Lua)))

    @classmethod
    def parse(cls, texts: Sequence[Any], name: str = "inputs") -> Pins:
        """Parse every expression of a list. Raises `Malformed` for the first that cannot be."""
        return cls(tuple(parse(text, f"{name}[{number}]") for number, text in enumerate(texts)))

    def evaluate(self, items: Items, scope: Scope, evaluate: Evaluate, first: int = 0) -> list[list[Any] | ScriptError]:
        """For each item its list of values, or the error of the Lua expression that failed for it. `first` is the first item's number."""
        numbered = enumerate(items, first)
        if not self.lua:
            return [[_simple(entry, item, scope, number) for entry in self.entries] for number, item in numbered]
        rows = [[[value_of(path, item, scope, number) for path in entry.paths] for entry in self.lua] for number, item in numbered]
        answers = evaluate([entry.expression for entry in self.lua], rows)
        return [
            self._assemble(item, answer, scope, number) for number, (item, answer) in enumerate(zip(items, answers, strict=True), first)
        ]

    def _assemble(self, item: Item, answer: list[Any] | ScriptError, scope: Scope, number: int) -> list[Any] | ScriptError:
        if isinstance(answer, ScriptError):
            return ScriptError(_in_users_words(str(answer), self.lua))
        from_lua = iter(answer)
        return [next(from_lua) if isinstance(entry, Lua) else _simple(entry, item, scope, number) for entry in self.entries]

    def chunks(self) -> list[Chunk]:
        """The Lua in it, for the check that it compiles."""
        return [Chunk(entry.expression.source, entry.expression.name, "expression") for entry in self.lua]


def _simple(entry: Pin, item: Item, scope: Scope, number: int) -> Any:
    if isinstance(entry, Path):
        return value_of(entry, item, scope, number)
    assert isinstance(entry, Literal)
    return entry.value


def render(value: Any, item: Item, scope: Scope, evaluate: Evaluate, number: int = 0) -> Any:
    """A template param with all its expressions replaced by their values; objects and lists are rendered inside.

    `number` is that of the item, from 0. All Lua in it goes to the sandbox in one call. Raises `ScriptError`.
    """
    texts = dict.fromkeys(text for _, text in templates_in(value))
    if not texts:
        return value
    found = [template(text) for text in texts]
    pins = Pins(tuple(pin for one in found for pin in one.pins))
    values = pins.evaluate([item], scope, evaluate, number)[0]
    if isinstance(values, ScriptError):
        raise values
    flow = iter(values)
    rendered = {text: _fill(one, flow) for text, one in zip(texts, found, strict=True)}
    return _replace(value, rendered)


def _fill(one: Template, values: Iterator[Any]) -> Any:
    filled = [part if isinstance(part, str) else next(values) for part in one.parts]
    if len(filled) == 1:
        return filled[0]
    return "".join(as_text(part) for part in filled)


def _replace(value: Any, rendered: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, SecretText) else rendered.get(value, value)
    if isinstance(value, list):
        return [_replace(child, rendered) for child in value]
    if isinstance(value, dict):
        return {key: _replace(child, rendered) for key, child in value.items()}
    return value


def _in_users_words(message: str, entries: Sequence[Lua]) -> str:
    """Lua speaks of its arguments `p1`, `p2`; the user wrote paths. Only clear when one expression is in question."""
    if len(entries) != 1:
        return message
    paths = entries[0].paths

    def name(match: re.Match[str]) -> str:
        number = int(match[1])
        return paths[number - 1].text if 1 <= number <= len(paths) else match[0]

    return _ARGUMENT.sub(name, message)


class Outputs(NamedTuple):
    """Output pins: what becomes of each item a node gives."""

    names: tuple[str, ...]
    pins: Pins

    @classmethod
    def parse(cls, declared: Mapping[str, Any] | Sequence[Any]) -> Outputs:
        """From an object of name → expression, or a list of paths, each named by its last part. Raises `Malformed`."""
        if isinstance(declared, Mapping):
            entries = tuple(parse(text, f"outputs.{name}") for name, text in declared.items())
            return cls(tuple(declared), Pins(entries))
        entries = tuple(parse(text, f"outputs[{number}]") for number, text in enumerate(declared))
        names = []
        for entry in entries:
            if not isinstance(entry, Path) or not entry.parts:
                raise Malformed("a list of outputs holds paths such as $json.name; for anything else use an object of name → expression")
            names.append(str(entry.parts[-1]))
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise Malformed(f'two outputs would be called "{twice}"; use an object of name → expression')
        return cls(tuple(names), Pins(entries))

    def apply(self, items: Items, scope: Scope, evaluate: Evaluate, first: int = 0) -> list[Item | ScriptError]:
        """Each item after the pins, or the error of the expression that failed for it. `first` is the first item's number."""
        return [
            values if isinstance(values, ScriptError) else dict(zip(self.names, values, strict=True))
            for values in self.pins.evaluate(items, scope, evaluate, first)
        ]


def compile_hint(text: str) -> str:
    """A tip for text that does not compile as Lua but looks like words."""
    return f'; did you mean the string "\\"{shorten(text, 40)}\\""?' if _PROSE.fullmatch(text) else ""
