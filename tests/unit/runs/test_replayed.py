"""Runs again."""

from __future__ import annotations

from typing import Any

import pytest

from mechaway_core.errors import Conflict, Invalid, NotFound
from mechaway_core.node import Items, RunInfo
from mechaway_core.ports import RunQuery
from mechaway_core.record import Run
from mechaway_core.runs import Later, replay
from mechaway_core.runs.replay import Wish, replay_all
from mechaway_core.web.answers import serve
from tests.unit.runs.home import ACT, FAIL, Act, Fail, Home, by_hand, call, chain, hooked, listed, node, statuses


def replayed(home: Home, run_id: str, *wish: Any, project: str = "default", **others: Any) -> dict[str, Any]:
    """The record of a run that repeats another one."""
    again = home.app().history.replay(project, run_id, Wish(*wish, **others))
    home.work()
    record = home.app().history.get(project, again.info.id)
    assert (record["trigger"], record["parent"]) == ("replay", run_id)
    return record


def broken(home: Home, *, items: Items | None = None) -> str:
    """The id of a run that failed at its third node."""
    home.app().put("default", by_hand(ACT, FAIL, node("last", "Act")))
    return home.app().start("default", "w", items=items).info.id


def test_a_run_goes_on_from_where_it_failed_with_what_it_had(home: Home) -> None:
    first = broken(home, items=[{"n": 1}, {"n": 2}])
    assert len(Act.done) == 2
    record = replayed(home, first)
    assert (record["status"], len(Act.done)) == ("failed", 2), "it fails again, and nothing before it acts again"
    Fail.on = False
    record = replayed(home, first)
    assert record["status"] == "succeeded"
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, True, False, False]
    assert [item["n"] for item in record["output"]] == [1, 2]
    assert len(Act.done) == 4
    info = RunInfo(first, "w", "default", "", "")
    assert [item["key"] for item in record["output"]] == [info.key("last", number) for number in range(2)], (
        "what carries keys is not done twice"
    )


def test_a_replay_that_failed_can_be_replayed_and_keeps_the_keys_of_the_first(home: Home) -> None:
    first = broken(home)
    second = replayed(home, first)
    Fail.on = False
    third = replayed(home, second["run_id"])
    assert third["output"][0]["key"] == RunInfo(first, "w", "default", "", "").key("last", 0)


def test_from_the_start_everything_is_done_again_with_keys_of_its_own(home: Home) -> None:
    first = broken(home, items=[{"n": 5}])
    Fail.on = False
    record = replayed(home, first, "start")
    assert not any(one.get("replayed") for one in record["nodes"])
    assert record["nodes"][0]["input"] == [{"n": 5}]
    assert record["output"][0]["key"] == RunInfo(record["run_id"], "w", "default", "", "").key("last", 0)
    assert replayed(home, first, "start", items=[{"n": 6}, {"n": 7}])["nodes"][0]["input"] == [{"n": 6}, {"n": 7}]


def test_from_a_node_all_behind_it_is_done_again_with_what_it_took_or_is_given(home: Home) -> None:
    first = broken(home, items=[{"n": 5}])
    Fail.on = False
    record = replayed(home, first, "act")
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, False, False, False]
    record = replayed(home, first, "fail", items=[{"n": 8}])
    taken = {one["id"]: one["input"] for one in record["nodes"]}
    assert taken["fail"] == [{"n": 8}]
    assert taken["act"] == [{"n": 5}]
    assert record["output"][0]["n"] == 8
    assert not any(one.get("replayed") for one in replayed(home, first, "go")["nodes"])


def test_from_a_node_nothing_runs_that_does_not_come_after_it(home: Home) -> None:
    first = broken(home, items=[{"n": 5}])  # it never came to its last node
    with pytest.raises(Invalid, match='never came to node "last"'):
        home.app().history.replay("default", first, Wish("last"))
    acted = len(Act.done)
    record = replayed(home, first, "last", items=[{"n": 9}])
    assert statuses(record) == {"go": "succeeded", "act": "succeeded", "fail": "skipped", "last": "succeeded"}
    assert (record["status"], record["output"][0]["n"], len(Act.done)) == ("succeeded", 9, acted + 1)


def test_the_current_version_runs_again_or_the_same(home: Home) -> None:
    first = broken(home)
    app = home.app()
    app.put("default", by_hand(ACT, node("fail", "Act", params={"mark": "mended"})))
    record = replayed(home, first)
    assert (record["version"], record["status"], record["output"][0]["mark"]) == (2, "succeeded", "mended")
    record = replayed(home, first, version="same")
    assert (record["version"], record["status"]) == (1, "failed")
    Fail.on = False
    assert replayed(home, first, "start", "same")["output"][0]["mark"] == ""


def test_branches_that_failed_at_the_same_time_are_both_done_again(home: Home) -> None:
    app = home.app()
    document = by_hand(node("left", "FailTogether"), node("end", "Act"))
    document["nodes"].insert(2, node("right", "FailTogether"))
    document["edges"] += [{"from": "go", "to": "right"}, {"from": "right", "to": "end"}]
    app.put("default", document)
    run = app.start("default", "w", items=[{"n": 1}])
    assert [(one.id, one.status) for one in run.nodes] == [("go", "succeeded"), ("left", "failed"), ("right", "failed")]
    Fail.on = False
    again = replayed(home, run.info.id)
    assert statuses(again) == dict.fromkeys(("go", "left", "right", "end"), "succeeded")
    assert [item["n"] for item in again["output"]] == [1, 1]
    assert [one["id"] for one in again["nodes"] if one.get("replayed")] == ["go"]


