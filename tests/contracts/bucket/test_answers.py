"""Do the adapters over a bucket keep their promises when an answer is refused, late or lost?"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mechaway_core.aws.clients import clients
from mechaway_core.aws.s3 import S3
from mechaway_core.errors import Conflict, Stale, Unavailable
from mechaway_core.ports import ABSENT, ANY, UNCHANGED, Expect, Stored
from mechaway_core.settings import Settings
from tests.contracts.adapters import Adapters
from tests.contracts.bucket.tampering import ONLY_S3, anything, insert, once, values, writing
from tests.s3_server import Fault, Kind, S3Server

pytestmark = ONLY_S3


# -- what passes by itself


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, ""), (409, "ConditionalRequestConflict")])
def test_what_passes_by_itself_is_tried_again(
    adapters: Adapters, server: S3Server, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    version = adapters.store.put("default", "k", b"1")
    with server.failing(Fault("answer", anything, 3, status, code)):
        version = adapters.store.put("default", "k", b"2", version)
    with server.failing(Fault("answer", anything, 3, status, code)):
        assert adapters.store.get("default", "k") == Stored(b"2", version)
    with server.failing(Fault("answer", writing, 3, status, code)):
        insert(adapters.tables, 1)
    assert values(adapters.tables) == [1]
    assert (f"S3 was asked 4 times for one PUT, since it answers {status} {code}".rstrip() in caplog.text) == (status != 409)


def test_what_does_not_pass_in_time_is_unavailable_and_nothing_is_changed(
    make: Callable[..., Adapters], server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    adapters = make(s3_timeout=0.3)
    version = adapters.store.put("default", "k", b"1")
    insert(adapters.tables, 1)
    with server.failing(Fault("answer", anything, 10_000)):
        with pytest.raises(Unavailable, match=r"within 0\.3 s \(MECHAWAY_S3_TIMEOUT\): it answers 503 SlowDown"):
            adapters.store.put("default", "k", b"2", version)
        with pytest.raises(Unavailable):
            insert(adapters.tables, 2)
        with pytest.raises(Unavailable):
            values(adapters.tables)
        with pytest.raises(Unavailable):
            adapters.projects.create("shop")
    assert adapters.store.get("default", "k") == Stored(b"1", version)
    assert values(adapters.tables) == [1]
    assert insert(adapters.tables, 3) == [(2, 1)]
    assert not adapters.projects.exists("shop")
    assert "S3 did not do it within 0.3 s" in caplog.text


def test_a_connection_that_was_closed_while_nobody_used_it_costs_nothing(adapters: Adapters, server: S3Server) -> None:
    version = adapters.store.put("default", "k", b"1")
    with server.failing(Fault("before", anything)):
        assert adapters.store.get("default", "k", version) is UNCHANGED
    with server.failing(Fault("before", anything)):
        adapters.store.put("default", "k", b"2", version)


def test_a_clock_that_is_wrong_is_corrected_by_that_of_s3(adapters: Adapters, server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    date = ("Date", "Mon, 01 Jan 2035 00:00:00 GMT")
    adapters.store.put("default", "k", b"1")
    skewed = Fault("answer", anything, 1, 403, "RequestTimeTooSkewed", (date,))
    for_good = Fault("answer", anything, 2, 403, "RequestTimeTooSkewed")
    with server.failing(skewed), server.counting() as requests:
        adapters.store.get("default", "k")
    assert [request.headers["x-amz-date"][:4] for request in requests][1] == "2035"
    assert re.search(r"the clock of this machine is -\d+ s from that of S3", caplog.text)
    with (
        pytest.raises(Unavailable, match="RequestTimeTooSkewed"),
        server.failing(for_good),
    ):
        adapters.store.get("default", "k")


# -- what does not pass


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "NoSuchBucket", "there is no bucket .* set MECHAWAY_BUCKET"),
        (403, "AccessDenied", "this process may not (read|write|list) .*AccessDenied"),
        (301, "PermanentRedirect", "is not in the Region us-east-1: set AWS_REGION"),
        (400, "ExpiredToken", "S3 answers 400 ExpiredToken"),
    ],
)
def test_what_is_wrong_with_the_bucket_is_said(adapters: Adapters, server: S3Server, status: int, code: str, says: str) -> None:
    adapters.projects.create("shop")
    store, tables, projects = adapters.store, adapters.tables, adapters.projects
    calls: list[Callable[[], object]] = [
        lambda: store.get("default", "k"),
        lambda: store.put("default", "k", b"1"),
        lambda: store.put("default", "k", b"1", ABSENT),
        lambda: store.keys("default", ""),
        lambda: store.delete("default", "k"),
        lambda: store.get("shop", "k"),
        lambda: values(tables),
        lambda: insert(tables, 1),
        lambda: projects.create("other"),
        lambda: projects.exists("shop"),
        projects.list,
    ]
    for call in calls:
        with server.failing(Fault("answer", anything, 10_000, status, code)), pytest.raises(Unavailable, match=says):
            call()


def test_a_bucket_that_is_not_there_is_unavailable(adapters: Adapters, bucket: S3, caplog: pytest.LogCaptureFixture) -> None:
    missing = clients(Settings(bucket="no-such-bucket-anywhere")).s3
    with pytest.raises(Unavailable, match='there is no bucket "no-such-bucket-anywhere"'):
        missing.get("k")
    with pytest.raises(Unavailable, match="there is no bucket"):
        missing.put("k", b"1", "0" * 32)
    assert caplog.text.count('there is no bucket "no-such-bucket-anywhere"') == 2


def test_an_object_of_somebody_else_is_no_document(adapters: Adapters, bucket: S3) -> None:
    bucket.put("documents/default/0/k", b"what is this")
    with pytest.raises(Unavailable, match="none that Mechaway wrote"):
        adapters.store.get("default", "k")
    adapters.store.put("default", "k", b"1")
    assert adapters.store.keys("default", "") == ["k"]


# -- answers that were lost


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("expect", [ABSENT, ANY, "a version"])
def test_a_document_whose_answer_was_lost_is_saved_once(adapters: Adapters, server: S3Server, kind: Kind, expect: str | Expect) -> None:
    store = adapters.store
    if isinstance(expect, str):
        expect = store.put("default", "k", b"1")
    with server.failing(Fault(kind, writing)):
        version = store.put("default", "k", b"2", expect)
    assert store.get("default", "k") == Stored(b"2", version)
    store.put("default", "k", b"3", version)


def test_a_lost_answer_under_what_somebody_made_of_it_was_still_a_success(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().store, make().store

    def build_on() -> None:
        found = two.get("default", "k")
        assert isinstance(found, Stored)
        two.put("default", "k", found.data + b" and more", found.version)

    once(server, writing, build_on, skip=1)
    with server.failing(Fault("after", writing)):
        version = one.put("default", "k", b"mine", ABSENT)
    assert two.get("default", "k", version) == one.get("default", "k")
    assert getattr(one.get("default", "k"), "data", None) == b"mine and more"
    with pytest.raises(Stale):
        one.put("default", "k", b"again", version)


def test_a_request_that_never_came_and_was_overtaken_is_a_conflict(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().store, make().store
    version = one.put("default", "k", b"1")
    for expect, error in ((version, Stale), (ABSENT, Conflict)):
        key = "k" if expect == version else "new"
        once(server, writing, lambda key=key: two.put("default", key, b"theirs"), skip=1)  # type: ignore[misc]
        with server.failing(Fault("before", writing)), pytest.raises(error):
            one.put("default", key, b"mine", expect)
        assert getattr(one.get("default", key), "data", None) == b"theirs"


def test_a_delete_whose_answer_was_lost_is_done(adapters: Adapters, server: S3Server) -> None:
    for expected in (True, False):
        version = adapters.store.put("default", "k", b"1")
        with server.failing(Fault("after", lambda request: request.method == "DELETE")):
            assert adapters.store.delete("default", "k", version if expected else ANY) is True
        assert adapters.store.get("default", "k") is None


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_row_whose_answer_was_lost_is_there_once(adapters: Adapters, server: S3Server, kind: Kind) -> None:
    for number in range(3):
        with server.failing(Fault(kind, writing)):
            assert insert(adapters.tables, number) == [(number + 1, 1)]
    assert values(adapters.tables) == [0, 1, 2]


def test_a_row_whose_answer_was_lost_is_there_once_also_below_those_of_others(make: Callable[..., Adapters], server: S3Server) -> None:
    one, two = make().tables, make().tables
    insert(one, "first")

    def others() -> None:
        for number in range(5):
            insert(two, number)

    once(server, writing, others, skip=1)
    with server.failing(Fault("after", writing)):
        assert insert(one, "mine") == [(2, 1)]
    assert values(one) == values(two) == ["first", "mine", 0, 1, 2, 3, 4]


def test_a_project_whose_creation_was_not_answered_is_made(adapters: Adapters, server: S3Server) -> None:
    with server.failing(Fault("after", writing)):
        adapters.projects.create("shop")
    with server.failing(Fault("after", lambda request: request.method == "DELETE")):
        assert adapters.projects.delete("shop") is True
    assert not adapters.projects.exists("shop")
