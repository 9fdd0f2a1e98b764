"""What is said about edges, cycles and triggers, and what is only warned of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from tests.unit.workflow.documents import (
    Document,
    Report,
    after_hook,
    assert_has,
    assert_says,
    chain,
    edge,
    errors,
    hook,
    look,
    lua,
    warnings,
)

# -- edges, cycles, triggers


@pytest.mark.parametrize("value", [None, 1, "hook", [], ["hook", "calc"]])
def test_an_edge_that_is_no_object_is_named_by_its_place(sandbox: Sandbox, value: Any) -> None:
    report = errors(sandbox, {"id": "w", "nodes": [hook()], "edges": [value]})
    assert_says(report, "/edges/0", None, "an edge is an object with from and to")


def test_edges_to_and_from_nothing_are_named_with_the_nearest_node(sandbox: Sandbox) -> None:
    document = {"id": "w", "nodes": [hook(), lua()], "edges": [edge("hok", "calc"), edge("hook", "clac"), edge("hook", "calc")]}
    report = errors(sandbox, document)
    assert_has(report, "/edges/0/from", None, 'no node "hok"', 'did you mean "hook"?')
    assert_has(report, "/edges/1/to", None, 'no node "clac"', 'did you mean "calc"?')
    assert len(report) == 2


def test_the_same_edge_twice_is_an_error_at_the_second(sandbox: Sandbox) -> None:
    document = {"id": "w", "nodes": [hook(), lua()], "edges": [edge("hook", "calc"), edge("hook", "calc", on="main")]}
    assert_says(errors(sandbox, document), "/edges/1", None, '"hook"', '"calc"', "already")


def test_two_edges_by_different_exits_are_two_edges(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a", on_error="branch"), lua("b"))
    document["edges"].append(edge("a", "b", on="error"))
    checked = look(sandbox, document)
    assert (checked.errors, checked.warnings) == ((), ())


@pytest.mark.parametrize("name", ["success", "Main", ""])
def test_an_exit_that_a_node_does_not_have_is_named_with_those_it_has(sandbox: Sandbox, name: str) -> None:
    document = {"id": "w", "nodes": [hook(), lua("a"), lua("b")], "edges": [edge("hook", "a"), edge("a", "b", on=name)]}
    assert_says(errors(sandbox, document), "/edges/1/on", "a", f'"{name}"', "main, error")


def test_an_edge_from_a_node_to_itself_is_a_cycle(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"))
    document["edges"].append(edge("a", "a"))
    assert_says(errors(sandbox, document), "/edges", None, "a → a")


def test_a_cycle_is_named_along_its_edges_from_its_first_node_in_the_document(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"), lua("b"), lua("c"), lua("after"))
    document["edges"].append(edge("c", "a"))
    assert_says(errors(sandbox, document), "/edges", None, "a → b → c → a")
    assert "hook" not in errors(sandbox, document)[0][2]
    assert "after" not in errors(sandbox, document)[0][2]


def test_every_cycle_that_stands_by_itself_is_named(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"), lua("b"), lua("c"), lua("d"))
    document["edges"] += [edge("b", "a"), edge("d", "d")]
    report = errors(sandbox, document)
    assert any("a → b → a" in message for _, _, message in report)
    assert any("d → d" in message for _, _, message in report)


def test_a_very_long_cycle_is_told_in_short(sandbox: Sandbox) -> None:
    document = chain(hook(), *(lua(f"n{number}") for number in range(100)))
    document["edges"].append(edge("n99", "n0"))
    [(_, _, message)] = errors(sandbox, document)
    assert "n0 → n1" in message
    assert message.endswith("→ n0")
    assert "…" in message
    assert len(message) < 300


@given(data=st.data())
def test_what_is_named_as_a_cycle_is_one(sandbox: Sandbox, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    pairs = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))))
    document = {
        "id": "w",
        "nodes": [lua(f"n{number}") for number in range(count)],
        "edges": [edge(f"n{source}", f"n{target}") for source, target in sorted(pairs)],
    }
    rings = [message.partition(": ")[2].split(" → ") for where, _, message in _structure(sandbox, document) if where == "/edges"]
    for ring in rings:
        assert ring[0] == ring[-1]
        assert len(set(ring)) == len(ring) - 1
        for source, target in pairwise(ring):
            assert (int(source[1:]), int(target[1:])) in pairs
    assert bool(rings) == _has_cycle(count, pairs)


def _structure(sandbox: Sandbox, document: Document) -> Report:
    """The errors of a document whose Lua is known to be good: nothing is sent to the sandbox."""
    for node in document["nodes"]:
        node["node_type"], node["params"] = "Respond", {}
    return errors(sandbox, document)


def _has_cycle(count: int, pairs: set[tuple[int, int]]) -> bool:
    left = set(range(count))
    while free := {number for number in left if not any(target == number and source in left for source, target in pairs)}:
        left -= free
    return bool(left)


def test_a_workflow_that_nothing_can_start_says_so(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, chain(lua("a"), lua("b"))), "/nodes", None, "no trigger", "Webhook")


def test_an_edge_into_a_trigger_is_an_error_at_the_trigger(sandbox: Sandbox) -> None:
    document = chain(hook("h1"), lua("a"), hook("h2", path="/b"))
    assert_says(errors(sandbox, document), "/nodes/2", "h2", "no edge can lead to it")


def test_a_trigger_takes_no_inputs(sandbox: Sandbox) -> None:
    assert_says(errors(sandbox, chain(hook(inputs=["1"]))), "/nodes/0/inputs", "hook", "takes no inputs")


# -- warnings


def test_a_node_that_no_trigger_leads_to_is_warned_of(sandbox: Sandbox) -> None:
    document = chain(hook(), lua("a"))
    document["nodes"] += [lua("lost"), lua("lost-too")]
    document["edges"].append(edge("lost", "lost-too"))
    checked = look(sandbox, document)
    assert checked.errors == ()
    assert [(one.pointer, one.node) for one in checked.warnings] == [("/nodes/2", "lost"), ("/nodes/3", "lost-too")]
    assert all("never runs" in one.message for one in checked.warnings)


def test_an_edge_by_error_from_a_node_that_does_not_branch_is_warned_of(sandbox: Sandbox) -> None:
    for on_error in ({}, {"on_error": "stop"}, {"on_error": "continue"}):
        document = chain(hook(), lua("a", **on_error), lua("b"))
        document["edges"].append(edge("a", "b", on="error"))
        assert errors(sandbox, document) == []
        assert_says(warnings(sandbox, document), "/edges/2/on", "a", '"error"', '"branch"')


def test_a_branch_that_no_edge_takes_on_is_warned_of(sandbox: Sandbox) -> None:
    document = after_hook(lua(on_error="branch"))
    assert errors(sandbox, document) == []
    assert_says(warnings(sandbox, document), "/nodes/1/on_error", "calc", '"error"', "no edge")


def test_a_webhook_whose_run_may_outlast_the_front_door_is_warned_of(sandbox: Sandbox) -> None:
    document = chain(hook(), lua(), settings={"timeout": 60})
    assert warnings(sandbox, document) == []
    assert warnings(sandbox, document, Settings(front_door_timeout=60)) == []
    assert_says(warnings(sandbox, document, Settings(front_door_timeout=29)), "/nodes/0", "hook", "60 s", "29 s")


def test_warnings_do_not_stand_among_errors(sandbox: Sandbox) -> None:
    checked = look(sandbox, {"id": "w", "nodes": [hook(), lua("lost", script="return (")]})
    assert_says([(one.pointer, one.node, one.message) for one in checked.errors], "/nodes/1/params/script", "lost", "compile")
    assert [one.node for one in checked.warnings] == ["lost"]
