"""What the look for known vulnerabilities makes of what it is told."""

from __future__ import annotations

from typing import Any

from tools.audit import ignored, judge

CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (2)"}
BAD = {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["4"], "description": "…"}]}


def answer(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(packages), "fixes": []}


def test_a_known_vulnerability_fails_and_says_where_it_is_fixed() -> None:
    report = judge(answer(CLEAN, BAD), {})
    assert report.failed
    assert report.lines == ["VULNERABLE: c 3: PYSEC-1; fixed in 4"]


def test_one_that_is_explained_by_any_of_its_names_does_not() -> None:
    for name in ("PYSEC-1", "CVE-1"):
        report = judge(answer(CLEAN, BAD), {name: "we never call it"})
        assert not report.failed
        assert report.lines == ["c 3: PYSEC-1 does not concern us: we never call it"]


def test_an_explanation_that_explains_nothing_is_named() -> None:
    assert any("CVE-9" in line for line in judge(answer(CLEAN), {"CVE-9": "?"}).lines)


def test_what_could_not_be_looked_at_is_said_loudly_and_does_not_hide_what_could() -> None:
    report = judge(answer(SKIPPED, CLEAN), {})
    assert (report.failed, report.lines) == (False, ["AUDIT NOT DONE for 1 of 2 packages: the service does not know them (b)"])
    assert judge(answer(SKIPPED, BAD), {}).failed
    nothing = judge("the service is away", {})
    assert (nothing.failed, nothing.lines) == (False, ["AUDIT NOT DONE: the service is away"])


def test_nothing_found_is_said_too() -> None:
    assert judge(answer(CLEAN), {}).lines == ["no known vulnerabilities in 1 packages"]


def test_every_explanation_is_a_sentence() -> None:
    assert all(len(reason.split()) > 2 for reason in ignored().values())
