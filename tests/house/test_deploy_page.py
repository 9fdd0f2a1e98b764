"""What `docs/deploy.md` says of the stack is what the template, the prices and SAM's environments say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.measures.costs import OUTSIDE, OVERHEAD, S3_CALL, SCRIPT, Shape, count, shapes
from bench.prices import AS_OF, TABLE_DAYS, Usage, dollars_idle_per_month, dollars_per_million
from bench.setup import Bench
from tests.house.test_template import TEMPLATE
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text()
PIPELINE = yaml.safe_load((ROOT / "docs" / "github-actions.yaml").read_text())
SAM = tomllib.loads((ROOT / "samconfig.toml").read_text())


def table(heading: str) -> Iterator[list[str]]:
    """The cells of the rows of the first table behind a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, heading
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_parameter_stands_on_the_page_with_its_default_in_the_order_of_the_template() -> None:
    told = [(name.strip("`"), default.strip("`")) for name, default, _ in table("Parameters")]
    assert told == [(name, str(parameter.get("Default", ""))) for name, parameter in TEMPLATE["Parameters"].items()]


def test_every_resource_is_said_what_it_is_for() -> None:
    told = [name for names, _ in table("What each resource is for") for name in re.findall(r"`(\w+)`", names)]
    assert sorted(told) == sorted(TEMPLATE["Resources"])


def test_outputs_that_the_page_asks_for_are_there() -> None:
    asked = set(re.findall(r"\$\(output (\w+)\)", PAGE))
    assert asked
    assert asked <= set(TEMPLATE["Outputs"])


def test_what_stays_when_the_stack_is_deleted_is_told() -> None:
    stays = {name for name, resource in TEMPLATE["Resources"].items() if resource.get("DeletionPolicy") == "Retain"}
    words = {"Bucket": "**bucket**", "Key": "**key**", "FileSystem": "**file system**"}
    assert stays == set(words)
    section = PAGE.partition("## Taking it down")[2]
    assert all(word in section for word in words.values())


def test_log_groups_that_the_page_names_are_there() -> None:
    made = {
        str(resource["Properties"]["LogGroupName"])
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    for name in re.findall(r"/mechaway/dev/(\w+)", PAGE):
        assert any(f"/mechaway/${{Stage}}/{name}" in group for group in made), name


def test_costs_on_the_page_are_what_the_prices_make_of_the_calls() -> None:
    rows = list(table("What it costs"))
    beside = {
        "webhook only": OVERHEAD,
        "webhook + Lua": OVERHEAD + SCRIPT,
        "webhook + Lua + row": OVERHEAD + SCRIPT,
        "webhook + Lua + HTTP call": OVERHEAD + SCRIPT + OUTSIDE,
        "accepted webhook + Lua + row": 2 * OVERHEAD + SCRIPT,
        "scheduled + Lua + row": OVERHEAD + SCRIPT,
    }
    assert [row[0] for row in rows] == [*beside, "nothing at all, a month"]
    assert list(beside) == [shape.title for shape in shapes("http://localhost")]
    for title, gets, puts, milliseconds, dollars in rows[:-1]:
        seconds = beside[title] + S3_CALL * (int(gets) + int(puts))
        functions = 2 if title.startswith("accepted") else 1
        over_http = not title.startswith("scheduled")
        usage = Usage(puts=int(puts), gets=int(gets), seconds=seconds, functions=functions, over_http=over_http)
        assert (milliseconds, dollars) == (f"{seconds * 1000:.0f}", f"{dollars_per_million(usage):.2f}"), title
    assert rows[-1][-1] == f"{dollars_idle_per_month():.2f}"
    assert f"prices of {AS_OF}" in PAGE
    kept, longer = (dollars_per_million(Usage(kept_mb=1, kept_days=days)) - dollars_per_million(Usage()) for days in (TABLE_DAYS, 30))
    assert f"adds ${kept:.2f} to a million writes; it would be ${longer:.0f}" in PAGE
    assert (TEMPLATE["Parameters"]["TableVersionDays"]["Default"], TABLE_DAYS) == (3, 3.5)


@pytest.mark.parametrize("shape", shapes("http://127.0.0.1:9"), ids=lambda shape: shape.title)
def test_calls_of_s3_on_the_page_are_those_that_are_made(shape: Shape, tmp_path: Path) -> None:
    if "HTTP call" in shape.title:  # which asks nothing of S3, and somebody to call
        shape = replace(shape, nodes=shape.nodes[:-1])
    told = {title: (float(puts), float(gets)) for title, gets, puts, _, _ in list(table("What it costs"))[:-1]}
    assert count(Bench(1, 1, tmp_path), shape) == told[shape.title]


def runs() -> list[str]:
    """The commands of the pipeline."""
    return [step["run"] for job in PIPELINE["jobs"].values() for step in job["steps"] if "run" in step]


def test_the_pipeline_deploys_environments_that_sam_knows() -> None:
    stages = {value for job in PIPELINE["jobs"].values() for value in re.findall(r"'(\w+)'", job["env"]["STAGE"])} - {"tag"}
    assert stages == {"dev", "prod"}
    for stage in stages:
        assert SAM[stage]["global"]["parameters"]["stack_name"] == f"mechaway-{stage}"
    assert any('--config-env "$STAGE"' in run for run in runs())


def test_the_pipeline_holds_no_key_and_may_only_ask_for_its_token() -> None:
    assert PIPELINE["permissions"] == {"contents": "read", "id-token": "write"}
    text = (ROOT / "docs" / "github-actions.yaml").read_text()
    assert "secrets." not in text
    assert "AWS_SECRET_ACCESS_KEY" not in text
    [trade] = [step for job in PIPELINE["jobs"].values() for step in job["steps"] if "configure-aws" in step.get("uses", "")]
    assert "role-to-assume" in trade["with"]


def test_the_pipeline_makes_what_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {target for run in runs() for target in re.findall(r"^make ([\w-]+)", run, re.MULTILINE)}
    assert {"check", "test", "build"} <= made <= targets


@pytest.mark.parametrize("trigger", ["push"])
def test_the_pipeline_begins_by_itself(trigger: str) -> None:
    on: dict[str, Any] = PIPELINE[True]  # YAML 1.1 reads `on` as a truth value; GitHub does not
    assert trigger in on
