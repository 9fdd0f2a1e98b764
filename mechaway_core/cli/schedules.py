"""`mechaway schedules`: what is due, and what became of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mechaway_core.cli.edge import opened

_ABOUT = """What the workflows of a project ask the clock for: when each is due next, what became of the last time, what was missed.

  mechaway schedules
  mechaway schedules --project shop --json
"""


def add_commands(commands: Any) -> None:
    """Add `schedules` to the commands of the command line."""
    parser = commands.add_parser(
        "schedules", help="what is due next, and what was missed", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", default="default", metavar="SLUG", help="the project (default default)")
    parser.add_argument("--json", action="store_true", help="as JSON, as GET /api/schedules has it")
    parser.add_argument("--data-dir", help="folder for projects and their tables (default data)")
    parser.set_defaults(command=_schedules)


def _schedules(arguments: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    after: str | None = ""
    with opened(arguments) as app:
        while after is not None:
            page, after = app.schedules(arguments.project, after)
            found += page
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        print(f'no workflow of project "{arguments.project}" has a schedule')
    for one in [] if arguments.json else found:
        print("\n".join(_lines(one)))
    return 0


def _lines(one: dict[str, Any]) -> list[str]:
    lines = [f"{one['workflow_id']} · {one['node']}", f"  {one['sentence']}  ({one['schedule']})"]
    for coming in one["next"]:
        lines.append(f"  next  {coming['local']}   {coming['utc']}")
    if one["last_run"] is not None:
        lines.append(f"  last  {one['last_started']}   {one['last_status']}, {one['lag_ms']:g} ms after it was due, run {one['last_run']}")
    if one["rules"]:
        lines.append(f"  kept  {', '.join(one['rules'])}")
    troubles = [f"{count} {word}" for word, count in (("missed", one["missed"]), ("skipped", one["skipped"])) if count]
    if one["overdue"]:
        troubles.append("overdue: no run has begun for the last due time; is a server running?")
    if troubles:
        lines.append(f"  !     {', '.join(troubles)}")
    return lines
