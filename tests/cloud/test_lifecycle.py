"""A second installation beside the first, from its deploy to what is left of it; and time kept by EventBridge Scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.aws.schedules import Place, SchedulerSchedules
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings
from tests.cloud.clockwork import PATIENCE, clock, fires, soon
from tests.cloud.emulator import Emulator
from tests.cloud.stack import Cloud, Stack
from tests.journeys.server import echo, poc, problem, until

STAGE = "second"


@pytest.fixture(scope="module")
def second(emulator: Emulator, built: Path, parameters: dict[str, str]) -> Stack:
    made = Stack(emulator, "mechaway-second")
    made.deploy(built, **parameters, Stage=STAGE, Schedules="scheduler", ApiToken="a-token-of-ours")
    return made


@pytest.fixture(scope="module")
def api(emulator: Emulator, second: Stack) -> Iterator[Cloud]:
    with Cloud(emulator, second.outputs["ApiUrl"], "a-token-of-ours") as made:
        yield made


def keeper(second: Stack) -> SchedulerSchedules:
    """What keeps time in the second installation, as its functions have it."""
    role = second.emulator.client("iam").get_role(RoleName=second.physical("SchedulerRole"))["Role"]["Arn"]
    settings = Settings(stage=STAGE, schedules="scheduler", scheduler_role=role, runner_function=second.arn("RunnerFunction"))
    return SchedulerSchedules(lambda: second.emulator.client("scheduler"), Place.of(settings))


def test_two_installations_share_nothing(api: Cloud, server: Cloud) -> None:
    server.save(poc())
    problem(api.http.get("/api/workflows/poc-grading-workflow"), 404)
    api.save(poc())
    call: dict[str, Any] = {"student_id": "s", "score": 70}
    assert api.http.post("/webhook/poc-grading-workflow/grade", json=call).json()["_inserted_id"] == 1
    problem(server.http.get("/api/workflows", headers={"authorization": f"Bearer {api.token}"}), 401)


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


def test_what_is_left_of_an_installation_is_its_bucket_and_its_key(emulator: Emulator, second: Stack, api: Cloud) -> None:
    """The last test of this module: the installation is gone then."""
    api.save(echo("kept"))
    keeper(second).put("default", Schedule("kept", "clock", "0 4 * * *"))
    bucket, key = second.bucket, second.physical("Key")
    second.delete()

    s3 = emulator.client("s3")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 0
    assert emulator.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    names = everything_named(emulator, STAGE)
    assert names == [], "these outlive the stack"
    assert api.http.get("/healthz").status_code in (403, 404)


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
