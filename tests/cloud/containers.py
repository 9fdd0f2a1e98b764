"""Docker for `sam local`, on machines with or without a daemon of their own and with or without a registry.

A daemon that answers is used as it is. Where only the program `dockerd` is there, one is started for the tests, with all its data
in a folder of its own, and ended with them. Amazon's base image of the Python runtime is used where it is or can be fetched; else
a stand-in is made from this machine's Python and libraries, which has the same folders, entry point and runtime interface.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from tests.cloud.emulator import ROOT, RUNTIME, plain
from tests.cloud.stack import SAM
from tests.journeys.server import until

AMAZONS = "public.ecr.aws/lambda/python:3.13-x86_64"
STAND_IN = "mechaway-test/lambda-python:3.13"
notes: list[str] = []  # what whoever reads the results should know
PROGRAMS = ("bash", "sh", "cat", "chmod", "cp", "env", "mkdir", "mv", "rm")
# Libraries that are opened by name, so that no program lists them, and those that wheels may count on.
LIBRARIES = (
    "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libnss_dns.so.2", "libnss_files.so.2", "libpthread.so.0", "libresolv.so.2", "librt.so.1",
    "libstdc++.so.6", "libutil.so.1",
)  # fmt: skip
BOOTSTRAP = """#!/bin/bash
export AWS_EXECUTION_ENV=AWS_Lambda_python3.13
export PYTHONPATH="${LAMBDA_TASK_ROOT}:/opt/python/lib/python3.13/site-packages:/opt/python"
cd "$LAMBDA_TASK_ROOT"
exec /var/lang/bin/python3.13 -m awslambdaric "$_HANDLER"
"""
ENTRY_POINT = """#!/bin/sh
export _HANDLER="$1"
[ -n "$AWS_LAMBDA_RUNTIME_API" ] && exec /var/runtime/bootstrap
exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
"""
CHANGES = (
    'ENTRYPOINT ["/lambda-entrypoint.sh"]',
    "WORKDIR /var/task",
    "ENV LANG=C.UTF-8",
    "ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "ENV LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/task/lib:/opt/lib",
    "ENV LAMBDA_TASK_ROOT=/var/task",
    "ENV LAMBDA_RUNTIME_DIR=/var/runtime",
)


def missing() -> str | None:
    """Why no container can be run here; None when one can."""
    if shutil.which("docker") is None:
        return "there is no docker on this machine"
    if _answers(None) or (shutil.which("dockerd") and os.geteuid() == 0):
        return None
    return "no docker daemon answers, and there is none that this user could start"


class NoContainers(Exception):
    """Docker is there and cannot run a container, as where it may not set up networks; the sentence says why."""


class Docker:
    """A docker daemon to talk to. Leave it as a context manager: one that was started here is ended."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mechaway-docker-"))  # short: the path of a socket has 108 characters at most
        self.process: subprocess.Popen[bytes] | None = None
        self.host: str | None = None

    def __enter__(self) -> Docker:
        try:
            if not _answers(None):
                self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        socket = self.home / "docker.sock"
        self.host = f"unix://{socket}"
        places = ("--data-root", self.home / "data", "--exec-root", self.home / "exec", "--pidfile", self.home / "pid", "-H", self.host)
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(["dockerd", *places], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            until(self._up, "the docker daemon", patience=120)
        except AssertionError as error:
            raise NoContainers(str(error)) from error

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise NoContainers(f"dockerd ended with {self.process.returncode}: {(self.home / 'log').read_text()[-300:].strip()}")
        return _answers(self.host)

    def close(self) -> None:
        """End what was started, containers first."""
        if self.process is not None:
            for container in self.run("ps", "--quiet", check=False).split():
                self.run("rm", "--force", container, check=False)
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    self.process.send_signal(number)
                    self.process.wait(30)
                    break
                except subprocess.TimeoutExpired:
                    continue
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What programs need to find the daemon."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    def run(self, *arguments: str, check: bool = True, most: float = 120) -> str:
        """What a command of docker prints."""
        done = subprocess.run(["docker", *arguments], env=plain(**self.environment()), capture_output=True, timeout=most, text=True)
        assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stderr[-2000:]}"
        return done.stdout

    def gateway(self) -> str:
        """The address at which containers find this machine."""
        return self.run("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()

    def base_image(self) -> str:
        """An image of the Python runtime, of which a container was run: Amazon's, else a stand-in. Raises `NoContainers`."""
        image = self._find_image()
        try:
            self.run("run", "--rm", "--entrypoint", "/bin/sh", image, "-c", "exit 0")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise NoContainers(str(error)) from error
        return image

    def _find_image(self) -> str:
        if self.run("images", "--quiet", AMAZONS):
            return AMAZONS
        try:
            self.run("pull", "--quiet", AMAZONS, most=240)
            return AMAZONS
        except (AssertionError, subprocess.TimeoutExpired):
            notes.append(f"{AMAZONS} cannot be had here; a stand-in made from this machine's Python took its place")
        if not self.run("images", "--quiet", STAND_IN):
            self._import(_root_of_the_stand_in(self.home / "root"))
        return STAND_IN

    def _import(self, root: Path) -> None:
        changes = [word for change in CHANGES for word in ("--change", change)]
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            done = subprocess.run(
                ["docker", "import", *changes, "-", STAND_IN],
                env=plain(**self.environment()),
                stdin=tar.stdout,
                capture_output=True,
                timeout=300,
                text=True,
            )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(root)


def _answers(host: str | None) -> bool:
    try:
        environment = plain(**({"DOCKER_HOST": host} if host else {}))
        return subprocess.run(["docker", "info"], env=environment, capture_output=True, timeout=15).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# -- the stand-in


def _root_of_the_stand_in(root: Path) -> Path:
    """A root file system with Python 3.13 and the runtime interface where Lambda has them."""
    for folder in ("var/task", "var/runtime", "var/rapid", "opt", "usr/local/bin", "etc/ssl/certs", "bin", "lib", "lib64"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o777)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    if (certificates := Path("/etc/ssl/certs/ca-certificates.crt")).exists():
        shutil.copy(certificates, root / "etc/ssl/certs")
    python = _copy_python(root / "var/lang")
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name))]
    for program in programs:
        shutil.copy(program.resolve(), root / "bin" / program.name)
    _copy_libraries(root, [*programs, python, *(root / "var/lang/lib/python3.13/lib-dynload").glob("*.so")])
    _write_program(root / "var/runtime/bootstrap", BOOTSTRAP)
    _write_program(root / "lambda-entrypoint.sh", ENTRY_POINT)
    shutil.copy(_runtime_interface_emulator(), root / "usr/local/bin/aws-lambda-rie")
    return root


