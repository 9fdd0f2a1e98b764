"""What is kept of a run and what people see of it: the same as the engine knew, in less room, and nothing that is to stay hidden."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.app import App
from mechaway_core.engine import Carried
from mechaway_core.errors import NodeError, NotFound, TooLarge, Unavailable
from mechaway_core.node import Context, Exits, Item, ItemNode, Items, Node, Request, Response, param
from mechaway_core.ports import RunRecord
from mechaway_core.record import Replays, Run
from mechaway_core.runs import document
from mechaway_core.runs.document import Left, Reading
from mechaway_core.runs.hiding import HIDDEN, hide, hide_headers
from mechaway_core.runs.shown import shown
from mechaway_core.workflow import Plan, canonical, compile_plan
from mechaway_core.workflow.rules import hidden_path
from tests.begin import Begin
from tests.told import told

MANY = 1_000_000  # bytes of a record, or items shown, that nothing here reaches
ONLY_KEPT = ("at_ms", "request")


class Mark(Node):
    """Give each item with this node's id added to its trail."""

    def run(self, items: Items, ctx: Context) -> Items:
        ctx.log(f"{len(items)} came")
        return [{**item, "trail": [*item.get("trail", []), ctx.node_id]} for item in items]


class Pass(Node):
    """Hand on what came."""

    def run(self, items: Items, ctx: Context) -> Items:
        return items


class Split(Node):
    """Items with an even n leave by `even`, others by `odd`."""

    exits: ClassVar[tuple[str, ...]] = ("even", "odd")

    def run(self, items: Items, ctx: Context) -> Exits:
        exits: Exits = {}
        for item in items:
            exits.setdefault("odd" if item.get("n", 0) % 2 else "even", []).append(item)
        return exits


class Fail(ItemNode):
    """Fail for items whose n divides by `by`, at the first attempts, as many as `times` says; 0 is all."""

    by: int = param("Which.", 1)
    times: int = param("How often.", 0)
    seen: ClassVar[dict[str, int]] = {}

    def run_item(self, item: Item, inputs: Any, ctx: Context) -> Items:
        if item.get("n", 0) % self.by == 0:
            count = self.seen[ctx.key()] = self.seen.get(ctx.key(), 0) + 1
            if not self.times or count <= self.times:
                raise NodeError("no luck", status=503)
        return [item]


class FailAll(Node):
    """Fail as a whole."""

    def run(self, items: Items, ctx: Context) -> Items:
        raise NodeError("no luck at all")


class Give(Node):
    """Give what a test put here, whatever it is."""

    what: ClassVar[Any] = []

    def run(self, items: Items, ctx: Context) -> Any:
        return Give.what


class Odd(Node):
    """Log what is no text, and fail with it if `fails` says so."""

    fails: bool = param("Whether.", False)

    def run(self, items: Items, ctx: Context) -> Items:
        ctx.log("a \ud800 b")
        if self.fails:
            raise NodeError("not \ud800 good")
        return items


class Say(Node):
    """Answer the caller with what came."""

    def run(self, items: Items, ctx: Context) -> Items:
        ctx.respond(Response(200, {}, items[0]))
        return items


@pytest.fixture(autouse=True)
def types(add_node_type: Callable[[type[Node]], None]) -> None:
    for node_type in (Begin, Mark, Pass, Split, Fail, FailAll, Give, Odd, Say):
        add_node_type(node_type)


def plan_of(nodes: dict[str, Any], edges: list[str], **fields: Any) -> Plan:
    """`{"a": "Mark", "b": {"node_type": …}}` and `["go a", "a b error"]` as a plan that starts at `go`."""
    shaped = [{"id": "go", "node_type": "Begin"}]
    shaped += [{"id": node_id, **({"node_type": node} if isinstance(node, str) else node)} for node_id, node in nodes.items()]
    lines = [line.split() for line in edges]
    links = [{"from": line[0], "to": line[1], **({"on": line[2]} if len(line) > 2 else {})} for line in lines]
    return compile_plan(canonical({"id": "wf", "nodes": shaped, "edges": links, **fields}))


