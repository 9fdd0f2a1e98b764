"""One run for each delivery, however often it is delivered: the `dedupe` of a webhook, and the header `Idempotency-Key`.

    deliveries/{workflow}/{node}/{sha256 of the key}
    {"state": "running" | "failed" | "done", "until", "run", "keys", "print"?, "answer"?}

The first delivery makes that document, which only one can, in whatever process; the second finds it. When the run is over the answer is
put into it; when the run failed it is given back, so that the sender's next attempt gets its chance. A claim whose process died is taken
over once its run must be over. The run that comes then, in either case, has the keys (`$run.key`) of the first one, so that what carries
them is not done twice. A run that was accepted is found by its id as soon as it is on record. Each claim looks at a few old documents and
deletes those that are past their time.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import orjson

from mechaway_core import jsontext
from mechaway_core.errors import Busy, Conflict, Invalid, MechawayError, Stale
from mechaway_core.logs import about
from mechaway_core.ports import ABSENT, Clock, Expect, Store, Stored

log = logging.getLogger("mechaway.access")

WINDOW = 86_400.0  # seconds
MOST_WINDOW = 30 * 86_400.0
MOST_BODY = 64 * 1024  # bytes of an answer that is kept

_SLACK = 5.0  # seconds beyond a run's timeout until its process counts as dead
_ATTEMPTS = 10  # of a claim that meets others
_SWEPT = 2  # old documents that each claim looks at: one more than it makes, so that there is an end
_PREFIX = "deliveries/"


class Kept(NamedTuple):
    """An answer as it went out. `body` is None when it was too large to be kept."""

    status: int
    headers: Mapping[str, str]
    content_type: str | None
    body: bytes | None


class Delivered(Exception):  # no error, but a way out with the answer that there is already
    """This delivery was answered before, in this way."""

    def __init__(self, kept: Kept) -> None:
        super().__init__("answered before")
        self.kept = kept


class KeptBefore(Exception):  # neither
    """This delivery was accepted before, as the run of this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__("accepted before")
        self.run_id = run_id


class Delivery(NamedTuple):
    """One delivery. `key` tells it from others; `print`, where it is known, what is the same whenever it comes.

    `run_id` is the run that is to answer it, which may take `seconds`. For `window` seconds a later one gets what `answer` says.
    """

    key: str
    run_id: str
    seconds: float
    window: float = WINDOW
    answer: Literal["first", "refuse"] = "first"
    print: str | None = None


class Claim:
    """The right, and the duty, to answer one delivery. End it by `settle` or `release`.

    `keys` is the id of the run whose keys the run is to have: its own, or that of one that was cut off.
    """

    def __init__(self, store: Store, project: str, key: str, version: str, until: float, said: Mapping[str, Any]) -> None:
        self._store = store
        self._project = project
        self._key = key
        self._about = about(project=project)
        self._version = version
        self._until = until  # of the window, in seconds since 1970
        self._said = said
        self.keys = str(said["keys"])

    def settle(self, kept: Kept) -> None:
        """Keep the answer for those that come again; one that failed (400 and above) is not kept but gives the key back."""
        if kept.status >= 400:
            self.release()
            return
        body = kept.body if kept.body is not None and len(kept.body) <= MOST_BODY else None
        answer = {
            "status": kept.status,
            "headers": dict(kept.headers),
            "content_type": kept.content_type,
            "body": base64.b64encode(body).decode() if body is not None else None,
        }
        document = jsontext.encode({**self._said, "state": "done", "until": self._until, "answer": answer})
        try:
            self._store.put(self._project, self._key, document, self._version)
        except Stale:  # it took so long that somebody took it over
            log.warning("a delivery took longer than its run may take and was begun again (%s)", self._key, extra=self._about)
        except MechawayError:  # the run is over and its answer goes out; only those that come again will not find it
            log.exception("the answer to a delivery could not be kept (%s)", self._key, extra=self._about)

    def release(self) -> None:
        """Give the delivery back. Its nodes may have acted, so the next one has its keys."""
        document = jsontext.encode({**self._said, "state": "failed", "until": self._until})
        try:
            self._store.put(self._project, self._key, document, self._version)
        except Stale:
            pass
        except MechawayError:
            log.exception("a delivery could not be given back (%s)", self._key, extra=self._about)


