"""The shapes of a document as pydantic models, and pydantic's findings as our sentences. Imported when something is saved, not to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, with_config

from mechaway_core.names import did_you_mean, shorten
from mechaway_core.node import Node, params_of
from mechaway_core.workflow.rules import MOST_PATHS, PATH_RULE, Policy

Seconds = Annotated[float, Gt(0), Le(86_400)]
RetryReason = Literal["timeout", "error", "script", "query", "http", "unavailable", "4xx", "5xx"] | Annotated[int, Ge(100), Le(599)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)


class RetryShape(_Shape):
    """How failed attempts are made again."""

    attempts: Annotated[int, Ge(1), Le(100)] = Field(3, description="Attempts in all.")
    delay: Annotated[float, Ge(0), Le(3600)] = Field(1, description="Seconds before the second attempt.")
    backoff: Annotated[float, Ge(1), Le(10)] = Field(2, description="Factor between one pause and the next.")
    max_delay: Annotated[float, Ge(0), Le(3600)] = Field(60, description="The longest pause, in seconds.")
    on: list[RetryReason] = Field([], description="Which errors: kinds, statuses, or classes of statuses. Empty: every error.")


class SettingsShape(_Shape):
    """Settings of a workflow."""

    timeout: Seconds | None = Field(None, description="Seconds a whole run may take.")
    record: Policy | None = Field(None, description="Which runs are put on record (MECHAWAY_RECORD).")
    keep_days: Annotated[float, Gt(0), Le(36_500)] | None = Field(None, description="Days that records are kept (MECHAWAY_RUN_DAYS).")
    redact: Annotated[list[str], MaxLen(MOST_PATHS)] | None = Field(None, description=f"Values that records do not show: {PATH_RULE}.")
    on_failure: str | None = Field(None, description="The workflow whose ErrorTrigger hears of runs that failed or were lost or missed.")
    on_lost: Literal["again", "fail"] | None = Field(
        None,
        description='A run whose process ended is begun "again", or ends with "fail": the default, but for accepted runs.',
    )


class NodeShape(_Shape):
    """A node of a workflow."""

    id: str
    name: str | None = None
    node_type: str
    disabled: bool = False
    params: dict[str, Any] = {}
    inputs: list[Any] | None = None
    outputs: dict[str, Any] | list[Any] | None = None
    secrets: list[Any] | None = None
    timeout: Seconds | None = Field(None, description="Seconds one attempt may take.")
    retry: RetryShape | None = None
    on_error: Literal["stop", "continue", "branch"] = "stop"
    meta: Any = None


class EdgeShape(_Shape):
    """An edge of a workflow."""

    from_: str = Field(alias="from")
    to: str
    on: str = "main"
    meta: Any = None


class WorkflowShape(_Shape):
    """A workflow without what its nodes and edges hold: those are looked at one by one, so that all problems are found at once."""

    id: str
    name: Annotated[str, MaxLen(500)] | None = None
    description: Annotated[str, MaxLen(100_000)] | None = None
    active: bool = True
    settings: SettingsShape | None = None
    nodes: list[Any]
    edges: list[Any] = []
    meta: Any = None


_NESTED: dict[str | int, type[BaseModel]] = {"retry": RetryShape, "settings": SettingsShape}
_models: dict[type[Node], type[BaseModel]] = {}


def params_model(node_type: type[Node]) -> type[BaseModel]:
    """The params of a node type as a pydantic model; its JSON Schema is the form of an editor."""
    known = _models.get(node_type)
    if known is None:
        known = _models[node_type] = _make_model(node_type)
    return known


def _make_model(node_type: type[Node]) -> type[BaseModel]:
    hints = get_type_hints(node_type, include_extras=True)
    fields: dict[str, Any] = {}
    for declared in params_of(node_type):
        default: Any = ...
        if declared.default is not MISSING:
            default = declared.default
        about: dict[str, Any] = {"description": declared.metadata.get("help", "")}
        marks = {f"x-{mark}": True for mark in ("template", "secret") if declared.metadata.get(mark)}
        if marks:
            about["json_schema_extra"] = marks
        if _by_kind(hints[declared.name]):
            about["discriminator"] = "kind"
        if declared.default_factory is not MISSING:
            fields[declared.name] = (hints[declared.name], Field(default_factory=declared.default_factory, **about))
        else:
            fields[declared.name] = (hints[declared.name], Field(default, **about))
    config = ConfigDict(extra="forbid", strict=True, title=node_type.__name__, protected_namespaces=())
    return create_model(f"{node_type.__name__}Params", __config__=config, __doc__=node_type.__doc__, **fields)


def _by_kind(hint: Any) -> bool:
    """Whether it is a choice of objects that a `kind` tells apart. Their other fields are then refused, as everywhere in a document."""
    choices = [one for one in get_args(hint) if one is not NoneType]
    if len(choices) < 2 or not all("kind" in getattr(one, "__required_keys__", ()) for one in choices):
        return False
    for one in choices:
        with_config(ConfigDict(extra="forbid", strict=True))(one)
    return True


def findings(model: type[BaseModel], value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the shape of a value: (way into the value, sentence) for each problem."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        seen: dict[tuple[str | int, ...], list[Any]] = {}
        for found in error.errors(include_url=False, include_context=True):
            seen.setdefault(_way(found["loc"], value), []).append(found)
        inner = {way[:end] for way in seen for end in range(len(way))}
        for way, several in seen.items():
            if way not in inner:  # of "a text or an object with …" only what is wrong inside the object is of interest
                yield way, _sentence(several, way, value, model)


def _way(loc: Sequence[str | int], value: Any) -> tuple[str | int, ...]:
    """pydantic puts the names of union members into the place; only what really leads into the value is kept."""
    way: list[str | int] = []
    here = value
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(here, Mapping) and isinstance(part, str) and (part in here or (last and not _is_tag(part))):
            way.append(part)
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            way.append(part)
            here = here[part]
    return tuple(way)


def _is_tag(part: str) -> bool:
    return any(character in part for character in "[(,") or part in ("str", "int", "float", "bool", "dict", "list", "constrained-int")


def _sentence(several: Sequence[Any], way: Sequence[str | int], value: Any, model: type[BaseModel]) -> str:
    first = several[0]
    name = _name(way)
    kind = first["type"]
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        inside = model if len(way) == 1 else _NESTED.get(way[0]) if len(way) == 2 else None
        known = [field.alias or key for key, field in inside.model_fields.items()] if inside else []
        listed = did_you_mean(str(way[-1]), known) or (f"; known here: {', '.join(known)}" if known else "")
        return f'"{way[-1]}" is not a known field{listed}'
    if kind == "too_short" and first["ctx"]["min_length"] == 1:
        return f"{name} is empty; it takes at least 1"
    got = _got(_at(value, way))
    wanted = list(dict.fromkeys(_wanted(found) for found in several))
    return f"{name} must be {' or '.join(wanted)}, not {got}"


def _wanted(found: Any) -> str:
    kind, context = found["type"], found.get("ctx") or {}
    plain = {
        "string_type": "a text",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "an object",
        "model_type": "an object",
        "none_required": "null",
        "dict_attributes_type": "an object",
        "model_attributes_type": "an object",
    }
    if kind in plain:
        return plain[kind]
    if kind == "union_tag_invalid":
        return f"an object whose kind is one of {context['expected_tags']}".replace("'", '"')
    if kind == "union_tag_not_found":
        return 'an object with "kind"'
    if kind == "literal_error":
        return f"one of {context['expected']}".replace("'", '"')
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        word = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most", "less_than": "less than"}[kind]
        limit = next(iter(context.values()))
        return f"{word} {limit:g}"
    if kind in ("string_too_long", "too_long"):
        return f"at most {context['max_length']} long"
    if kind in ("string_too_short", "too_short"):
        return f"at least {context['min_length']} long"
    if kind == "missing":
        return f'an object with "{found["loc"][-1]}"'
    if kind == "extra_forbidden":
        return f'without "{found["loc"][-1]}"'
    return str(found["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _name(way: Sequence[str | int]) -> str:
    """`columns[2].name`: the way as people write it."""
    text = ""
    for part in way:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "it"


def _at(value: Any, way: Sequence[str | int]) -> Any:
    for part in way:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _got(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return shorten(str(value), 30)
    if isinstance(value, str):
        return f'"{shorten(value, 40)}"' if value else "an empty text"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
