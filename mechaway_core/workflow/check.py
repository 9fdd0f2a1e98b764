"""Everything that can be said about a document before it is saved, all of it at once.

In order: the shape of the workflow; each node by itself (shape, type, params, pins); ids; edges; cycles; triggers and routes; and
at last all Lua of the document in one call to the sandbox. Errors keep a document from being saved, warnings do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any

from mechaway_core.errors import Malformed, Problem
from mechaway_core.expressions import (
    Lua,
    Outputs,
    Path,
    Pin,
    Pins,
    compile_hint,
    parse,
    paths_in,
    template,
    templates_in,
    texts_in,
)
from mechaway_core.names import ID_RULE, NAME_RULE, SECRET, did_you_mean, is_id, secret_name, shorten
from mechaway_core.node import ERROR, MAIN, Node, params_of
from mechaway_core.nodes import catalogue
from mechaway_core.sandbox import Chunk, Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow.document import WORKFLOW_FIELDS, canonical
from mechaway_core.workflow.plan import ANY_METHOD, methods_of, reachable, segments_of, topological
from mechaway_core.workflow.rules import MOST_PATHS, PATH_RULE, hidden_path
from mechaway_core.workflow.shape import EdgeShape, NodeShape, WorkflowShape, findings, params_model

MOST_PROBLEMS = 1000  # more than anybody reads; a hostile document must not make the answer larger than itself
MOST_HINTS = 20  # guesses at what a name was meant to be take time
MOST_RINGS = 20
_SECRET_RULE = f"$secret.NAME, where NAME {NAME_RULE}"
MOST_ENTRIES = 20_000  # of one list or object inside a node


@dataclass(frozen=True, slots=True)
class Checked:
    """A document in canonical form and what there is to say about it. It may be saved when there are no `errors`.

    `secrets` says where it names secrets, as (name, pointer, node id); whether there are such secrets is for the vault to say.
    """

    document: Any
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    secrets: tuple[tuple[str, str, str | None], ...] = ()


def check(raw: Any, sandbox: Sandbox, settings: Settings, *, workflow_id: str | None = None) -> Checked:
    """Check a document as it was sent. `workflow_id`, when given, takes the place of the id in it.

    Raises `Unavailable` when the sandbox cannot be started to compile its Lua.
    """
    document = canonical(raw)
    if workflow_id is not None and isinstance(document, dict):
        document = {"id": workflow_id} | {name: value for name, value in document.items() if name != "id"}
    look = _Look(settings)
    look.at(document)
    look.compile(sandbox)
    return Checked(document, tuple(look.errors), tuple(look.warnings), tuple(look.secrets))


@dataclass(frozen=True, slots=True)
class _Script:
    chunk: Chunk
    pointer: str
    node: str | None
    text: str  # as the user wrote it


class _Look:
    """One look at one document: collects problems as it goes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.scripts: list[_Script] = []
        self.nodes: list[Any] = []
        self.place: dict[str, int] = {}  # node id → number in the document
        self.made: dict[int, Node] = {}  # number → the node, when its params are in order
        self.hints = 0
        self.secrets: list[tuple[str, str, str | None]] = []  # every secret that is named: (name, pointer, node id)
        self.paths: list[tuple[int, str, Path]] = []  # every $node path: (number of its node, pointer, path)

    def error(self, pointer: str, message: str, node: str | None = None) -> None:
        if len(self.errors) < MOST_PROBLEMS:
            self.errors.append(Problem(pointer, message, node))

    @property
    def full(self) -> bool:
        """Whether there are so many problems that more would help nobody."""
        return len(self.errors) >= MOST_PROBLEMS

    def warn(self, pointer: str, message: str, node: str | None = None) -> None:
        if len(self.warnings) < MOST_PROBLEMS:
            self.warnings.append(Problem(pointer, message, node))

    def hint(self, wrong: str) -> str:
        """The nearest id of a node, while there is patience for it."""
        self.hints += 1
        return did_you_mean(wrong, self.place) if self.hints <= MOST_HINTS else ""

    def at(self, document: Any) -> None:
        if not isinstance(document, dict):
            self.error("", "a workflow is an object with id, nodes and edges")
            return
        self.workflow(document)
        self.nodes = document["nodes"] if isinstance(document.get("nodes"), list) else []
        for number, node in enumerate(self.nodes):
            if self.full:
                return
            self.node(number, node)
        edges = document["edges"] if isinstance(document.get("edges"), list) else []
        pairs = self.edges(edges)
        self.order(pairs)
        self.node_paths(pairs)
        self.triggers(pairs)
        self.routes()
        self.front_door(document)

    # -- the workflow and each node by itself

    def workflow(self, document: Mapping[str, Any]) -> None:
        for way, sentence in findings(WorkflowShape, document):
            self.error(pointer(way), sentence)
        if isinstance(document.get("id"), str) and not is_id(document["id"]):
            self.error("/id", f'"{shorten(document["id"])}" cannot be the id of a workflow: an id {ID_RULE}')
        if isinstance(document.get("nodes"), list) and not document["nodes"]:
            self.error("/nodes", "the workflow has no nodes")
        self.text(document, "", WORKFLOW_FIELDS[:3])
        if isinstance(document.get("settings"), dict):
            self.rules(document["settings"])

    def rules(self, settings: Mapping[str, Any]) -> None:
        named = settings.get("on_failure")
        if isinstance(named, str) and not is_id(named):
            self.error("/settings/on_failure", f'"{shorten(named)}" cannot be the id of a workflow: an id {ID_RULE}')
        paths = settings.get("redact")
        for number, path in enumerate(paths[:MOST_PATHS] if isinstance(paths, list) else ()):
            if isinstance(path, str) and hidden_path(path) is None:
                self.error(f"/settings/redact/{number}", f'"{shorten(path)}" leads to no value: {PATH_RULE}')

    def text(self, holder: Mapping[str, Any], at: str, names: Sequence[str], node: str | None = None) -> None:
        """No NUL in what is shown and compared: databases and terminals cut there."""
        for name in names:
            if isinstance(holder.get(name), str) and "\0" in holder[name]:
                self.error(f"{at}/{name}", f"{name} has a NUL character in it", node)

    def node(self, number: int, node: Any) -> None:
        at = f"/nodes/{number}"
        node_id = node.get("id") if isinstance(node, dict) and isinstance(node.get("id"), str) else None
        shaped = True
        long = next(_long_lists({key: value for key, value in node.items() if key != "meta"}), None) if isinstance(node, dict) else None
        if long is not None:
            self.error(at + pointer(long), f"a list or object here has more than {MOST_ENTRIES} entries", node_id)
            return
        for way, sentence in findings(NodeShape, node):
            shaped = False
            self.error(at + pointer(way), "a node is an object with id, node_type and params" if not way else sentence, node_id)
        if not isinstance(node, dict):
            return
        if node_id is not None:
            self.identity(node_id, number, at)
        self.text(node, at, ("name",), node_id)
        written = node.get("node_type")
        node_type = self.type_of(written, at, node_id) if isinstance(written, str) else None
        pins = self.pins(number, node, at, node_id)
        self.secret_pins(node, node_type, at, node_id)
        if node_type is not None and isinstance(node.get("params"), dict):
            self.params(number, node_type, node, pins, at, node_id)
        if shaped and node_type is not None and node_type.trigger and node.get("inputs"):
            self.error(f"{at}/inputs", f"a {node_type.__name__} starts runs and takes no inputs", node_id)
        if shaped and node_type is not None and node_type.ends_run:
            self.last_word(node, node_type, at, node_id)

    def last_word(self, node: Mapping[str, Any], node_type: type[Node], at: str, node_id: str | None) -> None:
        """A node that is there to end the run must not be kept from it."""
        if node.get("retry") is not None:
            self.error(f"{at}/retry", f"a {node_type.__name__} ends the run, so nothing is tried again; leave retry out", node_id)
        if node.get("on_error", "stop") != "stop":
            self.error(f"{at}/on_error", f"a {node_type.__name__} ends the run, so nothing goes on; leave on_error out", node_id)

    def identity(self, node_id: str, number: int, at: str) -> None:
        if not is_id(node_id):
            self.error(f"{at}/id", f'"{shorten(node_id)}" cannot be the id of a node: an id {ID_RULE}', node_id)
        elif node_id in self.place:
            self.error(f"{at}/id", f'two nodes have the id "{node_id}"', node_id)
        else:
            self.place[node_id] = number

    def type_of(self, written: str, at: str, node_id: str | None) -> type[Node] | None:
        node_type = catalogue().get(written)
        if node_type is None:
            hint = did_you_mean(written, catalogue()) or f"; there are {', '.join(catalogue())}"
            self.error(f"{at}/node_type", f'there is no node type "{shorten(written)}"{hint}', node_id)
        return node_type

    def params(self, number: int, node_type: type[Node], node: Mapping[str, Any], pins: int, at: str, node_id: str | None) -> None:
        at = f"{at}/params"
        params = node["params"]
        wrong = list(findings(params_model(node_type), params))
        for way, sentence in wrong:
            self.error(at + pointer(way), sentence, node_id)
        for declared in params_of(node_type):
            if declared.metadata.get("template") and declared.name in params:
                self.templates(number, params[declared.name], f"{at}/{declared.name}", node_id)
            if declared.name in params:
                takes = bool(declared.metadata.get("secret"))
                self.secret_texts(declared.name, params[declared.name], takes, f"{at}/{declared.name}", node_id)
        names = {str(way[0]) if way else "" for way, _ in wrong}
        made = _made(node_type, params, names)
        if made is None:
            return
        # A check that trips over a param of the wrong shape says no more; without one it must not trip.
        with contextlib.suppress(*([Exception] if wrong else [])):
            for below, sentence in made.check(pins, self.settings):
                if below.split("/")[0] not in names:
                    self.error(f"{at}/{below}" if below else at, sentence, node_id)
        if not wrong:
            self.made[number] = made
        if pins and not node_type.uses_inputs and not node_type.trigger:
            self.error(f"{at.removesuffix('/params')}/inputs", f"a {node_type.__name__} takes no inputs", node_id)
        for name, source in made.scripts().items():
            if name in names:
                continue
            self.scripts.append(_Script(Chunk(source, name, "script"), f"{at}/{name}", node_id, source))

    def templates(self, number: int, value: Any, at: str, node_id: str | None) -> None:
        for below, text in templates_in(value):
            try:
                parsed = template(text)
            except Malformed as error:
                self.error(at + below, str(error), node_id)
                continue
            for pin in parsed.pins:
                self.pin(number, pin, at + below, node_id)

    def pins(self, number: int, node: Mapping[str, Any], at: str, node_id: str | None) -> int:
        """Look at the input and output pins; returns the number of input pins."""
        inputs = node.get("inputs")
        if isinstance(inputs, list):
            for place, text in enumerate(inputs):
                try:
                    parsed = Pins.parse([text])
                except Malformed as error:
                    self.error(f"{at}/inputs/{place}", str(error), node_id)
                    continue
                self.pin(number, parsed.entries[0], f"{at}/inputs/{place}", node_id)
        outputs = node.get("outputs")
        if isinstance(outputs, dict | list):
            self.outputs(number, outputs, f"{at}/outputs", node_id)
        return len(inputs) if isinstance(inputs, list) else 0

    def outputs(self, number: int, outputs: dict[str, Any] | list[Any], at: str, node_id: str | None) -> None:
        entries = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
        sound = True
        for key, text in entries:
            try:
                parsed = parse(text)
            except Malformed as error:
                sound = False
                self.error(f"{at}{pointer([key])}", str(error), node_id)
            else:
                self.pin(number, parsed, f"{at}{pointer([key])}", node_id)
        if sound:
            try:
                Outputs.parse(outputs)
            except Malformed as error:
                self.error(at, str(error), node_id)

    def pin(self, number: int, pin: Pin, at: str, node_id: str | None) -> None:
        if isinstance(pin, Lua):
            self.scripts.append(_Script(Chunk(pin.expression.source, "expression", "expression"), at, node_id, pin.text))
        self.paths.extend((number, at, path) for path in paths_in(pin) if path.root == "node")

    def secret_pins(self, node: Mapping[str, Any], node_type: type[Node] | None, at: str, node_id: str | None) -> None:
        """Look at `secrets`. What stands there is never repeated: somebody may have put the secret itself."""
        given = node.get("secrets")
        for number, text in enumerate(given if isinstance(given, list) else ()):
            name = secret_name(text)
            if name is not None:
                self.secrets.append((name, f"{at}/secrets/{number}", node_id))
            else:
                self.error(f"{at}/secrets/{number}", f"secrets[{number}] must name a secret of the vault: {_SECRET_RULE}", node_id)
        if node_type is None or not (given is None or isinstance(given, list)):
            return
        if given and not node_type.uses_secrets:
            self.error(f"{at}/secrets", f"a {node_type.__name__} takes no secrets", node_id)
        elif not given and node_type.uses_secrets:
            self.error(f"{at}/secrets", f'a {node_type.__name__} needs `secrets`: ["$secret.NAME"], {node_type.uses_secrets}', node_id)
        elif given and node_type.needs_secrets and len(given) != node_type.needs_secrets:
            sentence = f"a {node_type.__name__} takes exactly {node_type.needs_secrets} entry of `secrets`, {node_type.uses_secrets}"
            self.error(f"{at}/secrets", f"{sentence}; there are {len(given)}", node_id)

    def secret_texts(self, name: str, value: Any, takes: bool, at: str, node_id: str | None) -> None:
        """Look at the texts of a param that begin with `$secret.`."""
        for below, text in texts_in(value):
            if not text.lstrip().startswith(SECRET):
                continue
            secret = secret_name(text)
            if takes and secret is None:
                self.error(at + below, f"{name} must name a secret of the vault: {_SECRET_RULE}", node_id)
            elif takes and secret is not None:
                self.secrets.append((secret, at + below, node_id))
            elif secret_name(text.strip()) is not None:
                self.error(at + below, f"{name} takes no secret; only params that say so, and `secrets` of a node, do", node_id)

    # -- nodes together

    def edges(self, edges: Sequence[Any]) -> list[tuple[int, int]]:
        pairs: list[tuple[int, int]] = []
        seen: set[tuple[int, int, str]] = set()
        failing_over: set[int] = set()
        for number, edge in enumerate(edges):
            if self.full:
                break
            at = f"/edges/{number}"
            wrong = list(findings(EdgeShape, edge))
            for way, sentence in wrong:
                self.error(at + pointer(way), "an edge is an object with from and to" if not way else sentence)
            if wrong:
                continue
            ends = [self.end(edge[side], f"{at}/{side}") for side in ("from", "to")]
            if ends[0] is None or ends[1] is None:
                continue
            source, target, on = ends[0], ends[1], edge.get("on", MAIN)
            if (source, target, on) in seen:
                self.error(at, f'there is an edge from "{edge["from"]}" to "{edge["to"]}" by "{on}" already')
            seen.add((source, target, on))
            self.exit(source, on, at)
            if on == ERROR:
                failing_over.add(source)
            pairs.append((source, target))
        for number, node in enumerate(self.nodes):
            if isinstance(node, dict) and node.get("on_error") == "branch" and number not in failing_over:
                self.warn(
                    f"/nodes/{number}/on_error", 'items that fail leave by the exit "error", but no edge takes them on', self.id_of(number)
                )
        return pairs

    def end(self, node_id: str, at: str) -> int | None:
        place = self.place.get(node_id)
        if place is None:
            self.error(at, f'there is no node "{shorten(node_id)}"{self.hint(node_id)}')
        return place

    def exit(self, source: int, on: str, at: str) -> None:
        node = self.nodes[source]
        node_type = catalogue().get(node.get("node_type")) if isinstance(node.get("node_type"), str) else None
        if node_type is None:
            return
        if on == ERROR:
            if node.get("on_error") != "branch":
                self.warn(f"{at}/on", f'nothing leaves "{node["id"]}" by "error": its on_error is not "branch"', node["id"])
        elif on not in node_type.exits:
            exits = ", ".join((*node_type.exits, ERROR))
            self.error(f"{at}/on", f'a {node_type.__name__} has no exit "{shorten(on)}"; it has {exits}', node["id"])

    def order(self, pairs: Sequence[tuple[int, int]]) -> None:
        remaining = list(pairs)
        for _ in range(MOST_RINGS):
            _, left = topological(len(self.nodes), remaining)
            if not left:
                return
            ring = list(_ring(left, remaining))
            names = [self.id_of(number) or str(number) for number in ring]
            if len(names) > 12:
                names = [*names[:6], "…", *names[-5:]]
            self.error("/edges", f"nodes wait for each other: {' → '.join(names)}")
            inside = set(ring)
            remaining = [(source, target) for source, target in remaining if source not in inside and target not in inside]

    def node_paths(self, pairs: Sequence[tuple[int, int]]) -> None:
        """`$node.ID` may only look back along the edges: what runs beside a node may or may not have ended."""
        if not self.paths:
            return
        before = _ancestors(len(self.nodes), pairs)
        for number, at, path in self.paths:
            wanted = str(path.parts[0])
            place = self.place.get(wanted)
            if place is None:
                self.error(at, f'{path.text}: there is no node "{shorten(wanted)}"{self.hint(wanted)}', self.id_of(number))
                continue
            if not before[number] >> place & 1:
                sentence = f'{path.text}: "{wanted}" does not come before "{self.id_of(number)}", so what it gives is not known there'
                self.error(at, sentence, self.id_of(number))

    def triggers(self, pairs: Sequence[tuple[int, int]]) -> None:
        types = [catalogue().get(str(node.get("node_type"))) if isinstance(node, dict) else None for node in self.nodes]
        starts = [number for number, node_type in enumerate(types) if node_type is not None and node_type.trigger]
        if self.nodes and not starts:
            if all(types):
                names = ", ".join(name for name, node_type in catalogue().items() if node_type.trigger)
                self.error("/nodes", f"the workflow has no trigger, so nothing can start it; add one of {names}")
            return
        below: list[list[int]] = [[] for _ in self.nodes]
        for source, target in pairs:
            below[source].append(target)
            if target in starts:
                self.error(f"/nodes/{target}", f'"{self.id_of(target)}" starts runs, so no edge can lead to it', self.id_of(target))
        met = reachable(starts, below)
        for number, node in enumerate(self.nodes):
            if number not in met and isinstance(node, dict):
                self.warn(f"/nodes/{number}", "no trigger leads here, so it never runs", self.id_of(number))

    def routes(self) -> None:
        taken: dict[tuple[str, ...], dict[str, str]] = {}  # shape of an address → method → node
        for number, node in self.made.items():
            path = getattr(node, "path", None)
            if type(node).__name__ != "Webhook" or path is None or self.nodes[number].get("disabled") is True:
                continue
            shape = tuple(":" if segment.startswith(":") else segment for segment in segments_of(path))
            mine = self.id_of(number) or str(number)
            here = taken.setdefault(shape, {})
            methods = methods_of(getattr(node, "method", None))
            clashing = [method for method in here if method in methods or ANY_METHOD in (method, *methods)]
            if clashing:
                sentence = f'"{here[clashing[0]]}" answers the same method and path already'
                self.error(f"/nodes/{number}/params/path", sentence, self.id_of(number))
            else:
                here.update(dict.fromkeys(methods, mine))

    def front_door(self, document: Mapping[str, Any]) -> None:
        most = self.settings.front_door_timeout
        settings = document.get("settings")
        timeout = settings.get("timeout") if isinstance(settings, dict) else None
        wanted = timeout if isinstance(timeout, int | float) and not isinstance(timeout, bool) else None
        if most and wanted is not None and wanted > most:
            for number, node in self.made.items():
                if type(node).__name__ == "Webhook":
                    sentence = f"the run may take {wanted:g} s, but whoever calls this webhook is cut off after {most:g} s"
                    self.warn(f"/nodes/{number}", sentence, self.id_of(number))

    def id_of(self, number: int) -> str | None:
        node = self.nodes[number]
        node_id = node.get("id") if isinstance(node, dict) else None
        return node_id if isinstance(node_id, str) else None

    # -- Lua

    def compile(self, sandbox: Sandbox) -> None:
        if not self.scripts:
            return
        answers = sandbox.check([script.chunk for script in self.scripts])
        for script, answer in zip(self.scripts, answers, strict=True):
            if answer is None:
                continue
            line, message = answer
            if script.chunk.kind == "expression":
                sentence = f'"{shorten(script.text)}" does not compile as Lua: {message}{compile_hint(script.text)}'
            else:
                sentence = f"the script does not compile: {f'line {line}: ' if line else ''}{message}"
            self.error(script.pointer, sentence, script.node)


