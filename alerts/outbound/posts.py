"""One POST, and the check of a URL before it is saved."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence

import httpcore

from alerts.addresses import Network

from .answers import DEADLINE_S, EXCERPT_BYTES, Answer, DeliveryError, readable
from .connections import CheckingBackend, Deadline, Resolver, check, getaddrinfo, look_up
from .targets import Target

CHECK_DEADLINE_S = 3.0  # a person waits for the form
KEPT_HEADERS = ("content-type", "location", "retry-after", "server", "x-request-id")


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
    target = Target.of(url)
    deadline = Deadline(deadline_s)
    backend = CheckingBackend(deadline=deadline, allowed_networks=allowed_networks, resolve=resolve)
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
    target = Target.of(url)
    try:
        addresses = look_up(target.host, target.port, Deadline(deadline_s), resolve)
    except (httpcore.NetworkError, httpcore.TimeoutException):
        return
    check(target.host, addresses, allowed_networks)


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


def _misdirected(host: str, answer: Answer) -> str:
    if 300 <= answer.status < 400:
        to = f" to {answer.headers['location']}" if "location" in answer.headers else ""
        return (
            f"{host} answered {answer.status}, a redirect{to}. Redirects are not followed: "
            "the channel needs the address at which the receiver answers itself."
        )
    return f"{host} answered {answer.status}, which is no answer to a POST."
