"""The compiled plan: order, starts, routes and retries."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.errors import Invalid
from mechaway_core.workflow import Plan, Retry, Route, canonical, compile_plan
from mechaway_core.workflow.plan import methods_of, reachable, segments_of, topological
from mechaway_core.workflow.shape import RetryShape

Document = dict[str, Any]


def hook(node_id: str, path: str = "", **more: Any) -> Document:
    return {"id": node_id, "node_type": "Webhook", "params": {"path": path or f"/{node_id}"}} | more


def step(node_id: str, **more: Any) -> Document:
    return {"id": node_id, "node_type": "FunLogic", "params": {"script": "data"}} | more


def plan(nodes: list[Document], edges: list[tuple[str, ...]], **more: Any) -> Plan:
    written = [dict(zip(("from", "to", "on"), edge, strict=False)) for edge in edges]
    return compile_plan(canonical({"id": "w", "nodes": nodes, "edges": written} | more), 7)


# -- order


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """A graph without cycles whose numbers are in no particular order, with its edges in no particular order."""
    count = draw(st.integers(1, 9))
    names = draw(st.permutations(range(count)))
    pairs = [(source, target) for source in range(count) for target in range(source + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=14)) if pairs else []
    return count, [(names[source], names[target]) for source, target in chosen]


@given(graphs())
def test_every_edge_points_forward_and_every_node_stands_once(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    order, left = topological(count, edges)
    assert left == []
    assert sorted(order) == list(range(count))
    assert all(order.index(source) < order.index(target) for source, target in edges)


@given(graphs())
def test_where_there_is_a_choice_the_order_is_that_of_the_document(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    order, _ = topological(count, edges)
    done: set[int] = set()
    for number in order:
        ready = [one for one in range(count) if one not in done and all(source in done for source, target in edges if target == one)]
        assert number == min(ready)
        done.add(number)


@given(graphs(), st.randoms())
def test_the_order_of_the_edges_makes_no_difference(graph: tuple[int, list[tuple[int, int]]], chance: Any) -> None:
    count, edges = graph
    shuffled = list(edges)
    chance.shuffle(shuffled)
    assert topological(count, shuffled) == topological(count, edges)


@given(
    st.integers(1, 6).flatmap(
        lambda count: st.tuples(st.just(count), st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))))
    )
)
def test_what_is_left_over_is_in_a_cycle_or_behind_one(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    order, left = topological(count, edges)
    assert sorted(order + left) == list(range(count))
    for number in left:
        assert any(target == number and source in left for source, target in edges)
    assert all(source in order for source, target in edges if target in order)


@given(graphs(), st.integers(0, 8))
def test_reachable_is_what_a_walk_meets(graph: tuple[int, list[tuple[int, int]]], start: int) -> None:
    count, edges = graph
    start %= count
    met, before = {start}, set[int]()
    while met != before:
        before = set(met)
        met |= {target for source, target in edges if source in met}
    assert reachable([start], [[target for source, target in edges if source == number] for number in range(count)]) == met


# -- the plan


def test_steps_stand_in_order_and_know_their_parents_in_the_order_of_the_edges() -> None:
    nodes = [step("last"), step("b"), hook("h"), step("a")]
    found = plan(nodes, [("h", "a"), ("h", "b"), ("b", "last", "error"), ("a", "last")])
    assert [one.id for one in found.steps] == ["h", "b", "a", "last"]
    assert [one.index for one in found.steps] == [0, 1, 2, 3]
    assert found.index == {"h": 0, "b": 1, "a": 2, "last": 3}
    assert found.steps[3].parents == ((1, "error"), (2, "main"))
    assert found.steps[0].parents == ()


def test_a_plan_knows_what_the_document_says_of_the_workflow() -> None:
    found = plan([hook("h")], [], name="N", active=False, settings={"timeout": 3})
    assert (found.workflow_id, found.name, found.version, found.active, found.timeout) == ("w", "N", 7, False, 3)
    plain = plan([hook("h")], [])
    assert (plain.name, plain.active, plain.timeout) == ("w", True, None)


def test_a_step_knows_what_the_document_says_of_the_node() -> None:
    about = {"disabled": True, "timeout": 2.5, "on_error": "branch", "outputs": {"a": "$json.a"}}
    found = plan([hook("h"), step("a", **about), step("b")], [("h", "a"), ("h", "b")])
    a, b = found.steps[1], found.steps[2]
    assert (a.disabled, a.timeout, a.on_error) == (True, 2.5, "branch")
    assert a.outputs is not None
    assert a.outputs.names == ("a",)
    assert (b.disabled, b.timeout, b.on_error, b.outputs, b.inputs, b.retry) == (False, None, "stop", None, None, Retry())


def test_a_plan_says_when_this_server_cannot_run_it() -> None:
    for node, words in (
        ({"id": "x", "node_type": "Gone", "params": {}}, "Gone"),
        ({"id": "x", "node_type": "FunLogic", "params": {"script": "1", "newer": 1}}, "newer"),
        ({"id": "x", "node_type": "FunLogic", "params": {"script": "1"}, "inputs": ["$nope"]}, "nope"),
    ):
        with pytest.raises(Invalid, match=words) as refused:
            plan([hook("h"), node], [])
        assert '"x"' in str(refused.value)


@given(graphs())
def test_a_start_holds_what_its_trigger_can_reach_in_order(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    # Every number is a step; a webhook stands before each of them in turn.
    nodes = [step(f"n{number}") for number in range(count)] + [hook("h")]
    for first in range(count):
        found = plan(nodes, [*((f"n{source}", f"n{target}") for source, target in edges), ("h", f"n{first}")])
        start = found.start(found.index["h"])
        ids = [found.steps[index].id for index in start.order]
        below = [[target for source, target in edges if source == number] for number in range(count)]
        assert ids[0] == "h"
        assert {int(one[1:]) for one in ids[1:]} == reachable([first], below)
        assert list(start.order) == sorted(start.order)
        reached = {found.index[one] for one in ids}
        direct = {(parent, one.index) for one in found.steps for parent, _ in one.parents if parent in reached and one.index in reached}
        assert start.chain == all(pair in direct for pair in pairwise(start.order))
        assert found.start(found.index["h"]) is start


def test_branches_are_no_chain_and_a_shortcut_does_not_make_one() -> None:
    nodes = [hook("h"), step("a"), step("b"), step("c")]
    assert plan(nodes, [("h", "a"), ("a", "b"), ("b", "c")]).start(0).chain
    assert plan(nodes, [("h", "a"), ("a", "b"), ("b", "c"), ("h", "c"), ("a", "c")]).start(0).chain
    assert not plan(nodes, [("h", "a"), ("h", "b"), ("a", "c"), ("b", "c")]).start(0).chain
    assert plan([hook("h")], []).start(0).chain


def test_each_trigger_has_a_start_of_its_own() -> None:
    found = plan([hook("h"), hook("i"), step("a"), step("b")], [("h", "a"), ("i", "b"), ("i", "a")])
    ids = {trigger.id: [found.steps[index].id for index in found.start(trigger.index).order] for trigger in found.triggers}
    assert ids == {"h": ["h", "a"], "i": ["i", "a", "b"]}


# -- routes


def match(found: Plan, path: str, method: str = "POST") -> tuple[str, dict[str, str]] | None:
    for route in found.routes:
        named = route.match(segments_of(path))
        if named is not None and route.takes(method):
            return found.steps[route.step].id, named
    return None


def test_fixed_segments_come_before_named_ones_whatever_the_order_of_the_document() -> None:
    hooks = [hook("any", "/:a/:b"), hook("half", "/posts/:id"), hook("fixed", "/posts/new"), hook("other", "/:x/new")]
    for order in permutations(hooks):
        found = plan(list(order), [])
        assert match(found, "/posts/new") == ("fixed", {})
        assert match(found, "/posts/7") == ("half", {"id": "7"})
        assert match(found, "/pages/new") == ("other", {"x": "pages"})
        assert match(found, "/pages/7") == ("any", {"a": "pages", "b": "7"})


@pytest.mark.parametrize(
    ("path", "given_path", "named"),
    [
        ("/", "/", {}),
        ("", "/", {}),
        ("/grade", "grade", {}),
        ("/grade/", "/grade", {}),
        ("/grade", "/grade/", {}),
        ("/a/:b", "/a/x", {"b": "x"}),
        ("/a/:b", "/a/x%20y", {"b": "x y"}),
        ("/a/:b", "/a/x%2Fy", {"b": "x/y"}),
        ("/a/:b", "/a/%C3%A4", {"b": "ä"}),
        ("/a/:b", "/a/+", {"b": "+"}),
        ("/ä", "/%C3%A4", {}),
        ("/a-b", "/%61%2Db", {}),
        ("/a", "/A", None),
        ("/a", "/a/b", None),
        ("/a/b", "/a", None),
        ("/a/:b", "/a", None),
        ("/a/:b", "/a/x/y", None),
        ("/a", "/", None),
        ("/a/b", "/a%2Fb", None),
    ],
)
def test_a_path_meets_a_route_or_it_does_not(path: str, given_path: str, named: dict[str, str] | None) -> None:
    found = plan([hook("h", path) if path else {"id": "h", "node_type": "Webhook", "params": {"path": ""}}], [])
    assert match(found, given_path) == (None if named is None else ("h", named))


def test_a_named_part_is_never_empty() -> None:
    assert Route(0, ("a", ":b"), ("POST",)).match(("a", "")) is None


@given(st.text(min_size=1).filter(lambda text: text.strip("/")))
def test_whatever_text_is_encoded_comes_back_by_its_name(text: str) -> None:
    assert Route(0, (":name",), ("POST",)).match((quote(text, safe=""),)) == {"name": text}


def test_methods_are_what_was_written_in_capitals_each_once() -> None:
    assert methods_of(None) == ("POST",)
    assert methods_of("get") == ("GET",)
    assert methods_of(["get", "GET", "put"]) == ("GET", "PUT")
    assert Route(0, (), methods_of("any")).takes("DELETE")
    assert Route(0, (), methods_of(["any", "GET"])).takes("PUT")
    assert not Route(0, (), methods_of("get")).takes("POST")


def test_a_disabled_webhook_has_no_route() -> None:
    assert plan([hook("h", disabled=True), hook("i")], []).routes == (Route(1, ("i",), ("POST",)),)


# -- retry


@given(
    attempts=st.integers(1, 100),
    delay=st.floats(0, 3600),
    backoff=st.floats(1, 10),
    most=st.floats(0, 3600),
    attempt=st.integers(1, 99),
    chance=st.floats(0, 1),
)
def test_a_pause_grows_within_its_bounds(attempts: int, delay: float, backoff: float, most: float, attempt: int, chance: float) -> None:
    retry = Retry(attempts, delay, backoff, most)
    pause = retry.pause(attempt, chance)
    assert 0 <= pause <= most
    assert min(most, delay) / 2 <= retry.pause(1, chance) <= min(most, delay)
    assert retry.pause(attempt + 1, chance) >= pause
    assert retry.pause(attempt, 0) <= pause <= retry.pause(attempt, 1)


@pytest.mark.parametrize(
    ("on", "kind", "status", "expected"),
    [
        ((), "error", None, True),
        ((), "script", 404, True),
        (("timeout",), "timeout", None, True),
        (("timeout",), "error", None, False),
        ((429,), "error", 429, True),
        ((429,), "error", 428, False),
        ((429,), "error", None, False),
        (("5xx",), "error", 500, True),
        (("5xx",), "error", 599, True),
        (("5xx",), "error", 499, False),
        (("5xx",), "error", None, False),
        (("4xx", 503), "error", 404, True),
        (("4xx", 503), "error", 503, True),
        (("4xx", 503), "timeout", None, False),
        (("query", "script"), "script", None, True),
    ],
)
def test_a_retry_is_for_the_errors_it_names(on: tuple[str | int, ...], kind: str, status: int | None, expected: bool) -> None:
    assert Retry(on=on).applies_to(kind, status) is expected


def test_a_node_without_retry_is_tried_once() -> None:
    assert plan([hook("h"), step("a")], []).steps[1].retry.attempts == 1


@pytest.mark.parametrize("written", [{}, {"delay": 0}, {"on": ["timeout"]}, {"attempts": None}])
def test_a_retry_that_names_no_attempts_makes_three_as_its_help_says(written: Document) -> None:
    retry = plan([hook("h"), step("a", retry=written)], []).steps[1].retry
    assert retry.attempts == RetryShape.model_validate({}).attempts == 3


def test_the_defaults_of_a_retry_are_those_that_its_help_says() -> None:
    retry, said = plan([hook("h"), step("a", retry={"attempts": 2})], []).steps[1].retry, RetryShape.model_validate({"attempts": 2})
    assert (retry.attempts, retry.delay, retry.backoff, retry.max_delay, list(retry.on)) == (
        said.attempts,
        said.delay,
        said.backoff,
        said.max_delay,
        said.on,
    )
