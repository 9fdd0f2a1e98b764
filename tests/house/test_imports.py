"""Imports point one way, and what is heavy or of the cloud stays where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, imports, module_of, name_of, sources

# From the top of the house to its ground: a file imports only from files in its own line or below it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("aws", "local"),
    ("web",),
    ("app",),
    ("calls",),
    ("transfer",),
    ("agenda", "watchdog"),
    ("late",),
    ("timetable",),
    ("runs",),
    ("triggers",),
    ("multipart",),
    ("engine",),
    ("registry",),
    ("storage", "vault", "handover", "fires", "leases", "turns"),
    ("workflow",),
    ("nodes",),
    ("rows",),
    ("http_work",),  # what the node HTTPClient does, apart from its form
    ("expressions",),
    ("record",),
    ("node",),
    ("access",),
    ("postgres",),
    ("http",),  # PostgreSQL is reached under its guard
    ("sandbox",),
    ("folders",),  # projects as folders, files of runs in them
    ("sqlite",),
    ("timing",),
    ("cron",),
    ("ports",),
    ("settings",),
    ("clock",),
    ("bounds", "cancellation", "cpus"),
    ("charsets",),
    ("logs",),
    ("jsontext", "names", "redact"),
    ("errors",),
    ("",),  # the package itself: its version
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

CLOUD = ("boto3", "botocore", "mypy_boto3", "mangum", "aws_lambda_powertools")


def part_of(module: str) -> str:
    """The file or folder directly under the package that a module belongs to."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_imports_only_from_files_below_it(path: Path) -> None:
    mine = part_of(module_of(path))
    assert mine in RANK, f"say in this test where {mine} stands in the house"
    for line, name in imports(path):
        if name.split(".")[0] != PACKAGE:
            continue
        other = part_of(name)
        assert other in RANK, f"say in this test where {other} stands in the house"
        allowed = other == mine or RANK[other] > RANK[mine]
        assert allowed, f"{name_of(path)}:{line}: {mine} imports {name}, which stands above or beside it"


def test_every_part_of_the_house_that_is_named_stands() -> None:
    there = {part_of(module_of(path)) for path in sources()} | {"aws"}  # aws is being built
    assert set(RANK) == there


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_cloud_is_only_known_at_its_own_edge(path: Path) -> None:
    if part_of(module_of(path)) != "aws":
        assert [name for _, name in imports(path) if name.split(".")[0] in CLOUD] == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_frameworks_are_only_known_where_they_serve(path: Path) -> None:
    allowed = {
        "pydantic": {"workflow", "web"},
        "fastapi": {"web"},
        "starlette": {"web"},
        "uvicorn": {"local"},
        "watchfiles": {"local"},
        "yaml": {"local"},
        "python_multipart": {"multipart"},
        "apsw": {"sqlite"},
        "lupa": {"sandbox"},
        "httpx": {"http"},
        "httpcore": {"http"},
        "brotli": {"http"},
        "certifi": {"http"},
        "psycopg": {"postgres"},
        "psycopg_pool": {"postgres"},
        "cryptography": {"vault", "local"},
    }
    for line, name in imports(path):
        places = allowed.get(name.split(".")[0])
        assert places is None or part_of(module_of(path)) in places, f"{name_of(path)}:{line} imports {name}"


def test_edges_do_not_see_each_other() -> None:
    for mine, other in (("local", "aws"), ("aws", "local")):
        for path in (ROOT / PACKAGE / mine).rglob("*.py"):
            assert not [name for _, name in imports(path) if name.startswith(f"{PACKAGE}.{other}")]
