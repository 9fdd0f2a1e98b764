"""Secrets from the outside: the API, the command line, a new master key, and a hunt for canaries in everything that was written."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from mechaway_core.local import build
from mechaway_core.settings import Settings
from tests.contracts.keyrings import master_key
from tests.house.tree import ROOT
from tests.journeys.canaries import Answers, hunt, shapes
from tests.journeys.server import PATIENCE, Server, chain, environment, hook, lua, mechaway, problem, statuses, until

PLUGIN = '''
"""A node type of another package that tells its secret in every way that it can."""

import logging
import threading
import warnings
from typing import Any, ClassVar

from mechaway_core.errors import NodeError
from mechaway_core.node import Context, Items, Node, Response, param


class Leak(Node):
    """Tell a secret."""

    group: ClassVar[str] = "Test"
    uses_secrets: ClassVar[str] = "what is told"

    how: str = param("In which way it is told.")
    auth: Any = param("One more secret.", None, secret=True)

    def run(self, items: Items, ctx: Context) -> Items:
        return getattr(self, self.how)([*ctx.secrets, ctx.reveal(self.auth)], items, ctx)

    def succeed(self, values, items, ctx):
        return [{"sizes": [len(value) for value in values]}]

    def echo(self, values, items, ctx):
        return [{value: {"deep": [f"<{value}>", value.encode().hex()]} for value in values}]

    def refuse(self, values, items, ctx):
        raise NodeError(f"cannot connect with {values}")

    def break_(self, values, items, ctx):
        try:
            raise ValueError(values[0])
        except ValueError as error:
            raise RuntimeError(f"broken by {values!r}") from error

    def tell(self, values, items, ctx):
        for value in values:
            ctx.log(value)
        return items

    def answer(self, values, items, ctx):
        ctx.respond(Response(200, {"x-key": values[0]}, {"keys": values}))
        return items

    def script(self, values, items, ctx):
        return [ctx.lua("log(data.keys[1]); error(data.keys[2])", [{"keys": values}])]

    def library(self, values, items, ctx):
        for name in ("httpx", "httpcore", "psycopg.pool", "some.library"):
            logging.getLogger(name).debug("debug %s", values)
            logging.getLogger(name).info("info %s", values)
            logging.getLogger(name).error("error %s", values)
        warnings.warn(f"beware of {values}")
        return items

    def thread(self, values, items, ctx):
        def fail():
            raise RuntimeError(f"a thread with {values}")

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        return items

    def late(self, values, items, ctx):
        class Late:
            def __del__(self):
                raise RuntimeError(f"too late for {values}")

        Late()
        return items

    def table(self, values, items, ctx):
        from mechaway_core.ports import Column

        ctx.write_tables(lambda session: session.query("SELECT * FROM no_such_table WHERE x = '" + values[0] + "'"))
        return items
'''

WAYS = ("succeed", "echo", "refuse", "break_", "tell", "answer", "script", "library", "thread", "late", "table")

KEY = "c4nary-one/with+odd=characters"
URL = "postgresql://app:c4nary%20two@localhost:5432/shop"
PARTS = ("c4nary%20two", "c4nary two")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the node type `Leak`, installed for the servers of this test."""
    folder = tmp_path / "site"
    about = folder / "leak-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "leak_plugin.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leak\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mechaway.nodes]\nLeak = leak_plugin:Leak\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def leak(how: str, node_id: str = "leak", **fields: Any) -> dict[str, Any]:
    return {
        "id": node_id,
        "node_type": "Leak",
        "params": {"how": how, "auth": "$secret.URL"},
        "secrets": ["$secret.KEY"],
        **fields,
    }


def put(server: Server, name: str, value: str, project: str | None = None) -> httpx.Response:
    return server.http.put(f"{f'/p/{project}' if project else ''}/api/secrets/{name}", json={"value": value})


