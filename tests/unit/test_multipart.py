"""multipart/form-data: what is well-formed comes as fields and files however it is cut, and everything else is refused with a sentence."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.errors import Malformed, MechawayError, TooLarge, Unsupported
from mechaway_core.multipart import Form, Limits, read
from tests.unit.area import MemoryArea

LIMITS = Limits(fields=20, text=10_000, files=10)
KIND = "multipart/form-data; boundary=cut"


def part(content: bytes, *headers: str) -> bytes:
    return b"--cut\r\n" + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n" + content + b"\r\n"


def named(name: str, content: bytes = b"", more: str = "", *headers: str) -> bytes:
    return part(content, f'Content-Disposition: form-data; name="{name}"{more}', *headers)


def form(*parts: bytes, end: bytes = b"--cut--\r\n", kind: str = KIND, limits: Limits = LIMITS, area: MemoryArea | None = None) -> Form:
    return read([b"".join(parts) + end], kind, area or MemoryArea(), limits)


def refused(*parts: bytes, because: type[MechawayError] = Malformed, **given: Any) -> str:
    with pytest.raises(because) as told:
        form(*parts, **given)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert len(sentence) < 250
    return sentence


# -- what comes


def test_fields_come_as_text_and_those_of_one_name_as_a_list() -> None:
    read = form(named("a", b"1"), named("b", b""), named("a", "ü☃".encode()), named("c[]", b"x"), named("a", b"3"))
    assert read.fields == {"a": ["1", "ü☃", "3"], "b": "", "c[]": "x"}
    assert read.files == {}


def test_files_come_with_their_name_type_and_size_and_those_of_one_name_as_a_list() -> None:
    area = MemoryArea()
    read = form(
        named("f", b"one", '; filename="a.txt"', "Content-Type: text/plain; charset=latin-1"),
        named("g", b"", '; filename="empty"'),
        named("f", b"\r\n--cu\xff", '; filename="b"'),
        area=area,
    )
    assert read.files == {
        "f": [
            {"filename": "a.txt", "content_type": "text/plain; charset=latin-1", "size": 3, "handle": "0"},
            {"filename": "b", "content_type": "application/octet-stream", "size": 7, "handle": "2"},
        ],
        "g": {"filename": "empty", "content_type": "application/octet-stream", "size": 0, "handle": "1"},
    }
    assert area.contents == [b"one", b"", b"\r\n--cu\xff"]


def test_a_file_field_in_which_nobody_chose_a_file_is_none() -> None:
    read = form(named("f", b"", '; filename=""', "Content-Type: application/octet-stream"), named("g", b"x", '; filename=""'))
    assert list(read.files) == ["g"]
    assert read.files["g"]["filename"] == ""


def test_a_form_without_parts_is_empty() -> None:
    assert form() == Form({}, {})


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        ('; filename="a \\"b\\" \\\\.txt"', 'a "b" \\.txt'),
        ("; filename=plain.txt", "plain.txt"),
        ('; FileName="x"', "x"),
        ('; filename="日本.txt"', "日本.txt"),
        ("; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("; filename*=iso-8859-1'en'%A3", "£"),
        ("; filename*=UTF-8''no.txt; filename=yes.txt", "yes.txt"),
        ('; filename="a;b=c.txt"', "a;b=c.txt"),
        ('; filename="C:\\dir\\x.txt"', "C:\\dir\\x.txt"),
        ('; filename="../../x"', "../../x"),
        ('; filename="a%22b"', "a%22b"),
    ],
)
def test_a_filename_is_read_as_it_was_written(parameter: str, filename: str) -> None:
    assert form(named("f", b"x", parameter)).files["f"]["filename"] == filename


def test_a_field_may_say_its_charset() -> None:
    read = form(
        named("a", b"\xe4", "", "Content-Type: text/plain; charset=iso-8859-1"),
        named("b", b'{"x":1}', "", "Content-Type: application/json"),
    )
    assert read.fields == {"a": "ä", "b": '{"x":1}'}


def test_multipart_inside_multipart_is_kept_as_a_file() -> None:
    inner = b"--in\r\n\r\nx\r\n--in--"
    area = MemoryArea()
    assert form(named("m", inner, "", "Content-Type: multipart/mixed; boundary=in"), area=area).files["m"]["size"] == len(inner)
    assert area.contents == [inner]


@pytest.mark.parametrize("preamble", [b"\r\n", b"this is ignored\r\n", b"--cu\r\n", b"-\r\n--other\r\n\r\n", b"x" * 5000 + b"\r\n"])
@pytest.mark.parametrize("epilogue", [b"--cut--", b"--cut--\r\nand this\r\n--cut\r\ntoo"])
def test_what_stands_around_the_form_is_ignored(preamble: bytes, epilogue: bytes) -> None:
    assert form(preamble, named("a", b"1"), end=epilogue).fields == {"a": "1"}


@pytest.mark.parametrize(
    "kind", ['multipart/form-data; boundary="cut"', "multipart/form-data;charset=x; Boundary=cut", "multipart/form-data;boundary=cut ; x=y"]
)
def test_a_boundary_is_found_among_the_parameters(kind: str) -> None:
    assert form(named("a", b"1"), kind=kind).fields == {"a": "1"}


# -- what is refused


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=ü",
    ],
)
def test_without_a_boundary_it_cannot_be_read(kind: str) -> None:
    assert "no boundary" in refused(named("a"), kind=kind)


@pytest.mark.parametrize("body", [b"", b"hello", b"--other\r\n\r\n--other--", b"a--cut\r\n", b"\n--cut\n", b"x" * 100_000])
def test_a_boundary_that_never_comes_is_told(body: bytes) -> None:
    assert "does not come" in refused(body, end=b"")


@pytest.mark.parametrize(
    "end",
    [b"", b"--cut", b"--cut-", b"--cut\r\n", b"--cut\r\nContent-Dis", b'--cut\r\nContent-Disposition: form-data; name="b"\r\n\r\nabc'],
)
def test_a_body_that_is_cut_off_is_told(end: bytes) -> None:
    assert "ends in the middle" in refused(named("a", b"1"), end=end)
    assert "ends in the middle" in refused(named("a", b"1", '; filename="x"'), end=end)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Disposition: form-data",
        "Content-Disposition: attachment; name=x",
        "Content-Type: text/plain",
        "Content-Disposition: form-data; names=x",
    ],
)
def test_a_part_without_a_name_is_refused_and_numbered(header: str) -> None:
    assert "part 2" in refused(named("a", b"1"), part(b"x", header))


@pytest.mark.parametrize("broken", [b"no colon\r\n\r\n", b": x\r\n\r\n", b"A: b\rc\r\n\r\n", b"\xff: x\r\n\r\n", b"A: b\n\n", b"x\r\r\n"])
def test_headers_that_are_none_are_refused(broken: bytes) -> None:
    sentence = refused(named("a", b"1"), b"--cut\r\n" + broken, b"x\r\n")
    assert "part 2" in sentence


def test_headers_that_never_end_are_refused() -> None:
    assert "part 1" in refused(b"--cut\r\nA: " + b"x" * 100_000)
    assert "part 1" in refused(b"--cut\r\n" + b"x" * 100_000)
    assert "part 1" in refused(b"--cut\r\n" + b"".join(b"A%d: x\r\n" % number for number in range(1000)))


def test_what_is_said_twice_in_a_part_is_refused() -> None:
    assert "twice" in refused(named("a", b"", '; name="b"'))
    assert "twice" in refused(named("a", b"", "", 'Content-Disposition: form-data; name="b"'))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (named("a", b"\xff"), 'the field "a"'),
        (named("a", b"x", "", "Content-Type: text/plain; charset=rot13"), "rot13"),
        (named("a", b"x", "; filename*=utf-8''%ff"), "filename"),
        (named("a", b"x", "; filename*=nonsense''x"), "nonsense"),
        (b'--cut\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n', "header of part 1"),
    ],
)
def test_text_that_is_not_in_its_charset_is_refused(parts: bytes, words: str) -> None:
    assert words in refused(parts)


def test_encoded_parts_are_refused_but_plain_ones_may_say_that_they_are() -> None:
    assert "base64" in refused(named("a", b"eA==", "", "Content-Transfer-Encoding: base64"), because=Unsupported)
    assert form(named("a", b"x", "", "Content-Transfer-Encoding: 8BIT")).fields == {"a": "x"}


# -- limits


def test_fields_files_and_text_are_limited() -> None:
    limits = Limits(fields=2, text=10, files=2)
    assert form(named("a", b"1234"), named("b", b"1234"), limits=limits).fields == {"a": "1234", "b": "1234"}
    assert "2 fields" in refused(*[named("a")] * 3, limits=limits)
    assert "MECHAWAY_MAX_BODY_MB" in refused(named("a", b"1234"), named("b", b"12345"), because=TooLarge, limits=limits)
    assert "MECHAWAY_MAX_BODY_MB" in refused(named("a" * 11), because=TooLarge, limits=limits)
    assert "MECHAWAY_MAX_UPLOAD_FILES" in refused(*[named("a", b"", '; filename="x"')] * 3, because=TooLarge, limits=limits)


@pytest.mark.parametrize("more", ["", '; filename="x"'])
def test_a_hundred_thousand_tiny_parts_are_stopped_at_the_limit(more: str) -> None:
    area = MemoryArea()
    with pytest.raises((Malformed, TooLarge)):
        form(named("a", b"", more) * 100_000, area=area)
    assert len(area.contents) <= LIMITS.files


@pytest.mark.parametrize("near", [b"\r\n--cutx", b"\r\n--cut-x", b"\r\n--cut\rx"])
def test_what_only_begins_like_a_boundary_is_content_but_not_without_end(near: bytes) -> None:
    area = MemoryArea()
    form(named("f", near * 9, '; filename="x"'), area=area)
    assert area.contents == [near * 9]
    chunks = [named("f", near * 10_000, '; filename="x"')] * 1000
    began = time.process_time()
    with pytest.raises(Malformed, match="begin with its boundary"):
        read(chunks, KIND, MemoryArea(), LIMITS)
    assert time.process_time() - began < 1


def test_blanks_behind_a_boundary_are_no_part_of_it_but_not_without_end() -> None:
    assert form(named("a", b"1") + b"--cut  \t\r\n" + named("b", b"2").partition(b"\r\n")[2]).fields == {"a": "1", "b": "2"}
    with pytest.raises(Malformed, match="blanks without end"):
        read([named("a", b"1") + b"--cut ", *[b" " * 100_000] * 1000], KIND, MemoryArea(), LIMITS)


def test_a_file_over_its_limit_is_stopped_as_it_comes() -> None:
    pieces = 0

    def chunks() -> Iterator[bytes]:
        nonlocal pieces
        yield named("f", b"", '; filename="x"')[:-2]
        while True:
            pieces += 1
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        read(chunks(), KIND, MemoryArea(most=10_000), LIMITS)
    assert pieces < 13


# -- for all inputs


names = st.text(st.characters(exclude_characters='"\\\r\n', exclude_categories=["Cs", "Cc"]), max_size=8)
tricky = st.lists(st.sampled_from([b"\r\n", b"--cut", b"\r\n--cut", b"--", b"\r", b"\n", b"x", b"-", b"\x00"]), max_size=12).map(b"".join)
contents = (st.binary(max_size=40) | tricky).map(lambda raw: raw.replace(b"--cut", b"--cu"))


def chopped(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(places)]


@given(st.lists(st.tuples(names, contents), max_size=6), st.lists(st.integers(0, 10_000), max_size=20))
def test_files_come_byte_for_byte_however_the_body_is_cut(sent: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = b"".join(named(name, content, '; filename="f"') for name, content in sent) + b"--cut--\r\n"
    area = MemoryArea()
    form = read(chopped(body, cuts), KIND, area, LIMITS)
    assert area.contents == [content for _, content in sent]
    assert set(form.files) == {name for name, _ in sent}


def outcome(chunks: list[bytes]) -> tuple[Any, ...]:
    area = MemoryArea(most=200)
    try:
        form = read(chunks, KIND, area, Limits(fields=20, text=100, files=20))
    except MechawayError as error:
        return (str(error),)
    return form.fields, form.files, area.contents


soup = st.lists(
    st.sampled_from(
        [
            b"--cut",
            b"\r\n",
            b"--cut\r\n",
            b"--cut--",
            b'Content-Disposition: form-data; name="a"',
            b'; filename="f"',
            b":",
            b"\r\n\r\n",
            b"-",
            b" ",
            b"\xff",
            b"x",
            b"Content-Type: text/plain; charset=utf-16",
            b"\n",
            b"\r",
            named("b", b"1"),
            named("f", b"2", "; filename=z"),
            b"=",
            b'"',
        ]
    ),
    max_size=15,
).map(b"".join)


@given(soup | st.binary(max_size=60), st.lists(st.integers(0, 10_000), max_size=20))
def test_whatever_comes_is_read_or_refused_and_where_it_is_cut_changes_nothing(body: bytes, cuts: list[int]) -> None:
    whole = outcome([body])
    assert outcome(chopped(body, cuts)) == whole
    assert outcome([body[at : at + 1] for at in range(len(body))]) == whole


def test_what_callers_send_wrongly_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refused(b"--cut\r\n: x\r\n")
    assert caplog.records == []
