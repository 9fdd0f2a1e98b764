"""`mechaway runs`: what is on record, one run of it, what happens now, again, and stop."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaway_core import jsontext
from mechaway_core.cli import tree
from mechaway_core.cli.edge import opened, who_begins
from mechaway_core.cli.screen import Screen, local_time, span
from mechaway_core.errors import Invalid, Malformed, NotFound
from mechaway_core.names import shorten
from mechaway_core.ports import RunQuery

if TYPE_CHECKING:
    from mechaway_core.app import App
    from mechaway_core.runs.replay import Wish

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled", "timed_out")
TRIGGERS = ("webhook", "cron", "manual", "error", "replay")
MOST_PAGES = 100  # of one list: a search that finds nothing looks through some hundred runs in each
LOOK_EVERY = 0.3  # seconds between two looks for what happened

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_ABOUT = """What is on record of runs, newest first; one of them node by node; what happens now; and runs again.

  mechaway runs --status failed timed_out --since 2d
  mechaway runs --workflow orders --text card_declined --limit 100
  mechaway runs show 019a6f0c-…               each node: what it took and gave, how long, which error
  mechaway runs tail --workflow orders        runs as they begin and end, until Ctrl-C
  mechaway runs replay 019a6f0c-…             again, from the node where it failed
  mechaway runs replay --status failed --workflow orders --since 1h --yes
  mechaway runs cancel 019a6f0c-…
"""
_SHOW = """Show the record of a run: a line of the run, then its nodes as the graph has them, each below the last of its parents.

  mechaway runs show 019a6f0c-… --log --items
"""
_TAIL = """Tell each run that begins or ends from now on, a line each, until Ctrl-C. A run that is over at once is told when it ends.

  mechaway runs tail --status failed
"""
_REPLAY = """Run again, as a new run, what is on record: one run by its id, or all that a filter finds, 1000 of the newest at most. What the
nodes before the place to begin at gave comes from the record. A filter only tells which runs these are, unless --yes is said. The new
run begins in a server, not in this command.

  mechaway runs replay 019a6f0c-…                                    from the node where it failed, by the current version
  mechaway runs replay 019a6f0c-… --from start --version same
  mechaway runs replay 019a6f0c-… --from save --items fixed.json
  mechaway runs replay --status failed --workflow orders --yes
"""
_CANCEL = """Ask a run to stop, in whatever server process it goes on.

  mechaway runs cancel 019a6f0c-…
