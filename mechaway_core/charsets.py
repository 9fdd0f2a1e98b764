"""Charsets: which names of them text from outside may be decoded by."""

from __future__ import annotations

import codecs
import re

# Python knows codecs that are no charsets, and some of them take time that grows with the square of the text.
_CHARSETS = re.compile(
    r"utf-8|utf-8-sig|utf-16(-[bl]e)?|utf-32(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|gbk|gb2312|gb18030|big5|big5hkscs|"
    r"shift_jis\w*|euc_\w+|iso2022_\w+|johab|tis-620|hz"
)


def codec_of(charset: str) -> str | None:
    """The name of Python's codec for a charset; None when it is not known or no charset."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return name if _CHARSETS.fullmatch(name) else None
