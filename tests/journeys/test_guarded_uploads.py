"""Uploads to webhooks that ask who calls: what fits comes back, and of what does not, nothing is read or nothing is left."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from mechaway_core.access.slowing import FREE
from tests.journeys.server import Server, chain, hook, lua, problem, read_answer, until

KIND = {"content-type": "multipart/form-data; boundary=cut"}
SMALL, SPOOLED = 3_000, 3_000_000  # bytes of a file: one that stays in memory on its way, one that does not
SIGNED = {"kind": "hmac", "preset": "github", "secret": "$secret.HOOK"}
BEARER = {"kind": "bearer", "token": "$secret.TOKEN"}
KEYED = {"kind": "header", "name": "X-Api-Key", "value": "$secret.TOKEN"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("guarded") / "data", auth_delay=0) as made:
        made.keep_secrets(HOOK="s3cret", TOKEN="t0ken")
        returns = {"id": "out", "node_type": "Respond", "params": {"file": "{{ $file.f }}"}}
        counts = {"id": "out", "node_type": "Respond", "params": {"body": "{{ $file.f.size }}"}}
        by_header = {"header": "X-Delivery"}
        for document in (
            chain("signed", hook(auth=SIGNED), returns),
            chain("bearer", hook(auth=BEARER), returns),
            chain("keyed", hook(auth=KEYED), lua("work", "return headers")),
            chain("broken", hook(auth={"kind": "bearer", "token": "$secret.GONE"}), returns),
            chain("once", hook(dedupe=by_header), counts),
            chain("once-file", hook(dedupe=by_header), returns),
            chain("once-only", hook(dedupe=by_header | {"answer": "refuse"}), counts),
        ):
            made.save(document)
        yield made


def form(content: bytes) -> bytes:
    """A multipart body with one file."""
    return b'--cut\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n' + content + b"\r\n--cut--\r\n"


def signature(body: bytes, secret: str = "s3cret") -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def head(path: str, headers: Mapping[str, str], length: int = 50_000_000) -> bytes:
    """The head of a POST whose body does not follow."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", "Expect: 100-continue"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in (KIND | dict(headers)).items()), "", ""]).encode()


# -- signatures over the body


@pytest.mark.parametrize("size", [SMALL, SPOOLED])
def test_an_upload_that_is_signed_comes_back_byte_for_byte(server: Server, size: int) -> None:
    content = random.Random(size).randbytes(size)
    body = form(content)
    answer = server.http.post("/webhook/signed", content=body, headers=KIND | signature(body))
    assert answer.status_code == 200, answer.text[:500]
    assert answer.content == content
    until(lambda: not server.open_uploads(), "the upload to be let go")


@pytest.mark.parametrize("size", [SMALL, SPOOLED])
@pytest.mark.parametrize("wrong", ["another secret", "another body", "not a signature"])
def test_an_upload_with_a_wrong_signature_is_refused_and_leaves_nothing(server: Server, size: int, wrong: str) -> None:
    before, counted = server.kept(), server.refusals("webhook_wrong", "webhook_malformed")
    body = form(b"x" * size)
    shown = {
        "another secret": signature(body, "guessed"),
        "another body": signature(body[:-1]),
        "not a signature": {"x-hub-signature-256": "sha256=zz"},
    }[wrong]
    answer = server.http.post("/webhook/signed", content=body, headers=KIND | shown)
    problem(answer, 403)
    assert "mechaway-run-id" not in answer.headers
    assert server.kept() == before
    until(lambda: not server.open_uploads(), "the upload to be let go")
    assert server.refusals("webhook_wrong", "webhook_malformed") == counted + 1


def test_a_signed_upload_that_is_no_multipart_body_is_400_behind_its_signature(server: Server) -> None:
    before = server.kept()
    body = form(b"x" * SPOOLED)[:-20]
    problem(server.http.post("/webhook/signed", content=body, headers=KIND | signature(body)), 400)
    problem(server.http.post("/webhook/signed", content=body, headers=KIND | signature(b"")), 403)
    assert server.kept() == before


# -- what the head alone shows


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/webhook/bearer", {"Authorization": "Bearer wrong"}, 401),
        ("/webhook/bearer", {}, 401),
        ("/webhook/keyed", {"X-Api-Key": "wrong"}, 403),
        ("/webhook/signed", {}, 403),
        ("/webhook/signed", {"X-Hub-Signature-256": "sha256=zz"}, 403),
        ("/webhook/broken", {"Authorization": "Bearer t0ken"}, 503),
    ],
)
def test_an_upload_that_may_not_come_in_is_refused_before_its_body_is_asked_for(
    server: Server, path: str, headers: dict[str, str], status: int
) -> None:
    before = server.kept()
    with server.connect() as connection:
        connection.sendall(head(path, headers))
        answer = read_answer(connection)  # the first that comes back; it would be 100 if the body were asked for
    problem(answer, status)
    assert server.open_uploads() == []
    assert server.kept() == before


