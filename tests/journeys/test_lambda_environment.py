"""An environment of the API function: what it may touch, frozen and thawed. A process of its own stands for it (`lambda_environment`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechaway_core.local import build
from mechaway_core.local.watch import read_workflow
from mechaway_core.sandbox.worker import TEARDOWN
from mechaway_core.settings import Settings
from tests.journeys.server import echo
from tests.lambda_events import Context, call, event, json_of

ROOT = Path(__file__).parents[2]
TRACE = "1-5759e988-bd862e3fe1be46a994272793"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Lambda is Linux: signals, /proc and limits are used as they are there")


class Environment:
    """The process."""

    def __init__(self, folder: Path) -> None:
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}  # no HOME, above all
        keep |= {"MECHAWAY_DATA_DIR": str(folder / "data"), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        keep |= {"MECHAWAY_API_TOKEN": "x", "MECHAWAY_LUA_WORKERS": "2"}
        keep |= {"AWS_LAMBDA_FUNCTION_NAME": "mechaway-test-api", "_X_AMZN_TRACE_ID": f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1"}
        self._log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.lambda_environment", str(folder)],
            cwd=ROOT,
            env=keep,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def send(self, what: Any) -> Any:
        """Have an event served, or ask "about" the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def log(self) -> list[tuple[str, dict[str, Any]]]:
        """What it logged: the kind of each line as Lambda is told it, and its object."""
        self._log.seek(0)
        lines = [line.split(": ", 1) for line in self._log.read().split("\n")[:-1]]
        return [(kind, json.loads(line)) for kind, line in lines]

    def about(self) -> Any:
        """What it says of itself once no Lua process is being started."""
        said = self.send("about")
        while said["lua"]["starting"]:
            time.sleep(0.02)
            said = self.send("about")
        return said

    def signal(self, number: int) -> None:
        """A signal to the process and its Lua processes."""
        os.killpg(self.process.pid, number)

    def children(self) -> list[int]:
        """Its Lua processes."""
        return [int(child) for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._log.close()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    app = build(Settings(data_dir=tmp_path / "data", lua_workers=1))
    app.put("default", read_workflow(ROOT / "examples" / "poc.json"))
    app.put("default", echo("broken", "error('two\\nlines')"))
    app.close()
    started = Environment(tmp_path)
    yield started
    started.close()


def test_it_serves_from_a_read_only_disk_without_a_home_and_shared_memory(environment: Environment) -> None:
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    answer = environment.send(event("webhook-post"))
    assert answer["statusCode"] == 200, answer
    about = environment.about()
    assert about["shared"] is False
    assert [name for name in about["modules"] if name.startswith("multiprocessing")] == []
    after = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert {path.name for path in after - before if "mechaway" in path.name} == set()


def test_no_thread_is_needed_between_two_events(environment: Environment) -> None:
    for _ in range(3):
        environment.send(event("webhook-post"))
    assert environment.about()["threads"] == ["MainThread"]


def test_lua_processes_are_started_once_for_all_events(environment: Environment) -> None:
    environment.send(event("webhook-post"))
    first = environment.about()["lua"]["spawned"]
    for _ in range(20):
        assert environment.send(event("webhook-post"))["statusCode"] == 200
    assert environment.about()["lua"]["spawned"] == first


def test_a_thaw_finds_all_as_it_was(environment: Environment) -> None:
    environment.send(event("webhook-post"))
    environment.about()
    processes = set(environment.children())
    assert processes
    environment.signal(signal.SIGSTOP)
    time.sleep(TEARDOWN + 0.5)  # longer than any timer of a Lua process that waits for a call
    environment.signal(signal.SIGCONT)
    assert json_of(environment.send(event("webhook-post")))["_inserted_id"] == 2
    environment.about()
    assert processes <= set(environment.children())


def test_an_environment_frozen_right_after_its_answer_is_well_after_a_thaw(environment: Environment) -> None:
    """A Lua process may be at making its next runtime then, and its timer goes on while it is frozen."""
    for _ in range(3):
        assert environment.send(event("webhook-post"))["statusCode"] == 200
        environment.signal(signal.SIGSTOP)
        time.sleep(TEARDOWN + 0.2)
        environment.signal(signal.SIGCONT)
    assert environment.send(event("webhook-post"))["statusCode"] == 200


def test_lua_processes_that_are_gone_after_a_thaw_are_replaced(environment: Environment) -> None:
    environment.send(event("webhook-post"))
    environment.about()
    environment.signal(signal.SIGSTOP)
    for child in environment.children():
        os.kill(child, signal.SIGKILL)
    environment.signal(signal.SIGCONT)
    assert environment.send(event("webhook-post"))["statusCode"] == 200


def test_a_line_of_its_log_is_one_object_that_says_which_invocation_and_run_it_is_about(environment: Environment) -> None:
    failed = json_of(environment.send(call("POST", "/webhook/broken/")))
    [(kind, line)] = environment.log()
    assert kind == "json WARNING"
    assert (line["level"], line["service"], line["logger"]) == ("WARNING", "mechaway", "mechaway.runs")
    assert (line["cold_start"], line["function_name"], line["function_request_id"]) == (True, "mechaway-test-api", Context.aws_request_id)
    assert line["xray_trace_id"] == TRACE
    assert line["request_id"] == event("webhook-post")["requestContext"]["requestId"]
    about = {name: line[name] for name in ("run_id", "node_id", "workflow_id", "project", "version", "status", "trigger")}
    assert about == {
        "run_id": failed["run_id"],
        "node_id": "work",
        "workflow_id": "broken",
        "project": "default",
        "version": 1,
        "status": "failed",
        "trigger": "webhook",
    }
    assert "two\nlines" in line["message"]


def test_only_the_first_invocation_is_a_cold_start_and_a_caller_may_name_its_request(environment: Environment) -> None:
    environment.send(event("webhook-post"))
    answer = environment.send(call("POST", "/webhook/broken/", headers={"x-request-id": "order-17"}))
    [(_, line)] = environment.log()
    assert line["cold_start"] is False
    assert line["request_id"] == answer["headers"]["x-request-id"] == "order-17"
