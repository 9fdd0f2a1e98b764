"""The commands of docs/deploy.md, as they stand there, in a shell, against the emulator."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.cloud.emulator import PYTHON, REGION, ROOT
from tests.cloud.stack import MOST, NO_CONFIG, Stack

CLI = PYTHON.parents[1] / "aws" / "bin"
NAME = "mechaway-dev"  # of the stack, on the page


def commands(heading: str) -> list[str]:
    """The blocks of commands in a section of the page."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found


def type_in(stack: Stack, *blocks: str, cwd: Path = ROOT) -> str:
    """Type blocks into one shell, for this stack in place of the page's; what the last one printed.

    The invoke URL is that of the emulator, SAM asks nothing, and nothing may fail.
    """
    emulator = stack.emulator
    api = f"http://\\1.execute-api.localhost:{emulator.port}"
    *before, last = (
        block.replace(NAME, stack.name).replace("sam delete", f"sam delete {' '.join(NO_CONFIG)} --no-prompts --region {REGION}")
        for block in blocks
    )
    curl = f'curl() {{ local words=(); for word; do words+=("$(sed -E "s|^https://([^.]*)[^/]*|{api}|" <<< "$word")"); done; '
    curl += 'command curl --fail-with-body --silent --show-error "${words[@]}"; }'
    script = "\n".join(("set -euo pipefail", curl, "{ :", *before, "} > /dev/null", last))
    environment = emulator.credentials()
    environment["PATH"] = f"{CLI}:{environment['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=environment, capture_output=True, timeout=MOST, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
