"""How a run goes: order, liveness, retries, failures, deadlines, branches side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechaway_core.app import App
from mechaway_core.errors import NodeError, Unavailable
from mechaway_core.node import Context, Exits, Item, ItemNode, Items, Node, param
from mechaway_core.record import Run, new_run_id
from tests.begin import Begin
from tests.conftest import MakeApp
from tests.told import told

Add = Callable[[type[Node]], None]


class Mark(Node):
    """Give each item with this node's id added to its trail, and tell how many came."""

    def run(self, items: Items, ctx: Context) -> Items:
        return [{"trail": [*(item.get("trail", []) if isinstance(item, dict) else []), ctx.node_id], "came": len(items)} for item in items]


class Split(Node):
    """Items with an even n leave by `even`, others by `odd`; an exit nobody leaves by is not taken."""

    exits: ClassVar[tuple[str, ...]] = ("even", "odd")

    def run(self, items: Items, ctx: Context) -> Exits:
        exits: Exits = {}
        for item in items:
            exits.setdefault("odd" if item["n"] % 2 else "even", []).append(item)
        return exits


class Fail(ItemNode):
    """Fail for items whose n is `on`; -1 is every item. `times` failures in all, 0 without end."""

    on: int = param("Which.", -1)
    times: int = param("How often.", 0)
    status: int | None = param("Status of the error.", None)
    seen: ClassVar[dict[str, int]] = {}

    def run_item(self, item: Item, inputs: Any, ctx: Context) -> Items:
        if self.on in (-1, item.get("n")):
            count = self.seen[ctx.run.id] = self.seen.get(ctx.run.id, 0) + 1
            if not self.times or count <= self.times:
                raise NodeError(f"no luck with {item.get('n')}", status=self.status)
        return [item]


class Breaks(Node):
    """A node with a mistake in it."""

    def run(self, items: Items, ctx: Context) -> Items:
        return items[999]["secret inside"]  # type: ignore[no-any-return]


