"""What docs/schedules.md says of expressions is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from mechaway_core.cron import Cron, cron, sentence

PAGE = (Path(__file__).parents[3] / "docs" / "schedules.md").read_text()
BERLIN = "Europe/Berlin"


def rows(head: str) -> Iterator[list[str]]:
    """The cells of a table that begins with this head."""
    lines = PAGE.partition(f"\n| {head} |")[2].splitlines()
    assert len(lines) > 3, head
    for line in lines[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_sentences() -> None:
    table = dict(rows("expression | sentence, in Europe/Berlin"))
    assert len(table) > 8
    for expression, said in table.items():
        assert sentence(cron(expression.strip("`"), BERLIN)) == said


def test_names() -> None:
    for names, expression in rows("name | is"):
        for name in re.findall(r"`([^`]+)`", names):
            assert cron(name).expression.fields == cron(expression.strip("`")).expression.fields


def test_days_on_which_clocks_are_set() -> None:
    table = list(rows("expression | on 2025-03-30 | on 2025-10-26"))
    assert len(table) > 4
    for expression, *days in table:
        for date, told in zip(("2025-03-30", "2025-10-26"), days, strict=True):
            shown = _on(cron(expression.strip("`"), BERLIN), date)
            assert told in (", ".join(shown) or "never", f"{len(shown)} times"), expression


def _on(schedule: Cron, date: str) -> list[str]:
    begin = datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(BERLIN))
    fires = schedule.between(begin.timestamp(), (begin + timedelta(days=1)).timestamp())
    return [f"{datetime.fromtimestamp(moment, ZoneInfo(BERLIN)):%H:%M}" for moment in fires]


def test_every_form_of_a_field_can_be_read() -> None:
    for form, _ in rows("in any field | means"):
        for part in re.findall(r"`([^`]+)`", form):
            assert cron(f"{part} * * * *")
    for form, _ in rows("in a day field | means"):
        for part in re.findall(r"`([^`]+)`", form):
            weekday = re.match(r"[A-Z]{3}|\d[L#]", part)
            assert cron(f"0 0 ? * {part}" if weekday else f"0 0 {part} * ?")
