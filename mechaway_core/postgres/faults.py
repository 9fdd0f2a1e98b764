"""What goes wrong with PostgreSQL, as our errors.

Only fields that the server sends about a statement become part of a sentence. What libpq says about connections holds hosts, users and
worse, so those become sentences of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechaway_core.errors import MechawayError, NodeError, OutOfTime, QueryError, Unavailable
from mechaway_core.names import shorten

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

MOST = 1000  # characters of a server's message


class Lost(Exception):
    """The connection broke, or could not be made."""


class Late(Exception):
    """The deadline passed while waiting for the server."""


class TooMuch(Exception):
    """More came from the server than a limit allows, in the middle of a row."""


class ServerError(Exception):
    """The server refused or stopped a statement."""

    def __init__(self, state: str, message: str, detail: str, hint: str) -> None:
        super().__init__(message)
        self.state = state
        self.message = message
        self.detail = detail
        self.hint = hint

    @classmethod
    def of(cls, result: PGresult) -> ServerError:
        """The error that a result is."""
        from psycopg.pq import DiagnosticField as Field

        def field(name: Field) -> str:
            return (result.error_field(name) or b"").decode("utf-8", "replace")

        texts = (field(name) for name in (Field.SQLSTATE, Field.MESSAGE_PRIMARY, Field.MESSAGE_DETAIL, Field.MESSAGE_HINT))
        return cls(*texts)


def translate(error: ServerError, limit: str, over: bool) -> MechawayError:
    """The error for the user. `limit` says in words how long the statement was allowed to take, `over` whether that has passed.

    57014 is what `statement_timeout` gives, and also what an administrator's `pg_cancel_backend` does.
    """
    if over and error.state in ("57014", "25P03", "25P04"):
        return OutOfTime(f"the statement ran longer than {limit}")
    parts = [error.message, *(f"{name}: {text}" for name, text in (("detail", error.detail), ("hint", error.hint)) if text)]
    sentence = f"PostgreSQL: {shorten('; '.join(parts), MOST)} (SQLSTATE {error.state})"
    if error.state.startswith(("57P", "08")):
        return NodeError(f"{sentence}; whether the statement took effect is not known")
    return QueryError(sentence)


# What libpq and servers say when connecting, in the order in which it is looked for.
_CONNECTING: tuple[tuple[str, type[MechawayError], str], ...] = (
    ("password authentication failed", NodeError, "PostgreSQL does not accept this user and password"),
    ("no password supplied", NodeError, "PostgreSQL asks for a password and the connection string has none"),
    ("authentication failed", NodeError, "PostgreSQL does not accept this user"),
    ("authentication method", NodeError, "PostgreSQL asks for a way to sign in that is not possible here"),
    ("no pg_hba.conf entry", NodeError, "PostgreSQL does not let this user come in from here (pg_hba.conf)"),
    ("not permitted to log in", NodeError, "PostgreSQL does not let this user log in"),
    ("permission denied for database", NodeError, "PostgreSQL does not let this user into this database"),
    ("too many", Unavailable, "PostgreSQL has no connection free"),
    ("remaining connection slots", Unavailable, "PostgreSQL has no connection free"),
    ("starting up", Unavailable, "PostgreSQL is starting up"),
    ("shutting down", Unavailable, "PostgreSQL is shutting down"),
    ("recovery mode", Unavailable, "PostgreSQL is recovering"),
    ("session is", Unavailable, "no server of the connection string is of the kind that target_session_attrs asks for"),
    ("certificate", NodeError, "the certificate of the PostgreSQL server cannot be trusted"),
    ("does not support SSL", NodeError, "the PostgreSQL server does not speak TLS, which sslmode asks for"),
    ("SSL", NodeError, "no TLS connection to the PostgreSQL server could be made"),
    ("database", NodeError, "the PostgreSQL server has no such database"),
    ("role", NodeError, "the PostgreSQL server has no such user"),
    ("invalid", NodeError, "an option of the connection string has a value that cannot be used"),
    ("refused", Unavailable, "the PostgreSQL server refuses the connection"),
)


def connecting(message: str) -> MechawayError:
    """Why no connection could be made, from what libpq says about it."""
    for words, kind, sentence in _CONNECTING:
        if words in message:
            return kind(sentence)
    if "FATAL" in message:
        return NodeError("PostgreSQL refuses the connection")
    return Unavailable("the PostgreSQL server cannot be reached")