"""


def add_commands(commands: Any) -> None:
    """Add `runs` to the commands of the command line."""
    parser = commands.add_parser("runs", help="list, show, watch and repeat runs on record", description=_ABOUT, formatter_class=_Raw)
    _add_place(parser)
    _add_filter(parser)
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="the most to list (default 20)")
    parser.add_argument("--json", action="store_true", help="as JSON, as GET /api/runs has it")
    parser.set_defaults(command=_list)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    show = _verb(verbs, "show", "show the record of a run", _SHOW, _show)
    show.add_argument("id", metavar="ID", help="the id of the run")
    show.add_argument("--log", action="store_true", help="with what scripts logged")
    show.add_argument("--items", action="store_true", help="with the items that each node took and gave")
    show.add_argument("--json", action="store_true", help="the record as JSON, as GET /api/runs/ID has it")

    tail = _verb(verbs, "tail", "tell what happens from now on", _TAIL, _tail)
    tail.add_argument("--json", action="store_true", help="a JSON object a line")
    _add_filter(tail, past=False)

    replay = _verb(verbs, "replay", "run again what is on record", _REPLAY, _replay)
    replay.add_argument("id", nargs="?", metavar="ID", help="the id of the run; without it, a filter says which runs")
    replay.add_argument("--from", dest="start", default="failed", metavar="PLACE", help="failed (default), start, or the id of a node")
    replay.add_argument("--version", choices=("same", "current"), default="current", help="of the workflow (default current)")
    replay.add_argument(
        "--items", metavar="FILE", help="JSON that the first node takes, in the place of what is on record; - reads standard input"
    )
    replay.add_argument("--yes", action="store_true", help="with a filter: run them again, and do not only tell")
    replay.add_argument("--json", action="store_true", help="what became of it as JSON")
    _add_filter(replay)

    cancel = _verb(verbs, "cancel", "ask a run to stop", _CANCEL, _cancel)
    cancel.add_argument("id", metavar="ID", help="the id of the run")


def words_of(argv: list[str]) -> list[str]:
    """The words of a command line in which `run show ID` means `runs show ID`, unless there is a workflow file called `show`."""
    return ["runs", *argv[1:]] if argv[:2] == ["run", "show"] and not Path("show").exists() else argv


_Raw = argparse.RawDescriptionHelpFormatter


def _verb(verbs: Any, name: str, about: str, description: str, command: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=description, formatter_class=_Raw)
    _add_place(parser, argparse.SUPPRESS)
    parser.set_defaults(command=command)
    return parser


def _add_place(parser: argparse.ArgumentParser, default: str = "default") -> None:
    """`default` is SUPPRESS for a verb, so that what stands in front of it counts."""
    parser.add_argument("--project", default=default, metavar="SLUG", help="the project (default default)")
    nowhere = None if default == "default" else default
    parser.add_argument("--data-dir", type=Path, default=nowhere, help="folder for projects and their tables (default data)")


def _add_filter(parser: argparse.ArgumentParser, *, past: bool = True) -> None:
    parser.add_argument("--workflow", metavar="ID", help="only runs of this workflow")
    parser.add_argument(
        "--status", nargs="+", action="extend", choices=STATUSES, metavar="STATUS", help=f"only with one of these: {', '.join(STATUSES)}"
    )
    parser.add_argument("--trigger", choices=TRIGGERS, metavar="TRIGGER", help=f"only those started so: {', '.join(TRIGGERS)}")
    if past:
        parser.add_argument(
            "--since", metavar="TIME", help="begun then or later: 2026-12-24T18:00, local unless it says more; or 30m, 1h, 2d ago"
        )
        parser.add_argument("--until", metavar="TIME", help="begun before that, said in the same way")
        parser.add_argument("--text", help="only with this text in the record, in whatever case")


# -- lists


def _list(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.limit <= 100_000:
        raise Invalid(f"--limit must be within 1 and 100000, not {arguments.limit}")
    with opened(arguments) as app:
        found, more = _find(app, arguments.project, _query(arguments), arguments.limit)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        print(f'no run of project "{arguments.project}" on record fits')
    else:
        screen = Screen.here()
        for line in _table(found, screen):
            screen.say(line)
    if more:
        print(_more(found, arguments), file=sys.stderr)
    return 0


def _find(app: App, project: str, query: RunQuery, most: int) -> tuple[list[dict[str, Any]], bool]:
    """So many runs at most, from as many pages as it takes, and whether there may be others."""
    found: list[dict[str, Any]] = []
    for _ in range(MOST_PAGES):
        page, after = app.history.find(project, query._replace(limit=min(most - len(found), 1000)))
        found += page
        if after is None:
            return found, False
        if len(found) >= most:
            return found, True
        query = query._replace(after=after)
    return found, True


def _more(found: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    if len(found) >= arguments.limit:
        return f"mechaway: there may be more; --limit {arguments.limit * 10} lists them, or --until {found[-1]['started_at']}"
    return "mechaway: there is more on record than one search looks through; --workflow, --since and --until narrow it"


def _table(found: list[dict[str, Any]], screen: Screen) -> Iterator[str]:
    workflow = max(len("workflow"), *(len(one["workflow_id"]) for one in found))
    yield f"{'run':<36}  {'when':<19}  {'workflow':<{workflow}}  {'status':<9}  {'took':>9}  {'trigger':<7}"
    for one in found:
        yield _row(one, workflow, screen)


def _row(one: Mapping[str, Any], workflow: int, screen: Screen) -> str:
    status = screen.colour(f"{one['status']:<9}", one["status"])
    took = span(one["took_ms"])
    start = f"{one['run_id']}  {local_time(one['started_at'])}  {one['workflow_id']:<{workflow}}"
    used = len(start) + 2 + 9 + 2 + 9 + 2 + 7 + 2
    return f"{start}  {status}  {took:>9}  {one['trigger']:<7}  {screen.fit(one.get('message', ''), used)}".rstrip()


# -- one run


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments) as app:
        record = app.history.get(arguments.project, arguments.id)
        edges = _edges(app, arguments.project, record)
    if arguments.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        screen = Screen.here()
        for line in tree.lines(record, edges, tree.Wanted(arguments.log, arguments.items), screen):
            screen.say(line)
    return 0


def _edges(app: App, project: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        edges: list[dict[str, Any]] = app.version(project, record["workflow_id"], record["version"]).document["edges"]
    except NotFound:  # deleted by now
        return []
    return edges


# -- what happens


def _tail(arguments: argparse.Namespace) -> int:
    from mechaway_core.runs.shown import shown_line  # brings the engine, which other commands need not wait for

    screen = Screen.here()
    with opened(arguments) as app:
        _, mark = app.history.watch(arguments.project, None)
        while True:
            lines, mark = app.history.watch(arguments.project, mark)
            for line in lines:
                one = shown_line(line)
                if _fits(one, arguments):
                    screen.say(json.dumps(one, ensure_ascii=False) if arguments.json else _row(one, 24, screen))
            if not lines:
                time.sleep(LOOK_EVERY)


def _fits(one: Mapping[str, Any], arguments: argparse.Namespace) -> bool:
    return (
        arguments.workflow in (None, one["workflow_id"])
        and (not arguments.status or one["status"] in arguments.status)
        and arguments.trigger in (None, one["trigger"])
    )


# -- again, and stop


def _replay(arguments: argparse.Namespace) -> int:
    query = _query(arguments, 1000)
    filtered = query != RunQuery(limit=1000)
    if arguments.id is None and not filtered:
        raise Invalid("say which run by its id, or which runs by --workflow, --status, --trigger, --since, --until or --text")
    if arguments.id is not None and filtered:
        raise Invalid("say either the id of a run or a filter")
    wish = _wish(arguments)
    with opened(arguments) as app:
        if arguments.id is not None:
            return _replay_one(app, arguments, wish)
        if wish.items is not None:
            raise Invalid("--items is for one run, said by its id")
        return _replay_all(app, arguments, query, wish)


def _replay_one(app: App, arguments: argparse.Namespace, wish: Wish) -> int:
    run = app.history.replay(arguments.project, arguments.id, wish)
    if arguments.json:
        print(json.dumps({"run_id": run.info.id, "parent": arguments.id, "status": "queued"}, indent=2))
    else:
        print(f"run {run.info.id} repeats run {arguments.id} and {who_begins(arguments)}")
    return 0


def _replay_all(app: App, arguments: argparse.Namespace, query: RunQuery, wish: Wish) -> int:
    said = app.history.replay_all(arguments.project, query, wish, act=arguments.yes).as_json()
    problems = [one for one in said["runs"] if "problem" in one]
    if arguments.json:
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return 1 if problems else 0
    for one in said["runs"]:
        again = f" by {one['replayed_by']}" if "replayed_by" in one else f": {one['problem']}" if "problem" in one else ""
        print(f"run {one['run_id']} is {'not ' if 'problem' in one else ''}repeated{again}" if arguments.yes else one["run_id"])
    if not arguments.yes:
        print(f"{_runs(said['count'])} would be repeated; --yes does it")
    elif said["count"] > len(problems):
        print(f"{_runs(said['count'] - len(problems))} repeated: each {who_begins(arguments)}")
    if said["more"]:
        print("mechaway: others fit as well: --until says before which time they began", file=sys.stderr)
    return 1 if problems else 0


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _wish(arguments: argparse.Namespace) -> Wish:
    from mechaway_core.runs.replay import Wish

    return Wish(arguments.start, arguments.version, None if arguments.items is None else _items(arguments.items))


def _items(given: str) -> list[Any]:
    """The value of --items: a list of items, or one."""
    try:
        raw = sys.stdin.buffer.read() if given == "-" else Path(given).read_bytes()
    except OSError as error:
        raise Malformed(f"{given} cannot be read: {error.strerror or error}") from None
    value = jsontext.decode(raw, "standard input" if given == "-" else given)
    return value if isinstance(value, list) else [value]


def _cancel(arguments: argparse.Namespace) -> int:
    with opened(arguments) as app:
        app.history.cancel(arguments.project, arguments.id)
    print(f"run {arguments.id} was asked to stop")
    return 0


# -- filters


def _query(arguments: argparse.Namespace, limit: int = 100) -> RunQuery:
    return RunQuery(
        arguments.workflow,
        tuple(dict.fromkeys(arguments.status or ())),
        arguments.trigger,
        _moment("--since", arguments.since),
        _moment("--until", arguments.until),
        arguments.text or None,
        limit=limit,
    )


def _moment(option: str, text: str | None) -> float | None:
    """A time as it was typed, or so long ago; seconds since 1970."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if ago is not None:
        return max(time.time() - int(ago[1]) * _UNITS[ago[2]], 0.0)
    try:
        return max(datetime.fromisoformat(text).timestamp(), 0.0)
    except (ValueError, OverflowError, OSError):
        raise Invalid(
            f'{option} takes a time such as 2026-12-24T18:00 or 2026-12-24T17:00Z, or 30m, 1h, 2d ago, not "{shorten(text)}"'
        ) from None
