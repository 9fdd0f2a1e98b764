"""One run for one request: `Idempotency-Key`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mechaway_core.errors import Busy, Invalid, Malformed, Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.node import Request, RunInfo
from mechaway_core.ports import ANY, Expect
from mechaway_core.triggers import idempotent
from mechaway_core.web.answers import serve
from tests.unit.runs.home import ACT, FAIL, GATE, PATIENCE, Act, Fail, Gate, Home, accepting, call, hooked, post, run_id_in


def test_the_same_request_with_the_same_key_has_the_same_answer_and_acts_once(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    first = post(app, key="k")
    again = post(home.app("b"), key="k")
    assert (again.status, again.body, again.content_type) == (first.status, first.body, first.content_type)
    assert run_id_in(again) == run_id_in(first)
    assert again.headers["mechaway-repeated"] == "true"
    assert "mechaway-repeated" not in first.headers
    assert len(Act.done) == 1
    assert run_id_in(post(app, key="another")) != run_id_in(first)
    assert run_id_in(post(app)) != run_id_in(first)


def test_another_request_with_the_same_key_is_refused(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    app.put("default", accepting(ACT, workflow_id="later"))
    for workflow_id in ("w", "later"):
        post(app, {"n": 1}, "k", workflow_id)
        with pytest.raises(Invalid, match="came with another request before"):
            post(app, {"n": 2}, "k", workflow_id)
        with pytest.raises(Invalid, match="came with another request before"):
            serve(app, "default", workflow_id, call({"n": 1}, "k", b"q=1"))
    home.work()
    assert len(Act.done) == 2


def test_while_the_first_goes_on_the_second_is_told_to_come_back(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(GATE, ACT))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(post, app, None, "k")
        assert Gate.came.acquire(timeout=PATIENCE)
        with pytest.raises(Busy, match="try again soon"):
            post(home.app("b"), key="k")
        Gate.open.set()
        first = future.result()
    assert post(app, key="k").body == first.body
    assert len(Act.done) == 1


def test_after_a_failure_the_same_key_gets_another_try(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(FAIL, ACT))
    assert post(app, key="k").status == 422
    Fail.on = False
    assert post(app, key="k").status == 200
    assert len(Act.done) == 1


def test_keys_are_texts_of_a_certain_length(home: Home) -> None:
    app = home.app()
    app.put("default", hooked(ACT))
    for key in ("x" * 255, "ключ 🔑", "ä".encode("latin-1"), '"quoted"', "../../x", " padded "):
        first = post(app, key=key)
        assert run_id_in(post(app, key=key)) == run_id_in(first), key
    assert len(set(Act.done)) == len(Act.done) == 6
    assert run_id_in(post(app, key="padded")) == run_id_in(post(app, key=" padded "))
    with pytest.raises(Malformed, match="longer than 255 characters"):
        post(app, key="x" * 256)
    assert run_id_in(post(app, key="")) != run_id_in(post(app, key="")), "an empty key is none"


def test_who_comes_after_a_run_that_was_cut_off_does_nothing_twice(home: Home) -> None:
    app = home.app(run_timeout=60.0)
    app.put("default", hooked(ACT))
    first = idempotent(call(key="k"), Request("POST", {}, {"idempotency-key": "k"}, {}), "the run that was cut off", 60.0)
    assert first is not None
    app.door.deliveries.claim("default", "w", "hook", first)
    with pytest.raises(Busy):
        post(app, key="k")
    home.time.seconds += 70
    answer = post(app, key="k")
    assert json.loads(answer.body)["key"] == RunInfo("the run that was cut off", "w", "default", "", "").key("act", 0)
    assert run_id_in(answer) != "the run that was cut off"


class Forgetful(FolderStore):
    """A store that takes the first word of a delivery and refuses the last."""

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        if key.startswith("deliveries/") and b'"done"' in data:
            raise Unavailable("the disk is full")
        return super().put(project, key, data, expect)


def test_an_accepted_run_is_found_although_nobody_noted_the_answer(home: Home) -> None:
    app = home.app(store=Forgetful)
    app.put("default", accepting(ACT))
    first = post(app, key="k")
    for worked in (False, True):
        if worked:
            home.work()
        for later in (0.0, 100.0):
            home.time.seconds += later
            again = post(home.app("b"), key="k")
            assert (again.status, run_id_in(again), again.headers["mechaway-repeated"]) == (202, run_id_in(first), "true")
    assert len(Act.done) == 1
    with pytest.raises(Invalid, match="another request"):
        post(home.app("b"), {"n": 2}, "k")
