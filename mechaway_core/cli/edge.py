"""What a command works on: the data folder of this machine, or an installation in AWS."""

from __future__ import annotations

import argparse
import contextlib
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

    set_up()
    settings = Settings.load(data_dir=arguments.data_dir)
    app = _in_aws() if settings.bucket and arguments.data_dir is None else _here(settings)
    try:
        yield app
    finally:
        app.close()


def only_here(arguments: argparse.Namespace) -> None:
    """Raises `Invalid` when a command that is for this machine alone would mean an installation in AWS."""
    if arguments.data_dir is None and Settings.load().bucket:
        raise Invalid("this is for the data folder of this machine; name it with --data-dir (in AWS the key in KMS is renewed there)")


def _here(settings: Settings) -> App:
    from mechaway_core.local import build

    return build(settings)


def _in_aws() -> App:
    from mechaway_core.aws import build, environment

    return build(environment.load(serves=False))
