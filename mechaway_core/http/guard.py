"""The guard: which hosts Mechaway lets a workflow reach.

A workflow can name any host, so Mechaway must not become a way into the network it runs in. The guard resolves a name itself, looks
at every address it has, and gives out only addresses that may be called; whoever asks must connect to one of these, not to
the name, or a second look-up could answer differently. It looks at what the resolver made of a host, so that no notation
(decimal, octal, hexadecimal, mapped) gets around it.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_network
from typing import NamedTuple

from mechaway_core.cancellation import NEVER, Cancellation
from mechaway_core.errors import AddressRefused, Invalid, OutOfTime, Unreachable
from mechaway_core.http.addresses import Address, Network, Reach, parse, plain, reach
from mechaway_core.names import shorten
from mechaway_core.settings import Settings

# They lead to link-local addresses anyway; by name they are refused before anybody is asked.
_METADATA = ("metadata.google.internal", "metadata.goog", "instance-data.ec2.internal")
_MOST_LOOKUPS = 64  # at the same time; each is a thread that the system's resolver may hold for a while


class Entry(NamedTuple):
    """One entry of a list of hosts: a name or a network, perhaps with a port."""

    name: str = ""
    network: Network | None = None
    port: int | None = None

    def covers(self, host: str, address: Address, port: int) -> bool:
        """Whether the entry speaks of this address, reached by this host and port."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.name == host
        return self.network.version == address.version and address in self.network


class Guard:
    """Resolves hosts and refuses what may not be reached. Thread-safe. Raises `Invalid` for lists that cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._private = settings.http_private == "allow"
        self._allow = entries(settings.http_allow, "MECHAWAY_HTTP_ALLOW")
        self._refuse = entries(settings.http_refuse, "MECHAWAY_HTTP_REFUSE")
        self._lookups = threading.BoundedSemaphore(_MOST_LOOKUPS)

    def addresses(self, host: str, port: int, deadline: float, cancellation: Cancellation = NEVER) -> list[str]:
        """The addresses to connect to for a host, best first, at least one. `deadline` is an instant of `time.monotonic()`.

        Raises `AddressRefused` when any of them may not be called, `Unreachable` when there is none, `OutOfTime`, `Cancelled`.
        """
        if not 0 < port < 65536:  # systems cut it to 16 bits, and it would be another port than the one looked at
            raise AddressRefused(f"{port} is not a port")
        name = folded(host)
        if name in _METADATA:
            raise AddressRefused(f'the host "{shorten(name)}" is a metadata service, which Mechaway never calls')
        literal = parse(name)
        found = [literal] if literal is not None else self._resolve(name, port, deadline, cancellation)
        for address in found:
            self._look_at(name, plain(address), port)
        return [str(address) for address in found]

    def _look_at(self, host: str, address: Address, port: int) -> None:
        """Raise `AddressRefused` when an address may not be called."""
        shown = shorten(host) if str(address) == host else f"{shorten(host)} ({address})"
        far = reach(address)
        if far is Reach.NEVER:
            raise AddressRefused(f"{shown} is link-local, metadata, multicast or reserved, which Mechaway never calls")
        if any(_speaks_of(entry, host, address, port) for entry in self._refuse):
            raise AddressRefused(f"{shown} at port {port} is never called (MECHAWAY_HTTP_REFUSE)")
        if far is Reach.PRIVATE and not self._private and not any(entry.covers(host, address, port) for entry in self._allow):
            raise AddressRefused(f"{shown} is in a private network, which MECHAWAY_HTTP_PRIVATE refuses; MECHAWAY_HTTP_ALLOW can name it")

    def _resolve(self, host: str, port: int, deadline: float, cancellation: Cancellation) -> list[Address]:
        """All addresses of a name, in the resolver's order. The look-up itself cannot be stopped, so it is left behind when late."""
        if deadline <= time.monotonic() or not cancellation.acquire(self._lookups, deadline):
            raise OutOfTime(f'there was no time left to look up the host "{shorten(host)}"')
        answers: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._look_up, args=(host, port, answers), name="mechaway-lookup", daemon=True).start()
        try:
            with cancellation.during(partial(answers.put, [])):
                answer = answers.get(timeout=max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
        except queue.Empty:
            raise OutOfTime(f'looking up the host "{shorten(host)}" took too long') from None
        if isinstance(answer, Exception) or not answer:
            raise Unreachable(f'the host "{shorten(host)}" cannot be found')
        return answer

    def _look_up(self, host: str, port: int, answers: queue.SimpleQueue[list[Address] | Exception]) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = [parse(str(entry[4][0])) for entry in found]
            answers.put(list(dict.fromkeys(address for address in addresses if address is not None)))
        except (OSError, UnicodeError, ValueError, OverflowError) as error:
            answers.put(error)
        finally:
            self._lookups.release()


def folded(host: str) -> str:
    """A host as it is compared: lower case, without brackets and the dot that may end a name."""
    return host.strip("[]").rstrip(".").lower()


def entries(text: str, setting: str) -> Sequence[Entry]:
    """A comma-separated list of hosts, `host:port` and networks. Raises `Invalid` naming the setting."""
    return tuple(_entries(text, setting))


def _entries(text: str, setting: str) -> Iterator[Entry]:
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            yield _entry(word)
        except ValueError:
            raise Invalid(f"{setting} has {shorten(word)!r} in it, which is neither a host, host:port nor a network") from None


def _entry(word: str) -> Entry:
    """One entry. Raises `ValueError`."""
    host, port = _host_and_port(word)
    if host.startswith("[") != host.endswith("]"):
        raise ValueError(word)
    if "/" in host or parse(host) is not None:
        return Entry(network=ip_network(host.strip("[]"), strict=False), port=port)
    if not host or any(character.isspace() or character in "@?#[]:\\" for character in host):
        raise ValueError(word)
    return Entry(name=folded(host), port=port)


def _host_and_port(word: str) -> tuple[str, int | None]:
    host, colon, port = word.rpartition(":")
    bare_ipv6 = ":" in host and not host.endswith("]")
    if not colon or bare_ipv6 or word.endswith("]"):
        return word, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(word)
    return host, int(port)


def _speaks_of(entry: Entry, host: str, address: Address, port: int) -> bool:
    """Whether a refused entry means this address: what listens on one address of this machine may be reached by all its loopbacks."""
    network = entry.network
    if network is not None and address.is_loopback and network.is_loopback and network.num_addresses == 1:
        return entry.port in (None, port)
    return entry.covers(host, address, port)
