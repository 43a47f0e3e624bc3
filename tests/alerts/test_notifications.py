"""The outbox: what is written arrives, in order, signed, under one id, however often it takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest
from django.conf import LazySettings
from django.db import connection, connections, transaction
from standardwebhooks import Webhook

from alerts import follow_ups, incidents, notifications, tasks
from alerts.backoff import GIVE_UP_AFTER
from alerts.channel_settings import delete_channel, save_channel, switch_channel
from alerts.incidents import Finding, Target
from alerts.models import Channel, DeliveryAttempt, Incident, Notification, Silence
from alerts.notifications import (
    LEASE,
    MAX_IN_FLIGHT_OF_FAILING,
    MAX_IN_FLIGHT_PER_CHANNEL,
    Claimed,
    claim_due,
    deliver,
    due,
)
from alerts.silences import end_silence
from budgets.models import Feature
from latency_dashboard.celery import app
from tests.concurrency import at_once
from tests.factories import NOW, SECRET, make_channel, make_feature, make_team
from tests.receivers import Reply, WebhookReceiver

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
KIM = "kim@example.com"


@pytest.fixture(autouse=True)
def _receivers_here_may_be_reached(settings: LazySettings) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.fixture
def feature() -> Feature:
    return make_feature(runbook_url="https://runbooks.example.com/support-chat")


@pytest.fixture
def channel(feature: Feature, webhook_receiver: WebhookReceiver) -> Channel:
    """The team's only channel, which leads to the receiver."""
    return make_channel(feature.team, url=webhook_receiver.url)


def open_incident(feature: Feature, *, milestone: str = "first_token", now: datetime = NOW) -> Incident:
    incident = incidents.open_incident(
        target=Target(feature, "production", milestone=milestone),
        finding=Finding(
            severity="page",
            rule="burn_rate 1h/5m",
            reason="burning",
            summary="Support chat, first token: burning 15.2× over 1 h.",
            cause={"component": "tools", "allocated_ms": 800, "observed_ms": 2100},
            burn_rate=15.2,
        ),
        evidence=["burn_rate 1h/5m"],
        now=now,
    )
    assert incident is not None
    return incident


def claim_one(now: datetime = NOW) -> Claimed:
    (claimed,) = claim_due(now=now, limit=10)
    return claimed


def send_all(now: datetime) -> list[bool]:
    """Sends what is due until nothing is, as the workers do."""
    sent = []
    while claimed := claim_due(now=now, limit=1):
        sent.append(deliver(claimed=claimed[0], now=now))
    return sent


def events_received(receiver: WebhookReceiver) -> list[str]:
    return [request.json()["type"] for request in receiver.requests]


def state(event: str = "incident.opened") -> tuple[str, str]:
    notification = Notification.objects.get(event=event)
    return notification.state, notification.reason


# -- What arrives -----------------------------------------------------------------------------------


def test_a_page_arrives_signed_with_what_the_contract_says(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, settings: LazySettings
) -> None:
    settings.PUBLIC_URL = "https://latency.example.com"
    incident = open_incident(feature)
    now = datetime.now(tz=NOW.tzinfo)  # receivers refuse signatures that are minutes old
    assert deliver(claimed=claim_one(now), now=now)
    (request,) = webhook_receiver.requests
    notification = Notification.objects.get()
    assert request.headers["webhook-id"] == str(notification.message_id)
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == {
        "type": "incident.opened",
        "timestamp": "2026-11-21T20:00:30Z",
        "data": {
            "incident": {
                "id": incident.pk,
                "feature": feature.slug,
                "environment": "production",
                "milestone": "first_token",
                "component": None,
                "severity": "page",
                "rule": "burn_rate 1h/5m",
                "summary": "Support chat, first token: burning 15.2× over 1 h.",
                "cause": {"component": "tools", "allocated_ms": 800, "observed_ms": 2100},
                "burn_rate": 15.2,
                "runbook_url": "https://runbooks.example.com/support-chat",
                "opened_at": "2026-11-21T20:00:30Z",
                "url": f"https://latency.example.com/incidents/{incident.pk}/",
            }
        },
    }
    assert (notification.state, notification.next_attempt_at, notification.leased_until) == (
        "delivered",
        None,
        None,
    )
    attempt = notification.attempts.get()
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.error) == (1, "delivered", 204, "")
    assert attempt.duration_ms is not None


