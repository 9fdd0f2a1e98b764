"""The parts of HTTP that are functions: headers, encodings, bodies, tokens."""

from __future__ import annotations

import contextlib
import gzip
import io
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechaway_core.errors import HttpError, OutOfTime
from mechaway_core.http.auth import Token, Tokens
from mechaway_core.http.content import text_of
from mechaway_core.http.decoding import STEP, decoded
from mechaway_core.http.fields import filename, links, media_type, parameters, retry_after
from mechaway_core.http.headers import clean_value, is_name
from mechaway_core.http.message import Bytes, File, Multipart, Part
from mechaway_core.workflow.plan import Retry

UNHURRIED = settings(deadline=None)  # the machine may be busy

# -- headers


@UNHURRIED
@given(st.text())
def test_a_value_is_either_refused_or_can_stand_in_a_header(text: str) -> None:
    try:
        value = clean_value("x", text)
    except ValueError:
        return
    assert value == value.strip(" \t")
    assert not set(value.encode("latin-1")) & {0, 10, 13, 127}


@UNHURRIED
@given(st.text(max_size=300))
def test_whatever_a_header_says_its_parts_are_found_or_not(text: str) -> None:
    parameters(text)
    media_type(text)
    list(links(text))
    name = filename(text)
    assert name is None or (name and "/" not in name and "\\" not in name and name.isprintable())


@UNHURRIED
@given(st.text(alphabet="<>;=,\"\\ arel'", max_size=5000))
def test_odd_links_take_no_time(text: str) -> None:
    began = time.monotonic()
    list(links(text))
    parameters(text)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('<https://x/?page=2>; rel="next", <https://x/?page=9>; rel="last"', {"next": "https://x/?page=2", "last": "https://x/?page=9"}),
        ("</a,b;c>; rel=next", {"next": "/a,b;c"}),
        ('<a>; title="x, <b>; rel=next"; rel="prev NEXT"', {"prev": "a", "next": "a"}),
        ("<a>;rel=prev,<b>;rel=next", {"prev": "a", "next": "b"}),
        ("<a>", {}),
        ("nothing", {}),
        ("", {}),
    ],
)
def test_links_are_read_as_rfc_8288_writes_them(header: str, expected: dict[str, str]) -> None:
    assert {relation: target for target, relations in links(header) for relation in relations} == expected


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), (" 120 ", 120.0), ("soon", None), ("-5", None), ("", None), ("9" * 30, None)])
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert retry_after(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90.0
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True), now) == 0.0
    assert retry_after("Wed, 99 Foo 2030 00:00:00 GMT", now) is None


@UNHURRIED
@given(st.floats(0, 1), st.integers(1, 20), st.none() | st.floats(0, 1e9))
def test_a_pause_is_at_least_what_was_asked_and_at_most_the_longest(chance: float, attempt: int, asked: float | None) -> None:
    pause = Retry(attempts=30, delay=1, max_delay=60).pause(attempt, chance, asked)
    assert min(asked or 0, 60) <= pause <= 60


def test_names_of_headers() -> None:
    assert is_name("X-Api_Key.1")
    assert not any(is_name(text) for text in ("", "a b", "a:", "ä", "a\n"))


# -- encodings


def _raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "DEFLATE": _raw_deflate, "br": brotli.compress}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@UNHURRIED
@given(st.binary(max_size=3000), st.sampled_from(sorted(PACK)), st.integers(1, 200))
def test_what_was_encoded_comes_back_however_it_is_cut(data: bytes, name: str, size: int) -> None:
    assert b"".join(decoded(cut(PACK[name](data), size), name)) == data


@UNHURRIED
@given(st.binary(max_size=500), st.binary(max_size=500))
def test_gzip_may_have_several_members(first: bytes, second: bytes) -> None:
    packed = gzip.compress(first) + gzip.compress(second) + b"\0\0"
    assert b"".join(decoded(cut(packed, 7), "gzip")) == first + second


