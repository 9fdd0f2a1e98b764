"""Logs of the local server: warnings and errors of everything, on standard error, one line each."""

from __future__ import annotations

import logging
import sys


def set_up() -> None:
    """Send what is logged to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("mechaway").setLevel(logging.INFO)
