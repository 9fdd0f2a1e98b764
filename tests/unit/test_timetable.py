"""Schedules in step with documents, whatever is refused or cut off, and in whatever order things meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.app import App
from mechaway_core.aws.reconcile import reconcile
from mechaway_core.errors import Conflict, Invalid, Stale, Unavailable
from mechaway_core.ports import Schedule
from mechaway_core.settings import Settings
from mechaway_core.timetable import compare, schedules_of
from tests.account import Died
from tests.clockwork import clockwork
from tests.contracts.timekeepers import MemorySchedules
from tests.home import app_over

TICK = Schedule("wf", "tick", "*/5 * * * *")
HOOK: dict[str, Any] = {"id": "wf", "nodes": [{"id": "hook", "node_type": "Webhook", "params": {"path": "/"}}], "edges": []}


class Recording(MemorySchedules):
    """Schedules that tell what they were asked, and let it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def put(self, project: str, schedule: Schedule) -> None:
        self._ask("put")
        super().put(project, schedule)

    def delete(self, project: str, workflow_id: str, node_id: str | None = None) -> int:
        self._ask("delete")
        return super().delete(project, workflow_id, node_id)

    def list(self, project: str, workflow_id: str | None = None) -> list[Schedule]:
        self._ask("list")
        return super().list(project, workflow_id)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        self.before(what)


@pytest.fixture
def kept() -> Recording:
    return Recording()


@pytest.fixture
def app(tmp_path: Path, kept: Recording) -> App:
    settings = Settings(data_dir=tmp_path, sync="normal")
    return app_over(settings, schedules=kept)


def fail(what: str, error: BaseException) -> Callable[[str], None]:
    def before(asked: str) -> None:
        if asked == what:
            raise error

    return before


def test_a_document_asks_for_what_its_triggers_say_unless_they_are_switched_off() -> None:
    document = clockwork("wf", ("a", "@daily"), ("b", "0 * * * *"), ("c", "* * * * *"))
    document["nodes"][1]["disabled"] = True
    document["nodes"][2]["params"]["timezone"] = "Europe/Berlin"
    assert schedules_of(document) == [Schedule("wf", "a", "@daily"), Schedule("wf", "c", "* * * * *", "Europe/Berlin")]
    assert schedules_of(document | {"active": False}) == []
    assert schedules_of(HOOK) == []


def test_what_there_is_to_do_is_the_difference() -> None:
    same, changed, fresh, old = (Schedule("wf", node, "@daily") for node in "abcd")
    change = compare([same, changed, fresh], [same, Schedule("wf", "b", "@hourly"), old])
    assert (change.make, change.change, change.delete) == ((fresh,), (changed,), (old,))
    assert not compare([same], [same])


def test_schedules_come_change_and_go_with_the_workflow(app: App, kept: Recording) -> None:
    app.create("default", clockwork())
    assert kept.held == {("default", "wf", "tick"): TICK}
    app.update("default", "wf", clockwork("wf", ("tick", "@daily"), ("tock", "@hourly")))
    assert [one.expression for one in kept.list("default")] == ["@daily", "@hourly"]
    app.update("default", "wf", clockwork("wf", ("tock", "@hourly")))
    assert kept.list("default") == [Schedule("wf", "tock", "@hourly")]
    app.update("default", "wf", clockwork("wf", ("tock", "@hourly"), active=False))
    assert kept.list("default") == []
    app.restore("default", "wf", 1)
    assert kept.list("default") == [TICK]
    app.delete("default", "wf")
    assert kept.held == {}


def test_a_workflow_without_triggers_that_keep_time_asks_the_clock_nothing(app: App, kept: Recording) -> None:
    app.create("default", HOOK)
    app.update("default", "wf", HOOK | {"name": "other"})
    assert kept.asked == []


def test_the_schedule_is_made_before_the_document_is_saved_and_goes_after_it_is_gone(app: App, kept: Recording) -> None:
    there: list[tuple[str, bool]] = []

    def look(asked: str) -> None:
        there.append((asked, "wf" in [entry["id"] for entry in app.find("default")]))

    kept.before = look
    app.create("default", clockwork())
    app.delete("default", "wf")
    assert ("put", False) in there
    assert ("delete", False) in there


@pytest.mark.parametrize("error", [Unavailable("the quota is used up"), Invalid("too long")])
def test_a_schedule_that_is_refused_keeps_the_document_from_being_saved(app: App, kept: Recording, error: Exception) -> None:
    kept.before = fail("put", error)
    with pytest.raises(type(error), match=str(error)):
        app.create("default", clockwork())
    assert app.find("default") == []
    assert kept.held == {}


def test_when_the_second_of_two_is_refused_the_first_goes_back(app: App, kept: Recording) -> None:
    app.create("default", clockwork())
    answers = iter([None, Invalid("too long"), None])

    def second_put(what: str) -> None:
        if what == "put" and (error := next(answers)) is not None:
            raise error

    kept.before = second_put
    with pytest.raises(Invalid, match="too long"):
        app.update("default", "wf", clockwork("wf", ("tick", "@daily"), ("other", "@weekly")))
    assert kept.list("default") == [TICK]
    assert app.get("default", "wf").version == 1


