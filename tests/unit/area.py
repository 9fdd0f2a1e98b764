"""The files of a run in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import BinaryIO

from mechaway_core.errors import NodeError, TooLarge
from mechaway_core.ports import FileInfo


class MemoryArea:
    """The files of a run in memory; handles are their numbers."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.most = most
        self.contents: list[bytes] = []

    def write(self, filename: str, content_type: str, chunks: Iterable[bytes], *, most: int | None = None) -> FileInfo:
        """See `Area.write`."""
        content = b""
        for chunk in chunks:
            content += chunk
            if len(content) > (self.most if most is None else most):
                raise TooLarge("too large")
        self.contents.append(content)
        return FileInfo(filename, content_type, len(content), str(len(self.contents) - 1))

    def open(self, handle: str) -> BinaryIO:
        """See `Area.open`."""
        if not handle.isdigit() or int(handle) >= len(self.contents):
            raise NodeError("there is no such file")
        return io.BytesIO(self.contents[int(handle)])
