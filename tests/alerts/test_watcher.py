"""The sign of life: given while everything that an alert needs works, and withheld by nothing else."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings

from alerts.models import Channel, DeliveryAttempt, Notification
from alerts.watcher import EVERY_FEATURE, faults, give_sign
from budgets.models import Sweep, Team
from tests.factories import NOW, make_channel, make_team
from tests.receivers import HANG, Reply, WebhookReceiver

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def team() -> Team:
    """Of an installation whose rules were just evaluated."""
    Sweep.objects.create(name=EVERY_FEATURE, finished_at=NOW)
    return make_team()


@pytest.fixture
def watched(settings: LazySettings, webhook_receiver: WebhookReceiver) -> WebhookReceiver:
    settings.HEARTBEAT_URL = webhook_receiver.url
    return webhook_receiver


def make_message(channel: Channel, **values: Any) -> Notification:
    """Due since two minutes."""
    fields = {
        "event": "incident.test",
        "severity": "page",
        "data": {"incident": {}},
        "created_at": NOW - 2 * MINUTE,
        "next_attempt_at": NOW - 2 * MINUTE,
    }
    return Notification.objects.create(channel=channel, **{**fields, **values})


def tried(message: Notification, ago: timedelta) -> None:
    DeliveryAttempt.objects.create(notification=message, number=1, started_at=NOW - ago)
    Notification.objects.filter(pk=message.pk).update(attempts_made=1)


def test_a_sign_is_given_where_all_is_well(team: Team, watched: WebhookReceiver) -> None:
    assert give_sign(now=NOW)
    (request,) = watched.requests
    assert (request.method, request.body) == ("POST", b"")


def test_no_sign_is_given_while_a_message_is_overdue(team: Team, watched: WebhookReceiver) -> None:
    make_message(make_channel(team))
    assert not give_sign(now=NOW)
    assert watched.requests == []


def test_a_channel_that_hangs_while_messages_wait_behind_it_keeps_no_sign_back(
    team: Team, watched: WebhookReceiver
) -> None:
    channel = make_channel(team)
    tried(make_message(channel, leased_until=NOW + MINUTE / 2), timedelta(seconds=8))
    tried(make_message(channel, next_attempt_at=NOW + MINUTE), timedelta(seconds=50))
    for _ in range(100):
        make_message(channel)
    assert faults(now=NOW) == []
    assert give_sign(now=NOW)


def test_a_channel_that_nobody_tries_any_more_keeps_the_sign_back(team: Team) -> None:
    hanging, forgotten = make_channel(team), make_channel(team)
    tried(make_message(hanging), timedelta(seconds=5))
    tried(make_message(forgotten), 2 * MINUTE)
    assert faults(now=NOW) == ["1 notifications are overdue by over a minute"]


@pytest.mark.parametrize("reply", [Reply(500), Reply(302, {"Location": "http://127.0.0.1:9/"})])
def test_a_sign_that_is_refused_is_not_given(team: Team, watched: WebhookReceiver, reply: Reply) -> None:
    watched.answer(reply)
    assert not give_sign(now=NOW)
    assert give_sign(now=NOW)


def test_an_address_that_hangs_is_given_up(team: Team, watched: WebhookReceiver) -> None:
    watched.answer(HANG)
    started = time.monotonic()
    assert not give_sign(now=NOW, deadline_s=0.5)
    assert time.monotonic() - started < 3


def test_without_the_setting_none_is_given(team: Team, settings: LazySettings) -> None:
    settings.HEARTBEAT_URL = ""
    assert not give_sign(now=NOW)