def test_a_save_that_loses_leaves_the_schedules_of_the_one_that_won(app: App, kept: Recording) -> None:
    app.create("default", clockwork())
    with pytest.raises(Conflict):
        app.create("default", clockwork("wf", ("tick", "@daily"), ("other", "@daily")))
    with pytest.raises(Stale):
        app.update("default", "wf", clockwork("wf", ("tick", "@daily")), if_match=['"old"'])
    assert kept.list("default") == [TICK]


def test_a_process_that_dies_between_the_schedule_and_the_document_leaves_what_reconciling_takes_away(app: App, kept: Recording) -> None:
    kept.put("default", TICK)
    report = reconcile(app)
    assert report.changes["default"].delete == (TICK,)
    assert kept.held == {}
    assert not reconcile(app).changes


def test_a_delete_whose_schedule_cannot_go_now_is_done_all_the_same(app: App, kept: Recording) -> None:
    app.create("default", clockwork())
    kept.before = fail("delete", Unavailable("slow down"))
    app.delete("default", "wf")
    assert app.find("default") == []
    kept.before = lambda _: None
    app.timetable.settle("default", "wf")
    assert kept.held == {}


def test_a_document_that_is_saved_while_it_is_settled_keeps_its_schedule(app: App, kept: Recording) -> None:
    """Settling reads that nobody wants the schedule; before it deletes it, somebody saves a document that does."""
    kept.put("default", TICK)
    saved = iter([True])

    def save(asked: str) -> None:
        if asked == "delete" and next(saved, False):
            app.create("default", clockwork())

    kept.before = save
    app.timetable.settle("default", "wf")
    assert kept.list("default") == [TICK]


def test_a_schedule_that_is_settled_away_before_its_document_is_saved_is_made_again(
    app: App, kept: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, settled = app._workflows.create, []

    def settle_first(*arguments: Any) -> Any:
        settled.append(app.timetable.settle("default", "wf"))
        return create(*arguments)

    monkeypatch.setattr(app._workflows, "create", settle_first)
    app.create("default", clockwork())
    assert settled[0].delete == (TICK,)
    assert kept.list("default") == [TICK]


def test_a_project_takes_its_schedules_along(app: App, kept: Recording) -> None:
    for project in ("shop", "shop2"):
        app.create_project(project)
        app.create(project, clockwork())
    app.delete_project("shop")
    assert kept.projects() == {"shop2"}


# -- reconciling


def test_reconciling_makes_changes_and_deletes_in_all_projects_and_in_those_that_are_gone(app: App, kept: Recording) -> None:
    app.create_project("shop")
    app.create("shop", clockwork("wf", ("a", "@daily"), ("b", "@daily")))
    app.create("default", clockwork())
    kept.held.clear()
    kept.held["shop", "wf", "a"] = Schedule("wf", "a", "")  # there by half
    kept.put("shop", Schedule("wf2", "a", "@daily"))
    kept.put("gone", TICK)
    looked = reconcile(app, act=False).as_json()["projects"]
    assert kept.projects() == {"shop", "gone"}
    report = reconcile(app)
    assert report.as_json()["projects"] == looked
    assert {project: [len(change[verb]) for verb in ("make", "change", "delete")] for project, change in looked.items()} == {
        "default": [1, 0, 0],
        "gone": [0, 0, 1],
        "shop": [1, 1, 1],
    }
    assert kept.projects() == {"default", "shop"}
    assert kept.list("shop") == [Schedule("wf", "a", "@daily"), Schedule("wf", "b", "@daily")]


def test_what_fails_in_one_project_keeps_no_other_from_it(app: App, kept: Recording) -> None:
    app.create_project("a")
    for project in ("a", "default"):
        app.create(project, clockwork())
    kept.held.clear()
    first = iter([True])

    def once(asked: str) -> None:
        if asked == "put" and next(first, False):
            raise Unavailable("the quota is used up")

    kept.before = once
    report = reconcile(app)
    assert report.problems == ['project "a": the quota is used up']
    assert kept.projects() == {"default"}


def test_more_workflows_than_a_page_holds_are_all_looked_at(app: App, kept: Recording) -> None:
    for number in range(130):
        app.create("default", clockwork(f"wf{number}") if number % 2 else HOOK | {"id": f"wf{number}"})
    assert not reconcile(app).changes
    kept.held.clear()
    assert len(reconcile(app).changes["default"].make) == 65


def test_old_claims_go_when_schedules_are_reconciled(app: App) -> None:
    now = app.clock.now()
    app.handover.claim("default", now - 10 * 86_400, ("x",), "me")
    app.handover.claim("default", now, ("x",), "me")
    assert reconcile(app, act=False).swept == 0
    assert reconcile(app).swept == 1


def test_an_app_without_a_keeper_of_time_saves_all_the_same(app: App, make_app: Callable[..., App]) -> None:
    alone = make_app()
    alone.create("default", clockwork("alone"))
    alone.delete("default", "alone")
    assert not reconcile(alone).changes


def test_dying_in_the_middle_of_a_save_leaves_a_schedule_and_no_document(app: App, kept: Recording) -> None:
    kept.before = fail("list", Died())
    with pytest.raises(Died):
        app.create("default", clockwork())
    assert app.find("default") == []
