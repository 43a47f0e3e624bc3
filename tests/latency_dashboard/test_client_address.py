"""Whose request it is, as far as the operator's own proxies vouch for it."""

from __future__ import annotations

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from latency_dashboard.checks import check_throttling
from latency_dashboard.client_address import client_address, client_network

PROXY = "10.0.0.9"


def asked(proxies: int, forwarded: str | None, settings: Settings, connected_from: str = PROXY) -> str | None:
    settings.TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return client_address(RequestFactory().get("/", REMOTE_ADDR=connected_from, **headers))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, None, PROXY),
        (0, "203.0.113.7", PROXY),
        (1, "203.0.113.7", "203.0.113.7"),
        # What the client wrote stands to the left of what the proxy appended.
        (1, "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (1, "127.0.0.1, 10.0.0.1, 203.0.113.7", "203.0.113.7"),
        (2, "198.51.100.1, 203.0.113.7, 10.0.0.8", "203.0.113.7"),
        # Past a proxy: nobody of ours wrote the entry.
        (2, "203.0.113.7", PROXY),
        (1, None, PROXY),
        (1, "", PROXY),
        (1, "unknown", PROXY),
        (1, "203.0.113.7:51234", "203.0.113.7"),
        (1, '"[2001:db8::7]:443"', "2001:db8::7"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "fe80::1%eth0", "fe80::1"),
    ],
)
def test_as_many_entries_are_believed_as_proxies_are_trusted(
    proxies: int, forwarded: str | None, expected: str, settings: Settings
) -> None:
    assert asked(proxies, forwarded, settings) == expected


def test_a_unix_socket_has_no_address(settings: Settings) -> None:
    assert asked(0, None, settings, connected_from="") is None
    assert asked(1, "203.0.113.7", settings, connected_from="") == "203.0.113.7"


def test_throttling_counts_the_whole_network_that_a_holder_of_ipv6_has() -> None:
    def network(address: str) -> str | None:
        return client_network(RequestFactory().get("/", REMOTE_ADDR=address))

    assert network("2001:db8:1:2:aaaa::1") == network("2001:db8:1:2::ffff") == "2001:db8:1:2::"
    assert network("2001:db8:1:3::1") == "2001:db8:1:3::"
    assert network("203.0.113.7") == "203.0.113.7"


def test_a_negative_number_of_proxies_is_an_error_at_start(settings: Settings) -> None:
    assert check_throttling() == []
    settings.TRUSTED_PROXIES = -1
    assert [error.msg for error in check_throttling()] == ["TRUSTED_PROXIES is -1."]
