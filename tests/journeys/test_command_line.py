"""The command line, as people and programs use it."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.server import EXAMPLES, Server, chain, echo, hook, lua, mechaway, problem, until

BROKEN: dict[str, Any] = chain("broken", hook(), lua("bad", "return (1"), {"id": "x", "node_type": "FunLogik", "params": {}})
SENT = '{"student_id": "s123", "score": 85}'


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


# -- check


def test_check_says_ok(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", echo("a"))
    done = mechaway("check", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: ok\n", "")


def test_check_says_what_the_api_says(tmp_path: Path, server: Server) -> None:
    told = problem(server.http.post("/api/workflows", json=BROKEN), 422)["errors"]
    good, bad = write(tmp_path / "good.json", echo("a")), write(tmp_path / "bad.json", BROKEN)
    done = mechaway("check", str(good), str(bad))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{good}: ok", *[f"{bad}: error: {one['pointer']}: {one['message']}" for one in told]]
    report = json.loads(mechaway("check", "--json", str(good), str(bad)).stdout)
    assert report == [
        {"file": str(good), "errors": [], "warnings": []},
        {"file": str(bad), "errors": told, "warnings": report[1]["warnings"]},
    ]


def test_check_reads_yaml_and_tells_where_it_is_broken(tmp_path: Path) -> None:
    good = write(tmp_path / "good.yml", "id: a\nnodes:\n  - {id: hook, node_type: Webhook, params: {path: /}}\n")
    bad = write(tmp_path / "bad.yaml", "id: a\nnodes: [\n  {id: x\n")
    date = write(tmp_path / "date.yaml", "id: a\nmeta: 2024-01-01\nnodes: []\n")
    tag = write(tmp_path / "tag.yaml", "id: !!python/object/apply:os.system ['true']\n")
    done = mechaway("check", *map(str, (good, bad, date, tag)))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"{good}: ok"
    assert "line" in lines[1]
    assert len(lines) == 4
    assert done.stderr == ""


def test_the_word_on_is_a_word_in_yaml(tmp_path: Path) -> None:
    """YAML 1.1 takes `on`, `off`, `yes` and `no` for truth values, and then no edge could say by which exit it leaves."""
    text = """
id: x
nodes:
  - {id: hook, node_type: Webhook, params: {path: /}}
  - {id: bad, node_type: FunLogic, on_error: branch, params: {script: error("no")}}
  - {id: saved, node_type: FunLogic, params: {script: return 1}}
edges:
  - {from: hook, to: bad}
  - {from: bad, to: saved, on: error}
