"""The roles of the functions, enforced: each may do its work, and nothing to what is not its installation's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.emulator import Emulator
from tests.cloud.roles import Call, Likeness, likeness
from tests.cloud.stack import Stack

NOT_OURS = "somebody-elses"
ROLES = ("ApiRole", "RunnerRole")


class Others:
    """What is in the account beside the installation: a bucket, a key, a secret, a function's name."""

    def __init__(self, emulator: Emulator) -> None:
        emulator.client("s3").create_bucket(Bucket=NOT_OURS)
        emulator.client("s3").put_object(Bucket=NOT_OURS, Key="private", Body=b"private")
        self.key = emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.sealed = emulator.client("kms").encrypt(KeyId=self.key, Plaintext=b"private")["CiphertextBlob"]
        self.secret = emulator.client("secretsmanager").create_secret(Name=NOT_OURS, SecretString="private")["ARN"]


@pytest.fixture(scope="module")
def others(emulator: Emulator) -> Others:
    return Others(emulator)


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Likeness]:
    with likeness(stack, "ApiRole") as made:
        yield made


@pytest.fixture(scope="module")
def runner(stack: Stack) -> Iterator[Likeness]:
    with likeness(stack, "RunnerRole") as made:
        yield made


@pytest.fixture
def role(request: pytest.FixtureRequest) -> Likeness:
    found: Likeness = request.getfixturevalue({"ApiRole": "api", "RunnerRole": "runner"}[request.param])
    return found


def every_role(test: Any) -> Any:
    """Ask it of both roles."""
    return pytest.mark.parametrize("role", ROLES, indirect=True)(test)


def refused(role: Likeness, calls: dict[str, Call]) -> list[str]:
    """The names of the calls that the role may not make."""
    return [name for name, call in calls.items() if not role.may(call)]


@every_role
def test_both_may_do_the_work(role: Likeness, stack: Stack) -> None:
    bucket, key, runner = stack.bucket, stack.outputs["KeyArn"], stack.arn("RunnerFunction")
    calls: dict[str, Call] = {
        "hand a run to the runner": lambda to: to.client("lambda").invoke(FunctionName=runner, Payload=b'{"kind": "reconcile"}'),
        "put": lambda to: to.client("s3").put_object(Bucket=bucket, Key="try/object", Body=b"x"),
        "put a record": lambda to: to.client("s3").put_object(Bucket=bucket, Key="try/object", Body=b"x", Tagging="days=7"),
        "get": lambda to: to.client("s3").get_object(Bucket=bucket, Key="try/object"),
        "list": lambda to: to.client("s3").list_objects_v2(Bucket=bucket),
        "delete": lambda to: to.client("s3").delete_object(Bucket=bucket, Key="try/object"),
        "lock": lambda to: to.client("kms").encrypt(KeyId=key, Plaintext=b"x"),
        "make a rule": lambda to: to.client("events").put_rule(Name="mechaway-dev-try", ScheduleExpression="rate(1 day)"),
        "list rules": lambda to: to.client("events").list_rules(),
        "delete a rule": lambda to: to.client("events").delete_rule(Name="mechaway-dev-try"),
    }
    assert refused(role, calls) == []


def test_each_may_do_what_is_its_own_and_the_other_may_not(api: Likeness, runner: Likeness, stack: Stack) -> None:
    queue, token = stack.physical("DeadLetterQueue"), stack.physical("TokenSecret")
    asked: dict[str, Call] = {
        "read the token": lambda to: to.client("secretsmanager").get_secret_value(SecretId=token),
    }
    letters: dict[str, Call] = {"leave a dead letter": lambda to: to.client("sqs").send_message(QueueUrl=queue, MessageBody="{}")}
    try:
        assert (refused(api, asked), refused(api, letters)) == ([], list(letters))
        assert (refused(runner, asked), refused(runner, letters)) == (list(asked), [])
    finally:
        stack.emulator.client("sqs").purge_queue(QueueUrl=queue)


@every_role
def test_nobody_may_reach_what_is_not_the_installation_s(role: Likeness, others: Others) -> None:
    calls: dict[str, Call] = {
        "list another bucket": lambda to: to.client("s3").list_objects_v2(Bucket=NOT_OURS),
        "read in another bucket": lambda to: to.client("s3").get_object(Bucket=NOT_OURS, Key="private"),
        "write into another bucket": lambda to: to.client("s3").put_object(Bucket=NOT_OURS, Key="x", Body=b"x"),
        "delete in another bucket": lambda to: to.client("s3").delete_object(Bucket=NOT_OURS, Key="private"),
        "list all buckets": lambda to: to.client("s3").list_buckets(),
        "lock with another key": lambda to: to.client("kms").encrypt(KeyId=others.key, Plaintext=b"x"),
        "unlock with another key": lambda to: to.client("kms").decrypt(CiphertextBlob=others.sealed, KeyId=others.key),
        "read another secret": lambda to: to.client("secretsmanager").get_secret_value(SecretId=others.secret),
        "invoke another function": lambda to: to.client("lambda").invoke(FunctionName="mechaway-prod-runner"),
        "make a rule of another stage": lambda to: to.client("events").put_rule(Name="mechaway-prod-x", ScheduleExpression="rate(1 day)"),
        "make a rule of somebody": lambda to: to.client("events").put_rule(Name=NOT_OURS, ScheduleExpression="rate(1 day)"),
        "delete a rule of another stage": lambda to: to.client("events").delete_rule(Name="mechaway-prod-x"),
        "make a queue": lambda to: to.client("sqs").create_queue(QueueName=NOT_OURS),
        "make a user": lambda to: to.client("iam").create_user(UserName=NOT_OURS),
        "make a schedule, where rules keep time": lambda to: to.client("scheduler").create_schedule(
            Name="x",
            ScheduleExpression="rate(1 day)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": "arn:aws:sqs:us-east-1:000000000000:x", "RoleArn": "arn:aws:iam::000000000000:role/x"},
        ),
    }
    assert refused(role, calls) == list(calls)


@every_role
def test_nobody_may_change_what_the_installation_is_made_of(role: Likeness, stack: Stack) -> None:
    bucket, key, token = stack.bucket, stack.outputs["KeyArn"], stack.physical("TokenSecret")
    queue, function = stack.physical("DeadLetterQueue"), stack.physical("ApiFunction")
    group = "/mechaway/dev/access"
    calls: dict[str, Call] = {
        "delete the bucket": lambda to: to.client("s3").delete_bucket(Bucket=bucket),
        "open the bucket": lambda to: to.client("s3").put_bucket_policy(Bucket=bucket, Policy="{}"),
        "forget old versions": lambda to: to.client("s3").put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "delete the key": lambda to: to.client("kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=7),
        "change the token": lambda to: to.client("secretsmanager").put_secret_value(SecretId=token, SecretString="mine"),
        "read dead letters": lambda to: to.client("sqs").receive_message(QueueUrl=queue),
        "invoke the API past its door": lambda to: to.client("lambda").invoke(FunctionName=function, Payload=b"{}"),
        "change a function": lambda to: to.client("lambda").update_function_configuration(FunctionName=function, MemorySize=256),
        "read the log": lambda to: to.client("logs").filter_log_events(logGroupName=group),
        "delete the log": lambda to: to.client("logs").delete_log_group(logGroupName=group),
        "delete the stack": lambda to: to.client("cloudformation").delete_stack(StackName=stack.name),
    }
    assert refused(role, calls) == list(calls)
