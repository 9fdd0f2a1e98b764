"""What an installation is made of holds: roles, encryption, updates in place, and what is left of it in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.cloud.emulator import Emulator
from tests.cloud.stack import Cloud, Stack
from tests.journeys.server import echo, poc, problem

CANARY = "canary-8f41c9"


@contextmanager
def denied(stack: Stack, role: str, *actions: str) -> Iterator[None]:
    """A role that is denied something for a while."""
    iam = stack.emulator.client("iam")
    statement = {"Effect": "Deny", "Action": list(actions), "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=stack.physical(role), PolicyName="denied", PolicyDocument=policy)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=stack.physical(role), PolicyName="denied")


def test_the_function_acts_by_its_role_and_what_the_role_may_not_is_told_without_a_trace(server: Cloud, stack: Stack) -> None:
    server.save(echo("before") | {"settings": {"record": "none"}})
    server.save(echo("recorded"))
    with denied(stack, "ApiRole", "s3:PutObject"):
        answer = server.http.post("/api/workflows", json=echo("refused"))
        problem(answer, answer.status_code)
        assert answer.status_code >= 500
        assert server.http.post("/webhook/before", json=1).json() == 1
        problem(server.http.post("/webhook/recorded", json=1), 503)
    problem(server.http.get("/api/workflows/refused"), 404)
    assert server.http.post("/api/workflows", json=echo("refused")).status_code == 201


def test_somebody_else_in_the_account_reads_nothing(stack: Stack, emulator: Emulator) -> None:
    iam = emulator.client("iam")
    iam.create_user(UserName="somebody")
    key = iam.create_access_key(UserName="somebody")["AccessKey"]
    s3 = emulator.client_for("s3", key["AccessKeyId"], key["SecretAccessKey"])
    try:
        with pytest.raises(ClientError) as refused:
            s3.list_objects_v2(Bucket=stack.bucket)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    finally:
        s3.close()
        iam.delete_access_key(UserName="somebody", AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName="somebody")


def test_a_secret_is_in_the_bucket_as_something_else_and_in_no_log(server: Cloud, stack: Stack) -> None:
    server.keep_secrets(CANARY=CANARY)
    listed = stack.emulator.client("s3").list_objects_v2(Bucket=stack.bucket)
    keys = [one["Key"] for one in listed["Contents"]]
    assert keys
    for key in keys:
        assert CANARY.encode() not in stack.emulator.client("s3").get_object(Bucket=stack.bucket, Key=key)["Body"].read()
    assert CANARY not in server.err


def test_an_update_in_place_keeps_everything(server: Cloud, stack: Stack, built: Path, parameters: dict[str, str]) -> None:
    server.save(poc())
    call = {"student_id": "before", "score": 1}
    first = server.http.post("/webhook/poc-grading-workflow/grade", json=call).json()["_inserted_id"]
    before = dict(stack.outputs)
    stack.deploy(built, **parameters | {"LogRetentionDays": "14"})
    assert stack.outputs == before
    assert server.http.post("/webhook/poc-grading-workflow/grade", json=call).json()["_inserted_id"] == first + 1
