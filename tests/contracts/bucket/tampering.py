"""A bucket that is tampered with while it is asked, and the least that can be done with its tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mechaway_core.ports import Column, InsertRows, Tables
from tests.s3_server import Request, S3Server

ONLY_S3 = pytest.mark.parametrize("make", ["s3"], indirect=True)
TABLES = "tables/default/0/simpletable.db"


def writing(request: Request) -> bool:
    return request.method == "PUT"


def anything(request: Request) -> bool:
    return True


def once(server: S3Server, fits: Callable[[Request], bool], act: Callable[[], object], skip: int = 0) -> None:
    """Do something just before the server takes a request that fits; `skip` of those go by first."""
    left = [skip + 1]

    def before(request: Request) -> None:
        if fits(request) and left[0] > 0:
            left[0] -= 1
            if left[0] == 0:
                act()

    server.before = before


def insert(tables: Tables, value: Any, project: str = "default") -> Any:
    return tables.write(project, InsertRows("t", [{"a": value}], [Column("a")]))


def values(tables: Tables, project: str = "default") -> list[Any]:
    return [row["a"] for row in tables.read(project, lambda session: session.read_table("t", order_by="id")).rows]