def pointer(way: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901) from the steps of a way."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in way)


def _long_lists(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The ways to lists and objects that are longer than anybody writes; looked for before anything looks at each of their entries."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while stack:
        way, here = stack.pop()
        if isinstance(here, dict | list):
            if len(here) > MOST_ENTRIES:
                yield way
            else:
                inside: Iterable[tuple[str | int, Any]] = here.items() if isinstance(here, dict) else enumerate(here)
                stack.extend(((*way, key), child) for key, child in inside if isinstance(child, dict | list))


def _made(node_type: type[Node], params: Mapping[str, Any], wrong: set[str]) -> Node | None:
    """The node, params of the wrong shape left at their defaults where they have one, to see what else is wrong; None if that cannot be."""
    fields = params_of(node_type)
    needed = {field.name for field in fields if field.default is MISSING and field.default_factory is MISSING}
    if not needed <= params.keys():
        return None
    given = {field.name: params[field.name] for field in fields if field.name in params}
    return node_type(**{name: value for name, value in given.items() if name in needed or name not in wrong})


def _ancestors(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each number the set of those before it, as bits: for ten thousand nodes some megabytes, where sets would be gigabytes."""
    above: list[list[int]] = [[] for _ in range(count)]
    for source, target in pairs:
        above[target].append(source)
    before = [0] * count
    for number in topological(count, pairs)[0]:
        bits = 0
        for parent in above[number]:
            bits |= before[parent] | 1 << parent
        before[number] = bits
    return before


def _ring(left: Sequence[int], pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    """One cycle among the nodes that could not be ordered, its first node again at the end."""
    above: dict[int, list[int]] = {number: [] for number in left}
    for source, target in pairs:
        if source in above and target in above:
            above[target].append(source)
    trail: list[int] = []
    here = left[0]
    seen: dict[int, int] = {}
    # Every node that is left has a parent that is left too, so walking up must come around.
    while here not in seen:
        seen[here] = len(trail)
        trail.append(here)
        here = min(above[here])
    ring = trail[seen[here] :][::-1]  # the walk went against the edges
    first = ring.index(min(ring))
    yield from [*ring[first:], *ring[: first + 1]]
