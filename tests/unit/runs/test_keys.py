"""`$run.key`: the same for one item of one node at every attempt of a run, and another for everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from mechaway_core.app import App
from mechaway_core.errors import NodeError, Unavailable
from mechaway_core.node import Context, Exits, Item, ItemNode, Items, Node, param
from mechaway_core.nodes.simple_table_writer import SimpleTableWriter
from mechaway_core.record import Run
from mechaway_core.workflow import compile_plan
from tests.conftest import MakeApp

ID = "01900000-0000-7000-8000-000000000001"
OTHER = "01900000-0000-7000-8000-000000000002"


class Act(ItemNode):
    """Give the key of the item by every way there is to it. The first attempts for an item fail, as many as `fails` says."""

    uses_inputs: ClassVar[str] = "what to show"
    text: str = param("Text.", "{{ $run.key }}", template=True)
    fails: int = param("How often.", 0)
    seen: ClassVar[list[str]] = []

    def run_item(self, item: Item, inputs: Sequence[Any], ctx: Context) -> Items:
        self.seen.append(ctx.key())
        if self.seen.count(ctx.key()) <= self.fails:
            raise NodeError("not yet")
        again = [value for row in ctx.inputs([item]) for value in row]
        return [{"keys": [ctx.key(), ctx.render(self.text, item), *inputs, *again]}]


class Whole(Node):
    """Give the keys of all items; `late` is how many seconds it takes."""

    late: float = param("How long.", 0.0)

    def run(self, items: Items, ctx: Context) -> Items:
        time.sleep(self.late)
        return [{"keys": [ctx.render("{{ $run.key }}", item, number), ctx.key(number)]} for number, item in enumerate(items)]


class Sort(Node):
    """Items with an even n leave by `even`, others by `odd`."""

    exits: ClassVar[tuple[str, ...]] = ("even", "odd")

    def run(self, items: Items, ctx: Context) -> Exits:
        return {"even": [item for item in items if item["n"] % 2 == 0], "odd": [item for item in items if item["n"] % 2]}


class Unheard(SimpleTableWriter):
    """Write the rows, but the first time nobody hears that it was done."""

    times: ClassVar[list[str]] = []

    def run(self, items: Items, ctx: Context) -> Items:
        given = super().run(items, ctx)
        self.times.append(ctx.run.id)
        if self.times.count(ctx.run.id) == 1:
            raise Unavailable("the answer was lost")
        return given


class Killed(Node):
    """The first time, the process is killed here."""

    alive: ClassVar[bool] = False

    def run(self, items: Items, ctx: Context) -> Items:
        if not Killed.alive:
            Killed.alive = True
            raise SystemExit
        return items


@pytest.fixture(autouse=True)
def types(add_node_type: Callable[[type[Node]], None]) -> None:
    for node_type in (Act, Whole, Sort, Unheard, Killed):
        add_node_type(node_type)
    Act.seen.clear()
    Killed.alive = False


def workflow(*nodes: dict[str, Any], edges: Sequence[str] = ()) -> dict[str, Any]:
    """A workflow of these nodes behind the webhook `hook`: a chain, unless edges say otherwise (`"a b"`)."""
    ids = ["hook", *(node["id"] for node in nodes)]
    pairs = [edge.split() for edge in edges] if edges else pairwise(ids)
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}
    return {"id": "w", "nodes": [hook, *nodes], "edges": [{"from": before, "to": after} for before, after in pairs]}


def node(node_id: str, node_type: str, inputs: list[Any] | None = None, /, **more: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"id": node_id, "node_type": node_type, "params": more.pop("params", {})} | more
    return document if inputs is None else document | {"inputs": inputs}


def begin(app: App, document: dict[str, Any], items: Items, run_id: str = ID, keys: str = "") -> Run:
    """A run under this id, as if it had been begun before, that may carry on the keys of another."""
    app.put("default", document)
    plan = compile_plan(document)
    run = app._engine.prepare(plan, plan.triggers[0], "default", "manual")
    run.info = run.info._replace(id=run_id, keys=keys)
    return app._engine.run(plan, run, items)


def keys_of(run: Run) -> list[Any]:
    """For each item of the output the key that every way led to."""
    assert run.failure is None, run.failure
    for item in run.output:
        assert len(set(item["keys"])) == 1, item
    return [item["keys"][0] for item in run.output]


BY_EVERY_WAY = ["$run.key", "string.lower($run.key)"]


def test_every_item_of_every_node_has_a_key_of_its_own_by_whatever_way_it_is_asked(app: App) -> None:
    document = workflow(node("a", "Act", BY_EVERY_WAY), node("b", "Act", BY_EVERY_WAY))
    run = begin(app, document, [{"same": 1}, {"same": 1}, {}])
    [first, second] = [[item["keys"] for item in record.exits["main"]] for record in run.nodes[1:]]
    assert all(len(keys) == 6 for keys in first)
    assert len({key for keys in (*first, *second) for key in keys}) == 6


def test_a_node_that_takes_all_items_says_which_one_it_means(app: App) -> None:
    document = workflow(node("a", "Whole"))
    keys = keys_of(begin(app, document, [{}, {}, {}]))
    assert len(set(keys)) == 3
    assert keys == keys_of(begin(app, workflow(node("a", "Act", BY_EVERY_WAY)), [{}, {}, {}]))


def test_what_is_rendered_once_has_the_key_of_the_first_item(app: App) -> None:
    run = begin(app, workflow(node("a", "Respond", params={"body": "{{ $run.key }}"})), [{}, {}])
    assert run.response is not None
    assert run.response.body == keys_of(begin(app, workflow(node("a", "Act")), [{}]))[0]
    empty = begin(app, workflow(node("a", "Respond", params={"body": "{{ $run.key }}"})), [])
    assert empty.response is not None
    assert empty.response.body == run.response.body


def test_an_item_has_the_same_key_at_every_attempt(app: App) -> None:
    flaky = node("a", "Act", BY_EVERY_WAY, params={"fails": 2}, retry={"attempts": 3, "delay": 0})
    keys = keys_of(begin(app, workflow(flaky), [{}, {}]))
    assert Act.seen == [keys[0]] * 3 + [keys[1]] * 3


def test_items_that_fail_do_not_move_the_keys_of_others(app: App) -> None:
    pins = ["$run.key", "$json.n + 1 and $run.key"]
    document = workflow(node("a", "Act", pins, on_error="continue"))
    whole = keys_of(begin(app, document, [{"n": 1}, {"n": 2}, {"n": 3}]))
    run = begin(app, document, [{"n": {}}, {"n": 2}, {"n": 3}])
    assert [item["keys"][0] for item in run.output[1:]] == whole[1:]


def test_a_run_that_is_begun_again_has_the_same_keys_and_another_run_has_others(app: App) -> None:
    document = workflow(node("a", "Act", BY_EVERY_WAY))
    items: Items = [{}, {}]
    keys = keys_of(begin(app, document, items))
    assert keys_of(begin(app, document, items)) == keys
    assert not set(keys_of(begin(app, document, items, OTHER))) & set(keys)
    assert keys_of(begin(app, document, items, OTHER, keys=ID)) == keys
    assert keys_of(app.start("default", "w", items=items)) != keys


def test_keys_do_not_depend_on_which_branch_is_first(app: App) -> None:
    def ran(left: float, right: float) -> dict[str, Any]:
        branches = [node("left", "Whole", params={"late": left}), node("right", "Whole", params={"late": right}), node("end", "Whole")]
        run = begin(app, workflow(*branches, edges=["hook left", "hook right", "right end", "left end"]), [{}, {}])
        return {record.id: record.exits["main"] for record in run.nodes[1:]}

    quick_left = ran(0.0, 0.05)
    assert quick_left == ran(0.05, 0.0)
    assert len({item["keys"][0] for items in quick_left.values() for item in items}) == 8


def test_outputs_have_the_key_of_each_item_that_the_node_gives_over_all_its_exits(app: App) -> None:
    document = workflow(node("a", "Sort", outputs={"n": "$json.n", "key": "$run.key", "lua": "$run.key .. ''"}))
    exits = begin(app, document, [{"n": 1}, {"n": 2}, {"n": 3}]).nodes[1].exits
    items = [*exits["even"], *exits["odd"]]
    assert [item["n"] for item in items] == [2, 1, 3]
    assert len({item["key"] for item in items}) == 3
    assert all(item["key"] == item["lua"] for item in items)


def test_scripts_and_records_do_not_see_it_for_they_speak_of_whole_runs(app: App) -> None:
    run = begin(app, workflow(node("a", "FunLogic", params={"script": "return {run = run, none = run.key == nil}"})), [{}])
    assert run.output[0]["none"]
    assert set(run.output[0]["run"]) == {"id", "workflow_id", "project", "started_at", "trigger"}


# -- rows that are written once

ONCE = {"table": "orders", "columns": ["key", "sku"], "on_conflict": {"columns": ["key"], "update": False}}
SAME_ORDERS = [{"sku": "a"}, {"sku": "a"}]


def rows(app: App) -> list[str]:
    return [row["sku"] for row in app.rows("default", "orders").rows]


def test_a_row_whose_write_is_tried_again_is_there_once(app: App) -> None:
    save = node("save", "Unheard", ["$run.key", "$json.sku"], params=ONCE, retry={"attempts": 2, "delay": 0})
    run = begin(app, workflow(save), SAME_ORDERS)
    assert run.failure is None, run.failure
    assert [(item["_inserted_id"], item["_rows_affected"]) for item in run.output] == [(1, 0), (2, 0)]
    assert rows(app) == ["a", "a"]


@pytest.mark.parametrize("carries_on", [False, True])
def test_a_row_of_a_run_that_was_killed_and_begun_again_is_there_once(make_app: MakeApp, carries_on: bool) -> None:
    save = node("save", "SimpleTableWriter", ["$run.key", "$json.sku"], params=ONCE)
    document = workflow(save, node("end", "Killed"))
    before = make_app()
    with pytest.raises(SystemExit):
        begin(before, document, SAME_ORDERS)
    assert rows(before) == ["a", "a"]
    after = make_app()
    run = begin(after, document, SAME_ORDERS, OTHER, keys=ID) if carries_on else begin(after, document, SAME_ORDERS)
    assert run.status == "succeeded"
    assert rows(after) == ["a", "a"]
    begin(after, document, SAME_ORDERS, OTHER)
    assert len(rows(after)) == 4
