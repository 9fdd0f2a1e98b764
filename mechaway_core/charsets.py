"""Text by the charset that a content type names."""

from __future__ import annotations

import codecs
import re

from mechaway_core.errors import Malformed
from mechaway_core.names import shorten

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


def charset_of(parameters: str) -> str:
    """The charset among the parameters of a content type, UTF-8 when none is named."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or "utf-8"
    return "utf-8"


def decode(raw: bytes, charset: str, what: str) -> str:
    """Bytes as text. `what` is what they are, for the message. Raises `Malformed`."""
    codec = codec_of(charset)
    if codec is None:
        raise Malformed(f'the charset "{shorten(charset, 40)}" of {what} is not known')
    try:
        text = raw.decode(codec)
        text.encode()
    except UnicodeError:
        raise Malformed(f"{what} is not text in {shorten(charset, 40)}") from None
    return text