def _copy_python(lang: Path) -> Path:
    """The interpreter of the tests of the cloud with its library, the runtime interface client and boto3, compiled; its program."""
    found = subprocess.run([RUNTIME, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, check=True, text=True)
    prefix = Path(found.stdout.strip())
    (lang / "bin").mkdir(parents=True)
    shutil.copy(prefix / "bin/python3.13", lang / "bin")
    unused = shutil.ignore_patterns(
        "test", "tests", "idlelib", "tkinter", "ensurepip", "__pycache__", "site-packages", "config-*", "_tkinter*"
    )
    shutil.copytree(prefix / "lib/python3.13", lang / "lib/python3.13", ignore=unused)
    for library in (prefix / "lib").glob("libpython3*"):
        shutil.copy(library, lang / "lib")
    packages = lang / "lib/python3.13/site-packages"
    pip: list[str | Path] = [RUNTIME, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", packages]
    subprocess.run([*pip, "--requirement", ROOT / "tests/cloud/containers.txt"], check=True, timeout=300)
    subprocess.run([RUNTIME, "-m", "compileall", "-q", "-j", "0", "-s", lang, "-p", "/var/lang", lang / "lib"], check=False, timeout=300)
    return prefix / "bin/python3.13"


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    """The shared libraries of programs, flat in /lib; the loader where every program looks for it."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    paths = {word for line in listed.splitlines() for word in line.split() if word.startswith("/") and not word.endswith(":")}
    folders = {Path(path).parent for path in paths}
    paths |= {str(folder / name) for folder in folders for name in LIBRARIES if (folder / name).exists()}
    for path in paths:
        place = "lib64" if Path(path).name.startswith("ld-linux") else "lib"
        shutil.copy(Path(path).resolve(), root / place / Path(path).name)


def _runtime_interface_emulator() -> Path:
    """SAM brings the program that stands for the Lambda service inside a container."""
    return next(SAM.parents[1].glob("lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"))


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
