"""`mechaway export` and `mechaway import`: a project into a file, and from a file."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from mechaway_core.cli.edge import opened
from mechaway_core.errors import Invalid, Malformed, Unavailable

_MOVE = """Move a project: its workflows with all versions, its tables, and its secrets when asked for. Keys of projects and files stay.

  mechaway export shop                                       writes shop.mechaway.zip
  mechaway export shop -o shop.zip --with-secrets            asks for a passphrase for the secrets
  mechaway import shop.zip --with-secrets                    asks for it again
  mechaway import shop.zip --project shop2 --without-secrets

An import happens whole or not at all. The project must not exist, or with --into-empty hold nothing.
"""


def add_commands(commands: Any) -> None:
    """Add `export` and `import` to the commands of the command line."""
    export = commands.add_parser(
        "export", help="write a project into a file, to move it", description=_MOVE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    export.add_argument("name", metavar="PROJECT", help="the project")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default PROJECT.mechaway.zip)")
    export.set_defaults(command=_export)
    importing = commands.add_parser(
        "import", help="make a project from such a file", description=_MOVE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    importing.add_argument("file", type=Path, metavar="FILE", help="what mechaway export wrote")
    importing.add_argument("--project", metavar="SLUG", help="import it as this project (default: as the one it was)")
    importing.add_argument("--into-empty", action="store_true", help="the project may be there already, if it holds nothing")
    importing.add_argument("--without-secrets", action="store_true", help="leave the secrets in the file out")
    importing.set_defaults(command=_import)
    for parser in (export, importing):
        parser.add_argument("--with-secrets", action="store_true", help="with the secrets; asks for the passphrase that locks them")
        parser.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="the same with a passphrase from a file, or - for standard input"
        )
        parser.add_argument("--data-dir", type=Path, help="folder for projects and their tables (default data)")


def _export(arguments: argparse.Namespace) -> int:
    passphrase = _passphrase(arguments, again=True)
    target = arguments.output or Path(f"{arguments.name}.mechaway.zip")
    with opened(arguments) as app, _whole(target) as file:
        summary = app.export_project(arguments.name, file, passphrase)
    kept = "" if passphrase is not None else "; secrets stay here (--with-secrets takes them along, locked with a passphrase)"
    print(f'project "{arguments.name}" exported to {target}: {summary}{kept}')
    return 0


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file for this user alone, which is put into its place when all of it is written."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
            place = Path(file.name)
            try:
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
                place.replace(target)
            except BaseException:
                place.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from error


def _import(arguments: argparse.Namespace) -> int:
    passphrase = _passphrase(arguments, again=False)
    try:
        file = arguments.file.open("rb")
    except OSError as error:
        raise Malformed(f"{arguments.file} cannot be read: {error.strerror or error}") from None
    with file, opened(arguments) as app:
        summary = app.import_project(
            file, arguments.project, passphrase=passphrase, into_empty=arguments.into_empty, skip_secrets=arguments.without_secrets
        )
    print(f'project "{summary.project}" imported: {summary}')
    return 0


def _passphrase(arguments: argparse.Namespace, *, again: bool) -> str | None:
    """What locks the secrets of an archive: from a file, standard input or a prompt; None when no secrets are to move."""
    given: Path | None = arguments.passphrase_file
    if given is not None:
        try:
            raw = sys.stdin.buffer.read(10_000) if str(given) == "-" else given.read_bytes()
            return raw.decode().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Malformed(f"the passphrase cannot be read from {given}: {error}") from None
    if not arguments.with_secrets:
        return None
    import getpass

    typed = getpass.getpass("Passphrase for the secrets (not shown): ")
    if again and getpass.getpass("The same again: ") != typed:
        raise Invalid("the two passphrases differ; nothing was exported")
    return typed
