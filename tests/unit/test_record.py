"""Records of runs: ids that sort by time, times as people read them, items cut where they are many."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from mechaway_core.node import RunInfo
from mechaway_core.record import Failure, Run, iso, new_run_id

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


def test_a_failure_says_what_is_known_of_it() -> None:
    assert Failure("error", "no", "n", 503).as_json() == {"type": "error", "message": "no", "node": "n", "status": 503}
    assert Failure("timeout", "late").as_json() == {"type": "timeout", "message": "late"}


def test_a_run_can_be_asked_to_stop() -> None:
    record = run()
    record.cancel()
    assert record.cancelled
