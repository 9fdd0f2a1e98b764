"""What a schedule means: a cron expression in a time zone, the moments it fires, and a sentence that says so."""

from __future__ import annotations

from mechaway_core.cron.schedule import Cron, cron
from mechaway_core.cron.sentence import sentence

__all__ = ["Cron", "cron", "sentence"]
