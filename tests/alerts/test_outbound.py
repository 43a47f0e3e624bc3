"""What a POST to a customer's URL may reach, how long it may take, and what it tells of the answer."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.addresses import DENIED_IPV4, METADATA_ADDRESSES, forbidden_reason, parse_networks
from alerts.outbound import (
    EXCERPT_BYTES,
    Answer,
    DeliveryError,
    ForbiddenAddress,
    InvalidURL,
    check_url,
    post,
)
from alerts.outbound.connections import tls_context
from tests.receivers import HANG, Exchange, Reply, WebhookReceiver

LOOPBACK = parse_networks(["127.0.0.1/32"])
PUBLIC_IPV4 = "93.184.215.14"
PUBLIC_IPV6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
CERTIFICATE = Path(__file__).parent / "hooks.example.test.pem"


def resolving_to(*addresses: str):
    """The part outside this machine: a DNS that gives these addresses for every name."""
    return lambda host, port: list(addresses)


def post_to(url: str, *, allowed_networks=LOOPBACK, deadline_s=5.0, **arguments) -> Answer:
    return post(
        url,
        body=b'{"n":1}',
        headers={"content-type": "application/json"},
        allowed_networks=allowed_networks,
        deadline_s=deadline_s,
        **arguments,
    )


def mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{address}")


def nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))


def local_nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b:1::")) | int(address))


def sixtofour(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x2002 << 112 | int(address) << 80)


def teredo(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x20010000 << 96 | (~int(address) & 0xFFFF_FFFF))


# -- Which addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "shared by a carrier (CGNAT)"),
        ("100.127.255.255", "shared by a carrier (CGNAT)"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.0.1", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "for documentation"),
        ("192.88.99.1", "a 6to4 relay"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "for benchmarking"),
        ("198.19.255.255", "for benchmarking"),
        ("198.51.100.1", "for documentation"),
        ("203.0.113.1", "for documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "not of the public internet"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:0:127.0.0.1", "not of the public internet"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b:1::808:808", "translated to IPv4 by a local NAT64"),
        ("100::1", "discarded"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "a Teredo tunnel"),
        ("2001:2::1", "for benchmarking"),
        ("2001:10::1", "reserved for protocols"),
        ("2001:db8::1", "for documentation"),
        ("2002:7f00:1::", "a 6to4 tunnel"),
        ("2002:808:808::1", "a 6to4 tunnel"),
        ("3fff::1", "for documentation"),
        ("5f00::1", "not of the public internet"),
        ("fc00::1", "unique local"),
        ("fd12:3456::1", "unique local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("169.254.169.254", "a cloud's metadata service"),
        ("169.254.170.2", "a cloud's metadata service"),
        ("100.100.100.200", "a cloud's metadata service"),
        ("168.63.129.16", "a cloud's metadata service"),
        ("192.0.0.192", "a cloud's metadata service"),
        ("fd00:ec2::254", "a cloud's metadata service"),
        ("fd20:ce::254", "a cloud's metadata service"),
        ("fe80::a9fe:a9fe%eth0", "a cloud's metadata service"),
        ("64:ff9b::a9fe:a9fe", "a cloud's metadata service"),
    ],
)
def test_an_internal_address_is_denied_with_its_reason(address: str, reason: str) -> None:
    assert forbidden_reason(ip_address(address)) == reason


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        PUBLIC_IPV4,
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        PUBLIC_IPV6,
        "2001:200::1",
        "2003::1",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",  # what a NAT64 network resolves a public IPv4 name to
    ],
)
def test_a_public_address_is_not_denied(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is None


# Half of them from the denied ranges, which a uniform draw would rarely meet.
ipv4_addresses = st.one_of(
    st.ip_addresses(v=4),
    st.sampled_from([network for network, _ in DENIED_IPV4]).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
    ),
    st.sampled_from([address for address in METADATA_ADDRESSES if isinstance(address, IPv4Address)]),
)


@given(ipv4_addresses)
def test_what_is_denied_as_ipv4_is_denied_in_every_form_that_carries_it(address: IPv4Address) -> None:
    if (reason := forbidden_reason(address)) is not None:
        assert forbidden_reason(mapped(address)) == reason
        assert forbidden_reason(nat64(address)) == reason
        for form in (local_nat64, sixtofour, teredo):
            assert forbidden_reason(form(address)) is not None


@given(ipv4_addresses)
def test_allowing_the_range_of_a_form_does_not_allow_a_denied_address_in_it(address: IPv4Address) -> None:
    tunnels = parse_networks(["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0/96"])
    for form in (mapped, nat64, local_nat64, sixtofour, teredo):
        is_denied = forbidden_reason(form(address), tunnels) is not None
        assert is_denied == (forbidden_reason(address) is not None), form


@given(ipv4_addresses | st.ip_addresses(v=6))
@example(IPv6Address("::ffff:1.1.1.1"))
@example(IPv6Address("64:ff9b::1.1.1.1"))
def test_what_python_calls_internal_is_denied(address: IPv4Address | IPv6Address) -> None:
    """The tables hold all that ipaddress knows, and more."""
    # Both forms lie in ::/8, which is reserved as a whole, and reach the IPv4 address that they carry.
    carries_ipv4 = any(address in IPv6Network(form) for form in ("::ffff:0:0/96", "64:ff9b::/96"))
    is_internal = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if is_internal or (address.is_reserved and not carries_ipv4):
        assert forbidden_reason(address) is not None


def test_an_allowed_network_lifts_the_denial_for_its_addresses_alone() -> None:
    allowed = parse_networks(["10.20.0.0/16", "fd12::/16"])
    assert forbidden_reason(ip_address("10.20.3.4"), allowed) is None
    assert forbidden_reason(ip_address("::ffff:10.20.3.4"), allowed) is None
    assert forbidden_reason(ip_address("fd12::7"), allowed) is None
    assert forbidden_reason(ip_address("10.21.0.1"), allowed) == "private"
    assert forbidden_reason(ip_address("fd13::7"), allowed) == "unique local"


@pytest.mark.parametrize("address", sorted(METADATA_ADDRESSES, key=str))
def test_a_metadata_address_is_reached_only_where_it_is_listed_by_itself(address) -> None:
    everything = parse_networks(["0.0.0.0/0", "::/0", "169.254.0.0/16", "168.63.129.0/24", "fd00::/8"])
    assert forbidden_reason(address, everything) == "a cloud's metadata service"
    assert forbidden_reason(address, parse_networks([str(address)])) is None


def test_a_network_with_bits_behind_its_prefix_is_no_setting() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        parse_networks(["10.0.0.1/8"])


# -- Which URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0.0.1:8080/",
        "http://0/",
        "http://0.0.0.0:5432/",
        "http://[::]/",
        "http://[::1]:6379/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::169.254.169.254]/latest/meta-data/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/api/token",
        "https://192.168.0.1/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://①②⑦.⓪.⓪.①/",
    ],
)
def test_a_url_that_leads_inside_is_refused_when_a_channel_is_saved(url: str) -> None:
    with pytest.raises(ForbiddenAddress, match="OUTBOUND_ALLOWED_CIDRS"):
        check_url(url, allowed_networks=())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://127.0.0.1:6379/_INFO", "https://"),
        ("//example.com/hook", "no scheme"),
        ("example.com/hook", "no scheme"),
        ("", "no scheme"),
        ("https:///hook", "names no host"),
        ("https://user:secret@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "no URL"),
        ("https://example.com:http/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://[fe80::1%25eth0]/", "interface"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com/a\nHost: other", "spaces"),
        ("https://example.com/\x00", "spaces"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("https://example..com/", "no host name"),
        ("https://-example.com/", "no host name"),
        ("https://exam*ple.com/", "no host name"),
        ("https://" + "a" * 64 + ".com/", "no host name"),
        ("https://example.com/" + "a" * 2000, "2020 characters"),
        ("https://example.com/\ud800", "a character that is none"),
        ("https://\ud800.com/", "no host name"),
    ],
)
def test_a_text_that_is_no_url_to_post_to_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidURL, match=says) as caught:
        check_url(url, allowed_networks=(), resolve=resolving_to(PUBLIC_IPV4))
    assert caught.value.permanent
    with pytest.raises(InvalidURL):
        post_to(url)


def test_a_name_that_leads_outside_and_inside_is_refused() -> None:
    resolve = resolving_to(PUBLIC_IPV4, "10.0.0.7")
    with pytest.raises(
        ForbiddenAddress, match=r"hooks\.example\.test leads to 10\.0\.0\.7, which is private"
    ):
        check_url("https://hooks.example.test/", allowed_networks=(), resolve=resolve)


def test_a_public_name_passes() -> None:
    check_url(
        "https://hooks.example.test:8443/path?token=ä",
        allowed_networks=(),
        resolve=resolving_to(PUBLIC_IPV4, PUBLIC_IPV6),
    )


def test_a_name_that_does_not_resolve_yet_may_be_saved() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    check_url("https://not-yet.example.test/", allowed_networks=(), resolve=resolve)


def test_a_name_whose_look_up_hangs_may_be_saved_after_the_deadline() -> None:
    released = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        released.wait()
        return []

    try:
        check_url("https://slow.example.test/", allowed_networks=(), deadline_s=0.1, resolve=resolve)
    finally:
        released.set()


# -- What is sent -----------------------------------------------------------------------------------


def test_the_body_and_headers_arrive_and_the_answer_comes_back(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(
        Reply(202, {"Content-Type": "text/plain", "X-Request-Id": "r-1", "Set-Cookie": "no"}, b"thanks")
    )
    answer = post_to(webhook_receiver.url + "?a=1")
    (request,) = webhook_receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=1", b'{"n":1}')
    assert request.headers["host"] == f"127.0.0.1:{webhook_receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert (answer.status, answer.excerpt) == (202, "thanks")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-request-id"] == "r-1"
    assert "set-cookie" not in answer.headers
    assert 0 < answer.duration_ms < 5000


def test_the_connection_goes_to_the_address_that_was_checked(webhook_receiver: WebhookReceiver) -> None:
    """A name that answers differently the second time gains nothing: there is no second time."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    assert post_to(url, resolve=resolve).status == 204
    assert asked == ["hooks.example.test"]
    assert webhook_receiver.requests[0].headers["host"] == f"hooks.example.test:{webhook_receiver.port}"


