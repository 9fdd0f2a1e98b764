"""What a function imports for the first webhook of its environment: the real handler, the real event, a bucket that answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechaway_core import aws
from mechaway_core.local.watch import read_workflow
from mechaway_core.settings import Settings
from tests import s3_server
from tests.contracts.adapters import FACTORIES, bucket_of
from tests.house.test_cold_start import HEAVY as HEAVY_ANYWHERE
from tests.house.tree import ROOT

HEAVY = (
    *HEAVY_ANYWHERE,
    "annotated_types",
    "importlib.metadata",
    "difflib",
    "xml",
    "urllib.request",
    "s3transfer",
    "urllib3",
    "jmespath",
    "dateutil",
    "moto",
    "concurrent.futures.process",
    "email.mime",
    "unittest",
    "mechaway_core.cron",
)
MOST_DATACLASSES = 30  # each costs half a millisecond of CPU when its module is imported; a NamedTuple a fifth of that
FUNCTION = {
    "MECHAWAY_API_TOKEN_SECRET": "arn:aws:secretsmanager:us-east-1:123456789012:secret:token",
    "MECHAWAY_KMS_KEY": "arn:aws:kms:us-east-1:123456789012:key/0",
    "MECHAWAY_RUNNER_FUNCTION": "arn:aws:lambda:us-east-1:123456789012:function:mechaway-dev-runner",
}

FIRST_EVENT = """
import importlib.util, json, sys

def load(path):
    spec = importlib.util.spec_from_file_location("app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

class Context:
    aws_request_id = "1"

    def get_remaining_time_in_millis(self):
        return 30000

made = []
import dataclasses
process = dataclasses._process_class
dataclasses._process_class = lambda made_of, *how: made.append(made_of.__qualname__) or process(made_of, *how)
handler = load(sys.argv[1]).handler
answer = handler(json.load(open(sys.argv[2])), Context())
print(json.dumps({"answer": answer, "modules": sorted(sys.modules), "dataclasses": made}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a function over a bucket that holds the POC."""
    place: Path = tmp_path_factory.mktemp("cold")
    adapters = FACTORIES["s3"](place)
    adapters.close()
    variables = FUNCTION | {"MECHAWAY_BUCKET": bucket_of(place), "MECHAWAY_CACHE_DIR": str(place), "MECHAWAY_DATA_DIR": str(place)}
    app = aws.build(Settings.load(variables))
    app.put("default", read_workflow(ROOT / "examples" / "poc.json"))
    app.close()
    keep = ("PATH", "LD_LIBRARY_PATH", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {name: os.environ[name] for name in keep if name in os.environ} | variables


def first_event(environment: dict[str, str], function: str, event: str) -> dict[str, Any]:
    """What the function answers to the first event of an environment, and the modules that are there then."""
    code, path = ROOT / "functions" / function / "app.py", ROOT / "events" / f"{event}.json"
    command = [sys.executable, "-c", FIRST_EVENT, str(code), str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def webhook(environment: dict[str, str]) -> dict[str, Any]:
    return first_event(environment, "api", "webhook-post")


def test_the_first_webhook_of_an_environment_is_answered(webhook: dict[str, Any]) -> None:
    assert webhook["answer"]["statusCode"] == 200, webhook["answer"]
    assert json.loads(webhook["answer"]["body"])["doubled_score"] == 170


@pytest.mark.parametrize("heavy", HEAVY)
def test_a_cold_webhook_imports_no_more_than_it_needs(webhook: dict[str, Any], heavy: str) -> None:
    assert [name for name in webhook["modules"] if name == heavy or name.startswith(f"{heavy}.")] == []


def test_a_cold_webhook_makes_few_dataclasses(webhook: dict[str, Any]) -> None:
    assert 0 < len(webhook["dataclasses"]) <= MOST_DATACLASSES, webhook["dataclasses"]


def test_a_cold_webhook_asks_s3_no_more_than_it_needs(environment: dict[str, str]) -> None:
    """The project's mark and the document's head, the document, the tables; then the tables go back."""
    with s3_server.server().counting() as requests:
        first_event(environment, "api", "webhook-post")
    assert len(requests) <= 4, [(request.method, request.key) for request in requests]


def test_the_runner_needs_no_token(environment: dict[str, str]) -> None:
    """Nobody calls it over HTTP, and its role may not read the token."""
    without = {name: value for name, value in environment.items() if name != "MECHAWAY_API_TOKEN_SECRET"}
    said = first_event(without, "runner", "run-asynchronous")
    assert said["answer"]["status"] == "succeeded"
    assert [name for name in said["modules"] if name.split(".")[0] in ("boto3", "botocore", "fastapi", "mangum")] == []
