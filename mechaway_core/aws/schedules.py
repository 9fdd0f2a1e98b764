"""What the clock starts: EventBridge rules, or EventBridge Scheduler, calling the runner.

A schedule's name is `PREFIX-STAGE-project-workflow-node`, the last three as hashes, each of what stands before it too: so those of one
workflow have a prefix of their own, and `wf` never meets `wf2`. What the hashes stand for is in the description, in full, and that is what
counts. An expression that takes two (see `cron.py`) has a second one under the same name with `-2`. What says something else than the
schedule takes today, because it was changed by hand or a zone got other rules, is listed as one to be mended.

A rule is made before its target and loses its target before it goes; cut off between the two, there is a rule that starts nothing.
The input carries the expression it was made for, so that the runner can tell an old one from the one that the document asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mechaway_core.aws.calls import Meaning, calling
from mechaway_core.errors import Invalid, MechawayError, Unavailable
from mechaway_core.names import shorten
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

KIND = "schedule"  # what the input says that it is

_MOST_NAME = 64
_MOST_DESCRIPTION = 512
_SECOND = "-2"
_TARGET = "runner"
_MOST_RETRIES = 20  # of a delivery to the runner, within _MOST_AGE
_MOST_AGE = 3600  # seconds


class Place(NamedTuple):
    """Where an installation keeps its schedules, and what they call. ARNs; `queue` may be empty."""

    stem: str  # what all names begin with
    runner: str
    queue: str
    role: str = ""
    group: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """The place that the settings name. Raises `Invalid` when a name would be too long for EventBridge, or the runner is none."""
        if not settings.runner_function.startswith("arn:"):  # Lambda itself takes names too, EventBridge does not
            raise Invalid("MECHAWAY_RUNNER_FUNCTION must be the ARN of the runner function, for EventBridge to call it")
        stem = f"{settings.prefix}-{settings.stage}"
        room = _MOST_NAME - len(_name("", "p", "w", "n")) - len(_SECOND)
        if len(stem) > room:
            raise Invalid(f"MECHAWAY_PREFIX and MECHAWAY_STAGE may have {room - 1} characters together, not {len(stem) - 1}")
        group = settings.scheduler_group or stem
        return cls(stem, settings.runner_function, settings.dead_letter_queue, settings.scheduler_role, group)

    def name(self, project: str, *ids: str) -> str:
        """What the names of a project, of a workflow of it, or of one node begin with; for a node it is the name."""
        return _name(self.stem, project, *ids)

    @property
    def delivery(self) -> dict[str, Any]:
        """How hard a delivery to the runner is tried, and where it goes when that is in vain."""
        tried = {"RetryPolicy": {"MaximumRetryAttempts": _MOST_RETRIES, "MaximumEventAgeInSeconds": _MOST_AGE}}
        return tried | ({"DeadLetterConfig": {"Arn": self.queue}} if self.queue else {})


Said = tuple[str, str]  # an expression as EventBridge reads it, and the zone it reads it in


class Kept(NamedTuple):
    """A schedule as it is kept under one name; `sound` when it is all there."""

    name: str
    project: str
    schedule: Schedule
    said: Said
    sound: bool = True


class _Schedules:
    """What both keepers of time do in the same way; how they do it to one name is theirs."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def put(self, project: str, schedule: Schedule) -> None:
        """See `Schedules.put`."""
        said = self._said(schedule)
        first, second = self._both_names(project, schedule)
        for name, one in zip((first, second), said, strict=False):
            self._put(name, project, schedule, one)
        if len(said) == 1:
            self._delete(second)

    def delete(self, project: str, workflow_id: str, node_id: str | None = None) -> int:
        """See `Schedules.delete`."""
        ids = [workflow_id] if node_id is None else [workflow_id, node_id]
        found = [kept for kept in self._kept(self._place.name(project, *ids)) if _is(kept, project, workflow_id, node_id)]
        for kept in found:
            self._delete(kept.name)
        return len({kept.schedule.node_id for kept in found})

    def list(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        """See `Schedules.list`."""
        stem = self._place.name(project, *([] if workflow_id is None else [workflow_id]))
        found = [kept for kept in self._kept(stem) if _is(kept, project, workflow_id)]
        return [self._one(parts) for parts in _by_node(found)]

    def projects(self) -> set[str]:
        """See `Schedules.projects`."""
        return {kept.project for kept in self._kept(f"{self._place.stem}-")}

    def names(self, project: str, schedule: Schedule) -> tuple[str, ...]:
        """See `Schedules.names`."""
        return self._both_names(project, schedule)[: len(self._wanted(schedule))]

    def _both_names(self, project: str, schedule: Schedule) -> tuple[str, str]:
        name = self._place.name(project, schedule.workflow_id, schedule.node_id)
        return name, name + _SECOND

    def _one(self, parts: Sequence[Kept]) -> Schedule:
        """The schedule of a node, without its expression when it is not all there or says something else than is wanted."""
        schedule = parts[0].schedule
        same = all(part.schedule == schedule for part in parts) and all(map(self._is_sound, parts))
        said = tuple(sorted(part.said for part in parts))
        return schedule if same and said == self._wanted(schedule) else replace(schedule, expression="")

    def _wanted(self, schedule: Schedule) -> tuple[Said, ...]:
        try:
            return tuple(sorted(self._said(schedule)))
        except Invalid:  # somebody else wrote it
            return ()

    def _said(self, schedule: Schedule) -> tuple[Said, ...]:
        """What EventBridge gets for a schedule. Raises `Invalid` when it is none."""
        raise NotImplementedError

    def _put(self, name: str, project: str, schedule: Schedule, said: Said) -> None:
        raise NotImplementedError

    def _delete(self, name: str) -> None:
        """Delete what has this name; whoever deletes the same at the same time does no harm."""
        raise NotImplementedError

    def _kept(self, stem: str) -> Iterator[Kept]:
        """What is kept under names that begin like this."""
        raise NotImplementedError

    def _is_sound(self, kept: Kept) -> bool:
        """Whether it is switched on and calls the runner as it should."""
        return kept.sound


class RuleSchedules(_Schedules):
    """`Schedules` on EventBridge rules, which know UTC only; 300 rules in an account's bus unless its quota was raised."""

    def __init__(self, client: Callable[[], EventBridgeClient], place: Place) -> None:
        super().__init__(place)
        self._client = client

    def _said(self, schedule: Schedule) -> tuple[Said, ...]:
        from mechaway_core.aws.cron import eventbridge  # only where a schedule is made or looked at: a webhook needs no zones

        return tuple((said, "UTC") for said in eventbridge(schedule.expression, schedule.timezone))

    def _put(self, name: str, project: str, schedule: Schedule, said: Said) -> None:
        with calling(f'keep the schedule of node "{schedule.node_id}"', _MEANINGS):
            # An existing rule keeps the tags it has; its name says that they would be the same.
            self._client().put_rule(
                Name=name,
                ScheduleExpression=said[0],
                State="ENABLED",
                Description=_description(project, schedule),
                Tags=[{"Key": key, "Value": value} for key, value in self._tags(project, schedule).items()],
            )
            target: Any = {"Id": _TARGET, "Arn": self._place.runner, **self._place.delivery}
            target["InputTransformer"] = {
                "InputPathsMap": {"due": "$.time"},
                "InputTemplate": _input(project, schedule)[:-1] + ',"scheduled_for":<due>}',
            }
            failed = self._client().put_targets(Rule=name, Targets=[target])
        if failed["FailedEntryCount"]:
            why = failed["FailedEntries"][0].get("ErrorMessage", "")
            raise Unavailable(f'the schedule of node "{schedule.node_id}" cannot call the runner: {shorten(why, 200)}')

    def _tags(self, project: str, schedule: Schedule) -> dict[str, str]:
        return {"mechaway": self._place.stem, "project": project, "workflow": schedule.workflow_id, "node": schedule.node_id}

    def _delete(self, name: str) -> None:
        gone: Mapping[str, Meaning] = {"ResourceNotFoundException": _Gone}
        try:
            with calling("delete a schedule", gone):
                client = self._client()
                if ids := [target["Id"] for target in client.list_targets_by_rule(Rule=name)["Targets"]]:
                    client.remove_targets(Rule=name, Ids=ids)
                client.delete_rule(Name=name)
        except _Gone:
            pass

    def _is_sound(self, kept: Kept) -> bool:
        try:
            with calling("read a schedule", {"ResourceNotFoundException": _Gone}):
                targets = self._client().list_targets_by_rule(Rule=kept.name)["Targets"]
        except _Gone:
            return False
        return kept.sound and any(target["Arn"] == self._place.runner for target in targets)

    def _kept(self, stem: str) -> Iterator[Kept]:
        with calling("list the schedules"):
            for page in self._client().get_paginator("list_rules").paginate(NamePrefix=stem):
                for rule in page["Rules"]:
                    said = rule.get("ScheduleExpression", ""), "UTC"
                    yield from _read(rule["Name"], rule.get("Description"), said, rule.get("State"))


class SchedulerSchedules(_Schedules):
    """`Schedules` on EventBridge Scheduler, which knows time zones."""

    def __init__(self, client: Callable[[], EventBridgeSchedulerClient], place: Place) -> None:
        super().__init__(place)
        self._client = client
        if not place.role:
            raise Invalid("EventBridge Scheduler needs a role to call the runner with; put its ARN into MECHAWAY_SCHEDULER_ROLE")

    def _said(self, schedule: Schedule) -> tuple[Said, ...]:
        from mechaway_core.aws.cron import scheduler  # as above

        return scheduler(schedule.expression, schedule.timezone)

    def _put(self, name: str, project: str, schedule: Schedule, said: Said) -> None:
        wanted: Any = {
            "Name": name,
            "GroupName": self._place.group,
            "Description": _description(project, schedule),
            "ScheduleExpression": said[0],
            "ScheduleExpressionTimezone": said[1],
            "State": "ENABLED",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": self._place.runner,
                "RoleArn": self._place.role,
                # the service puts the values in; execution-id is another one for each attempt, so the time is what tells runs apart
                "Input": _input(project, schedule)[:-1]
                + ',"scheduled_for":"<aws.scheduler.scheduled-time>","execution":"<aws.scheduler.execution-id>"}',
                **self._place.delivery,
            },
        }
        try:
            with calling(f'keep the schedule of node "{schedule.node_id}"', _MEANINGS | {"ResourceNotFoundException": _Gone}):
                self._client().update_schedule(**wanted)
        except _Gone:
            self._create(wanted, schedule)

    def _create(self, wanted: Any, schedule: Schedule) -> None:
        group = self._place.group
        missing = _unavailable(f'there is no schedule group "{group}"; deploy again, or set MECHAWAY_SCHEDULER_GROUP')
        try:
            with calling(
                f'keep the schedule of node "{schedule.node_id}"',
                _MEANINGS | {"ConflictException": _Gone, "ResourceNotFoundException": missing},
            ):
                self._client().create_schedule(**wanted)
        except _Gone:  # somebody made it just now; it is changed like any other
            with calling(f'keep the schedule of node "{schedule.node_id}"', _MEANINGS):
                self._client().update_schedule(**wanted)

    def _delete(self, name: str) -> None:
        try:
            with calling("delete a schedule", {"ResourceNotFoundException": _Gone}):
                self._client().delete_schedule(Name=name, GroupName=self._place.group)
        except _Gone:
            pass

    def _kept(self, stem: str) -> Iterator[Kept]:
        with calling("list the schedules"):
            pages = self._client().get_paginator("list_schedules").paginate(GroupName=self._place.group, NamePrefix=stem)
            names = [one["Name"] for page in pages for one in page["Schedules"]]
        for name in names:
            yield from self._found(name)

    def _found(self, name: str) -> Iterator[Kept]:
        try:
            with calling("read a schedule", {"ResourceNotFoundException": _Gone}):
                found = self._client().get_schedule(Name=name, GroupName=self._place.group)
        except _Gone:
            return
        said = found["ScheduleExpression"], found.get("ScheduleExpressionTimezone", "UTC")
        aimed = found["Target"]["Arn"] == self._place.runner
        for kept in _read(name, found.get("Description"), said, found.get("State")):
            yield kept._replace(sound=kept.sound and aimed)


