"""What the first webhook of a fresh process imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mechaway_core.local import build
from mechaway_core.local.watch import read_workflow
from mechaway_core.settings import Settings
from tests.house.tree import ROOT

HEAVY = ("fastapi", "starlette", "pydantic", "pydantic_core", "boto3", "botocore", "httpx", "httpcore", "psycopg", "cryptography", "brotli",
         "multipart", "python_multipart", "croniter", "yaml", "watchfiles", "uvicorn", "lupa", "multiprocessing")  # fmt: skip

FIRST_REQUEST = """
import asyncio, json, sys
from pathlib import Path

from mechaway_core.local import build
from mechaway_core.settings import Settings
from mechaway_core.web.gateway import Gateway

sent = []

async def receive():
    return {"type": "http.request", "body": b'{"student_id": "s123", "score": 85}', "more_body": False}

async def send(message):
    sent.append(message)

path = "/webhook/poc-grading-workflow/grade"
scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
         "headers": [(b"content-type", b"application/json")]}
gateway = Gateway(build(Settings(data_dir=Path(sys.argv[1]), lua_workers=1)))
asyncio.run(gateway(scope, receive, send))
modules = sorted(sys.modules)
gateway.close()
print(json.dumps({"status": sent[0]["status"], "body": json.loads(sent[1]["body"]), "modules": modules}))
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder: Path = tmp_path_factory.mktemp("cold")
    app = build(Settings(data_dir=folder, lua_workers=1))
    app.put("default", read_workflow(ROOT / "examples" / "poc.json"))
    app.close()
    done = subprocess.run([sys.executable, "-c", FIRST_REQUEST, str(folder)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, object] = json.loads(done.stdout)
    return said


def test_the_first_webhook_of_a_process_is_answered(first: dict[str, object]) -> None:
    assert first["status"] == 200
    assert first["body"] == {
        "student_id": "s123",
        "original_score": 85,
        "doubled_score": 170,
        "passed": True,
        "_inserted_id": 1,
        "_rows_affected": 1,
    }


@pytest.mark.parametrize("heavy", HEAVY)
def test_a_cold_webhook_imports_no_framework(first: dict[str, object], heavy: str) -> None:
    modules = first["modules"]
    assert isinstance(modules, list)
    assert [name for name in modules if name == heavy or name.startswith(f"{heavy}.")] == []
