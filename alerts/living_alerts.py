"""Alerts that a channel forgets unless it is told of them again: those of open incidents in an Alertmanager.

A row (LivingAlert) stands for an incident in a channel from when its opening has arrived until it is resolved. No
message is written for a repetition, since the latest is all that counts; what is repeated is what was
delivered last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery

from budgets import formats
from budgets.zones import zone_of

from .addresses import parse_networks
from .channels import KINDS, alertmanager, masked
from .models import Channel, Incident, LivingAlert, Notification
from .notifications import OPENINGS, leased
from .outbound import DEADLINE_S, DeliveryError

# An Alertmanager takes thousands at once; a channel has as many as its team has incidents.
MAX_PER_POST = 500


@dataclass(frozen=True, slots=True)
class Renewal:
    """`renewed` alerts arrived; `error` is why they did not, empty where they did."""

    renewed: int
    error: str = ""


def due_channels(*, now: datetime) -> list[int]:
    """The channels some of whose alerts are to be sent again, after taking account of what has changed.

    1. Ends the rows of incidents whose end came or was told, and of channels that are no longer told.
    2. Adds a row for each open incident whose opening a channel has got, and of which it heard no end since.
    """
    heard = Notification.objects.filter(
        incident=OuterRef("incident_id"), channel=OuterRef("channel_id"), state=Notification.State.DELIVERED
    )
    heard_last = Subquery(heard.order_by("-pk").values("event")[:1])
    # What came back is told again first, unless something holds that back.
    over = LivingAlert.objects.annotate(heard_last=heard_last).filter(
        Q(incident__state=Incident.State.RESOLVED)
        | Q(heard_last=Notification.Event.RESOLVED)
        | ~Q(channel__in=Channel.objects.in_use())
        | ~Q(channel__kind=Channel.Kind.ALERTMANAGER)
    )
    LivingAlert.objects.filter(pk__in=over.values("pk")).delete()
    known = LivingAlert.objects.filter(incident=OuterRef("incident_id"), channel=OuterRef("channel_id"))
    told = (
        Notification.objects.filter(
            ~Exists(known),
            ~Q(incident__state=Incident.State.RESOLVED),
            channel__kind=Channel.Kind.ALERTMANAGER,
            channel__in=Channel.objects.in_use(),
            # Also of one that was held back until the incident came back, or that nobody has any more.
            event__in=OPENINGS,
            state=Notification.State.DELIVERED,
        )
        .annotate(heard_last=heard_last)
        .exclude(heard_last=Notification.Event.RESOLVED)
        .order_by()
        .values_list("incident_id", "channel_id")
        .distinct()
    )
    LivingAlert.objects.bulk_create(
        (
            LivingAlert(
                incident_id=incident_id, channel_id=channel_id, next_at=now + alertmanager.RENEW_EVERY
            )
            for incident_id, channel_id in told
        ),
        ignore_conflicts=True,
    )
    due = LivingAlert.objects.filter(next_at__lte=now).order_by("channel_id")
    return list(due.values_list("channel_id", flat=True).distinct())


def renew(*, channel_id: int, now: datetime, deadline_s: float = DEADLINE_S) -> Renewal:
    """Sends the channel's due alerts again, in one request and outside any transaction.

    1. Claims them by moving them to their next turn, so that two workers send nothing twice.
    2. Sends each as it was last told.
    3. Ends again what was resolved meanwhile: the end may have arrived before this did.
    4. Writes down what came of it.
    """
    with transaction.atomic():
        due = LivingAlert.objects.select_for_update(skip_locked=True, of=("self",))
        claimed = list(due.filter(channel=channel_id, next_at__lte=now).order_by("pk")[:MAX_PER_POST])
        if not claimed:
            return Renewal(0)
        LivingAlert.objects.filter(pk__in=[one.pk for one in claimed]).update(
            next_at=now + alertmanager.RENEW_EVERY
        )
    channel = Channel.objects.get(pk=channel_id)
    if not channel.is_enabled or channel.kind != Channel.Kind.ALERTMANAGER:
        return Renewal(0)
    error = ""
    try:
        _send(channel, _alerts(channel, claimed, now), now, deadline_s)
        over = Incident.objects.filter(
            pk__in=[one.incident_id for one in claimed], state=Incident.State.RESOLVED
        )
        if ended := set(over.values_list("pk", flat=True)):
            gone = [one for one in claimed if one.incident_id in ended]
            _send(channel, _alerts(channel, gone, now, ends_at=now), now, deadline_s)
    except DeliveryError as failure:
        error = masked(failure.message, KINDS[channel.kind].secrets(channel.config))
    rows = LivingAlert.objects.filter(pk__in=[one.pk for one in claimed])
    if error:
        rows.update(error=error)
        return Renewal(0, error)
    rows.update(error="", sent_at=now, sent_count=F("sent_count") + 1)
    return Renewal(len(claimed))


def _alerts(
    channel: Channel, living: Sequence[LivingAlert], now: datetime, *, ends_at: datetime | None = None
) -> list[dict[str, Any]]:
    """Each as the message says that the channel got last."""
    delivered = Notification.objects.filter(
        channel=channel,
        incident__in=[one.incident_id for one in living],
        state=Notification.State.DELIVERED,
    ).exclude(event=Notification.Event.RESOLVED)
    last = delivered.order_by("incident_id", "-pk").distinct("incident_id")
    with formats.reading_in(zone_of(channel.team.time_zone)):
        return [
            alertmanager.alert_of(leased(notification, channel).message, now=now, ends_at=ends_at)
            for notification in last
        ]


def _send(channel: Channel, alerts: list[dict[str, Any]], now: datetime, deadline_s: float) -> None:
    alertmanager.send_alerts(
        channel.config,
        alerts,
        now=now,
        allowed_networks=parse_networks(settings.OUTBOUND_ALLOWED_CIDRS),
        deadline_s=deadline_s,
    )
