"""Promises on the source itself: who reads the environment, what is explained, how long a file is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechaway_core.node import Node, params_of
from mechaway_core.nodes import BUILT_IN, catalogue
from tests.house.tree import PACKAGE, ROOT, name_of, sources, tracked, tree

MOST_LINES = 600


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_environment_is_only_read_in_settings(path: Path) -> None:
    if name_of(path) == f"{PACKAGE}/settings.py":
        return
    for node in ast.walk(tree(path)):
        reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
        imported = isinstance(node, ast.ImportFrom) and node.module == "os" and {alias.name for alias in node.names} & {"environ", "getenv"}
        assert not reads, f"{name_of(path)}:{getattr(node, 'lineno', '?')} reads the environment"
        assert not imported, f"{name_of(path)}:{getattr(node, 'lineno', '?')} imports the environment"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_outgrows_one_sitting(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines; a file that outgrows one sitting becomes a folder"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_what_is_public_says_what_it_is(path: Path) -> None:
    module = tree(path)
    if path.read_text().strip():
        assert ast.get_docstring(module), f"{name_of(path)} has no docstring"
    silent = [f"{name_of(path)}:{node.lineno} {node.name}" for node in _public(module) if not ast.get_docstring(node)]
    assert silent == []


def _public(module: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("node_type", catalogue().values(), ids=lambda node_type: node_type.__name__)
def test_every_node_type_explains_itself(node_type: type[Node]) -> None:
    doc = node_type.__doc__ or ""
    assert re.match(r"[A-Z].*\.", doc.strip(), re.DOTALL), f"{node_type.__name__} has no docstring; it is the help"
    assert "dataclass" not in doc
    assert f"{node_type.__name__}(" not in doc, f"{node_type.__name__} has only the docstring that dataclasses give"
    assert node_type.group not in ("", "Other"), f"{node_type.__name__} stands in no group of the palette"
    for param in params_of(node_type):
        assert re.fullmatch(r".{8,}\.", param.metadata.get("help", ""), re.DOTALL), f"{node_type.__name__}.{param.name} has no help"


@pytest.mark.parametrize("node_type", catalogue().values(), ids=lambda node_type: node_type.__name__)
def test_every_node_type_has_tests_of_its_own(node_type: type[Node]) -> None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", node_type.__name__).lower()
    nodes = ROOT / "tests" / "nodes"
    assert (nodes / f"test_{name}.py").is_file() or any((nodes / name).glob("test_*.py"))


def test_the_catalogue_is_the_folder() -> None:
    files = {path.stem for path in (ROOT / PACKAGE / "nodes").glob("*.py")} - {"__init__", "docs"}
    assert set(BUILT_IN.values()) == files
    assert list(BUILT_IN) == sorted(BUILT_IN)
    assert set(BUILT_IN) <= set(catalogue())


def _texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def test_nothing_is_left_for_later_in_the_source() -> None:
    marks = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    left = [f"{name_of(path)}: {match[0]}" for path, text in _texts() for match in marks.finditer(text)]
    assert left == []


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    homes = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.-]+/")
    found = [f"{name_of(path)}: {match[0]}" for path, text in _texts() for match in homes.finditer(text)]
    assert found == []


def test_no_file_was_committed_that_is_made_by_tools() -> None:
    made = re.compile(
        r"(?:^|/)(?:__pycache__|\.venv|\.mypy_cache|\.ruff_cache|\.pytest_cache|\.hypothesis|node_modules|data)(?:/|$)|\.(?:pyc|db)$"
    )
    assert [name_of(path) for path in tracked() if made.search(name_of(path))] == []
