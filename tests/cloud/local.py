"""`make local`: the functions in containers, as Lambda runs them, behind `sam local start-api`, with an emulated AWS around them.

The emulator listens on the address of docker's bridge, which containers reach and other machines do not. What a deploy would have
made is made in it by hand, as far as a call needs it: a bucket, a key, a token.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.cloud.containers import Docker, NoContainers, missing, notes
from tests.cloud.emulator import ROOT, Emulator, free_port, machine
from tests.cloud.stack import MOST, NO_CONFIG, SAM, overrides, sam
from tests.journeys.server import Caller, until

TOKEN = "local-token"
BUCKET = "mechaway-local"


class Local(Caller):
    """Mechaway behind `sam local start-api`. Leave it as a context manager: no container and no process of it is left then."""

    def __init__(self, docker: Docker, home: Path, port: int = 0) -> None:
        self.docker = docker
        self.home = home
        self.log = home / "start-api.log"
        self.emulator = Emulator(home, docker.gateway())
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = self.stranger()
        self.http.headers["authorization"] = f"Bearer {TOKEN}"
        self.process: subprocess.Popen[bytes] | None = None
        self._how: list[Any] = []  # what every command of `sam local` is told

    def __enter__(self) -> Local:
        try:
            self.emulator.__enter__()
            self._start(self._build(), self._environment_of_functions())
            until(self._listens, "sam local", patience=120)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _build(self) -> Path:
        folder = self.home / "build"
        sam("build", *NO_CONFIG, "--template-file", ROOT / "template.yaml", "--build-dir", folder, env=self.emulator.credentials())
        return folder

    def _environment_of_functions(self) -> Path:
        """What the template takes from resources that `sam local` does not make."""
        self.emulator.client("s3").create_bucket(Bucket=BUCKET)
        key = self.emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        secret = self.emulator.client("secretsmanager").create_secret(Name="mechaway-local", SecretString=TOKEN)["ARN"]
        path = self.home / "environment.json"
        variables = {"MECHAWAY_BUCKET": BUCKET, "MECHAWAY_KMS_KEY": key, "MECHAWAY_API_TOKEN_SECRET": secret}
        path.write_text(json.dumps({"Parameters": variables}))
        return path

    def _start(self, built: Path, variables: Path) -> None:
        self._how = [*NO_CONFIG, "--template", built / "template.yaml", "--env-vars", variables]
        self._how += ["--invoke-image", self.docker.base_image(), "--skip-pull-image"]
        self._how += overrides({"Architecture": machine(), "EndpointUrl": self.emulator.url})
        arguments = ["local", "start-api", *self._how, "--warm-containers", "LAZY", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SAM, *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return self.emulator.credentials() | self.docker.environment() | {"TMPDIR": str(self.home)}  # SAM leaves locks

    def invoke(self, function: str, event: Path) -> Any:
        """What a function answers to an event, by `sam local invoke`, in a container of its own."""
        command = [SAM, "local", "invoke", function, "--event", event, *self._how]
        done = subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=MOST, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"sam local ended with {self.process.returncode}: {self.err}")
        return f"Running on {self.url}" in self.err

    def close(self) -> None:
        """End what was started: SAM takes its containers along when it is interrupted."""
        self.http.close()
        if self.process is not None:
            for number in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self.process.pid, number)
                    self.process.wait(30)
                    break
        self.emulator.close()

    @property
    def out(self) -> str:
        """Functions print nothing but their log."""
        return ""

    @property
    def err(self) -> str:
        """What SAM and the functions logged."""
        return self.log.read_text(errors="replace")

    def stranger(self) -> httpx.Client:
        """A client with connections of its own and no credentials; to be closed. A cold container takes some seconds."""
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)


@contextlib.contextmanager
def local(port: int = 0) -> Iterator[Local]:
    """All of it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mechaway-local-") as home, Docker() as docker, Local(docker, Path(home), port) as made:
        yield made


def main() -> int:
    """Serve until Ctrl-C: `python -m tests.cloud.local [PORT]`."""
    if why := missing():
        print(f"containers cannot be run: {why}", file=sys.stderr)
        return 1
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell, which put it into the background, has it ignore the first
        signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt), local(port) as made:
            print(f"Mechaway in containers on {made.url} (token: {TOKEN}); nothing is kept after Ctrl-C. Log: {made.log}", flush=True)
            for note in notes:
                print(note, flush=True)
            signal.pause()
    except NoContainers as error:
        print(f"containers cannot be run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
