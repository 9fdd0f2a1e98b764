"""The server behind the bucket, and the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mechaway_core.aws.clients import clients
from mechaway_core.aws.s3 import S3
from mechaway_core.settings import Settings
from tests.contracts.adapters import Adapters, bucket_of
from tests.s3_server import S3Server
from tests.s3_server import server as s3_server


@pytest.fixture
def server(make: Callable[..., Adapters]) -> Iterator[S3Server]:
    server = s3_server()
    yield server
    server.before = None


@pytest.fixture
def bucket(adapters: Adapters) -> S3:
    return clients(Settings(bucket=bucket_of(adapters.place))).s3
