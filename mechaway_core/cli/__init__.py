"""The command line: `mechaway dev | run | runs | check | cron | secret | key | export | import | schedules | reconcile | settings`.

Texts here teach; `--json` is for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mechaway_core import __version__
from mechaway_core.access.scopes import SCOPES
from mechaway_core.cli import cron, moving, runs, schedules, tree
from mechaway_core.cli.edge import in_aws, only_here, opened
from mechaway_core.cli.screen import Screen
from mechaway_core.errors import Invalid, Malformed, MechawayError
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mechaway_core.access.keys import ProjectKey
    from mechaway_core.app import App


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 it did not succeed, 2 it was not understood."""
    arguments = _parser().parse_args(runs.words_of(list(sys.argv[1:] if argv is None else argv)))
    try:
        status = arguments.command(arguments)
    except MechawayError as error:
        print(f"mechaway: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


# -- mechaway dev


def _dev(arguments: argparse.Namespace) -> int:
    settings = Settings.load(
        host=arguments.host, port=arguments.port, data_dir=arguments.data_dir, workers=arguments.workers, api_token=None
    )
    from mechaway_core.local import server, workers
    from mechaway_core.local.keyring import given_keys
    from mechaway_core.local.logs import set_up

    set_up(settings.log)
    given_keys(settings)  # a key that cannot be used is told now, not by the first run that needs it
    sock = server.bind(settings)
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    stop = threading.Event()
    if arguments.watch is not None:
        _keep_in_step(settings, arguments.watch, stop)
    print(f"Mechaway {__version__} on http://{shown}:{port}  (API: /docs, data: {settings.data_dir.absolute()})", flush=True)
    try:
        if settings.workers > 1:
            return workers.supervise(settings, sock)
        server.serve(settings, sock)
        return 0
    finally:
        stop.set()


def _keep_in_step(settings: Settings, folder: Path, stop: threading.Event) -> None:
    """Load the workflow files of a folder now, and again whenever they change."""
    from mechaway_core.local import build, watch

    if not folder.is_dir():
        raise Invalid(f"{folder} is not a folder; --watch takes the folder that holds the workflow files")
    app = build(settings)

    def tell(line: str) -> None:
        print(line, flush=True)

    watch.load_all(app, watch.workflow_files(folder), tell)
    threading.Thread(target=watch.follow, args=(app, folder, tell, stop), name="mechaway-watch", daemon=True).start()


# -- mechaway check


def _check(arguments: argparse.Namespace) -> int:
    from mechaway_core.local import make_sandbox
    from mechaway_core.local.watch import read_workflow
    from mechaway_core.web.problems import problems
    from mechaway_core.workflow.check import check

    settings = Settings.load()
    sandbox = make_sandbox(settings)
    reports = []
    try:
        for path in arguments.files:
            try:
                checked = check(read_workflow(path), sandbox, settings)
            except Malformed as error:
                reports.append({"file": str(path), "errors": [{"pointer": "", "message": str(error)}], "warnings": []})
            else:
                reports.append({"file": str(path), "errors": problems(checked.errors), "warnings": problems(checked.warnings)})
    finally:
        sandbox.close()
    if arguments.json:
        _print_json(reports)
    else:
        for report in reports:
            _print_report(report)
    return 1 if any(report["errors"] for report in reports) else 0


def _print_report(report: dict[str, Any]) -> None:
    for kind, mark in (("errors", "error"), ("warnings", "warning")):
        for one in report[kind]:
            print(f"{report['file']}: {mark}: {one['pointer'] or '/'}: {one['message']}")
    if not report["errors"]:
        print(f"{report['file']}: ok")


# -- mechaway run


def _run(arguments: argparse.Namespace) -> int:
    from mechaway_core.local import build
    from mechaway_core.local.logs import set_up
    from mechaway_core.local.watch import read_workflow
    from mechaway_core.workflow import compile_plan
    from mechaway_core.workflow.check import check

    settings = Settings.load(data_dir=arguments.data_dir)
    set_up(settings.log)
    app = build(settings)
    try:
        checked = check(read_workflow(arguments.file), app.sandbox, settings)
        if checked.errors:
            for problem in checked.errors:
                print(f"{arguments.file}: error: {problem}", file=sys.stderr)
            return 1
        data = _data(arguments.data)
        call = _call(arguments, data) if arguments.webhook is not None else None
        items = None if data is None else data if isinstance(data, list) else [data]
        plan = compile_plan(checked.document)
        record = app.runs.show(plan, app.try_out(arguments.project, plan, call, arguments.node, items))
    finally:
        app.close()
    if arguments.json:
        _print_json(record)
    else:
        _print_run(record, checked.document)
    return 0 if record["status"] == "succeeded" else 1


def _data(given: str | None) -> Any:
    """The value of --data: JSON, @file, or - for standard input."""
    if given is None:
        return None
    from mechaway_core import jsontext

    if given == "-":
        return jsontext.decode(sys.stdin.buffer.read(), "standard input")
    if given.startswith("@"):
        try:
            return jsontext.decode(Path(given[1:]).read_bytes(), given[1:])
        except OSError as error:
            raise Malformed(f"{given[1:]} cannot be read: {error.strerror or error}") from None
    return jsontext.decode(os.fsencode(given), "--data")


def _call(arguments: argparse.Namespace, data: Any) -> Any:
    from mechaway_core import jsontext
    from mechaway_core.triggers import Call
    from mechaway_core.workflow.plan import segments_of

    path, _, query = arguments.webhook.partition("?")
    body = b"" if data is None else jsontext.encode(data)
    headers = [(b"content-type", b"application/json")] if body else []
    for header in arguments.header:
        name, separator, value = header.partition(":")
        if not separator:
            raise Invalid(f'--header takes "Name: value", not {header!r}')
        headers.append((name.strip().encode(), value.strip().encode()))
    method = arguments.method or ("POST" if data is not None or not query else "GET")
    return Call(method.upper(), segments_of(path), query.encode(), headers, body)


def _print_run(record: dict[str, Any], document: Mapping[str, Any]) -> None:
    screen = Screen.here()
    for line in tree.lines(record, document["edges"], tree.Wanted(log=True, items=True), screen):
        screen.say(line)


# -- mechaway key


def _key(arguments: argparse.Namespace) -> int:
    with opened(arguments) as app:
        if arguments.action == "create":
            key, text = app.create_key(arguments.project, arguments.name, arguments.scope, arguments.expires)
            print(f'key {key.id} for project "{key.project}" may {", ".join(key.scopes)}; it is shown this once', file=sys.stderr)
            print(text)
        elif arguments.action == "rm":
            app.revoke_key(arguments.project, arguments.id)
            print(f"key {arguments.id} revoked")
        else:
            _print_keys(app, arguments)
    return 0


def _print_keys(app: App, arguments: argparse.Namespace) -> None:
    keys: list[ProjectKey] = []
    while page := app.keys(arguments.project, keys[-1].id if keys else ""):
        keys += page
    if arguments.json:
        _print_json([key.as_json() for key in keys])
        return
    for key in keys:
        print(f"{key.id}  {', '.join(key.scopes):<28} {key.expires or 'never expires':<21} {key.name}")


# -- mechaway secret


def _secret_set(arguments: argparse.Namespace) -> int:
    value = _value_of_secret(arguments.name)
    with opened(arguments) as app:
        kept = app.put_secret(arguments.project, arguments.name, value)
    print(f'secret "{kept.name}" {"kept" if kept.version == 1 else f"changed (version {kept.version})"}')
    return 0


def _value_of_secret(name: str) -> str:
    """The value from a prompt without echo, or from standard input with one line break at its end left out."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"Value of {name} (not shown): ")
    raw = sys.stdin.buffer.read(1_000_000)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Malformed("standard input is not text in UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _secret_list(arguments: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    with opened(arguments) as app:
        while page := app.secrets(arguments.project, found[-1]["name"] if found else ""):
            found.extend(one.as_json() for one in page)
    if arguments.json:
        _print_json(found)
        return 0
    width = max((len(one["name"]) for one in found), default=0)
    for one in found:
        print(f"{one['name']:<{width}}  version {one['version']}  changed {one['updated_at']}")
    return 0


def _secret_rm(arguments: argparse.Namespace) -> int:
    with opened(arguments) as app:
        app.delete_secret(arguments.project, arguments.name)
    print(f'secret "{arguments.name}" deleted')
    return 0


def _secret_rotate(arguments: argparse.Namespace) -> int:
    from mechaway_core.local.keyring import LocalKeyRing, rotate

    only_here(arguments)
    keyring = LocalKeyRing(Settings.load(data_dir=arguments.data_dir))
    with opened(arguments) as app:
        count = rotate(keyring, app.rewrap_secrets)
    locked = f"the keys of {count} project{'' if count == 1 else 's'} are locked with"
    given = keyring.from_settings
    if not given:
        print(f"{locked} a new master key; {keyring.file.path} holds that one only")
    elif len(given) == 1:
        print(f"{locked} the only key in MECHAWAY_MASTER_KEY; to change it, put a new one in front: MECHAWAY_MASTER_KEY=NEW,OLD")
    else:
        print(f"{locked} the first key in MECHAWAY_MASTER_KEY ({given[0].fingerprint}); the others may go now")
    return 0


# -- mechaway reconcile


def _reconcile(arguments: argparse.Namespace) -> int:
    from mechaway_core.aws.reconcile import reconcile

    with in_aws() as app:
        report = reconcile(app, act=not arguments.dry_run)
    if arguments.json:
        _print_json(report.as_json())
    else:
        _print_changes(report.as_json()["projects"])
        for problem in report.problems:
            print(f"mechaway: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def _print_changes(projects: dict[str, Any]) -> None:
    for project, change in projects.items():
        for verb, found in change.items():
            for one in found:
                print(f"{verb:<6}  {project}  {one['workflow']}  {one['node']}  {one['expression']} {one['timezone']}")
    if not projects:
        print("every schedule is what its workflow says")


# -- mechaway settings


def _settings(arguments: argparse.Namespace) -> int:
    rows = Settings.load().rows()
    if arguments.json:
        _print_json(rows)
        return 0
    for row in rows:
        changed = "" if row["value"] == row["default"] else f"   (default {row['default']!r})"
        print(f"{row['name']} = {row['value']}{changed}")
        print(textwrap.indent(textwrap.fill(row["help"], 100), "    "))
    return 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# -- the words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mechaway",
        description="Runs workflows: JSON documents whose nodes form a graph. Start with: mechaway dev",
        epilog="Settings come from the environment (MECHAWAY_…); `mechaway settings` prints them all.",
    )
    parser.add_argument("--version", action="version", version=f"mechaway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    dev = commands.add_parser("dev", help="run the server on this machine", description=_DEV, formatter_class=_Raw)
    dev.add_argument("--host", help="address to listen on (default 127.0.0.1); anything else needs MECHAWAY_API_TOKEN")
    dev.add_argument("--port", type=int, help="port to listen on (default 3004); 0 takes a free one")
    dev.add_argument("--data-dir", type=Path, help="folder for projects and their tables (default data)")
    dev.add_argument("--workers", type=int, help="server processes (default 1)")
    dev.add_argument(
        "--watch", type=Path, metavar="DIR", help="save every *.json and *.yaml workflow of this folder, now and when it changes"
    )
    dev.set_defaults(command=_dev)

    run = commands.add_parser("run", help="run a workflow file once, without a server", description=_RUN, formatter_class=_Raw)
    run.add_argument("file", type=Path, help="the workflow, JSON or YAML")
    run.add_argument("--webhook", metavar="PATH", help="start at the webhook with this path, such as /grade or '/posts?page=2'")
    run.add_argument(
        "--data", metavar="JSON", help="the body, or without --webhook the item or list of items; @FILE reads a file, - standard input"
    )
    run.add_argument("--method", help="method of the call (default POST; GET for a path with a query and no data)")
    run.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="header of the call; may be repeated")
    run.add_argument("--node", help="without --webhook: the trigger to start at (default the first)")
    run.add_argument("--project", default="default", help="project whose tables it uses (default: default)")
    run.add_argument("--data-dir", type=Path, help="folder for projects and their tables (default data)")
    run.add_argument("--json", action="store_true", help="print the record as JSON")
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="tell everything that is wrong with workflow files", description=_CHECK, formatter_class=_Raw)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a workflow, JSON or YAML")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(command=_check)

    cron.add_command(commands)
    _add_secret(commands)
    _add_key(commands)
    moving.add_commands(commands)
    schedules.add_commands(commands)
    runs.add_commands(commands)
    settle = commands.add_parser(
        "reconcile", help="put the schedules of an installation in AWS right", description=_SETTLE, formatter_class=_Raw
    )
    settle.add_argument("--dry-run", action="store_true", help="only tell what there is to do")
    settle.add_argument("--json", action="store_true", help="print the report as JSON")
    settle.set_defaults(command=_reconcile)
    settings = commands.add_parser("settings", help="print every setting, its value and what it does")
    settings.add_argument("--json", action="store_true", help="print them as JSON")
    settings.set_defaults(command=_settings)
    return parser


def _add_key(commands: Any) -> None:
    key = commands.add_parser("key", help="make, list and revoke keys of projects", description=_KEY, formatter_class=_Raw)
    actions = key.add_subparsers(dest="action", title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it; it cannot be had again")
    create.add_argument("name", help="what the key is for")
    create.add_argument("--scope", action="append", required=True, choices=SCOPES, help="what it may do; may be repeated")
    create.add_argument("--expires", metavar="TIME", help="when it ends, such as 2030-01-31T00:00:00Z (default never)")
    listing = actions.add_parser("list", help="list the keys of a project, without what makes them work")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    revoke = actions.add_parser("rm", help="make a key worthless, at once")
    revoke.add_argument("id", help="its id, as the list shows it")
    for action in (create, listing, revoke):
        action.add_argument("--project", default="default", help="project of the key (default: default)")
        action.add_argument("--data-dir", type=Path, help="folder for projects and their tables (default data)")
    key.set_defaults(command=_key)


def _add_secret(commands: Any) -> None:
    secret = commands.add_parser("secret", help="keep, list and delete secrets of a project", description=_KEEP, formatter_class=_Raw)
    verbs = secret.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb, command, about in (
        ("set", _secret_set, "keep a secret or change it; its value comes from standard input or a prompt"),
        ("list", _secret_list, "list the names of secrets, their versions and times"),
        ("rm", _secret_rm, "delete a secret"),
        ("rotate", _secret_rotate, "lock the keys of all projects with a new master key"),
    ):
        parser = verbs.add_parser(verb, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if verb in ("set", "rm"):
            parser.add_argument("name", metavar="NAME", help="letters, digits and '_'")
        if verb == "list":
            parser.add_argument("--json", action="store_true", help="print them as JSON")
        if verb != "rotate":
            parser.add_argument("--project", default="default", help="project that the secret belongs to (default: default)")
        parser.add_argument("--data-dir", type=Path, help="folder for projects and their tables (default data)")
        parser.set_defaults(command=command)


_Raw = argparse.RawDescriptionHelpFormatter

_DEV = """Run the server on this machine. It needs nothing but the folder it keeps its data in.

  mechaway dev                                   then see http://127.0.0.1:3004/docs
  mechaway dev --watch examples                  and keep the workflows of a folder loaded
  mechaway dev --workers 2 --data-dir /srv/mechaway
"""

_RUN = """Run a workflow file once, without a server, and print what each node took and gave.

  mechaway run examples/poc.json --webhook /grade --data '{"student_id": "s123", "score": 85}'
  mechaway run examples/poc.json --data @items.json --json

Such a run is not put on record. `mechaway run show ID` shows one that is, as `mechaway runs show ID` does.
"""

_KEY = """Make, list and revoke keys of projects, in the data folder of this machine; servers that run there follow at once.

  mechaway key create "build robot" --project shop --scope read --scope run
  mechaway key list --project shop
  mechaway key rm 0123456789abcdef --project shop
"""

_SETTLE = """Put the schedules of an installation in AWS right. Compares what workflows ask for with the rules or schedules that are there;
a daily event does the same. It needs the settings of the installation (MECHAWAY_…) and credentials for its account.

  mechaway reconcile --dry-run
"""

_KEEP = """Keep, list and delete the secrets of a project. A value comes from standard input (one line break at its end is left out)
or from a prompt, never from an argument: other people on this machine can see those.

  mechaway secret set DATABASE_URL
  mechaway secret set STRIPE_KEY --project shop < key.txt
  mechaway secret list
"""

_CHECK = """Tell everything that is wrong with workflow files, as saving them would. Exits with 1 when something is.

  mechaway check examples/*.json
"""
