"""All the core asks of the world, on one page.

Adapters live in `local/` and `aws/`; `tests/contracts/` holds one suite per port that each adapter passes. Everything here is
synchronous, safe to call from several threads, and takes a project's slug first. An unknown project is `NotFound`; what the
world refuses for now (a full disk, a lock, a network) is `Unavailable`, and then nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, TypeVar

from mechaway_core.cancellation import NEVER, Cancellation

T = TypeVar("T")


class Unchanged(Enum):
    """What `Store.get` answers when the version the caller has is still the current one."""

    UNCHANGED = "unchanged"


class Expect(Enum):
    """What `Store.put` and `Store.delete` may expect besides a version."""

    ABSENT = "absent"  # no such document yet
    ANY = "any"  # whatever is there


UNCHANGED = Unchanged.UNCHANGED
ABSENT = Expect.ABSENT
ANY = Expect.ANY


class Stored(NamedTuple):
    """A document as it is stored. `version` changes with every `put` and never comes back, not even after a delete."""

    data: bytes
    version: str


class Store(Protocol):
    """Documents by key. Keys are text like `workflows/abc/versions/00000012`."""

    def get(self, project: str, key: str, known: str | None = None) -> Stored | Literal[Unchanged.UNCHANGED] | None:
        """The document, None when there is none, or `UNCHANGED` when `known` (a version the caller has) is still current."""
        ...

    def put(self, project: str, key: str, data: bytes, expect: str | Expect = ANY) -> str:
        """Store `data` and answer its version.

        Raises `Conflict` when `ABSENT` was expected and it is there, `Stale` when it has another version than `expect` or is gone.
        """
        ...

    def delete(self, project: str, key: str, expect: str | Expect = ANY) -> bool:
        """Delete it; False when there was none. Raises `Stale` when it has another version than `expect`."""
        ...

    def keys(self, project: str, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Up to `limit` keys that start with `prefix` and come after `after`, sorted by code point."""
        ...


class Column(NamedTuple):
    """A column of a SimpleTable. `type` is None or one of TEXT INTEGER REAL NUMERIC BOOLEAN JSON ANY."""

    name: str
    type: str | None = None


class OnConflict(NamedTuple):
    """What to do with a row whose `columns` hold what another row's hold.

    `update` True: give that row all other values; a tuple of names: those values; False: leave that row as it is.
    """

    columns: tuple[str, ...]
    update: bool | tuple[str, ...] = True


class Rows(NamedTuple):
    """What a statement gave.

    `rows` are objects by column name (a name that comes twice is `name`, `name_2`); `changes` counts the rows a write changed;
    `last_id` is the id of the last row inserted; `missing` tells that the table is not there.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    changes: int = 0
    last_id: int | None = None
    missing: bool = False


class TableInfo(NamedTuple):
    """A table or view, its columns as declared, and how many rows it holds (None when counting takes too long)."""

    name: str
    columns: list[Column]
    rows: int | None


class TablePage(NamedTuple):
    """Some rows of a table; `next` is what to pass as `after` for those that follow, None at the end."""

    columns: list[str]
    rows: list[dict[str, Any]]
    next: int | None


Params = Sequence[Any] | Mapping[str, Any]


class Session(Protocol):
    """A project's tables, during one `Tables.read` or `Tables.write`.

    Values are JSON values and keep their type (see `mechaway_core.sqlite.values`). `deadline` is an instant of
    `time.monotonic()`. Raises `QueryError` for what SQLite refuses and `OutOfTime` for what takes too long.
    """

    def query(
        self,
        sql: str,
        params: Params = (),
        *,
        write: bool = False,
        deadline: float | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> Rows:
        """Run one statement of a user under the guard. `params` are bound to `?` in order or to `:name`."""
        ...

    def insert_rows(
        self, table: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], on_conflict: OnConflict | None = None
    ) -> list[tuple[Any, int]]:
        """Insert `rows`, objects by column name, and answer for each its id and how many rows it changed (0 or 1).

        The table and its missing columns are made. The id is that of the row that was inserted, updated or kept; None in a table
        without ids.
        """
        ...

    def read_table(
        self, table: str, where: str | None = None, params: Params = (), order_by: str | None = None, limit: int | None = None
    ) -> Rows:
        """Rows of a table; `where` and `order_by` are a user's SQL. A table that is not there has no rows and is `missing`."""
        ...

    def tables(self) -> list[TableInfo]:
        """Every table and view, by name."""
        ...

    def has_table(self, table: str) -> bool:
        """Whether there is a table or view of this name."""
        ...

    def page(self, table: str, after: int = 0, limit: int = 100) -> TablePage | None:
        """Up to `limit` rows of a table in the order in which they were made; None when there is no such table."""
        ...

    def dump(self) -> Iterator[bytes]:
        """All tables, indexes and views as lines of text, from which `load` makes the same again, cell by cell.

        The lines are only good for the time of the job.
        """
        ...

    def load(self, lines: Iterable[bytes]) -> int:
        """Make what a dump says and answer how many rows that were.

        Raises `Conflict` when there are tables already, and `Invalid` with the number of a line that is wrong.
        """
        ...

    def clear(self) -> None:
        """Drop every table and view."""
        ...


