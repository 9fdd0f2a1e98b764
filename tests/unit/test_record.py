"""Records of runs: ids that sort by time, times as people read them, items cut where they are many."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mechaway_core.node import Response, RunInfo
from mechaway_core.record import Failure, NodeRun, Run, iso, new_run_id

MOMENTS = st.floats(0, 4e9, allow_nan=False)


@given(MOMENTS)
@example(1.9999999)
@example(1_700_000_000.9999998)
@example(0.0)
@example(0.001)
def test_a_time_is_written_to_the_millisecond(moment: float) -> None:
    text = iso(moment)
    assert len(text) == len("2026-01-02T03:04:05.678Z")
    assert text.endswith("Z")
    read = datetime.fromisoformat(text)
    assert read.tzinfo == UTC
    assert abs(read.timestamp() - moment) <= 0.001


@given(MOMENTS, MOMENTS)
def test_times_sort_as_they_are_written(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert iso(earlier) <= iso(later)


@given(MOMENTS)
def test_the_id_of_a_run_is_a_uuid_of_version_seven_with_its_time_in_it(moment: float) -> None:
    run_id = new_run_id(moment)
    read = uuid.UUID(run_id)
    assert str(read) == run_id
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == int(moment * 1000)


@given(MOMENTS, st.floats(0.001, 1000))
def test_ids_sort_by_time(moment: float, later: float) -> None:
    assert new_run_id(moment) < new_run_id(moment + later + 0.001)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_run_id(5.0) for _ in range(1000)}) == 1000


def run(**about: object) -> Run:
    info = RunInfo("id", "w", "default", "2026-01-02T03:04:05.678Z", "manual")
    record = Run(info, 3, "hook", began=100.0)
    for name, value in about.items():
        setattr(record, name, value)
    return record


def test_a_record_says_what_each_node_took_and_gave() -> None:
    node = NodeRun("n", "FunLogic", attempts=2, took=0.0015, given=[1, 2, 3], exits={"main": [4, 5, 6], "error": [7]}, log=["x"])
    shown = run(status="succeeded", ended=101.5, nodes=[node], output=[4, 5, 6]).as_json(2)
    assert shown["took_ms"] == 1500.0
    assert shown["ended_at"] == "1970-01-01T00:01:41.500Z"
    assert (shown["run_id"], shown["workflow_id"], shown["version"], shown["status"]) == ("id", "w", 3, "succeeded")
    assert shown["output"] == [4, 5]
    assert shown["nodes"] == [
        {
            "id": "n",
            "node_type": "FunLogic",
            "status": "succeeded",
            "attempts": 2,
            "took_ms": 1.5,
            "items_in": 3,
            "items_out": {"main": 3, "error": 1},
            "input": [1, 2],
            "output": {"main": [4, 5], "error": [7]},
            "log": ["x"],
        }
    ]
    assert json.loads(json.dumps(shown)) == shown


def test_a_run_that_goes_on_has_no_end() -> None:
    shown = run(status="running").as_json(10)
    assert (shown["ended_at"], shown["took_ms"], shown["status"]) == (None, 0.0, "running")
    assert "error" not in shown
    assert "response" not in shown


def test_a_failure_and_an_answer_are_shown_when_there_are_any() -> None:
    failure = Failure("error", "no", "n", 503)
    shown = run(failure=failure, response=Response(201, {"a": "b"}, [1])).as_json(10)
    assert shown["error"] == {"type": "error", "message": "no", "node": "n", "status": 503}
    assert shown["response"] == {"status": 201, "headers": {"a": "b"}, "body": [1]}
    assert Failure("timeout", "late").as_json() == {"type": "timeout", "message": "late"}


@pytest.mark.parametrize("most", [0, 1, 100])
def test_lists_of_items_are_cut_and_counted_whole(most: int) -> None:
    shown = NodeRun("n", "X", given=list(range(5)), exits={"main": list(range(7))}).as_json(most)
    assert (len(shown["input"]), len(shown["output"]["main"])) == (min(5, most), min(7, most))
    assert (shown["items_in"], shown["items_out"]) == (5, {"main": 7})


def test_a_run_can_be_asked_to_stop() -> None:
    record = run()
    record.cancel()
    assert record.cancelled
