"""Stop: the run ends here, as failed."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Invalid
from tests.nodes.bench import Bench, node
from tests.nodes.doorstep import Doorstep


def test_it_ends_the_run_with_a_message_of_its_own_kind(bench: Bench) -> None:
    run = bench.run(node("Stop", id="stop", message="order {{ $json.id }} is closed"), items=[{"id": 7}, {"id": 8}])
    assert run.status == "failed"
    assert run.failure is not None
    assert run.failure.as_json() == {"type": "stop", "message": 'node "stop": order 7 is closed', "node": "stop"}


def test_nothing_behind_it_runs_and_what_was_done_stays(bench: Bench) -> None:
    write = node("SimpleTableWriter", id="before", table="t", columns=["n"])
    run = bench.run(write, node("Stop"), node("SimpleTableWriter", id="after", table="t", columns=["n"]), items=[{"n": 1}])
    assert [record.id for record in run.nodes] == ["hook", "before", "Stop"]
    assert bench.sql("SELECT n FROM t") == [{"n": 1}]


def test_without_items_the_run_goes_on(bench: Bench) -> None:
    run = bench.run(node("Stop", message="{{ error('not asked') }}"), node("FunLogic", script="return #data"), items=[])
    assert run.failure is None, run.failure
    assert run.output == [0]


@pytest.mark.parametrize("item", [None, 0, "", {}, []])
def test_an_item_of_any_kind_stops_it(bench: Bench, item: Any) -> None:
    assert bench.fails(node("Stop"), items=[item]) == 'node "Stop": the workflow says stop'


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", "the workflow says stop"),
        ("{{ $json.nothing }}", "the workflow says stop"),
        ("{{ $json.list }}", "[1,true]"),
        ("{{ $json.n + 1 }} too many", "6 too many"),
    ],
)
def test_a_message_is_text_whatever_the_values_are(bench: Bench, message: str, said: str) -> None:
    assert bench.fails(node("Stop", message=message), items=[{"list": [1, True], "n": 5}]) == f'node "Stop": {said}'


def test_the_caller_of_a_webhook_gets_the_message(bench: Bench) -> None:
    bench.put(node("Respond", body="fine"), node("Stop", id="stop", message="no {{ $json.what }} today"))
    answer = Doorstep(bench.app).post(f"/p/{bench.project}/webhook/w", json={"what": "bread"})
    assert answer.status_code == 422
    said = answer.json()
    assert (said["node_id"], said["detail"]) == ("stop", 'node "stop": no bread today')


def test_one_that_is_disabled_lets_items_pass(bench: Bench) -> None:
    assert bench.gives(node("Stop", about={"disabled": True}), items=[{"a": 1}]) == [{"a": 1}]


@pytest.mark.parametrize(
    ("about", "pointer"),
    [
        ({"retry": {"attempts": 2}}, "/nodes/1/retry"),
        ({"on_error": "continue"}, "/nodes/1/on_error"),
        ({"on_error": "branch"}, "/nodes/1/on_error"),
    ],
)
def test_what_would_keep_it_from_stopping_is_not_saved(bench: Bench, about: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        bench.put(node("Stop", about=about))
    assert [(problem.pointer, problem.node) for problem in caught.value.problems] == [(pointer, "Stop")]
    assert "ends the run" in str(caught.value.problems[0])


def test_on_error_may_say_what_is_so_anyway(bench: Bench) -> None:
    assert "stop" in bench.fails(node("Stop", about={"on_error": "stop"}))
