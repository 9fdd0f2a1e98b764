"""What comes out of a measurement, and how it is shown: one table in Markdown that also reads well as text."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

import apsw

from bench import load

COLUMNS = ("what", "measured", "target", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` is the number that is judged (or the number itself); `ok` is None where there is no target."""

    what: str
    measured: str
    target: str = ""
    ok: bool | None = None
    value: float | None = None
    group: str = ""


def at_most(what: str, value: float, limit: float, unit: str = "", detail: str = "") -> Row:
    """A row whose value must not be above the limit."""
    return Row(what, _shown(value, unit, detail), f"≤ {_number(limit)}{unit}", value <= limit, value)


def at_least(what: str, value: float, limit: float, unit: str = "", detail: str = "") -> Row:
    """A row whose value must not be below the limit."""
    return Row(what, _shown(value, unit, detail), f"≥ {_number(limit)}{unit}", value >= limit, value)


def information(what: str, value: float, unit: str = "", detail: str = "") -> Row:
    """A row without a target."""
    return Row(what, _shown(value, unit, detail), value=value)


def table(rows: Iterable[Row]) -> str:
    """The rows, with a heading for each group."""
    lines: list[tuple[str, str, str, str]] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append((f"**{group}**", "", "", ""))
        lines.append((row.what, row.measured, row.target, "" if row.ok is None else "ok" if row.ok else "MISS"))
    widths = [max(map(len, column)) for column in zip(COLUMNS, *lines, strict=True)]
    rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
    return "\n".join([_line(COLUMNS, widths), rule, *(_line(line, widths) for line in lines)])


def facts(folder: Path) -> dict[str, str]:
    """What the numbers depend on."""
    used = ("apsw", "lupa", "uvicorn", "uvloop", "httptools", "orjson")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu()}, {len(_cpus())} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "SQLite": apsw.sqlite_lib_version(),
        "disk": f"{_file_system(folder)}, a sync of 4 KiB takes {_sync_seconds(folder) * 1000:.2g} ms",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in used),
        "load by": f"{load.generator()} (latencies at 1 connection: bench.client)",
    }


def as_json(about: dict[str, str], rows: Iterable[Row]) -> str:
    """The same for programs."""
    return json.dumps({"facts": about, "rows": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False)


def _sync_seconds(folder: Path) -> float:
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times)


def _line(cells: Iterable[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _shown(value: float, unit: str, detail: str) -> str:
    return f"{_number(value)}{unit}" + (f" ({detail})" if detail else "")


def _number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _cpus() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that holds a folder; where a sync costs nothing, `full` says nothing."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "an unknown file system"
    resolved = str(folder.resolve())
    held = [mount for mount in mounts if resolved == mount[1] or resolved.startswith(mount[1].rstrip("/") + "/")]
    kind = max(held, key=lambda mount: len(mount[1]))[2] if held else "an unknown file system"
    return f"{kind} (MEMORY: full sync costs nothing here; use --dir)" if kind in ("tmpfs", "ramfs") else kind