def make_schedules(
    settings: Settings, events: Callable[[], EventBridgeClient], scheduler: Callable[[], EventBridgeSchedulerClient]
) -> RuleSchedules | SchedulerSchedules:
    """What keeps time in an installation with these settings."""
    place = Place.of(settings)
    return RuleSchedules(events, place) if settings.schedules == "rules" else SchedulerSchedules(scheduler, place)


class _Gone(MechawayError):
    """What was to be deleted or changed is not there; never leaves this file."""


def _unavailable(sentence: str) -> Meaning:
    def meaning(_: str) -> MechawayError:
        return Unavailable(sentence)

    return meaning


def _refused(message: str) -> MechawayError:
    return Invalid(f"EventBridge refuses the schedule: {message}")


_FULL = _unavailable(
    "this account has no room for another schedule: EventBridge's quota is used up; "
    "deploy with schedules=scheduler, which has room for a million, or have the quota raised in Service Quotas"
)
_MEANINGS: dict[str, Meaning] = {
    "LimitExceededException": _FULL,  # of rules
    "ServiceQuotaExceededException": _FULL,  # of Scheduler
    "ValidationException": _refused,
    "ConcurrentModificationException": _unavailable("somebody else changes the same schedule at this moment; try again"),
}


# -- names and descriptions


