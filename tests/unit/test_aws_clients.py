"""Where calls of AWS go, with what credentials, and what is imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mechaway_core.aws.clients import Clients, clients
from mechaway_core.aws.signing import Keys
from mechaway_core.errors import Invalid, Unavailable
from mechaway_core.settings import AwsVariables, Settings
from tests import s3_server
from tests.house.tree import ROOT

HOT_PATH = """
import sys
from pathlib import Path

from mechaway_core.ports import Column, InsertRows
from tests.contracts.adapters import FACTORIES

adapters = FACTORIES["s3"](Path(sys.argv[1]))
version = adapters.store.put("default", "k", b"1")
adapters.store.get("default", "k", version)
adapters.tables.write("default", InsertRows("t", [{"a": 1}], [Column("a")]))
adapters.store.keys("default", "")
adapters.close()
print(*sys.modules)
"""


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    s3_server.server()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def made() -> Clients:
    return clients(Settings(bucket="b"))


def test_credentials_are_those_of_the_environment_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = made()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert asked.keys() == Keys("one", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert asked.keys() == Keys("one", "secret", "token")


def test_credentials_that_the_environment_does_not_hold_come_from_boto3(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = file\naws_secret_access_key = secret\n")
    assert made().keys() == Keys("file", "secret")


def test_no_credentials_and_no_region_are_said() -> None:
    with pytest.raises(Unavailable, match="no credentials for AWS"):
        made().keys()
    with pytest.raises(Unavailable, match="set AWS_REGION"):
        _ = made().s3


def test_a_bucket_has_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(Invalid, match="MECHAWAY_BUCKET"):
        _ = clients(Settings()).s3


def test_clients_of_boto3_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    asked = made()
    assert asked.kms is asked.kms
    names = [
        client.meta.service_model.service_name for client in (asked.kms, asked.events, asked.scheduler, asked.functions, asked.secrets)
    ]
    assert names == ["kms", "events", "scheduler", "lambda", "secretsmanager"]


def test_variables_of_aws_are_read_and_secrets_not_shown() -> None:
    environ = {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://near",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_SESSION_TOKEN": "hidden",
    }
    found = AwsVariables.load(environ)
    assert (found.region, found.s3_endpoint) == ("eu-west-1", "http://near")
    assert AwsVariables.load(environ | {"AWS_REGION": "eu-west-2", "AWS_ENDPOINT_URL_S3": "http://s3"}).region == "eu-west-2"
    assert "hidden" not in repr(found)


def test_what_a_run_does_imports_neither_boto3_nor_a_parser_of_xml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", HOT_PATH, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "mechaway_core.aws.tables" in modules
    for heavy in ("boto3", "botocore", "xml", "pydantic", "fastapi", "httpx", "asyncio", "cryptography"):
        assert [name for name in modules if name == heavy or name.startswith(f"{heavy}.")] == []
