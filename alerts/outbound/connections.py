"""Connections to addresses that were judged, each step of which has only what is left of one deadline."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain, zip_longest

import httpcore

from alerts.addresses import Address, Network, forbidden_reason

from .answers import DeliveryError

ADDRESSES_TRIED = 4  # a name with a thousand addresses must not make this server knock at all of them

Resolver = Callable[[str, int], Iterable[str]]
"""Name and port to the addresses as text; raises OSError where the name does not resolve."""


class ForbiddenAddress(DeliveryError):
    """The URL leads, now, to an address that outgoing requests may not reach.

    Not permanent: a name answers differently inside and outside a network and while it is moved, and
    the operator may allow the address while the alert is still worth having. A retry costs a look-up;
    nothing is ever sent.
    """


def getaddrinfo(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver gives for a name, in the order of preference."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


# -- Where it leads -----------------------------------------------------------------------------


class Deadline:
    """An instant by which everything must be over, on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds left, above 0; raises TimeoutError afterwards (a socket takes 0 for "do not block")."""
        remaining = self._at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining


def look_up(host: str, port: int, deadline: Deadline, resolve: Resolver) -> list[Address]:
    """Every address that the host stands for; raises httpcore's ConnectError or ConnectTimeout for none.

    An address in any spelling that the system takes (2130706433, 0177.0.0.1) is read by the system itself
    and asks nobody.
    """
    try:
        entries = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
        texts: Iterable[str] = [str(entry[4][0]) for entry in entries]
    except OSError:  # so it is a name
        texts = _ask(resolve, host, port, deadline)
    addresses = [ip_address(text) for text in dict.fromkeys(texts)]
    if not addresses:
        raise httpcore.ConnectError("its name has no address.")
    return addresses


def _ask(resolve: Resolver, host: str, port: int, deadline: Deadline) -> list[str]:
    """What the resolver answers before the deadline.

    getaddrinfo has no timeout, so it runs in a thread of its own. One that hangs stays behind until the
    resolver gives up (30 s with the usual settings), which makes a few for every thread that sends. There
    is no pool for them: names that hang would fill it and hold up the others.
    """
    outcomes: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            outcomes.put(list(resolve(host, port)))
        except OSError as error:
            outcomes.put(error)

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    try:
        outcome = outcomes.get(timeout=deadline.remaining_s())
    except (queue.Empty, TimeoutError) as error:
        raise httpcore.ConnectTimeout("looking up its name") from error
    if isinstance(outcome, OSError):
        message = f"its name does not resolve ({outcome.strerror or outcome})."
        raise httpcore.ConnectError(message) from outcome
    return outcome


def check(host: str, addresses: Sequence[Address], allowed_networks: Sequence[Network]) -> None:
    """Raises ForbiddenAddress where any of them may not be reached.

    One is enough, although another would do: which one is connected to is the accident of the moment,
    and a name that leads both outside and inside is a mistake or an attack.
    """
    for address in addresses:
        if (reason := forbidden_reason(address, allowed_networks)) is not None:
            leads = f"{host} is" if str(address) == host else f"{host} leads to {address}, which is"
            raise ForbiddenAddress(
                f"{leads} {reason}. Nothing was sent. "
                "Internal networks that may be reached are named in OUTBOUND_ALLOWED_CIDRS."
            )


def _alternating(addresses: Sequence[Address]) -> Iterator[Address]:
    """The addresses with the families taken in turn, the preferred one first (RFC 8305, section 4).

    So a broken IPv6 route does not use up all tries when a name has four addresses of each family.
    """
    preferred = [address for address in addresses if address.version == addresses[0].version]
    others = [address for address in addresses if address.version != addresses[0].version]
    return (address for address in chain(*zip_longest(preferred, others)) if address is not None)


# -- How it gets there --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckingBackend(httpcore.NetworkBackend):
    """Connects to what was checked: the only way from httpcore to the network."""

    deadline: Deadline
    allowed_networks: Sequence[Network]
    resolve: Resolver

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to an address of the host that passed.

        1. look the name up
        2. check every address
        3. try the first few, each for its share of the time
        """
        addresses = look_up(host, port, self.deadline, self.resolve)
        check(host, addresses, self.allowed_networks)
        tried = list(_alternating(addresses))[:ADDRESSES_TRIED]
        for left, address in zip(range(len(tried), 0, -1), tried, strict=True):
            try:
                share_s = self.deadline.remaining_s() / left
                connection = socket.create_connection((str(address), port), share_s)
            except OSError as error:
                failure = _connect_failure(address, port, error)
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(connection, self.deadline)
        raise failure


def _connect_failure(address: Address, port: int, error: OSError) -> Exception:
    if isinstance(error, TimeoutError):
        return httpcore.ConnectTimeout(f"connecting to {address}, port {port}")
    return httpcore.ConnectError(f"connecting to {address}, port {port}: {error.strerror or error}.")


class _Stream(httpcore.NetworkStream):
    """A connection on which every step has only what is left of the deadline.

    httpcore's own timeouts start anew with each read, so that a byte a second would hold a worker for ever.
    """

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._connection.settimeout(self._deadline.remaining_s())
            return self._connection.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("waiting for its answer") from error
        except OSError as error:
            raise httpcore.ReadError(f"reading its answer: {error.strerror or error}.") from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        unsent = memoryview(buffer)
        try:
            while unsent:
                self._connection.settimeout(self._deadline.remaining_s())
                unsent = unsent[self._connection.send(unsent) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("sending the request") from error
        except OSError as error:
            raise httpcore.WriteError(f"sending the request: {error.strerror or error}.") from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The connection under TLS, verified by the system's certificates for the name in the URL.

        `ssl_context` is not used: httpcore changes the one it is given at every connection, which is not
        safe for one that threads share, and to load the system's for every request takes 50 ms.
        """
        context = tls_context()
        try:
            self._connection.settimeout(self._deadline.remaining_s())
            wrapped = context.wrap_socket(self._connection, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout("agreeing on TLS") from error
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise httpcore.ConnectError(f"its certificate is not valid: {error.verify_message}.") from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(
                f"it does not speak TLS there ({error.strerror or error})."
            ) from error
        return _Stream(wrapped, self._deadline)

    def close(self) -> None:
        self._connection.close()


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """The system's default context, shared by all threads; a new certificate authority needs a restart."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
