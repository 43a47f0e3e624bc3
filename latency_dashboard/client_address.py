"""Who sent a request: the address behind as many proxies as the operator vouches for, and no more."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# What one household or one rented server has of IPv6: whoever holds it has 2^64 addresses to change between.
_IPV6_PREFIX = 64


def client_address(request: HttpRequest) -> str | None:
    """The address of the client; None where the connection has none, as over a unix socket.

    Each proxy appends to X-Forwarded-For the address that it was connected from. So with TRUSTED_PROXIES = n
    the n-th entry from the right was written by a proxy of ours; whatever stands left of it, the client may
    have made up. A request with fewer entries did not come through all of them, and its connection counts.
    """
    connected_from = _address(request.META.get("REMOTE_ADDR", ""))
    count = settings.TRUSTED_PROXIES
    if count == 0:
        return connected_from
    entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if len(entries) < count:
        return connected_from
    return _address(entries[-count]) or connected_from


def client_network(request: HttpRequest) -> str | None:
    """What throttling counts by: an IPv4 address, or the first address of an IPv6 network of 64 bits."""
    address = client_address(request)
    if address is None or "." in address:
        return address
    return str(ip_network(f"{address}/{_IPV6_PREFIX}", strict=False).network_address)


def _address(text: str) -> str | None:
    """An address without port, brackets and zone; IPv4 where it is written as IPv6."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