class Kept:
    """Files of a run, in memory."""

    def __init__(self, most: int = MANY) -> None:
        self.most = most
        self.files: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        if len(data) > self.most:
            raise TooLarge("more than files may hold")
        handle = f"file-{len(self.files)}"
        self.files[handle] = data
        return handle

    def open(self, handle: str) -> bytes:
        if handle not in self.files:
            raise NotFound("it is gone")
        return self.files[handle]


def read(run: Run, plan: Plan, most: int = MANY, kept: Kept | None = None) -> Reading:
    """The record of a run as it is read again."""
    kept = kept or Kept()
    return Reading("default", document.ended(run, plan, most, kept.keep), kept.open)


def same(run: Run, plan: Plan, most: int = MANY) -> None:
    """Fails unless the record shows what the engine knew."""
    live, found = told(run, most), shown(read(run, plan), most)
    for name in ONLY_KEPT:
        found.pop(name, None)
        for node in found["nodes"]:
            node.pop(name, None)
    if not live["output"]:
        assert not found.pop("output", [])
        live.pop("output")
    assert found == orjson.loads(orjson.dumps(live))


# -- the same as the engine knew

ITEMS = [{"n": 1}, {"n": 2}, {"n": 3}]
RETRY = {"attempts": 3, "delay": 0.001}


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ({"a": "Mark", "b": "Pass", "c": "Mark"}, ["go a", "a b", "b c"]),
        ({"a": "Mark", "b": "Pass", "c": "Mark", "d": "Mark"}, ["go a", "go b", "go c", "c d", "a d", "b d"]),
        ({"s": "Split", "a": "Mark", "b": "Mark", "d": "Mark"}, ["go s", "s a even", "s b odd", "a d", "b d"]),
        ({"s": {"node_type": "Split"}, "a": "Mark", "b": "Mark"}, ["go s", "s a main", "a b"]),
        ({"a": {"node_type": "FailAll", "disabled": True}, "b": "Mark"}, ["go a", "a b"]),
        ({"a": {"node_type": "Fail", "params": {"by": 2}, "on_error": "continue"}, "b": "Mark"}, ["go a", "a b"]),
        ({"a": {"node_type": "Fail", "params": {"by": 2}, "on_error": "branch"}, "b": "Mark", "c": "Pass"}, ["go a", "a b", "a c error"]),
        ({"a": {"node_type": "FailAll", "on_error": "branch"}, "b": "Mark", "c": "Pass"}, ["go a", "a b", "a c error"]),
        ({"a": {"node_type": "FailAll", "on_error": "continue"}, "b": "Pass", "c": "Mark"}, ["go a", "a b", "b c"]),
        ({"a": {"node_type": "Fail", "params": {"times": 2}, "retry": RETRY}, "b": "Mark"}, ["go a", "a b"]),
        ({"a": {"node_type": "Fail", "retry": RETRY}, "b": "Mark"}, ["go a", "a b"]),
        ({"a": "Mark", "b": "FailAll", "c": "Mark"}, ["go a", "go b", "b c"]),
        ({"a": {"node_type": "Mark", "outputs": {"n": "$json.n"}}, "b": "Mark"}, ["go a", "a b"]),
        ({"a": "Mark", "b": "Say"}, ["go a", "a b"]),
    ],
)
@pytest.mark.parametrize("items", [ITEMS, [], [{"n": 2}]])
def test_a_record_shows_what_the_engine_knew(app: App, nodes: dict[str, Any], edges: list[str], items: Items) -> None:
    plan = plan_of(nodes, edges)
    run = app.try_out("default", plan, None, items=items)
    same(run, plan)
    same(run, plan, 1)


