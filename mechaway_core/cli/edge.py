"""What a command works on: the data folder of this machine, or an installation in AWS."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechaway_core.errors import Invalid
from mechaway_core.settings import Settings

if TYPE_CHECKING:
    from mechaway_core.app import App


@contextlib.contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[App]:
    """The app that a command works on, closed at the end.

    That is the installation in AWS which the environment describes, if it names a bucket; `--data-dir` means this machine whatever it says.
    """
    from mechaway_core.local.logs import set_up

    settings = Settings.load(data_dir=arguments.data_dir)
    set_up(settings.log)
    with in_aws() if _means_aws(settings, arguments) else contextlib.closing(_here(settings)) as app:
        yield app


def who_begins(arguments: argparse.Namespace) -> str:
    """When a run begins that a command had accepted: the end of a sentence about it."""
    from mechaway_core.local.timekeeper import somebody_leads

    settings = Settings.load(data_dir=arguments.data_dir)
    if _means_aws(settings, arguments):
        return "begins in the runner"
    if somebody_leads(settings.data_dir):
        return "begins in the server within seconds"
    return f"begins when a server is started for {settings.data_dir}: none runs now"


def only_here(arguments: argparse.Namespace) -> None:
    """Raises `Invalid` when a command that is for this machine alone would mean an installation in AWS."""
    if arguments.data_dir is None and Settings.load().bucket:
        raise Invalid("this is for the data folder of this machine; name it with --data-dir (in AWS the key in KMS is renewed there)")


def _means_aws(settings: Settings, arguments: argparse.Namespace) -> bool:
    return bool(settings.bucket) and arguments.data_dir is None


def _here(settings: Settings) -> App:
    from mechaway_core.local import build

    return build(settings, begins=False)  # a command ends at once, and may have other settings than the server


@contextlib.contextmanager
def in_aws() -> Iterator[App]:
    """The installation in AWS which the environment describes, closed at the end."""
    from mechaway_core.aws import build, environment

    told_twice = [logging.getLogger(name) for name in ("mechaway.s3", "mechaway.services")]  # raised, too, and a command prints that
    for log in told_twice:
        log.disabled = True
    try:
        with contextlib.closing(build(environment.load(serves=False))) as app:
            yield app
    finally:
        for log in told_twice:
            log.disabled = False
