"""One POST to a URL that a customer chose, without lending them this server's network.

The name is resolved here, every address it could lead to is judged (alerts.addresses), and the
connection goes to a judged address: no second look-up lies between the check and the connection that a
name with a short life could answer differently. The certificate and the Host header stay those of the
name. Redirects are not followed, proxies from the environment are not used, and one deadline holds over
everything: look-up, connection, TLS, and an answer that drips a byte at a time.
"""

from __future__ import annotations

import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from urllib.parse import quote, urlsplit

import httpcore

from alerts.addresses import Address, Network, forbidden_reason

DEADLINE_S = 10.0
CHECK_DEADLINE_S = 3.0  # a person waits for the form
EXCERPT_BYTES = 4096
ADDRESSES_TRIED = 4  # a name with a thousand addresses must not make this server knock at all of them
MAX_URL_CHARACTERS = 2000
KEPT_HEADERS = ("content-type", "location", "retry-after", "server", "x-request-id")

Resolver = Callable[[str, int], Iterable[str]]
"""Name and port to the addresses as text; raises OSError where the name does not resolve."""


class DeliveryError(Exception):
    """A try that did not deliver: what happened, and whether another one could.

    `permanent` says that no later try can succeed. `retry_after_s` is what the receiver asked for,
    `status` its HTTP status where it answered, `excerpt` the beginning of its answer.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = permanent
        self.retry_after_s = retry_after_s
        self.status = status
        self.excerpt = excerpt


class InvalidURL(DeliveryError):
    """The text is no URL that can be posted to. Permanent: the same text stays wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class ForbiddenAddress(DeliveryError):
    """The URL leads, now, to an address that outgoing requests may not reach.

    Not permanent: a name answers differently inside and outside a network and while it is moved, and
    the operator may allow the address while the alert is still worth having. A retry costs a look-up;
    nothing is ever sent.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered, whatever the status: a channel decides which ones mean delivered.

    `headers` holds KEPT_HEADERS, in lower case; `excerpt` the beginning of the body as text that can be
    stored and shown; `duration_ms` the time of the whole try.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    excerpt: str = ""
    duration_ms: float = 0.0

    def retry_after_s(self, now: datetime) -> float | None:
        """The seconds that Retry-After asks for, given in seconds or as a date; None where it says nothing.

        >>> Answer(429, {"retry-after": "Sat, 21 Nov 2026 20:01:30 GMT"}).retry_after_s(
        ...     datetime(2026, 11, 21, 20, 0, 0, tzinfo=UTC))
        90.0
        """
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def getaddrinfo(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver gives for a name, in the order of preference."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    allowed_networks: Sequence[Network],
    deadline_s: float = DEADLINE_S,
    resolve: Resolver = getaddrinfo,
) -> Answer:
    """The receiver's answer to one POST, whatever its status except a redirect.

    Raises InvalidURL, ForbiddenAddress, or DeliveryError for a redirect, a name that does not resolve, a
    connection, certificate or protocol that failed, or no status within `deadline_s`. Once the status has
    come the try has its answer: a body that drips or breaks off only shortens the excerpt, since a receiver
    that has said 200 would get a copy otherwise.
    """
    started = time.perf_counter()
    target = _Target.of(url)
    deadline = _Deadline(deadline_s)
    backend = _CheckingBackend(deadline=deadline, allowed_networks=allowed_networks, resolve=resolve)
    sent_headers = {"Host": target.host_header, "Connection": "close", **headers}
    try:
        with (
            # One connection, never kept: a kept one would outlive its check. The context given here is
            # never used, see _Stream.start_tls.
            httpcore.ConnectionPool(
                ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), network_backend=backend
            ) as pool,
            pool.stream(
                "POST",
                httpcore.URL(
                    scheme=target.scheme, host=target.host, port=target.port, target=target.path_and_query
                ),
                headers=[(name.encode(), value.encode()) for name, value in sent_headers.items()],
                content=body,
            ) as response,
        ):
            answer = Answer(
                status=response.status,
                headers=_kept_headers(response.headers),
                excerpt=_excerpt(response),
                duration_ms=(time.perf_counter() - started) * 1000,
            )
    except httpcore.TimeoutException as error:
        raise DeliveryError(f"{target.host} gave no answer within {deadline_s:g} s ({error}).") from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        # A protocol error quotes what the receiver sent, which may be long.
        raise DeliveryError(f"The request to {target.host} failed: {str(error)[:500]}") from error
    if not 200 <= answer.status < 600 or 300 <= answer.status < 400:
        raise DeliveryError(_misdirected(target.host, answer), status=answer.status, excerpt=answer.excerpt)
    return answer


def check_url(
    url: str,
    *,
    allowed_networks: Sequence[Network],
    deadline_s: float = CHECK_DEADLINE_S,
    resolve: Resolver = getaddrinfo,
) -> None:
    """Passes where a channel may be saved with this URL; raises InvalidURL or ForbiddenAddress.

    A name that does not resolve now, or not in time, passes: the receiver may be set up later, and every
    try is checked again by itself.
    """
    target = _Target.of(url)
    try:
        addresses = _look_up(target.host, target.port, _Deadline(deadline_s), resolve)
    except (httpcore.NetworkError, httpcore.TimeoutException):
        return
    _check(target.host, addresses, allowed_networks)


# -- What is asked for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart once, so that what is checked and what is connected to cannot differ."""

    scheme: str
    host: str  # ASCII, without brackets
    port: int
    path_and_query: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> _Target:
        """Raises InvalidURL, saying what is wrong in a sentence that a form can show."""
        if len(url) > MAX_URL_CHARACTERS:
            raise InvalidURL(f"The URL has {len(url)} characters; {MAX_URL_CHARACTERS} are possible.")
        # urlsplit drops tabs and line ends without a word, and browsers read \ as /.
        if re.search(r"[\s\\\x00-\x20\x7f]", url):
            raise InvalidURL("The URL must have no spaces, control characters or backslashes.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidURL(f"This is no URL: {error}.") from error
        if parts.scheme not in _DEFAULT_PORTS:
            raise InvalidURL(
                f"The URL must start with https:// or http://, got {parts.scheme or 'no scheme'!r}."
            )
        if "@" in parts.netloc:
            raise InvalidURL("The URL must not carry a user name or password.")
        if port == 0:
            raise InvalidURL("The port must be between 1 and 65535.")
        host = _ipv6_literal(host) if ":" in host else _ascii_name(host)
        try:
            path_and_query = quote(parts.path or "/", safe=_SAFE_IN_PATH)
            if parts.query:
                path_and_query += "?" + quote(parts.query, safe=_SAFE_IN_PATH + "?")
        except UnicodeError as error:  # half a character, which JSON can spell: "\ud800"
            raise InvalidURL("The URL holds a character that is none.") from error
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path_and_query)