class Meet(Node):
    """Wait until as many nodes as `parties` are here at the same time."""

    parties: int = param("How many.", 2)
    barriers: ClassVar[dict[str, threading.Barrier]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def run(self, items: Items, ctx: Context) -> Items:
        with self.lock:
            barrier = self.barriers.setdefault(ctx.run.id, threading.Barrier(self.parties))
        barrier.wait(timeout=30)
        return [{"met": ctx.node_id}]


class Nap(Node):
    """Sleep, without a look at the deadline."""

    seconds: float = param("How long.", 0.01)

    def run(self, items: Items, ctx: Context) -> Items:
        time.sleep(self.seconds)
        return items


class Full(Node):
    """As when a disk is full."""

    def run(self, items: Items, ctx: Context) -> Items:
        raise Unavailable("the disk is full")


@pytest.fixture(autouse=True)
def types(add_node_type: Add) -> None:
    for node_type in (Begin, Mark, Split, Fail, Breaks, Meet, Nap, Full):
        add_node_type(node_type)


def workflow(nodes: dict[str, Any], edges: list[str], **more: Any) -> dict[str, Any]:
    """`{"a": "Mark", "b": {"node_type": …}}` and `["a b", "b c error"]` as a document that starts at `go`."""
    shaped = [{"id": "go", "node_type": "Begin"}]
    shaped += [{"id": node_id, **({"node_type": node} if isinstance(node, str) else node)} for node_id, node in nodes.items()]
    lines = [line.split() for line in edges]
    links = [{"from": line[0], "to": line[1], **({"on": line[2]} if len(line) > 2 else {})} for line in lines]
    return {"id": "wf", "nodes": shaped, "edges": links, **more}


def run(app: App, document: dict[str, Any], items: list[Any] | None = None) -> Run:
    app.put("default", document)
    return app.start("default", "wf", items=[{}] if items is None else items)


def statuses(ran: Run) -> dict[str, str]:
    return {node.id: node.status for node in ran.nodes}


# -- order and liveness


def test_a_chain_hands_its_items_on(app: App) -> None:
    ran = run(app, workflow({"a": "Mark", "b": "Mark"}, ["go a", "a b"]))
    assert ran.status == "succeeded"
    assert ran.output == [{"trail": ["a", "b"], "came": 1}]
    assert [node.id for node in ran.nodes] == ["go", "a", "b"]


def test_inputs_are_put_together_in_the_order_of_the_edges(app: App) -> None:
    ran = run(app, workflow({"a": "Mark", "b": "Mark", "c": "Mark", "end": "Mark"}, ["go c", "go b", "go a", "b end", "c end", "a end"]))
    assert [item["trail"] for item in ran.output] == [["b", "end"], ["c", "end"], ["a", "end"]]
    assert ran.output[0]["came"] == 3


def test_the_answer_is_of_the_last_node_in_the_plan_that_ran(app: App) -> None:
    ran = run(app, workflow({"late": {"node_type": "Nap"}, "b": "Mark"}, ["go late", "go b"]))
    assert ran.output == [{"trail": ["b"], "came": 1}]


def test_an_exit_that_nothing_left_by_is_dead_and_so_is_all_behind_it(app: App) -> None:
    document = workflow(
        {"split": "Split", "even": "Mark", "odd": "Mark", "after-odd": "Mark", "end": "Mark"},
        ["go split", "split even even", "split odd odd", "odd after-odd", "even end", "after-odd end"],
    )
    ran = run(app, document, [{"n": 2}, {"n": 4}])
    assert statuses(ran) == {
        "go": "succeeded", "split": "succeeded", "even": "succeeded", "odd": "skipped", "after-odd": "skipped", "end": "succeeded",
    }  # fmt: skip
    assert [item["trail"] for item in ran.output] == [["even", "end"], ["even", "end"]]


def test_a_node_runs_with_an_empty_list(app: App) -> None:
    ran = run(app, workflow({"a": "Mark", "b": "Mark"}, ["go a", "a b"]), [])
    assert statuses(ran) == {"go": "succeeded", "a": "succeeded", "b": "succeeded"}
    assert ran.output == []


def test_only_what_the_trigger_reaches_takes_part(app: App) -> None:
    document = workflow({"a": "Mark", "other": "Begin", "b": "Mark", "both": "Mark"}, ["go a", "other b", "a both", "b both"])
    app.put("default", document)
    assert list(statuses(app.start("default", "wf"))) == ["go", "a", "both"]
    assert list(statuses(app.start("default", "wf", "other"))) == ["other", "b", "both"]


def test_a_disabled_node_passes_its_items_through(app: App) -> None:
    ran = run(app, workflow({"a": {"node_type": "Breaks", "disabled": True}, "b": "Mark"}, ["go a", "a b"]), [{"trail": ["x"]}])
    assert statuses(ran)["a"] == "disabled"
    assert ran.output == [{"trail": ["x", "b"], "came": 1}]


# -- failures


def test_a_failing_node_stops_the_run_and_is_named(app: App) -> None:
    ran = run(app, workflow({"a": "Fail", "b": "Mark"}, ["go a", "a b"]), [{"n": 7}])
    assert ran.status == "failed"
    assert ran.failure is not None
    assert (ran.failure.kind, ran.failure.node, ran.failure.message) == ("error", "a", 'node "a": no luck with 7')
    assert statuses(ran) == {"go": "succeeded", "a": "failed"}
    assert ran.output == []


def test_continue_puts_the_error_in_the_place_of_the_item(app: App) -> None:
    document = workflow({"a": {"node_type": "Fail", "params": {"on": 2}, "on_error": "continue"}}, ["go a"])
    ran = run(app, document, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert ran.status == "succeeded"
    assert ran.output[0] == {"n": 1}
    assert ran.output[2] == {"n": 3}
    assert ran.output[1] == {"error": {"type": "error", "message": 'node "a": no luck with 2', "node": "a", "item": {"n": 2}}}


def test_branch_sends_what_failed_by_the_exit_error_and_the_rest_by_main(app: App) -> None:
    document = workflow(
        {"a": {"node_type": "Fail", "params": {"on": 2}, "on_error": "branch"}, "good": "Mark", "bad": "Mark"},
        ["go a", "a good", "a bad error"],
    )
    ran = run(app, document, [{"n": 1}, {"n": 2}, {"n": 3}])
    took = {node.id: node.given for node in ran.nodes}
    assert took["good"] == [{"n": 1}, {"n": 3}]
    assert [item["error"]["item"] for item in took["bad"]] == [{"n": 2}]
    all_bad = run(app, document, [{"n": 2}])
    assert statuses(all_bad)["good"] == "skipped"
    none_bad = run(app, document, [{"n": 1}])
    assert statuses(none_bad)["bad"] == "skipped"


def test_a_node_that_takes_all_items_at_once_fails_as_one(app: App) -> None:
    document = workflow({"a": {"node_type": "FunLogic", "params": {"script": "error('no')"}, "on_error": "continue"}}, ["go a"])
    ran = run(app, document, [{"n": 1}, {"n": 2}])
    assert len(ran.output) == 1
    assert ran.output[0]["error"]["items"] == [{"n": 1}, {"n": 2}]
    assert ran.output[0]["error"]["type"] == "script"


def test_a_pin_that_fails_for_one_item_fails_only_that_item(app: App) -> None:
    node = {
        "node_type": "SimpleTableQuery",
        "params": {"query": "SELECT ? AS v"},
        "inputs": ["$json.n + 1"],
        "on_error": "continue",
    }
    ran = run(app, workflow({"a": node}, ["go a"]), [{"n": 1}, {"n": {}}, {"n": 3}])
    assert ran.output[0] == {"v": 2}
    assert ran.output[2] == {"v": 4}
    assert ran.output[1]["error"]["item"] == {"n": {}}


def test_a_mistake_in_a_node_is_told_without_its_inside(app: App, caplog: pytest.LogCaptureFixture) -> None:
    ran = run(app, workflow({"a": "Breaks"}, ["go a"]))
    assert ran.failure is not None
    assert ran.failure.kind == "internal"
    assert "secret inside" not in ran.failure.message
    assert "Traceback" in caplog.text


def test_what_the_world_refuses_for_now_is_told_apart(app: App) -> None:
    ran = run(app, workflow({"a": "Full"}, ["go a"]))
    assert ran.failure is not None
    assert ran.failure.kind == "unavailable"


# -- retry


def test_an_attempt_is_made_again_until_it_succeeds(app: App) -> None:
    node = {"node_type": "Fail", "params": {"times": 2}, "retry": {"attempts": 3, "delay": 0}}
    ran = run(app, workflow({"a": node}, ["go a"]), [{"n": 1}])
    assert ran.status == "succeeded"
    assert ran.nodes[1].attempts == 3


def test_the_last_failure_counts_when_no_attempt_succeeds(app: App) -> None:
    ran = run(app, workflow({"a": {"node_type": "Fail", "retry": {"attempts": 4, "delay": 0}}}, ["go a"]), [{"n": 1}])
    assert ran.status == "failed"
    assert ran.nodes[1].attempts == 4


@pytest.mark.parametrize(("on", "attempts"), [(["5xx"], 3), ([503], 3), (["error"], 3), (["timeout"], 1), ([429], 1), (["4xx", 500], 1)])
def test_only_errors_that_retry_names_are_tried_again(app: App, on: list[Any], attempts: int) -> None:
    node = {"node_type": "Fail", "params": {"status": 503}, "retry": {"attempts": 3, "delay": 0, "on": on}}
    ran = run(app, workflow({"a": node}, ["go a"]), [{"n": 1}])
    assert ran.nodes[1].attempts == attempts


def test_a_pause_that_would_outlast_the_run_ends_it_at_once(app: App) -> None:
    node = {"node_type": "Fail", "retry": {"attempts": 3, "delay": 3000, "max_delay": 3600}}
    ran = run(app, workflow({"a": node}, ["go a"], settings={"timeout": 60}), [{"n": 1}])
    assert ran.status == "timed_out"


# -- deadlines


def test_a_script_is_stopped_at_the_deadline_of_its_node(app: App) -> None:
    node = {"node_type": "FunLogic", "params": {"script": "while true do end"}, "timeout": 0.1}
    ran = run(app, workflow({"a": node}, ["go a"]))
    assert ran.status == "failed"
    assert ran.failure is not None
    assert ran.failure.kind == "timeout"


def test_a_script_is_stopped_at_the_deadline_of_the_run(app: App) -> None:
    node = {"node_type": "FunLogic", "params": {"script": "while true do end"}, "retry": {"attempts": 5}, "on_error": "continue"}
    ran = run(app, workflow({"a": node}, ["go a"], settings={"timeout": 0.2}))
    assert ran.status == "timed_out"
    assert ran.failure is not None
    assert ran.failure.message == 'the run took longer than the 0.2 s it is allowed; it was at node "a"'
    assert statuses(ran)["a"] == "timed_out"


def test_a_query_is_stopped_at_the_deadline_of_the_run(app: App) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    ran = run(app, workflow({"a": {"node_type": "SimpleTableQuery", "params": {"query": endless}}}, ["go a"], settings={"timeout": 0.2}))
    assert ran.status == "timed_out"


def test_a_run_that_is_out_of_time_begins_no_further_node(app: App) -> None:
    document = workflow({"a": {"node_type": "Nap", "params": {"seconds": 0.3}}, "b": "Mark"}, ["go a", "a b"], settings={"timeout": 0.2})
    ran = run(app, document)
    assert ran.status == "timed_out"
    assert statuses(ran) == {"go": "succeeded", "a": "succeeded", "b": "timed_out"}


def test_a_cancelled_run_begins_no_further_node(app: App) -> None:
    app.put("default", workflow({"a": {"node_type": "Meet"}, "b": "Mark"}, ["go a", "a b"]))
    done: list[Run] = []
    thread = threading.Thread(target=lambda: done.append(app.start("default", "wf")))
    thread.start()
    while not Meet.barriers or not (waiting := [b for b in Meet.barriers.values() if b.n_waiting]):
        time.sleep(0.001)
    assert app.cancel_all() == 1
    waiting[0].wait(timeout=30)
    thread.join(timeout=30)
    assert done[0].status == "cancelled"
    assert statuses(done[0]) == {"go": "succeeded", "a": "succeeded", "b": "cancelled"}


# -- branches


def test_independent_branches_run_at_the_same_time(app: App) -> None:
    nodes = {name: {"node_type": "Meet", "params": {"parties": 3}} for name in "abc"}
    ran = run(app, workflow({**nodes, "end": "Mark"}, ["go a", "go b", "go c", "a end", "b end", "c end"]))
    assert ran.status == "succeeded"
    assert ran.output[0]["came"] == 3


def test_without_helper_threads_branches_run_one_after_the_other(make_app: MakeApp) -> None:
    app = make_app(max_branches=0)
    ran = run(app, workflow({"a": "Mark", "b": "Mark", "end": "Mark"}, ["go a", "go b", "a end", "b end"]))
    assert [item["trail"] for item in ran.output] == [["a", "end"], ["b", "end"]]


def test_the_failure_that_counts_is_the_first_in_the_plan_whichever_came_first(app: App) -> None:
    slow_then_fail = {"slow": {"node_type": "Nap", "params": {"seconds": 0.05}}, "first": "Fail"}
    document = workflow({**slow_then_fail, "quick": "Fail", "after": "Mark"}, ["go slow", "slow first", "go quick", "quick after"])
    for _ in range(5):
        ran = run(app, document, [{"n": 1}])
        assert ran.failure is not None
        assert ran.failure.node == "first"
        assert "after" not in statuses(ran)


def test_many_wide_runs_at_once_do_not_block_each_other(app: App) -> None:
    names = [f"n{number}" for number in range(20)]
    document = workflow(dict.fromkeys(names, "Mark") | {"end": "Mark"}, [f"go {n}" for n in names] + [f"{n} end" for n in names])
    app.put("default", document)
    results: list[Run] = []
    threads = [threading.Thread(target=lambda: results.append(app.start("default", "wf"))) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 30
    assert all(ran.output[0]["came"] == 20 for ran in results)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 9))
    pairs = [(source, target) for target in range(1, count + 1) for source in range(target)]
    return count, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs())
