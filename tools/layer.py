"""Build the layer of the functions for one architecture: `python tools/layer.py arm64 FOLDER`, with any Python from 3.11 on.

1. what the lock pins, less what only a laptop needs, as wheels for Lambda's Python and libraries, whatever machine this is;
2. mechaway_core itself;
3. less what never runs there: tests, stubs, other Luas than 5.4;
4. byte code by Lambda's own version of Python, for nothing compiles it there: a cold start would, every time, for a second or two.

boto3 is not in it: the runtime has it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = "3.13"  # of the runtime in template.yaml
ARCHITECTURES = {"arm64": "aarch64", "x86_64": "x86_64"}
LAPTOP_ONLY = frozenset({"click", "httptools", "pyyaml", "uvicorn", "uvloop", "watchfiles"})
MOST = 250 * 1024 * 1024  # bytes of a function with its layers, unpacked
_SUPERFLUOUS = ("**/__pycache__", "**/tests", "**/test", "**/*.pyi", "bin", "lupa/lua51*", "lupa/lua52*", "lupa/lua53*", "lupa/lua55*",
                "lupa/luajit*")  # fmt: skip


def main() -> int:
    """Build; 1 with a sentence when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python tools/layer.py", description="Build the layer of the functions.")
    parser.add_argument("architecture", choices=list(ARCHITECTURES))
    parser.add_argument("folder", type=Path, help="where to; the layer is in its folder python/")
    arguments = parser.parse_args()
    try:
        build(arguments.architecture, arguments.folder)
    except LayerError as error:
        print(f"layer: {error}", file=sys.stderr)
        return 1
    return 0


class LayerError(Exception):
    """The layer cannot be built; the sentence says why."""


def build(architecture: str, folder: Path) -> None:
    """Build the layer in `folder`. Raises `LayerError`."""
    place = folder / "python"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _install(list(requirements()), architecture, place)
    shutil.copytree(ROOT / "mechaway_core", place / "mechaway_core", ignore=shutil.ignore_patterns("__pycache__"))
    prune(place)
    _compile(place)
    size = size_of(place)
    if size > MOST:
        raise LayerError(f"the layer has {size / 1e6:.0f} MB unpacked, and Lambda takes 250 MiB")
    print(f"layer: {size / 1e6:.0f} MB for {architecture}")


def requirements() -> Iterator[str]:
    """What the layer holds beside ours, pinned as in the locks: what servers need, less the laptop's, and Mangum."""
    for line in _pinned("requirements.lock"):
        if _name(line) not in LAPTOP_ONLY:
            yield line
    yield from (line for line in _pinned("requirements-dev.lock") if _name(line) == "mangum")


def _pinned(lock: str) -> list[str]:
    lines = (line.partition(" #")[0].strip() for line in (ROOT / lock).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _name(line: str) -> str:
    return re.split(r"[=<>!~;\[ ]", line, maxsplit=1)[0].lower().replace("_", "-")


def _install(wanted: list[str], architecture: str, place: Path) -> None:
    machine = ARCHITECTURES[architecture]
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "requirements.txt"
        listed.write_text("\n".join(wanted) + "\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"]
        command += ["--target", str(place), "--requirement", str(listed), "--only-binary=:all:", "--implementation", "cp"]
        command += ["--python-version", VERSION, "--platform", f"manylinux_2_28_{machine}", "--platform", f"manylinux2014_{machine}"]
        done = subprocess.run(command, check=False)
    if done.returncode:
        raise LayerError("pip could not get what the lock pins; what it said is above")


def prune(place: Path) -> None:
    """Take out what never runs in Lambda."""
    for pattern in _SUPERFLUOUS:
        for path in sorted(place.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def _compile(place: Path) -> None:
    interpreter = find_interpreter()
    if interpreter is None:
        print(
            f"layer: NOT BYTE-COMPILED: there is no Python {VERSION} on this machine (`uv python install {VERSION}` gets one, and "
            f"PYTHON313=/path/to/python{VERSION} names one); the functions work, but every cold start takes a second or two longer"
        )
        return
    # Unchecked: zip files do not keep times, and the code in a layer does not change. -s, -p: the place it has in Lambda, for tracebacks.
    command = [interpreter, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    if subprocess.run([*command, "-s", str(place), "-p", "/opt/python", str(place)], check=False).returncode:
        raise LayerError("not all of it could be byte-compiled; what failed is above")


def find_interpreter() -> str | None:
    """A Python of the runtime's version, as its path."""
    named = os.environ.get("PYTHON313")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python")
    installed = [*sorted(pyenv.glob(f"versions/{VERSION}.*/bin/python")), *sorted(uv.glob(f"cpython-{VERSION}.*/bin/python{VERSION}"))]
    found = [named, sys.executable, shutil.which(f"python{VERSION}"), *map(str, installed)]
    return next((path for path in found if path and _is_runtime(path)), None)


def _is_runtime(path: str) -> bool:
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
    try:
        said = subprocess.run([path, "-I", "-c", ask], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return said.split() == [VERSION, "cpython"]


def size_of(place: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
