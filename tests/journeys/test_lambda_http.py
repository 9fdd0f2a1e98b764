"""Events of an HTTP API through the handler of the API function, over the adapters of this machine."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mechaway_core import aws, local
from mechaway_core.app import App
from mechaway_core.errors import Malformed
from mechaway_core.settings import Settings
from tests.lambda_events import Context, body_of, call, event, json_of

POC = json.loads((Path(__file__).parents[2] / "examples" / "poc.json").read_text())
TOKEN = "a-token-for-tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}

Lambda = Callable[..., dict[str, Any]]


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    """The handler of a fresh environment."""
    with environment(tmp_path, monkeypatch) as invoke:
        yield invoke


@contextmanager
def environment(place: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> Iterator[Lambda]:
    settings = {"MECHAWAY_DATA_DIR": str(place / "data"), "MECHAWAY_API_TOKEN": TOKEN, "MECHAWAY_AUTH_DELAY": "0"} | more
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    apps: list[App] = []

    def start() -> App:
        apps.append(local.build(aws.behind_http_api(Settings.load())))
        return apps[0]

    handler = aws.api_handler(start)

    def invoke(event: dict[str, Any], seconds: float = 30.0) -> dict[str, Any]:
        answer = handler(event, Context(seconds))
        json.dumps(answer)  # as the runtime does
        return answer

    yield invoke
    apps[0].close()


def save(function: Lambda, document: dict[str, Any]) -> None:
    answer = function(call("POST", "/api/workflows", json.dumps(document), BEARER | {"content-type": "application/json"}))
    assert answer["statusCode"] == 201, answer


def script(workflow_id: str, source: str, path: str = "/in", **more: Any) -> dict[str, Any]:
    """A workflow with a webhook and a script."""
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": path, "method": ["GET", "POST"]}}
    work = {"id": "work", "node_type": "FunLogic", "params": {"script": source}}
    return {"id": workflow_id, "name": workflow_id, "nodes": [hook, work], "edges": [{"from": "hook", "to": "work"}]} | more


ECHO = script("echo", "return {body = data[1], query = query, headers = headers, path = path}", "/say/:what")


def test_a_webhook_comes_back_as_an_answer(function: Lambda) -> None:
    save(function, POC)
    answer = function(event("webhook-post"))
    assert answer["statusCode"] == 200
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["isBase64Encoded"] is False
    assert json_of(answer)["doubled_score"] == 170


def test_one_environment_serves_event_after_event(function: Lambda) -> None:
    save(function, POC)
    ids = [json_of(function(event("webhook-post")))["_inserted_id"] for _ in range(5)]
    assert ids == [1, 2, 3, 4, 5]
    for _ in range(2):
        listed = json_of(function(call("GET", "/api/workflows", headers=BEARER)))
        assert [one["id"] for one in listed["workflows"]] == ["poc-grading-workflow"]


def test_query_headers_cookies_and_the_path_arrive_as_they_were_sent(function: Lambda) -> None:
    save(function, ECHO)
    said = json_of(function(event("webhook-get")))
    assert said["query"] == {"tag": ["a", "b"], "q": "café au lait"}
    assert said["headers"]["x-tag"] == "one,two"
    assert said["headers"]["cookie"] == "session=abc123; theme=dark"
    assert said["path"] == {"what": "Grüße aus Köln"}


def test_a_percent_sign_in_a_path_is_not_decoded_twice(function: Lambda) -> None:
    save(function, ECHO)
    said = json_of(function(call("GET", "/webhook/echo/say/100%41")))  # sent as 100%2541
    assert said["path"] == {"what": "100%41"}


def test_a_function_url_hands_the_path_on_as_it_was_sent(function: Lambda) -> None:
    save(function, ECHO)
    domain = "abcdefghij.lambda-url.eu-central-1.on.aws"
    said = json_of(function(call("GET", "/webhook/echo/say/a%2Fb%20c", domainName=domain)))
    assert said["path"] == {"what": "a/b c"}


def test_a_body_in_base64_is_what_it_was(function: Lambda) -> None:
    save(function, ECHO)
    said = json_of(function(event("webhook-base64")))
    assert said["body"] == {"body": '{"student_id": "s123", "score": 85}'}


def test_bytes_go_in_as_a_file_and_come_out_the_same(function: Lambda) -> None:
    answering = {"id": "answer", "node_type": "Respond", "params": {"file": "{{ $file.picture }}"}}
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": "/photo", "method": "POST"}}
    save(function, {"id": "upload", "name": "u", "nodes": [hook, answering], "edges": [{"from": "hook", "to": "answer"}]})
    sent = event("webhook-multipart")
    answer = function(sent)
    assert answer["statusCode"] == 200, answer
    assert answer["isBase64Encoded"] is True
    assert answer["headers"]["content-type"] == "image/png"
    assert body_of(answer).startswith(b"\x89PNG\r\n\x1a\n")
    assert body_of(answer) in base64.b64decode(sent["body"])


def test_a_large_upload_goes_over_the_disk(function: Lambda) -> None:
    answering = {"id": "answer", "node_type": "Respond", "params": {"file": "{{ $file.f }}"}}
    hook = {"id": "hook", "node_type": "Webhook", "params": {"path": "/photo", "method": "POST"}}
    save(function, {"id": "upload", "name": "u", "nodes": [hook, answering], "edges": [{"from": "hook", "to": "answer"}]})
    content = bytes(range(256)) * 8000  # 2 MB
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
    answer = function(
        call("POST", "/webhook/upload/photo", head + content + b"\r\n--b--\r\n", {"content-type": "multipart/form-data; boundary=b"})
    )
    assert answer["statusCode"] == 200, answer
    assert body_of(answer) == content


@pytest.mark.parametrize("path", ["/prod/webhook/echo/say/hi", "/webhook/echo/say/hi"])
def test_a_stage_in_front_of_the_path_is_cut_off(function: Lambda, path: str) -> None:
    save(function, ECHO)
    answer = function(call("GET", path, stage="prod"))
    assert json_of(answer)["path"] == {"what": "hi"}


def test_links_of_the_api_keep_the_stage(function: Lambda) -> None:
    sent = call("POST", "/prod/api/workflows", json.dumps(POC), BEARER, stage="prod")
    answer = function(sent)
    assert answer["headers"]["location"] == "/prod/api/workflows/poc-grading-workflow"
    pages = function(call("GET", "/prod/docs", headers=BEARER, stage="prod"))
    assert b"/prod/openapi.json" in body_of(pages)
    project = function(call("POST", "/prod/api/projects", '{"slug": "shop"}', BEARER, stage="prod"))
    assert project["headers"]["location"] == "/prod/p/shop/api/workflows"


ACCEPTS: dict[str, Any] = {
    "id": "later",
    "nodes": [{"id": "hook", "node_type": "Webhook", "params": {"path": "/", "mode": "accept"}}],
    "edges": [],
}


@pytest.mark.parametrize(
    ("base", "stage", "path", "root"),
    [
        ("", "$default", "/webhook/later/", ""),
        ("", "prod", "/prod/webhook/later/", "/prod"),
        ("/flows", "$default", "/webhook/later/", "/flows"),
        ("/flows", "$default", "/flows/webhook/later/", "/flows"),
    ],
)
def test_where_the_run_of_an_accepted_call_is_to_be_found_is_said_with_what_stands_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, stage: str, path: str, root: str
) -> None:
    with environment(tmp_path, monkeypatch, MECHAWAY_BASE_PATH=base) as function:
        save(function, ACCEPTS)
        answer = function(call("POST", path, "{}", {"content-type": "application/json"}, stage=stage))
        said = json_of(answer)
        assert (answer["statusCode"], said["status"]) == (202, "queued")
        assert answer["headers"]["location"] == said["location"] == f"{root}/api/runs/{said['run_id']}"
        inside = said["location"] if stage == "prod" else said["location"].removeprefix(root)
        found = function(call("GET", inside, headers=BEARER, stage=stage))
        assert (found["statusCode"], json_of(found)["run_id"]) == (200, said["run_id"])


def test_a_stage_that_is_called_like_an_address_is_cut_off_once(function: Lambda) -> None:
    save(function, POC)
    answer = function(call("GET", "/api/api/workflows", headers=BEARER, stage="api"))
    assert [one["id"] for one in json_of(answer)["workflows"]] == ["poc-grading-workflow"]


def test_what_a_custom_domain_maps_stands_in_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with environment(tmp_path, monkeypatch, MECHAWAY_BASE_PATH="/flows/") as function:
        answer = function(call("POST", "/api/workflows", json.dumps(POC), BEARER, domainName="api.example.com"))
        assert answer["headers"]["location"] == "/flows/api/workflows/poc-grading-workflow"
        behind = function(call("GET", "/flows/api/workflows/poc-grading-workflow", headers=BEARER, domainName="api.example.com"))
        assert behind["statusCode"] == 200


def test_the_client_is_whom_the_gateway_says(function: Lambda, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mechaway.access"):
        answer = function(call("GET", "/api/workflows", headers={"authorization": "Bearer wrong"}))
    assert answer["statusCode"] == 401
    assert answer["headers"]["www-authenticate"].startswith("Bearer")
    assert "203.0.113.7" in caplog.text


def test_several_cookies_are_set_one_by_one(function: Lambda) -> None:
    from mechaway_core.aws.http import HttpEvent

    shown = HttpEvent(event("webhook-get"), Context(), until=0.0)(
        {"status": 200, "headers": [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"vary", b"a"), (b"vary", b"b")], "body": b""}
    )
    assert shown["cookies"] == ["a=1", "b=2"]
    assert shown["headers"] == {"vary": "a, b"}


def test_a_problem_is_readable_text(function: Lambda) -> None:
    answer = function(call("GET", "/webhook/nobody/x"))
    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"])["status"] == 404


def test_a_body_over_the_limit_is_answered_413(function: Lambda) -> None:
    save(function, ECHO)
    answer = function(call("POST", "/webhook/echo/say/hi", "x" * 6_000_001, {"content-type": "text/plain"}))
    assert answer["statusCode"] == 413
    assert json_of(answer)["detail"] == "the body is larger than 6 MB (MECHAWAY_MAX_BODY_MB)"


def test_a_body_that_is_not_the_base64_it_should_be_is_refused_aloud(function: Lambda, caplog: pytest.LogCaptureFixture) -> None:
    broken = event("webhook-base64") | {"body": "%%%"}
    with pytest.raises(Malformed, match="base64"):
        function(broken)
    assert "base64" in caplog.text


@pytest.mark.parametrize(
    ("source", "encoded"),
    [
        ("return string.rep('x', 4000000)", True),
        ("return string.rep('ж', 2000000)", True),
        ("return string.rep('\"', 2000000)", True),
        ("return string.rep('x', 5500000)", False),
    ],
)
def test_a_large_answer_goes_out_in_the_form_that_fits(function: Lambda, source: str, encoded: bool) -> None:
    respond = {"id": "answer", "node_type": "Respond", "params": {"body": "{{ $json }}"}}
    document = script("large", source)
    document["nodes"][1]["params"]["memory_mb"] = 128
    document["nodes"].append(respond)
    document["edges"].append({"from": "work", "to": "answer"})
    save(function, document)
    answer = function(call("POST", "/webhook/large/in", "{}"))
    assert answer["statusCode"] == 200, answer["body"][:500]
    assert answer["isBase64Encoded"] is encoded
    assert len(json.dumps(answer)) <= 6_291_556


def test_an_answer_that_lambda_would_not_carry_is_a_problem_with_the_run_id(function: Lambda) -> None:
    document = script("large", "return string.rep('x', 7000000)")
    document["nodes"][1]["params"]["memory_mb"] = 128
    save(function, document)
    answer = function(call("POST", "/webhook/large/in", "{}"))
    assert answer["statusCode"] == 422
    said = json_of(answer)
    assert said["detail"].startswith("the answer has 7.0 MB, and AWS Lambda carries 6 MB")
    assert said["run_id"] == answer["headers"]["mechaway-run-id"]


def test_what_takes_too_long_is_answered_before_the_gateway_gives_up(function: Lambda) -> None:
    save(function, script("slow", "while true do end", settings={"timeout": 600}))
    began = time.monotonic()
    answer = function(call("POST", "/webhook/slow/in", "{}"), seconds=1.5)
    assert time.monotonic() - began < 1.5
    assert answer["statusCode"] == 504
    assert json_of(answer)["run_id"] == answer["headers"]["mechaway-run-id"]


def test_a_manual_start_ends_in_time_too(function: Lambda) -> None:
    save(function, script("slow", "while true do end", settings={"timeout": 600}))
    record = json_of(function(call("POST", "/api/workflows/slow/run", "{}", BEARER), seconds=1.5))
    assert record["status"] == "timed_out"


def test_time_that_a_cold_start_took_is_time_the_gateway_has_waited(function: Lambda) -> None:
    from mechaway_core.aws.http import _until

    now = time.time()
    late = call("GET", "/healthz", timeEpoch=int((now - 20) * 1000))
    left = _until(late, Context(60), 29.0) - time.monotonic()
    assert 8.5 < left <= 9.0
    skewed = call("GET", "/healthz", timeEpoch=int((now + 100) * 1000))
    assert 28.9 < _until(skewed, Context(60), 29.0) - time.monotonic() <= 29.0


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"version": "1.0", "resource": "/", "requestContext": {"stage": "prod"}, "httpMethod": "GET", "path": "/"},
        {"Records": [{"eventSource": "aws:s3"}]},
        {"version": "2.0", "requestContext": {}},
        {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event"},
    ],
)
def test_an_event_of_another_kind_is_refused_and_logged(
    function: Lambda, strange: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Malformed, match=r"payload format 2\.0"):
        function(strange)
    assert "refused an event" in caplog.text


def test_an_answer_without_a_body_says_nothing_of_one(function: Lambda) -> None:
    nothing = script("quiet", "return 1")
    nothing["nodes"][0]["params"]["respond"] = "nothing"
    save(function, nothing)
    answer = function(call("POST", "/webhook/quiet/in", "{}"))
    assert (answer["statusCode"], answer["body"]) == (204, "")
    assert "content-type" not in answer["headers"]
