"""A second installation beside the first, from its deploy to what is left of it; and time kept by EventBridge Scheduler."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.aws.schedules import Place, RuleSchedules, SchedulerSchedules
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings
from tests.cloud.clockwork import PATIENCE, clock, fires, soon
from tests.cloud.emulator import ROOT, Emulator
from tests.cloud.page import commands, type_in
from tests.cloud.roles import Call, likeness
from tests.cloud.stack import Cloud, Stack
from tests.journeys.server import echo, poc, problem, until

STAGE = "second"
FIRST, LAST = "From an empty account to the first webhook", "Taking it down"  # on docs/deploy.md
DAILY = "rate(1 day)"
OWN = "a-token-of-our-own-4f0c9a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where SAM was called, and wrote what it was answered."""
    return tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def second(emulator: Emulator, built: Path, parameters: dict[str, str], folder: Path) -> Stack:
    made = Stack(emulator, "mechaway-second")
    made.deploy_guided(built, folder, **parameters, Stage=STAGE, Schedules="scheduler", ApiToken="generate")
    return made


@pytest.fixture(scope="module")
def api(emulator: Emulator, second: Stack) -> Iterator[Cloud]:
    with Cloud(emulator, second.outputs["ApiUrl"], second.token()) as made:
        yield made


def keeper(second: Stack) -> SchedulerSchedules:
    """What keeps time in the second installation, as its functions have it."""
    role = second.emulator.client("iam").get_role(RoleName=second.physical("SchedulerRole"))["Role"]["Arn"]
    settings = Settings(stage=STAGE, schedules="scheduler", scheduler_role=role, runner_function=second.arn("RunnerFunction"))
    return SchedulerSchedules(lambda: second.emulator.client("scheduler"), Place.of(settings))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the first commands of docs/deploy.md are not typed: there is no curl")
def test_the_first_commands_of_the_page_end_with_the_answer_that_stands_there(second: Stack) -> None:
    shown = type_in(second, commands(FIRST)[1])
    page = (ROOT / "docs" / "deploy.md").read_text()
    [answer] = re.findall(
        r"^```json data\n(.*?)\n```$", page.partition(f"\n## {FIRST}\n")[2].partition("\n## ")[0], re.DOTALL | re.MULTILINE
    )
    assert shown.strip().endswith(answer)


def test_two_installations_share_nothing(api: Cloud, server: Cloud) -> None:
    server.save(poc() | {"id": "here"})
    assert server.http.post("/webhook/here/grade", json={"student_id": "here", "score": 70}).status_code == 200
    problem(api.http.get("/api/workflows/here"), 404)
    problem(api.http.post("/webhook/here/grade", json={}), 404)
    rows = api.http.get("/api/tables/student_grades/rows")
    assert rows.status_code == 404 or "here" not in {row["student_id"] for row in rows.json()["rows"]}
    problem(server.http.get("/api/workflows", headers={"authorization": f"Bearer {api.token}"}), 401)


def test_the_roles_of_one_reach_nothing_of_the_other(second: Stack, stack: Stack) -> None:
    bucket, key, token = stack.bucket, stack.outputs["KeyArn"], stack.physical("TokenSecret")
    calls: dict[str, Call] = {
        "read": lambda to: to.client("s3").list_objects_v2(Bucket=bucket),
        "write": lambda to: to.client("s3").put_object(Bucket=bucket, Key="x", Body=b"x"),
        "lock": lambda to: to.client("kms").encrypt(KeyId=key, Plaintext=b"x"),
        "take the token": lambda to: to.client("secretsmanager").get_secret_value(SecretId=token),
        "start a run": lambda to: to.client("lambda").invoke(FunctionName=stack.physical("RunnerFunction"), Payload=b"{}"),
        "make a rule, where Scheduler keeps time": lambda to: to.client("events").put_rule(
            Name="mechaway-second-x", ScheduleExpression=DAILY
        ),
        "make a schedule outside of its group": lambda to: to.client("scheduler").create_schedule(**schedule_of(second, "default")),
    }
    for role in ("ApiRole", "RunnerRole"):
        with likeness(second, role) as made:
            assert [name for name, call in calls.items() if made.may(call)] == []
            made.client("scheduler").create_schedule(**schedule_of(second))
            made.client("scheduler").delete_schedule(Name="x", GroupName=f"mechaway-{STAGE}")


