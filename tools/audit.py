"""Look for known vulnerabilities in what the lock file pins: `python tools/audit.py`.

A finding fails unless `[tool.mechaway.audit]` in pyproject.toml gives the reason why it does not concern us. When the service that
knows vulnerabilities cannot be reached, or does not know the packages, that is said and is no failure: a check that cannot be made on a
train would soon not be made at all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PATIENCE = 120  # seconds


@dataclass(frozen=True)
class Report:
    """What the audit found: sentences for people, and whether one of them is a failure."""

    lines: Sequence[str]
    failed: bool


def main() -> int:
    """Audit the lock file; 0 when nothing is found that is not explained."""
    report = judge(_ask(), ignored())
    for line in report.lines:
        print(line)
    return 1 if report.failed else 0


def ignored() -> Mapping[str, str]:
    """Findings that do not concern us: id → reason."""
    table: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: Mapping[str, str] = table["tool"]["mechaway"]["audit"]["ignore"]
    return found


def judge(answer: Mapping[str, Any] | str, ignore: Mapping[str, str]) -> Report:
    """What to make of pip-audit's answer: its JSON, or a sentence on why there is none."""
    if isinstance(answer, str):
        return Report([f"AUDIT NOT DONE: {answer}"], False)
    packages = answer["dependencies"]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    lines, failed, met = [], False, set()
    for package in packages:
        for finding in package.get("vulns", ()):
            names = {finding["id"], *finding.get("aliases", ())}
            reason = next((ignore[name] for name in sorted(names) if name in ignore), None)
            met |= names
            failed |= reason is None
            fixed = f"; fixed in {', '.join(finding['fix_versions'])}" if finding.get("fix_versions") else ""
            what = f"{package['name']} {package['version']}: {finding['id']}"
            lines.append(f"{what} does not concern us: {reason}" if reason else f"VULNERABLE: {what}{fixed}")
    if unknown:
        few = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        lines.append(f"AUDIT NOT DONE for {len(unknown)} of {len(packages)} packages: the service does not know them ({few})")
    lines += [
        f"[tool.mechaway.audit] explains {name}, which was not found; remove it" for name in ignore if not unknown and name not in met
    ]
    return Report(lines or [f"no known vulnerabilities in {len(packages)} packages"], failed)


def _ask() -> Mapping[str, Any] | str:
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "-r",
        str(LOCK),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"the vulnerability service did not answer within {PATIENCE} seconds"
    try:
        answer: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        return f"pip-audit gave no answer: {said[-1][:300] if said else f'exit status {done.returncode}'}"
    return answer


if __name__ == "__main__":
    sys.exit(main())
