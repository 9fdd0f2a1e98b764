"""The guard: what may be reached, in every notation."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechaway_core.errors import AddressRefused, Invalid, OutOfTime, Unreachable
from mechaway_core.http.addresses import Reach, plain, reach
from mechaway_core.http.guard import Guard, entries
from mechaway_core.settings import Settings

UNHURRIED = settings(deadline=None)  # the machine may be busy
ALLOW = Guard(Settings())
REFUSE = Guard(Settings(http_private="refuse"))

NEVER = (
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.1", "100.100.100.200", "168.63.129.16",
    "192.0.0.192", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "febf::1", "ff02::1", "fd00:ec2::254",
    "fd00:ec2::23", "fd20:ce::254", "100::1",
)  # fmt: skip
PRIVATE = (
    "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "203.0.113.5", "::1",
    "fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "169.253.0.1", "2606:4700::1111", "2a00:1450::1")


def soon() -> float:
    return time.monotonic() + 10


def carriers(address: IPv4Address) -> Iterator[IPv6Address]:
    """IPv6 addresses that lead to an IPv4 one."""
    number = int(address)
    yield IPv6Address(0xFFFF << 32 | number)  # mapped
    yield IPv6Address(0xFFFF << 48 | number)  # translated
    yield IPv6Address(int(IPv6Address("64:ff9b::")) | number)  # NAT64
    yield IPv6Address(0x2002 << 112 | number << 80 | 1)  # 6to4
    yield IPv6Address(0x20010000 << 96 | number << 64)  # the server of Teredo
    yield IPv6Address(0x20010000 << 96 | 0xFFFFFFFF ^ number)  # the client of Teredo
    yield IPv6Address(int(IPv6Address("2a00::5efe:0:0")) | number)  # ISATAP


@pytest.mark.parametrize("text", NEVER)
def test_link_local_metadata_multicast_and_reserved_addresses_are_always_refused(text: str) -> None:
    assert reach(ip_address(text)) is Reach.NEVER
    with pytest.raises(AddressRefused, match="never calls"):
        ALLOW.addresses(text, 80, soon())
    with pytest.raises(AddressRefused, match="never calls"):
        Guard(Settings(http_allow=f"{text},0.0.0.0/0,::/0")).addresses(text, 80, soon())


@pytest.mark.parametrize("text", PRIVATE)
def test_this_machine_and_private_networks_are_a_matter_of_the_setting(text: str) -> None:
    assert ALLOW.addresses(text, 80, soon()) == [text]
    with pytest.raises(AddressRefused, match=r"MECHAWAY_HTTP_PRIVATE refuses; MECHAWAY_HTTP_ALLOW can name it"):
        REFUSE.addresses(text, 80, soon())


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_always_allowed(text: str) -> None:
    assert REFUSE.addresses(text, 80, soon()) == [text]


@UNHURRIED
@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_as_itself_or_harder(address: IPv4Address) -> None:
    for carrier in carriers(address):
        assert reach(carrier) >= reach(address), carrier


@UNHURRIED
@given(st.ip_addresses())
def test_every_address_is_judged_and_a_mapped_one_as_what_it_is(address: IPv4Address | IPv6Address) -> None:
    assert reach(plain(address)) == reach(address)
    if reach(address) is Reach.PUBLIC:
        assert address.is_global


@pytest.mark.parametrize(
    "host",
    [
        "2852039166", "0xA9FEA9FE", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "169.16689662", "0xa9fe.43518",
        "169.254.169.254.", "[::ffff:169.254.169.254]", "::ffff:a9fe:a9fe", "0:0:0:0:0:ffff:a9fe:a9fe", "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]", "[fe80::1%eth0]", "[FD00:EC2::254]", "METADATA.google.internal", "metadata.google.internal.",
        "instance-data.ec2.internal", "0", "0.0", "[::]", "4294967295", "0x0",
    ],
)  # fmt: skip
def test_no_notation_of_a_forbidden_address_gets_through(host: str) -> None:
    with pytest.raises((AddressRefused, Unreachable)):
        ALLOW.addresses(host, 80, soon())


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "LOCALHOST.", "[::1]", "::ffff:127.0.0.1"])
def test_no_notation_of_loopback_gets_through_where_it_is_refused(host: str) -> None:
    with pytest.raises((AddressRefused, Unreachable)):
        REFUSE.addresses(host, 80, soon())


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "a" * 300, "a..b", "\x00", "", "xn--", "*", "localhost\n"])
def test_odd_hosts_are_errors_and_nothing_worse(host: str) -> None:
    with pytest.raises((AddressRefused, Unreachable)):
        REFUSE.addresses(host, 80, soon())


@pytest.mark.parametrize("port", [0, -1, 65536, 65536 + 9001])
def test_a_port_is_never_cut_to_another(port: int) -> None:
    with pytest.raises(AddressRefused):
        ALLOW.addresses("127.0.0.1", port, soon())


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The system's resolver, giving these addresses, one list for each call; the hosts that it was asked for."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", (address, port)) for address in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_every_address_of_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, ["8.8.8.8", "169.254.169.254"], ["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "1.1.1.1", "8.8.8.8"])
    with pytest.raises(AddressRefused, match=r"rebind\.example \(169\.254\.169\.254\)"):
        ALLOW.addresses("rebind.example", 80, soon())
    with pytest.raises(AddressRefused, match=r"rebind\.example \(10\.0\.0\.1\)"):
        REFUSE.addresses("rebind.example", 80, soon())
    assert REFUSE.addresses("rebind.example", 80, soon()) == ["8.8.8.8", "1.1.1.1"]


def test_the_allow_list_wins_for_private_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(Settings(http_private="refuse", http_allow=" DB.internal. , 10.1.0.0/16, 192.168.1.1:8080, [::1]:9000 ,api.internal:443"))
    asked = resolver(monkeypatch, ["172.16.0.9"], ["169.254.169.254"], ["172.16.0.9"], ["172.16.0.9"])
    assert guard.addresses("db.internal", 5432, soon()) == ["172.16.0.9"]
    with pytest.raises(AddressRefused, match="never calls"):
        guard.addresses("db.internal", 80, soon())
    assert guard.addresses("API.internal", 443, soon()) == ["172.16.0.9"]
    with pytest.raises(AddressRefused):
        guard.addresses("api.internal", 80, soon())
    assert asked == ["db.internal", "db.internal", "api.internal", "api.internal"]
    assert guard.addresses("10.1.2.3", 80, soon()) == ["10.1.2.3"]
    assert guard.addresses("192.168.1.1", 8080, soon()) == ["192.168.1.1"]
    assert guard.addresses("::1", 9000, soon()) == ["::1"]
    for host, port in (("10.2.0.1", 80), ("192.168.1.1", 80), ("::1", 80), ("127.0.0.1", 9000)):
        with pytest.raises(AddressRefused):
            guard.addresses(host, port, soon())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0x7f000001"])
def test_the_runtime_of_lambda_is_refused_by_every_address_of_this_machine(host: str) -> None:
    guard = Guard(Settings.load({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}))
    with pytest.raises(AddressRefused, match="at port 9001 is never called"):
        guard.addresses(host, 9001, soon())
    assert guard.addresses("127.0.0.1", 9002, soon()) == ["127.0.0.1"]


def test_endpoints_of_the_cloud_come_from_its_environment() -> None:
    environment = {
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:8123/v1/credentials",
        "MECHAWAY_HTTP_REFUSE": "intranet.example",
    }
    settings = Settings.load(environment)
    assert settings.http_refuse == "intranet.example,127.0.0.1:9001,127.0.0.1:8123"
    assert Settings.load(settings.child_environment(environment)).http_refuse == "intranet.example,127.0.0.1:9001,127.0.0.1:8123"
    assert Settings.load({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://["}).http_refuse == ""


def test_a_refused_host_is_not_called_by_any_name_that_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(Settings(http_refuse="203.0.113.0/24,intranet.example"))
    resolver(monkeypatch, ["203.0.113.9"], ["8.8.8.8"])
    for host in ("other.example", "intranet.example"):
        with pytest.raises(AddressRefused, match="MECHAWAY_HTTP_REFUSE"):
            guard.addresses(host, 80, soon())


@pytest.mark.parametrize("text", ["10.0.0.0/99", "a b", "host:0", "host:99999", "http://x", "user@host", "[::1", "a/b", ":80"])
def test_a_list_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match="MECHAWAY_HTTP_ALLOW has"):
        Guard(Settings(http_allow=text))


def test_an_empty_list_has_no_entries() -> None:
    assert entries(" , ,", "X") == ()


def test_a_resolver_that_hangs_does_not_outlive_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: hold.wait(30) and [])
    began = time.monotonic()
    with pytest.raises(OutOfTime, match="looking up the host"):
        Guard(Settings()).addresses("slow.example", 80, time.monotonic() + 0.1)
    hold.set()
    assert time.monotonic() - began < 5
    with pytest.raises(OutOfTime):
        Guard(Settings()).addresses("late.example", 80, time.monotonic() - 1)


def test_the_guard_needs_no_http_library() -> None:
    import subprocess
    import sys

    code = "import sys, mechaway_core.http.guard; print([m for m in ('httpx', 'httpcore', 'ssl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