def test_what_cannot_be_run_again_is_said(home: Home) -> None:
    app = home.app()
    first = broken(home)
    app.put("default", by_hand(ACT, workflow_id="well"))
    well = app.start("default", "well").info.id
    with pytest.raises(Conflict, match='succeeded; to run it again, say from: "start" or a node'):
        app.history.replay("default", well, Wish())
    with pytest.raises(Invalid, match='there is no node "lost" in version 1'):
        app.history.replay("default", first, Wish("lost"))
    document = chain("w", node("go", "Begin"), ACT)
    document["nodes"] += [node("new", "Begin"), node("apart", "Act")]
    document["edges"].append({"from": "new", "to": "apart"})
    app.put("default", document)
    with pytest.raises(Invalid, match='failed at node "fail", which the workflow does not have any more'):
        app.history.replay("default", first, Wish())
    with pytest.raises(Invalid, match='no run that begins at "go" comes to node "apart"'):
        app.history.replay("default", first, Wish("apart"))
    app.put("default", chain("w", node("other", "Begin"), FAIL))
    with pytest.raises(Invalid, match='has no trigger "go"'):
        app.history.replay("default", first, Wish("start"))
    assert app.history.replay("default", first, Wish(version="same")).version == 1
    app.delete("default", "w")
    for version in ("same", "current"):
        with pytest.raises(NotFound, match='there is no workflow "w"'):
            app.history.replay("default", first, Wish("start", version))


def test_what_is_hidden_cannot_be_run_again_but_with_items(home: Home) -> None:
    app = home.app()
    app.put("default", by_hand(ACT, FAIL, redact=["card"]))
    hidden = app.start("default", "w", items=[{"n": 1, "card": "4111"}]).info.id
    plain = app.start("default", "w", items=[{"n": 1}]).info.id
    for wish in (Wish(), Wish("start"), Wish("act"), Wish("fail", items=[{}])):
        with pytest.raises(Invalid, match="lacks what redact names"):
            app.history.replay("default", hidden, wish)
    assert replayed(home, hidden, "start", items=[{"n": 2}])["status"] == "failed"
    assert replayed(home, plain)["status"] == "failed"


def test_values_that_were_deleted_by_now_are_named(home: Home) -> None:
    app = home.app(record_kb=1.0)
    big = node("big", "FunLogic", params={"script": "return {text = string.rep('x', 50000)}"})
    app.put("default", by_hand(big, FAIL, node("last", "Act")))
    first = app.start("default", "w").info.id
    Fail.on = False
    assert replayed(home, first)["status"] == "succeeded"
    for path in (home.folder / "default" / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(NotFound, match="kept as a file, which was deleted by now"):
        app.history.replay("default", first, Wish())
    assert replayed(home, first, "start")["status"] == "succeeded"


def test_a_replay_is_kept_as_an_accepted_run_is(home: Home) -> None:
    first = broken(home)
    Fail.on = False
    again = home.app().history.replay("default", first, Wish()).info.id
    other = home.app("b")
    assert other.runs.take_over("default", "a", 9e9) == 1
    home.work("b")
    record = other.history.get("default", again)
    assert (record["status"], record["parent"], record["attempt"]) == ("succeeded", first, 2)
    assert [one.get("replayed", False) for one in record["nodes"]] == [True, True, False, False]
    assert record["output"][0]["key"] == RunInfo(first, "w", "default", "", "").key("last", 0)


def test_all_that_a_filter_finds_run_again_or_are_only_told(home: Home) -> None:
    app = home.app()
    ids = []
    for _ in range(5):
        home.time.seconds += 1
        ids.append(broken(home))
    app.put("default", by_hand(ACT, workflow_id="well"))
    app.start("default", "well")
    query = RunQuery(statuses=("failed",), limit=2)
    told = app.history.replay_all("default", query, Wish(), act=False)
    assert told.as_json() == {"runs": [{"run_id": one} for one in ids], "count": 5, "more": False}
    assert home.held["a"].started == []
    Fail.on = False
    done = app.history.replay_all("default", query, Wish(), act=True)
    assert [(one, problem) for one, _, problem in done.runs] == [(one, None) for one in ids]
    assert home.work() == [again for _, again, _ in done.runs]
    assert {one["run_id"]: one["parent"] for one in listed(app, trigger="replay")} == {again: one for one, again, _ in done.runs}
    everything = app.history.replay_all("default", RunQuery(workflow_id="well"), Wish(), act=True)
    assert "succeeded; to run it again" in str(everything.runs[0][2])


def test_a_replay_of_many_is_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replay.MOST == 1000
    monkeypatch.setattr(replay, "MOST", 3)
    ids = []
    for _ in range(5):
        home.time.seconds += 1
        ids.append(broken(home))
    found = replay_all(home.app().runs, "default", RunQuery(), Wish(), act=False)
    assert [one for one, _, _ in found.runs] == ids[2:]
    assert found.more


def test_a_replay_of_a_run_by_webhook_has_its_request(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(FAIL, node("look", "FunLogic", params={"script": "return {q = query.q}"})))
    found = serve(app, "default", "w", call({"n": 1}, query=b"q=x"))
    assert isinstance(found, Later)
    found.pending.wait()
    Fail.on = False
    assert replayed(home, listed(app)[0]["run_id"])["output"] == [{"q": "x"}]


def test_runs_are_of_one_project(home: Home) -> None:
    app = home.app()
    app.create_project("other")
    app.put("other", by_hand(FAIL))
    run: Run = app.start("other", "w")
    assert listed(app) == []
    assert [one["run_id"] for one in listed(app, "other")] == [run.info.id]
    Fail.on = False
    assert replayed(home, run.info.id, project="other")["status"] == "succeeded"
