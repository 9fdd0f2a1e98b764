"""One bucket: what Mechaway asks of S3, over signed requests.

* A write says what it expects to be there (`If-Match`, `If-None-Match: *`; a delete too), so S3 itself compares and sets.
* What passes by itself is tried again with a growing, random pause: 409 (two conditional writes met), 503 and 429 (slow down), 5xx, a
  connection that was lost. When the time is over the call is `Unavailable`.
* A write whose answer was lost may have been carried out. If a further try then meets something else than it expects, the error is
  `unsure`, and whoever wrote has to look whether what is there is its own.
* What made it wait, and what it cannot do, is in the log as well: whoever reads that is not who was answered.
* Listings are in the order of UTF-8, which is that of code points; keys travel quoted, so that any text can be one.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote_plus, urlsplit

from mechaway_core.aws.connections import Answer, Connections, Lost
from mechaway_core.aws.signing import NO_BODY, Keys, quoted_path, quoted_query, sign
from mechaway_core.errors import Invalid, Unavailable
from mechaway_core.names import shorten
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Expect, Unchanged

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds; each is a random part of these
AGAIN = {409, 429, 500, 502, 503, 504}
MAYBE_DONE = {500, 502, 503, 504}  # answers to a write that may have been carried out all the same
PAGE = 1000  # keys of one listing, and of one request that deletes several

_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_CONTENTS = re.compile(rb"<Contents>(.*?)</Contents>", re.DOTALL)
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_MODIFIED = re.compile(rb"<LastModified>([^<]*)</LastModified>")
_UPLOAD = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_NOT_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # a text: as a pattern it takes 4 ms to be made, and few need it
_ETAG = re.compile(r"[0-9A-Za-z_-]{1,200}", re.ASCII)
_SAVES = "x-amz-meta-saves"


log = logging.getLogger("mechaway.s3")


class BucketUnavailable(Unavailable):
    """The bucket does not do it, as opposed to a copy or a disk of ours."""


class Mismatch(Exception):
    """What is there is not what a write expected. `unsure`: it may be what this very write put there, its answer having been lost."""

    def __init__(self, *, unsure: bool) -> None:
        super().__init__(unsure)
        self.unsure = unsure


class Gone(Mismatch):
    """Nothing is there where a write expected something."""


class Place(NamedTuple):
    """Where a bucket is. `host` with its port, if any; `path` goes in front of every key."""

    bucket: str
    region: str
    host: str
    path: str
    secure: bool


class Found(NamedTuple):
    """An object. `etag` without quotes; `saves` is what its last `put` said; `size` that of the whole, also when a part was asked for."""

    data: bytes
    etag: str
    saves: str
    size: int


class Listed(NamedTuple):
    """A line of a listing. `modified` in ISO 8601."""

    key: str
    modified: str


class _Said(NamedTuple):
    answer: Answer
    unsure: bool

    @property
    def code(self) -> str:
        found = _CODE.search(self.answer.body)
        return found[1].decode() if found else ""


def place_of(bucket: str, region: str, endpoint: str = "") -> Place:
    """Where a bucket is. With an `endpoint`, an emulator's or a gateway's, the bucket is the first part of the path. Raises `Invalid`."""
    if not bucket:
        raise Invalid("no bucket is said: set MECHAWAY_BUCKET")
    if endpoint:
        parts = urlsplit(endpoint)
        return Place(bucket, region, parts.netloc, f"{parts.path.rstrip('/')}/{bucket}", parts.scheme != "http")
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    if "." in bucket:  # a certificate covers one name before the first dot
        return Place(bucket, region, host, f"/{bucket}", True)
    return Place(bucket, region, f"{bucket}.{host}", "", True)


def is_etag(text: str) -> bool:
    """Whether a text can be an entity tag that S3 gave."""
    return _ETAG.fullmatch(text) is not None


class S3:
    """A bucket. Safe to use from several threads. `keys` gives the credentials of the moment, `timeout` is in seconds."""

    def __init__(
        self,
        place: Place,
        keys: Callable[[], Keys],
        *,
        timeout: float = 20.0,
        ca_bundle: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = place
        self.timeout = timeout
        self._keys = keys
        self._connections = Connections(place.host, secure=place.secure, ca_bundle=ca_bundle)
        self._sleep = sleep
        self._skew = 0.0  # seconds by which S3's clock is ahead of ours

    # -- objects

    def get(
        self,
        key: str,
        known: str | None = None,
        *,
        into: Path | None = None,
        part: tuple[int, int] | None = None,
        etag: str | None = None,
        deadline: float | None = None,
    ) -> Found | Literal[Unchanged.UNCHANGED] | None:
        """An object; None when there is none; `UNCHANGED` when its entity tag is still `known`.

        Its data go `into` a file when one is named. `part` is the first and the last byte that is wanted: fewer may come, and none where
        the object is shorter. With `etag`, raises `Mismatch` when it is not that one any more. No try begins past the `deadline`, an
        instant of `time.monotonic()`.
        """
        headers = {"if-none-match": f'"{known}"'} if known is not None else {}
        if etag is not None:
            headers["if-match"] = f'"{etag}"'
        if part is not None:
            headers["range"] = f"bytes={part[0]}-{part[1]}"
        said = self._call("GET", key, headers=headers, into=into, deadline=deadline)
        answer = said.answer
        match answer.status:
            case 200 | 206:
                length = int(answer.headers.get("content-length", len(answer.body)))
                whole = answer.headers.get("content-range", "").rpartition("/")[2]
                return Found(answer.body, _etag(answer), answer.headers.get(_SAVES, ""), int(whole) if whole.isdigit() else length)
            case 304:
                return UNCHANGED
            case 404 if said.code in ("NoSuchKey", ""):
                return None
            case 412:
                raise Mismatch(unsure=False)
            case 416:
                return Found(b"", "", "", part[0] if part else 0)
        raise self._refusal(said, "read", key)

    def put(self, key: str, data: bytes | Callable[[], bytes], expect: str | Expect = ANY, saves: str = "", tags: str = "") -> str:
        """Store an object and answer its entity tag. Raises `Mismatch` and `Gone` when not what is expected is there.

        `data` that is called is called for every try. `saves` are words to be found with the object; `tags`, as `name=value`, are what
        rules of the bucket's lifecycle look at.
        """
        headers = {_SAVES: saves} if saves else {}
        if tags:
            headers["x-amz-tagging"] = tags
        if expect is ABSENT:
            headers["if-none-match"] = "*"
        elif expect is not ANY:
            headers["if-match"] = f'"{expect}"'
        said = self._call("PUT", key, headers=headers, body=data)
        if said.answer.status == 200:
            return _etag(said.answer)
        raise self._not_written(said, key)

    def delete(self, key: str, expect: str | None = None) -> None:
        """Delete an object, or nothing. With the entity tag `expect`, raises `Mismatch` where it has another and `Gone` where it is not."""
        headers = {"if-match": f'"{expect}"'} if expect is not None else {}
        said = self._call("DELETE", key, headers=headers)
        if said.answer.status != 204:
            raise self._not_written(said, key)

    def listing(self, prefix: str, after: str = "", limit: int = PAGE) -> list[Listed]:
        """Up to `limit` objects whose keys begin with `prefix` and come behind `after`, sorted by code point."""
        found: list[Listed] = []
        while len(found) < limit:
            query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "max-keys": str(min(PAGE, limit - len(found)))}
            if after:
                query["start-after"] = after
            said = self._call("GET", query=query)
            if said.answer.status != 200:
                raise self._refusal(said, "list", prefix)
            page = [_listed(block) for block in _CONTENTS.findall(said.answer.body)]
            found += page
            if not page or b"<IsTruncated>true" not in said.answer.body:
                break
            after = page[-1].key
        return found

    def walk(self, prefix: str) -> Iterator[list[Listed]]:
        """All objects whose keys begin with `prefix`, in pages."""
        after = ""
        while page := self.listing(prefix, after):
            yield page
            after = page[-1].key

    def delete_all(self, prefix: str) -> None:
        """Delete every object whose key begins with `prefix`."""
        for page in self.walk(prefix):
            self.delete_many([line.key for line in page])

    def delete_many(self, keys: list[str]) -> None:
        """Delete objects, a page at most."""
        odd = [key for key in keys if re.search(_NOT_XML, key)]
        for key in odd:
            self.delete(key)
        plain = [key for key in keys if key not in odd]
        if not plain:
            return
        lines = "".join(f"<Object><Key>{_in_xml(key)}</Key></Object>" for key in plain)
        body = f"<Delete><Quiet>true</Quiet>{lines}</Delete>".encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        said = self._call("POST", query={"delete": ""}, headers={"content-md5": digest}, body=body)
        if said.answer.status != 200 or b"<Error>" in said.answer.body:
            raise self._refusal(said, "delete", plain[0])

    # -- uploads of several parts

    def begin_upload(self, key: str) -> str:
        """Begin to store an object in parts; the id of the upload."""
        said = self._call("POST", key, query={"uploads": ""})
        found = _UPLOAD.search(said.answer.body)
        if said.answer.status != 200 or found is None:
            raise self._refusal(said, "write", key)
        return found[1].decode()

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Store a part, of 5 MiB at least unless it is the last; its entity tag. Numbers begin at 1."""
        said = self._call("PUT", key, query={"partNumber": str(number), "uploadId": upload}, body=data)
        if said.answer.status != 200:
            raise self._refusal(said, "write", key)
        return _etag(said.answer)

    def finish_upload(self, key: str, upload: str, etags: list[str]) -> None:
        """Make the parts an object."""
        parts = "".join(f'<Part><PartNumber>{n}</PartNumber><ETag>"{etag}"</ETag></Part>' for n, etag in enumerate(etags, 1))
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        said = self._call("POST", key, query={"uploadId": upload}, body=body)
        # An answer of 200 can still hold an error; and where the first answer was lost, the second says that there is no such upload.
        done = said.answer.status == 200 and b"<Error>" not in said.answer.body
        if not done and not (said.unsure and said.code == "NoSuchUpload"):
            raise self._refusal(said, "write", key)

    def abandon_upload(self, key: str, upload: str) -> None:
        """Forget the parts."""
        said = self._call("DELETE", key, query={"uploadId": upload})
        if said.answer.status not in (204, 404):
            raise self._refusal(said, "delete", key)

    def close(self) -> None:
        """Close connections that wait for the next request."""
        self._connections.close()

    # -- one call

    def _call(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], bytes] = b"",
        into: Path | None = None,
        deadline: float | None = None,
    ) -> _Said:
        """The answer of S3, after as many tries as it takes. Raises `Unavailable` when the time is over."""
        target = quoted_path(f"{self.place.path}/{key}") + ("?" + quoted_query(query) if query else "")
        until = time.monotonic() + self.timeout
        until = until if deadline is None else min(until, deadline)
        unsure = skewed = False
        why = ""
        for tries in count():
            try:
                answer = self._send(method, target, headers or {}, body() if callable(body) else body, into)
            except Lost as lost:
                unsure = unsure or lost.sent
                if lost.old:
                    continue
                why = f"the connection failed: {lost}"
            else:
                said = _Said(answer, unsure)
                if answer.status == 403 and said.code == "RequestTimeTooSkewed" and not skewed:
                    skewed = True
                    self._skew = _clock(answer) - time.time()
                    log.warning("the clock of this machine is %+.0f s from that of S3, whose counts from now on", -self._skew)
                    continue
                if answer.status not in AGAIN:
                    if why and not why.startswith("it answers 409"):  # which says no more than that two writers met
                        log.warning("S3 was asked %d times for one %s, since %s", tries + 1, method, why)
                    return said
                unsure = unsure or answer.status in MAYBE_DONE
                why = f"it answers {answer.status} {said.code}".rstrip()
            pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries))
            if time.monotonic() + pause >= until:
                raise self._gave_up(method, why, unsure)
            self._sleep(pause)
        raise AssertionError

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes, into: Path | None) -> Answer:
        digest = hashlib.sha256(body).hexdigest() if body else NO_BODY
        signed = sign(
            method,
            target,
            {**headers, "host": self.place.host},
            digest,
            keys=self._keys(),
            region=self.place.region,
            now=time.time() + self._skew,
        )
        try:
            return self._connections.send(method, target, signed, body, into)
        except OSError as error:
            raise Unavailable(f"the copy of an object cannot be written: {error.strerror or error}: {into}") from error

    # -- what cannot be done

    def _not_written(self, said: _Said, key: str) -> Exception:
        if said.answer.status == 412:
            return Mismatch(unsure=said.unsure)
        if said.answer.status == 404 and said.code == "NoSuchKey":
            return Gone(unsure=said.unsure)
        return self._refusal(said, "write", key)

    def _gave_up(self, method: str, why: str, unsure: bool) -> BucketUnavailable:
        known = "it is not known whether it was saved" if unsure and method != "GET" else "nothing was changed"
        return _told(BucketUnavailable(f"S3 did not do it within {self.timeout:g} s (MECHAWAY_S3_TIMEOUT): {why}; {known}"))

    def _refusal(self, said: _Said, verb: str, key: str) -> BucketUnavailable:
        return _told(BucketUnavailable(self._reason(said, verb, key)))

    def _reason(self, said: _Said, verb: str, key: str) -> str:
        bucket, status, code = self.place.bucket, said.answer.status, said.code
        if code == "NoSuchBucket":
            return f'there is no bucket "{bucket}": set MECHAWAY_BUCKET to the one of the stack, or deploy the stack again'
        if status in (301, 307) or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
            return f'the bucket "{bucket}" is not in the Region {self.place.region}: set AWS_REGION to where it is'
        if status == 403:
            about = "its role needs that right, and s3:ListBucket to be told of what is missing"
            return f'this process may not {verb} "{shorten(key)}" in the bucket "{bucket}" ({code or status}): {about}'
        return f'"{shorten(key)}" in the bucket "{bucket}" cannot be {_PAST[verb]}: S3 answers {status} {code}'.rstrip()


_PAST = {"read": "read", "write": "written", "list": "listed", "delete": "deleted"}


def _told(error: BucketUnavailable) -> BucketUnavailable:
    log.error("%s", error)
    return error


def _in_xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _etag(answer: Answer) -> str:
    return answer.headers.get("etag", "").strip('"')


def _clock(answer: Answer) -> float:
    """What S3's clock says, in seconds since 1970."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _listed(block: bytes) -> Listed:
    key, modified = _KEY.search(block), _MODIFIED.search(block)
    return Listed(unquote_plus(key[1].decode()) if key else "", modified[1].decode() if modified else "")
