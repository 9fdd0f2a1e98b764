"""Who may call a webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.errors import Invalid
from mechaway_core.web.problems import CONTENT_TYPE
from tests.nodes.bench import Bench, node
from tests.nodes.doorstep import Doorstep

BEARER = {"kind": "bearer", "token": "$secret.TOKEN"}
BASIC = {"kind": "basic", "username": "ann", "password": "$secret.PASSWORD"}
HEADER = {"kind": "header", "name": "X-Api-Key", "value": "$secret.TOKEN"}
HMAC = {"kind": "hmac", "preset": "github", "secret": "$secret.TOKEN"}


@pytest.fixture
def step(bench: Bench, app: App) -> Doorstep:
    for name, value in (("TOKEN", "t0ken-ä"), ("OLD", "older"), ("PASSWORD", "pass:word")):
        app.put_secret(bench.project, name, value)
    return Doorstep(app)


@pytest.fixture
def address(bench: Bench) -> str:
    return f"/p/{bench.project}/webhook/w"


def put(bench: Bench, auth: Any) -> None:
    """A workflow that echoes what it is sent, for those who may."""
    bench.put(hook=node("Webhook", id="hook", path="/", auth=auth))


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def signed(body: bytes, secret: str = "t0ken-ä") -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (BEARER, {"authorization": "Bearer t0ken-ä".encode()}),
        (BEARER, {"authorization": "bearer   t0ken-ä ".encode()}),
        (BASIC, {"authorization": basic("ann", "pass:word")}),
        (HEADER, {"x-api-key": "t0ken-ä".encode()}),
        ({"kind": "none"}, {}),
        ("none", {}),
        ({"kind": "bearer", "token": ["$secret.TOKEN", "$secret.OLD"]}, {"authorization": b"Bearer older"}),
        ({"kind": "basic", "username": "$secret.OLD", "password": "$secret.PASSWORD"}, {"authorization": basic("older", "pass:word")}),
    ],
)
def test_who_shows_the_secret_comes_in(bench: Bench, step: Doorstep, address: str, auth: Any, headers: Any) -> None:
    put(bench, auth)
    answer = step.post(address, json={"a": 1}, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"a": 1})


@pytest.mark.parametrize(
    ("auth", "headers", "status"),
    [
        (BEARER, [], 401),
        (BEARER, [("authorization", b"Bearer wrong")], 401),
        (BEARER, [("authorization", b"Bearer")], 401),
        (BEARER, [("authorization", b"Bearer ")], 401),
        (BEARER, [("authorization", "Basic t0ken-ä".encode())], 401),
        (BEARER, [("authorization", "Bearer t0ken-ä".encode()), ("authorization", b"Bearer x")], 401),
        (BASIC, [], 401),
        (BASIC, [("authorization", basic("ann", "wrong"))], 401),
        (BASIC, [("authorization", basic("bob", "pass:word"))], 401),
        (BASIC, [("authorization", b"Basic !!!")], 401),
        (BASIC, [("authorization", b"Basic " + base64.b64encode(b"ann"))], 401),
        (BASIC, [("authorization", b"Basic \xff\xff")], 401),
        (HEADER, [], 403),
        (HEADER, [("x-api-key", b"wrong")], 403),
        (HEADER, [("x-api-key", b"")], 403),
        (HEADER, [("x-api-key", "t0ken-ä".encode()), ("x-api-key", "t0ken-ä".encode())], 403),
        (HMAC, [], 403),
        (HMAC, [("x-hub-signature-256", b"sha256=" + b"0" * 64)], 403),
    ],
)
def test_who_does_not_is_refused_and_not_told_why(bench: Bench, step: Doorstep, address: str, auth: Any, headers: Any, status: int) -> None:
    put(bench, auth)
    answer = step.post(address, content=b"{not json", headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert "mechaway-run-id" not in answer.headers
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer" if auth is BEARER else "Basic")
    again = step.post(address, content=b"", headers=[("x-other", "1")])
    assert again.json()["detail"] == answer.json()["detail"]


def test_the_signature_is_that_of_the_bytes_as_they_came(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, HMAC)
    body = b'{ "b": 1,\r\n "a": "\xc3\xa4" }'
    json = {"content-type": "application/json"}
    assert step.post(address, content=body, headers=signed(body) | json).json() == {"b": 1, "a": "ä"}
    assert step.post(address, content=body + b" ", headers=signed(body) | json).status_code == 403
    assert step.post(address, content=b"", headers=signed(b"") | json).json() == {}


def test_what_is_no_json_is_only_read_behind_the_signature(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, HMAC)
    json = {"content-type": "application/json"}
    assert step.post(address, content=b"{", headers=json).status_code == 403
    assert step.post(address, content=b"{", headers=signed(b"{") | json).status_code == 400


def test_the_time_of_a_delivery_counts(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, {"kind": "hmac", "preset": "slack", "secret": "$secret.TOKEN", "tolerance": 60})
    for offset, status in ((0, 200), (-50, 200), (-120, 403), (120, 403)):
        stamp = str(int(time.time()) + offset)
        digest = hmac.new("t0ken-ä".encode(), f"v0:{stamp}:{{}}".encode(), hashlib.sha256).hexdigest()
        headers = {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={digest}"}
        assert step.post(address, content=b"{}", headers=headers).status_code == status


def test_where_there_is_no_such_route_nobody_is_asked(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BEARER)
    assert step.post(f"{address}/elsewhere").status_code == 404
    assert step.call("GET", address).status_code == 405


def test_a_secret_that_is_missing_keeps_the_webhook_shut(
    bench: Bench, step: Doorstep, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    for auth in (BEARER, HEADER, HMAC):
        put(bench, auth | {"token" if auth is BEARER else "value" if auth is HEADER else "secret": "$secret.GONE"})
        answer = step.post(address, headers={"authorization": "Bearer ", "x-api-key": ""})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "GONE" not in answer.text
    assert "GONE" in caplog.text


def test_a_manual_start_asks_for_no_credentials(bench: Bench, step: Doorstep) -> None:
    put(bench, BEARER)
    assert bench.app.start(bench.project, "w").status == "succeeded"


def test_the_secret_reaches_neither_log_nor_answer(bench: Bench, step: Doorstep, address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    put(bench, BEARER)
    answer = step.post(address, headers={"authorization": "Bearer t0ken-wrong-canary"})
    assert "canary" not in answer.text + caplog.text
    assert "t0ken-ä" not in answer.text + caplog.text


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (BEARER, {"authorization": "Bearer t0ken-ä".encode()}),
        (BASIC, {"authorization": basic("ann", "pass:word")}),
        (HEADER, {"x-api-key": "t0ken-ä".encode()}),
    ],
)
def test_what_a_caller_showed_is_nothing_that_a_run_can_see(bench: Bench, step: Doorstep, address: str, auth: Any, headers: Any) -> None:
    reads = node("FunLogic", script="return {seen = headers, item = data}", inputs=None)
    bench.put(reads, hook=node("Webhook", id="hook", path="/", auth=auth))
    answer = step.post(address, json={}, headers=headers | {"x-other": "1"})
    assert answer.json()["seen"]["x-other"] == "1"
    assert not set(headers) & set(answer.json()["seen"])


def test_refusals_are_counted_and_the_log_says_why(bench: Bench, step: Doorstep, address: str, caplog: pytest.LogCaptureFixture) -> None:
    put(bench, HMAC)
    before = step.gateway.door.refusals.as_json()["refusals"]
    step.post(address, headers={"x-request-id": "abc-1"}, client="192.0.2.7")
    step.post(address, headers=signed(b"another body"))
    after = step.gateway.door.refusals.as_json()["refusals"]
    assert {reason: after[reason] - before.get(reason, 0) for reason in after if after[reason] != before.get(reason, 0)} == {
        "webhook_missing": 1,
        "webhook_wrong": 1,
    }
    assert f"refused: webhook_missing; source 192.0.2.7, target POST {address}, request abc-1" in caplog.text


def test_nobody_writes_lines_of_their_own_into_the_log(
    bench: Bench, step: Doorstep, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(hook=node("Webhook", id="hook", path="/:any", auth=BEARER))
    step.post(f"{address}/x%0Arefused:%20forged%1b[31m")
    [line] = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert "\n" not in line
    assert "\x1b" not in line


def test_failed_attempts_are_slowed_but_neither_the_right_one_nor_those_of_others(bench: Bench, step: Doorstep, address: str) -> None:
    put(bench, BEARER)
    for _ in range(12):
        assert step.post(address, headers={"authorization": "Bearer no"}, client="192.0.2.1").status_code == 401
    assert len(step.slept) >= 3
    assert step.slept == sorted(step.slept)
    paused = len(step.slept)
    right = {"authorization": "Bearer t0ken-ä".encode()}
    assert step.post(address, headers=right, client="192.0.2.1").status_code == 200
    for _ in range(20):  # showing nothing is no guess
        step.post(address, client="192.0.2.2")
    assert len(step.slept) == paused


@pytest.mark.parametrize(
    ("auth", "pointer"),
    [
        ("all", "/nodes/0/params/auth"),
        ({"kind": "digest"}, "/nodes/0/params/auth/kind"),
        ({"kind": "bearer"}, "/nodes/0/params/auth/token"),
        ({"kind": "bearer", "token": "plain"}, "/nodes/0/params/auth/token"),
        ({"kind": "bearer", "token": 5}, "/nodes/0/params/auth/token"),
        ({"kind": "hmac", "preset": "gitlab", "secret": "$secret.X"}, "/nodes/0/params/auth/preset"),
        ({"kind": "hmac", "secret": "$secret.X"}, "/nodes/0/params/auth/header"),
        ({"kind": "hmac", "secret": "$secret.X", "preset": "github", "sing": 1}, "/nodes/0/params/auth/sing"),
    ],
)
def test_an_auth_that_would_not_work_is_not_saved(bench: Bench, auth: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as wrong:
        put(bench, auth)
    assert pointer in [problem.pointer for problem in wrong.value.problems]