def schedule_of(stack: Stack, group: str = f"mechaway-{STAGE}") -> dict[str, Any]:
    """What makes a schedule that calls the runner of a stack."""
    arn = stack.emulator.client("iam").get_role(RoleName=stack.physical("SchedulerRole"))["Role"]["Arn"]
    target = {"Arn": stack.arn("RunnerFunction"), "RoleArn": arn}
    return {"Name": "x", "GroupName": group, "ScheduleExpression": DAILY, "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}


def test_what_was_answered_is_written_down_but_for_the_token(second: Stack, folder: Path) -> None:
    written = (folder / "samconfig.toml").read_text()
    assert f'Stage=\\"{STAGE}\\"' in written
    assert "ApiToken" not in written
    assert second.token() not in written


def test_a_token_of_ones_own_replaces_the_generated_one(second: Stack, api: Cloud, built: Path, parameters: dict[str, str]) -> None:
    before = api.token
    second.deploy(built, **parameters, Stage=STAGE, Schedules="scheduler", ApiToken=OWN)
    with api.stranger() as stranger:
        assert stranger.get("/api/workflows", headers={"authorization": f"Bearer {OWN}"}).status_code == 200
        api.http.headers["authorization"] = f"Bearer {OWN}"
    assert before != OWN


def test_a_schedule_in_a_time_zone_fires_and_goes_when_no_workflow_asks_for_it(second: Stack, api: Cloud) -> None:
    schedules = keeper(second)
    schedules.put("default", Schedule("deleted-meanwhile", "clock", "* * * * *", "Asia/Kolkata"))
    (found,) = schedules.list("default")
    assert (found.expression, found.timezone) == ("* * * * *", "Asia/Kolkata")
    until(lambda: schedules.list("default") == [], "the schedule to fire and to go", patience=150)
    assert "node clock of workflow deleted-meanwhile in project default was due" in api.err


def test_saved_schedules_start_each_due_time_once_and_nothing_when_they_are_gone(second: Stack, api: Cloud) -> None:
    api.save(clock("minutely", "*/1 * * * *", "Europe/Berlin"))
    api.save(clock("zoned", soon("Asia/Tokyo"), "Asia/Tokyo"))
    zones = {one.workflow_id: one.timezone for one in keeper(second).list("default")}
    assert zones == {"minutely": "Europe/Berlin", "zoned": "Asia/Tokyo"}
    until(lambda: len(fires(api, "minutely")) > 1, "two runs of a schedule of each minute", PATIENCE)
    until(lambda: len(fires(api, "zoned")) > 1, "two runs of a schedule in its zone", PATIENCE)
    for workflow_id in zones:
        api.http.delete(f"/api/workflows/{workflow_id}").raise_for_status()
    assert keeper(second).list("default") == []
    time.sleep(75)
    for workflow_id in zones:
        due = fires(api, workflow_id)
        assert len(set(due)) == len(due)
        assert due[-1].timestamp() < time.time() - 60


def test_what_is_left_of_an_installation_is_its_bucket_and_its_key(emulator: Emulator, second: Stack, api: Cloud, folder: Path) -> None:
    """The last test of this module: the installation is gone then."""
    api.save(echo("kept"))
    keeper(second).put("default", Schedule("kept", "clock", "0 4 * * *"))
    leave_a_rule(second)
    bucket, key = second.bucket, second.physical("Key")
    define, down, rest = commands(FIRST)[1].partition("\nAPI_URL=")[0], *commands(LAST)
    assert type_in(second, define, down).splitlines()[:2] == [bucket, key_arn(emulator, key)]

    s3 = emulator.client("s3")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 0
    assert emulator.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    names = everything_named(emulator, STAGE)
    assert names == [], "these outlive the stack"
    assert api.http.get("/healthz").status_code in (403, 404)

    type_in(second, rest.replace("BUCKET", bucket).replace("KEY-ARN", key_arn(emulator, key)), cwd=folder)
    assert bucket not in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    assert emulator.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"


def key_arn(emulator: Emulator, key: str) -> str:
    """The ARN of a key."""
    return str(emulator.client("kms").describe_key(KeyId=key)["KeyMetadata"]["Arn"])


def leave_a_rule(second: Stack) -> None:
    """A rule of a workflow, from when rules kept the time of this installation."""
    place = Place.of(Settings(stage=STAGE, runner_function=second.arn("RunnerFunction")))
    RuleSchedules(lambda: second.emulator.client("events"), place).put("default", Schedule("kept", "clock", "0 4 * * *"))


def everything_named(emulator: Emulator, stage: str) -> list[str]:
    """What an account holds that has the name of an installation, but for buckets and keys."""
    functions = [one["FunctionName"] for one in emulator.client("lambda").list_functions()["Functions"]]
    layers = [one["LayerName"] for one in emulator.client("lambda").list_layers()["Layers"]]
    rules = [one["Name"] for one in emulator.client("events").list_rules()["Rules"]]
    schedules = [one["Name"] for one in emulator.client("scheduler").list_schedules()["Schedules"]]
    groups = [one["Name"] for one in emulator.client("scheduler").list_schedule_groups()["ScheduleGroups"]]
    roles = [one["RoleName"] for one in emulator.client("iam").list_roles()["Roles"]]
    policies = [one["PolicyName"] for one in emulator.client("iam").list_policies(Scope="Local")["Policies"]]
    queues = emulator.client("sqs").list_queues().get("QueueUrls", [])
    logs = [one["logGroupName"] for one in emulator.client("logs").describe_log_groups()["logGroups"]]
    secrets = [one["Name"] for one in emulator.client("secretsmanager").list_secrets()["SecretList"]]
    found = [*functions, *layers, *rules, *schedules, *groups, *roles, *policies, *queues, *logs, *secrets]
    return sorted(name for name in found if f"mechaway-{stage}" in name or f"/mechaway/{stage}" in name)
