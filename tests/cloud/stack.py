"""A stack as people make it: `sam build`, `sam deploy`, `sam delete`, against the emulator."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.cloud.emulator import REGION, ROOT, Emulator
from tests.journeys.server import Caller, chain, hook

SAM = ROOT / ".venv-sam" / "bin" / "sam"
MOST = 600  # seconds that one command of SAM may take
NO_CONFIG = ("--config-env", "none")  # samconfig.toml is for real accounts


def sam(*arguments: str | Path, env: Mapping[str, str], cwd: Path = ROOT) -> str:
    """Run SAM to its good end; what it printed."""
    done = subprocess.run(
        [SAM, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=MOST,
        text=True,
    )
    assert done.returncode == 0, f"sam {arguments[0]} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def answer_sam(*arguments: str | Path, answers: Mapping[str, str], env: Mapping[str, str], cwd: Path) -> str:
    """Run SAM at a terminal and answer what it asks, by a part of the question; Enter for all else. What it showed."""
    ours, its = pty.openpty()
    shown, asked = "", 0  # and how much of it was asked before
    with subprocess.Popen([SAM, *arguments], cwd=cwd, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
        os.close(its)
        end = threading.Timer(MOST, process.kill)
        end.start()
        try:
            while text := _read(ours):
                shown += text
                line = shown[asked:].rpartition("\n")[2]
                if re.search(QUESTION, _plain(line)):
                    asked = len(shown)
                    said = next((answer for question, answer in answers.items() if question in _plain(line)), "")
                    os.write(ours, f"{said}\n".encode())
        except BaseException:
            process.kill()
            raise
        finally:
            end.cancel()
            os.close(ours)
    assert process.returncode == 0, f"sam {arguments[0]} ended with {process.returncode}:\n{shown[-6000:]}"
    return _plain(shown)


QUESTION = r"\[[^\]]*\]: $|Parameter \w+: $"  # those with an answer that is offered, and those without


def _plain(text: str) -> str:
    """A text without what only a terminal understands."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _read(terminal: int) -> str:
    """What came; nothing when the other end is closed, which Linux tells by an error."""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""


def overrides(parameters: Mapping[str, str]) -> list[str]:
    """Parameters of a template, as SAM takes them."""
    return ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())] if parameters else []


class Stack:
    """One stack in the emulator: its outputs, its resources, and what goes on in it."""

    def __init__(self, emulator: Emulator, name: str) -> None:
        self.emulator = emulator
        self.name = name
        self.outputs: dict[str, str] = {}

    def deploy(self, built: Path, **parameters: str) -> None:
        """Create it, or update it in place."""
        sam(
            "deploy",
            *NO_CONFIG,
            "--template-file",
            built / "template.yaml",
            "--stack-name",
            self.name,
            "--resolve-s3",
            "--s3-prefix",
            self.name,
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"),
            *("--region", REGION),
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            *overrides(parameters),
            env=self.emulator.credentials(),
        )
        self._look()

    def deploy_guided(self, built: Path, folder: Path, **answers: str) -> str:
        """Create it by `sam deploy --guided`, which writes into samconfig.toml in `folder` what was answered, by parameter.

        What is not answered is what this file, the template and SAM offer. The answer is what SAM showed.
        """
        shutil.copy(ROOT / "samconfig.toml", folder)
        questions = {f"Parameter {name}": answer for name, answer in answers.items()}
        questions |= {"Stack Name": self.name, "AWS Region": REGION}
        questions |= {"no authentication": "y", "Deploy this changeset": "y"}
        given = ("deploy", "--guided", "--template-file", built / "template.yaml", "--config-file", folder / "samconfig.toml")
        shown = answer_sam(*given, "--no-progressbar", answers=questions, env=self.emulator.credentials(), cwd=folder)
        self._look()
        return shown

    def _look(self) -> None:
        described = self.emulator.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def delete(self) -> None:
        """Delete it as the docs say."""
        sam("delete", *NO_CONFIG, "--stack-name", self.name, "--no-prompts", "--region", REGION, env=self.emulator.credentials())

    def resources(self) -> dict[str, tuple[str, str]]:
        """Logical id → type and physical id of all that it holds."""
        pages = self.emulator.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        listed = [one for page in pages for one in page["StackResourceSummaries"]]
        return {one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"]) for one in listed}

    def physical(self, logical_id: str) -> str:
        """The name or URL that AWS gave to one of its resources."""
        return self.resources()[logical_id][1]

    @property
    def bucket(self) -> str:
        """The name of its bucket."""
        return self.physical("Bucket")

    def token(self) -> str:
        """The API token, as an admin reads it."""
        secret = self.emulator.client("secretsmanager").get_secret_value(SecretId=self.physical("TokenSecret"))
        return str(json.loads(secret["SecretString"])["token"])

    def arn(self, function: str) -> str:
        """The ARN of one of its functions."""
        found = self.emulator.client("lambda").get_function(FunctionName=self.physical(function))
        return str(found["Configuration"]["FunctionArn"])


class Cloud(Caller):
    """Mechaway behind the invoke URL of a stack."""

    def __init__(self, emulator: Emulator, address: str, token: str = "") -> None:
        """`address` is what the stack says its URL is; the emulator hears its host name only as a header."""
        found = re.fullmatch(r"https?://([^/]+)(/.*)?", address)
        assert found, f"{address!r} is no address of an API"
        self.emulator = emulator
        self.host = f"{found[1].split('.')[0]}.execute-api.localhost:{emulator.port}"
        self.url = emulator.url + (found[2] or "").rstrip("/")
        self.token = token
        self.http = self.stranger()
        if token:
            self.http.headers["authorization"] = f"Bearer {token}"

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.http.close()

    def clear(self) -> None:
        """Delete all workflows, secrets and tables of the project `default`, and all other projects."""
        for collection, name in (("workflows", "id"), ("secrets", "name")):
            while found := self.http.get(f"/api/{collection}").json()[collection]:
                for one in found:
                    self.http.delete(f"/api/{collection}/{one[name]}").raise_for_status()
        for table in self.http.get("/api/tables").json()["tables"]:
            self._drop(table["name"])
        for project in self.http.get("/api/projects").json()["projects"]:
            if project["slug"] != "default":
                self.http.delete(f"/api/projects/{project['slug']}").raise_for_status()

    def _drop(self, table: str) -> None:
        query = {"id": "drop", "node_type": "SimpleTableQuery", "params": {"query": f'DROP TABLE "{table}"', "write": True}}
        self.save(chain("dropper", hook(), query))
        self.http.post("/webhook/dropper").raise_for_status()
        self.http.delete("/api/workflows/dropper").raise_for_status()

    @property
    def out(self) -> str:
        """Functions print nothing but their log."""
        return ""

    @property
    def err(self) -> str:
        """What the functions of all stacks logged."""
        logs = self.emulator.client("logs")
        groups = [group["logGroupName"] for page in logs.get_paginator("describe_log_groups").paginate() for group in page["logGroups"]]
        events = [event for name in groups for event in self._events(name)]
        return "\n".join(str(event["message"]) for event in events)

    def _events(self, group: str) -> Iterator[Mapping[str, Any]]:
        for page in self.emulator.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group):
            yield from page["events"]

    def stranger(self) -> httpx.Client:
        """A client with connections of its own and no credentials; to be closed."""
        return httpx.Client(base_url=self.url, headers={"Host": self.host}, timeout=60, trust_env=False)