"""
    file = write(tmp_path / "on.yaml", text)
    done = mechaway("check", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: ok\n")


def test_a_yaml_file_that_unfolds_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """The "billion laughs": nine lines of aliases that stand for 9^9 words."""
    levels = "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    bomb = write(tmp_path / "bomb.yaml", f"a: &a [{', '.join('x' * 9)}]\n{levels}")
    done = mechaway("check", str(bomb), prepare=_little_memory)
    assert (done.returncode, done.stderr) == (1, "")
    assert str(bomb) in done.stdout


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))


def test_check_of_files_that_hold_no_document_is_a_sentence_each(tmp_path: Path) -> None:
    contents = ["", "{", "[]", "5", "null", '"x"', "\ufeff{}", "{}{}"]
    files = [write(tmp_path / f"{number}{suffix}", text) for number, text in enumerate(contents) for suffix in (".json", ".yaml")]
    done = mechaway("check", *map(str, files))
    assert (done.returncode, done.stderr) == (1, "")
    for file in files:
        assert f"{file}: error: " in done.stdout


def test_check_of_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    unreadable = [str(path) for path in (tmp_path / "none.json", tmp_path, tmp_path / "bytes.yaml", tmp_path / "bytes.json")]
    done = mechaway("check", *unreadable, str(write(tmp_path / "good.json", echo("a"))))
    assert (done.returncode, done.stderr) == (1, "")
    assert "good.json: ok" in done.stdout
    for path in unreadable:
        assert f"{path}: error: " in done.stdout


# -- run


def test_run_shows_what_each_node_took_and_gave(tmp_path: Path) -> None:
    done = mechaway("run", str(EXAMPLES / "poc.json"), "--webhook", "/grade", "--data", SENT, "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("hook", "grade", "save", "succeeded", '"doubled_score": 170'):
        assert word in done.stdout


def test_run_takes_its_data_from_a_file_or_standard_input(tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", SENT)
    arguments = ["run", str(EXAMPLES / "poc.json"), "--json", "--data-dir", str(tmp_path / "data"), "--data"]
    for number, (given, stdin) in enumerate([(f"@{file}", b""), ("-", SENT.encode()), (SENT, b""), (f"[{SENT}]", b"")], start=1):
        done = mechaway(*arguments, given, given=stdin)
        record = json.loads(done.stdout)
        assert (done.returncode, record["status"], record["trigger"]) == (0, "succeeded", "manual")
        assert record["output"][0]["_inserted_id"] == number


def test_run_that_fails_exits_with_1(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", echo("w", "error('no luck')"))
    where = ["--data-dir", str(tmp_path / "data")]
    done = mechaway("run", str(file), *where)
    assert done.returncode == 1
    assert "no luck" in done.stdout
    done = mechaway("run", str(file), "--json", *where)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, "failed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "{"],
        ["--data", "@none.json"],
        ["--data", "@"],
        ["--data", ""],
        ["--webhook", "/none"],
        ["--webhook", "/", "--method", "BREW"],
        ["--webhook", "/", "--header", "nonsense"],
        ["--node", "none"],
        ["--node", "work"],
        ["--project", "none"],
        ["--project", "../x"],
    ],
)
def test_run_that_cannot_begin_is_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    file = write(tmp_path / "w.json", echo("w", path="/x", method="POST"))
    done = mechaway("run", str(file), "--data-dir", str(tmp_path / "data"), *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mechaway: ")
    assert len(done.stderr.splitlines()) == 1


def test_run_of_a_broken_file_says_what_check_says(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.json", BROKEN)
    done = mechaway("run", str(file), "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == mechaway("check", str(file)).stdout.splitlines()
    for path in (tmp_path / "none.json", tmp_path):
        done = mechaway("run", str(path))
        assert done.returncode == 1
        assert done.stderr.startswith("mechaway: ")


def test_run_calls_a_webhook_with_query_headers_and_method(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", chain("w", hook("/a/:name"), lua("work", "return {query.q, path.name, headers['x-one']}")))
    done = mechaway(
        "run",
        str(file),
        "--webhook",
        "/a/b%20c?q=1",
        "--header",
        "X-One: two",
        "--json",
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert json.loads(done.stdout)["output"] == ["1", "b c", "two"]


# -- settings


def test_settings_are_all_printed_with_value_default_and_help() -> None:
    rows = {row["name"]: row for row in json.loads(mechaway("settings", "--json", settings={"port": 4000, "api_token": "hidden"}).stdout)}
    assert (rows["MECHAWAY_PORT"]["value"], rows["MECHAWAY_PORT"]["default"]) == (4000, 3004)
    assert rows["MECHAWAY_HOST"]["value"] == "127.0.0.1"
    assert all(row["help"] for row in rows.values())
    assert "hidden" not in str(rows)
    text = mechaway("settings", settings={"port": 4000}).stdout
    assert all(name in text for name in rows)
    assert "MECHAWAY_PORT = 4000" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", "70000"),
        ("port", "-1"),
        ("workers", "0"),
        ("max_body_mb", "nan"),
        ("run_timeout", "-1"),
        ("sync", "maybe"),
        ("grace", "inf"),
        ("port", "1e3"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(name: str, value: str) -> None:
    done = mechaway("dev" if name == "workers" else "settings", settings={name: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"MECHAWAY_{name.upper()}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_token_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    done = mechaway("dev", "--port", "0", "--data-dir", str(tmp_path / "data"), settings={"api_token": "\udcff"})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_several_wrong_settings_are_told_together() -> None:
    done = mechaway("settings", settings={"port": "x", "workers": "y"})
    assert "MECHAWAY_PORT" in done.stderr
    assert "MECHAWAY_WORKERS" in done.stderr


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for extra in ([], ["--workers", "2"]):
            done = mechaway("dev", "--port", port, "--data-dir", str(tmp_path / "data"), *extra)
            assert (done.returncode, done.stdout) == (1, "")
            assert port in done.stderr
            assert len(done.stderr.splitlines()) == 1
    done = mechaway("dev", "--host", "no-such-host.invalid", "--port", "0", settings={"api_token": "x"})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_what_is_not_a_command_exits_with_2() -> None:
    for arguments in ([], ["nonsense"], ["dev", "--port", "x"], ["run"], ["check"]):
        assert mechaway(*arguments).returncode == 2
    assert mechaway("--version").stdout.startswith("mechaway ")
    assert "Start with: mechaway dev" in " ".join(mechaway("--help").stdout.split())


# -- watch


def test_a_watched_folder_is_loaded_now_and_when_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    write(folder / "one.json", echo("one", "return 1"))
    write(folder / "bad.json", BROKEN)
    write(folder / "torn.json", "{")
    write(folder / "notes.txt", "not a workflow")
    (folder / ".hidden").mkdir()
    write(folder / ".hidden" / "x.json", echo("hidden"))
    with Server(tmp_path / "data", "--watch", str(folder)) as server:
        assert server.http.post("/webhook/one").json() == 1
        assert server.http.post("/webhook/hidden").status_code == 404
        for name in ("bad.json", "torn.json"):
            assert f"{folder / name}: not saved" in server.out
        assert "/nodes/1/params/script" in server.out

        write(folder / "one.json", echo("one", "return 2"))
        until(lambda: server.http.post("/webhook/one").json() == 2, "the change")
        write(folder / "two.yaml", "id: two\nnodes:\n  - {id: hook, node_type: Webhook, params: {path: /, method: any}}\n")
        until(lambda: server.http.post("/webhook/two").status_code == 200, "the new file")
        write(folder / "one.json", echo("one", "return (3"))
        until(lambda: server.out.count("one.json: not saved") == 1, "the report")
        assert server.http.post("/webhook/one").json() == 2
        write(folder / "bad.json", echo("broken", "return 'mended'"))
        until(lambda: server.http.post("/webhook/broken").status_code == 200, "the mended file")
        (folder / "two.yaml").unlink()
        write(folder / "one.json", echo("one", "return 4"))
        until(lambda: server.http.post("/webhook/one").json() == 4, "the change after")
        assert server.http.post("/webhook/two").status_code == 200
    with Server(tmp_path / "data", "--watch", str(folder)) as server:
        assert server.http.get("/api/workflows/one/versions").json()["versions"][0]["version"] == 3


def test_a_folder_that_appears_below_a_watched_one_is_loaded_with_what_is_in_it(tmp_path: Path) -> None:
    folder, beside = tmp_path / "flows", tmp_path / "beside"
    for made in (folder, beside / "deep"):
        made.mkdir(parents=True)
    write(beside / "deep" / "moved.json", echo("moved"))
    with Server(tmp_path / "data", "--watch", str(folder)) as server:
        beside.rename(folder / "beside")
        until(lambda: server.http.post("/webhook/moved").status_code == 200, "the folder that was moved here", 10)


def test_hidden_files_are_left_alone_when_they_change_too(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    (folder / ".git").mkdir(parents=True)
    with Server(tmp_path / "data", "--watch", str(folder)) as server:
        write(folder / ".git" / "a.json", echo("hidden"))
        write(folder / ".b.json", echo("hidden-too"))
        write(folder / "c.json", echo("shown"))
        until(lambda: server.http.post("/webhook/shown").status_code == 200, "the file that is not hidden")
        for name in ("hidden", "hidden-too"):
            assert server.http.post(f"/webhook/{name}").status_code == 404


def test_a_folder_to_watch_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    done = mechaway("dev", "--port", "0", "--watch", str(tmp_path / "none"), "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
