"""What stands in EventBridge, in which order it gets there, and what happens when that is cut off or refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mechaway_core.aws.schedules import Place, RuleSchedules, SchedulerSchedules, make_schedules
from mechaway_core.errors import Invalid, Unavailable
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings
from tests.account import NUMBER, QUEUE, REGION, ROLE, RUNNER, Account, Died, answer, counting, dying, failing, hooked, unique
from tests.contracts.timekeepers import rules, scheduler

TICK = Schedule("wf", "tick", "*/5 * * * *")
BOTH = Schedule("wf", "tick", "0 3 1 * 1")  # days of the month and of the week: two rules


@pytest.fixture
def events(account: Account) -> Any:
    return account.client("events")


@pytest.fixture
def service(account: Account) -> Any:
    return account.client("scheduler")


def names(events: Any, stem: str) -> list[str]:
    return [rule["Name"] for rule in events.list_rules(NamePrefix=stem)["Rules"]]


# -- rules


def test_a_rule_has_a_short_name_readable_tags_and_one_target_with_all_the_runner_needs(events: Any) -> None:
    stem = unique("mechaway-prod")
    rules(events, stem).put("shop", Schedule("w" * 128, "n" * 128, "*/5 * * * *"))
    [name] = names(events, stem)
    assert re.fullmatch(rf"{stem}-[0-9a-f]{{8}}-[0-9a-f]{{12}}-[0-9a-f]{{12}}", name)
    assert len(name) + len("-2") <= 64
    rule = events.describe_rule(Name=name)
    assert rule["ScheduleExpression"] == "cron(0/5 * * * ? *)"
    tags = {tag["Key"]: tag["Value"] for tag in events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]}
    assert tags == {"mechaway": stem, "project": "shop", "workflow": "w" * 128, "node": "n" * 128}
    [target] = events.list_targets_by_rule(Rule=name)["Targets"]
    assert target["Arn"] == RUNNER
    assert target["DeadLetterConfig"] == {"Arn": QUEUE}
    assert target["InputTransformer"]["InputPathsMap"] == {"due": "$.time"}
    given = json.loads(target["InputTransformer"]["InputTemplate"].replace("<due>", '"2026-01-02T03:05:00Z"'))
    assert given == {
        "kind": "schedule",
        "project": "shop",
        "workflow": "w" * 128,
        "node": "n" * 128,
        "expression": "*/5 * * * *",
        "timezone": "UTC",
        "scheduled_for": "2026-01-02T03:05:00Z",
    }


@pytest.mark.parametrize("schedule", [TICK, BOTH])
def test_the_names_of_what_keeps_a_schedule_are_known_without_asking(events: Any, schedule: Schedule) -> None:
    stem = unique("mechaway-names")
    kept = rules(events, stem)
    kept.put("shop", schedule)
    assert list(kept.names("shop", schedule)) == names(events, stem)


def test_the_stem_leaves_room_for_the_rest_of_the_name() -> None:
    place = Place.of(Settings(prefix="mechaway", stage="production-eu", runner_function=RUNNER))
    assert len(place.name("p", "w", "n")) <= 62
    with pytest.raises(Invalid, match="MECHAWAY_PREFIX and MECHAWAY_STAGE"):
        Place.of(Settings(prefix="mechaway", stage="s" * 30, runner_function=RUNNER))


def test_a_runner_that_is_no_arn_is_refused() -> None:
    with pytest.raises(Invalid, match="MECHAWAY_RUNNER_FUNCTION"):
        Place.of(Settings(runner_function="the-runner"))


def test_days_of_the_month_or_of_the_week_are_two_rules_and_one_schedule(events: Any) -> None:
    stem = unique("mechaway-two")
    kept = rules(events, stem)
    kept.put("a", BOTH)
    said = sorted(rule["ScheduleExpression"] for rule in events.list_rules(NamePrefix=stem)["Rules"])
    assert said == ["cron(0 3 1 * ? *)", "cron(0 3 ? * 2 *)"]
    kept.put("a", TICK)
    assert len(names(events, stem)) == 1
    kept.put("a", BOTH)
    assert kept.delete("a", "wf") == 1
    assert names(events, stem) == []


def test_a_rule_of_a_zone_wakes_up_at_every_offset_it_has_and_tells_the_runner_the_zone(events: Any) -> None:
    stem = unique("mechaway-zone")
    rules(events, stem).put("a", Schedule("wf", "tick", "0 9 * * *", "Europe/Berlin"))
    [rule] = events.list_rules(NamePrefix=stem)["Rules"]
    assert rule["ScheduleExpression"] == "cron(0 7,8 * * ? *)"
    [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    given = json.loads(target["InputTransformer"]["InputTemplate"].replace("<due>", '"2026-01-02T08:00:00Z"'))
    assert (given["expression"], given["timezone"]) == ("0 9 * * *", "Europe/Berlin")


@pytest.mark.parametrize("said", ["cron(0 7 * * ? *)", "cron(0 9 * * ? *)"])
def test_a_rule_that_was_right_until_the_zone_got_other_rules_is_listed_as_what_must_be_mended(events: Any, said: str) -> None:
    stem = unique("mechaway-law")
    kept, schedule = rules(events, stem), Schedule("wf", "tick", "0 9 * * *", "Europe/Berlin")
    kept.put("a", schedule)
    [name] = names(events, stem)
    events.put_rule(Name=name, ScheduleExpression=said, Description=events.describe_rule(Name=name)["Description"])
    assert kept.list("a") == [Schedule("wf", "tick", "", "Europe/Berlin")]
    kept.put("a", schedule)
    assert kept.list("a") == [schedule]
    assert events.describe_rule(Name=name)["ScheduleExpression"] == "cron(0 7,8 * * ? *)"


def test_a_schedule_too_long_for_its_description_is_refused(events: Any) -> None:
    long = f"{','.join(map(str, range(60)))} {','.join(map(str, range(24)))} * * *"  # EventBridge's form of it is short
    with pytest.raises(Invalid, match="characters too long"):
        rules(events).put("a", Schedule("w" * 128, "n" * 128, long))


def test_a_rule_is_made_before_its_target_and_loses_it_before_it_goes(events: Any) -> None:
    kept = rules(events)
    with counting(events) as called:
        kept.put("a", TICK)
    assert [name for name in called if name.startswith("Put")] == ["PutRule", "PutTargets"]
    with counting(events) as called:
        kept.delete("a", "wf")
    assert [name for name in called if name.startswith(("Remove", "Delete"))] == ["RemoveTargets", "DeleteRule"]


@pytest.mark.parametrize("operation", ["PutRule", "PutTargets"])
@pytest.mark.parametrize("schedule", [TICK, BOTH])
def test_a_put_that_was_cut_off_is_made_whole_by_the_next(events: Any, operation: str, schedule: Schedule) -> None:
    kept = rules(events)
    with dying(events, operation), pytest.raises(Died):
        kept.put("a", schedule)
    assert schedule not in kept.list("a")
    kept.put("a", schedule)
    assert kept.list("a") == [schedule]


@pytest.mark.parametrize("operation", ["ListTargetsByRule", "RemoveTargets", "DeleteRule"])
@pytest.mark.parametrize("schedule", [TICK, BOTH])
def test_a_delete_that_was_cut_off_is_made_whole_by_the_next(events: Any, operation: str, schedule: Schedule) -> None:
    kept = rules(events)
    kept.put("a", schedule)
    with dying(events, operation), pytest.raises(Died):
        kept.delete("a", "wf")
    assert kept.delete("a", "wf") == 1
    assert kept.projects() == set()


def test_a_rule_without_its_target_or_with_another_one_is_there_by_half(events: Any) -> None:
    kept = rules(events)
    with dying(events, "PutTargets"), pytest.raises(Died):
        kept.put("a", TICK)
    assert kept.list("a") == [Schedule("wf", "tick", "")]
    kept.put("a", TICK)
    assert kept.list("a") == [TICK]
    with dying(events, "DeleteRule"), pytest.raises(Died):
        kept.delete("a", "wf")
    assert kept.list("a") == [Schedule("wf", "tick", "")]
    assert kept.delete("a", "wf") == 1


def test_half_of_two_rules_is_there_by_half(events: Any) -> None:
    stem = unique("mechaway-half")
    kept = rules(events, stem)
    kept.put("a", BOTH)
    second = next(name for name in names(events, stem) if name.endswith("-2"))
    events.disable_rule(Name=second)
    assert kept.list("a") == [Schedule("wf", "tick", "")]
    events.remove_targets(Rule=second, Ids=["runner"])
    events.delete_rule(Name=second)
    assert kept.list("a") == [Schedule("wf", "tick", "")]


def test_a_rule_that_somebody_changed_by_hand_is_listed_as_what_must_be_mended(events: Any) -> None:
    stem = unique("mechaway-hand")
    kept = rules(events, stem)
    kept.put("a", TICK)
    [name] = names(events, stem)
    description = events.describe_rule(Name=name)["Description"]
    events.put_rule(Name=name, ScheduleExpression="rate(1 minute)", Description=description)
    assert kept.list("a") == [Schedule("wf", "tick", "")]


def test_rules_of_others_are_left_alone(events: Any) -> None:
    stem = unique("mechaway-prod")
    kept = rules(events, stem)
    kept.put("a", TICK)
    [name] = names(events, stem)
    for other in (f"{name}x", f"{stem}2-{name.removeprefix(stem)[1:]}"):  # no description of ours, or another stage's
        events.put_rule(Name=other, ScheduleExpression="rate(1 day)", Description="back up the shop")
    assert kept.list("a") == [TICK]
    assert kept.delete("a", "wf") == 1
    assert len(names(events, stem)) == 2
    assert kept.projects() == set()


def test_the_quota_of_rules_says_what_to_do(events: Any) -> None:
    with failing(events, "PutRule", "LimitExceededException"), pytest.raises(Unavailable, match=r"schedules=scheduler.*Service Quotas"):
        rules(events).put("a", TICK)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("ConcurrentModificationException", Unavailable, "try again"),
        ("AccessDeniedException", Unavailable, "role is not allowed to"),
        ("ThrottlingException", Unavailable, "slow down"),
        ("ValidationException", Invalid, "EventBridge refuses the schedule: because"),
        ("InternalException", Unavailable, "InternalException: because"),
    ],
)
@pytest.mark.parametrize("operation", ["PutRule", "PutTargets"])
def test_what_eventbridge_refuses_is_a_sentence(events: Any, operation: str, code: str, error: type[Exception], words: str) -> None:
    with failing(events, operation, code), pytest.raises(error, match=words):
        rules(events).put("a", TICK)


def test_a_target_that_is_refused_in_an_answer_that_succeeds_is_no_success(events: Any) -> None:
    refused = {"FailedEntryCount": 1, "FailedEntries": [{"TargetId": "runner", "ErrorCode": "x", "ErrorMessage": "no such function"}]}
    with (
        hooked(events, "PutTargets", lambda **_: answer(refused)),
        pytest.raises(Unavailable, match="cannot call the runner: no such function"),
    ):
        rules(events).put("a", TICK)


def test_two_that_delete_the_same_rule_at_once_do_no_harm(events: Any) -> None:
    kept = rules(events)
    kept.put("a", TICK)
    for operation in ("ListTargetsByRule", "RemoveTargets", "DeleteRule"):
        with failing(events, operation, "ResourceNotFoundException"):
            assert kept.delete("a", "wf") == 1


# -- Scheduler


def test_a_schedule_of_scheduler_has_all_the_runner_needs_and_the_zone(service: Any) -> None:
    stem = unique("mechaway-prod")
    scheduler(service, stem).put("shop", Schedule("wf", "tick", "30 9 * * MON-FRI", "Europe/Berlin"))
    [summary] = service.list_schedules(GroupName=stem)["Schedules"]
    made = service.get_schedule(GroupName=stem, Name=summary["Name"])
    assert made["ScheduleExpression"] == "cron(30 9 ? * 2-6 *)"
    assert made["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert made["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = made["Target"]
    assert (target["Arn"], target["RoleArn"], target["DeadLetterConfig"]) == (RUNNER, ROLE, {"Arn": QUEUE})
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 20, "MaximumEventAgeInSeconds": 3600}
    assert json.loads(target["Input"]) == {
        "kind": "schedule",
        "project": "shop",
        "workflow": "wf",
        "node": "tick",
        "expression": "30 9 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "scheduled_for": "<aws.scheduler.scheduled-time>",
        "execution": "<aws.scheduler.execution-id>",
    }


def test_a_schedule_that_goes_on_by_elapsed_time_is_in_utc(service: Any) -> None:
    stem = unique("mechaway-utc")
    scheduler(service, stem).put("shop", Schedule("wf", "tick", "*/10 0-5 * * *", "Europe/Berlin"))
    [summary] = service.list_schedules(GroupName=stem)["Schedules"]
    made = service.get_schedule(GroupName=stem, Name=summary["Name"])
    assert (made["ScheduleExpression"], made["ScheduleExpressionTimezone"]) == ("cron(0/10 0-4,22,23 * * ? *)", "UTC")
    assert json.loads(made["Target"]["Input"])["timezone"] == "Europe/Berlin"


def test_days_of_the_month_or_of_the_week_are_two_schedules_of_scheduler(service: Any) -> None:
    stem = unique("mechaway-two")
    kept, both = scheduler(service, stem), Schedule("wf", "tick", "0 3 1 * 1", "Europe/Berlin")
    kept.put("a", both)
    listed = service.list_schedules(GroupName=stem)["Schedules"]
    made = [service.get_schedule(GroupName=stem, Name=one["Name"]) for one in listed]
    assert {(one["ScheduleExpression"], one["ScheduleExpressionTimezone"]) for one in made} == {
        ("cron(0 3 1 * ? *)", "Europe/Berlin"),
        ("cron(0 3 ? * 2 *)", "Europe/Berlin"),
    }
    service.delete_schedule(GroupName=stem, Name=listed[0]["Name"])
    assert kept.list("a") == [Schedule("wf", "tick", "", "Europe/Berlin")]
    kept.put("a", both)
    assert kept.list("a") == [both]


def test_a_schedule_in_another_zone_than_wanted_is_listed_as_what_must_be_mended(service: Any) -> None:
    stem = unique("mechaway-elsewhere")
    kept, wanted = scheduler(service, stem), Schedule("wf", "tick", "0 9 * * *", "Europe/Berlin")
    kept.put("a", wanted)
    made = service.get_schedule(GroupName=stem, Name=service.list_schedules(GroupName=stem)["Schedules"][0]["Name"])
    fields = ("Name", "GroupName", "Description", "ScheduleExpression", "FlexibleTimeWindow", "Target", "State")
    service.update_schedule(ScheduleExpressionTimezone="Europe/Rome", **{field: made[field] for field in fields})
    assert kept.list("a") == [Schedule("wf", "tick", "", "Europe/Berlin")]


def test_scheduler_needs_a_role(service: Any) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_SCHEDULER_ROLE"):
        scheduler(service, role="")


def test_a_group_that_is_not_there_is_a_sentence(service: Any) -> None:
    kept = scheduler(service, stem := unique("mechaway-none"))
    with (
        failing(service, "UpdateSchedule", "ResourceNotFoundException", status=404),
        failing(service, "CreateSchedule", "ResourceNotFoundException", status=404),
        pytest.raises(Unavailable, match=f'no schedule group "{stem}"'),
    ):
        kept.put("a", TICK)


def test_scheduler_s_quota_says_what_to_do(service: Any) -> None:
    with failing(service, "CreateSchedule", "ServiceQuotaExceededException", status=402), pytest.raises(Unavailable, match="quota"):
        scheduler(service).put("a", TICK)


def test_two_that_make_the_same_schedule_at_once_do_no_harm(service: Any) -> None:
    kept = scheduler(service)
    kept.put("a", TICK)
    absent = iter([answer({"Message": "none"}, 404, "ResourceNotFoundException")])
    with hooked(service, "UpdateSchedule", lambda **_: next(absent, None)):  # it is not there when we look and there when we make it
        kept.put("a", TICK)
    assert kept.list("a") == [TICK]


def test_a_schedule_that_was_switched_off_is_there_by_half(service: Any) -> None:
    stem = unique("mechaway-off")
    kept = scheduler(service, stem)
    kept.put("a", TICK)
    made = service.get_schedule(GroupName=stem, Name=service.list_schedules(GroupName=stem)["Schedules"][0]["Name"])
    fields = ("Name", "GroupName", "Description", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "Target")
    service.update_schedule(State="DISABLED", **{field: made[field] for field in fields})
    assert kept.list("a") == [Schedule("wf", "tick", "")]
    kept.put("a", TICK)
    assert kept.list("a") == [TICK]


def test_all_pages_of_scheduler_are_read(service: Any) -> None:
    stem = unique("mechaway-pages")
    kept = scheduler(service, stem)
    wanted = [Schedule("wf", f"tick{number}", "@daily") for number in range(4)]
    for schedule in wanted:
        kept.put("a", schedule)
    whole = [{"Name": one["Name"], "Arn": one["Arn"]} for one in service.list_schedules(GroupName=stem)["Schedules"]]
    pages = iter([{"Schedules": whole[:2], "NextToken": "more"}, {"Schedules": whole[2:]}])
    with hooked(service, "ListSchedules", lambda **_: answer(next(pages))):
        assert kept.list("a") == wanted


# -- which of them


def test_the_settings_choose(events: Any, service: Any) -> None:
    settings = Settings(runner_function=f"arn:aws:lambda:{REGION}:{NUMBER}:function:x", scheduler_role=ROLE)
    assert isinstance(make_schedules(settings, lambda: events, lambda: service), RuleSchedules)
    chosen = Settings(runner_function=RUNNER, scheduler_role=ROLE, schedules="scheduler")
    assert isinstance(make_schedules(chosen, lambda: events, lambda: service), SchedulerSchedules)
