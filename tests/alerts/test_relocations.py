"""A channel that is given another address: what its receiver has open ends there and begins here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from standardwebhooks import Webhook

from alerts import incidents
from alerts.channel_settings import save_channel
from alerts.channels.webhook import new_secret
from alerts.models import Channel, Incident, Notification
from alerts.notifications import claim_due, deliver
from alerts.relocations import leads_elsewhere
from budgets.models import Feature
from tests.alerts.test_notifications import events_received, open_incident, send_all
from tests.factories import NOW, SECRET, make_channel, make_feature
from tests.receivers import Reply, WebhookReceiver

pytestmark = pytest.mark.django_db

KIM = "kim@example.com"
MINUTE = timedelta(minutes=1)
PAGERDUTY = {"routing_key": "R" * 32, "region": "us"}


@pytest.fixture(autouse=True)
def _receivers_here_may_be_reached(settings: LazySettings) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.fixture
def elsewhere() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def feature() -> Feature:
    return make_feature()


@pytest.fixture
def channel(feature: Feature, webhook_receiver: WebhookReceiver) -> Channel:
    return make_channel(feature.team, url=webhook_receiver.url)


def save(channel: Channel, **document: Any) -> None:
    document = {"kind": "webhook", **document}
    save_channel(team=channel.team, name=channel.name, document=document, actor=KIM, now=NOW + MINUTE)


def resolve(incident: Incident) -> None:
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW + 2 * MINUTE)


def test_what_is_open_ends_at_the_old_address_and_begins_at_the_new_one(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    send_all(NOW)
    save(channel, url=elsewhere.url)
    assert send_all(NOW + MINUTE) == [True, True]
    assert events_received(webhook_receiver) == ["incident.opened", "incident.resolved"]
    assert (
        "Told elsewhere from now on." in webhook_receiver.requests[-1].json()["data"]["incident"]["summary"]
    )
    assert events_received(elsewhere) == ["incident.opened"]
    resolve(incident)
    assert send_all(NOW + 2 * MINUTE) == [True]
    assert len(webhook_receiver.requests) == 2
    assert events_received(elsewhere) == ["incident.opened", "incident.resolved"]


def test_the_end_at_the_old_address_is_signed_as_before_and_then_its_secrets_are_gone(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    open_incident(feature)
    send_all(NOW)
    save(channel, url=elsewhere.url)
    former = Channel.objects.exclude(pk=channel.pk).get()
    assert (former.name, former.is_enabled, former.deleted_at) == (channel.name, False, NOW + MINUTE)
    webhook_receiver.answer(Reply(503))
    assert send_all(NOW + MINUTE) == [False, True]
    former.refresh_from_db()
    assert former.config["secret"] == SECRET, "it is tried again"
    assert send_all(NOW + 10 * MINUTE) == [True]
    end = webhook_receiver.requests[-1]
    expected = Webhook(SECRET).sign(end.headers["webhook-id"], NOW + 10 * MINUTE, end.body.decode())
    assert end.headers["webhook-signature"] == expected
    former.refresh_from_db()
    assert "secret" not in former.config
    assert former.config["url"] != webhook_receiver.url


def test_an_old_address_that_is_gone_delays_nobody(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    open_incident(feature)
    send_all(NOW)
    webhook_receiver.answer_always(Reply(410))
    save(channel, url=elsewhere.url)
    send_all(NOW + MINUTE)
    assert events_received(elsewhere) == ["incident.opened"]
    former = Channel.objects.exclude(pk=channel.pk).get()
    assert (former.notifications.get().reason, "secret" in former.config) == ("permanent_error", False)


def test_an_end_that_waits_goes_where_the_beginning_went(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    send_all(NOW)
    webhook_receiver.answer(Reply(503))
    resolve(incident)
    send_all(NOW + 2 * MINUTE)
    save(channel, url=elsewhere.url)
    assert send_all(NOW + 10 * MINUTE) == [True]
    assert events_received(webhook_receiver) == ["incident.opened", "incident.resolved", "incident.resolved"]
    assert elsewhere.requests == []


def test_who_has_it_is_told_at_the_new_address(
    feature: Feature, channel: Channel, elsewhere: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW)
    send_all(NOW)
    save(channel, url=elsewhere.url)
    send_all(NOW + MINUTE)
    assert events_received(elsewhere) == ["incident.opened", "incident.acknowledged"]


def test_what_was_never_sent_begins_at_the_new_address_alone(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    open_incident(feature)
    save(channel, url=elsewhere.url)
    assert send_all(NOW + MINUTE) == [True]
    assert (len(webhook_receiver.requests), events_received(elsewhere)) == (0, ["incident.opened"])


def test_what_is_being_sent_there_ends_there_after_it(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    open_incident(feature)
    (claimed,) = claim_due(now=NOW + MINUTE, limit=1)
    save(channel, url=elsewhere.url)
    assert claim_due(now=NOW + MINUTE, limit=1) == []
    assert deliver(claimed=claimed, now=NOW + MINUTE)
    send_all(NOW + 2 * MINUTE)
    assert events_received(webhook_receiver) == ["incident.opened", "incident.resolved"]
    assert events_received(elsewhere) == ["incident.opened"], "which the old address has, the new one has not"


def test_what_began_and_ended_while_the_old_address_failed_opens_nothing_at_the_new_one(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    webhook_receiver.answer(Reply(503))
    send_all(NOW)
    resolve(incident)
    save(channel, url=elsewhere.url)
    send_all(NOW + 10 * MINUTE)
    send_all(NOW + 10 * MINUTE)
    assert elsewhere.requests == []
    assert events_received(webhook_receiver) == ["incident.opened", "incident.opened", "incident.resolved"]


def test_another_severity_or_secret_and_what_is_over_move_nothing(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, elsewhere: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    send_all(NOW)
    save(channel, url=webhook_receiver.url, min_severity="page", secret=new_secret())
    assert Channel.objects.count() == 1
    resolve(incident)
    send_all(NOW + 2 * MINUTE)
    save(channel, url=elsewhere.url)
    assert Channel.objects.count() == 1
    assert Notification.objects.count() == 2


@pytest.mark.parametrize(
    ("kind", "config", "is_elsewhere"),
    [
        ("pagerduty", {**PAGERDUTY, "routing_key": "S" * 32}, True),
        ("pagerduty", {**PAGERDUTY, "region": "eu"}, True),
        ("pagerduty", {**PAGERDUTY, "api_url": "http://127.0.0.1:9/"}, True),
        ("opsgenie", {"api_key": "k", "region": "us"}, True),
        ("pagerduty", dict(PAGERDUTY), False),
    ],
)
def test_a_key_or_a_region_is_an_address(kind: str, config: dict[str, str], is_elsewhere: bool) -> None:
    made = Channel(kind="pagerduty", config=PAGERDUTY)
    assert leads_elsewhere(made, kind, config) == is_elsewhere
    assert not leads_elsewhere(Channel(kind="slack", config={"url": "a"}), "slack", {"url": "b"})
