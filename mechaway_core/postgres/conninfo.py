"""Connection strings: what they may say, and what is never taken from elsewhere.

libpq fills what a connection string leaves out from the environment, from `~/.pgpass` and from other files of whoever runs the
server. A workflow must not reach with those: everything that says where to connect and as whom stands in the string, and options that
read files are refused. Nothing here repeats a part of the string in an error: it is a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mechaway_core.errors import NodeError

PORT = 5432
MOST_HOSTS = 10
SHAPE = "postgresql://user:password@host:5432/database, with special characters percent-encoded"

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, without what reads files (passfile, service, sslkey,
# sslcert, sslcrl, …), logs keys (sslkeylogfile), opens replication, or uses the Kerberos tickets of whoever runs the server.
ALLOWED = (
    "host", "port", "dbname", "user", "password", "connect_timeout", "application_name", "fallback_application_name", "options",
    "sslmode", "sslnegotiation", "sslsni", "sslrootcert", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding",
    "target_session_attrs", "load_balance_hosts", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout", "client_encoding",
)  # fmt: skip

# What must not come from the environment or files when the string does not say it, and what makes a dead network known in time.
_FIXED: Mapping[str, str] = {
    "options": "",
    "gssencmode": "disable",
    "sslcertmode": "disable",
    "require_auth": "!gss,!sspi",
    "passfile": "/dev/null/none",  # cannot exist
    "application_name": "mechaway",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One server that a connection string names. `params` are all of libpq's but its address."""

    host: str
    port: int
    params: Mapping[str, str] = field(repr=False)


def targets(conninfo: str) -> list[Target]:
    """The servers that a connection string names, in order. Raises `NodeError`, never with a part of the string."""
    given = _parsed(conninfo)
    _refuse(given)
    params = {**_FIXED, "dbname": given["user"], "password": "", **given, "client_encoding": "UTF8"}
    params.pop("connect_timeout", None)
    return [Target(host, port, {**params, "host": host, "port": str(port)}) for host, port in _hosts(given)]


def hosts_of(conninfo: str) -> list[tuple[str, int]]:
    """The hosts and ports that a connection string names. Raises `NodeError`."""
    return [(target.host, target.port) for target in targets(conninfo)]


def secrets_of(conninfo: str) -> list[str]:
    """The parts of a connection string that nobody may see: its password. Empty when the string cannot be read."""
    try:
        password = _parsed(conninfo).get("password")
    except NodeError:
        return []
    return [password] if password else []


def connect_timeout(conninfo: str) -> float | None:
    """The seconds that the string itself allows for connecting, if it says so."""
    try:
        seconds = float(_parsed(conninfo).get("connect_timeout") or 0)
    except ValueError:
        raise NodeError("connect_timeout in the connection string is not a number of seconds") from None
    return seconds if seconds > 0 else None


def _parsed(conninfo: str) -> dict[str, str]:
    from psycopg import Error, pq

    try:
        options = pq.Conninfo.parse(conninfo.encode())
        return {option.keyword.decode(): option.val.decode() for option in options if option.val is not None}
    except (Error, ValueError):
        raise NodeError(f"the connection string in secrets[0] cannot be read; write {SHAPE}") from None


def _refuse(given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in ALLOWED:
            raise NodeError(f"the connection string may not set {key} here")
    if given.get("sslrootcert", "system") != "system":
        raise NodeError("the connection string may not name a file as sslrootcert; the value system is possible")
    for key in ("host", "user"):
        if not given.get(key):
            raise NodeError(f"the connection string names no {key}; write {SHAPE}")


def _hosts(given: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    hosts = given["host"].split(",")
    ports = (given.get("port") or str(PORT)).split(",")
    if len(hosts) > MOST_HOSTS:
        raise NodeError(f"the connection string names more than {MOST_HOSTS} hosts")
    if len(ports) not in (1, len(hosts)):
        raise NodeError("the connection string names as many ports as hosts, or one")
    for number, host in enumerate(hosts):
        port = ports[number if len(ports) > 1 else 0] or str(PORT)
        if not host or host.startswith(("/", "@")):
            raise NodeError("the connection string must name a host; sockets in the file system are not used")
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
            raise NodeError("the port in the connection string is not a number from 1 to 65535")
        yield host, int(port)
