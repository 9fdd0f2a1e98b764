"""The hunt for canaries: secrets with values that stand nowhere else, looked for in everything that a server answered and wrote."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

import httpx

from tests.journeys.server import Server


class Answers:
    """What callers got: bodies and headers, as they came."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def keep(self, answer: httpx.Response) -> httpx.Response:
        """Remember an answer."""
        self.texts.append(answer.content + repr(answer.headers.multi_items()).encode())
        return answer


def shapes(value: str) -> Iterator[bytes]:
    """What to look for: the value as software writes it."""
    written = [quote(value), quote(value, safe=""), quote_plus(value), repr(value)[1:-1], html.escape(value)]
    written += [json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    for text in dict.fromkeys([value, *written]):
        yield text.encode()
    yield value.encode().hex().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value.encode())
        yield encoded[4 : len(encoded) - 4]
        yield base64.urlsafe_b64encode(bytes(before) + value.encode())[4:-4]


def written_by(server: Server) -> Iterator[tuple[str, bytes]]:
    """Everything that a server wrote: its output, its log, and every file below its data folder."""
    yield "standard output", server.out.encode()
    yield "the log", server.err.encode()
    for path in server.data.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def hunt(server: Server, answers: Iterable[bytes], values: Iterable[str]) -> None:
    """Fails when a canary stands anywhere."""
    places = [*written_by(server), *((f"answer {number}", answer) for number, answer in enumerate(answers))]
    sought = {shape for value in values for shape in shapes(value)}
    found = [f"{place}: {around(text, shape)!r}" for place, text in places for shape in sought if shape in text]
    assert not found, "\n".join(found[:40])


def around(text: bytes, shape: bytes) -> bytes:
    """The first place of a canary, with what stands before and behind it."""
    at = text.index(shape)
    return text[max(0, at - 150) : at + len(shape) + 50]
