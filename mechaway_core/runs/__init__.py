"""Runs from their start to their record, and what can be done with records.

`runs` starts, ends, keeps and takes over; `recorder` writes many records at once; `document` is what is kept of a run and `shown` what
people see of it; `hiding` leaves out what nobody is to see; `listeners` are the workflows that hear of failures, `failures` makes the runs
in which they do; `history` is what people ask of records, `replay` runs again.
"""

from mechaway_core.runs.listeners import Listeners
from mechaway_core.runs.recorder import Entry, Later, Pending, Recorder
from mechaway_core.runs.runs import Runs

__all__ = ["Entry", "Later", "Listeners", "Pending", "Recorder", "Runs"]