# -- the hunt


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_canary_gets_out_whatever_fails(plugin: None, data: Path, form: str) -> None:
    """By a node type that tells its secret in every way; `test_canaries.py` has the node types that are there."""
    answers, keep = (heard := Answers()).texts, heard.keep

    with Server(data, log=form) as server:
        keep(put(server, "KEY", KEY))
        keep(put(server, "URL", URL))
        for number, how in enumerate(WAYS):
            for on_error in ("stop", "continue"):
                look = lua("look", "log(json.encode(data)); return {seen = data, headers = headers, query = query}")
                save = {
                    "id": "save",
                    "node_type": "SimpleTableWriter",
                    "params": {"table": "seen", "columns": ["seen", "headers", "query"]},
                }
                document = chain(f"w{number}", hook(), leak(how, on_error=on_error), look, save)
                server.save(document)
                keep(server.http.post(f"/webhook/w{number}", json={"x": 1}))
                keep(
                    server.http.post(f"/webhook/w{number}?key={quote(KEY)}", json={KEY: [KEY]}, headers={"authorization": f"Bearer {KEY}"})
                )
                keep(server.http.post(f"/api/workflows/w{number}/run", json={"items": [{"x": KEY}]}))
            keep(server.http.get(f"/api/workflows/w{number}"))
        ran = [answer for answer in answers if b"mechaway-run-id" in answer]
        assert len(ran) == len(WAYS) * 6
        assert b'"sizes":[30,' in b"".join(answers)  # the nodes did have the secrets
        assert b"[secret KEY]" in b"".join(answers)
        for path in ("secrets", "secrets/KEY", "tables", "tables/seen/rows", "workflows", "node-types"):
            assert keep(server.http.get(f"/api/{path}")).status_code == 200
        assert statuses([keep(put(server, "KEY", KEY * 3000)), keep(put(server, "a/b", KEY)), keep(put(server, "KEY", ""))]) == [
            413,
            422,
            422,
        ]
        keep(server.http.put("/api/secrets/KEY", content=b'{"value": "' + KEY.encode() + b'", }'))
        keep(server.http.put("/api/secrets/KEY", content=b"\xff" + KEY.encode()))
        log = until(lambda: server.err if "too late for" in server.err else None, "the log of the last way")
        for said in ("broken by [", "error [", "beware of [", "a thread with [", "too late for ["):
            assert said in log
        assert "debug [" not in log
        assert "info [" not in log
        hunt(server, answers, (KEY, URL, *PARTS))
        assert b"Traceback" not in b"".join(answers)
        server.kill()
        hunt(server, answers, (KEY, URL, *PARTS))
    with Server(data) as server:
        assert server.http.post("/webhook/w0", json={}).status_code == 200
        hunt(server, answers, (KEY, URL, *PARTS))


def test_a_run_by_hand_prints_no_canary(plugin: None, data: Path, tmp_path: Path) -> None:
    for name, value in (("KEY", KEY), ("URL", URL)):
        assert mechaway("secret", "set", name, "--data-dir", str(data), given=value.encode()).returncode == 0
    for how, *options in (("echo",), ("break_", "--json"), ("tell",), ("answer", "--json"), ("library",), ("late",)):
        file = tmp_path / f"{how}.json"
        file.write_text(json.dumps(chain("w", hook(), leak(how), lua("look", "return data"))))
        done = mechaway("run", str(file), "--data-dir", str(data), *options)
        said = (done.stdout + done.stderr).encode()
        assert [shape for value in (KEY, URL, *PARTS) for shape in shapes(value) if shape in said] == [], how


