"""Is this adapter a true `Records`?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from mechaway_core.aws.records import KEEP_CLASSES, S3Records, keep_class
from mechaway_core.errors import NotFound
from mechaway_core.ports import Projects, Records, RunLine, RunQuery, RunRecord
from mechaway_core.record import new_run_id
from tests import s3_server
from tests.contracts.adapters import IN_FOLDERS, Adapters, bucket_of, elsewhere, finish
from tests.contracts.worker import some_run

NOON = 1_767_355_200.0


@pytest.fixture
def records(adapters: Adapters) -> Records:
    return adapters.records


@pytest.fixture
def in_folders(adapters: Adapters) -> None:
    """For what only those are asked that keep files in folders."""
    if adapters.name not in IN_FOLDERS:
        pytest.skip("a bucket does it otherwise")


def run(began: float = NOON, *, open_: bool = False, kept: bool = False, data: Any = None, **changes: Any) -> RunRecord:
    """A run of the workflow `wf`, by a webhook; it took a second and a half, unless it is open. `kept`: for a time of its own."""
    line = RunLine(new_run_id(began), "wf", 3, "succeeded", "webhook", "hook", began, began + 1.5)
    if open_:
        line = line._replace(status="queued", ended=None)
    data = orjson.dumps(data if data is not None else {"nodes": []})
    return RunRecord(line._replace(**changes), data, keep_days=5.0 if kept else None)


def ended(record: RunRecord, **changes: Any) -> RunRecord:
    """The end of a run that was open."""
    line = record.line._replace(status="succeeded", ended=record.line.began + 60, **changes)
    return RunRecord(line, b'{"nodes": [], "over": true}', known=True)


def as_read(record: RunRecord) -> RunRecord:
    """What is read of a record that was written."""
    return RunRecord(record.line, record.data, known=True)


def put(records: Records, *written: RunRecord) -> list[RunLine]:
    """Write them; their lines, newest first."""
    records.write("default", written)
    return sorted((record.line for record in written), key=lambda line: line.id, reverse=True)


def lines(records: Records, **query: Any) -> list[RunLine]:
    """All that a query finds, however many pages it takes."""
    found: list[RunLine] = []
    after: str | None = None
    while True:
        page = records.find("default", RunQuery(**query, after=after))
        found += page.lines
        after = page.after
        if after is None:
            return found


# -- one run


def test_what_was_written_is_what_is_got(records: Records) -> None:
    full = run(
        NOON + 0.123456,
        version=12,
        status="failed",
        trigger="replay",
        node="the.node_1-x",
        workflow_id="a.b_c-D9",
        error='it said "no": ü, \U0001f600, 50 % ~ a/b\n\tand \\ more',
        parent=new_run_id(NOON - 5),
        attempt=2,
        data={"nodes": [{"id": "ü"}], "output": ["a", "main"]},
    )
    put(records, full)
    assert records.get("default", full.line.id) == as_read(full)
    assert lines(records) == [full.line]


def test_a_run_that_never_was_is_none(records: Records) -> None:
    put(records, run())
    for run_id in (new_run_id(NOON), "", "x", "../../projects", "0", run().line.id[:-1], run().line.id + "0", "%", "~"):
        assert records.get("default", run_id) is None
    assert records.find("default", RunQuery(since=NOON + 60)).lines == []


def test_nothing_at_all_is_a_list_of_nothing(records: Records) -> None:
    page = records.find("default", RunQuery())
    assert (page.lines, page.after) == ([], None)
    assert records.abandoned("default", None, NOON) == []
    assert records.asked_to_stop("default", [run().line.id]) == set()
    assert records.prune("default", lambda _: 0.0) == 0


def test_an_open_run_is_there_until_its_end_takes_its_place(records: Records) -> None:
    accepted = run(open_=True, data={"start": [1, 2], "nodes": [], "promised": True})
    put(records, accepted)
    assert records.get("default", accepted.line.id) == as_read(accepted)
    assert lines(records) == [accepted.line]
    begun = RunRecord(accepted.line._replace(status="running", attempt=2), accepted.data, known=True)
    put(records, begun)
    assert records.get("default", accepted.line.id) == as_read(begun)
    assert lines(records) == [begun.line]
    over = ended(begun)
    put(records, over)
    assert records.get("default", accepted.line.id) == as_read(over)
    assert lines(records) == [over.line]
    assert records.abandoned("default", None, NOON + 3600) == []


def test_a_later_end_takes_the_place_of_an_earlier_one(records: Records) -> None:
    """Of a run that was taken for lost and was not."""
    accepted = run(open_=True)
    put(records, accepted)
    put(records, ended(accepted))
    later = ended(accepted, error="lost")
    later = later._replace(line=later.line._replace(status="failed", ended=NOON + 100))
    put(records, later)
    assert records.get("default", accepted.line.id) == as_read(later)
    assert lines(records) == [later.line]


def test_what_is_gone_is_gone_whether_it_was_open_or_over(records: Records) -> None:
    one, two, three, stays = run(open_=True), run(NOON + 1), run(NOON + 2, open_=True), run(NOON + 3)
    put(records, one, two, three, stays)
    put(records, ended(three))
    records.write("default", [], [one.line.id, two.line.id, three.line.id, new_run_id(NOON)])
    assert lines(records) == [stays.line]
    assert [records.get("default", gone.line.id) for gone in (one, two, three)] == [None, None, None]


def test_an_end_and_those_who_hear_of_it_are_written_together(records: Records) -> None:
    accepted = run(open_=True)
    put(records, accepted)
    over, hears = ended(accepted), run(NOON + 60, open_=True, trigger="error", parent=accepted.line.id)
    records.write("default", [over, hears], [])
    assert lines(records) == [hears.line, over.line]


def test_an_error_of_any_length_is_read_whole_and_listed_as_far_as_there_is_room(records: Records) -> None:
    for text in ("x" * 500, "ü" * 500, "\U0001f600" * 500, " %~/" * 125):
        failed = run(
            status="failed", workflow_id="w" * 128, node="n" * 128, parent=new_run_id(NOON), error=text, version=10**9, attempt=10**6
        )
        put(records, failed)
        found = records.get("default", failed.line.id)
        assert found is not None
        assert found.line == failed.line
        [line] = [line for line in lines(records) if line.id == failed.line.id]
        assert line.error is not None
        assert line._replace(error=None) == failed.line._replace(error=None)
        assert line.error == text or (line.error.endswith("…") and text.startswith(line.error[:-1]) and len(line.error) > 20)


# -- lists


def test_the_newest_runs_come_first_in_whatever_order_they_were_written(records: Records) -> None:
    made = [run(NOON + second, open_=second % 3 == 0, kept=second % 5 == 0) for second in range(30)]
    expected = put(records, *made[::2], *made[1::2])
    assert lines(records) == expected
    assert [line.began for line in expected] == sorted((NOON + second for second in range(30)), reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 7, 10, 30, 31])
def test_pages_have_no_gaps_and_no_doubles(records: Records, limit: int) -> None:
    made = [run(NOON + second // 3, open_=second % 4 == 0, kept=second % 5 == 0) for second in range(30)]
    expected = put(records, *made)
    assert lines(records, limit=limit) == expected
    assert lines(records, limit=limit, workflow_id="wf", trigger="webhook") == expected


def test_runs_that_come_while_pages_are_read_are_in_none_of_the_rest(records: Records) -> None:
    expected = put(records, *(run(NOON + second) for second in range(10)))
    page = records.find("default", RunQuery(limit=4))
    put(records, run(NOON + 60))
    rest = records.find("default", RunQuery(limit=100, after=page.after))
    assert page.lines + rest.lines == expected


def test_each_condition_of_a_query_is_met(records: Records) -> None:
    made = put(
        records,
        run(NOON),
        run(NOON + 1, workflow_id="wf2", status="failed", error="Out of LUCK"),
        run(NOON + 2, status="failed", trigger="cron", node="tick"),
        run(NOON + 3, workflow_id="wf2", trigger="cron"),
        run(NOON + 4, open_=True),
        run(NOON + 5, open_=True, status="running", workflow_id="wf2"),
        run(NOON + 6, status="cancelled", trigger="manual"),
        run(NOON + 7, status="timed_out", workflow_id="wf"),
    )
    conditions: list[tuple[dict[str, Any], Callable[[RunLine], bool]]] = [
        ({"workflow_id": "wf"}, lambda line: line.workflow_id == "wf"),
        ({"workflow_id": "w"}, lambda line: False),
        ({"statuses": ("failed",)}, lambda line: line.status == "failed"),
        ({"statuses": ("succeeded",)}, lambda line: line.status == "succeeded"),
        ({"statuses": ("failed", "timed_out", "cancelled")}, lambda line: line.status in ("failed", "timed_out", "cancelled")),
        ({"statuses": ("queued", "running")}, lambda line: line.ended is None),
        ({"statuses": ("queued", "succeeded")}, lambda line: line.status in ("queued", "succeeded")),
        ({"trigger": "cron"}, lambda line: line.trigger == "cron"),
        ({"since": NOON + 3}, lambda line: line.began >= NOON + 3),
        ({"until": NOON + 3}, lambda line: line.began < NOON + 3),
        ({"since": NOON + 2, "until": NOON + 5}, lambda line: NOON + 2 <= line.began < NOON + 5),
        ({"workflow_id": "wf2", "statuses": ("failed",)}, lambda line: line.workflow_id == "wf2" and line.status == "failed"),
        ({"workflow_id": "wf2", "trigger": "cron", "statuses": ("failed", "succeeded")}, lambda line: line.began == NOON + 3),
        ({"workflow_id": "wf", "statuses": ("failed",), "since": NOON, "until": NOON + 60}, lambda line: line.began == NOON + 2),
    ]
    for query, fits in conditions:
        for limit in (1, 100):
            assert lines(records, **query, limit=limit) == [line for line in made if fits(line)], query


def test_moments_are_of_milliseconds(records: Records) -> None:
    put(records, run(NOON + 0.001), run(NOON + 0.002), run(NOON + 0.003))
    assert [line.began for line in lines(records, since=NOON + 0.002)] == [NOON + 0.003, NOON + 0.002]
    assert [line.began for line in lines(records, until=NOON + 0.002)] == [NOON + 0.001]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("luck", ["error"]),
        ("LUCK", ["error"]),
        ("Zürich", ["data"]),
        ("züRICH", ["data"]),
        ("ZÜRICH", ["data"]),
        ("straße", ["open"]),
        ("STRASSE", []),
        ("ПРивет", ["kept"]),
        ("\U0001f600", ["open"]),
        ("%", ["error"]),
        ("_", []),
        ("hook", []),
        ("nowhere", []),
    ],
)
def test_a_text_is_found_in_what_is_on_record_in_whatever_case_as_far_as_a_to_z_go(records: Records, text: str, found: list[str]) -> None:
    made = {
        "error": run(NOON, status="failed", error="100 % out of LUCK"),
        "data": run(NOON + 1, data={"city": "zürich", "CITY": "Z\u00dcRICH"}),
        "open": run(NOON + 2, open_=True, data={"start": [{"street": "Straße \U0001f600"}]}),
        "kept": run(NOON + 3, data={"said": "ПРивет"})._replace(keep_days=365.0),
    }
    put(records, *made.values())
    assert [line.id for line in lines(records, text=text)] == [made[name].line.id for name in found]
    assert [line.id for line in lines(records, text=text, workflow_id="wf", limit=1)] == [made[name].line.id for name in found]
    assert lines(records, text=text, workflow_id="wf2") == []


def test_a_run_is_found_by_a_part_of_its_id(records: Records) -> None:
    made = [run(NOON + second) for second in range(5)]
    put(records, *made)
    assert [line.id for line in lines(records, text=made[2].line.id[14:])] == [made[2].line.id]


def test_a_cursor_that_is_none_of_ours_is_no_error(records: Records) -> None:
    put(records, run())
    for after in ("0", "~", "x", "../..", "ü", "\U0001f600", "0" * 1000):
        records.find("default", RunQuery(after=after))


def test_of_more_than_a_page_of_the_place_everything_is_found(adapters: Adapters) -> None:
    """A bucket lists a thousand names at a time."""
    records = adapters.records
    put(records, *(run(NOON + n / 100, status="failed" if n % 499 == 0 else "succeeded") for n in range(1203)))
    assert len(lines(records, limit=1000)) == 1203
    assert [line.began for line in lines(records, statuses=("failed",))] == [NOON + n / 100 for n in (998, 499, 0)]
    assert [line.began for line in lines(records, statuses=("failed", "succeeded"), until=NOON + 0.02)] == [NOON + 0.01, NOON]


# -- what happens now


def test_what_was_written_behind_a_mark_comes_in_that_order(records: Records, in_folders: None) -> None:
    put(records, run())
    nothing, mark = records.since("default", None)
    assert nothing == []
    first, second = run(NOON + 5), run(NOON + 1, open_=True)
    put(records, first)
    put(records, second)
    found, after = records.since("default", mark)
    assert found == [first.line, second.line]
    assert records.since("default", after) == ([], after)
    put(records, ended(second))
    assert [line.status for line in records.since("default", after)[0]] == ["succeeded"]
    assert records.since("default", mark, limit=1)[0] == [first.line]


def test_a_bucket_has_no_such_order(adapters: Adapters) -> None:
    if adapters.name in IN_FOLDERS:
        pytest.skip("folders have one")
    with pytest.raises(NotFound):
        adapters.records.since("default", None)


# -- stops


def test_who_was_asked_to_stop_is_known_to_all(make: Callable[..., Adapters]) -> None:
    here, there = make().records, make(owner="another").records
    one, two, three = (run(NOON + second, open_=True) for second in range(3))
    put(here, one, two, three)
    there.ask_to_stop("default", one.line.id)
    there.ask_to_stop("default", one.line.id)
    there.ask_to_stop("default", three.line.id)
    assert here.asked_to_stop("default", [one.line.id, two.line.id]) == {one.line.id}
    assert here.asked_to_stop("default", []) == set()
    many = [new_run_id(NOON) for _ in range(50)]
    assert here.asked_to_stop("default", [*many, one.line.id, three.line.id]) == {one.line.id, three.line.id}


def test_who_was_asked_to_stop_is_asked_also_when_it_is_put_on_record_as_running(make: Callable[..., Adapters]) -> None:
    records = make().records
    open_one = run(NOON, open_=True)
    put(records, open_one)
    records.ask_to_stop("default", open_one.line.id)
    put(records, open_one._replace(line=open_one.line._replace(status="running"), known=True))
    assert records.asked_to_stop("default", [open_one.line.id]) == {open_one.line.id}


# -- runs whose process is gone


def test_open_runs_are_abandoned_by_their_owner_oldest_first(make: Callable[..., Adapters]) -> None:
    mine, others = make(owner="me").records, make(owner="them").records
    made = [run(NOON + second, open_=True, data={"start": [second]}) for second in (3, 1, 2)]
    put(mine, *made)
    put(others, run(NOON, open_=True))
    put(mine, run(NOON + 9))
    expected = [as_read(made[1]), as_read(made[2]), as_read(made[0])]
    assert others.abandoned("default", "me", NOON) == expected
    assert others.abandoned("default", "me", NOON, limit=2) == expected[:2]
    assert others.abandoned("default", "nobody", NOON) == []
    put(others, RunRecord(made[1].line, made[1].data, known=True))  # which takes it over
    assert mine.abandoned("default", "me", NOON) == expected[1:]


def test_open_runs_that_began_before_a_moment_are_found_whoever_has_them(make: Callable[..., Adapters]) -> None:
    records = make(owner="me").records
    made = [run(NOON + second, open_=True) for second in range(5)]
    put(records, *made)
    put(make(owner="them").records, ended(made[0]))
    put(records, run(NOON + 1))
    assert records.abandoned("default", None, NOON + 3) == [as_read(made[1]), as_read(made[2])]
    assert records.abandoned("default", None, NOON + 3, limit=1) == [as_read(made[1])]
    assert records.abandoned("default", None, NOON) == []


# -- what is old


def test_runs_older_than_their_workflow_keeps_them_go(records: Records, in_folders: None) -> None:
    now = time.time()
    made = {
        "old": run(now - 100, workflow_id="short"),
        "young": run(now - 10, workflow_id="short"),
        "kept": run(now - 100, workflow_id="long"),
        "open": run(now - 100, workflow_id="short", open_=True),
    }
    put(records, *made.values())
    assert records.prune("default", lambda workflow_id: 50.0 if workflow_id == "short" else 500.0) == 1
    assert {line.id for line in lines(records)} == {made[name].line.id for name in ("young", "kept", "open")}
    assert records.get("default", made["old"].line.id) is None
    assert records.prune("default", lambda _: 0.0, time.monotonic() - 1) == 0
    assert records.prune("default", lambda _: 0.0) == 2


def test_the_oldest_go_when_all_are_too_large(make: Callable[..., Adapters], in_folders: None) -> None:
    records = make(runs_max_mb=3.0).records
    made = [run(NOON + second, data={"text": "x" * 3500}) for second in range(1200)]
    put(records, *made, run(NOON - 5, open_=True))
    gone = records.prune("default", None)
    assert 400 <= gone <= 800
    left = lines(records, limit=1000)
    assert [line.id for line in left] == [one.line.id for one in reversed(made[gone:])] + [left[-1].id]
    assert left[-1].ended is None
    assert records.prune("default", None) == 0


@pytest.mark.parametrize(("days", "kept"), [(0.001, 1), (1, 1), (1.5, 3), (7, 7), (8, 14), (91, 180), (3651, 36_500), (36_500, 36_500)])
def test_a_bucket_keeps_records_as_long_as_asked_or_a_little_longer(days: float, kept: int) -> None:
    assert keep_class(days) == kept
    assert keep_class(days) in KEEP_CLASSES


def test_a_record_that_is_kept_for_a_time_of_its_own_says_so_to_the_bucket(adapters: Adapters) -> None:
    if not isinstance(adapters.records, S3Records):
        pytest.skip("folders look at the workflow when they delete")
    with s3_server.server().counting() as seen:
        put(adapters.records, run()._replace(keep_days=6.0))
    [request] = seen
    assert request.key.startswith("kept/default/0/")
    assert request.headers["x-amz-tagging"] == "days=7"


# -- what it costs in a bucket


def test_a_run_that_somebody_waited_for_is_one_put(adapters: Adapters) -> None:
    if not isinstance(adapters.records, S3Records):
        pytest.skip("there is no bucket")
    with s3_server.server().counting() as seen:
        put(adapters.records, run(error="no luck", status="failed"))
    assert [(request.method, request.bucket) for request in seen] == [("PUT", bucket_of(adapters.place))]


def test_a_page_of_a_bucket_s_runs_opens_none_that_is_over(adapters: Adapters) -> None:
    if not isinstance(adapters.records, S3Records):
        pytest.skip("there is no bucket")
    put(adapters.records, *(run(NOON + second) for second in range(30)))
    with s3_server.server().counting() as seen:
        assert len(adapters.records.find("default", RunQuery(limit=10)).lines) == 10
    assert len(seen) == 3  # those that are over, those kept for a time of their own, and those that go on
    assert all("list-type" in request.query for request in seen)


def test_an_end_that_was_put_counts_though_the_open_run_could_not_be_deleted(adapters: Adapters) -> None:
    if not isinstance(adapters.records, S3Records):
        pytest.skip("there is no bucket")
    records, accepted = adapters.records, run(open_=True)
    put(records, accepted)
    over = ended(accepted)
    records.write("default", [over._replace(known=False)])  # as if it had been cut off before the delete
    assert records.get("default", accepted.line.id) == as_read(over)
    assert lines(records) == [over.line]
    assert records.abandoned("default", None, NOON + 3600) == []
    assert lines(records, statuses=("queued", "running")) == []  # whoever looked for abandoned runs has tidied up


# -- many at once, and projects


def test_threads_and_processes_that_write_at_once_lose_nothing(make: Callable[..., Adapters]) -> None:
    adapters = make(busy_timeout=60.0)
    others = [elsewhere(adapters, "write_runs", number, 20) for number in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(adapters.records.write, "default", [some_run(9, n)]) for n in range(40)]:
            done.result()
    finish(*others)
    found = lines(adapters.records, limit=17)
    assert len({line.id for line in found}) == len(found) == 80
    assert sorted({(line.workflow_id, line.version) for line in found}) == sorted(
        [("of-9", n) for n in range(40)] + [(f"of-{who}", n) for who in range(2) for n in range(20)]
    )


def everything(records: Records, project: str) -> Sequence[Callable[[], object]]:
    """Every call but `since`, which a bucket has not."""
    run_id = new_run_id(NOON)
    return (
        lambda: records.write(project, [run()]),
        lambda: records.write(project, [run(open_=True)]),
        lambda: records.write(project, [], [run_id]),
        lambda: records.get(project, run_id),
        lambda: records.find(project, RunQuery()),
        lambda: records.ask_to_stop(project, run_id),
        lambda: records.asked_to_stop(project, [run_id]),
        lambda: records.abandoned(project, None, NOON),
    )


def test_an_unknown_project_is_not_found(records: Records) -> None:
    for slug in ("nobody", "..", "../default", "", "Default", "a/b"):
        for call in everything(records, slug):
            with pytest.raises(NotFound):
                call()


def test_projects_do_not_see_each_other(records: Records, projects: Projects) -> None:
    projects.create("one")
    projects.create("two")
    made = run()
    records.write("one", [made])
    assert records.get("two", made.line.id) is None
    assert records.find("two", RunQuery()).lines == []
    assert records.find("one", RunQuery()).lines == [made.line]
    assert records.find("default", RunQuery()).lines == []


def test_the_runs_of_a_project_go_with_it_and_a_new_one_has_none(make: Callable[..., Adapters]) -> None:
    here, there = make(), make()
    here.projects.create("shop")
    over, going = run(), run(NOON + 1, open_=True)
    here.records.write("shop", [over, going, run(NOON + 2)._replace(keep_days=3.0)])
    here.records.ask_to_stop("shop", going.line.id)
    assert there.records.find("shop", RunQuery(limit=1)).lines
    there.projects.delete("shop")
    with pytest.raises(NotFound):
        here.records.write("shop", [run()])
    with pytest.raises(NotFound):
        here.records.find("shop", RunQuery())
    there.projects.create("shop")
    assert here.records.find("shop", RunQuery()).lines == []
    assert here.records.get("shop", over.line.id) is None
    late = run(NOON + 5)
    here.records.write("shop", [late])
    assert there.records.find("shop", RunQuery()).lines == [late.line]
