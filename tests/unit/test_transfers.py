"""Headers of an answer that is a file."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.names import plain_filename
from mechaway_core.ports import FileInfo
from mechaway_core.web.transfers import file_headers


def disposition(filename: str) -> str:
    return file_headers(FileInfo(filename, "text/html", 1, "file:x"))["content-disposition"]


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("", "attachment"),
        ("€.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%E2%82%AC.txt"),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("a%41", "attachment; filename=\"a_41\"; filename*=UTF-8''a%2541"),
        ("../x\r\ny: z", 'attachment; filename="xy: z"'),
    ],
)
def test_a_filename_is_told_in_ascii_and_as_it_is(filename: str, expected: str) -> None:
    assert disposition(filename) == expected


@given(st.text())
def test_no_filename_breaks_out_of_its_header_and_each_can_be_read_from_it(filename: str) -> None:
    header = disposition(filename)
    assert header.isascii()
    assert header.isprintable()
    found = re.fullmatch(r'attachment(?:; filename="([^"\\]*)"(?:; filename\*=UTF-8\'\'([A-Za-z0-9%._~-]*))?)?', header)
    assert found
    read = unquote(found[2]) if found[2] is not None else found[1] or ""
    assert read == plain_filename(filename)