def test_what_is_sent_regardless_of_the_refusal_is_not_written_down(server: Server) -> None:
    counted = server.refusals("webhook_wrong")
    with server.connect() as connection:
        connection.sendall(head("/webhook/bearer", {"Authorization": "Bearer wrong"}, 2_000_000) + b"x" * 1_000_000)
        answer = read_answer(connection)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="webhook"'
        assert server.open_uploads() == []
        connection.sendall(b"x" * 1_000_000)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(connection).status == 200, "the connection goes on behind the body that nobody read"
    assert server.refusals("webhook_wrong") == counted + 1


def test_the_right_token_is_asked_for_the_body(server: Server) -> None:
    body = form(b"hello")
    with server.connect() as connection:
        connection.sendall(head("/webhook/bearer", {"Authorization": "Bearer t0ken"}, len(body)))
        assert read_answer(connection).status == 100
        connection.sendall(body)
        answer = read_answer(connection)
    assert (answer.status, answer.body) == (200, b"hello")


def test_the_secret_that_came_with_an_upload_is_not_among_the_headers_of_the_run(server: Server) -> None:
    answer = server.http.post("/webhook/keyed", files={"f": b"x"}, headers={"x-api-key": "t0ken", "x-other": "1"})
    assert answer.json()["x-other"] == "1"
    assert "x-api-key" not in answer.json()


def test_guesses_with_uploads_are_slowed_like_all_others(data: Path) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    with Server(data, auth_delay=60, grace=0.2) as server, contextlib.ExitStack() as waiting:
        server.keep_secrets(TOKEN="t0ken")
        server.save(chain("bearer", hook(auth=BEARER)))
        answers = [server.http.post("/webhook/bearer", files={"f": b"x"}, headers=wrong) for _ in range(FREE)]
        assert {answer.status_code for answer in answers} == {401}

        def guess_and_ask() -> httpx.Response | None:
            guess = waiting.enter_context(server.connect())
            guess.sendall(head("/webhook/bearer", wrong))
            right = server.http.post("/webhook/bearer", files={"f": b"x"}, headers={"authorization": "Bearer t0ken"})
            return right if right.status_code != 200 else None

        blocked = until(guess_and_ask, "guesses to wait for their answers")  # each waits twice as long as the one before
        assert problem(blocked, 429)["detail"] == "too many failed attempts; come back later"


# -- deliveries


def test_a_delivery_of_a_file_that_comes_again_keeps_no_second_one(server: Server) -> None:
    before = len(server.kept())
    for path, status in (("/webhook/once", 200), ("/webhook/once-only", 409)):
        first, again = (server.http.post(path, files={"f": b"x" * SPOOLED}, headers={"x-delivery": "a"}) for _ in range(2))
        assert (first.status_code, again.status_code) == (200, status)
        assert first.json() == SPOOLED
    assert len(server.kept()) == before + 2
    until(lambda: not server.open_uploads(), "the uploads to be let go")


def test_a_delivery_that_does_not_say_which_it_is_keeps_no_file(server: Server) -> None:
    before = server.kept()
    problem(server.http.post("/webhook/once", files={"f": b"x"}), 400)
    assert server.kept() == before


def test_an_answer_that_was_a_file_is_not_sent_again_but_said_to_have_been_one(server: Server) -> None:
    first, again = (server.http.post("/webhook/once-file", files={"f": b"hello"}, headers={"x-delivery": "a"}) for _ in range(2))
    assert (first.status_code, first.content) == (200, b"hello")
    assert "attachment" in first.headers["content-disposition"]
    assert (again.status_code, again.headers["content-type"], again.headers["mechaway-repeated"]) == (200, "application/json", "true")
    assert again.headers["mechaway-run-id"] == first.headers["mechaway-run-id"]
    assert "a file" in again.json()["message"]
    assert "content-disposition" not in again.headers, "nobody should save the note in place of the file"


# -- headers of all answers


def once(answer: Any, name: str) -> bool:
    return len(answer.headers.get_list(name)) == 1


def test_answers_that_are_files_and_refusals_carry_what_all_answers_do_once(server: Server) -> None:
    body = form(b"hello")
    for headers, status in ((signature(body), 200), (signature(b""), 403)):
        answer = server.http.post("/webhook/signed", content=body, headers=KIND | headers | {"x-request-id": "abc-1"})
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == "abc-1"
        assert all(once(answer, name) for name in ("x-request-id", "x-content-type-options", "content-type", "content-length"))
