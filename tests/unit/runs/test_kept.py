"""Which runs are put on record, and what callers get when they cannot be."""

from __future__ import annotations

import pytest

from mechaway_core.errors import Unavailable
from tests.told import told
from tests.unit.runs.home import ACT, FAIL, Act, Home, by_hand, hooked, listed, post, run_id_in


@pytest.mark.parametrize(
    ("server", "workflow", "well", "badly"),
    [
        ("all", None, True, True),
        ("errors", None, False, True),
        ("none", None, False, False),
        ("none", "all", True, True),
        ("none", "errors", False, True),
        ("all", "errors", False, True),
        ("all", "none", False, False),
    ],
)
def test_runs_are_kept_as_their_workflow_says_or_else_the_server(
    home: Home, server: str, workflow: str | None, well: bool, badly: bool
) -> None:
    app = home.app(record=server)
    settings = {} if workflow is None else {"record": workflow}
    app.put("default", by_hand(ACT, workflow_id="well", **settings))
    app.put("default", by_hand(FAIL, workflow_id="badly", **settings))
    for workflow_id, kept in (("well", well), ("badly", badly)):
        run = app.start("default", workflow_id)
        assert [one["run_id"] for one in listed(app, workflow_id=workflow_id)] == ([run.info.id] if kept else [])


def test_what_is_kept_is_what_the_starter_got(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, FAIL))
    run = app.start("default", "w", items=[{"n": 1}, {"n": 2}])
    found, live = app.history.get("default", run.info.id), told(run, 100)
    for name in ("run_id", "workflow_id", "version", "status", "trigger", "start_node", "started_at", "ended_at", "took_ms", "error"):
        assert found[name] == live[name], name
    assert [{**one, "at_ms": 0} for one in found["nodes"]] == [{**one, "at_ms": 0} for one in live["nodes"]]


def test_nobody_hears_of_a_run_that_is_not_on_record(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    home.records["a"].full = True
    for key in (None, "once"):
        with pytest.raises(Unavailable, match="the disk is full"):
            post(app, key=key)
    home.records["a"].full = False
    first, again = post(app, key="once"), post(app, key="once")
    assert (first.status, run_id_in(first)) == (200, run_id_in(again))
    assert len(Act.done) == 3


def test_a_full_disk_is_no_obstacle_where_nothing_is_kept(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT, record="none"))
    home.records["a"].full = True
    assert post(app).status == 200