def test_a_name_that_leads_inside_after_it_was_saved_is_not_sent_to(
    webhook_receiver: WebhookReceiver,
) -> None:
    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    check_url(url, allowed_networks=(), resolve=resolving_to(PUBLIC_IPV4))
    with pytest.raises(ForbiddenAddress, match=r"127\.0\.0\.1, which is loopback") as caught:
        post_to(url, allowed_networks=(), resolve=resolving_to("127.0.0.1"))
    assert not caught.value.permanent
    assert webhook_receiver.requests == []


def test_nothing_is_sent_where_one_of_several_addresses_is_internal(
    webhook_receiver: WebhookReceiver,
) -> None:
    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    with pytest.raises(ForbiddenAddress):
        post_to(url, resolve=resolving_to("127.0.0.1", "10.0.0.1"))
    assert webhook_receiver.requests == []


def test_a_mapped_loopback_is_reached_where_the_loopback_is_allowed(
    webhook_receiver: WebhookReceiver,
) -> None:
    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    assert post_to(url, resolve=resolving_to("::ffff:127.0.0.1")).status == 204


def test_the_next_address_is_tried_where_the_first_refuses(webhook_receiver: WebhookReceiver) -> None:
    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    allowed = parse_networks(["127.0.0.0/8"])
    answer = post_to(url, allowed_networks=allowed, resolve=resolving_to("127.0.0.2", "127.0.0.1"))
    assert answer.status == 204