@st.composite
def workflows(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """Nodes and edges of any small graph below `go`."""
    kinds: list[Any] = [
        "Mark",
        "Pass",
        "Split",
        {"node_type": "Mark", "disabled": True},
        {"node_type": "Mark", "outputs": {"n": "$json.n"}},
        *({"node_type": "Fail", "params": {"by": by}, "on_error": how} for by in (1, 2, 7) for how in ("continue", "branch", "stop")),
        {"node_type": "FailAll", "on_error": "branch"},
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=7))
    names = [f"n{number}" for number in range(len(chosen))]
    nodes = {name: {"node_type": kind} if isinstance(kind, str) else kind for name, kind in zip(names, chosen, strict=True)}
    edges: list[str] = []
    for number, name in enumerate(names):
        parents = draw(st.lists(st.sampled_from(["go", *names[:number]]), min_size=1, max_size=3, unique=True))
        for parent in parents:
            kind = nodes[parent]["node_type"] if parent != "go" else "Begin"
            exits = ["even", "odd"] if kind == "Split" else ["main"] if kind == "Begin" else ["main", "error"]
            edges.append(f"{parent} {name} {draw(st.sampled_from(exits))}")
    return nodes, edges


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflows(), st.lists(st.integers(0, 9).map(lambda n: {"n": n}), max_size=4), st.integers(0, 3))
def test_of_any_workflow_the_record_shows_what_the_engine_knew(app: App, made: Any, items: Items, most: int) -> None:
    plan = plan_of(*made)
    run = app.try_out("default", plan, None, items=items)
    same(run, plan)
    same(run, plan, most)
    ended = read(run, plan)
    exits = {node.id: node.exits for node in run.nodes if node.status in ("succeeded", "disabled")}
    assert ended.exits(list(plan.index)) == exits
    for node_id, leaving in exits.items():
        assert ended.exits([node_id]) == {node_id: leaving}
    assert ended.start() == items


def test_what_came_is_not_written_again_by_every_node_that_takes_it(app: App) -> None:
    nodes = {f"n{number}": "Pass" for number in range(50)}
    plan = plan_of(nodes, [f"{'go' if number == 0 else f'n{number - 1}'} n{number}" for number in range(50)])
    run = app.try_out("default", plan, None, items=[{"text": "x" * 10_000}])
    assert len(document.ended(run, plan, MANY, Kept().keep).data) < 25_000


def test_what_somebody_brought_for_a_node_is_what_it_took(app: App) -> None:
    plan = plan_of({"a": "Mark", "b": "Mark"}, ["go a", "a b"])
    first = app.try_out("default", plan, None, items=[{"n": 1}])
    engine = app.runs.engine
    run = engine.prepare(plan, plan.triggers[0], "default", "replay")
    run.replays = Replays(first.info.id, "b", [{"n": 9}])
    carried = Carried(
        {plan.index[name]: exits for name, exits in read(first, plan).exits(["go", "a"]).items()}, plan.index["b"], [{"n": 9}]
    )
    engine.run(plan, run, [{"n": 1}], None, carried)
    assert run.output == [{"n": 9, "trail": ["b"]}]
    same(run, plan)


def test_a_run_that_goes_on_is_shown_as_far_as_it_came(app: App) -> None:
    plan = plan_of({"a": "Mark", "b": "Mark"}, ["go a", "a b"])
    run = app.try_out("default", plan, None, items=[{"n": 1}])
    run.status, run.ended = "running", None
    run.walked = dict(enumerate(run.nodes))
    run.nodes = []
    run.walked[2].took, run.walked[2].exits = 0.0, {}
    found = shown(Reading("default", document.as_far(run, plan), Kept().open), MANY)
    assert [(node["id"], node["status"]) for node in found["nodes"]] == [("go", "succeeded"), ("a", "succeeded"), ("b", "running")]
    assert (found["status"], found["ended_at"], found["took_ms"]) == ("running", None, None)