class Deliveries:
    """The deliveries of all projects."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._swept: dict[str, str] = {}  # project → the key up to which it was swept

    def claim(
        self, project: str, workflow_id: str, node_id: str, delivery: Delivery, is_kept: Callable[[str], bool] = lambda _run_id: False
    ) -> Claim:
        """The claim to a delivery nobody has answered inside the window.

        `is_kept` says whether a run was accepted. Raises `Delivered` with the first's answer, `Conflict` when that is to be refused,
        `KeptBefore`, `Busy` while the first still runs, and `Invalid` when the key came with something else before.
        """
        self._sweep(project)
        place = f"{_PREFIX}{workflow_id}/{node_id}/{hashlib.sha256(delivery.key.encode()).hexdigest()}"
        for _ in range(_ATTEMPTS):
            now = self._clock.now()
            found = self._store.get(project, place)
            expect: str | Expect = ABSENT
            keys = delivery.run_id
            if isinstance(found, Stored):
                held = orjson.loads(found.data)
                running, failed = held["state"] == "running", held["state"] == "failed"
                if running or (held["until"] > now and not failed):
                    _check_print(held, delivery)
                if running and is_kept(held.get("run", "")):
                    raise KeptBefore(held["run"])
                if held["until"] > now and not failed:
                    raise _met(held, delivery)
                expect = found.version
                if running or (failed and held["until"] > now and held.get("print") == delivery.print):
                    keys = held.get("keys", keys)
            said: dict[str, Any] = {"run": delivery.run_id, "keys": keys}
            if delivery.print is not None:
                said["print"] = delivery.print
            document = jsontext.encode({**said, "state": "running", "until": now + min(delivery.seconds + _SLACK, MOST_WINDOW)})
            try:
                version = self._store.put(project, place, document, expect)
            except Conflict:  # another one was quicker; `Stale` is one too
                continue
            return Claim(self._store, project, place, version, now + delivery.window, said)
        raise Busy("this delivery is being answered; try again soon")

    def forget(self, project: str, workflow_id: str) -> None:
        """Delete what is known about the deliveries of a workflow."""
        while keys := self._store.keys(project, f"{_PREFIX}{workflow_id}/"):
            for key in keys:
                self._store.delete(project, key)

    def _sweep(self, project: str) -> None:
        with self._lock:
            after = self._swept.pop(project, "")
        keys = self._store.keys(project, _PREFIX, after, _SWEPT)
        now = self._clock.now()
        for key in keys:
            found = self._store.get(project, key)
            if isinstance(found, Stored) and _is_past(orjson.loads(found.data), now):
                try:
                    self._store.delete(project, key, found.version)
                except Stale:
                    continue
        if len(keys) == _SWEPT:
            with self._lock:
                self._swept[project] = keys[-1]


def _is_past(held: Mapping[str, Any], now: float) -> bool:
    """Whether nobody will ask for it any more. One that was cut off is kept for who comes again: it knows the keys of its run."""
    kept = float(held["until"]) + (WINDOW if held["state"] == "running" else 0.0)
    return kept <= now


def _check_print(held: Mapping[str, Any], delivery: Delivery) -> None:
    """Raise `Invalid` when the key came with something else."""
    if "print" in held and delivery.print is not None and held["print"] != delivery.print:
        raise Invalid("this Idempotency-Key came with another request before; every request needs a key of its own")


def _met(held: Mapping[str, Any], delivery: Delivery) -> Exception:
    """What there is to say to a delivery that was claimed before."""
    if held["state"] == "running":
        return Busy("this delivery is being answered; try again soon")
    if delivery.answer == "refuse":
        return Conflict("this delivery was answered before")
    first = held["answer"]
    body = base64.b64decode(first["body"]) if first["body"] is not None else None
    return Delivered(Kept(first["status"], first["headers"], first["content_type"], body))
