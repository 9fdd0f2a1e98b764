"""The runs on record of all projects, as people look at them and act on them."""

from __future__ import annotations

from typing import Any

from mechaway_core.errors import NotFound, no_project
from mechaway_core.ports import Projects, RunLine, RunQuery
from mechaway_core.record import Run
from mechaway_core.runs.replay import Replayed, Wish, replay, replay_all
from mechaway_core.runs.runs import Runs


class History:
    """What can be asked of runs on record. Every call raises `NotFound` for a project that is not there."""

    def __init__(self, runs: Runs, projects: Projects, *, streams: bool) -> None:
        """`streams`: whether somebody can listen to what happens."""
        self._runs = runs
        self._projects = projects
        self._streams = streams

    def find(self, project: str, query: RunQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Runs on record, newest first, and where the next page begins. Raises `NotFound`."""
        self._need(project)
        return self._runs.find(project, query)

    def get(self, project: str, run_id: str) -> dict[str, Any]:
        """The record of a run. Raises `NotFound`."""
        self._need(project)
        return self._runs.get(project, run_id)

    def watch(self, project: str, mark: int | None) -> tuple[list[RunLine], int]:
        """What was put on record behind a mark, and the mark behind it: see `Records.since`. Raises `NotFound`."""
        self._need(project)
        if not self._streams:
            raise NotFound("a function cannot tell what happens while it happens; ask GET /api/runs again")
        return self._runs.records.since(project, mark)

    def cancel(self, project: str, run_id: str) -> None:
        """Ask a run to stop. Raises `NotFound`, and `Conflict` when it is over."""
        self._need(project)
        self._runs.cancel(project, run_id)

    def replay(self, project: str, run_id: str, wish: Wish) -> Run:
        """A run that repeats another one, and has been accepted. Raises `NotFound`, `Conflict`, `Invalid`, `Unavailable`."""
        self._need(project)
        run, pending = replay(self._runs, project, run_id, wish)
        pending.wait()
        return run

    def replay_all(self, project: str, query: RunQuery, wish: Wish, *, act: bool) -> Replayed:
        """The runs that fit, and with `act` a replay of each."""
        self._need(project)
        return replay_all(self._runs, project, query, wish, act=act)

    def _need(self, project: str) -> None:
        if not self._projects.exists(project):
            raise no_project(project)
