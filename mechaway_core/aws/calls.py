"""Calls to AWS, and what their failures mean in the words of `errors.py`.

A module that calls AWS says in a table what the codes it knows mean to its user; what every service may answer is told here. That a service
does not do its part is in the log as well: whoever reads that is not who was answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mechaway_core.errors import MechawayError, Unavailable
from mechaway_core.names import shorten

Meaning = Callable[[str], MechawayError]
"""What a code means: from the service's own message to an error for the user."""

log = logging.getLogger("mechaway.services")

DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized")
SLOW_DOWN = ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "SlowDown")


@contextmanager
def calling(doing: str, meanings: Mapping[str, Meaning] | None = None) -> Iterator[None]:
    """Turn what a call of boto3 raises into an error for the user; `doing` completes "cannot …: because".

    Codes that nobody gave a meaning are `Unavailable`: the services say with them that they cannot do it now, or that the installation
    is not what it should be, and both are put right without another request.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = code_of(error)
        meaning = (meanings or {}).get(code)
        raise _logged(_unknown(doing, code, message_of(error)) if meaning is None else meaning(message_of(error))) from error
    except BotoCoreError as error:  # no connection, no credentials, no region
        raise _logged(Unavailable(f"cannot {doing}: {shorten(str(error), 200)}")) from error


def _logged(error: MechawayError) -> MechawayError:
    if isinstance(error, Unavailable):
        log.error("%s", error)
    return error


def code_of(error: Any) -> str:
    """The code that a service answered, such as `ThrottlingException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: Any) -> str:
    """What a service says about its code, in one line."""
    return shorten(str(error.response.get("Error", {}).get("Message", "")), 200)


def _unknown(doing: str, code: str, message: str) -> MechawayError:
    if code in DENIED:
        return Unavailable(f"cannot {doing}: the function's role is not allowed to ({message})")
    if code in SLOW_DOWN:
        return Unavailable(f"cannot {doing}: AWS asks to slow down ({code}); try again soon")
    return Unavailable(f"cannot {doing}: {code}: {message}" if message else f"cannot {doing}: {code}")
