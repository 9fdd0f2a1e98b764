"""A project into an archive, over the ports: the same on a laptop and in a cloud."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mechaway_core import __version__, jsontext
from mechaway_core.errors import Conflict, NotFound, Unavailable
from mechaway_core.ports import Clock, Session, Tables
from mechaway_core.record import iso
from mechaway_core.storage import Entry, Workflows
from mechaway_core.transfer import passphrase as passphrases
from mechaway_core.transfer.archive import SECRETS, TABLES, WORKFLOWS, Writer, seal_of
from mechaway_core.vault import Vault

_CHUNK = 1 << 20
TABLE_LINE, ROW_LINE = b'{"schema":"table"', b"["  # how lines of a dump begin that stand for a table and for a row
_COUNTED = ("workflows", "versions", "tables", "rows", "secrets")


@dataclass(frozen=True, slots=True)
class Summary:
    """What moved: how many workflows, versions of them, tables, rows and secrets; `warnings` are sentences."""

    project: str
    workflows: int
    versions: int
    tables: int
    rows: int
    secrets: int
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        counts = {name: getattr(self, name) for name in _COUNTED}
        return {"project": self.project, **counts, **({"warnings": list(self.warnings)} if self.warnings else {})}

    def __str__(self) -> str:
        shown = {name: getattr(self, name) for name in _COUNTED}
        return ", ".join(f"{count} {name[:-1] if count == 1 else name}" for name, count in shown.items())


class Outgoing:
    """Writes projects into archives. `folder` is where tables lie until they are packed; None: where temporary files go."""

    def __init__(self, workflows: Workflows, tables: Tables, vault: Vault, clock: Clock, folder: Path | None = None) -> None:
        self._workflows = workflows
        self._tables = tables
        self._vault = vault
        self._clock = clock
        self._folder = folder

    def write(self, project: str, file: BinaryIO, passphrase: str | None = None) -> Summary:
        """Write a project into a file, which must be empty and able to seek; its secrets too when there is a passphrase for them.

        Workflows are each of one moment, tables all together of one. Raises `NotFound`, `Invalid` for the passphrase, `Conflict` when a
        workflow is deleted meanwhile, and what the ports raise.
        """
        if passphrase is not None:
            passphrases.check_passphrase(passphrase)
        writer, counts = Writer(file), _Counts()
        writer.add(WORKFLOWS, self._versions(project, counts))
        with tempfile.TemporaryFile(dir=self._folder) as dumped:
            self._tables.read(project, lambda session: _spool(session, dumped, counts))
            dumped.seek(0)
            writer.add(TABLES, iter(lambda: dumped.read(_CHUNK), b""))
        if passphrase is not None:
            secrets = self._secrets(project)
            counts.secrets = len(secrets)
            writer.add(SECRETS, [jsontext.encode(passphrases.lock(secrets, passphrase, seal_of(writer.members)))])
        summary = Summary(project, counts.workflows, counts.versions, counts.tables, counts.rows, counts.secrets)
        about = {"id": str(uuid.uuid4()), "project": project, "created_at": iso(self._clock.now()), "mechaway": __version__}
        writer.close(about | {"counts": {name: count for name, count in summary.as_json().items() if name != "project"}})
        return summary

    def _versions(self, project: str, counts: _Counts) -> Iterator[bytes]:
        for workflow_id in self._workflows.ids(project):
            counts.workflows += 1
            try:
                for entry in self._workflows.history(project, workflow_id):
                    counts.versions += 1
                    yield line_of(entry)
            except NotFound:
                raise Conflict(f'workflow "{workflow_id}" was deleted while the project was being exported; export it again') from None

    def _secrets(self, project: str) -> dict[str, str]:
        names: list[str] = []
        while page := self._vault.find(project, names[-1] if names else ""):
            names.extend(info.name for info in page)
        return dict(self._vault.values(project, names))


class _Counts:
    """What was written so far."""

    def __init__(self) -> None:
        self.workflows = self.versions = self.tables = self.rows = self.secrets = 0


def line_of(entry: Entry) -> bytes:
    """A version as a line of `workflows.jsonl`."""
    document = entry.document
    times = {"created_at": entry.created_at, "updated_at": entry.updated_at}
    return jsontext.encode({"id": document["id"], "version": entry.version, **times, "document": document}) + b"\n"


def _spool(session: Session, file: BinaryIO, counts: _Counts) -> None:
    """Write the dump into a file; from its beginning, for a job may be called again."""
    file.seek(0)
    file.truncate()
    counts.tables = counts.rows = 0
    try:
        for line in session.dump():
            counts.tables += line.startswith(TABLE_LINE)
            counts.rows += line.startswith(ROW_LINE)
            file.write(line)
        file.flush()
    except OSError as error:
        raise Unavailable(f"the tables cannot be written to the disk: {error.strerror or error}") from error
