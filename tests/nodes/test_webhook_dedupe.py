"""One run for each delivery."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from mechaway_core.errors import Invalid
from mechaway_core.local import build
from mechaway_core.node import Context, Items, Node
from mechaway_core.settings import Settings
from tests.nodes.bench import Bench, node
from tests.nodes.doorstep import Doorstep

BY_HEADER = {"header": "X-Delivery"}


@pytest.fixture
def step(bench: Bench) -> Doorstep:
    return Doorstep(bench.app)


@pytest.fixture
def address(bench: Bench) -> str:
    return f"/p/{bench.project}/webhook/w"


def put(bench: Bench, dedupe: Any, *nodes: dict[str, Any], **params: Any) -> None:
    """A workflow that stores a row for each run."""
    writer = node("SimpleTableWriter", table="runs", columns=["n"], inputs=["$json.n"])
    bench.put(*(nodes or (writer,)), hook=node("Webhook", id="hook", path="/", dedupe=dedupe, **params))


def rows(bench: Bench) -> int:
    found = bench.sql("SELECT count(*) AS n FROM runs")[0]["n"]
    assert isinstance(found, int)
    return found


def test_a_delivery_that_comes_again_gets_the_answer_of_the_first(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER)
    first = step.post(address, json={"n": 1}, headers={"x-delivery": "a"})
    again = step.post(address, json={"n": 1}, headers={"x-delivery": "a"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["mechaway-run-id"] == first.headers["mechaway-run-id"]
    assert (first.headers.get("mechaway-repeated"), again.headers["mechaway-repeated"]) == (None, "true")
    assert step.post(address, json={"n": 2}, headers={"x-delivery": "b"}).json()["n"] == 2
    assert rows(bench) == 2


def test_or_is_refused(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER | {"answer": "refuse"})
    assert step.post(address, json={"n": 1}, headers={"x-delivery": "a"}).status_code == 200
    assert step.post(address, json={"n": 1}, headers={"x-delivery": "a"}).status_code == 409
    assert rows(bench) == 1


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("{{ $json.id }}", {"json": {"id": 7, "n": 1}}, {"json": {"id": 8, "n": 1}}),
        ("{{ $headers.x-id }}:{{ $query.page }}", {"headers": {"x-id": "1"}, "params": {"page": 2}}, {"headers": {"x-id": "1"}}),
        ("{{ string.lower($json.id) }}", {"json": {"id": "A"}}, {"json": {"id": "b"}}),
        ("{{ $json }}", {"json": {"id": [1, None]}}, {"json": {"id": [1]}}),
    ],
)
def test_an_expression_says_what_makes_deliveries_the_same(
    bench: Bench, step: Doorstep, address: str, key: str, same: Any, other: Any
) -> None:
    put(bench, {"key": key})
    answers = [step.post(address, **request) for request in (same, same, other)]
    assert [answer.status_code for answer in answers] == [200, 200, 200], answers[0].text
    assert [answer.headers.get("mechaway-repeated") for answer in answers] == [None, "true", None]


def test_a_call_that_does_not_say_which_delivery_it_is_is_refused(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER)
    for headers in ({}, {"x-delivery": ""}):
        answer = step.post(address, json={}, headers=headers)
        assert answer.status_code == 400
        assert "delivery" in answer.json()["detail"]
    put(bench, {"key": "{{ error('no') }}"})
    assert step.post(address, json={}).status_code == 422


def test_a_run_that_failed_may_be_delivered_again(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER, node("FunLogic", script="if data.fail then error('x') end return data"))
    headers = {"x-delivery": "a"}
    assert step.post(address, json={"fail": True}, headers=headers).status_code == 422
    assert step.post(address, json={"ok": True}, headers=headers).json() == {"ok": True}
    assert step.post(address, json={"fail": True}, headers=headers).json() == {"ok": True}


def test_a_body_that_cannot_be_read_uses_nothing_up(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER)
    headers = {"x-delivery": "a", "content-type": "application/json"}
    assert step.post(address, content=b"{", headers=headers).status_code == 400
    assert step.post(address, content=b'{"n":1}', headers=headers).status_code == 200


def test_what_the_first_said_by_respond_is_said_again(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER, node("Respond", status=202, headers={"X-Kind": "ä", "Content-Type": "text/plain"}, body="taken"))
    first, again = (step.post(address, json={}, headers={"x-delivery": "a"}) for _ in range(2))
    assert (again.status_code, again.text, again.headers["x-kind"], again.headers["content-type"]) == (
        202,
        "taken",
        first.headers["x-kind"],
        "text/plain",
    )


def test_an_answer_too_large_to_be_kept_is_said_to_be_so(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BY_HEADER, node("FunLogic", script="return {text = string.rep('x', 100000)}"))
    first, again = (step.post(address, json={}, headers={"x-delivery": "a"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert "too large" in again.json()["message"]


class Gate(Node):
    """Waits until the test opens it."""

    group: ClassVar[str] = "Tests"
    entered: ClassVar[threading.Event]
    opened: ClassVar[threading.Event]

    def run(self, items: Items, ctx: Context) -> Items:
        Gate.entered.set()
        assert Gate.opened.wait(30)
        return items


def test_while_the_first_still_runs_the_second_is_told_to_come_back(
    bench: Bench, step: Doorstep, address: str, add_node_type: Callable[[type[Node]], None]
) -> None:
    add_node_type(Gate)
    Gate.entered, Gate.opened = threading.Event(), threading.Event()
    put(bench, BY_HEADER, node("Gate"))
    answers: list[int] = []
    headers = {"x-delivery": "a"}
    other = Doorstep(bench.app)
    first = threading.Thread(target=lambda: answers.append(other.post(address, json={}, headers=headers).status_code))
    first.start()
    assert Gate.entered.wait(30)
    busy = step.post(address, json={}, headers=headers)
    Gate.opened.set()
    first.join()
    assert (busy.status_code, busy.headers["retry-after"], answers) == (409, "1", [200])
    assert step.post(address, json={}, headers=headers).headers["mechaway-repeated"] == "true"


def test_of_deliveries_at_the_same_instant_to_two_workers_one_runs(bench: Bench, settings: Settings, address: str) -> None:
    put(bench, BY_HEADER)
    other = build(settings)
    try:
        steps = [Doorstep(app) for app in (bench.app, other) for _ in range(4)]
        for round_ in range(5):
            start = threading.Barrier(len(steps))
            answers: list[int] = []

            def go(step: Doorstep, start: threading.Barrier, answers: list[int], key: str) -> None:
                start.wait()
                answers.append(step.post(address, json={"n": 1}, headers={"x-delivery": key}).status_code)

            threads = [threading.Thread(target=go, args=(step, start, answers, str(round_))) for step in steps]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(answers) <= {200, 409}
            assert 200 in answers
            assert rows(bench) == round_ + 1
    finally:
        other.close()


@pytest.mark.parametrize(
    ("dedupe", "pointer"),
    [
        ({}, "/nodes/0/params/dedupe"),
        ({"key": "{{ $json.a }}", "header": "x"}, "/nodes/0/params/dedupe"),
        ({"key": "constant"}, "/nodes/0/params/dedupe/key"),
        ({"key": "{{ $jsn.a }}"}, "/nodes/0/params/dedupe/key"),
        ({"key": "{{ $node.other.a }}"}, "/nodes/0/params/dedupe/key"),
        ({"key": "{{ $run.key }}"}, "/nodes/0/params/dedupe/key"),
        ({"key": "{{ $json.id .. $run.key }}"}, "/nodes/0/params/dedupe/key"),
        ({"header": "a b"}, "/nodes/0/params/dedupe/header"),
        ({"header": "x", "window": 0}, "/nodes/0/params/dedupe/window"),
        ({"header": "x", "window": 1e9}, "/nodes/0/params/dedupe/window"),
        ({"header": "x", "answer": "second"}, "/nodes/0/params/dedupe/answer"),
        ({"header": "x", "ttl": 5}, "/nodes/0/params/dedupe/ttl"),
        ("x", "/nodes/0/params/dedupe"),
    ],
)
def test_a_dedupe_that_would_not_work_is_not_saved(bench: Bench, dedupe: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as wrong:
        put(bench, dedupe)
    assert pointer in [problem.pointer for problem in wrong.value.problems]
