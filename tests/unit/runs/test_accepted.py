"""Runs that were accepted happen."""

from __future__ import annotations

import json

import pytest

from mechaway_core.errors import NotFound, Unavailable
from mechaway_core.runs import Later, runs
from mechaway_core.triggers import Call
from mechaway_core.web.answers import serve
from tests.unit.runs.home import ACT, Act, Home, accept, accepting, listed, node, post, run_id_in


def test_an_accepted_run_is_on_record_before_that_is_said_and_happens(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    answer = post(app, {"n": 5})
    run_id = run_id_in(answer)
    where = f"/api/runs/{run_id}"
    assert json.loads(answer.body) == {"run_id": run_id, "status": "queued", "location": where}
    assert answer.headers["location"] == where
    assert home.app("b").history.get("default", run_id)["status"] == "queued"
    assert Act.done == []
    assert home.work() == [run_id]
    record = app.history.get("default", run_id)
    assert (record["status"], record["output"][0]["n"], record["request"]["method"]) == ("succeeded", 5, "POST")


def test_a_run_that_cannot_be_put_on_record_is_not_accepted(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    home.records["a"].full = True
    for key in (None, "once"):
        with pytest.raises(Unavailable, match="the disk is full"):
            post(app, key=key)
    home.records["a"].full = False
    assert home.work() == []
    home.held["a"].full = True
    with pytest.raises(Unavailable, match="too many accepted runs"):
        post(app)
    assert listed(app) == []
    home.held["a"].full = False
    accept(app)
    assert len(home.work()) == len(Act.done) == 1


def test_files_of_a_run_that_could_not_be_accepted_go_again(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nhello\r\n--x--\r\n'
    upload = Call("POST", (), b"", [(b"content-type", b"multipart/form-data; boundary=x")], form)
    home.records["a"].full = True
    found = serve(app, "default", "w", upload)
    assert isinstance(found, Later)
    with pytest.raises(Unavailable):
        found.pending.wait()
    assert [path for path in (home.folder / "default" / "files").rglob("*") if path.is_file()] == []


def test_the_end_of_an_accepted_run_is_put_on_record_when_the_disk_takes_it(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT))
    run_id = accept(app)
    home.records["a"].full = True
    home.work()
    home.records["a"].full = False
    assert app.history.get("default", run_id)["status"] == "queued"
    app.runs.look_after()
    home.settled()
    assert app.history.get("default", run_id)["status"] == "succeeded"
    assert len(Act.done) == 1


def test_a_disk_that_was_away_as_an_accepted_run_was_to_begin_only_delays_it(home: Home) -> None:
    app = home.app()
    app.put("default", accepting(ACT, on_lost="fail"))
    run_id = accept(app)
    home.records["a"].full = True
    [(project, _)] = home.held["a"].started
    home.held["a"].started.clear()
    app.runs.work_off(project, run_id)
    assert Act.done == []
    home.records["a"].full = False
    app.runs.look_after()
    assert home.work() == [run_id]
    assert app.history.get("default", run_id)["status"] == "succeeded"


def test_the_version_that_was_accepted_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for held in (1000, 0):
        monkeypatch.setattr(runs, "HELD", held)
        app = home.app()
        app.put("default", accepting(node("act", "Act", params={"mark": "old"})))
        run_id = accept(app)
        app.put("default", accepting(node("act", "Act", params={"mark": "new"})))
        home.work()
        assert app.history.get("default", run_id)["output"][0]["mark"] == "old"


@pytest.mark.parametrize("policy", ["errors", "none"])
def test_an_accepted_run_that_is_not_to_be_kept_is_gone_when_it_is_over(home: Home, policy: str) -> None:
    app = home.app()
    app.put("default", accepting(ACT, record=policy))
    run_id = accept(app)
    home.work()
    with pytest.raises(NotFound):
        app.history.get("default", run_id)
    assert len(Act.done) == 1
