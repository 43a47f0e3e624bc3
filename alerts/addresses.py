"""Which addresses an outgoing request may reach: the public internet and what the operator allows.

Whoever may edit a channel chooses a URL that this server then requests. Without a check that reaches
whatever the server reaches: databases without a password, admin pages on localhost, the credentials
that a cloud hands to its machines. So the tables below are denied. `ipaddress.is_private` is not relied
on: it lets 100.64.0.1, 64:ff9b::7f00:1 and 2002:7f00:1:: pass, and changes with Python's patch releases.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890), RFC 6052 and 8215
(NAT64), RFC 7526 (6to4 retired), RFC 9637 (documentation), and the clouds' own manuals for metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DENIED_IPV4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),  # Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier (CGNAT)"),  # also what Tailscale and some clouds use inside
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarking"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

# Global unicast addresses come out of 2000::/3 alone, so everything else is denied by not being in it;
# the rows name what people meet.
GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
DENIED_IPV6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "translated to IPv4 by a local NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "a Teredo tunnel"),
        ("2001:2::/48", "for benchmarking"),
        ("2001:db8::/32", "for documentation"),
        ("2001::/23", "reserved for protocols"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

# Most lie in a range denied above; 168.63.129.16 is a public address that Azure answers itself. They are
# listed apart because allowing a range must not hand out the machine's credentials by the way.
METADATA_ADDRESSES: frozenset[Address] = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, OpenStack, DigitalOcean, Hetzner, Oracle
        "169.254.170.2",  # AWS container credentials
        "169.254.170.23",  # AWS EKS pod identity
        "169.254.0.23",  # Tencent Cloud
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure WireServer
        "192.0.0.192",  # Oracle Cloud, classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd20:ce::254",  # Google Cloud
        "fd00:42::42",  # Scaleway
        "fe80::a9fe:a9fe",  # OpenStack
    )
)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of OUTBOUND_ALLOWED_CIDRS, e.g. ["10.20.0.0/16", "fd12::/16", "10.0.0.7"].

    Raises ValueError where one is no network, or has bits set behind its prefix (10.0.0.1/8 is a slip
    whose meaning nobody should guess).
    """
    return tuple(ip_network(text.strip()) for text in texts)


def forbidden_reason(address: Address, allowed_networks: Sequence[Network] = ()) -> str | None:
    """Why an outgoing request may not go to this address, e.g. "loopback"; None where it may.

    A form that carries an IPv4 address is judged by that address as well: ::ffff:127.0.0.1 is the
    loopback, and so is what a translator makes of 64:ff9b::7f00:1. Allowing the form's own range is
    therefore not enough to reach an address that is denied in itself. A NAT64 with a prefix out of the
    operator's own global range cannot be told from any other network; it has to filter by itself.

    `allowed_networks` lifts the denial for the addresses in it, with one exception: a metadata address
    is reached only when it is listed as a single address ("169.254.169.254/32"). An allowed 10.0.0.0/8,
    or even 0.0.0.0/0, speaks of the operator's receivers and not of the machine's credentials.

    >>> forbidden_reason(ip_address("100.64.0.1"))
    'shared by a carrier (CGNAT)'
    >>> forbidden_reason(ip_address("64:ff9b::7f00:1"), parse_networks(["64:ff9b::/96"]))
    'loopback'
    >>> forbidden_reason(ip_address("::ffff:10.0.0.7"), parse_networks(["10.0.0.0/8"])) is None
    True
    """
    for reached in _reached_by(address):
        is_metadata = reached in METADATA_ADDRESSES
        reason = "a cloud's metadata service" if is_metadata else _denied_reason(reached)
        if reason is not None and not any(
            reached in network and (network.num_addresses == 1 or not is_metadata)
            for network in allowed_networks
        ):
            return reason
    return None


def _reached_by(address: Address) -> Iterator[Address]:
    """The address without its scope, then the IPv4 address it carries for a tunnel or translator.

    A mapped address is its IPv4 address: the kernel connects to it over IPv4. In the local NAT64 range
    the last 32 bits are read, the form of a /96 prefix: RFC 8215 leaves the length to the operator,
    whose range is denied as a whole unless it is allowed.
    """
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    else:
        yield IPv6Address(int(address))
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            _server, client = address.teredo
            yield client
        if address in NAT64 or address in LOCAL_NAT64:
            yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _denied_reason(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in DENIED_IPV4 if address in network), None)
    for network, reason in DENIED_IPV6:
        if address in network:
            return reason
    return None if address in GLOBAL_UNICAST or address in NAT64 else "not of the public internet"
