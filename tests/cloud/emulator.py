"""AWS on this machine: starts and ends the emulator of `tests/cloud/ministack` and gives clients for it."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

from tests.journeys.server import until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-cloud" / "bin" / "python"
RUNTIME = PYTHON.parents[1] / "runtime" / "bin" / "python"  # what functions run with
REGION = "us-east-1"
# More environments of functions at once than this are throttled, as by the quota of a real account; each is a process here.
CONCURRENCY = 12
WORD = "test"  # the emulator knows its root user by this key and this secret


def plain(**more: str) -> dict[str, str]:
    """This process's environment without anything of AWS or Mechaway, so that nothing of a real account is ever touched, and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MECHAWAY_", "SAM_"))}
    return kept | more


def machine() -> str:
    """This machine's processor, as Lambda calls it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(name, name)


class Emulator:
    """Ministack on a free port of this machine, with IAM enforced. Leave it as a context manager: nothing of it is left then."""

    def __init__(self, home: Path, address: str = "127.0.0.1") -> None:
        """`address` other than loopback is for containers: that of the bridge they are at, which no other machine reaches."""
        self.home = home
        self.address = address
        self.port = free_port(address)
        self.url = f"http://{address}:{self.port}"
        self.log = home / "ministack.log"
        self._clients: dict[str, Any] = {}
        for folder in ("work", "tmp"):
            (home / folder).mkdir()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "tests.cloud.ministack", home / "work"],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # functions are children; all of them end together
            )

    def _environment(self) -> dict[str, str]:
        return plain(
            PATH=f"{PYTHON.parent}:{os.environ['PATH']}",  # functions run with the python3 that is found first
            TMPDIR=str(self.home / "tmp"),
            BIND_HOST=self.address,
            GATEWAY_PORT=str(self.port),
            AUTH="true",
            AWS_ACCESS_KEY_ID=WORD,
            AWS_SECRET_ACCESS_KEY=WORD,
            AWS_EC2_METADATA_DISABLED="true",
            LAMBDA_EXECUTOR="local",
            LAMBDA_ACCOUNT_CONCURRENCY=str(CONCURRENCY),
            LAMBDA_ASYNC_RETRY_BASE_SECONDS="0.2",
            S3_DATA_DIR=str(self.home / "s3"),
            STATE_DIR=str(self.home / "state"),
            SFTP_ENABLED="0",
            IOT_MTLS_ENABLED="0",
        )

    def __enter__(self) -> Emulator:
        try:
            until(self._answers, "the emulator's first answer", patience=90)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the emulator ended with {self.process.returncode}: {self.told()}")
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=3) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        """End it and its functions, softly at first."""
        for client in self._clients.values():
            client.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def told(self, most: int = 8000) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-most:]

    def credentials(self) -> dict[str, str]:
        """The environment in which tools of AWS talk to it and to nothing else."""
        return plain(
            AWS_ENDPOINT_URL=self.url,
            AWS_ACCESS_KEY_ID=WORD,
            AWS_SECRET_ACCESS_KEY=WORD,
            AWS_DEFAULT_REGION=REGION,
            AWS_EC2_METADATA_DISABLED="true",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            SAM_CLI_TELEMETRY="0",
        )

    def client(self, service: str) -> Any:
        """A client of boto3 for the root user; closed with the emulator."""
        if service not in self._clients:
            self._clients[service] = self.client_for(service, WORD, WORD)
        return self._clients[service]

    def client_for(self, service: str, key: str, secret: str) -> Any:
        """A client of boto3 for somebody else; whoever asks closes it."""
        make: Any = boto3.client  # the stubs know a name only as a literal
        config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
        return make(service, region_name=REGION, endpoint_url=self.url, config=config, aws_access_key_id=key, aws_secret_access_key=secret)


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        return int(listener.getsockname()[1])
