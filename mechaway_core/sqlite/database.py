"""One SQLite file: who may write, who reads, and what is durable when.

Writers commit in groups. A writer that finds nobody writing becomes the leader: it begins a transaction, runs its own job, then
the jobs that queued up meanwhile, commits once for all of them, and hands the lead to the first of those that came later. So
one writer alone pays for no queue, and thirty of them share one sync of the disk. There is no thread of its own. A single row for a table
that is known needs no transaction around it: then one statement does it all.

A job that fails is undone alone. When SQLite undoes the whole transaction (a full disk, a stopped write), only the job that
caused it fails; the others run again.

A file can be the copy of one that is elsewhere, its `Origin`. Then a group never commits here: what it made goes to the origin, which
puts it into the copy when it has been saved there, or renews the copy when somebody else was quicker, and then the jobs run again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import apsw

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import Cancelled, MechawayError, OutOfTime, Unavailable
from mechaway_core.ports import InsertRows
from mechaway_core.sqlite.faults import BROKEN, translate
from mechaway_core.sqlite.link import Identity, Link, Moved, Options, Unmade, identity_of, open_link, open_nothing
from mechaway_core.sqlite.pulse import LOOK_AGAIN, Pulse
from mechaway_core.sqlite.schema import insert_at_once
from mechaway_core.sqlite.session import SqliteSession

T = TypeVar("T")

GROUP = 256  # jobs of one commit
GATHERING = 0.05  # seconds after which a commit takes no further jobs
OPENINGS = 5  # tries to open a file that is being replaced


class Origin(Protocol):
    """Where a file comes from that is only a copy."""

    def publish(self, content: bytes, base: Identity | None, since: float, tries: int) -> bool:
        """Make `content`, which was made from the copy `base`, what there is, here and there.

        False: somebody else was quicker, and the copy has been renewed. Raises `Unavailable`, and then nothing was saved. `since` is
        when the first of those who wait began to, an instant of `time.monotonic()`, and `tries` how often this was tried for them.
        """
        ...


class _Ticket:
    """A job that waits for its outcome."""

    __slots__ = ("cancellation", "deadline", "error", "gate", "job", "lead", "settled", "since", "value")

    def __init__(self, job: Callable[[SqliteSession], Any], deadline: float | None, cancellation: Cancellation, since: float) -> None:
        self.job = job
        self.deadline = deadline
        self.cancellation = cancellation
        self.since = since
        self.gate: threading.Lock | None = None  # closed until there is an outcome; the leader of a group needs none
        self.lead = False
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None


class Database:
    """A file and its connections, opened when first needed. Safe to use from several threads.

    `owner` is whose it is, for messages. `find` is called when the file is missing, with whether it is needed for writing: it
    raises `NotFound` when there should be none. `creates`: a writer makes the file. `origin`: where it is a copy from. `pulse` tells when
    the file may have been replaced; without one it is looked at each time.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        owner: str,
        find: Callable[[bool], None] = lambda _write: None,
        *,
        creates: bool = True,
        origin: Origin | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self.path = path
        self.options = options
        self.owner = owner
        self.used = 0  # kept by whoever holds several
        self._find = find
        self._creates = creates
        self._origin = origin
        self._pulse = pulse
        self._seen: tuple[int, Link, float] | None = None  # the epoch in which the file was the one of this link, and until when that holds
        self._name = str(path)
        self._mutex = threading.Lock()
        self._queue: deque[_Ticket] = deque()
        self._writing = False
        self._writer: Link | None = None
        self._idle: list[Link] = []
        self._open_readers = 0
        self._returned = threading.Condition(threading.Lock())
        self._waiting = 0
        self._generation = 0

    # -- reading

    def read(
        self,
        job: Callable[[SqliteSession], T],
        deadline: float | None = None,
        cancellation: Cancellation = NEVER,
        *,
        snapshot: bool = True,
        if_missing: Callable[[], T] | None = None,
    ) -> T:
        """What `job` answers. With `snapshot`, all its statements see one moment; without, each sees the latest.

        Where there is no file, what `if_missing` answers, or else the job reads an empty database.
        """
        link = self._borrow(deadline, cancellation)
        if link is None:
            if if_missing is not None:
                return if_missing()
            link = open_nothing(self.options)
            try:
                return self._read(link, job, deadline, cancellation, False)
            finally:
                link.close()
        generation = self._generation
        sound = False
        try:
            answer = self._read(link, job, deadline, cancellation, snapshot)
            sound = True
            return answer
        except MechawayError as error:
            sound = not isinstance(error, Unavailable)
            raise
        finally:
            self._give_back(link, sound and generation == self._generation)

    def _read(self, link: Link, job: Callable[[SqliteSession], T], deadline: float | None, cancellation: Cancellation, snapshot: bool) -> T:
        session = SqliteSession(link, self.options, self.owner, self.path, deadline, cancellation)
        try:
            if not snapshot:
                return job(session)
            link.execute("BEGIN")
            try:
                return job(session)
            finally:
                if link.connection.in_transaction:  # a failing disk ends it by itself
                    link.execute("COMMIT")
        except (apsw.Error, OSError) as error:
            raise self._fault(error) from error
        finally:
            session.end()

    def _borrow(self, deadline: float | None, cancellation: Cancellation) -> Link | None:
        identity = self._identity(write=False)
        if identity is None:
            return None
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                if not self._may_open(deadline, cancellation):
                    continue
                try:
                    return self._opened(write=False)
                except Unmade:  # there is no more in it than where there is no file
                    self._forget_reader()
                    return None
                except BaseException:
                    self._forget_reader()
                    raise
            if link.identity == identity:
                return link
            link.close()
            self._forget_reader()

    def _may_open(self, deadline: float | None, cancellation: Cancellation) -> bool:
        """Count one more reader, or wait until one comes back (False)."""
        wake = partial(self._wake_readers)  # one of its own for each who waits
        cancellation.begin(wake)
        try:
            return self._count_or_wait(deadline, cancellation)
        finally:
            cancellation.end(wake)

    def _wake_readers(self) -> None:
        with self._returned:
            self._returned.notify_all()

    def _count_or_wait(self, deadline: float | None, cancellation: Cancellation) -> bool:
        with self._returned:
            if self._open_readers < self.options.readers:
                self._open_readers += 1
                return True
            cancellation.check()
            self._waiting += 1
            try:
                if not self._idle:
                    rest = None if deadline is None else deadline - time.monotonic()
                    if not self._returned.wait(rest) and deadline is not None and time.monotonic() >= deadline:
                        raise OutOfTime(f"waited for the tables of {self.owner} longer than its timeout allows")
            finally:
                self._waiting -= 1
            return False

    def _give_back(self, link: Link, sound: bool) -> None:
        if sound and not link.connection.in_transaction:
            self._idle.append(link)
            if self._waiting:
                with self._returned:
                    self._returned.notify()
            return
        link.close()
        self._forget_reader()

    def _forget_reader(self) -> None:
        with self._returned:
            self._open_readers -= 1
            self._returned.notify()

    # -- writing

    def write(self, job: Callable[[SqliteSession], T], deadline: float | None = None, cancellation: Cancellation = NEVER) -> T:
        """What `job` answers, once its changes are durable. It may be called more than once; see `Tables.write`."""
        ticket = _Ticket(job, deadline, cancellation, time.monotonic())
        with self._mutex:
            if self._writing:
                ticket.gate = threading.Lock()
                ticket.gate.acquire()
                self._queue.append(ticket)
            else:
                self._writing = ticket.lead = True
        if ticket.lead or (ticket.gate is not None and self._await(ticket, ticket.gate)):
            try:
                cancellation.check()
                self._lead(ticket)
            finally:
                self._pass_on()
        if ticket.error is not None:
            raise ticket.error
        return cast(T, ticket.value)

    def _await(self, ticket: _Ticket, gate: threading.Lock) -> bool:
        """Wait for the outcome (False), or for the lead (True). A job that has not begun never will when it is late or called off."""
        call_off = partial(self._call_off, ticket, gate)
        try:
            ticket.cancellation.begin(call_off)
        except Cancelled:
            call_off()
        try:
            rest = -1.0 if ticket.deadline is None else max(0.0, ticket.deadline - time.monotonic())
            if not gate.acquire(timeout=min(rest, threading.TIMEOUT_MAX)):
                if self._withdraw(ticket):
                    raise OutOfTime(f"waited to write the tables of {self.owner} longer than its timeout allows; nothing was saved")
                gate.acquire()
        except BaseException:  # a deadline, or Ctrl-C while waiting
            if not ticket.settled and not self._withdraw(ticket) and ticket.lead:
                self._pass_on()
            raise
        finally:
            ticket.cancellation.end(call_off)
        return ticket.lead

    def _call_off(self, ticket: _Ticket, gate: threading.Lock) -> None:
        """Take back a job that has not begun, because its run was cancelled. One that goes on is for its session to end."""
        if self._withdraw(ticket):
            ticket.error = Cancelled()
            gate.release()

    def _withdraw(self, ticket: _Ticket) -> bool:
        with self._mutex:
            try:
                self._queue.remove(ticket)
            except ValueError:
                return False
            ticket.settled = True
            return True

    def _pass_on(self) -> None:
        """Hand the lead to who waits longest, or to nobody."""
        with self._mutex:
            if self._queue:
                successor = self._queue.popleft()
                successor.lead = True
                if successor.gate is not None:
                    successor.gate.release()
            else:
                self._writing = False

    def _lead(self, first: _Ticket) -> None:
        """Settle the leader's ticket and those of the group that it commits."""
        if not self._queue and self._at_once(first):
            return
        group = [first]
        stopped: BaseException | None = None
        try:
            stopped = self._commit_group(group)
        except Exception as error:
            fault = self._fault(error)
            for ticket in group:
                ticket.error = fault
        except BaseException as error:
            fault = Unavailable("Mechaway is being stopped; nothing was saved")
            for ticket in group:
                ticket.error = ticket.error or fault
            stopped = error
        finally:
            if self._writer is not None and self._writer.connection.in_transaction:
                self._drop_writer()
            for ticket in group:
                ticket.settled = True
                if ticket is not first and ticket.gate is not None:
                    ticket.gate.release()
        if stopped is not None:
            raise stopped

    def _at_once(self, ticket: _Ticket) -> bool:
        """Do a job that is one row for a known table in a statement of its own; False when it has to go the long way.

        Each statement gives up the interpreter's lock, and beside other busy threads that is what a short transaction costs most.
        """
        job, link = ticket.job, self._writer
        if not isinstance(job, InsertRows) or len(job.rows) != 1 or link is None or self._origin is not None:
            return False
        now = time.monotonic()
        if ticket.deadline is not None and now >= ticket.deadline:
            return False
        try:
            if not self._in_place(link, now):
                return False
            wait = self.options.busy_timeout
            link.wait_at_most(wait if ticket.deadline is None else min(wait, ticket.deadline - now))
            stored = insert_at_once(link, job)
        except (apsw.Error, MechawayError, UnicodeError):  # the long way meets it again, and says what it is
            return False
        if stored is None:
            return False
        ticket.value = [stored]
        ticket.settled = True
        return True

    def _commit_group(self, group: list[_Ticket]) -> BaseException | None:
        """Run and commit the jobs of `group` and of the queue, which move there. What Ctrl-C left to raise is returned."""
        first = group[0]
        todo = deque(group)
        stopped: BaseException | None = None
        tries = 0
        while todo:
            link = self._begin(todo[0])
            ran: list[_Ticket] = []  # in this transaction, with success or undone alone
            gathered_until = time.monotonic() + GATHERING
            while True:
                if todo:
                    ticket = todo.popleft()
                elif len(group) < GROUP and self._queue and time.monotonic() < gathered_until and (next_one := self._take()):
                    ticket = next_one
                    group.append(ticket)
                else:
                    break
                alone = not ran and not todo and not self._queue
                intact = self._run(link, ticket, alone)
                if isinstance(ticket.error, KeyboardInterrupt) and ticket is not first:
                    stopped, ticket.error = ticket.error, Unavailable("Mechaway is being stopped; nothing was saved")
                if not intact:
                    todo.extendleft(reversed(ran))  # all undone: they run again, without the one that caused it
                    ran.clear()
                    break
                ran.append(ticket)
            if ran and not self._commit(link, ran, tries):
                todo.extendleft(reversed(ran))
                tries += 1
        return stopped

    def _begin(self, ticket: _Ticket) -> Link:
        now = time.monotonic()
        wait = max(0.0, self.options.busy_timeout - (now - ticket.since))
        if ticket.deadline is not None:
            wait = min(wait, ticket.deadline - now)
        for attempt in range(OPENINGS):
            link = self._write_link()
            link.wait_at_most(wait)
            try:
                link.execute("BEGIN IMMEDIATE")
            except BROKEN:
                self._drop_writer()
                if attempt + 1 == OPENINGS or identity_of(self._name) == link.identity:
                    raise
            else:
                return link
        raise AssertionError

    def _run(self, link: Link, ticket: _Ticket, alone: bool) -> bool:
        """Run one job. False when the transaction is gone, and with it what ran before."""
        if ticket.cancellation.asked:
            ticket.error = Cancelled()
            return True
        if ticket.deadline is not None and time.monotonic() >= ticket.deadline:
            ticket.error = OutOfTime("there was no time left to write; nothing was saved")
            return True
        session = SqliteSession(link, self.options, self.owner, self.path, ticket.deadline, ticket.cancellation)
        ticket.error = None
        try:
            if not alone:
                if self._one_row(link, ticket):
                    return True
                link.execute("SAVEPOINT job")
            ticket.value = ticket.job(session)
            if session.broken is not None:
                raise session.broken
            if not alone:
                link.execute("RELEASE job")
        except BaseException as error:
            ticket.error = self._fault(error) if isinstance(error, apsw.Error) else error
            link.forget_tables()
            if not link.connection.in_transaction:
                return False
            if alone:
                link.execute("ROLLBACK")
                return False
            link.execute("ROLLBACK TO job")
            link.execute("RELEASE job")
        finally:
            session.end()
        return True

    def _one_row(self, link: Link, ticket: _Ticket) -> bool:
        """Do a job that is one row for a known table without a savepoint: a statement that fails undoes itself."""
        if not isinstance(ticket.job, InsertRows) or len(ticket.job.rows) != 1:
            return False
        try:
            stored = insert_at_once(link, ticket.job)
        except (apsw.Error, MechawayError, UnicodeError):
            if not link.connection.in_transaction:
                raise
            return False  # the long way meets it again, and says what it is
        if stored is None:
            return False
        ticket.value = [stored]
        return True

    def _commit(self, link: Link, ran: list[_Ticket], tries: int) -> bool:
        """Make what `ran` did durable. False when it has to be done again."""
        try:
            if self._origin is not None:
                return self._publish(self._origin, link, ran, tries)
            link.execute("COMMIT")
        except (apsw.Error, MechawayError) as error:
            fault = self._fault(error)
            for ticket in ran:
                ticket.error = fault
            self._drop_writer()
        return True

    def _publish(self, origin: Origin, link: Link, ran: list[_Ticket], tries: int) -> bool:
        try:
            if all(ticket.error is not None for ticket in ran):
                return True
            return origin.publish(link.connection.serialize("main"), link.identity, ran[0].since, tries)
        finally:
            if link.connection.in_transaction:
                link.execute("ROLLBACK")  # the copy is replaced whole, or stays as it is
            link.forget_tables()

    def _take(self) -> _Ticket | None:
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    # -- the file

    def _write_link(self) -> Link:
        link = self._writer
        identity = self._identity(write=True)
        if link is not None:
            if link.identity == identity:
                return link
            self._drop_writer()
        if identity is None and not self._creates:
            raise Unavailable(f"the database of {self.owner} is missing: {self.path}")
        self._writer = self._opened(write=True)
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _identity(self, *, write: bool) -> tuple[int, int] | None:
        try:
            found = os.stat(self._name)
        except FileNotFoundError:
            self._find(write)
            return identity_of(self._name)
        except OSError as error:
            raise self._fault(error) from error
        return (found.st_dev, found.st_ino)

    def _in_place(self, link: Link, now: float) -> bool:
        """Whether the file of a writing link is still the one at its path.

        To look gives up the interpreter's lock; while nobody changed anything, one look serves for some milliseconds.
        """
        epoch = self._pulse.epoch() if self._pulse is not None else None
        if self._seen is not None and epoch == self._seen[0] and link is self._seen[1] and now < self._seen[2]:
            return True
        self._seen = None
        if link.identity != self._identity(write=True):
            return False
        if epoch is not None:
            self._seen = (epoch, link, now + LOOK_AGAIN)
        return True

    def _opened(self, *, write: bool) -> Link:
        for _ in range(OPENINGS):
            try:
                return open_link(self.path, self.options, write=write)
            except Moved:
                continue
            except apsw.CantOpenError as error:
                if not self.path.exists():
                    self._find(write)  # NotFound when the project went away meanwhile
                raise self._fault(error) from error
            except (apsw.Error, OSError) as error:
                raise self._fault(error) from error
        raise Unavailable(f"the database of {self.owner} is being replaced all the time")

    def _fault(self, error: Exception) -> MechawayError:
        return error if isinstance(error, MechawayError) else translate(error, self.path, self.owner, self.options)

    # -- ending

    @property
    def idle(self) -> bool:
        """Whether nobody uses it at this moment."""
        return not self._writing and len(self._idle) == self._open_readers

    def close(self) -> None:
        """Close the connections that nobody uses; those in use close when they are given back. Used again, it opens again."""
        self._generation += 1
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                break
            link.close()
            self._forget_reader()
        with self._mutex:
            if self._writing:
                return
            self._drop_writer()
