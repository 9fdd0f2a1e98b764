"""The node that starts a run when it is time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from mechaway_core.bounds import Ge, Le
from mechaway_core.errors import Invalid
from mechaway_core.node import Trigger, param
from mechaway_core.settings import Settings
from mechaway_core.timing import Timing, moment_of

DAY = 86_400


class CronTrigger(Trigger):
    """Start a run at every time that a cron expression names, in a time zone.

    Gives one item: `trigger_type` ("cron"), `scheduled_for` (the time that was due), `timestamp` (when the run started), `workflow_id` and
    `project_slug`. Each due time starts one run, however often a clock or a restart asks for it.
    """

    group: ClassVar[str] = "Triggers"

    schedule: str = param(
        "Five fields (minute hour day month weekday), six with seconds first, seven with the year last, or @hourly, @daily, @weekly, "
        "@monthly, @yearly. Weekdays are 0 to 7 from Sunday, or names."
    )
    timezone: str = param("IANA time zone that the fields are in, such as Europe/Berlin.", "UTC")
    enabled: bool = param("Whether it starts runs.", True)
    starts_at: str | None = param("Time (ISO 8601) before which it starts nothing; without an offset, in the time zone.", None)
    ends_at: str | None = param("Time (ISO 8601) from which on it starts nothing.", None)
    grace: Annotated[float, Ge(1), Le(DAY)] = param("Seconds by which a run may begin late; what is later was missed.", 60.0)
    catch_up: Literal["skip", "last", "all"] = param(
        'What becomes of times that were missed, as after downtime: "skip" them, run the "last" one, or "all", the newest 100 at most.',
        "skip",
    )
    overlap: Literal["allow", "skip", "queue", "cancel_previous"] = param(
        'What becomes of a time that comes while the run of an earlier one goes on: "allow" both, "skip" it, "queue" it, or '
        '"cancel_previous".',
        "allow",
    )
    jitter: Annotated[float, Ge(0), Le(DAY)] = param("Seconds, up to which the start is put off by chance, to spread load.", 0.0)

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        from mechaway_core.cron.expression import read
        from mechaway_core.cron.zones import zone

        known = True
        try:
            zone(self.timezone)
        except Invalid as error:
            known = False
            yield "timezone", str(error)
        for name in ("starts_at", "ends_at"):
            text = getattr(self, name)
            if text is not None and moment_of(text, self.timezone if known else "UTC") is None:
                known = False
                yield name, f'"{text[:80]}" is no time; write it as 2026-12-24T18:00:00, or with an offset'
        try:
            expression = read(self.schedule)
        except Invalid as error:
            yield "schedule", str(error)
            return
        most = settings.max_fires_per_minute
        if expression.per_minute > most:
            yield (
                "schedule",
                f"it fires {expression.per_minute} times in a minute; this server allows {most} (MECHAWAY_MAX_FIRES_PER_MINUTE)",
            )
        if known and self.timing.next(time.time()) is None:
            yield "schedule", "it never fires again"

    @cached_property
    def timing(self) -> Timing:
        """When it is due, and what becomes of what was missed. Raises `Invalid` when this server cannot read it."""
        return Timing.read(self)