@UNHURRIED
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", "br, gzip", "zstd", ""]), st.integers(1, 50))
def test_any_bytes_are_read_or_refused(data: bytes, names: str, size: int) -> None:
    with contextlib.suppress(HttpError):
        list(decoded(cut(data, size), names))


@UNHURRIED
@given(st.sampled_from(["gzip", "deflate", "br"]), st.integers(1, 40))
def test_what_ends_too_early_is_refused(name: str, missing: int) -> None:
    packed = PACK[name](bytes(range(256)) * 4)
    with pytest.raises(HttpError, match=r"ended in the middle|but it is not"):
        list(decoded([packed[: -min(missing, len(packed) - 2)]], name))


@pytest.mark.parametrize("name", ["gzip", "deflate", "br"])
def test_a_bomb_goes_off_in_small_pieces(name: str) -> None:
    packed = PACK[name](bytes(20_000_000))
    sizes = [len(piece) for piece in decoded([packed], name)]
    assert sum(sizes) == 20_000_000
    assert max(sizes) < 2 * STEP


# -- text


@UNHURRIED
@given(
    st.binary(max_size=200),
    st.sampled_from(["", "utf-8", "UTF-16", "utf-32", "latin-1", "cp1252", "shift_jis", "gbk", "idna", "zlib", "x"]),
)
def test_any_bytes_become_text_that_can_be_written_again(raw: bytes, charset: str) -> None:
    text_of(raw, charset).encode()


# -- bodies


@UNHURRIED
@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50), st.none() | st.text(max_size=20)), max_size=5))
def test_a_multipart_body_is_as_long_as_it_says_and_can_be_sent_twice(fields: list[tuple[str, bytes, str | None]]) -> None:
    parts = [Part(name, File(lambda data=data: io.BytesIO(data), "a/b") if file else Bytes(data, ""), file) for name, data, file in fields]  # type: ignore[misc]
    body = Multipart(parts)
    first = b"".join(body)
    assert len(first) == body.length()
    assert b"".join(body) == first
    heads = first.count(b"Content-Disposition: form-data; name=")
    assert heads >= len(fields)


# -- tokens


def test_tokens_are_kept_until_they_end_and_forgotten_by_name() -> None:
    tokens = Tokens()
    made: Iterator[int] = iter(range(100))

    def fetch(seconds: float) -> Token:
        return Token(f"t{next(made)}", time.monotonic() + seconds)

    deadline = time.monotonic() + 10
    assert tokens.get(b"a", lambda: fetch(100), deadline) == "t0"
    assert tokens.get(b"a", lambda: fetch(100), deadline) == "t0"
    assert tokens.get(b"b", lambda: fetch(0), deadline) == "t1"
    assert tokens.get(b"b", lambda: fetch(100), deadline) == "t2"
    tokens.forget(b"a", "some other")
    assert tokens.get(b"a", lambda: fetch(100), deadline) == "t0"
    tokens.forget(b"a", "t0")
    assert tokens.get(b"a", lambda: fetch(100), deadline) == "t3"


def test_there_are_only_so_many_tokens_and_a_fetch_that_fails_leaves_the_way_free() -> None:
    tokens = Tokens()
    deadline = time.monotonic() + 60
    for number in range(1500):
        tokens.get(str(number).encode(), lambda: Token("t", time.monotonic() + 100), deadline)
    assert len(tokens) <= 1000

    def fail() -> Token:
        raise HttpError("no")

    with pytest.raises(HttpError):
        tokens.get(b"x", fail, deadline)
    assert tokens.get(b"x", lambda: Token("ok", time.monotonic() + 1), deadline) == "ok"


def test_waiting_for_a_token_ends_with_the_time() -> None:
    tokens = Tokens()

    def fetch() -> Token:
        with pytest.raises(OutOfTime):  # the same key is being fetched: by this very call
            tokens.get(b"a", fetch, time.monotonic() + 0.05)
        return Token("t", time.monotonic() + 1)

    assert tokens.get(b"a", fetch, time.monotonic() + 5) == "t"
