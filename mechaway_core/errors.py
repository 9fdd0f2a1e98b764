"""Everything that can go wrong, drawn once.

    MechawayError                 a sentence for the user
    ├── Invalid                   what was sent says something wrong; carries every problem found
    ├── Malformed                 what was sent is not what it claims to be (broken JSON, wrong charset)
    ├── NotFound                  no such project, workflow, version, path, table
    ├── NotAllowed                it is there, but does not answer this method
    ├── Refused                   the caller is not let in
    │   ├── Unauthorized          it has not shown who it is
    │   ├── Forbidden             it may not do this
    │   ├── Hidden                it may not even know whether there is such a thing
    │   └── TooMany               it has failed to show who it is too often; later
    ├── Conflict                  it exists already
    │   ├── Stale                 somebody else changed it since it was read
    │   └── Busy                  it is being done at this moment; later
    ├── TooLarge                  more than a limit allows
    ├── TooSlow                   what was to come did not come in time
    ├── Unsupported               a kind of content that nobody here reads
    ├── Unavailable               not now: disk full, read-only or locked, too many runs, shutting down
    │   ├── NotOnRecord           a run could not be put on record; carries its id
    │   └── Locked                the vault cannot be opened: another master key, or what it holds was changed
    ├── Cancelled                 the run that it was for was cancelled; what it came to is of no interest any more
    └── NodeError                 a node could not do its work; what `retry` and `on_error` speak about
        ├── ScriptError           a Lua script or expression failed
        ├── QueryError            the database refused or stopped a statement
        ├── SecretMissing         a secret that is needed is not in the vault
        ├── HttpError             an HTTP call failed, or its answer says so
        ├── AddressRefused        the guard does not let workflows reach this address
        ├── Unreachable           there is no such host, or it does not answer
        ├── Stopped               the workflow says that the run ends here
        └── OutOfTime             it took longer than its timeout allows

`web/` turns these into statuses; nobody else answers in HTTP. A run that failed is not an exception: it is a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong with a document.

    `pointer` is a JSON pointer (RFC 6901) into the document, `node` the id of the node it concerns, `message` one sentence.
    """

    pointer: str
    message: str
    node: str | None = None

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


class MechawayError(Exception):
    """Something the user can read and act on. `str(error)` is one sentence."""


class Invalid(MechawayError):
    """What was sent can be read but not accepted. `problems` lists everything that is wrong, not only the first."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Malformed(MechawayError):
    """What was sent cannot be read at all."""


class NotFound(MechawayError):
    """There is no such thing."""


class NotAllowed(MechawayError):
    """It is there, but not for this method; `allow` names those that it answers."""

    def __init__(self, message: str, allow: Sequence[str]) -> None:
        super().__init__(message)
        self.allow = tuple(allow)


class Refused(MechawayError):
    """The caller is not let in.

    The sentence tells nothing that would help a guesser; `reason` is a word for the log and the counters, and `detail` what the log
    says beside it. `guess`: it showed something that was wrong, which slows its source down; showing nothing does not.
    """

    def __init__(self, message: str, *, reason: str, guess: bool = False, detail: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.guess = guess
        self.detail = detail


class Unauthorized(Refused):
    """The caller has not shown who it is. `challenge` is what WWW-Authenticate asks for."""

    def __init__(
        self, message: str, *, reason: str, guess: bool = False, detail: str = "", challenge: str = 'Bearer realm="mechaway"'
    ) -> None:
        super().__init__(message, reason=reason, guess=guess, detail=detail)
        self.challenge = challenge


class Forbidden(Refused):
    """The caller may not do this, whoever it is."""


class Hidden(Refused):
    """The caller may not know whether there is such a thing, and hears what it would hear if there were none."""


class TooMany(Refused):
    """The caller has failed to show who it is too often; it may come back after `retry_after` seconds."""

    def __init__(self, message: str, *, reason: str, retry_after: int) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Conflict(MechawayError):
    """It cannot be made because it is there already."""


class Stale(Conflict):
    """It was changed by somebody else since the caller read it."""


class Busy(Conflict):
    """It is being done at this moment; the same call will find it done, or undone, later."""


class TooLarge(MechawayError):
    """It is larger than a limit allows."""


class TooSlow(MechawayError):
    """The caller takes longer to send it than a limit allows."""


class Unsupported(MechawayError):
    """A kind of content that nobody here reads."""


class Unavailable(MechawayError):
    """It cannot be done now; the same call may succeed later. Nothing was changed."""


class NotOnRecord(Unavailable):
    """A run could not be put on record. If it was to be waited for it is over; if it was to be accepted it will not begin."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class Locked(Unavailable):
    """The vault, or a secret in it, cannot be opened with the master key that is there."""


class Cancelled(MechawayError):
    """The run that it was done for was cancelled. No retry and no `on_error` speaks about this."""

    def __init__(self) -> None:
        super().__init__("the run was cancelled")


class NodeError(MechawayError):
    """A node could not do its work.

    `kind` is what `retry.on` can name ("error", "timeout", "script", "query", "http"); `status` an HTTP status when there was one;
    `retry_after` the seconds that the other side asked to wait before another attempt.
    """

    kind = "error"

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ScriptError(NodeError):
    """A Lua script or expression failed, or what it gave cannot be written as JSON."""

    kind = "script"


class QueryError(NodeError):
    """A statement was refused, stopped or failed."""

    kind = "query"


class SecretMissing(NodeError):
    """Secrets that are needed are not in the vault; `names` are theirs."""

    kind = "secret"

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class HttpError(NodeError):
    """An HTTP call failed: no connection, no TLS, no HTTP, or a status that says so."""

    kind = "http"


class AddressRefused(NodeError):
    """The guard does not let workflows reach this address."""


class Unreachable(NodeError):
    """There is no such host, or it does not answer."""


class Stopped(NodeError):
    """The workflow says that the run ends here."""

    kind = "stop"


class OutOfTime(NodeError):
    """It took longer than its timeout allows."""

    kind = "timeout"


def no_project(slug: str) -> NotFound:
    """The error for a project that is not there."""
    return NotFound(f'there is no project "{slug[:80]}"')