def test_a_crash_leaves_no_dump(server: Server) -> None:
    limits = Path(f"/proc/{server.process.pid}/limits")
    if not limits.exists():
        pytest.skip("this system does not tell the limits of a process")
    [line] = [line for line in limits.read_text().splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


# -- the API


def test_a_secret_is_kept_changed_listed_and_forgotten(server: Server) -> None:
    made = put(server, "API_KEY", "first value")
    assert (made.status_code, made.headers["location"]) == (201, "/api/secrets/API_KEY")
    assert {"name": "API_KEY", "version": 1}.items() <= made.json().items()
    changed = put(server, "API_KEY", "second value")
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    about = server.http.get("/api/secrets/API_KEY").json()
    assert set(about) == {"name", "version", "created_at", "updated_at"}
    assert about["created_at"] == made.json()["created_at"]
    assert server.http.get("/api/secrets").json() == {"secrets": [about], "next": None}
    assert server.http.delete("/api/secrets/API_KEY").status_code == 200
    problem(server.http.get("/api/secrets/API_KEY"), 404)
    problem(server.http.delete("/api/secrets/API_KEY"), 404)


def test_each_project_has_its_own(server: Server) -> None:
    server.http.post("/api/projects", json={"slug": "shop"})
    made = put(server, "MINE", "value", "shop")
    assert (made.status_code, made.headers["location"]) == (201, "/p/shop/api/secrets/MINE")
    problem(server.http.get("/api/secrets/MINE"), 404)
    assert server.http.get("/p/shop/api/secrets/MINE").status_code == 200
    for answer in (
        put(server, "MINE", "value", "none"),
        server.http.get("/p/none/api/secrets"),
        server.http.delete("/p/none/api/secrets/A"),
    ):
        problem(answer, 404)


def test_a_long_list_goes_on_behind_a_cursor(server: Server) -> None:
    server.http.post("/api/projects", json={"slug": "many"})
    for number in range(5):
        put(server, f"KEY_{number}", "value", "many")
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = server.http.get("/p/many/api/secrets", params={"limit": 2, "cursor": cursor}).json()
        names += [one["name"] for one in page["secrets"]]
        cursor = page["next"]
    assert names == [f"KEY_{number}" for number in range(5)]


@pytest.mark.parametrize("prefix", ["", "/p/default"])
@pytest.mark.parametrize(
    "name", ["a/b", "a%2Fb", "%2e%2e%2fkey", "a%20b", "KEY%0A", "KEY%00", "%E2%82%AC", "1KEY", "a-b", "a" * 129, "%ff", ""]
)
def test_a_name_that_cannot_be_one_is_told_so(server: Server, prefix: str, name: str) -> None:
    for method, body in (("GET", b""), ("PUT", b'{"value": "hunter22"}'), ("DELETE", b"")):
        request = (
            f"{method} {prefix}/api/secrets/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        told = problem(server.raw(request.encode() + body), 422)
        assert "cannot be the name of a secret: a name starts with a letter" in told["detail"]
    problem(server.http.get("/api/secrets/KEY"), 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b'"hunter22"', 400), (b"{}", 422), (b'{"value": 5}', 422), (b'{"value": null}', 422),
        (b'{"value": ""}', 422), (b'{"value": "hunter22", "x": 1}', 422), (b'{"value": "hunter22\\u0000"}', 422),
        (b'{"value": "\\ud800"}', 400),
        (b'{"value": "' + b"x" * 65_537 + b'"}', 413), (b"\xff\xfe", 400),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_one_is_told_so_and_changes_nothing(server: Server, body: bytes, status: int) -> None:
    told = problem(server.http.put("/api/secrets/NEVER", content=body), status)
    assert "hunter22" not in json.dumps(told)
    problem(server.http.get("/api/secrets/NEVER"), 404)


def test_the_api_describes_them(server: Server) -> None:
    described = server.http.get("/openapi.json").json()["paths"]
    assert set(described["/api/secrets"]) == {"get"}
    one = described["/api/secrets/{name}"]
    assert set(one) == {"get", "put", "delete"}
    assert one["put"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["value"]["writeOnly"] is True


def test_a_workflow_may_be_saved_before_its_secrets_and_then_runs(plugin: None, data: Path) -> None:
    with Server(data) as server:
        said = server.save(chain("w", hook(), leak("succeed")))
        assert [one["message"].split(" yet")[0] for one in said["warnings"]] == ['there is no secret "KEY"', 'there is no secret "URL"']
        told = problem(server.http.post("/webhook/w"), 422)
        assert told["node_id"] == "leak"
        assert '"KEY", "URL"' in told["detail"]
        put(server, "KEY", KEY)
        put(server, "URL", URL)
        assert server.http.post("/webhook/w").json() == {"sizes": [len(KEY), len(URL)]}
        put(server, "KEY", "short")
        assert server.http.post("/webhook/w").json()["sizes"][0] == 5
        types = {one["name"]: one for one in server.http.get("/api/node-types").json()["node_types"]}
        assert types["Leak"]["secrets"] == "what is told"


# -- the command line


def test_the_command_line_keeps_lists_and_forgets(data: Path) -> None:
    where = ("--data-dir", str(data))
    done = mechaway("secret", "set", "KEY", *where, given=b"hunter22\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, 'secret "KEY" kept\n', "")
    assert mechaway("secret", "set", "KEY", *where, given=b" two \n\n").stdout == 'secret "KEY" changed (version 2)\n'
    [listed] = json.loads(mechaway("secret", "list", "--json", *where).stdout)
    assert (listed["name"], listed["version"]) == ("KEY", 2)
    assert mechaway("secret", "list", *where).stdout.startswith("KEY  version 2  changed 2")
    app = build(Settings(data_dir=data))
    assert app.vault.values("default", ["KEY"]) == {"KEY": " two \n"}  # one line break is the shell's, the rest is meant
    app.close()
    assert mechaway("secret", "rm", "KEY", *where).stdout == 'secret "KEY" deleted\n'
    assert mechaway("secret", "list", *where).stdout == ""


def test_what_the_command_line_cannot_do_is_a_sentence_without_the_value(data: Path) -> None:
    where = ("--data-dir", str(data))
    for arguments, given in (
        (("set", "a b"), b"hunter22"),
        (("set", "KEY"), b""),
        (("set", "KEY"), b"\n"),
        (("set", "KEY"), b"hunter22\xff"),
        (("set", "KEY"), b"hunter22" * 9000),
        (("set", "KEY", "--project", "none"), b"hunter22"),
        (("rm", "KEY"), b""),
        (("list", "--project", "../x"), b""),
    ):
        done = mechaway("secret", *arguments, *where, given=given)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("mechaway: ")
        assert len(done.stderr.splitlines()) == 1
        assert "hunter22" not in done.stderr
    refused = mechaway("secret", "set", "KEY", "hunter22", *where)
    assert refused.returncode == 2


def test_a_prompt_does_not_show_what_is_typed(data: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mechaway_core.cli", "secret", "set", "KEY", "--data-dir", str(data)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"sync": "normal"}),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0) and None,
    )
    os.close(theirs)
    shown = b""
    while b"(not shown): " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, b"hunter22\n")
    assert process.wait(PATIENCE) == 0
    while b"kept" not in shown:
        shown += os.read(ours, 1000)
    os.close(ours)
    assert b"hunter22" not in shown
    app = build(Settings(data_dir=data))
    assert app.vault.values("default", ["KEY"]) == {"KEY": "hunter22"}
    app.close()


# -- master keys


def test_another_master_key_is_a_clear_error_and_not_garbage(plugin: None, data: Path) -> None:
    with Server(data, master_key=master_key()) as server:
        put(server, "KEY", KEY)
        put(server, "URL", URL)
        server.save(chain("w", hook(), leak("succeed")))
        assert server.http.post("/webhook/w").status_code == 200
        assert not (data / "master.key").exists()
    with Server(data, master_key=master_key()) as server:
        told = problem(server.http.post("/webhook/w"), 422)["detail"]
        assert "were locked with another master key (fingerprint " in told
        assert "MECHAWAY_MASTER_KEY" in told
        assert "another master key" in problem(put(server, "NEW", "value"), 503)["detail"]
        assert server.http.get("/api/secrets/KEY").status_code == 200  # what is known without the key
        assert statuses([server.http.delete(f"/api/secrets/{name}") for name in ("KEY", "URL")]) == [200, 200]
        assert statuses([put(server, name, "again") for name in ("KEY", "URL")]) == [201, 201]
        assert server.http.post("/webhook/w").json() == {"sizes": [5, 5]}


def test_a_master_key_that_cannot_be_one_is_told_at_the_start(data: Path) -> None:
    done = mechaway("dev", "--port", "0", "--data-dir", str(data), settings={"master_key": "hunter22"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "MECHAWAY_MASTER_KEY is not 32 bytes" in done.stderr
    assert "hunter22" not in done.stderr
    shown = mechaway("settings", settings={"master_key": "hunter22"})
    assert "hunter22" not in shown.stdout + shown.stderr


def test_a_running_server_goes_on_through_a_rotation(plugin: None, data: Path) -> None:
    with Server(data, workers=2) as server:
        server.http.post("/api/projects", json={"slug": "shop"})
        for project in (None, "shop"):
            put(server, "KEY", KEY, project)
            put(server, "URL", URL, project)
            server.save(chain("w", hook(), leak("succeed")), project)
        before = (data / "master.key").read_text()
        for _ in range(2):
            done = mechaway("secret", "rotate", "--data-dir", str(data))
            assert (done.returncode, done.stderr) == (0, "")
            assert "the keys of 2 projects are locked with a new master key" in done.stdout
            for _ in range(4):
                for prefix in ("", "/p/shop"):
                    assert server.http.post(f"{prefix}/webhook/w", headers={"connection": "close"}).status_code == 200
        after = (data / "master.key").read_text()
        assert not {line for line in before.splitlines() if line[0] != "#"} & set(after.splitlines())
        server.http.post("/api/projects", json={"slug": "new"})
        assert put(server, "KEY", KEY, "new").status_code == 201
        assert mechaway("secret", "rotate", "--data-dir", str(data)).stdout.startswith("the keys of 3 projects")


ROTATION = """
import os, signal, sys
from pathlib import Path
from mechaway_core.local import build
from mechaway_core.local.keyring import LocalKeyRing, rotate
from mechaway_core.settings import Settings
import cryptography.hazmat.primitives.ciphers.aead

settings = Settings(data_dir=Path(sys.argv[1]), sync="normal")
last, calls = int(sys.argv[2]), 0
app, ring = build(settings), LocalKeyRing(settings)

def count(frame, event, argument):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(count)
rotate(ring, app.rewrap_secrets)
sys.setprofile(None)
print(calls)
"""


def rotation(data: Path, last: int) -> subprocess.CompletedProcess[str]:
    """A rotation that ends by SIGKILL at so many calls and returns; its output is how many there were in all."""
    command = [sys.executable, "-c", ROTATION, str(data), str(last)]
    return subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_a_rotation_that_is_killed_anywhere_loses_nothing(data: Path) -> None:
    projects = ["default", "one", "two"]
    app = build(Settings(data_dir=data, sync="normal"))
    for project in projects:
        if project != "default":
            app.create_project(project)
        app.put_secret(project, "KEY", f"value of {project}")
    app.close()
    whole = int(rotation(data, 0).stdout)
    for step in range(16):
        killed = rotation(data, whole * step // 16 + 1)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        app = build(Settings(data_dir=data, sync="normal"))
        for project in projects:
            assert app.vault.values(project, ["KEY"]) == {"KEY": f"value of {project}"}, f"step {step}"
        app.close()
    assert mechaway("secret", "rotate", "--data-dir", str(data)).returncode == 0
    lines = [line for line in (data / "master.key").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert {path.name for path in data.iterdir()} - {".pulse", ".pulse-at-work"} == {".master.key.lock", "master.key", *projects}
    app = build(Settings(data_dir=data, sync="normal"))
    assert [app.vault.values(project, ["KEY"])["KEY"] for project in projects] == [f"value of {project}" for project in projects]
    app.close()


def test_rotating_keys_of_the_settings_tells_which_may_go(data: Path) -> None:
    old, new = master_key(), master_key()
    where = ("--data-dir", str(data))
    assert mechaway("secret", "set", "KEY", *where, given=b"value", settings={"master_key": old}).returncode == 0
    alone = mechaway("secret", "rotate", *where, settings={"master_key": old})
    assert (alone.returncode, "put a new one in front" in alone.stdout) == (0, True)
    both = mechaway("secret", "rotate", *where, settings={"master_key": f"{new},{old}"})
    assert both.stdout.startswith("the keys of 1 project are locked with the first key in MECHAWAY_MASTER_KEY (")
    assert both.stdout.endswith("the others may go now\n")
    assert mechaway("secret", "set", "KEY", *where, given=b"value", settings={"master_key": new}).returncode == 0