# -- sizes


def big(size: int, *letters: str) -> Plan:
    """A plan with a node that gives so many bytes, for each letter."""
    nodes = {
        letter: {"node_type": "FunLogic", "params": {"script": f"return {{text = string.rep('{letter}', {size})}}"}} for letter in letters
    }
    return plan_of(nodes, [f"go {letter}" for letter in letters])


def test_large_values_become_files_and_come_back_whole(app: App) -> None:
    nodes = {
        letter: {"node_type": "FunLogic", "params": {"script": f"return {{text = string.rep('{letter}', {size})}}"}}
        for letter, size in (("a", 100_000), ("b", 99_000))
    }
    plan, kept = plan_of(nodes, ["go a", "go b"]), Kept()
    run = app.try_out("default", plan, None)
    record = document.ended(run, plan, 150_000, kept.keep)
    assert len(record.data) <= 150_000
    assert len(kept.files) == 1, "one of them is enough"
    found = Reading("default", record, kept.open)
    assert found.exits(["a", "b"]) == {"a": {"main": [{"text": "a" * 100_000}]}, "b": {"main": [{"text": "b" * 99_000}]}}
    seen = {node["id"]: node for node in shown(found, 10)["nodes"]}
    apart = [node["output"]["main"] for node in seen.values() if isinstance(node["output"]["main"], dict)]
    assert apart == [{"file": "file-0", "items": 1, "bytes": 100_013}]
    assert seen["a"]["items_out"] == seen["b"]["items_out"] == {"main": 1}


def test_many_values_that_are_large_together_become_files_as_well(app: App) -> None:
    plan, kept = big(20_000, *"abcdefgh"), Kept()
    run = app.try_out("default", plan, None)
    record = document.ended(run, plan, 50_000, kept.keep)
    assert len(record.data) <= 50_000
    assert Reading("default", record, kept.open).exits("abcdefgh") == {name: {"main": [{"text": name * 20_000}]} for name in "abcdefgh"}


def test_what_no_file_can_hold_is_counted(app: App) -> None:
    plan, kept = big(100_000, "a"), Kept(most=1000)
    run = app.try_out("default", plan, None)
    found = read(run, plan, 50_000, kept)
    seen = shown(found, 10)["nodes"][1]
    assert (seen["output"], seen["items_out"]) == ({"main": {"items": 1, "bytes": 100_013}}, {"main": 1})
    with pytest.raises(Left, match=r"1 items of run .* were too large to be kept"):
        found.exits(["a"])
    assert found.start() == [{}]


def test_a_disk_that_takes_no_files_leaves_the_rest_of_the_record(app: App) -> None:
    def keep(data: bytes) -> str:
        raise Unavailable("the disk is full")

    plan = big(100_000, "a")
    run = app.try_out("default", plan, None)
    found = shown(Reading("default", document.ended(run, plan, 50_000, keep), Kept().open), 10)
    assert [node["status"] for node in found["nodes"]] == ["succeeded", "succeeded"]


def test_a_file_that_is_gone_by_now_is_named(app: App) -> None:
    plan, kept = big(100_000, "a"), Kept()
    found = read(app.try_out("default", plan, None), plan, 50_000, kept)
    kept.files.clear()
    with pytest.raises(Left, match="were kept as a file, which was deleted by now"):
        found.exits(["a"])
    assert shown(found, 10)["status"] == "succeeded"


def test_a_large_answer_does_not_take_the_rest_along(app: App) -> None:
    plan = plan_of({"say": "Say"}, ["go say"])
    run = app.try_out("default", plan, None, items=[{"text": "x" * 100_000}])
    kept = Kept()
    found = shown(read(run, plan, 50_000, kept), 10)
    assert found["response"] == {"status": 200, "headers": {}, "bytes": 100_011}
    assert read(run, plan, 50_000, kept).start() == [{"text": "x" * 100_000}]


