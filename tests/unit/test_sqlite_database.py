"""Do writers in groups each get their own outcome, and nothing of others'?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mechaway_core.errors import OutOfTime, QueryError, Unavailable
from mechaway_core.sqlite.database import Database
from mechaway_core.sqlite.link import Link, Options
from mechaway_core.sqlite.session import SqliteSession


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "x.db", Options(sync="normal", setup=("CREATE TABLE t (n UNIQUE)",), guarded=True), "us")
    yield opened
    opened.close()


def add(n: int) -> Callable[[SqliteSession], int]:
    def job(session: SqliteSession) -> int:
        session.execute("INSERT INTO t VALUES (?)", (n,))
        return n

    return job


def test_who_reads_while_a_file_is_being_made_reads_what_there_is_without_it(tmp_path: Path, database: Database) -> None:
    made = apsw.Connection(str(tmp_path / "x.db"))
    made.execute("PRAGMA journal_mode=wal").fetchall()
    job: Callable[[SqliteSession], str] = lambda session: str(session.execute("SELECT * FROM t"))  # noqa: E731
    for _ in range(20):  # more often than there are readers
        assert database.read(job, if_missing=lambda: "nothing") == "nothing"
    made.close()
    database.write(add(1))
    assert database.read(job, if_missing=lambda: "nothing") == "[(1,)]"


def numbers(database: Database) -> list[int]:
    return database.read(lambda session: [n for (n,) in session.execute("SELECT n FROM t ORDER BY rowid")])


class Crowd:
    """Writers that all wait behind one that is under way, so that they form one group."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.outcomes: dict[int, Any] = {}
        self._threads: list[threading.Thread] = []
        self._under_way = threading.Event()
        self._go_on = threading.Event()
        self._start(-1, self._first, None)
        assert self._under_way.wait(10)

    def _first(self, _: SqliteSession) -> None:
        self._under_way.set()
        assert self._go_on.wait(10)

    def _start(self, name: int, job: Callable[[SqliteSession], Any], deadline: float | None) -> None:
        def write() -> None:
            try:
                self.outcomes[name] = self.database.write(job, deadline)
            except BaseException as error:
                self.outcomes[name] = error

        thread = threading.Thread(target=write)
        thread.start()
        self._threads.append(thread)

    def join(self, job: Callable[[SqliteSession], Any], deadline: float | None = None) -> None:
        """Add a writer, and wait until it is in line."""
        waiting = len(self.database._queue)
        self._start(len(self._threads) - 1, job, deadline)
        while len(self.database._queue) == waiting:
            time.sleep(0.001)

    def outcome(self) -> list[Any]:
        """Let them go; what each got, in the order of joining."""
        self._go_on.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        return [self.outcomes[name] for name in sorted(self.outcomes) if name >= 0]


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each commit held."""
    sizes: list[int] = []
    commit = Database._commit

    def counted(self: Database, link: Link, ran: list[Any], tries: int) -> bool:
        sizes.append(len(ran))
        return commit(self, link, ran, tries)

    monkeypatch.setattr(Database, "_commit", counted)
    return sizes


def test_those_who_wait_share_a_commit(database: Database, commits: list[int]) -> None:
    crowd = Crowd(database)
    for n in range(10):
        crowd.join(add(n))
    assert crowd.outcome() == list(range(10))
    assert numbers(database) == list(range(10))
    assert len(commits) <= 2


def test_one_that_fails_is_undone_alone(database: Database) -> None:
    def fail(session: SqliteSession) -> None:
        add(100)(session)
        raise KeyError("mine")

    crowd = Crowd(database)
    for job in (add(1), fail, add(2), add(1), add(3)):
        crowd.join(job)
    first, failed, second, doubled, third = crowd.outcome()
    assert (first, second, third) == (1, 2, 3)
    assert isinstance(failed, KeyError)
    assert isinstance(doubled, QueryError)
    assert numbers(database) == [1, 2, 3]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_no_error_however_grave_leaves_anyone_waiting(database: Database, error: type[BaseException]) -> None:
    def fail(_: SqliteSession) -> None:
        raise error

    crowd = Crowd(database)
    for job in (add(1), fail, add(2)):
        crowd.join(job)
    outcome = crowd.outcome()
    assert isinstance(outcome[1], BaseException)
    with pytest.raises(error):
        database.write(fail)
    assert database.write(add(9)) == 9
    stored = numbers(database)
    assert 9 in stored
    for n, said in ((1, outcome[0]), (2, outcome[2])):
        if not isinstance(said, error):  # whoever leads when Ctrl-C comes is interrupted, after its row may have been saved
            assert (n in stored) == (said == n)


def test_when_sqlite_undoes_everything_only_the_one_that_caused_it_fails(database: Database) -> None:
    def undo(session: SqliteSession) -> None:
        session.query("INSERT OR ROLLBACK INTO t VALUES (1)", write=True)

    crowd = Crowd(database)
    for job in (add(1), undo, add(2), undo, add(3)):
        crowd.join(job)
    first, undone, second, undone_too, third = crowd.outcome()
    assert (first, second, third) == (1, 2, 3)
    assert isinstance(undone, QueryError)
    assert isinstance(undone_too, QueryError)
    assert numbers(database) == [1, 2, 3]


def test_a_commit_that_fails_fails_all_and_changes_nothing(database: Database) -> None:
    database.write(add(0))
    crowd = Crowd(database)
    for n in (1, 2):
        crowd.join(add(n))
    link = database._writer
    assert link is not None
    execute = link.execute

    def failing(sql: str, *rest: Any) -> Any:
        if sql == "COMMIT":
            raise apsw.IOError("disk I/O error")
        return execute(sql, *rest)

    link.execute = failing
    outcome = crowd.outcome()
    # the one under way failed and took the broken connection with it; whoever came after had a new one
    assert isinstance(crowd.outcomes[-1], Unavailable)
    assert all(isinstance(each, Unavailable) for each in outcome) == (numbers(database) == [0])
    assert database.write(add(5)) == 5


def test_one_whose_deadline_passes_in_line_is_never_run(database: Database) -> None:
    crowd = Crowd(database)
    crowd.join(add(1), time.monotonic() + 0.05)
    crowd.join(add(2))
    while 0 not in crowd.outcomes:
        time.sleep(0.001)
    assert isinstance(crowd.outcomes[0], OutOfTime)
    crowd.outcome()
    assert numbers(database) == [2]


def test_readers_share_a_few_connections(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", Options(sync="normal", readers=2, setup=("CREATE TABLE t (n)",)), "us")
    database.write(add(1))
    inside, release = threading.Semaphore(0), threading.Event()

    def hold(session: SqliteSession) -> list[tuple[Any, ...]]:
        inside.release()
        assert release.wait(10)
        return session.execute("SELECT n FROM t")

    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(database.read(hold))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert inside.acquire(timeout=10)
    with pytest.raises(OutOfTime):
        database.read(hold, time.monotonic() + 0.05)
    assert not inside.acquire(blocking=False)
    release.set()
    for thread in threads:
        thread.join(10)
    assert results == [[(1,)]] * 5
    assert len(database._idle) == 2
    assert database.idle
    database.close()


def test_a_database_that_was_closed_opens_again(database: Database) -> None:
    database.write(add(1))
    for _ in range(2):
        database.close()
        assert numbers(database) == [1]
    database.close()
    database.write(add(2))
    assert numbers(database) == [1, 2]


def test_a_file_that_is_replaced_is_opened_anew(database: Database) -> None:
    database.write(add(1))
    assert numbers(database) == [1]
    for path in database.path.parent.glob("x.db*"):
        path.rename(path.with_name("old" + path.name))
    database.write(add(2))
    assert numbers(database) == [2]
