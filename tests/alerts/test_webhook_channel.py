"""A webhook as its receiver sees it, which answers end a delivery, and when the next try comes."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from alerts.addresses import parse_networks
from alerts.backoff import GIVE_UP_AFTER, next_attempt_at
from alerts.channels import KINDS, InvalidConfig, Message, webhook
from alerts.channels.message import body
from alerts.outbound import Answer, DeliveryError, ForbiddenAddress
from alerts.wording import Story
from tests.receivers import HANG, Reply, WebhookReceiver

LOOPBACK = parse_networks(["127.0.0.1/32"])
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = ["93.184.215.14"]

INCIDENT = {
    "id": 7,
    "feature": "support-chat",
    "environment": "production",
    "milestone": "first_token",
    "component": None,
    "severity": "page",
    "rule": "1h/5m",
    "summary": "✕ Support chat, first token: p99 4.2 s of 3 s.",
    "cause": {"component": "tools", "allocated_ms": 800, "observed_ms": 2100},
    "burn_rate": 15.2,
    "runbook_url": None,
    "opened_at": "2026-11-21T20:00:00Z",
    "url": "https://latency.example.test/incidents/7/",
}


def make_message(**overrides) -> Message:
    return Message(
        **{
            "message_id": "4b1c2f0e-8f3d-4a5b-9c6d-7e8f9a0b1c2d",
            "type": "incident.opened",
            "timestamp": datetime(2026, 11, 21, 20, 0, 3, tzinfo=UTC),
            "incident": INCIDENT,
            "story": Story("opened", "Support chat"),
            "thread_id": "4b1c2f0e-8f3d-4a5b-9c6d-7e8f9a0b1c2d",
            **overrides,
        }
    )


def send(
    receiver: WebhookReceiver, message: Message | None = None, *, now: datetime | None = None, **arguments
) -> Answer:
    return webhook.send(
        {"url": receiver.url, "secret": SECRET},
        message or make_message(),
        now=now or datetime.now(tz=UTC),
        allowed_networks=LOOPBACK,
        **arguments,
    )


# -- What arrives -----------------------------------------------------------------------------------


def test_a_webhook_is_verified_by_the_library_that_receivers_use(webhook_receiver: WebhookReceiver) -> None:
    assert send(webhook_receiver).status == 204
    (request,) = webhook_receiver.requests
    document = Webhook(SECRET).verify(request.body, dict(request.headers))
    assert document == {
        "type": "incident.opened",
        "timestamp": "2026-11-21T20:00:03Z",
        "data": {"incident": INCIDENT},
    }


def test_a_changed_byte_or_another_secret_fails_verification(webhook_receiver: WebhookReceiver) -> None:
    send(webhook_receiver)
    (request,) = webhook_receiver.requests
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body.replace(b"15.2", b"15.3"), dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook.new_secret()).verify(request.body, dict(request.headers))


def test_a_webhook_names_its_content_and_its_sender(webhook_receiver: WebhookReceiver) -> None:
    send(webhook_receiver)
    headers = webhook_receiver.requests[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == f"LatencyDashboard/{settings.VERSION}"


def test_a_retry_has_the_same_id_and_body_and_the_time_of_the_try(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(Reply(500))
    now = datetime.now(tz=UTC).replace(microsecond=900_000)
    message = make_message()
    with pytest.raises(DeliveryError):
        send(webhook_receiver, message, now=now)
    send(webhook_receiver, message, now=now + timedelta(seconds=90))
    first, second = webhook_receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == message.message_id
    assert first.body == second.body
    assert int(first.headers["webhook-timestamp"]) == int(now.timestamp())
    assert int(second.headers["webhook-timestamp"]) == int(now.timestamp()) + 90
    for request in (first, second):
        Webhook(SECRET).verify(request.body, dict(request.headers))


def test_the_signature_holds_whatever_zone_the_instant_is_given_in(webhook_receiver: WebhookReceiver) -> None:
    send(webhook_receiver, now=datetime.now(tz=timezone(timedelta(hours=5, minutes=30))))
    (request,) = webhook_receiver.requests
    Webhook(SECRET).verify(request.body, dict(request.headers))


def test_a_secret_without_padding_signs_like_one_with_it(webhook_receiver: WebhookReceiver) -> None:
    config = webhook.validate(
        {"url": webhook_receiver.url, "secret": SECRET.rstrip("=")}, allowed_networks=LOOPBACK
    )
    webhook.send(config, make_message(), now=datetime.now(tz=UTC), allowed_networks=LOOPBACK)
    (request,) = webhook_receiver.requests
    Webhook(SECRET).verify(request.body, dict(request.headers))


def test_the_body_gives_the_instant_in_utc() -> None:
    at = datetime(2026, 11, 22, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert json.loads(body(make_message(timestamp=at)))["timestamp"] == "2026-11-21T20:00:00Z"


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\r\nHost: x", "ä"])
def test_a_message_id_that_could_not_be_signed_or_sent_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError, match="message_id"):
        make_message(message_id=message_id)


def test_a_message_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        make_message(timestamp=datetime(2026, 11, 21, 20))  # noqa: DTZ001


# -- Which answers deliver --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_delivers(webhook_receiver: WebhookReceiver, status: int) -> None:
    webhook_receiver.answer(Reply(status))
    assert send(webhook_receiver).status == status


@pytest.mark.parametrize(
    "status", [302, 400, 401, 403, 404, 405, 408, 413, 422, 425, 429, 500, 501, 502, 503, 504]
)
def test_an_answer_that_someone_can_mend_is_retried(webhook_receiver: WebhookReceiver, status: int) -> None:
    webhook_receiver.answer(Reply(status, body=b"why not"))
    with pytest.raises(DeliveryError, match=str(status)) as caught:
        send(webhook_receiver)
    assert (caught.value.permanent, caught.value.status, caught.value.excerpt) == (False, status, "why not")


def test_410_ends_the_delivery(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(Reply(410, {"Retry-After": "5"}))
    with pytest.raises(DeliveryError, match="gone for good") as caught:
        send(webhook_receiver)
    assert (caught.value.permanent, caught.value.retry_after_s) == (True, None)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_handed_on(webhook_receiver: WebhookReceiver, status: int) -> None:
    now = datetime.now(tz=UTC).replace(microsecond=0)
    at = (now + timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    webhook_receiver.answer(
        Reply(status, {"Retry-After": "17"}), Reply(status, {"Retry-After": at}), Reply(status)
    )
    for expected in (17.0, 40.0, None):
        with pytest.raises(DeliveryError) as caught:
            send(webhook_receiver, now=now)
        assert caught.value.retry_after_s == expected


def test_a_receiver_that_hangs_is_retried(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(HANG)
    with pytest.raises(DeliveryError, match="no answer within") as caught:
        send(webhook_receiver, deadline_s=0.2)
    assert not caught.value.permanent


def test_an_address_that_became_internal_is_retried_without_being_sent_to(
    webhook_receiver: WebhookReceiver,
) -> None:
    config = {"url": f"http://hooks.example.test:{webhook_receiver.port}/", "secret": SECRET}
    with pytest.raises(ForbiddenAddress) as caught:
        webhook.send(
            config,
            make_message(),
            now=datetime.now(tz=UTC),
            allowed_networks=(),
            resolve=lambda host, port: ["127.0.0.1"],
        )
    assert not caught.value.permanent
    assert webhook_receiver.requests == []


# -- What may be saved ------------------------------------------------------------------------------


def wrong_fields(config: dict[str, object]) -> dict[str, list[str]]:
    with pytest.raises(InvalidConfig) as caught:
        webhook.validate(config, allowed_networks=(), resolve=lambda host, port: PUBLIC)
    return caught.value.fields


def test_a_config_is_stored_without_the_spaces_around_it() -> None:
    assert webhook.validate(
        {"url": " https://hooks.example.test/latency\n", "secret": f" {SECRET} "},
        allowed_networks=(),
        resolve=lambda host, port: PUBLIC,
    ) == {"url": "https://hooks.example.test/latency", "secret": SECRET}


def test_a_new_secret_can_be_saved_and_is_another_each_time() -> None:
    first, second = webhook.new_secret(), webhook.new_secret()
    assert first != second
    config = {"url": "https://hooks.example.test/", "secret": first}
    assert webhook.validate(config, allowed_networks=(), resolve=lambda host, port: PUBLIC) == config


@pytest.mark.parametrize("size", [24, 25, 26, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_taken(size: int) -> None:
    secret = "whsec_" + base64.b64encode(b"\xfb" * size).decode()
    config = {"url": "https://hooks.example.test/", "secret": secret}
    assert (
        webhook.validate(config, allowed_networks=(), resolve=lambda host, port: PUBLIC)["secret"] == secret
    )


@pytest.mark.parametrize(
    "secret",
    [
        None,
        7,
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xfb" * 32).decode(),
        "whsec_" + "ä" * 40,
        "whsec_" + "A" * 41,
        SECRET + "\nwhsec_",
    ],
)
def test_a_secret_that_is_none_is_refused(secret: object) -> None:
    fields = wrong_fields({"url": "https://hooks.example.test/", "secret": secret})
    assert list(fields) == ["secret"]
    assert "24 to 64 bytes" in fields["secret"][0]


@pytest.mark.parametrize(
    "url", [None, 7, "", "ftp://hooks.example.test/", "http://127.0.0.1/", "http://2130706433/"]
)
def test_a_url_that_cannot_be_sent_to_is_refused(url: object) -> None:
    assert list(wrong_fields({"url": url, "secret": SECRET})) == ["url"]


def test_every_wrong_field_is_named_at_once() -> None:
    assert set(wrong_fields({"url": "x", "secret": "y", "colour": "z"})) == {"url", "secret", "colour"}


def test_a_description_shows_neither_path_nor_secret() -> None:
    described = webhook.describe({"url": "https://hooks.example.test:8443/T0/token?key=1", "secret": SECRET})
    assert described == "Webhook to hooks.example.test:8443"


def test_the_registry_leads_from_a_kind_to_its_module() -> None:
    assert KINDS["webhook"] is webhook


# -- When the next try comes ------------------------------------------------------------------------

DUE_AT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def tries_of(seed: int) -> list[datetime]:
    """The instants of all tries of a message that never arrives, where each fails at once."""
    chance = random.Random(seed)
    tries = [DUE_AT]
    while (
        at := next_attempt_at(
            attempts_made=len(tries), first_due_at=DUE_AT, now=tries[-1], random_ratio=chance.random
        )
    ) is not None:
        tries.append(at)
    return tries


@given(st.integers(0, 2**32))
def test_a_message_is_tried_quickly_then_rarely_and_given_up_after_a_day(seed: int) -> None:
    tries = tries_of(seed)
    delays_s = [(later - earlier).total_seconds() for earlier, later in pairwise(tries)]
    assert 2.5 <= delays_s[0] <= 5
    assert tries[4] - DUE_AT <= timedelta(seconds=5 + 10 + 20 + 40)
    assert all(0 < delay_s <= 1800 for delay_s in delays_s)
    assert DUE_AT + GIVE_UP_AFTER - timedelta(minutes=30) <= tries[-1] <= DUE_AT + GIVE_UP_AFTER
    assert 50 <= len(tries) <= 120


def test_messages_of_one_outage_come_back_spread_out() -> None:
    assert len({tries_of(seed)[5] for seed in range(20)}) == 20


@given(st.integers(1, 100_000), st.floats(0, 3600), st.floats(0, 1, exclude_max=True))
def test_retry_after_is_never_undercut(attempts_made: int, retry_after_s: float, ratio: float) -> None:
    at = next_attempt_at(
        attempts_made=attempts_made,
        first_due_at=DUE_AT,
        now=DUE_AT,
        retry_after_s=retry_after_s,
        random_ratio=lambda: ratio,
    )
    assert at is not None
    # An instant has whole microseconds.
    assert (at - DUE_AT).total_seconds() >= retry_after_s - 1e-6


@pytest.mark.parametrize("retry_after_s", [7200.0, 1e9, 1e300, float("inf")])
def test_retry_after_holds_an_alert_back_for_about_an_hour_at_most(retry_after_s: float) -> None:
    at = next_attempt_at(attempts_made=1, first_due_at=DUE_AT, now=DUE_AT, retry_after_s=retry_after_s)
    assert at is not None
    assert at - DUE_AT <= timedelta(minutes=66)