def test_a_run_of_very_many_nodes_keeps_what_became_of_each(app: App) -> None:
    plan = plan_of({f"n{number}": "Mark" for number in range(200)}, [f"go n{number}" for number in range(200)])
    run = app.try_out("default", plan, None)
    found = shown(read(run, plan, 20_000), 10)
    assert [node["id"] for node in found["nodes"]] == [node.id for node in run.nodes]
    assert all(node["items_out"] == {"main": 1} for node in found["nodes"])


# -- what JSON cannot hold


@pytest.mark.parametrize("what", [[{1, 2}], [{"a": {"b": {3}}}], ["a \ud800 b"], [{"n": 2**70}], [{(1, 2): 3}], [object()], {5}])
def test_what_json_cannot_hold_costs_no_more_than_itself(app: App, what: Any) -> None:
    Give.what = what
    plan = plan_of({"a": "Mark", "give": "Give"}, ["go a", "a give"])
    run = app.try_out("default", plan, None, items=[{"n": 1}])
    assert run.status == "succeeded"
    found = read(run, plan)
    seen = {node["id"]: node for node in shown(found, 10)["nodes"]}
    assert seen["give"]["items_out"] == {"main": 1}
    assert seen["a"]["output"] == {"main": [{"n": 1, "trail": ["a"]}]}
    assert found.start() == [{"n": 1}]
    with pytest.raises(Left):
        found.exits(["give"])


def test_numbers_that_are_none_are_kept_as_null(app: App) -> None:
    Give.what = [{"n": float("nan"), "m": float("inf")}]
    plan = plan_of({"give": "Give"}, ["go give"])
    assert read(app.try_out("default", plan, None), plan).exits(["give"]) == {"give": {"main": [{"n": None, "m": None}]}}


@pytest.mark.parametrize("fails", [False, True])
def test_texts_that_are_none_are_kept_as_far_as_they_are(app: App, fails: bool) -> None:
    plan = plan_of({"odd": {"node_type": "Odd", "params": {"fails": fails}}}, ["go odd"])
    found = shown(read(app.try_out("default", plan, None), plan), 10)
    assert found["nodes"][1]["log"] == ["a ? b"]
    assert ("not ? good" in found["error"]["message"]) if fails else "error" not in found


def test_an_answer_that_json_cannot_hold_is_left_out(app: App) -> None:
    Give.what = [{"a": {1}}]
    plan = plan_of({"give": "Give", "say": "Say"}, ["go give", "give say"])
    found = shown(read(app.try_out("default", plan, None), plan), 10)
    assert "response" not in found
    assert [node["status"] for node in found["nodes"]] == ["succeeded"] * 3


# -- what nobody is to see


def redacted(app: App, nodes: dict[str, Any], edges: list[str], paths: list[str], items: Items, request: Request | None = None) -> Any:
    """The record of a run of a workflow with `redact`."""
    plan = plan_of(nodes, edges, settings={"redact": paths})
    run = app.try_out("default", plan, None, items=copy.deepcopy(items))
    run.request = request
    return read(run, plan)


CARD = {"card": {"number": "4111", "cvc": "999"}, "list": [{"pin": "1234"}, {"pin": "5678"}], "deep": {"a": [{"b": {"pin": "0000"}}]}}