def test_a_message_says_what_was_known_when_it_was_written(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    Incident.objects.filter(pk=incident.pk).update(summary="Something else.")
    Feature.objects.filter(pk=feature.pk).update(runbook_url="")
    send_all(NOW)
    told = webhook_receiver.requests[0].json()["data"]["incident"]
    assert told["summary"] == "Support chat, first token: burning 15.2× over 1 h."
    assert told["runbook_url"] == "https://runbooks.example.com/support-chat"


def test_an_incident_is_told_from_its_beginning_to_its_end(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    assert send_all(NOW) == [True, True, True]
    assert events_received(webhook_receiver) == [
        "incident.opened",
        "incident.acknowledged",
        "incident.resolved",
    ]
    assert len({request.headers["webhook-id"] for request in webhook_receiver.requests}) == 3


# -- When it does not arrive at once ------------------------------------------------------------------


def test_a_failed_try_comes_again_under_the_same_id(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503, body=b"try later"))
    open_incident(feature)
    assert send_all(NOW) == [False]
    notification = Notification.objects.get()
    assert notification.state == "pending"
    assert notification.next_attempt_at is not None
    assert (
        timedelta(seconds=2) < notification.next_attempt_at - NOW < timedelta(seconds=30)
    )  # it waited for the answer as well
    assert due(now=NOW, limit=10) == []
    assert send_all(notification.next_attempt_at) == [True]
    first, second = webhook_receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    attempts = list(notification.attempts.values_list("number", "outcome", "status_code", "excerpt"))
    assert attempts == [(1, "failed", 503, "try later"), (2, "delivered", 204, "")]
    assert notification.attempts.first().error == "The receiver answered 503."


def test_a_receiver_that_asks_for_time_gets_it(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(429, {"Retry-After": "120"}))
    open_incident(feature)
    send_all(NOW)
    at = Notification.objects.get().next_attempt_at
    assert at is not None
    assert at >= NOW + timedelta(seconds=120)


def test_a_receiver_that_is_gone_for_good_is_tried_once(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(410))
    open_incident(feature)
    assert send_all(NOW) == [False]
    assert state() == ("undeliverable", "permanent_error")


def test_a_message_is_given_up_after_a_day(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer_always(Reply(500))
    open_incident(feature)
    now = NOW
    for _ in range(100):
        send_all(now)
        notification = Notification.objects.get()
        if notification.next_attempt_at is None:
            break
        assert notification.next_attempt_at <= NOW + GIVE_UP_AFTER
        now = notification.next_attempt_at
    assert (notification.state, notification.reason) == ("undeliverable", "deadline_passed")
    assert 40 < notification.attempts_made < 100
    assert now > NOW + GIVE_UP_AFTER - timedelta(hours=1)


def test_a_fault_of_ours_is_a_failed_try_and_not_a_lost_message(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    Channel.objects.filter(pk=channel.pk).update(config={"url": webhook_receiver.url})  # no secret
    open_incident(feature)
    assert send_all(NOW) == [False]
    notification = Notification.objects.get()
    assert notification.state == "pending"
    assert notification.attempts.get().error == "Could not be sent: KeyError."


def test_a_channel_that_was_switched_off_gets_nothing_more(feature: Feature, channel: Channel) -> None:
    open_incident(feature)
    Channel.objects.filter(pk=channel.pk).update(is_enabled=False)
    assert claim_due(now=NOW, limit=10) == []
    assert state() == ("undeliverable", "channel_disabled")


ENDED = {
    "channel_deleted": delete_channel,
    "channel_disabled": partial(switch_channel, is_enabled=False),
}


@pytest.mark.parametrize("reason", ENDED)
def test_where_a_channel_ends_while_messages_wait_for_it_others_are_told_with_the_next_sweep(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, reason: str
) -> None:
    webhook_receiver.answer(Reply(429, {"Retry-After": "1800"}))
    incident = open_incident(feature)
    assert send_all(NOW) == [False]
    other = make_channel(feature.team, name="other", url=webhook_receiver.url)
    assert follow_ups.due(now=NOW + MINUTE, limit=9) == []
    ENDED[reason](channel_id=channel.pk, actor=KIM, now=NOW + MINUTE)
    assert state() == ("undeliverable", reason)
    assert follow_ups.due(now=NOW + MINUTE, limit=9) == [incident.pk]
    assert follow_ups.follow_up(incident_id=incident.pk, now=NOW + MINUTE) == "reroute"
    assert send_all(NOW + MINUTE) == [True]
    assert other.notifications.get().state == "delivered"
    assert events_received(webhook_receiver) == ["incident.opened"] * 2


@pytest.mark.parametrize("reason", ENDED)
def test_what_is_being_sent_when_its_channel_ends_is_not_tried_again(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver, reason: str
) -> None:
    webhook_receiver.answer(Reply(503))
    open_incident(feature)
    claimed = claim_one()
    ENDED[reason](channel_id=channel.pk, actor=KIM, now=NOW)
    assert state() == ("pending", ""), "a worker has it"
    assert not deliver(claimed=claimed, now=NOW)
    assert state() == ("undeliverable", reason)


def test_a_channel_that_is_saved_as_switched_off_gets_nothing_that_waits(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    open_incident(feature)
    document = {"kind": "webhook", "url": webhook_receiver.url, "enabled": False}
    save_channel(team=feature.team, name=channel.name, document=document, actor=KIM, now=NOW)
    assert state() == ("undeliverable", "channel_disabled")


# -- Order ------------------------------------------------------------------------------------------


def test_an_end_waits_for_the_beginning_to_arrive(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    incident = open_incident(feature)
    send_all(NOW)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    assert due(now=NOW, limit=10) == [], "the opening is on its way"
    assert send_all(NOW + MINUTE) == [True, True]
    assert events_received(webhook_receiver)[1:] == ["incident.opened", "incident.resolved"]


def test_an_end_waits_for_a_beginning_that_is_being_sent(feature: Feature, channel: Channel) -> None:
    incident = open_incident(feature)
    claim_one()
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    assert claim_due(now=NOW, limit=10) == []


def test_nobody_hears_of_the_end_of_what_they_never_heard_of(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(410))
    incident = open_incident(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW)  # while the opening is pending
    assert send_all(NOW) == [False]
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)  # once it has been given up
    assert state("incident.acknowledged") == ("undeliverable", "opening_undelivered")
    assert not Notification.objects.filter(event="incident.resolved").exists()
    assert len(webhook_receiver.requests) == 1


def test_another_incident_does_not_wait(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    open_incident(feature)
    send_all(NOW)
    open_incident(feature, milestone="complete")
    assert send_all(NOW) == [True]


# -- Many channels that hang ------------------------------------------------------------------------


def test_channels_that_fail_hold_half_of_the_threads_and_the_others_go_on(feature: Feature) -> None:
    channels = [make_channel(feature.team) for _ in range(9)]
    for milestone in ("first_token", "complete"):
        open_incident(feature, milestone=milestone)
    assert len(claim_due(now=NOW, limit=100)) == 2 * len(channels), "nobody knows yet that they hang"
    later = NOW + LEASE
    healthy = make_channel(feature.team, name="healthy")
    open_incident(make_feature(team=feature.team, slug="search"), now=later)
    claimed = claim_due(now=later, limit=100)
    of_healthy = [one for one in claimed if one.channel_id == healthy.pk]
    assert len(of_healthy) == 1
    assert len(claimed) - len(of_healthy) == MAX_IN_FLIGHT_OF_FAILING
    # As soon as one of them has failed again, another has its turn.
    over = next(one for one in claimed if one.channel_id != healthy.pk)
    Notification.objects.filter(pk=over.notification_id).update(
        leased_until=None, next_attempt_at=later + MINUTE
    )
    assert len(claim_due(now=later, limit=100)) == 1


# -- What piles up behind a channel that is away -----------------------------------------------------


def tell(incident: Incident, step: str, now: datetime) -> Notification:
    """A message to the team's channel, as the clock has it written."""
    (written,) = notifications.write(
        incident=incident,
        event=Notification.Event(f"incident.{step}"),
        recipients=[(Channel.objects.get(), "")],
        now=now,
    )
    return written


@pytest.fixture
def slack(channel: Channel, webhook_receiver: WebhookReceiver) -> Channel:
    """The team's only channel, read by people."""
    channel.kind, channel.config = "slack", {"url": webhook_receiver.url}
    channel.save()
    return channel


def sweep_and_send(now: datetime) -> list[bool]:
    """As the sweep does: what is due by then, then what each has held up."""
    sent = []
    while found := due(now=now, limit=10):
        for notification_id in found:
            claimed = claim_due(now=now, limit=1, notification_id=notification_id)
            sent += [deliver(claimed=one, now=now) for one in claimed]
    return sent


def states() -> list[tuple[str, str]]:
    written = Notification.objects.order_by("id").values_list("event", "state")
    return [(event.removeprefix("incident."), state) for event, state in written]


def test_an_incident_that_came_and_went_while_the_channel_was_away_is_told_in_two_messages(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    incident = open_incident(feature)
    sweep_and_send(NOW)
    for minute, step in ((5, "updated"), (10, "updated"), (240, "repeated")):
        tell(incident, step, NOW + minute * MINUTE)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW + 241 * MINUTE)
    written = list(Notification.objects.order_by("id").values_list("message_id", flat=True))
    assert sweep_and_send(NOW + 242 * MINUTE) == [True, True]
    assert states() == [
        ("opened", "delivered"),
        ("updated", "superseded"),
        ("updated", "superseded"),
        ("repeated", "superseded"),
        ("resolved", "delivered"),
    ]
    assert list(Notification.objects.order_by("id").values_list("message_id", flat=True)) == written
    assert len(webhook_receiver.requests) == 3
    assert "Resolved by" in webhook_receiver.requests[-1].json()["text"]


def test_of_an_incident_that_goes_on_the_last_update_is_told(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    incident = open_incident(feature)
    sweep_and_send(NOW)
    for minute in (5, 10, 15):
        tell(incident, "updated", NOW + minute * MINUTE)
    sweep_and_send(NOW + 16 * MINUTE)
    assert states() == [
        ("opened", "delivered"),
        ("updated", "superseded"),
        ("updated", "superseded"),
        ("updated", "delivered"),
    ]


def test_who_has_it_and_that_it_came_back_are_never_superseded(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    incident = open_incident(feature)
    sweep_and_send(NOW)
    steps = ["acknowledged", "reminder", "unacknowledged", "resolved", "reopened", "resolved"]
    for minute, step in enumerate(steps, start=1):
        tell(incident, step, NOW + minute * MINUTE)
    sweep_and_send(NOW + 7 * MINUTE)
    assert [(step, state) for step, state in states() if state != "delivered"] == [("reminder", "superseded")]
    assert len(webhook_receiver.requests) == 1 + 6


def test_an_update_that_fails_and_would_wait_holds_up_no_end(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    sweep_and_send(NOW)
    webhook_receiver.answer(Reply(429, {"Retry-After": "1800"}))
    tell(incident, "updated", NOW + MINUTE)
    assert sweep_and_send(NOW + MINUTE) == [False]
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW + 2 * MINUTE)
    assert sweep_and_send(NOW + 2 * MINUTE) == [True]
    assert states() == [("opened", "delivered"), ("updated", "superseded"), ("resolved", "delivered")]
    assert Notification.objects.get(state="superseded").attempts.get().outcome == "failed"


def test_what_a_worker_is_sending_is_not_superseded_and_one_that_was_cut_off_is(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    sweep_and_send(NOW)
    update = tell(incident, "updated", NOW)
    (claimed,) = claim_due(now=NOW, limit=1)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    assert due(now=NOW, limit=10) == []
    assert ("updated", "pending") in states()
    assert due(now=NOW + LEASE, limit=10) == [Notification.objects.get(event="incident.resolved").pk]
    assert update.attempts.get().outcome == "interrupted"
    # The worker lives after all, and it had arrived.
    assert deliver(claimed=claimed, now=NOW + LEASE)
    assert ("updated", "delivered") in states()


def test_another_channel_and_another_incident_supersede_nothing(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    sweep_and_send(NOW)
    tell(incident, "updated", NOW)
    open_incident(feature, milestone="complete")
    other = make_channel(feature.team, url=webhook_receiver.url)
    notifications.write(
        incident=incident, event=Notification.Event.RESOLVED, recipients=[(other, "")], now=NOW
    )
    due(now=NOW, limit=10)
    assert "superseded" not in dict(states()).values()


# -- What waits when a silence begins ----------------------------------------------------------------


def silence(feature: Feature, *, minutes: int, now: datetime) -> Silence:
    matcher = {"name": "feature", "operator": "=", "value": feature.slug}
    return Silence.objects.create(
        team=feature.team,
        matchers=[matcher],
        reason="Load test",
        author=KIM,
        starts_at=now,
        ends_at=now + minutes * MINUTE,
    )


def test_what_waits_when_a_silence_begins_goes_out_when_it_ends(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    open_incident(feature)
    sweep_and_send(NOW)
    silence(feature, minutes=10, now=NOW + MINUTE)
    for minute in range(1, 10):
        assert sweep_and_send(NOW + minute * MINUTE) == []
        opening = Notification.objects.get()
        assert opening.held_by == f"silence “Load test” of {KIM}"
        assert opening.next_attempt_at == NOW + (minute + 1) * MINUTE
        assert (opening.state, opening.attempts_made) == ("pending", 1)
    assert sweep_and_send(NOW + 11 * MINUTE) == [True]
    opening.refresh_from_db()
    assert (opening.state, opening.attempts_made, opening.held_by) == ("delivered", 2, "")
    assert len(webhook_receiver.requests) == 2


def test_a_claim_by_itself_holds_back_and_counts_no_try(feature: Feature, channel: Channel) -> None:
    open_incident(feature)
    begun = silence(feature, minutes=10, now=NOW)
    assert claim_due(now=NOW, limit=1, notification_id=Notification.objects.get().pk) == []
    opening = Notification.objects.get()
    assert (opening.attempts_made, opening.next_attempt_at) == (0, NOW + MINUTE)
    assert not DeliveryAttempt.objects.exists()
    end_silence(silence_id=begun.pk, actor=KIM, now=NOW + MINUTE / 2)
    assert len(claim_due(now=NOW + MINUTE, limit=1)) == 1, "it ended early"


def test_a_message_is_tried_for_a_day_after_what_held_it_back(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    open_incident(feature)
    silence(feature, minutes=48 * 60, now=NOW)
    sweep_and_send(NOW + 48 * 60 * MINUTE - MINUTE)
    webhook_receiver.answer(Reply(503))
    assert sweep_and_send(NOW + 48 * 60 * MINUTE) == [False]
    assert state() == ("pending", "")


def test_the_end_of_what_a_silence_kept_from_everybody_is_told_to_nobody(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503))
    incident = open_incident(feature)
    sweep_and_send(NOW)
    silence(feature, minutes=10, now=NOW + MINUTE)
    sweep_and_send(NOW + MINUTE)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW + 10 * MINUTE)
    assert sweep_and_send(NOW + 11 * MINUTE) == [], "the silence is over, and so is the incident"
    assert state() == ("undeliverable", "held_back_until_it_was_over")
    assert state("incident.resolved") == ("undeliverable", "opening_undelivered")
    assert len(webhook_receiver.requests) == 1


def test_who_has_it_and_its_end_are_told_in_a_silence_and_an_update_is_not(
    feature: Feature, slack: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_incident(feature)
    sweep_and_send(NOW)
    silence(feature, minutes=60, now=NOW + MINUTE)
    tell(incident, "updated", NOW + MINUTE)
    assert sweep_and_send(NOW + MINUTE) == []
    tell(incident, "acknowledged", NOW + 2 * MINUTE)
    tell(incident, "reminder", NOW + 2 * MINUTE)
    assert sweep_and_send(NOW + 2 * MINUTE) == [True]
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW + 3 * MINUTE)
    assert sweep_and_send(NOW + 3 * MINUTE) == [True]
    assert states() == [
        ("opened", "delivered"),
        ("updated", "superseded"),
        ("acknowledged", "delivered"),
        ("reminder", "superseded"),
        ("resolved", "delivered"),
    ]


def test_a_silence_for_something_else_and_one_of_another_team_hold_nothing_that_waits(
    feature: Feature, channel: Channel
) -> None:
    open_incident(feature)
    silence(make_feature(team=feature.team), minutes=10, now=NOW)
    of_another_team = silence(feature, minutes=10, now=NOW)
    Silence.objects.filter(pk=of_another_team.pk).update(team=make_team())
    assert len(claim_due(now=NOW, limit=10)) == 1


def test_what_may_have_arrived_is_sent_again_in_a_silence(feature: Feature, channel: Channel) -> None:
    open_incident(feature)
    claim_one()  # by a worker that ends before it knows
    silence(feature, minutes=10, now=NOW)
    assert due(now=NOW + LEASE, limit=10)
    assert len(claim_due(now=NOW + LEASE, limit=10)) == 1


# -- Claims -----------------------------------------------------------------------------------------


def test_what_is_claimed_is_claimed_by_one_worker_until_its_lease_is_over(
    feature: Feature, channel: Channel
) -> None:
    open_incident(feature)
    first = claim_one()
    assert claim_due(now=NOW + LEASE - timedelta(seconds=1), limit=10) == []
    second = claim_one(NOW + LEASE)
    assert second.notification_id == first.notification_id
    assert second.message.message_id == first.message.message_id
    assert (first.attempt, second.attempt) == (1, 2)
    outcomes = list(DeliveryAttempt.objects.values_list("number", "outcome"))
    assert outcomes == [(1, "interrupted"), (2, "sending")]


def test_a_worker_that_comes_late_cannot_fail_what_another_is_sending(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(410), Reply(204))
    open_incident(feature)
    late = claim_one()
    current = claim_one(NOW + LEASE)
    deliver(claimed=late, now=NOW)
    assert Notification.objects.get().state == "pending"
    deliver(claimed=current, now=NOW + LEASE)
    assert Notification.objects.get().state == "delivered"


def test_what_arrived_late_is_not_sent_a_third_time(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    open_incident(feature)
    late = claim_one()
    claim_one(NOW + LEASE)
    deliver(claimed=late, now=NOW)
    assert Notification.objects.get().state == "delivered"
    assert claim_due(now=NOW + 3 * LEASE, limit=10) == []


def test_a_channel_that_hangs_holds_no_more_than_its_share(feature: Feature, channel: Channel) -> None:
    others = [make_channel(feature.team) for _ in range(3)]
    for _ in range(5):
        incident = open_incident(feature)
        incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    claimed = claim_due(now=NOW, limit=100)
    by_channel = [one.channel_id for one in claimed]
    for one in [channel, *others]:
        assert by_channel.count(one.pk) == MAX_IN_FLIGHT_PER_CHANNEL
    assert claim_due(now=NOW, limit=100) == []
    assert claim_due(now=NOW, limit=1, channel_id=channel.pk) == []


def test_a_heap_for_one_channel_does_not_hide_what_is_due_to_another(
    feature: Feature, channel: Channel
) -> None:
    for _ in range(8):
        incident = open_incident(feature)
        incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    other = make_channel(feature.team)
    open_incident(feature, now=NOW + MINUTE)
    asked = Notification.objects.filter(pk__in=due(now=NOW + MINUTE, limit=4))
    assert set(asked.values_list("channel_id", flat=True)) == {channel.pk, other.pk}


@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_at_once_share_the_work(feature: Feature) -> None:
    for _ in range(4):
        make_channel(feature.team)
    for milestone in ("first_token", "complete"):
        open_incident(feature, milestone=milestone)
    shares = at_once(*[partial(claim_due, now=NOW, limit=3)] * 4)
    ids = [claimed.notification_id for share in shares for claimed in share]
    assert len(ids) == len(set(ids))
    counted = [claimed.channel_id for share in shares for claimed in share]
    assert max(map(counted.count, counted)) <= MAX_IN_FLIGHT_PER_CHANNEL
    assert sum(Notification.objects.values_list("attempts_made", flat=True)) == len(ids)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_message_is_sent(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    """The receiver, in a thread of its own, can lock what the sender would hold."""
    seen = []

    def look_at_the_database(exchange) -> None:
        try:
            with transaction.atomic():
                row = Notification.objects.select_for_update(nowait=True).get()
                Channel.objects.select_for_update(nowait=True).get()
                seen.append((row.attempts_made, row.leased_until, row.attempts.get().outcome))
        finally:
            connections.close_all()
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    webhook_receiver.answer(Reply(script=look_at_the_database))
    open_incident(feature)
    assert send_all(NOW) == [True]
    assert seen == [(1, NOW + LEASE, "sending")]


# -- Tasks ------------------------------------------------------------------------------------------


class DeliverQueue:
    """What the broker holds for the threads that deliver."""

    def take(self) -> list[list[int]]:
        """The arguments of the tasks that are waiting, which wait no more."""
        taken = []
        with app.connection_for_write() as broker, broker.SimpleQueue("deliver") as queue:
            while True:
                try:
                    message = queue.get_nowait()
                except queue.Empty:
                    return taken
                message.ack()
                taken.append(message.payload[0])


@pytest.fixture
def deliver_queue() -> Iterator[DeliverQueue]:
    """The broker's queue, empty before and after."""
    queue = DeliverQueue()
    queue.take()
    yield queue
    queue.take()


@pytest.mark.django_db(transaction=True)
def test_each_message_is_announced_to_the_workers_once_it_is_committed(
    feature: Feature, channel: Channel, deliver_queue: DeliverQueue
) -> None:
    with transaction.atomic():
        open_incident(feature)
        assert deliver_queue.take() == []
    assert deliver_queue.take() == [[Notification.objects.get().pk]]


@pytest.mark.django_db(transaction=True)
def test_the_sweep_asks_for_what_a_lost_hint_left_behind(
    feature: Feature, channel: Channel, deliver_queue: DeliverQueue
) -> None:
    open_incident(feature, now=datetime.now(tz=NOW.tzinfo))
    deliver_queue.take()
    tasks.deliver_due()
    assert deliver_queue.take() == [[Notification.objects.get().pk]]


def test_a_task_sends_what_else_is_due_to_the_channel(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = datetime.now(tz=NOW.tzinfo) - MINUTE
    incident = open_incident(feature, now=now)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=now)
    other = make_channel(feature.team)
    open_incident(feature, milestone="complete", now=now)
    first = Notification.objects.order_by("pk")[0]
    tasks.deliver(first.pk)
    assert events_received(webhook_receiver) == ["incident.opened", "incident.resolved", "incident.opened"]
    assert Notification.objects.get(channel=other).state == "pending"


def test_a_task_whose_message_was_sent_already_does_nothing(
    feature: Feature, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    open_incident(feature, now=datetime.now(tz=NOW.tzinfo) - MINUTE)
    pk = Notification.objects.get().pk
    tasks.deliver(pk)
    tasks.deliver(pk)
    tasks.deliver(10**9)
    assert len(webhook_receiver.requests) == 1


def test_claiming_takes_the_same_number_of_statements_for_one_message_and_for_many(
    feature: Feature, channel: Channel, django_assert_max_num_queries
) -> None:
    for team_feature in [feature, *(make_feature(team=feature.team) for _ in range(4))]:
        open_incident(team_feature)
    for _ in range(4):
        make_channel(make_team())
    with django_assert_max_num_queries(12):
        assert claim_due(now=NOW, limit=100)
    assert connection.in_atomic_block  # the test's own
    assert notifications.due(now=NOW, limit=10)
