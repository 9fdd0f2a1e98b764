"""The measures by name, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.measures import (
    aws,
    before,
    commits,
    costs,
    first_node,
    graphs,
    many,
    outside,
    parts,
    poc,
    records,
    sandbox,
    saving,
    schedules,
    start,
)
from bench.report import Row
from bench.setup import Bench


class Measure(NamedTuple):
    """A group of rows of the table."""

    title: str
    run: Callable[[Bench], Iterator[Row]]


MEASURES: dict[str, Measure] = {
    "poc": Measure("The POC beside the floor", poc.measure),
    "records": Measure("Runs on record, and accepted ones", records.measure),
    "parts": Measure("Where the time of the POC goes (sync normal)", parts.measure),
    "first-node": Measure("Request in → first node starts", first_node.measure),
    "saving": Measure("Saving a change", saving.measure),
    "many": Measure("Many workflows", many.measure),
    "graphs": Measure("Long chains, wide graphs", graphs.measure),
    "start": Measure("Start and memory", start.measure),
    "sandbox": Measure("The sandbox", sandbox.measure),
    "commits": Measure("Shared commits", commits.measure),
    "schedules": Measure("Ten thousand schedules", schedules.measure),
    "outside": Measure("Calls to the outside, and who calls", outside.measure),
    "aws": Measure("In a Lambda function", aws.measure),
    "costs": Measure("What a million runs cost in AWS", costs.measure),
    "before": Measure("The POC beside an earlier commit", before.measure),
}