@pytest.mark.parametrize(
    ("path", "gone", "there"),
    [
        ("card.number", ["4111"], ["999", "1234"]),
        ("$json.card.number", ["4111"], ["999"]),
        ("card", ["4111", "999"], ["1234"]),
        ("card.*", ["4111", "999"], ["1234"]),
        ("list.*.pin", ["1234", "5678"], ["0000"]),
        ("list.1.pin", ["5678"], ["1234", "0000"]),
        ("list.7.pin", [], ["1234", "5678"]),
        ("**.pin", ["1234", "5678", "0000"], ["4111"]),
        ("**.b.pin", ["0000"], ["1234"]),
        ("**.card.cvc", ["999"], ["4111"]),
        ("*", ["4111", "999", "1234", "0000"], []),
        ("*.number", ["4111"], ["999"]),
        ("nothing.here", [], ["4111", "1234"]),
        ("²", [], ["4111"]),
        ("list.²", [], ["1234"]),
        ("list.٠.pin", ["1234"], ["5678"]),
        ("list." + "9" * 900, [], ["1234"]),
    ],
)
def test_redact_hides_what_a_path_leads_to_and_nothing_else(app: App, path: str, gone: list[str], there: list[str]) -> None:
    found = redacted(app, {"a": "Mark", "b": "Pass"}, ["go a", "a b"], [path], [CARD])
    text = orjson.dumps(found.said).decode()
    assert [value for value in gone if value in text] == []
    assert [value for value in there if value not in text] == []
    assert found.hidden == bool(gone)
    assert ("redacted" in shown(found, 10)) == bool(gone)


@pytest.mark.parametrize("name", ["Fail", "FailAll"])
def test_redact_reaches_into_the_errors_of_items_however_often_they_failed(app: App, name: str) -> None:
    failing = {"node_type": name, "on_error": "continue"}
    branch = {"node_type": name, "on_error": "branch"}
    edges = ["go a", "a b", "b c", "c d error"]
    found = redacted(app, {"a": failing, "b": failing, "c": branch, "d": "Pass"}, edges, ["card.number"], [CARD, CARD])
    text = orjson.dumps(found.said)
    assert b"4111" not in text
    assert b"999" in text
    assert found.hidden


def test_redact_reaches_what_a_caller_got(app: App) -> None:
    found = redacted(app, {"say": "Say"}, ["go say"], ["card.number"], [CARD])
    assert found.said["response"]["body"]["card"] == {"number": HIDDEN, "cvc": "999"}


def test_redact_reaches_the_request(app: App) -> None:
    request = Request("POST", {"q": "find", "token": "t0ken"}, {"x-pin": "p1n", "accept": "fine"}, {"who": "ann", "what": "all"})
    paths = ["$query.token", "$headers.X-Pin", "$path.who"]
    found = redacted(app, {"a": "Mark"}, ["go a"], paths, [{}], request)
    assert found.said["request"] == {
        "method": "POST",
        "query": {"q": "find", "token": HIDDEN},
        "headers": {"x-pin": HIDDEN, "accept": "fine"},
        "path": {"who": HIDDEN, "what": "all"},
        "files": {},
    }
    assert found.hidden
    assert not redacted(app, {"a": "Mark"}, ["go a"], ["$query.other", "$headers.other"], [{}], request).hidden


def test_headers_by_which_callers_come_in_are_never_kept(app: App) -> None:
    secret = {"authorization": "Bearer c4nary", "cookie": "c4nary", "x-api-key": "c4nary", "proxy-authorization": "c4nary"}
    request = Request("POST", {}, {**secret, "accept": "fine"}, {})
    plan = plan_of({"a": "Mark"}, ["go a"])
    run = app.try_out("default", plan, None)
    run.request = request
    record = document.ended(run, plan, MANY, Kept().keep)
    assert b"c4nary" not in record.data
    assert b"fine" in record.data
    assert hide_headers(request.headers)["accept"] == "fine"


def opened(app: App, plan: Plan, items: Items, request: Request) -> RunRecord:
    """The record of a run that is to begin."""
    run = app.runs.engine.prepare(plan, plan.triggers[0], "default", "webhook")
    run.request, run.promised = request, True
    return document.opened(run, items)