def _name(stem: str, project: str, *ids: str) -> str:
    parts = [_hash(project, length=8), *(_hash(project, *ids[: number + 1], length=12) for number in range(len(ids)))]
    return "-".join([stem, *parts])


def _hash(*texts: str, length: int) -> str:
    return hashlib.sha256("/".join(texts).encode()).hexdigest()[:length]  # no id holds a slash


def _description(project: str, schedule: Schedule) -> str:
    """What a schedule is for, as a JSON list that people can read too. Raises `Invalid` when it is too long for EventBridge."""
    text = orjson.dumps([project, schedule.workflow_id, schedule.node_id, schedule.expression, schedule.timezone]).decode()
    if len(text) > _MOST_DESCRIPTION:
        raise Invalid(
            f'the schedule of node "{shorten(schedule.node_id)}" cannot be kept: the ids of workflow and node and the expression '
            f"are {len(text) - _MOST_DESCRIPTION} characters too long together"
        )
    return text


def _input(project: str, schedule: Schedule) -> str:
    """What the runner gets, but for the time; `<` would mean something to EventBridge, and no id, expression or zone holds one."""
    about = {
        "kind": KIND,
        "project": project,
        "workflow": schedule.workflow_id,
        "node": schedule.node_id,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
    }
    return orjson.dumps(about).decode()


def _read(name: str, description: str | None, said: Said, state: str | None) -> Iterator[Kept]:
    """The schedule that a name and description stand for; nothing when they are none of ours."""
    try:
        project, workflow_id, node_id, expression, zone = map(str, orjson.loads(description or ""))
    except (ValueError, TypeError):
        return
    yield Kept(name, project, Schedule(workflow_id, node_id, expression, zone), said, state == "ENABLED")


def _is(kept: Kept, project: str, workflow_id: str | None = None, node_id: str | None = None) -> bool:
    """Whether it is of exactly this project, workflow and node: hashes may meet by chance."""
    found = kept.schedule
    return (
        kept.project == project
        and (workflow_id is None or found.workflow_id == workflow_id)
        and (node_id is None or found.node_id == node_id)
    )


def _by_node(found: Iterable[Kept]) -> list[list[Kept]]:
    """What is kept for each node, in the order of their ids."""
    nodes: dict[tuple[str, str], list[Kept]] = {}
    for kept in found:
        nodes.setdefault((kept.schedule.workflow_id, kept.schedule.node_id), []).append(kept)
    return [parts for _, parts in sorted(nodes.items())]
