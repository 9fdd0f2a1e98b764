"""The runner function of a stack, asked as the API and EventBridge do, and its dead letters."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.cloud.stack import Stack


def send(stack: Stack, event: Any) -> None:
    """Invoke the runner and do not wait."""
    sent = stack.emulator.client("lambda").invoke(
        FunctionName=stack.physical("RunnerFunction"), InvocationType="Event", Payload=json.dumps(event)
    )
    assert sent["StatusCode"] == 202


def ask(stack: Stack, event: Any) -> dict[str, Any]:
    """Invoke the runner and wait for what it says."""
    answer = stack.emulator.client("lambda").invoke(FunctionName=stack.physical("RunnerFunction"), Payload=json.dumps(event))
    said: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def kill(stack: Stack) -> int:
    """Kill the processes of the runner, as a machine that dies does; how many there were."""
    name = f"AWS_LAMBDA_FUNCTION_NAME={stack.physical('RunnerFunction')}".encode()
    found = [pid for pid in _below(stack.emulator.process.pid) if name in _environment(pid).split(b"\0")]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return len(found)


def _below(pid: int) -> list[int]:
    """The processes of the emulator's session, without itself."""
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [number for number in numbers if number != pid and _session(number) == pid]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


class Letters:
    """What is in the dead-letter queue of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.queue = stack.emulator.client("sqs")
        self.url = stack.physical("DeadLetterQueue")

    def take(self) -> Any:
        """The event of the next letter; None when there is none."""
        for message in self.queue.receive_message(QueueUrl=self.url).get("Messages", []):
            return json.loads(message["Body"])["requestPayload"]
        return None
