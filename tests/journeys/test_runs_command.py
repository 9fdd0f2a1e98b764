"""`mechaway runs`, as people and programs use it: beside a server, and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.server import EXAMPLES, Server, chain, environment, hook, lua, mechaway, until

COMMAND = [sys.executable, "-m", "mechaway_core.cli"]
ORDERS: dict[str, Any] = {
    "id": "orders",
    "nodes": [
        hook("/new"),
        lua("price", "log('pricing', item.n) return {n = item.n}"),
        lua("check", "if item.n > 5 then error('too many: ' .. item.n) end return data"),
        lua("note", "return {}"),
        lua("join", "return {count = #data}"),
    ],
    "edges": [
        {"from": "hook", "to": "price"},
        {"from": "price", "to": "check"},
        {"from": "hook", "to": "note"},
        {"from": "check", "to": "join"},
        {"from": "note", "to": "join"},
    ],
}


def runs(data: Path, *words: str, **options: Any) -> str:
    """What `mechaway runs` prints."""
    done = mechaway("runs", *words, "--data-dir", str(data), **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(data: Path, *words: str) -> list[dict[str, Any]]:
    """The runs that `mechaway runs` lists."""
    found: list[dict[str, Any]] = json.loads(runs(data, *words, "--json"))
    return found


def call(server: Server, path: str, body: Any) -> str:
    """Call a webhook; the id of its run."""
    return server.http.post(f"/webhook/{path}", json=body).headers["mechaway-run-id"]


def ended(server: Server, run_id: str) -> Callable[[], dict[str, Any] | None]:
    """The record of a run that is over."""

    def found() -> dict[str, Any] | None:
        record: dict[str, Any] = server.http.get(f"/api/runs/{run_id}").json()
        return record if record["ended_at"] is not None else None

    return found


def new_run(said: str) -> str:
    """The run that a line of `replay` names first."""
    found = re.match(r"run (\S+) repeats run ", said)
    assert found is not None, said
    return found[1]


def without_times(said: str) -> list[str]:
    """Lines with `T` for each span of time, and one blank for many inside them."""
    lines = (re.sub(r"\d[\d.]* (?:ms|s)\b", "T", line) for line in said.splitlines())
    return [re.sub(r"(?<=\S) {2,}", "  ", line) for line in lines]


def on_terminal(*words: str, columns: int) -> str:
    """What a command prints on a terminal."""
    screen, its_end = pty.openpty()
    env = environment({}) | {"COLUMNS": str(columns)}
    with subprocess.Popen([*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=its_end, env=env) as process:
        os.close(its_end)
        pieces = []
        while True:
            try:
                piece = os.read(screen, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
    os.close(screen)
    assert process.returncode == 0
    return b"".join(pieces).decode()


# -- lists


def test_it_lists_what_is_on_record_newest_first_as_the_api_has_it(server: Server) -> None:
    server.save(ORDERS)
    good, bad = call(server, "orders/new", {"n": 1}), call(server, "orders/new", {"n": 9})
    assert (
        listed(server.data, "--workflow", "orders", "--limit", "2") == server.http.get("/api/runs?workflow=orders&limit=2").json()["runs"]
    )
    lines = runs(server.data, "--workflow", "orders", "--limit", "2").splitlines()
    assert lines[0].split() == ["run", "when", "workflow", "status", "took", "trigger"]
    assert [line.split()[0] for line in lines[1:]] == [bad, good]
    assert re.search(r"orders    failed     +[\d.]+ ms  webhook  node \"check\": line 1: too many: 9$", lines[1])
    assert "\x1b" not in "".join(lines)


def test_filters_narrow_a_list(server: Server) -> None:
    server.save(ORDERS)
    bad = call(server, "orders/new", {"n": 77_001})
    by_hand = server.record("orders", items=[{"n": 1}])["run_id"]
    assert [one["run_id"] for one in listed(server.data, "--text", "TOO MANY: 77001")] == [bad]
    assert {one["status"] for one in listed(server.data, "--status", "failed", "cancelled")} == {"failed"}
    assert listed(server.data, "--trigger", "manual", "--limit", "1")[0]["run_id"] == by_hand
    began = listed(server.data, "--trigger", "manual", "--limit", "1")[0]["started_at"]
    assert by_hand in [one["run_id"] for one in listed(server.data, "--since", began)]
    assert by_hand in [one["run_id"] for one in listed(server.data, "--since", "1h")]
    assert by_hand not in [one["run_id"] for one in listed(server.data, "--until", began)]
    assert listed(server.data, "--until", "30d") == []
    assert runs(server.data, "--workflow", "nobody") == 'no run of project "default" on record fits\n'


def test_a_search_goes_on_where_a_page_of_the_api_ends(data: Path) -> None:
    with Server(data) as server:
        server.save(chain("plain", hook()))
        first = server.record("plain", items=[{"sought": "needle"}])["run_id"]
        for _ in range(520):  # more than one page is looked through for
            server.record("plain", items=[{}])
        page = server.http.get("/api/runs?text=needle").json()
        assert (page["runs"], page["next"] is None) == ([], False)
        assert [one["run_id"] for one in listed(data, "--text", "needle")] == [first]
        done = mechaway("runs", "--limit", "3", "--data-dir", str(data))
        assert len(done.stdout.splitlines()) == 4
        assert "there may be more; --limit 30 lists them" in done.stderr


def test_a_terminal_has_colours_and_lines_of_its_width(server: Server) -> None:
    server.save(chain("long", hook(), lua("work", "error(string.rep('x', 500))")))
    call(server, "long/", {})
    said = on_terminal("runs", "--workflow", "long", "--data-dir", str(server.data), columns=140)
    assert "\x1b[31mfailed" in said
    line = re.sub(r"\x1b\[\d+m", "", said.splitlines()[1])
    assert line.endswith("x…")
    assert len(line) == 140
    assert "x" * 400 in runs(server.data, "--workflow", "long")


# -- one run


def test_a_record_is_shown_as_a_tree_with_the_error_below_the_node_that_failed(server: Server) -> None:
    server.save(ORDERS)
    good, bad = call(server, "orders/new", {"n": 1}), call(server, "orders/new", {"n": 9})
    lines = without_times(runs(server.data, "show", good))
    assert re.fullmatch(r"✓ succeeded · orders, version \d+ · webhook · \d{4}-\d\d-\d\d \d\d:\d\d:\d\d · T", lines[0])
    assert lines[1:] == [
        "  ✓ hook  Webhook  T  1 → 1",
        "    ✓ price  FunLogic  T  1 → 1",
        "      ✓ check  FunLogic  T  1 → 1",
        "    ✓ note  FunLogic  T  1 → 1",
        "      ✓ join  FunLogic  T  2 → 1",
    ]
    lines = without_times(runs(server.data, "show", bad))
    assert lines[0].startswith("✗ failed · ")
    assert lines[3:5] == ["      ✗ check  FunLogic  T  1 → –", '          script: node "check": line 1: too many: 9']
    assert json.loads(runs(server.data, "show", bad, "--json")) == server.http.get(f"/api/runs/{bad}").json()
    assert runs(server.data, "show", bad) == mechaway("run", "show", bad, "--data-dir", str(server.data)).stdout


def test_log_and_items_are_shown_when_asked_for(server: Server) -> None:
    server.save(ORDERS)
    lines = runs(server.data, "show", call(server, "orders/new", {"n": 4}), "--log", "--items").splitlines()
    at = lines.index('        out by main: {"n": 4}')
    assert lines[at - 2].split() == ["log:", "pricing", "4"]
    assert lines[at - 1] == '        in: {"n": 4}'


def test_exits_attempts_skipped_and_failed_items_are_told(server: Server) -> None:
    risky = lua("risky", "error('no')", on_error="branch", retry={"attempts": 2, "delay": 0.001})
    nodes = [hook(), risky, lua("fine", "return data"), lua("sorry", "return {}")]
    edges = [{"from": "hook", "to": "risky"}, {"from": "risky", "to": "fine"}, {"from": "risky", "to": "sorry", "on": "error"}]
    server.save({"id": "forked", "nodes": nodes, "edges": edges})
    assert without_times(runs(server.data, "show", call(server, "forked/", {})))[2:] == [
        "    ✓ risky  FunLogic  T  1 → 1 by error, 2 attempts, 1 failed",
        '        script: node "risky": line 1: no',
        "      – fine  FunLogic  –  skipped",
        "      ✓ sorry  FunLogic  T  1 → 1",
    ]


def test_what_a_terminal_would_obey_is_shown_as_text(server: Server) -> None:
    server.save(chain("rude", hook(), lua("work", "log('\\27]0;title\\7') error('\\27[2J gone')")))
    run_id = call(server, "rude/", {})
    said = runs(server.data, "show", run_id, "--log") + runs(server.data, "--workflow", "rude")
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "\\x1b[2J gone" in said


def test_an_output_without_the_marks_gets_plain_ones(server: Server) -> None:
    server.save(ORDERS)
    run_id = call(server, "orders/new", {"n": 9})
    env = environment({}) | {"PYTHONIOENCODING": "ascii"}
    words = [*COMMAND, "runs", "show", run_id, "--data-dir", str(server.data)]
    said = subprocess.run(words, capture_output=True, check=True, env=env).stdout.decode("ascii")
    assert said.startswith("x failed | orders, version ")
    assert "\n  + hook " in said
    assert "1 -> 1" in said


def test_the_record_of_a_workflow_that_is_gone_is_still_shown(server: Server) -> None:
    server.save(chain("gone", hook(), lua("work", "return data")))
    run_id = call(server, "gone/", {})
    server.http.delete("/api/workflows/gone")
    assert [line.split()[1] for line in runs(server.data, "show", run_id).splitlines()[1:]] == ["hook", "work"]


def test_a_run_that_was_lost_is_shown_with_what_it_began_with(data: Path) -> None:
    endless = lua("endless", "while true do end", params={"script": "while true do end", "timeout": 60})
    with Server(data) as server:
        server.save(chain("cut", hook(mode="accept"), endless, settings={"on_lost": "fail"}))
        run_id = server.http.post("/webhook/cut/", json={"n": 1}).json()["run_id"]
        until(lambda: listed(data, "--status", "running"), "its first node")
        shown = without_times(runs(data, "show", run_id))
        assert shown[0].startswith("* running · cut, version 1 · webhook · ")
        server.kill()
    with Server(data) as server:
        until(ended(server, run_id), "somebody who looks after it")
        lines = runs(data, "show", run_id, "--items").splitlines()
        assert lines[0].startswith("✗ failed · cut, version 1 · webhook · ")
        assert lines[1].startswith("  lost: its process ended while the run went on")
        assert lines[2:] == ['  in: {"n": 1}', "  no node of it is on record"]


def test_run_show_means_the_file_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "show").write_text((EXAMPLES / "poc.json").read_text())
    words = [
        *COMMAND,
        "run",
        "show",
        "--webhook",
        "/grade",
        "--data",
        '{"student_id": "s1", "score": 85}',
        "--data-dir",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment({"lua_workers": 1}))
    assert re.search(r"^. succeeded · .*, not saved · ", done.stdout, re.MULTILINE)


# -- again


def test_a_replay_begins_in_the_server_whatever_the_workflow_says_about_lost_runs(server: Server) -> None:
    strict = chain(
        "strict", hook("/new"), lua("work", "if item.n > 5 then error('no') end return {key = run.key}"), settings={"on_lost": "fail"}
    )
    server.save(strict)
    bad = call(server, "strict/new", {"n": 9})
    said = runs(server.data, "replay", bad)
    assert said.endswith(f" repeats run {bad} and begins in the server within seconds\n")
    record = until(ended(server, new_run(said)), "the end of the replay")
    assert (record["status"], record["trigger"], record["parent"]) == ("failed", "replay", bad)
    assert record["error"]["type"] == "script"
    given = runs(server.data, "replay", bad, "--from", "work", "--items", "-", given=b'{"n": 2}')
    record = until(ended(server, new_run(given)), "the end of the replay with other items")
    assert (record["status"], record["nodes"][1]["input"]) == ("succeeded", [{"n": 2}])
    lines = runs(server.data, "show", record["run_id"]).splitlines()
    assert lines[0].endswith(f" · repeats {bad}")
    assert lines[1].startswith("  ↻ hook")
    assert lines[1].endswith("1 → 1, from the earlier run")


def test_a_replay_without_a_server_begins_when_one_is_started(data: Path) -> None:
    with Server(data) as server:
        server.save(ORDERS)
        bad = call(server, "orders/new", {"n": 9})
        server.save(ORDERS | {"nodes": [*ORDERS["nodes"][:2], lua("check", "return data"), *ORDERS["nodes"][3:]]})
    said = runs(data, "replay", bad)
    assert said.endswith(f"and begins when a server is started for {data}: none runs now\n")
    old = runs(data, "replay", bad, "--version", "same", "--json")
    waiting = listed(data, "--status", "queued")
    assert {one["run_id"] for one in waiting} == {new_run(said), json.loads(old)["run_id"]}
    shown = runs(data, "show", new_run(said)).splitlines()
    assert shown[0].startswith("* queued · orders, version 2 · replay · ")
    assert shown[1] == "  nothing is on record yet of what its nodes did"
    with Server(data) as server:
        assert until(ended(server, new_run(said)), "the replay by the current version")["status"] == "succeeded"
        assert until(ended(server, json.loads(old)["run_id"]), "the replay by the same version")["status"] == "failed"


def test_a_replay_by_filter_only_tells_before_it_is_confirmed(data: Path) -> None:
    with Server(data) as server:
        server.save(ORDERS)
        bad = [call(server, "orders/new", {"n": n}) for n in (7, 8)]
        call(server, "orders/new", {"n": 1})
        told = runs(data, "replay", "--status", "failed", "--workflow", "orders")
        assert told.splitlines() == [*bad, "2 runs would be repeated; --yes does it"]
        assert listed(data, "--trigger", "replay") == []
        said = runs(data, "replay", "--status", "failed", "--workflow", "orders", "--yes").splitlines()
        assert said[-1] == "2 runs repeated: each begins in the server within seconds"
        assert [line.split()[1] for line in said[:-1]] == bad
        for line in said[:-1]:
            until(ended(server, line.split()[-1]), "the end of a replay")
        done = mechaway("runs", "replay", "--status", "succeeded", "--yes", "--data-dir", str(data))
        assert done.returncode == 1
        assert "is not repeated: " in done.stdout
        assert "succeeded; to run it again, say from" in done.stdout


# -- stop, and what happens


def test_a_run_that_goes_on_is_stopped_and_one_that_is_over_is_not(data: Path) -> None:
    busy = lua("busy", "local e = os.clock() + 2 while os.clock() < e do end return data")
    with Server(data) as server:
        server.save(chain("slow", hook(mode="accept"), busy, lua("after", "return data")))
        run_id = server.http.post("/webhook/slow/", json={}).json()["run_id"]
        assert runs(data, "cancel", run_id) == f"run {run_id} was asked to stop\n"
        assert until(ended(server, run_id), "the end of a run that was asked to stop")["status"] == "cancelled"
        done = mechaway("runs", "cancel", run_id, "--data-dir", str(data))
        assert (done.returncode, done.stderr) == (1, f"mechaway: run {run_id} is over already (cancelled)\n")


def test_tail_tells_what_happens_from_now_on_until_it_is_stopped(data: Path) -> None:
    with Server(data) as server:
        server.save(ORDERS)
        before = call(server, "orders/new", {"n": 9})
        out = data.parent / "tail.out"
        with open(out, "wb") as file:
            words = [*COMMAND, "runs", "tail", "--status", "failed", "--data-dir", str(data)]
            # Whoever runs these tests in the background ignores Ctrl-C, and so would what they start.
            tail = subprocess.Popen(
                words, stdout=file, env=environment({}), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
            )
        try:

            def told() -> list[str] | None:  # nobody knows when it has begun to watch, so there is another run until it has
                call(server, "orders/new", {"n": 1})
                call(server, "orders/new", {"n": 8})
                return out.read_text().splitlines() or None

            lines = until(told, "the first line")
        finally:
            tail.send_signal(signal.SIGINT)
            tail.wait()
    assert tail.returncode == 130
    assert all(re.search(r"failed .* webhook  node \"check\": line 1: too many: 8$", line) for line in lines)
    assert not any(line.startswith(before) for line in lines)


# -- mistakes


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "nope"], 'there is no run "nope" on record'),
        (["cancel", "nope"], 'there is no run "nope" on record'),
        (["replay", "nope"], 'there is no run "nope" on record'),
        (["replay"], "say which run by its id, or which runs by --workflow, --status"),
        (["replay", "nope", "--workflow", "orders"], "say either the id of a run or a filter"),
        (["replay", "--workflow", "orders", "--items", "-"], "--items is for one run, said by its id"),
        (["replay", "nope", "--items", "/nowhere.json"], "/nowhere.json cannot be read: No such file"),
        (["--since", "yesterday"], "--since takes a time such as 2026-12-24T18:00"),
        (["--limit", "0"], "--limit must be within 1 and 100000, not 0"),
        (["--project", "nowhere"], 'there is no project "nowhere"'),
        (["--project", "nowhere", "tail"], 'there is no project "nowhere"'),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(words: list[str], sentence: str, server: Server) -> None:
    done = mechaway("runs", *words, "--data-dir", str(server.data), given=b"[]")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mechaway: {sentence}")
    assert done.stdout == ""
