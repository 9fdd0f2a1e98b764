"""The real server as a process of its own, and what a caller needs to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

PATIENCE = 30.0  # seconds until something that should happen soon counts as never
PROBLEM = "application/problem+json"
EXAMPLES = Path(__file__).parents[2] / "examples"

running: list[Server] = []  # what a failed test shows the logs of


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with these settings and no others: `lua_workers=1` is MECHAWAY_LUA_WORKERS."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MECHAWAY_")}
    return plain | {f"MECHAWAY_{name.upper()}": str(value) for name, value in settings.items()}


def until(found: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """What `found` answers as soon as it is neither None nor False; fails when that takes longer than `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        answer = found()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.02)


class Caller:
    """What journeys do with a Mechaway that runs somewhere: on this machine, or in the cloud."""

    url: str
    http: httpx.Client  # with what the API asks of a caller, if anything

    @property
    def out(self) -> str:
        """What it printed."""
        raise NotImplementedError

    @property
    def err(self) -> str:
        """What it logged."""
        raise NotImplementedError

    def stranger(self) -> httpx.Client:
        """A client with connections of its own and no credentials; to be closed."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def save(self, document: Mapping[str, Any], project: str | None = None) -> dict[str, Any]:
        """Create a workflow, or change it when there is one of its id; what the server said."""
        prefix = f"/p/{project}" if project else ""
        answer = self.http.post(f"{prefix}/api/workflows", json=document)
        if answer.status_code == 409:
            answer = self.http.put(f"{prefix}/api/workflows/{document['id']}", json=document)
        assert answer.status_code in (200, 201), answer.text
        said: dict[str, Any] = answer.json()
        return said

    def keep_secrets(self, **values: str) -> None:
        """Put secrets into the vault of the project `default`."""
        for name, value in values.items():
            answer = self.http.put(f"/api/secrets/{name}", json={"value": value})
            assert answer.status_code in (200, 201), answer.text

    def refusals(self, *reasons: str) -> int:
        """How many callers were turned away for these reasons, by the server's own count."""
        counted = self.http.get("/api/access/refusals").json()["refusals"]
        return sum(int(counted.get(reason, 0)) for reason in reasons)

    def record(self, workflow_id: str, **wish: Any) -> dict[str, Any]:
        """The record of a run by hand."""
        answer = self.http.post(f"/api/workflows/{workflow_id}/run", json=wish)
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record


class Server(Caller):
    """`mechaway dev` on a free port. Leave it as a context manager: nothing of it is left then."""

    def __init__(
        self,
        data: Path,
        *arguments: str,
        prepare: Callable[[], None] | None = None,
        **settings: object,
    ) -> None:
        self.data = data
        self.logs = data.parent / f"{data.name}-{time.monotonic_ns()}"
        given = {"lua_workers": 1, "sync": "normal"} | settings
        with open(f"{self.logs}.out", "wb") as out, open(f"{self.logs}.err", "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mechaway_core.cli", "dev", "--port", "0", "--data-dir", str(data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(given),
                preexec_fn=prepare,
            )
        running.append(self)
        try:
            line = until(self._first_line, "the server's first line")
        except BaseException:
            self.close()
            raise
        self.url = line.split(" on ", 1)[1].split()[0]
        self.host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.port = int(port)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def _first_line(self) -> str | None:
        found = next((line for line in self.out.splitlines() if line.startswith("Mechaway ")), None)
        if found is None and self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}: {self.err}")
        return found

    @property
    def out(self) -> str:
        """What it printed."""
        return Path(f"{self.logs}.out").read_text()

    @property
    def err(self) -> str:
        """What it logged."""
        return Path(f"{self.logs}.err").read_text()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, softly at first."""
        if hasattr(self, "http"):
            self.http.close()
        below = family(self.process.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self in running:
            running.remove(self)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a loss of power would."""
        self.process.kill()
        self.process.wait()

    # -- what it holds

    def kept(self, project: str = "default") -> list[Path]:
        """Every file of runs that a project has."""
        return [path for path in (self.data / project / "files").rglob("*") if path.is_file()]

    def open_in_data(self) -> list[str]:
        """What its process has open in its data folder; a file without a name ends in "(deleted)"."""
        found = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry))
        return [target for target in found if target.startswith(str(self.data))]

    def open_uploads(self) -> list[str]:
        """The files without a name that bodies are written down to, while they are open."""
        return [target for target in self.open_in_data() if target.endswith("(deleted)")]

    # -- talking to it

    def connect(self) -> socket.socket:
        """A plain connection, for what no HTTP client would send."""
        return socket.create_connection((self.host, self.port), timeout=PATIENCE)

    def raw(self, request: bytes) -> RawAnswer:
        """What comes back for these bytes."""
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            return read_answer(connection, bodyless=request.startswith(b"HEAD "))


class RawAnswer:
    """An answer as it came over the wire. `status` is 0 when the connection ended without one."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split()[1]) if head else 0
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:] if line)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = body

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def read_answer(connection: socket.socket, *, bodyless: bool = False) -> RawAnswer:
    """One answer with a content length (or none) from a connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return RawAnswer(b"", data)
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    answer = RawAnswer(head, body)
    length = 0 if bodyless else int(answer.headers.get("content-length", "0"))
    while len(answer.body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        answer.body += piece
    return answer


def problem(answer: httpx.Response | RawAnswer, status: int) -> dict[str, Any]:
    """The problem document of an answer, after making sure that it is one, and of this status."""
    found, body = (answer.status, answer.body) if isinstance(answer, RawAnswer) else (answer.status_code, answer.content)
    assert found == status, f"{found}: {body[:2000]!r}"
    assert answer.headers["content-type"] == PROBLEM
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    for name in ("type", "title", "detail"):
        assert isinstance(document[name], str)
        assert document[name]
    assert "Traceback" not in document["detail"]
    return document


# -- documents


def hook(path: str = "/", method: str | list[str] = "any", **params: Any) -> dict[str, Any]:
    """A webhook node called `hook`."""
    return {"id": "hook", "node_type": "Webhook", "params": {"path": path, "method": method, **params}}


def lua(node_id: str, script: str, **fields: Any) -> dict[str, Any]:
    """A FunLogic node."""
    return {"id": node_id, "node_type": "FunLogic", "params": {"script": script}, **fields}


def chain(workflow_id: str, *nodes: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A workflow in which each node leads to the next."""
    edges = [{"from": one["id"], "to": two["id"]} for one, two in pairwise(nodes)]
    return {"id": workflow_id, "nodes": [dict(node) for node in nodes], "edges": edges, **fields}


def echo(workflow_id: str, script: str = "return data", path: str = "/", **params: Any) -> dict[str, Any]:
    """A webhook and a script."""
    return chain(workflow_id, hook(path, **params), lua("work", script))


def poc() -> dict[str, Any]:
    """The workflow of the README."""
    document: dict[str, Any] = json.loads((EXAMPLES / "poc.json").read_text())
    return document


# -- processes, by /proc


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry.name))
    return sorted(found)


def family(pid: int) -> list[int]:
    """The living descendants of a process."""
    below = children(pid)
    return [*below, *(deeper for child in below for deeper in family(child))]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def lua_workers(pid: int) -> list[int]:
    """The Lua processes below a server process."""
    return [child for child in family(pid) if "sandbox/worker.py" in command_of(child)]


def server_workers(pid: int) -> list[int]:
    """The server processes below a supervisor."""
    return [child for child in children(pid) if "local.workers" in command_of(child)]


@contextlib.contextmanager
def client(url: str, **options: Any) -> Iterator[httpx.Client]:
    """A client with connections of its own."""
    with httpx.Client(base_url=url, timeout=PATIENCE, **options) as made:
        yield made


def mechaway(
    *arguments: str,
    given: bytes = b"",
    prepare: Callable[[], None] | None = None,
    settings: Mapping[str, object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "mechaway_core.cli", *arguments],
        input=given,
        capture_output=True,
        timeout=PATIENCE,
        env=environment({"lua_workers": 1, "sync": "normal"} | dict(settings or {})),
        preexec_fn=prepare,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    """The statuses of some answers."""
    return [answer.status_code for answer in answers]
