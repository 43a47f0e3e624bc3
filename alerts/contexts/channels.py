"""What the pages of a team's channels show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.db.models import OuterRef, Subquery
from django.urls import reverse

from alerts.channels import KINDS
from alerts.models import Channel, DeliveryAttempt, LivingAlert, Notification, Severity
from alerts.outbound import reaches_people
from budgets.models import Team

PAGE_SIZE: Final = 25


@dataclass(frozen=True)
class ChannelLine:
    """A channel in a list, with what came of its last try."""

    channel: Channel
    url: str
    leads_to: str
    state: str
    last: DeliveryAttempt | None
    delivered_at: datetime | None


@dataclass(frozen=True)
class ChannelList:
    lines: list[ChannelLine]
    deleted: list[ChannelLine]
    warnings: list[str]


def channel_list(team: Team) -> ChannelList:
    """The team's channels by name, those that were deleted apart; as many queries for one as for many."""
    attempts = DeliveryAttempt.objects.filter(notification__channel=OuterRef("pk"))
    delivered = attempts.filter(outcome=DeliveryAttempt.Outcome.DELIVERED)
    channels = list(team.channels.select_related("owner").order_by("name", "pk"))
    ends = {
        pk: (last_id, delivered_at)
        for pk, last_id, delivered_at in team.channels.values_list(
            "pk",
            Subquery(attempts.order_by("-started_at", "-pk").values("pk")[:1]),
            Subquery(delivered.order_by("-started_at").values("started_at")[:1]),
        )
    }
    last = DeliveryAttempt.objects.in_bulk([last_id for last_id, _ in ends.values() if last_id])
    lines = []
    for channel in channels:
        last_id, delivered_at = ends.get(channel.pk, (None, None))
        lines.append(
            ChannelLine(
                channel=channel,
                url=reverse("team-channel", args=[team.slug, channel.pk]),
                leads_to=KINDS[channel.kind].describe(channel.config),
                state=state_of(channel),
                last=last.get(last_id) if last_id else None,
                delivered_at=delivered_at,
            )
        )
    kept = [line for line in lines if line.channel.deleted_at is None]
    return ChannelList(
        lines=kept,
        deleted=[line for line in lines if line.channel.deleted_at is not None],
        warnings=list(_warnings([line.channel for line in kept])),
    )


def state_of(channel: Channel) -> str:
    if channel.deleted_at is not None:
        return "deleted"
    return "enabled" if channel.is_enabled else "disabled"


def _warnings(channels: Sequence[Channel]) -> list[str]:
    """What keeps the team from hearing of its incidents. A person's own channels are not the team's."""
    channels = [channel for channel in channels if channel.owner_id is None]
    enabled = [channel for channel in channels if channel.is_enabled]
    if not channels:
        return ["Nobody is told of this team's incidents: it has no channel."]
    if not enabled:
        return ["Nobody is told of this team's incidents: every channel is disabled."]
    found = []
    if all(channel.min_severity == Severity.PAGE for channel in enabled):
        found.append("Nobody is told of this team's tickets: every channel that is enabled takes pages only.")
    if any(channel.kind == Channel.Kind.EMAIL for channel in enabled) and not reaches_people():
        found.append("No mail goes out: this installation has no mail server (EMAIL_URL).")
    return found


@dataclass(frozen=True)
class TrialLine:
    """A test message and what came of it."""

    what: str
    notification: Notification
    attempt: DeliveryAttempt | None


@dataclass(frozen=True)
class ChannelPage:
    channel: Channel
    leads_to: str
    state: str
    can_edit: bool
    is_mail_lost: bool
    trial: list[TrialLine]
    living: list[LivingAlert]
    log: Page[Notification]
    urls: dict[str, str]


def channel_page(channel: Channel, *, can_edit: bool, page: str | None) -> ChannelPage:
    """Everything about one channel. Reads its team, notifications, their incidents and attempts."""
    log = (
        channel.notifications.select_related("incident__feature", "incident__component")
        .prefetch_related("attempts")
        .order_by("-id")
    )
    address: list[Any] = [channel.team.slug, channel.pk]
    return ChannelPage(
        channel=channel,
        leads_to=KINDS[channel.kind].describe(channel.config),
        state=state_of(channel),
        can_edit=can_edit and channel.deleted_at is None,
        is_mail_lost=channel.kind == Channel.Kind.EMAIL and not reaches_people(),
        trial=_last_trial(channel),
        living=list(
            LivingAlert.objects.filter(channel=channel)
            .select_related("incident__feature", "incident__component")
            .order_by("incident_id")[:PAGE_SIZE]
        ),
        log=Paginator(log, PAGE_SIZE).get_page(page),
        urls={
            name: reverse(f"team-channel-{name}", args=address)
            for name in ("test", "switch", "secret", "delete")
        }
        | {
            "list": reverse("team-channels", args=address[:1]),
            "channel": reverse("team-channel", args=address),
        },
    )


def _last_trial(channel: Channel) -> list[TrialLine]:
    """The messages of the latest test, which were written for one instant."""
    found = channel.notifications.filter(event=Notification.Event.TEST).prefetch_related("attempts")
    latest = list(found.order_by("-id")[:2])
    return [
        TrialLine(
            what="Firing" if one.data["story"]["step"] == "opened" else "Resolved",
            notification=one,
            attempt=next(iter(one.attempts.all()), None),
        )
        for one in reversed(latest)
        if one.created_at == latest[0].created_at
    ]
