"""Trying a channel: a firing and a resolved message, sent at once by the way that alerts take."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from budgets.errors import Refusal
from budgets.features import instant

from .models import Channel, DeliveryAttempt, Notification
from .notifications import LEASE, Claimed, deliver, leased
from .outbound import DEADLINE_S
from .summaries import milestone_summary
from .wording import Figures, Step, Story, attributed

# Of a feature that does not exist. Round enough to be seen through, complete enough to try a template on.
FIGURES = Figures(
    p99_ms=4200.0,
    limit_ms=3000.0,
    window="1h",
    burn_rate=15.2,
    remaining_ratio=0.11,
    exhausted_in_s=5 * 3600.0,
)
CAUSE = {"component": "tools", "allocated_ms": 800, "observed_ms": 2100}
FEATURE_NAME = "Example feature"
# The second message gets what the first has left of the deadline, and this at least.
LEAST_S = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of the test messages, in the order in which they were sent; the first that failed is the last."""

    notifications: list[Notification]

    @property
    def is_delivered(self) -> bool:
        return all(one.state == Notification.State.DELIVERED for one in self.notifications)

    @property
    def error(self) -> str:
        """What went wrong with the last; nothing where it arrived."""
        return "".join(attempt.error for attempt in self.notifications[-1].attempts.all())


def try_channel(*, channel_id: int, actor: str, now: datetime, deadline_s: float = DEADLINE_S) -> Trial:
    """Sends the two test messages and waits for the answers, `deadline_s` and LEAST_S at most.

    1. Writes a message and its attempt, leased to this request.
    2. Sends it outside any transaction and records the answer, as a worker does. It is not tried again.
    3. Goes on with the second where the first arrived.

    A disabled channel can be tried as well, before it is enabled. Raises Refusal("unknown_channel") where it was
    deleted, "test_under_way" while another test of it waits for its answer: a receiver that hangs holds one
    request, whoever asks how often.
    """
    started = time.monotonic()
    sent: list[Notification] = []
    for step in ("opened", "resolved"):
        ready = _write(channel_id, step, actor, now, thread_id=str(sent[0].message_id) if sent else None)
        left_s = deadline_s if not sent else max(LEAST_S, round(deadline_s - (time.monotonic() - started), 1))
        is_delivered = deliver(claimed=ready, now=now, deadline_s=left_s)
        sent.append(Notification.objects.prefetch_related("attempts").get(pk=ready.notification_id))
        if not is_delivered:
            break
    return Trial(sent)


def _write(channel_id: int, step: Step, actor: str, now: datetime, thread_id: str | None) -> Claimed:
    with transaction.atomic():
        channel = Channel.objects.kept().select_for_update(no_key=True).filter(pk=channel_id).first()
        if channel is None:
            raise Refusal("unknown_channel", "Somebody deleted this channel meanwhile.", status=404)
        under_way = Notification.objects.filter(
            channel=channel,
            event=Notification.Event.TEST,
            state=Notification.State.PENDING,
            leased_until__gt=now,
        )
        if under_way.exists():
            raise Refusal(
                "test_under_way",
                "A test of this channel is under way. Try again in some seconds.",
                status=409,
            )
        document, story = _message(channel, step, actor, now)
        notification = Notification.objects.create(
            channel=channel,
            event=Notification.Event.TEST,
            severity=channel.min_severity,
            data={"incident": document, "story": story.document()},
            created_at=now,
            next_attempt_at=now,
            leased_until=now + LEASE,
            attempts_made=1,
        )
        DeliveryAttempt.objects.create(notification=notification, number=1, started_at=now)
    return leased(notification, channel, thread_id=thread_id)


def _message(channel: Channel, step: Step, actor: str, now: datetime) -> tuple[dict[str, Any], Story]:
    """The document of an incident that there is not, with every field that a real one has; its id is 0."""
    summary = milestone_summary(
        feature_name=FEATURE_NAME,
        milestone="first_token",
        figures=FIGURES,
        cause=attributed(CAUSE, None),
        since=now,
    )
    recovered = "Recovered. " if step == "resolved" else ""
    page = reverse("team-channel", args=[channel.team.slug, channel.pk])
    document = {
        "id": 0,
        "feature": "example-feature",
        "environment": "production",
        "milestone": "first_token",
        "component": None,
        "severity": str(channel.min_severity),
        "rule": "test",
        "summary": f"Test by {actor}, nothing is wrong: {recovered}{summary}",
        "cause": CAUSE,
        "burn_rate": FIGURES.burn_rate,
        "runbook_url": None,
        "opened_at": instant(now),
        "url": f"{settings.PUBLIC_URL}{page}",
    }
    story = Story(step="opened", feature_name=FEATURE_NAME, figures=FIGURES, tested_by=actor)
    if step == "resolved":
        story = replace(story, step="resolved", step_words="Recovered", reason="recovered")
    return document, story
