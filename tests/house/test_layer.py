"""The layer of the functions, built as `sam build` does, for both architectures."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tools import layer

MACHINES = {"arm64": 183, "x86_64": 62}  # as ELF counts them

IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
import mechaway_core.aws, mechaway_core.aws.http, mechaway_core.aws.runner, mechaway_core.web.api
import apsw, brotli, cryptography.hazmat.primitives.ciphers.aead, httpx, lupa.lua54, mangum, orjson, psycopg, pydantic, python_multipart
from mechaway_core.nodes import catalogue
assert "FunLogic" in catalogue()
assert all(module.__file__.startswith(sys.argv[1]) for module in (apsw, httpx, mangum, orjson, psycopg))
"""


@pytest.fixture(scope="module", params=list(layer.ARCHITECTURES))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An architecture and the folder python/ of its layer."""
    folder: Path = tmp_path_factory.mktemp("layer")
    command = [sys.executable, str(ROOT / "tools" / "layer.py"), request.param, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Could not find a version" in done.stderr or "NewConnectionError" in done.stderr:
        pytest.skip(f"no package index is to be had, so no layer was built: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return request.param, folder / "python"


def test_it_fits_into_lambda(built: tuple[str, Path]) -> None:
    assert layer.size_of(built[1]) < layer.MOST / 2  # and leaves as much for what others add


def test_every_library_is_for_its_architecture_and_python(built: tuple[str, Path]) -> None:
    architecture, place = built
    libraries = [path for path in place.rglob("*") if path.is_file() and re.search(r"\.so(\.|$)", path.name)]
    assert len(libraries) > 10
    for path in libraries:
        with path.open("rb") as file:
            head = file.read(20)
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:20], "little") == MACHINES[architecture], path
        version = re.search(r"cpython-(\d+)", path.name)
        assert version is None or version[1] == layer.VERSION.replace(".", ""), path


def test_it_holds_what_the_lock_pins_and_nothing_of_the_laptop(built: tuple[str, Path]) -> None:
    there = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in built[1].glob("*.dist-info")}
    wanted = {re.split(r"[=;\[ ]", line)[0] for line in layer.requirements() if "win32'" not in line or "!=" in line}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} == there
    assert not there & (layer.LAPTOP_ONLY | {"boto3", "botocore", "s3transfer", "pip", "setuptools"})


def test_what_never_runs_there_is_left_out(built: tuple[str, Path]) -> None:
    place = built[1]
    assert [path for path in place.rglob("tests") if path.is_dir()] == []
    assert [path.name for path in (place / "lupa").glob("lua*.so")] == [path.name for path in (place / "lupa").glob("lua54*.so")]


def test_every_module_is_byte_compiled_where_that_can_be_done(built: tuple[str, Path]) -> None:
    if layer.find_interpreter() is None:
        pytest.skip(f"there is no Python {layer.VERSION} on this machine to byte-compile the layer with")
    sources = [path for path in built[1].rglob("*.py") if "site-packages" not in path.parts]
    missing = [path for path in sources if not (path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc").exists()]
    assert missing == []
    flags = {path.read_bytes()[4] for path in built[1].rglob("*.pyc")}
    assert flags == {1}  # by hash and unchecked (PEP 552): the times of files do not survive the way to Lambda


def test_all_of_it_can_be_imported_by_the_runtimes_python(built: tuple[str, Path]) -> None:
    architecture, place = built
    interpreter = layer.find_interpreter()
    if interpreter is None:
        pytest.skip(f"there is no Python {layer.VERSION} on this machine to import the layer with")
    if layer.ARCHITECTURES[architecture] != platform.machine():
        pytest.skip(f"the layer for {architecture} cannot be imported on {platform.machine()}; what can be said of it, the tests above say")
    done = subprocess.run([interpreter, "-I", "-S", "-c", IMPORTS, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_layer_and_the_template_mean_the_same_python() -> None:
    template = (ROOT / "template.yaml").read_text()
    assert f"Runtime: python{layer.VERSION}" in template
    assert template.count(f"CompatibleRuntimes: [python{layer.VERSION}]") == len(layer.ARCHITECTURES)
