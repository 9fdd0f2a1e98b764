"""Names of files and kinds of content, as anybody may have sent them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.names import ANY_BYTES, media_type, plain_filename


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\photo of us.jpg", "photo of us.jpg"),
        ("a/", ""),
        ("a/..", ""),
        (". ", ""),
        ("..a", "..a"),
        ("日本.txt", "日本.txt"),
        ("a\0b\r\nc\x7f", "abc"),
        ("\u202egpj.exe", "gpj.exe"),
        (" a ", "a"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
    ],
)
def test_a_filename_has_neither_folders_nor_control_characters(sent: str, plain: str) -> None:
    assert plain_filename(sent) == plain


@given(st.text())
def test_whatever_was_sent_a_plain_filename_is_one(sent: str) -> None:
    plain = plain_filename(sent)
    assert plain == "" or plain.isprintable()
    assert not set(plain) & set("/\\")
    assert len(plain) <= 255
    assert plain not in (".", "..")
    assert plain_filename(plain) == plain


@pytest.mark.parametrize("sent", ["text/plain", "TEXT/Plain; charset=utf-8", "image/svg+xml", 'a/b;c="d e"', " text/plain ", "a/b ;c"])
def test_a_content_type_is_taken_as_it_is(sent: str) -> None:
    assert media_type(sent) == sent.strip()


@pytest.mark.parametrize(
    "sent", ["", "text", "text/", "/x", "a/b\r\nx: y", "a/b; c\nd", "a/b; ü", "a b/c", "a/b c", "a/" + "b" * 300, "a/b\0"]
)
def test_what_is_no_content_type_is_any_bytes(sent: str) -> None:
    assert media_type(sent) == ANY_BYTES