_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~-._"
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


def _ipv6_literal(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError as error:
        raise InvalidURL(f"{host!r} is no IPv6 address.") from error
    if address.scope_id is not None:
        raise InvalidURL(f"{host!r} names a network interface, which means nothing to another machine.")
    return str(address)


def _ascii_name(host: str) -> str:
    """The name as the DNS knows it: a full stop at the end is dropped, which no certificate has."""
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise InvalidURL(f"{host!r} is no host name.") from error
    if not _NAME.fullmatch(name):
        raise InvalidURL(f"{host!r} is no host name." if host else "The URL names no host.")
    return name


# -- Where it leads -----------------------------------------------------------------------------


class _Deadline:
    """An instant by which everything must be over, on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds left, above 0; raises TimeoutError afterwards (a socket takes 0 for "do not block")."""
        remaining = self._at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining


def _look_up(host: str, port: int, deadline: _Deadline, resolve: Resolver) -> list[Address]:
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


def _ask(resolve: Resolver, host: str, port: int, deadline: _Deadline) -> list[str]:
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


def _check(host: str, addresses: Sequence[Address], allowed_networks: Sequence[Network]) -> None:
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
class _CheckingBackend(httpcore.NetworkBackend):
    """Connects to what was checked: the only way from httpcore to the network."""

    deadline: _Deadline
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
        addresses = _look_up(host, port, self.deadline, self.resolve)
        _check(host, addresses, self.allowed_networks)
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

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
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
        context = _tls_context()
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
def _tls_context() -> ssl.SSLContext:
    """The system's default context, shared by all threads; a new certificate authority needs a restart."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


# -- What came back -----------------------------------------------------------------------------


def _kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    decoded = ((name.decode("ascii").lower(), value.decode("latin-1")) for name, value in headers)
    return {name: value[:500] for name, value in decoded if name in KEPT_HEADERS}


def _excerpt(response: httpcore.Response) -> str:
    """The first EXCERPT_BYTES of the body as text; the rest is never read."""
    content = bytearray()
    try:
        for chunk in response.iter_stream():
            content += chunk
            if len(content) >= EXCERPT_BYTES:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.RemoteProtocolError):
        pass  # the status has come, which is the answer
    return readable(bytes(content[:EXCERPT_BYTES]).decode("utf-8", errors="replace"))


def readable(text: str) -> str:
    """The text with � for control characters: PostgreSQL stores no U+0000, and a terminal obeys the others."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "�", text)


def _misdirected(host: str, answer: Answer) -> str:
    if 300 <= answer.status < 400:
        to = f" to {answer.headers['location']}" if "location" in answer.headers else ""
        return (
            f"{host} answered {answer.status}, a redirect{to}. Redirects are not followed: "
            "the channel needs the address at which the receiver answers itself."
        )
    return f"{host} answered {answer.status}, which is no answer to a POST."
