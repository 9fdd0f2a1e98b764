"""What the pages show as JSON passes the checks that a workflow is saved by.

A block that begins ```` ```json ```` holds workflows or nodes. Others say behind `json` what they are: `json Webhook.auth` holds values of
that param, `json FunLogic` fields of a node of that type, and `json data` what is no part of a workflow, such as an item or an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.workflow.check import check
from tests.house.tree import name_of, tracked

NEEDED: dict[str, dict[str, Any]] = {
    "Webhook": {"path": "/x"},
    "HTTPClient": {"url": "https://api.example.com/x"},
    "FunLogic": {"script": "return data"},
}
HOOK = {"id": "hook", "node_type": "Webhook", "params": {"path": "/x"}}


def blocks() -> Iterator[tuple[Path, str, str]]:
    """Every JSON block: its page, what stands behind `json`, and the text."""
    for page in tracked():
        if page.suffix == ".md":
            for mark, text in re.findall(r"^```json *([^\n]*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
                yield page, mark, text


def values(text: str) -> Iterator[Any]:
    """The JSON values that stand one after the other in a text."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def workflow(mark: str, value: Any) -> dict[str, Any]:
    """The smallest workflow that holds what a block shows."""
    node_type, _, param = mark.partition(".")
    if param:
        value = {"params": NEEDED[node_type] | {param: value}}
    if node_type:
        value = {"id": "shown", "node_type": node_type, "params": NEEDED[node_type]} | value
    if "nodes" in value:
        return dict(value)
    if value["node_type"] == "Webhook":
        return {"id": "page", "nodes": [value], "edges": []}
    return {"id": "page", "nodes": [HOOK, value], "edges": [{"from": "hook", "to": value["id"]}]}


BLOCKS = list(blocks())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(("page", "mark", "text"), BLOCKS, ids=[f"{name_of(page)}-{mark}" for page, mark, _ in BLOCKS])
def test_json_that_a_page_shows_can_be_saved(sandbox: Sandbox, page: Path, mark: str, text: str) -> None:
    for value in values(text):
        if mark != "data":
            assert check(workflow(mark, value), sandbox, Settings()).errors == (), value


def test_there_are_blocks_to_check() -> None:
    assert {"docs/http.md", "docs/access.md", "docs/postgres.md"} <= {name_of(page) for page, _, _ in BLOCKS}
