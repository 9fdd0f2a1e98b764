"""`docs/nodes.md` from the node types themselves: `python -m mechaway_core.nodes.docs > docs/nodes.md`."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from mechaway_core.bounds import Ge, Gt, Le, Lt, MinLen
from mechaway_core.node import Node, params_of
from mechaway_core.nodes import catalogue

_HEAD = """# Node types

Every node has `id`, `node_type` and `params`, and may have `name`, `disabled` (it then passes its items through), `inputs` and
`outputs` (see [expressions](expressions.md)), `secrets` (see [secrets](secrets.md)), `timeout` (seconds for one attempt), `retry`,
`on_error` and `meta`. Items that fail leave by the exit `error` when `on_error` is `branch`. This page is made from the code by
`python -m mechaway_core.nodes.docs`.
"""


def markdown() -> str:
    """The page."""
    parts = [_HEAD]
    for name, node_type in catalogue().items():
        if node_type.__module__.startswith("mechaway_core."):
            parts.extend(_section(name, node_type))
    return "\n".join(parts)


def _section(name: str, node_type: type[Node]) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"*{node_type.group}.* {inspect.cleandoc(node_type.__doc__ or '')}\n"
    if node_type.uses_inputs:
        yield f"`inputs`: {node_type.uses_inputs}.\n"
    if node_type.uses_secrets:
        yield f"`secrets`, needed: {node_type.uses_secrets}.\n"
    exits = ", ".join(f"`{exit_name}`" for exit_name in node_type.exits)
    yield f"{'Starts runs. ' if node_type.trigger else ''}Exits: {exits}.\n"
    yield "| param | type | default | what it is |\n|---|---|---|---|"
    hints = get_type_hints(node_type, include_extras=True)
    for declared in params_of(node_type):
        help_text = str(declared.metadata.get("help", ""))
        if declared.metadata.get("template"):
            help_text += " May hold `{{ expression }}`."
        if declared.metadata.get("secret"):
            help_text += " Takes `$secret.NAME`."
        yield f"| `{declared.name}` | {_kind(hints[declared.name])} | {_default(declared)} | {_cell(help_text)} |"
    yield ""


def _default(declared: Field[Any]) -> str:
    if declared.default is not MISSING:
        return "" if declared.default is None else f"`{json.dumps(declared.default)}`"
    if declared.default_factory is not MISSING:
        return f"`{json.dumps(declared.default_factory())}`"
    return "required"


def _kind(hint: Any) -> str:
    """A type hint in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _kind(arguments[0]) + "".join(_bound(extra) for extra in arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not NoneType)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(one)}`" for one in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin in (dict, Mapping):
        return f"object of {_kind(arguments[1])}"
    if hasattr(hint, "__required_keys__"):
        keys = get_type_hints(hint, include_extras=True)  # `__optional_keys__` does not see through annotations that are text
        return "object with " + ", ".join(_entry(key, kind) for key, kind in keys.items())
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(hint, "any JSON")


def _entry(key: str, kind: Any) -> str:
    """One key of an object; the value too when it is always the same, as that of `kind`."""
    optional = "?" if get_origin(kind) is NotRequired else ""
    inside = get_args(kind)[0] if get_origin(kind) in (NotRequired, Required) else kind
    fixed = get_args(inside) if get_origin(inside) is Literal else ()
    return f"`{key}`{optional}" + (f" `{json.dumps(fixed[0])}`" if len(fixed) == 1 else "")


def _bound(extra: Any) -> str:
    for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
        if isinstance(extra, kind):
            return f" {sign} {extra.value}"
    return ", not empty" if isinstance(extra, MinLen) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(markdown())
