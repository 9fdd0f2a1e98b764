"""What the engine walks: a document compiled once into an immutable plan.

Steps are in topological order, ties in the order of the document (Kahn's algorithm with a heap). Params, pins and routes are parsed;
a run touches no document, sorts nothing and takes no lock. The document must have passed the checks.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import unquote

from mechaway_core.errors import Invalid, Malformed
from mechaway_core.expressions import Outputs, Pins, SecretRef, texts_in, with_refs
from mechaway_core.names import secret_name
from mechaway_core.node import MAIN, Node, Trigger, params_of
from mechaway_core.nodes import find_type
from mechaway_core.workflow.rules import Rules, rules_of

ANY_METHOD = "*"


class Retry(NamedTuple):
    """How often and when a failed attempt is made again. Times in seconds; `on` empty means after every error."""

    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    on: tuple[str | int, ...] = ()

    def applies_to(self, kind: str, status: int | None) -> bool:
        """Whether an error of this kind, with this HTTP status if it has one, is worth another attempt."""
        if not self.on:
            return True
        return any(entry in (kind, status) or (status is not None and entry == f"{status // 100}xx") for entry in self.on)

    def pause(self, attempt: int, chance: float, asked: float | None = None) -> float:
        """Seconds before attempt `attempt` + 1: exponential, with "full jitter" over its upper half; `chance` is 0…1.

        `asked` is what the other side said to wait (`Retry-After`): at least that, within `max_delay`.
        """
        longest = min(self.max_delay, self.delay * self.backoff ** (attempt - 1))
        return max(longest * (0.5 + chance / 2), min(asked or 0.0, self.max_delay))


@dataclass(frozen=True, slots=True)
class Step:
    """One node, ready to run. `parents` are (index of the step, exit) for each incoming edge, in the order of the document.

    `secrets` are the names in its `secrets`, in their order; `needs` are all names it needs, those in its params among them.
    """

    index: int
    id: str
    node_type: str
    node: Node
    parents: tuple[tuple[int, str], ...]
    disabled: bool = False
    inputs: Pins | None = None
    outputs: Outputs | None = None
    timeout: float | None = None
    retry: Retry = Retry()
    on_error: str = "stop"
    secrets: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    relays: bool = False  # it hands on what it takes, so there is nothing to run


class Start(NamedTuple):
    """The part of a plan that one trigger can reach: indexes in order. A `chain` has nothing that could run side by side.

    `secrets` are the names of all secrets that a run needs, each with the id of the first node that needs it.
    """

    order: tuple[int, ...]
    chain: bool
    secrets: Mapping[str, str] = {}


class Route(NamedTuple):
    """The address of one webhook: segments, those that start with `:` standing for any text."""

    step: int
    segments: tuple[str, ...]
    methods: tuple[str, ...]

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The named parts of a path, percent-decoded, or None when this is not its address."""
        if len(segments) != len(self.segments):
            return None
        named = {}
        for mine, given in zip(self.segments, segments, strict=True):
            text = unquote(given)
            if mine.startswith(":"):
                if not text:
                    return None
                named[mine[1:]] = text
            elif mine != text:
                return None
        return named

    def takes(self, method: str) -> bool:
        """Whether the route answers requests of this method."""
        return method in self.methods or ANY_METHOD in self.methods

    @property
    def rank(self) -> tuple[bool, ...]:
        """Sorts fixed segments before named ones, from left to right."""
        return tuple(segment.startswith(":") for segment in self.segments)


@dataclass(frozen=True)
class Plan:
    """A compiled workflow."""

    workflow_id: str
    name: str
    version: int
    active: bool
    timeout: float | None
    steps: tuple[Step, ...]
    index: Mapping[str, int]
    routes: tuple[Route, ...]
    rules: Rules = Rules()
    starts: dict[int, Start] = field(default_factory=dict, repr=False)

    @cached_property
    def triggers(self) -> tuple[Step, ...]:
        """The steps a run can start at."""
        return tuple(step for step in self.steps if step.node.trigger)

    @cached_property
    def _children(self) -> tuple[tuple[int, ...], ...]:
        children: list[list[int]] = [[] for _ in self.steps]
        for step in self.steps:
            for parent, _ in step.parents:
                children[parent].append(step.index)
        return tuple(tuple(below) for below in children)

    def below(self, step: int) -> set[int]:
        """A step and all that it leads to."""
        return reachable([step], self._children)

    def start(self, trigger: int) -> Start:
        """What a run that starts at this step walks. Worked out at its first run and kept."""
        known = self.starts.get(trigger)
        if known is None:
            order = tuple(sorted(reachable([trigger], self._children)))
            chain = all(any(parent == before for parent, _ in self.steps[after].parents) for before, after in pairwise(order))
            known = self.starts[trigger] = Start(order, chain, self._secrets(order))
        return known

    def _secrets(self, order: Sequence[int]) -> dict[str, str]:
        """Those of a trigger are not among them: they say who may call, and that was asked before a run begins."""
        needed: dict[str, str] = {}
        for step in (self.steps[index] for index in order):
            if not (step.disabled or step.node.trigger):
                needed |= {name: step.id for name in step.needs if name not in needed}
        return needed


