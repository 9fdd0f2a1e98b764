"""One emulator for all tests of the cloud; what it and the functions logged is shown with every test that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.containers import notes
from tests.cloud.emulator import PYTHON, ROOT, Emulator, machine
from tests.cloud.runner import Letters
from tests.cloud.stack import NO_CONFIG, SAM, Cloud, Stack, sam

_begun = time.monotonic()
_running: list[Emulator] = []
NOT_SHOWN = (
    "Storage efs: the emulator has no file systems; the template and the adapters have tests of their own",
    "limits of Lambda (memory, payload, read-only code) and SnapStart: the emulator runs functions as plain processes",
    "iam:PassRole: the emulator does not ask for it; tests/house looks at the template",
    "tampering with what KMS wrapped: the emulator's KMS does not notice; tests/contracts shows it",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--minutes 10`: begin no test after that, and say so."""
    parser.addoption("--minutes", type=float, default=math.inf, help="begin no test of the cloud after so many minutes")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what there is no time for."""
    most = item.config.getoption("--minutes")
    if time.monotonic() - _begun > most * 60:
        pytest.skip(f"its time was over: {most:g} minutes for the tests of the cloud (--minutes)")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """AWS on this machine."""
    for program in (PYTHON, SAM):
        assert program.exists(), f"{program} is not there: make test-cloud sets it up"
    with Emulator(tmp_path_factory.mktemp("emulator")) as made:
        _running.append(made)
        yield made
        _running.remove(made)


@pytest.fixture(scope="session")
def built(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sam build` makes of the project's template."""
    folder = tmp_path_factory.mktemp("mechaway") / "build"
    sam("build", *NO_CONFIG, "--template-file", ROOT / "template.yaml", "--build-dir", folder, env=emulator.credentials())
    return folder


@pytest.fixture(scope="session")
def parameters() -> dict[str, str]:
    """What a deploy to the emulator says: functions run on this machine's processor."""
    return {"Architecture": machine()}


@pytest.fixture(scope="session")
def stack(emulator: Emulator, built: Path, parameters: dict[str, str]) -> Stack:
    """An installation as the docs deploy it. It goes with the emulator; `test_lifecycle.py` deletes one of its own."""
    made = Stack(emulator, "mechaway")
    made.deploy(built, **parameters)
    return made


@pytest.fixture(scope="session")
def installation(emulator: Emulator, stack: Stack) -> Iterator[Cloud]:
    """Its API, for the admin."""
    with Cloud(emulator, stack.outputs["ApiUrl"], stack.token()) as made:
        yield made


@pytest.fixture(scope="module")
def server(installation: Cloud) -> Cloud:
    """The installation without workflows, secrets and projects of other modules, under the name that journeys know."""
    installation.clear()
    return installation


@pytest.fixture
def letters(stack: Stack) -> Iterator[Letters]:
    """The dead-letter queue, empty before and after."""
    found = Letters(stack)
    found.queue.purge_queue(QueueUrl=found.url)
    yield found
    found.queue.purge_queue(QueueUrl=found.url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the emulator's log to the report of a failure."""
    report = yield
    if report.failed:
        for emulator in _running:
            report.sections.append(("emulator", emulator.told()))
            report.sections.append(("functions", Cloud(emulator, "https://none").err[-8000:]))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say aloud what these tests cannot show, or did not on this machine."""
    for line in NOT_SHOWN:
        terminalreporter.write_line(f"NOT SHOWN HERE: {line}")
    for note in notes:
        terminalreporter.write_line(f"NOTE: {note}")
