"""What `docs/security.md` says stands against a threat is shown by a test."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.house.tree import ROOT, tracked

PAGE = (ROOT / "docs" / "security.md").read_text()


@cache
def existing() -> frozenset[str]:
    """The names of all test functions."""
    files = [path for path in tracked() if path.is_relative_to(ROOT / "tests") and path.match("test_*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def rows() -> list[tuple[str, str]]:
    """The table's threats, each with the cell that names its tests."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    return [(row[0], row[2]) for row in cells if len(row) == 3 and row[2] != "test" and not row[2].startswith("---")]


def test_every_test_that_the_page_names_exists() -> None:
    functions = set(re.findall(r"`(test_\w+)`", PAGE))
    files = set(re.findall(r"`(\w+/test_\w+\.py)`", PAGE))
    assert functions - existing() == set()
    assert {name for name in files if not (ROOT / "tests" / name).is_file()} == set()
    assert functions, "the page names no test"


def test_every_threat_has_a_test() -> None:
    assert len(rows()) > 30
    assert [threat for threat, shown in rows() if "`test_" not in shown and "/test_" not in shown] == []
