"""Thirty-two writers that share commits, beside one commit for each row; every row durable (sync full)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, information
from bench.setup import PROJECT, Bench, interleaved
from mechaway_core.folders import FolderTables
from mechaway_core.ports import Column, Session
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles

WRITERS = 32
COLUMNS = [Column("student_id"), Column("score")]


def measure(bench: Bench) -> Iterator[Row]:
    """Rows per second with and without sharing."""
    grouped, single = interleaved(bench.rounds, [partial(_rate, bench, shared) for shared in (True, False)])
    detail = f"{median(grouped):,.0f} ÷ {median(single):,.0f} rows/s"
    ratio = median(with_group / alone for with_group, alone in zip(grouped, single, strict=True))
    yield information(f"rows/s of {WRITERS} writers, shared commits ÷ a commit each", ratio, " ×", detail)


def _rate(bench: Bench, shared: bool) -> float:
    tables = FolderTables(ProjectFiles(Settings(data_dir=_folder(bench, shared), sync="full")))
    tables.write(PROJECT, _insert)
    turn: AbstractContextManager[Any] = nullcontext() if shared else threading.Lock()
    until = time.perf_counter() + bench.seconds
    began = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as writers:
        rows = sum(writers.map(lambda _: _write(tables, turn, until), range(WRITERS)))
    return rows / (time.perf_counter() - began)


def _folder(bench: Bench, shared: bool) -> Path:
    return bench.folder / ("shared" if shared else "single")


def _write(tables: FolderTables, turn: AbstractContextManager[Any], until: float) -> int:
    rows = 0
    while time.perf_counter() < until:
        with turn:
            tables.write(PROJECT, _insert)
        rows += 1
    return rows


def _insert(session: Session) -> object:
    return session.insert_rows("rows", [{"student_id": "s123", "score": 85}], COLUMNS)
