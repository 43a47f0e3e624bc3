"""What an Alertmanager is sent, that it is sent again, and a real one's answer to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from alerts import incidents, tasks
from alerts.addresses import parse_networks
from alerts.channels import KINDS, InvalidConfig
from alerts.channels.alertmanager import ALIVE_FOR, RENEW_EVERY
from alerts.living_alerts import due_channels, renew
from alerts.models import Channel, Incident, LivingAlert, Notification
from alerts.notifications import claim_due, deliver
from alerts.outbound import DeliveryError
from alerts.trials import try_channel
from budgets.models import Feature, Team
from tests.alertmanagers import running_alertmanager
from tests.alerts.test_email_channel import INCIDENT, make_message
from tests.alerts.test_incident_pages import open_one
from tests.budgets.test_pages import signed_in, text_of
from tests.children import eventually
from tests.factories import make_feature, make_team
from tests.people import make_person
from tests.receivers import Exchange, Reply, WebhookReceiver

LOCAL = parse_networks(["127.0.0.1/32"])
NOW = datetime(2026, 11, 21, 20, 0, 5, tzinfo=UTC)
LABELS = {
    "alertname": "LatencyBudgetIncident",
    "feature": "support-chat",
    "environment": "production",
    "milestone": "first_token",
    "severity": "page",
    "incident": "latency.example.com-incident-7",
}


def send(receiver: WebhookReceiver, *, path: str = "", **overrides: Any) -> list[dict[str, Any]]:
    """The alerts that were posted for a message."""
    config = {"url": f"http://127.0.0.1:{receiver.port}{path}"}
    KINDS["alertmanager"].send(config, make_message(**overrides), now=NOW, allowed_networks=LOCAL)
    alerts: list[dict[str, Any]] = receiver.requests[-1].json()
    return alerts


# -- What is sent -----------------------------------------------------------------------------------


def test_an_opening_is_an_alert_that_lives_for_a_while(webhook_receiver: WebhookReceiver) -> None:
    (alert,) = send(webhook_receiver, path="/prefix/")
    assert webhook_receiver.requests[0].path == "/prefix/api/v2/alerts"
    assert alert["labels"] == LABELS
    assert alert["startsAt"] == "2026-11-21T20:00:00Z"
    assert datetime.fromisoformat(alert["endsAt"]) == NOW + ALIVE_FOR
    assert alert["generatorURL"] == INCIDENT["url"]
    assert alert["annotations"]["summary"] == "✕ Support chat, first token: p99 4.20 s of 3 s"
    assert "Burning 15.2×" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == INCIDENT["runbook_url"]


def test_a_resolution_ends_it_under_the_same_labels(webhook_receiver: WebhookReceiver) -> None:
    story = make_message().story
    (alert,) = send(
        webhook_receiver,
        type="incident.resolved",
        message_id="later",
        story=type(story)("resolved", "Support chat", step_words="Recovered"),
    )
    assert (alert["labels"], datetime.fromisoformat(alert["endsAt"])) == (LABELS, NOW)


def test_a_ticket_that_became_a_page_ends_as_a_ticket(webhook_receiver: WebhookReceiver) -> None:
    page, ticket = send(webhook_receiver, message_id="the-second-opening")
    assert (page["labels"]["severity"], ticket["labels"]["severity"]) == ("page", "ticket")
    assert datetime.fromisoformat(page["endsAt"]) > NOW
    assert datetime.fromisoformat(ticket["endsAt"]) == NOW


def test_an_authorization_goes_with_it(webhook_receiver: WebhookReceiver) -> None:
    config = {"url": webhook_receiver.url, "authorization": "Bearer am-token"}
    KINDS["alertmanager"].send(config, make_message(), now=NOW, allowed_networks=LOCAL)
    assert webhook_receiver.requests[0].headers["Authorization"] == "Bearer am-token"
    assert KINDS["alertmanager"].secrets(config) == ["Bearer am-token"]


def test_an_alert_that_it_refuses_is_not_tried_again(webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.answer(Reply(400, body=b'"invalid label set"'), Reply(503))
    for is_permanent in (True, False):
        with pytest.raises(DeliveryError) as caught:
            send(webhook_receiver)
        assert caught.value.permanent is is_permanent


@pytest.mark.parametrize("authorization", ["token", "Bearer a\r\nHost: b", "Digest x"])
def test_an_authorization_that_is_none_is_refused(authorization: str) -> None:
    config = {"url": "http://127.0.0.1:9093", "authorization": authorization}
    with pytest.raises(InvalidConfig, match="authorization must be what the header holds"):
        KINDS["alertmanager"].validate(config, allowed_networks=LOCAL)


# -- What is sent again -----------------------------------------------------------------------------


@pytest.fixture
def team(settings: LazySettings, db: None) -> Team:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]
    return make_team()


@pytest.fixture
def channel(team: Team, webhook_receiver: WebhookReceiver) -> Channel:
    return alertmanager_at(team, f"http://127.0.0.1:{webhook_receiver.port}")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team)


def alertmanager_at(team: Team, url: str) -> Channel:
    return Channel.objects.create(team=team, name="alertmanager", kind="alertmanager", config={"url": url})


def send_all(now: datetime) -> None:
    while found := claim_due(now=now, limit=1):
        deliver(claimed=found[0], now=now)


def opened(feature: Feature, now: datetime, **target: Any) -> Incident:
    incident = open_one(feature, **target)
    send_all(now)
    assert due_channels(now=now) == []
    return incident


def resolve(incident: Incident, now: datetime) -> None:
    incidents.resolve(incident_id=incident.pk, actor="kim@example.com", note="", now=now)


def test_an_open_incident_is_sent_again_every_minute_in_one_request(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    opened(feature, now)
    opened(feature, now, component="tools")
    first = [request.json()[0] for request in webhook_receiver.requests]
    webhook_receiver.clear()
    for turn in (1, 2):
        at = now + turn * RENEW_EVERY
        assert due_channels(now=at - timedelta(seconds=1)) == []
        assert due_channels(now=at) == [channel.pk]
        assert renew(channel_id=channel.pk, now=at).renewed == 2
        assert renew(channel_id=channel.pk, now=at).renewed == 0
        again = webhook_receiver.requests[-1].json()
        assert [one["labels"] for one in again] == [one["labels"] for one in first]
        assert {datetime.fromisoformat(one["endsAt"]) for one in again} == {
            (at + ALIVE_FOR).replace(microsecond=datetime.fromisoformat(again[0]["endsAt"]).microsecond)
        }
    assert len(webhook_receiver.requests) == 2
    assert set(LivingAlert.objects.values_list("sent_count", "error")) == {(2, "")}


def test_what_was_resolved_is_sent_no_more(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    incident = opened(feature, now)
    resolve(incident, now)
    assert due_channels(now=now + RENEW_EVERY) == []
    assert not LivingAlert.objects.exists()
    send_all(now)
    assert len(webhook_receiver.requests) == 2


def test_an_end_that_comes_while_it_is_sent_again_has_the_last_word(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    incident = opened(feature, now)
    webhook_receiver.clear()

    # As far as the claim sees it is open; then it ends.
    assert due_channels(now=now + RENEW_EVERY) == [channel.pk]
    resolve(incident, now)
    send_all(now)
    at = now + RENEW_EVERY
    assert renew(channel_id=channel.pk, now=at).renewed == 1
    ends = [request.json()[0]["endsAt"] for request in webhook_receiver.requests]
    assert len(ends) == 3
    assert datetime.fromisoformat(ends[-1]) <= at


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"kind": "slack", "config": {"url": "x"}}])
def test_a_channel_that_is_told_no_more_gets_nothing_again(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, change: dict[str, Any]
) -> None:
    now = timezone.now()
    opened(feature, now)
    Channel.objects.filter(pk=channel.pk).update(**change)
    assert due_channels(now=now + RENEW_EVERY) == []
    assert len(webhook_receiver.requests) == 1


def test_what_was_never_delivered_is_not_sent_again(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    now = timezone.now()
    open_one(feature)
    send_all(now)
    assert due_channels(now=now + RENEW_EVERY) == []


def test_what_ended_and_came_back_waits_for_its_message(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    """A silence may hold back that it came back, and an alert that is sent again would tell it."""
    now = timezone.now()
    incident = opened(feature, now)
    resolve(incident, now)
    send_all(now)
    Incident.objects.filter(pk=incident.pk).update(
        state="open", resolved_at=None, resolved_by="", resolved_reason=""
    )
    assert due_channels(now=now + RENEW_EVERY) == []
    assert not LivingAlert.objects.exists()


@pytest.mark.parametrize("event", ["incident.reopened", "incident.unacknowledged"])
def test_what_a_channel_heard_of_by_another_beginning_is_kept_alive_too(
    feature: Feature, channel: Channel, event: str
) -> None:
    """A silence may have held back that it opened."""
    now = timezone.now()
    incident = open_one(feature)
    incident.notifications.update(event=event)
    send_all(now)
    assert due_channels(now=now) == []
    assert LivingAlert.objects.get().incident == incident


def test_a_failure_is_written_down_without_secrets_and_tried_again_next_time(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    opened(feature, now)
    due_channels(now=now)
    Channel.objects.update(config={**channel.config, "authorization": "Bearer am-token"})
    webhook_receiver.answer(Reply(302, {"Location": "https://elsewhere.test/Bearer am-token"}))
    failed = renew(channel_id=channel.pk, now=now + RENEW_EVERY)
    assert failed.renewed == 0
    assert LivingAlert.objects.get().error == failed.error
    assert "am-token" not in failed.error
    assert renew(channel_id=channel.pk, now=now + 2 * RENEW_EVERY).renewed == 1
    assert LivingAlert.objects.get().error == ""


def test_the_sweep_sends_what_is_due(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    opened(feature, timezone.now())
    LivingAlert.objects.update(next_at=timezone.now())
    tasks.renew_living_alerts()
    tasks.renew_living_alerts_of(channel.pk)
    assert len(webhook_receiver.requests) == 2


def test_a_receiver_that_hangs_holds_no_row(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    opened(feature, now)
    webhook_receiver.answer(Reply(script=Exchange.hang))
    failed = renew(channel_id=channel.pk, now=now + RENEW_EVERY, deadline_s=0.2)
    assert "no answer within 0.2 s" in failed.error
    assert LivingAlert.objects.get().next_at > now + RENEW_EVERY


@pytest.mark.usefixtures("plain_static_files")
def test_the_channels_page_says_what_is_kept_alive_and_what_failed(
    team: Team, feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    opened(feature, now)
    client = signed_in(make_person("vera@example.com", team=team))
    page = f"/teams/{team.slug}/channels/{channel.pk}/"
    assert "not sent again yet" in text_of(client.get(page).content.decode())
    webhook_receiver.answer(Reply(503))
    renew(channel_id=channel.pk, now=now + RENEW_EVERY)
    assert "The receiver answered 503." in text_of(client.get(page).content.decode())
    LivingAlert.objects.all().delete()
    assert "Kept alive" not in client.get(page).content.decode()


# -- A real one -------------------------------------------------------------------------------------


@pytest.mark.peer
def test_a_real_alertmanager_gets_an_incident_keeps_it_over_a_restart_and_sees_it_end(
    team: Team, feature: Feature, webhook_receiver: WebhookReceiver, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path, receiver_url=webhook_receiver.url) as real:
        channel = alertmanager_at(team, real.url)
        incident = opened(feature, timezone.now())
        assert eventually(lambda: len(real.active_alerts()) == 1)
        (alert,) = real.active_alerts()
        assert alert["labels"]["feature"] == feature.slug
        assert alert["status"]["state"] == "active"
        (fired,) = webhook_receiver.wait_for(1)
        assert fired.json()["status"] == "firing"

        real.stop()
        real.start()
        assert real.active_alerts() == []
        LivingAlert.objects.update(next_at=timezone.now())
        assert due_channels(now=timezone.now()) == [channel.pk]
        assert renew(channel_id=channel.pk, now=timezone.now()).renewed == 1
        assert eventually(lambda: len(real.active_alerts()) == 1)
        assert real.active_alerts()[0]["fingerprint"] == alert["fingerprint"]

        resolve(incident, timezone.now())
        send_all(timezone.now())
        assert set(Notification.objects.values_list("state", flat=True)) == {"delivered"}
        assert eventually(lambda: real.active_alerts() == [])
        told = webhook_receiver.wait_for(2, where=lambda one: one.json()["status"] in ("firing", "resolved"))
        ends = webhook_receiver.wait_for(1, where=lambda one: one.json()["status"] == "resolved")
        assert ends[0].json()["alerts"][0]["fingerprint"] == alert["fingerprint"]
        # It remembers whom it has told: the restart is no second page.
        assert [one.json()["status"] for one in told].count("firing") == 1


@pytest.mark.peer
def test_a_real_alertmanager_takes_both_messages_of_a_test(
    team: Team, webhook_receiver: WebhookReceiver, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path, receiver_url=webhook_receiver.url) as real:
        channel = alertmanager_at(team, real.url)
        trial = try_channel(channel_id=channel.pk, actor="kim@example.com", now=timezone.now())
        assert trial.is_delivered
        assert [one.attempts.get().status_code for one in trial.notifications] == [200, 200]


@pytest.mark.peer
@pytest.mark.parametrize("name", ['<b>"\\n{{ .Labels }}\u202e \u2713', "x" * 5000])
def test_a_real_alertmanager_takes_any_name(
    name: str, webhook_receiver: WebhookReceiver, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path, receiver_url=webhook_receiver.url) as real:
        cause = {"component": name, "allocated_ms": 800, "observed_ms": 2100}
        incident = {**INCIDENT, "environment": name, "component": name, "rule": name, "cause": cause}
        message = make_message(incident=incident, channel=name)
        KINDS["alertmanager"].send({"url": real.url}, message, now=timezone.now(), allowed_networks=LOCAL)
        assert eventually(lambda: len(real.active_alerts()) == 1)
        assert real.active_alerts()[0]["labels"]["component"] == name