@dataclass(frozen=True, slots=True)
class InsertRows:
    """The job of `Tables.write` that inserts rows and does nothing else; what it answers is what `Session.insert_rows` does.

    An adapter that knows what is to be done can do it in fewer steps than a function that may do anything.
    """

    table: str
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    on_conflict: OnConflict | None = None

    def __call__(self, session: Session) -> list[tuple[Any, int]]:
        return session.insert_rows(self.table, self.rows, self.columns, self.on_conflict)


class Tables(Protocol):
    """The rows of a project. `deadline` is an instant of `time.monotonic()`; past it a call raises `OutOfTime`.

    When the run of `cancellation` is cancelled, a call ends at once and raises `Cancelled`; then nothing was saved.
    """

    def read(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """What `job` answers; all it reads is of one moment."""
        ...

    def write(self, project: str, job: Callable[[Session], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """What `job` answers, once its changes are durable; all of them or none.

        `job` may be called more than once, in any thread, with the changes of the earlier call undone: it must touch nothing
        but the session.
        """
        ...


class Projects(Protocol):
    """Which projects there are. `default` always is."""

    def exists(self, slug: str) -> bool: ...

    def create(self, slug: str) -> None:
        """Raises `Invalid` when the slug cannot be one, `Conflict` when the project is there."""
        ...

    def delete(self, slug: str) -> bool:
        """Delete a project and all its data; False when there is none. `default` is empty afterwards."""
        ...

    def list(self) -> list[str]:
        """Slugs, sorted."""
        ...

    def sweep(self) -> int:
        """Delete what deletions that were cut off left behind; how many were looked at. Safe at any time, from several processes."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a trigger node starts its workflow: a cron expression in a time zone.

    `since` is when it was made so, in seconds since 1970, where the keeper of time knows.
    """

    workflow_id: str
    node_id: str
    expression: str
    timezone: str = "UTC"
    since: float = field(default=0.0, compare=False)

    @property
    def claimed(self) -> tuple[str, str, str]:
        """What is claimed at a due time, so that it starts one run."""
        return ("schedule", self.workflow_id, self.node_id)


class Schedules(Protocol):
    """What the clock starts."""

    def put(self, project: str, schedule: Schedule) -> None:
        """Make it so; one schedule per workflow and node. Raises `Invalid` for what the keeper of time cannot say."""
        ...

    def delete(self, project: str, workflow_id: str, node_id: str | None = None) -> int:
        """Delete the schedule of a node, or all of exactly this workflow; how many there were."""
        ...

    def list(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        """The schedules of a project, or of exactly one workflow, by their ids.

        One that is there by half, or was meddled with, has an empty expression: `put` mends it and `delete` takes it away.
        """
        ...

    def projects(self) -> set[str]:
        """The projects that have schedules, whether they still exist or not."""
        ...

    def names(self, project: str, schedule: Schedule) -> tuple[str, ...]:
        """What keeps a schedule is called, where it has names of its own: rules, for whoever looks for them. Asks nobody."""
        ...


class KeyRing(Protocol):
    """Wraps the data key of a project so that only this installation can open it.

    Keys are 32 bytes. Raises `Locked` when the master key is missing, another one, or unfit, or when what was wrapped was changed
    or belongs to another project.
    """

    def wrap(self, project: str, key: bytes) -> bytes:
        """The key, locked with the master key that wraps now."""
        ...

    def unwrap(self, project: str, wrapped: bytes) -> bytes:
        """The key that was wrapped for this project."""
        ...

    def is_current(self, wrapped: bytes) -> bool:
        """Whether this was wrapped with the master key that wraps now; if not, it is to be wrapped again."""
        ...


class FileInfo(NamedTuple):
    """A file that was kept. `size` in bytes; `handle` is how it is found again, a text that can stand in an item."""

    filename: str
    content_type: str
    size: int
    handle: str

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object: what stands under `$file.NAME` and in items."""
        return {"filename": self.filename, "content_type": self.content_type, "size": self.size, "handle": self.handle}


class Files(Protocol):
    """Files of runs: uploads, and what nodes receive or make. A project only finds its own."""

    def write(self, project: str, run_id: str, filename: str, content_type: str, chunks: Iterable[bytes], most: int) -> FileInfo:
        """Keep what the chunks hold. Raises `TooLarge` past `most` bytes; whenever it raises, nothing is kept.

        From its first file on, a run is taken to go on until `release`.
        """
        ...

    def open(self, project: str, handle: str) -> BinaryIO:
        """A file to read. Raises `NotFound`, also for a handle of another project or none at all."""
        ...

    def release(self, project: str, run_id: str) -> None:
        """Say that a run is over, whether it has files or not. Never raises."""
        ...

    def delete(self, project: str, run_id: str) -> None:
        """Delete the files of a run that is not to be, and release it. Never raises: what cannot be deleted goes when it is old."""
        ...

    def delete_older(self, seconds: float, until: float | None = None) -> int:
        """Delete the files of runs that are over and began more than so many seconds ago; how many runs those were.

        Past `until`, an instant of `time.monotonic()`, it goes on to no other run: those that are left are for the next time.
        """
        ...


class RunLine(NamedTuple):
    """A run as a list shows it. `began` and `ended` are seconds since 1970; without `ended` it is `queued` or `running`.

    `attempt` counts how often it was begun; `parent` is the run that it repeats or speaks of.
    """

    id: str
    workflow_id: str
    version: int
    status: str
    trigger: str
    node: str
    began: float
    ended: float | None = None
    error: str | None = None
    parent: str | None = None
    attempt: int = 1


class RunRecord(NamedTuple):
    """What is on record of a run: its line, and all the rest as a JSON document.

    `known` tells that something may be on record of it already. `keep_days` is for how long it stays there once it has ended, None: as
    the server has it.
    """

    line: RunLine
    data: bytes
    known: bool = False
    keep_days: float | None = None


class RunQuery(NamedTuple):
    """Which runs to list, newest first. Empty conditions fit every run.

    Moments are seconds since 1970, of when a run began: from `since` on, before `until`. `text` stands in the record,
    where A to Z are like a to z. `after` is where the page before ended.
    """

    workflow_id: str | None = None
    statuses: tuple[str, ...] = ()
    trigger: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    after: str | None = None
    limit: int = 100


class RunPage(NamedTuple):
    """Some runs. `after` is where the next page begins, None at the end: a page may be short, or empty, and not be the last."""

    lines: list[RunLine]
    after: str | None = None


class Records(Protocol):
    """Runs on record, one record each. Ids of runs sort by the time at which they began."""

    def write(self, project: str, records: Sequence[RunRecord], gone: Sequence[str] = ()) -> None:
        """Put these on record, each in the place of what there was of its run, and delete those of the ids `gone`: all or none.

        On return they are as durable as the settings say. One that has not ended is open, and belongs to this process.
        """
        ...

    def get(self, project: str, run_id: str) -> RunRecord | None:
        """What is on record of a run."""
        ...

    def find(self, project: str, query: RunQuery) -> RunPage:
        """Runs, newest first. It looks through some thousands at most and then answers what it found so far."""
        ...

    def since(self, project: str, mark: int | None, limit: int = 100) -> tuple[list[RunLine], int]:
        """What was put on record behind a mark, in that order, and the mark behind it. Without one: nothing, and the mark of now.

        Raises `NotFound` where there is no such order: look again by `find`.
        """
        ...

    def ask_to_stop(self, project: str, run_id: str) -> None:
        """Ask the run, wherever it goes on, to stop. Asked about an open run only."""
        ...

    def asked_to_stop(self, project: str, run_ids: Sequence[str]) -> set[str]:
        """Which of these runs somebody asked to stop."""
        ...

    def abandoned(self, project: str, owner: str | None, before: float, limit: int = 100) -> list[RunRecord]:
        """Open runs, oldest first, that belong to `owner`, a process that is gone; None: to whomever, and that began before a moment."""
        ...

    def prune(self, project: str, keep: Callable[[str], float] | None, until: float | None = None) -> int:
        """Delete ended runs older than `keep` says, in seconds, for their workflow, and the oldest when all are too large; how many.

        Past `until`, an instant of `time.monotonic()`, it leaves the rest for the next time.
        """
        ...


class Invoke(Protocol):
    """Has a run that is on record begun somewhere else, and does not wait for it. `here`: that is in this process, and nowhere else."""

    here: bool

    def start(self, project: str, run_id: str, workflow_id: str) -> None:
        """Hand the start of an open run over. Should it get lost from here on, whoever looks for abandoned runs finds it."""
        ...

    def check(self) -> None:
        """Raises `Unavailable` when it would be too much to start another run. For whoever is about to accept one."""
        ...

    def close(self) -> None:
        """Take no more, and wait for what goes on in this process."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None: ...
