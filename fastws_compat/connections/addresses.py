"""Addresses of clients, without the part that identifies a household."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network


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
