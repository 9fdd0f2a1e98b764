"""Measure every speed claim and print one table: `make bench`, or `python -m bench`."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from bench import processes, report
from bench.measures import MEASURES
from bench.report import Row
from bench.setup import Bench


def main() -> int:
    """Run what was asked for; 1 when a measure failed. A missed target is told, and no failure: machines and their noise differ."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _stop)  # so that servers and folders are cleaned up then, too
    began = time.monotonic()
    others = processes.Others()
    rows: list[Row] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="mechaway-bench-", dir=arguments.dir or _disk()) as folder:
        about = report.facts(Path(folder))
        for name in arguments.only or MEASURES:
            measure = MEASURES[name]
            print(f"… {name}", file=sys.stderr, flush=True)
            home = Path(folder) / name
            home.mkdir()
            try:
                asked = Bench(arguments.seconds, arguments.rounds, home, arguments.against)
                rows.extend(dataclasses.replace(row, group=measure.title) for row in measure.run(asked))
            except Exception as error:  # the other measures are still worth having
                failed = True
                rows.append(Row("failed", f"{type(error).__name__}: {error}", group=measure.title, ok=False))
    about["took"] = f"{time.monotonic() - began:.0f} s ({arguments.rounds} rounds of {arguments.seconds} s of load)"
    share = others.share()
    about["others"] = "unknown" if share is None else f"{share:.0%} of the CPUs were in use by other programs meanwhile"
    for name, value in about.items():
        print(f"- {name}: {value}")
    print()
    print(report.table(rows))
    judged = [row.ok for row in rows if row.ok is not None]
    print(f"\n{sum(judged)} of {len(judged)} targets met.")
    if arguments.json:
        arguments.json.write_text(report.as_json(about, rows))
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Mechaway side by side with a floor.")
    parser.add_argument("--seconds", type=_positive, default=1, metavar="N", help="seconds of a round of load (default 1)")
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="rounds of each side (default 5)")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="only this measure; may be repeated")
    parser.add_argument("--against", default="", metavar="REVISION", help="an earlier commit to measure the POC beside")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to make the temporary folder; must be a real disk")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _disk() -> str | None:
    """A folder for temporary files that is on a disk where the usual one is often in memory; None for the usual one."""
    lasting = Path("/var/tmp")
    return str(lasting) if sys.platform == "linux" and lasting.is_dir() else None


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
