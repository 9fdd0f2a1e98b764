"""The emulator does what the other tests of the cloud take for granted, shown on the smallest stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.emulator import Emulator
from tests.cloud.stack import NO_CONFIG, Cloud, Stack, sam
from tests.journeys.server import until

HELLO = Path(__file__).parent / "hello"


@pytest.fixture(scope="module")
def built(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hello") / "build"
    sam(
        "build",
        *NO_CONFIG,
        "--template-file",
        HELLO / "template.yaml",
        "--build-dir",
        folder,
        env=emulator.credentials(),
        cwd=folder.parent,
    )
    return folder


@pytest.fixture(scope="module")
def stack(emulator: Emulator, built: Path) -> Iterator[Stack]:
    made = Stack(emulator, "hello")
    made.deploy(built)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def hello(emulator: Emulator, stack: Stack) -> Iterator[Cloud]:
    with Cloud(emulator, stack.outputs["ApiUrl"]) as made:
        yield made


def test_the_invoke_url_reaches_the_function_by_every_path_and_method(hello: Cloud) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = hello.http.request(method, "/allowed/some/where")
        assert (answer.status_code, answer.json()["path"]) == (200, "/allowed/some/where")


def test_a_function_may_do_what_its_role_says_and_nothing_else(hello: Cloud) -> None:
    assert hello.http.get("/allowed/a").json()["kept"] == "kept"
    assert hello.http.get("/elsewhere").json()["kept"] == "AccessDenied"


def test_a_function_finds_neither_the_repository_nor_what_the_emulator_is_made_of(hello: Cloud) -> None:
    assert hello.http.get("/allowed/a").json()["finds"] == []


def test_an_update_in_place_keeps_the_url(emulator: Emulator, stack: Stack, built: Path, hello: Cloud) -> None:
    before = stack.outputs
    stack.deploy(built, Greeting="good-day")
    assert stack.outputs == before
    assert hello.http.get("/allowed/a").json()["greeting"] == "good-day"


def test_what_fails_asynchronously_is_tried_three_times_and_ends_in_the_dead_letter_queue(emulator: Emulator, stack: Stack) -> None:
    resources = stack.resources()
    asked = emulator.client("lambda").invoke(
        FunctionName=resources["Hello"][1], InvocationType="Event", Payload=json.dumps({"fail": True, "n": 1})
    )
    assert asked["StatusCode"] == 202
    letter = until(lambda: dead_letter(emulator, resources["DeadLetters"][1]), "a dead letter")
    assert letter["requestPayload"] == {"fail": True, "n": 1}


def dead_letter(emulator: Emulator, queue: str) -> Any:
    for message in emulator.client("sqs").receive_message(QueueUrl=queue).get("Messages", []):
        return json.loads(message["Body"])
    return None
