"""Addresses of clients: without the part that identifies a household, and as they count for a limit."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network


def masked(text: str | None) -> str | None:
    """The network of an address: `203.0.113.x`, or the first 48 bits of an IPv6 address."""
    if text is None:
        return None
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None) or found
    if isinstance(mapped, IPv4Address):
        return f"{str(mapped).rpartition('.')[0]}.x"
    return f"{ip_network((mapped, 48), strict=False).network_address}x"


def counted(text: str) -> str:
    """The address as it counts for a limit: the first 64 bits of IPv6, because a client chooses the rest."""
    if ":" not in text:
        return text
    try:
        found = IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))
