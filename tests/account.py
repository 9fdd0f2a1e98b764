"""An AWS account for tests: moto in a thread of this process, spoken to over HTTP, and ways to let its services fail."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
NUMBER = "123456789012"
RUNNER = f"arn:aws:lambda:{REGION}:{NUMBER}:function:mechaway-test-runner"
QUEUE = f"arn:aws:sqs:{REGION}:{NUMBER}:mechaway-test-dead-letters"
ROLE = f"arn:aws:iam::{NUMBER}:role/mechaway-test-scheduler"

_numbers = itertools.count(1)


class Died(BaseException):
    """The process ends here; nothing in it may catch this."""


class Account:
    """One account. `client` gives boto3 clients that try once, so that a failure is seen as it is."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"

    def client(self, service: Any, endpoint: str = "") -> Any:
        """A client of a service of this account."""
        return boto3.client(
            service,
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def close(self) -> None:
        """End it."""
        self._server.stop()


def unique(stem: str) -> str:
    """A name that no other test has."""
    return f"{stem}{next(_numbers)}"


@contextmanager
def failing(client: Any, operation: str, code: str, message: str = "because", status: int = 400) -> Iterator[None]:
    """A service that answers each call of an operation with an error, on the wire."""

    body = {"__type": code, "message": message, "Message": message}
    with hooked(client, operation, lambda **_: answer(body, status, code)):
        yield


def answer(body: Any, status: int = 200, error: str = "") -> AWSResponse:
    """An answer of a service that speaks JSON, as a hook may give it."""
    headers: Any = {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": error}
    return AWSResponse("http://test", status, headers, _Raw(json.dumps(body).encode()))


@contextmanager
def dying(client: Any, operation: str) -> Iterator[None]:
    """A process that ends when it is about to make a call of an operation."""

    def die(**_: Any) -> None:
        raise Died

    with hooked(client, operation, die):
        yield


@contextmanager
def counting(client: Any) -> Iterator[list[str]]:
    """The operations that are called meanwhile, in order."""
    called: list[str] = []

    def note(event_name: str, **_: Any) -> None:
        called.append(event_name.rpartition(".")[2])

    name = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"before-send.{name}", note)
    try:
        yield called
    finally:
        client.meta.events.unregister(f"before-send.{name}", note)


@contextmanager
def hooked(client: Any, operation: str, hook: Callable[..., Any]) -> Iterator[None]:
    """Ask `hook` before each call of an operation goes out; what it answers is the answer."""
    name = f"before-send.{client.meta.service_model.service_id.hyphenize()}.{operation}"
    client.meta.events.register_first(name, hook)
    try:
        yield
    finally:
        client.meta.events.unregister(name, hook)


class _Raw:
    """What botocore takes for a response of urllib3."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body
