"""Which addresses Mechaway may connect to: every IP address is public, private, or one that is never called.

An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo …) is judged by both. What is not publicly routed by the
registries of IANA, as Python's `ipaddress` has them, counts as private.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Reach(IntEnum):
    """How far away an address is; the larger, the less a workflow may go there."""

    PUBLIC = 0
    PRIVATE = 1
    NEVER = 2


# Sources: RFC 6890 and the special-purpose registries of IANA; the pages of each cloud on its instance metadata.
_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network"; Linux takes it for loopback
        "169.254.0.0/16",  # link-local: metadata of AWS, Azure, Google and others, credentials of ECS and EKS
        "192.0.0.0/24",  # IETF protocol assignments; metadata of Oracle Cloud Classic
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # the host agent of Azure
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/128",  # unspecified
        "64:ff9b:1::/48",  # local NAT64: the embedded address stands in a place that only its network knows
        "fd00:ec2::/32",  # metadata, DNS and credentials of AWS over IPv6
        "fd20:ce::254/128",  # metadata of Google Cloud over IPv6
        "fe80::/10",  # link-local
        "ff00::/8",  # multicast
    )
)
_SITE_LOCAL = IPv6Network("fec0::/10")  # given up by RFC 3879, and still in use here and there
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_CARRIERS = (_MAPPED, _TRANSLATED, _NAT64)  # these stand for the IPv4 address in them and nothing else
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of the interface identifier (RFC 5214)


def reach(address: Address) -> Reach:
    """How far away an address is, with all that it carries."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            address = IPv6Address(int(address))
        inside = max((reach(one) for one in _carried(address)), default=Reach.PUBLIC)
        return inside if any(address in network for network in _CARRIERS) else max(inside, _own(address))
    return _own(address)


def _own(address: Address) -> Reach:
    if any(address.version == network.version and address in network for network in _NEVER):
        return Reach.NEVER
    if address.is_loopback:  # before "reserved", which holds ::1
        return Reach.PRIVATE
    if address.is_multicast or address.is_unspecified or address.is_reserved or address.is_link_local:
        return Reach.NEVER
    return Reach.PUBLIC if address.is_global and address not in _SITE_LOCAL else Reach.PRIVATE


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address."""
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if any(address in network for network in _CARRIERS) or (address in _COMPATIBLE and number > 1):
        yield low
    elif address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~number & 0xFFFFFFFF)
    elif number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield low


def plain(address: Address) -> Address:
    """The IPv4 address that a mapped one stands for, so that both are compared as one; any other as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse(text: str) -> Address | None:
    """The address that a host is when it is written as one, brackets and zone left out; None for a name."""
    try:
        return ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