def compile_plan(document: Mapping[str, Any], version: int = 0) -> Plan:
    """Compile a canonical document that passed the checks.

    Raises `Invalid` when it cannot be run here after all: a node type that has gone, params that a newer version refuses.
    """
    nodes: Sequence[Mapping[str, Any]] = document["nodes"]
    edges: Sequence[Mapping[str, Any]] = document["edges"]
    place = {node["id"]: number for number, node in enumerate(nodes)}
    pairs = [(place[edge["from"]], place[edge["to"]]) for edge in edges]
    order, _ = topological(len(nodes), pairs)
    index = {number: at for at, number in enumerate(order)}
    parents: list[list[tuple[int, str]]] = [[] for _ in nodes]
    for edge, (above, below) in zip(edges, pairs, strict=True):
        parents[below].append((index[above], edge.get("on", MAIN)))
    steps = tuple(_step(at, nodes[number], tuple(parents[number])) for at, number in enumerate(order))
    return Plan(
        workflow_id=document["id"],
        name=document.get("name", document["id"]),
        version=version,
        active=document.get("active", True),
        timeout=document.get("settings", {}).get("timeout"),
        steps=steps,
        index={step.id: step.index for step in steps},
        routes=routes_of(steps),
        rules=rules_of(document.get("settings", {})),
    )


def _step(index: int, node: Mapping[str, Any], parents: tuple[tuple[int, str], ...]) -> Step:
    node_type = find_type(node["node_type"])
    if node_type is None:
        raise Invalid(f'node "{node["id"]}" is of the type {node["node_type"]}, which this server does not have')
    try:
        params = _params(node_type, node["params"])
        work = node_type(**params)
        secrets = tuple(_named(text) for text in node.get("secrets", ()))
        inputs = Pins.parse(node["inputs"]) if node.get("inputs") else None
        outputs = Outputs.parse(node["outputs"]) if node.get("outputs") else None
    except (TypeError, Malformed) as error:
        raise Invalid(f'node "{node["id"]}" cannot be run by this server: {error}') from error
    retry = node.get("retry")
    return Step(
        index=index,
        id=node["id"],
        node_type=node["node_type"],
        node=work,
        parents=parents,
        disabled=node.get("disabled", False),
        inputs=inputs,
        outputs=outputs,
        timeout=node.get("timeout"),
        retry=Retry() if retry is None else Retry(**({"attempts": 3} | retry | {"on": tuple(retry.get("on", ()))})),
        on_error=node.get("on_error", "stop"),
        secrets=secrets,
        needs=tuple(dict.fromkeys([*secrets, *_refs(params)])),
        relays=type(work).run is Trigger.run and outputs is None,
    )


def _params(node_type: type[Node], params: Mapping[str, Any]) -> dict[str, Any]:
    """The params, each `$secret.NAME` in those that take one marked."""
    taking = {declared.name for declared in params_of(node_type) if declared.metadata.get("secret")}
    return {name: with_refs(value) if name in taking else value for name, value in params.items()}


def _refs(params: Mapping[str, Any]) -> list[str]:
    return [text.name for value in params.values() for _, text in texts_in(value) if isinstance(text, SecretRef)]


def _named(text: Any) -> str:
    name = secret_name(text)
    if name is None:
        raise Malformed("an entry of `secrets` does not name a secret: $secret.NAME")
    return name


def topological(count: int, edges: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Numbers 0…count-1 so that every edge points forward, the smallest first where there is a choice; and those left in cycles."""
    waiting = [0] * count
    below: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        waiting[target] += 1
        below[source].append(target)
    ready = [number for number in range(count) if not waiting[number]]  # ascending, so already a heap
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for target in below[number]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, target)
    return order, [number for number in range(count) if waiting[number]]


def reachable(from_: Iterable[int], neighbours: Sequence[Iterable[int]]) -> set[int]:
    """Every number that a walk from the given ones can reach, they included."""
    seen = set(from_)
    stack = list(seen)
    while stack:
        for neighbour in neighbours[stack.pop()]:
            if neighbour not in seen:
                seen.add(neighbour)
                stack.append(neighbour)
    return seen


def segments_of(path: str) -> tuple[str, ...]:
    """The segments of a path; slashes at its ends do not count."""
    trimmed = path.strip("/")
    return tuple(trimmed.split("/")) if trimmed else ()


def routes_of(steps: Iterable[Step]) -> tuple[Route, ...]:
    """The routes of all enabled webhooks, those with fixed segments before those with named ones."""
    routes = []
    for step in steps:
        path = getattr(step.node, "path", None)
        if step.node_type == "Webhook" and path is not None and not step.disabled:
            routes.append(Route(step.index, segments_of(path), methods_of(getattr(step.node, "method", None))))
    return tuple(sorted(routes, key=lambda route: route.rank))


def methods_of(method: str | Sequence[str] | None) -> tuple[str, ...]:
    """The methods of a webhook as written: one, a list, or `any`."""
    written = [method] if isinstance(method, str) else list(method or ["POST"])
    upper = [re.sub(r"^ANY$", ANY_METHOD, name.upper()) for name in written]
    return tuple(dict.fromkeys(upper))