def test_side_by_side_gives_what_one_after_the_other_gives(both: tuple[App, App], graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = graph
    names = ["go", *(f"n{number}" for number in range(1, count + 1))]
    document = workflow(dict.fromkeys(names[1:], "Mark"), [f"{names[a]} {names[b]}" for a, b in pairs])
    together, alone = (run(app, document, [{"trail": ["x"]}]) for app in both)
    assert together.output == alone.output
    assert [(node.id, node.status, node.exits) for node in together.nodes] == [(node.id, node.status, node.exits) for node in alone.nodes]


@pytest.fixture
def both(make_app: MakeApp, tmp_path: Any) -> tuple[App, App]:
    return make_app(max_branches=4), make_app(max_branches=0, data_dir=tmp_path / "alone")


# -- the record


def test_the_record_tells_what_each_node_took_and_gave(app: App) -> None:
    script = {
        "node_type": "FunLogic",
        "params": {"script": "log('seen', #data) return {n = #data}"},
        "outputs": {"m": "$json.n", "who": "$node.go.n"},
    }
    ran = run(app, workflow({"a": script}, ["go a"]), [{"n": 5}, {"n": 6}, {"n": 7}])
    shown = told(ran, 2)
    assert shown["status"] == "succeeded"
    assert shown["output"] == [{"m": 3, "who": 5}]
    node = shown["nodes"][1]
    assert (node["items_in"], node["items_out"], node["input"], node["attempts"]) == (3, {"main": 1}, [{"n": 5}, {"n": 6}], 1)
    assert node["log"] == ["seen 3"] or node["log"] == ["seen\t3"]
    assert shown["trigger"] == "manual"


def test_the_log_of_a_script_that_fails_is_kept(app: App) -> None:
    ran = run(app, workflow({"a": {"node_type": "FunLogic", "params": {"script": "log('before') error('no')"}}}, ["go a"]))
    assert ran.nodes[1].log == ["before"]


def test_run_ids_are_uuids_that_sort_by_time() -> None:
    import uuid

    moments = [1_000_000_000.0 + step * 0.001 for step in range(1000)]
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert len({new_run_id(5.0) for _ in range(1000)}) == 1000
    assert all(uuid.UUID(run_id).version == 7 and uuid.UUID(run_id).variant == uuid.RFC_4122 for run_id in ids)
