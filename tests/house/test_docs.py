"""What the pages say is so."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import mechaway_core
from mechaway_core import cli
from mechaway_core.nodes import BUILT_IN, catalogue
from mechaway_core.settings import Settings, variable
from tests.house.tree import ROOT, name_of, tracked

PAGES = [path for path in tracked() if path.suffix == ".md"]
LINE = re.compile(r"((?:│   )*)[├└]── ((?:[\w./]+ )*[\w./]+?)(?:  .*)?")  # of the tree in docs/architecture.md


def _code(text: str) -> Iterator[str]:
    """What stands in a page as code."""
    blocks = re.findall(r"^ *```[^\n`]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    yield from blocks
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "module"), [("docs/nodes.md", "mechaway_core.nodes.docs"), ("docs/settings.md", "mechaway_core.settings")]
)
def test_a_page_that_is_made_from_the_code_is_what_the_code_makes(page: str, module: str) -> None:
    assert (ROOT / page).read_text() == importlib.import_module(module).markdown(), f"python -m {module} > {page}"


def test_every_setting_has_its_line() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for setting in fields(Settings):
        assert f"`{variable(setting.name)}`" in page
        assert setting.metadata["help"] in page


def test_every_built_in_node_type_has_its_section_and_every_param_its_line() -> None:
    page = (ROOT / "docs" / "nodes.md").read_text()
    for name in BUILT_IN:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for param in fields(catalogue()[name]):  # type: ignore[arg-type]
            assert f"`{param.name}`" in section, f"{name}.{param.name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_that_a_page_names_are_there(page: Path) -> None:
    known = {variable(setting.name) for setting in fields(Settings)}
    named = set(re.findall(r"\bMECHAWAY_[A-Z][A-Z_]*[A-Z]\b", page.read_text()))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_that_a_page_names_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for code in _code(page.read_text()) for name in re.findall(r"(?:^|[;&] *|\$ )make ([a-z][\w-]*)", code, re.MULTILINE)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_mechaway_that_a_page_names_are_there(page: Path) -> None:
    for code in _code(page.read_text()):
        for command in re.findall(r"(?:^|bin/|[;&] *|\$ )mechaway ([a-z][\w-]*)", code, re.MULTILINE):
            with pytest.raises(SystemExit) as ended:
                cli.main([command, "--help"])
            assert ended.value.code == 0, f"mechaway {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    # set_fields is the node that CONTRIBUTING.md writes as an example
    for code in _code(page.read_text()):
        for named in re.findall(r"(?<![\w/.{-])((?:examples|docs|tests|bench|mechaway_core)/[\w/-]+\.(?:py|json|yaml|md|lua|toml))", code):
            assert (ROOT / named).exists() or "set_fields" in named, f"{name_of(page)}: {named}"


def _drawn() -> dict[str, set[str]]:
    """The tree in docs/architecture.md: each folder of the package with the names that are drawn in it."""
    block = re.findall(r"^```\n(mechaway_core/\n.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL | re.MULTILINE)[0]
    drawn: dict[str, set[str]] = {"": set()}
    above: list[str] = []
    for line in block.splitlines()[1:]:
        match = LINE.fullmatch(line)
        assert match, f"not a line of the tree: {line}"
        depth, names = len(match[1]) // 4, match[2].split()
        above[depth:] = [names[-1].rstrip("/")]
        drawn.setdefault("/".join(above[:depth]), set()).update(name.rstrip("/") for name in names)
    return drawn


def test_the_map_of_the_code_shows_what_is_there_and_no_folder_by_half() -> None:
    kept = [path.relative_to(ROOT / "mechaway_core").parts for path in tracked() if path.is_relative_to(ROOT / "mechaway_core")]
    for folder, names in _drawn().items():
        way = tuple(folder.split("/")) if folder else ()
        there = {parts[len(way)] for parts in kept if parts[: len(way)] == way}
        assert names - there == set(), f"{folder}/ has no such files"
        assert there - names <= {"__init__.py", "py.typed"}, f"{folder}/ holds more than docs/architecture.md draws"


def test_the_readme_begins_with_the_command_that_starts_it() -> None:
    assert "make dev" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_ci_runs_what_people_are_told_to_type() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    made = re.findall(r"^\s*make ([\w-]+)", ci, re.MULTILINE)
    assert made == ["check", "validate", "test", "build", "test-cloud"]


def test_the_version_is_the_same_everywhere_and_the_changelog_knows_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == mechaway_core.__version__
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings, "the changelog has no version"
    assert headings[0] in ("Unreleased", mechaway_core.__version__)


def test_every_target_of_make_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^([a-z][\w-]*):.*$", makefile, re.MULTILINE):
        assert re.search(rf"^{target}:.* ## \S", makefile, re.MULTILINE), target
