"""What everything does that keeps `Schedules`."""

from __future__ import annotations

import pytest

from mechaway_core.errors import Invalid
from mechaway_core.ports import Schedule, Schedules
from tests.account import Account
from tests.contracts.timekeepers import FACTORIES


@pytest.fixture(params=list(FACTORIES))
def schedules(request: pytest.FixtureRequest, account: Account) -> Schedules:
    return FACTORIES[request.param](account)


def at(workflow: str, node: str = "tick", expression: str = "*/5 * * * *", timezone: str = "UTC") -> Schedule:
    return Schedule(workflow, node, expression, timezone)


def test_what_was_put_is_listed_as_it_was_written(schedules: Schedules) -> None:
    assert schedules.list("a") == []
    schedules.put("a", at("wf", expression="@hourly"))
    assert schedules.list("a") == [at("wf", expression="@hourly")]
    assert schedules.projects() == {"a"}


def test_there_is_one_for_each_node_and_the_last_one_counts(schedules: Schedules) -> None:
    for expression in ("*/5 * * * *", "0 3 1 * MON", "30 12 * * *"):
        schedules.put("a", at("wf", expression=expression))
        assert schedules.list("a") == [at("wf", expression=expression)]
    schedules.put("a", at("wf", "other"))
    assert [schedule.node_id for schedule in schedules.list("a")] == ["other", "tick"]


def test_putting_the_same_twice_changes_nothing(schedules: Schedules) -> None:
    for _ in range(2):
        schedules.put("a", at("wf"))
    assert schedules.list("a") == [at("wf")]
    assert schedules.delete("a", "wf") == 1


@pytest.mark.parametrize("expression", ["*/5 * * * *", "0 3 1,15 * MON-FRI"])
def test_what_was_deleted_is_gone_and_deleting_it_again_does_no_harm(schedules: Schedules, expression: str) -> None:
    schedules.put("a", at("wf", "one", expression))
    schedules.put("a", at("wf", "two", expression))
    assert schedules.delete("a", "wf", "one") == 1
    assert schedules.delete("a", "wf", "one") == 0
    assert schedules.list("a") == [at("wf", "two", expression)]
    assert schedules.delete("a", "wf") == 1
    assert schedules.delete("a", "wf") == 0
    assert schedules.list("a") == []
    assert schedules.projects() == set()


NEAR = ("wf", "wf2", "wf-", "wf.", "wf_", "w", "WF", "wf-tick", "wf" * 64)


@pytest.mark.parametrize("exactly", NEAR)
def test_a_workflow_never_meets_another_whose_name_is_near(schedules: Schedules, exactly: str) -> None:
    for workflow in NEAR:
        schedules.put("a", at(workflow))
    assert schedules.list("a", exactly) == [at(exactly)]
    assert schedules.delete("a", exactly) == 1
    assert {schedule.workflow_id for schedule in schedules.list("a")} == set(NEAR) - {exactly}


def test_nor_does_a_node(schedules: Schedules) -> None:
    for node in ("tick", "tick2", "tick-2", "t"):
        schedules.put("a", at("wf", node))
    assert schedules.delete("a", "wf", "tick") == 1
    assert [schedule.node_id for schedule in schedules.list("a")] == ["t", "tick-2", "tick2"]


def test_projects_do_not_see_each_other(schedules: Schedules) -> None:
    for project in ("a", "ab", "a-b"):
        schedules.put(project, at("wf"))
    assert schedules.delete("a", "wf") == 1
    assert schedules.list("a") == []
    assert schedules.list("ab") == schedules.list("a-b") == [at("wf")]
    assert schedules.projects() == {"ab", "a-b"}


def test_all_are_listed_however_many_there_are(schedules: Schedules) -> None:
    wanted = [at(f"wf{number:03}") for number in range(120)]
    for schedule in wanted:
        schedules.put("a", schedule)
    assert schedules.list("a") == wanted


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    "expression",
    [
        "0 9 * * *",
        "*/10 * * * *",
        "*/20 * * * * *",
        "* * * * * *",
        "15,45 30 8 * * MON-FRI",
        "0 0 1,15 * 5",
        "0 8 LW * *",
        "0 8 15W * *",
        "0 0 * * FRI#2",
        "0 0 * * FRIL",
        "0 0 9 1 1 * 2030-2040/2",
        "@monthly",
    ],
)
def test_every_schedule_there_is_can_be_kept(schedules: Schedules, expression: str, timezone: str) -> None:
    for _ in range(2):
        schedules.put("a", at("wf", expression=expression, timezone=timezone))
        assert schedules.list("a") == [at("wf", expression=expression, timezone=timezone)]
    schedules.put("a", at("wf"))
    assert schedules.list("a") == [at("wf")]
    assert schedules.delete("a", "wf") == 1
    assert schedules.projects() == set()


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("61 * * * *", "UTC"),
        ("@reboot", "UTC"),
        ("every five minutes", "UTC"),
        ("* * 31 2 1 1 1 1", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 9 * * *", "Europe/Atlantis"),
        ("0 9 * * *", ""),
    ],
)
def test_what_is_no_schedule_is_refused_and_nothing_changes(schedules: Schedules, expression: str, timezone: str) -> None:
    schedules.put("a", at("wf"))
    with pytest.raises(Invalid, match=r"cannot be read|no time zone"):
        schedules.put("a", at("wf", expression=expression, timezone=timezone))
    assert schedules.list("a") == [at("wf")]
