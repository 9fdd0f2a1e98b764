"""ErrorTrigger: a run because another one failed."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.errors import Invalid
from tests.nodes.bench import Bench, node


def alarm(**params: Any) -> dict[str, Any]:
    """A workflow that hears of failures."""
    return {"id": "alarm", "nodes": [node("ErrorTrigger", id="hear", **params)], "edges": []}


def test_by_hand_it_gives_the_items_that_it_is_given(bench: Bench) -> None:
    bench.app.put(bench.project, alarm())
    item = {"event": "failed", "run_id": "r", "error": {"type": "stop", "message": "no"}}
    assert bench.app.start(bench.project, "alarm", "hear", [item]).output == [item]


def test_a_workflow_may_have_other_triggers_beside_it(bench: Bench) -> None:
    document = alarm()
    document["nodes"] += [node("Webhook", id="hook", path="/"), node("FunLogic", id="work", script="return #data")]
    document["edges"] = [{"from": "hear", "to": "work"}, {"from": "hook", "to": "work"}]
    bench.app.put(bench.project, document)
    assert bench.app.start(bench.project, "alarm", "hear", [{}, {}]).output == [2]
    assert bench.app.start(bench.project, "alarm", "hook").output == [1]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"workflows": ["fine", "not an id"]}, "/nodes/0/params/workflows/1"),
        ({"workflows": "fine"}, "/nodes/0/params/workflows"),
        ({"events": []}, "/nodes/0/params/events"),
        ({"events": ["succeeded"]}, "/nodes/0/params/events/0"),
        ({"other": 1}, "/nodes/0/params/other"),
    ],
)
def test_what_it_cannot_hear_of_is_refused(app: App, params: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        app.put("default", alarm(**params))
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


@pytest.mark.parametrize("params", [{}, {"workflows": None}, {"workflows": []}, {"workflows": ["w"], "events": ["cancelled"]}])
def test_what_it_can_hear_of_is_kept_as_it_is_said(app: App, params: Any) -> None:
    errors, warnings = app.validate(alarm(**params))
    assert (errors, warnings) == ((), ())