def test_the_other_family_is_tried_before_the_rest_of_the_first(webhook_receiver: WebhookReceiver) -> None:
    """Four dead IPv6 addresses, as many as are tried at all, do not hide the IPv4 address behind them."""
    url = f"http://hooks.example.test:{webhook_receiver.port}/hook"
    dead = [f"fd12::{number}" for number in range(4)]
    allowed = (*LOOPBACK, *parse_networks(["fd12::/16"]))
    answer = post_to(url, allowed_networks=allowed, deadline_s=2, resolve=resolving_to(*dead, "127.0.0.1"))
    assert answer.status == 204


def test_proxies_from_the_environment_are_not_used(
    webhook_receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert post_to(webhook_receiver.url).status == 204


# -- What comes back --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 400, 404, 410, 429, 500, 503])
def test_every_status_but_a_redirect_is_an_answer(webhook_receiver: WebhookReceiver, status: int) -> None:
    webhook_receiver.answer(Reply(status))
    assert post_to(webhook_receiver.url).status == status


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_an_error_that_says_so_and_is_not_followed(
    webhook_receiver: WebhookReceiver, status: int
) -> None:
    with WebhookReceiver() as internal:
        webhook_receiver.answer(Reply(status, {"Location": internal.url}))
        with pytest.raises(DeliveryError, match="Redirects are not followed") as caught:
            post_to(webhook_receiver.url)
        assert internal.url in caught.value.message
        assert (caught.value.status, caught.value.permanent) == (status, False)
        assert internal.requests == []


def test_of_a_huge_body_only_the_beginning_is_read(webhook_receiver: WebhookReceiver) -> None:
    sent_bytes = 0

    def send_without_end(exchange: Exchange) -> None:
        nonlocal sent_bytes
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while not exchange.closing.is_set():
            exchange.send(b"x" * 65536)
            sent_bytes += 65536

    webhook_receiver.answer(Reply(script=send_without_end))
    answer = post_to(webhook_receiver.url)
    assert (answer.status, answer.excerpt) == (200, "x" * EXCERPT_BYTES)
    webhook_receiver.close()
    assert sent_bytes < 50_000_000  # what the sockets' buffers take in


def test_the_excerpt_is_text_that_can_be_stored(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(Reply(500, body=b"caf\xc3\xa9 \xff\x00\x1b[31m\n"))
    assert post_to(webhook_receiver.url).excerpt == "café ���[31m\n"


def test_a_body_that_breaks_off_does_not_undo_the_status(webhook_receiver: WebhookReceiver) -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthan")

    webhook_receiver.answer(Reply(script=break_off))
    answer = post_to(webhook_receiver.url)
    assert (answer.status, answer.excerpt) == (200, "than")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"220 smtp.example.test ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
def test_what_is_no_http_answer_is_an_error(webhook_receiver: WebhookReceiver, content: bytes) -> None:
    webhook_receiver.answer(Reply(script=lambda exchange: exchange.send(content)))
    with pytest.raises(DeliveryError) as caught:
        post_to(webhook_receiver.url)
    assert not caught.value.permanent


def test_a_header_without_end_is_an_error(webhook_receiver: WebhookReceiver) -> None:
    def send_without_end(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not exchange.closing.is_set():
            exchange.send(b"x" * 65536)

    webhook_receiver.answer(Reply(script=send_without_end))
    with pytest.raises(DeliveryError) as caught:
        post_to(webhook_receiver.url)
    assert len(caught.value.message) < 1000


def test_a_refused_connection_is_an_error_that_can_be_retried(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.close()
    with pytest.raises(DeliveryError, match="Connection refused") as caught:
        post_to(webhook_receiver.url)
    assert (caught.value.permanent, caught.value.status) == (False, None)


def test_a_name_that_does_not_resolve_is_an_error_that_can_be_retried() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(DeliveryError, match="does not resolve") as caught:
        post_to("http://hooks.example.test/", resolve=resolve)
    assert not caught.value.permanent


# -- How long it may take ---------------------------------------------------------------------------


def drip_head(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000, every_s=0.02)


def drip_interim_answers(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, every_s=0.005)


@pytest.mark.parametrize("reply", [HANG, Reply(script=drip_head), Reply(script=drip_interim_answers)])
def test_a_receiver_without_a_status_in_time_is_given_up_at_the_deadline(
    webhook_receiver: WebhookReceiver, reply: Reply
) -> None:
    webhook_receiver.answer(reply)
    started = time.monotonic()
    with pytest.raises(DeliveryError, match=r"no answer within 0\.3 s") as caught:
        post_to(webhook_receiver.url, deadline_s=0.3)
    assert 0.3 <= time.monotonic() - started < 2
    assert not caught.value.permanent


def test_a_body_that_drips_ends_at_the_deadline_with_the_status_it_began_with(
    webhook_receiver: WebhookReceiver,
) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        exchange.drip(b"x" * 1000, every_s=0.02)

    webhook_receiver.answer(Reply(script=drip))
    started = time.monotonic()
    answer = post_to(webhook_receiver.url, deadline_s=0.8)
    assert time.monotonic() - started < 3
    assert answer.status == 200
    assert 0 < len(answer.excerpt) < 1000


def test_a_look_up_that_hangs_is_given_up_at_the_deadline() -> None:
    released = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        released.wait()
        return []

    started = time.monotonic()
    try:
        with pytest.raises(DeliveryError, match="looking up its name"):
            post_to("http://slow.example.test/", deadline_s=0.2, resolve=resolve)
    finally:
        released.set()
    assert time.monotonic() - started < 2


@pytest.fixture
def listening_but_silent() -> Iterator[int]:
    """The port of a socket that connects and then never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_tls_handshake_that_hangs_is_given_up_at_the_deadline(listening_but_silent: int) -> None:
    started = time.monotonic()
    with pytest.raises(DeliveryError, match="agreeing on TLS"):
        post_to(f"https://127.0.0.1:{listening_but_silent}/", deadline_s=0.2)
    assert time.monotonic() - started < 2


def test_a_receiver_that_does_not_read_is_given_up_at_the_deadline(listening_but_silent: int) -> None:
    started = time.monotonic()
    with pytest.raises(DeliveryError, match="sending the request"):
        post(
            f"http://127.0.0.1:{listening_but_silent}/",
            body=b"x" * 50_000_000,
            headers={},
            allowed_networks=LOOPBACK,
            deadline_s=0.3,
        )
    assert time.monotonic() - started < 2


# -- TLS --------------------------------------------------------------------------------------------


@pytest.fixture
def tls_receiver() -> Iterator[WebhookReceiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with WebhookReceiver(tls=context) as receiver:
        yield receiver


@pytest.fixture
def trusted_certificate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system trusts the receiver's certificate, the way an operator adds a private authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


@pytest.mark.usefixtures("trusted_certificate")
def test_tls_is_verified_for_the_name_while_the_checked_address_is_connected_to(
    tls_receiver: WebhookReceiver,
) -> None:
    url = f"https://hooks.example.test:{tls_receiver.port}/hook"
    assert post_to(url, resolve=resolving_to("127.0.0.1")).status == 204
    assert tls_receiver.requests[0].headers["host"] == f"hooks.example.test:{tls_receiver.port}"


@pytest.mark.usefixtures("trusted_certificate")
def test_a_certificate_of_another_name_is_refused(tls_receiver: WebhookReceiver) -> None:
    url = f"https://other.example.test:{tls_receiver.port}/hook"
    with pytest.raises(DeliveryError, match="certificate is not valid: Hostname mismatch") as caught:
        post_to(url, resolve=resolving_to("127.0.0.1"))
    assert not caught.value.permanent
    assert tls_receiver.requests == []


def test_a_certificate_that_the_system_does_not_trust_is_refused(tls_receiver: WebhookReceiver) -> None:
    url = f"https://hooks.example.test:{tls_receiver.port}/hook"
    with pytest.raises(DeliveryError, match="certificate is not valid: self-signed"):
        post_to(url, resolve=resolving_to("127.0.0.1"))
    assert tls_receiver.requests == []


def test_https_to_a_port_that_speaks_http_is_an_error(webhook_receiver: WebhookReceiver) -> None:
    with pytest.raises(DeliveryError, match="does not speak TLS") as caught:
        post_to(webhook_receiver.url.replace("http:", "https:"))
    assert not caught.value.permanent
    assert webhook_receiver.requests == []


# -- Retry-After ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert Answer(429, {"retry-after": text}).retry_after_s(now) == seconds


def test_no_retry_after_asks_for_nothing() -> None:
    assert Answer(503).retry_after_s(datetime(2026, 11, 22, tzinfo=UTC)) is None