def test_of_a_run_that_is_to_begin_nobody_sees_more_than_of_one_that_ended(app: App) -> None:
    request = Request("POST", {"token": "c4nary"}, {"authorization": "c4nary", "x-pin": "c4nary"}, {})
    plan = plan_of({"a": "Mark"}, ["go a"], settings={"redact": ["card.number", "$query.token", "$headers.x-pin"]})
    record = opened(app, plan, [{"card": {"number": "c4nary", "cvc": 1}}], request)
    again = Reading("default", record, Kept().open)
    assert again.request() == request, "it needs all of it to begin"
    assert again.start() == [{"card": {"number": "c4nary", "cvc": 1}}]
    for made in (
        document.without_hidden(record, plan.rules),
        document.lost(record, plan.rules, "its process ended", 1.0),
        document.cancelled(record, plan.rules, 1.0),
    ):
        assert b"c4nary" not in made.data
        found = Reading("default", made, Kept().open)
        assert found.start() == [{"card": {"number": HIDDEN, "cvc": 1}}]
        assert found.hidden
        assert b"c4nary" not in orjson.dumps(shown(found, 10))


def test_what_is_lost_can_be_run_again_where_nothing_is_hidden(app: App) -> None:
    plan = plan_of({"a": "Mark"}, ["go a"])
    record = opened(app, plan, [{"n": 1}], Request("POST", {"q": "1"}, {}, {}))
    found = Reading("default", document.lost(record, plan.rules, "its process ended", 5.0), Kept().open)
    assert (found.line.status, found.line.ended, found.line.error, found.hidden) == ("failed", 5.0, "its process ended", False)
    assert found.start() == [{"n": 1}]
    assert shown(found, 10)["error"] == {"type": "lost", "message": "its process ended"}


NAMES = st.one_of(st.sampled_from(["a", "b", "0", "1", "*odd", "a.b", "", " ", "$x", "²", "ключ"]), st.text(max_size=3))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)
PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", "*", "ключ", "²", "c"]), min_size=1, max_size=4).map(".".join)


def led_to(value: Any, parts: list[str]) -> Iterator[Any]:
    """What a path leads to, said in another way."""
    if not parts:
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if parts[0] in ("*", name):
                yield from led_to(inner, parts[1:])
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            if parts[0] in ("*", str(place)):
                yield from led_to(inner, parts[1:])


def inside(value: Any) -> Iterator[Any]:
    """A value and all that is in it."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(inner)


@settings(max_examples=400)
@given(VALUES, PATHS, st.booleans())
def test_hide_changes_nothing_in_place_and_leaves_nothing_that_a_path_names(value: Any, path: str, anywhere: bool) -> None:
    named = hidden_path(("**." if anywhere else "") + path)
    assert named is not None
    before = copy.deepcopy(value)
    hidden = hide(value, [named])
    assert value == before
    starts = list(inside(hidden)) if anywhere else [hidden]
    assert all(found == HIDDEN for start in starts for found in led_to(start, path.split(".")))
    met = any(True for start in (inside(value) if anywhere else [value]) for _ in led_to(start, path.split(".")))
    assert (hidden is not value) == met
    assert json.dumps(hidden).count(HIDDEN) >= met


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "$json", "$json.", "$secret.x", "**", "**.", "a b", "a.**.b", "$query", "x" * 1001]
)
def test_a_path_that_leads_nowhere_is_none(app: App, path: str) -> None:
    assert hidden_path(path) is None
    document = {
        "id": "w",
        "nodes": [{"id": "go", "node_type": "Webhook", "params": {"path": "/"}}],
        "edges": [],
        "settings": {"redact": [path]},
    }
    errors, _ = app.validate(document)
    assert [error.pointer for error in errors] == ["/settings/redact/0"]


def test_errors_and_records_fit_into_a_line(app: App) -> None:
    plan = plan_of({"f": {"node_type": "FunLogic", "params": {"script": "error(string.rep('x', 10000))"}}}, ["go f"])
    line = read(app.try_out("default", plan, None), plan).line
    assert line.error is not None
    assert len(line.error) == document.MOST_ERROR
