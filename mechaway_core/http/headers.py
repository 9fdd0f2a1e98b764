"""Names and values of header fields (RFC 9110, section 5): what may stand there. What stands in some of them is read in `fields.py`."""

from __future__ import annotations

import re

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a text can be the name of a header."""
    return _NAME.fullmatch(text) is not None


def clean_value(name: str, text: str) -> str:
    """The value of a header without spaces around it. Raises `ValueError` with a sentence when it cannot be one."""
    text = text.strip(" \t")
    if any(ord(character) < 32 and character != "\t" for character in text) or "\x7f" in text:
        raise ValueError(f'the value of the header "{name}" has a line break or control character in it')
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f'the value of the header "{name}" has characters that a header cannot hold; percent-encode them') from None
    return text
