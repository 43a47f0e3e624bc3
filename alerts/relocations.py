"""A channel that leads elsewhere from now on: what its programs hold open moves along.

PagerDuty, Opsgenie and a webhook's receiver keep an alert until they are told of its end. An end that went to the new
address alone would leave it open at the old one for ever. So the old one is told that it is over there, and the new one
that it is open. A Prometheus Alertmanager forgets what is not sent again, and people read on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Exists, Max, OuterRef, Q

from .models import Channel, Incident, Notification
from .notifications import OPENINGS, part, write
from .told import note_told

Event = Notification.Event
State = Notification.State

KEEPS_ALERTS: Final = frozenset({Channel.Kind.WEBHOOK, Channel.Kind.PAGERDUTY, Channel.Kind.OPSGENIE})
# What signs a message does not decide where it goes.
_SIGNS: Final = frozenset({"secret"})
HERE: Final = "the channel leads here from now on"
TOLD_ELSEWHERE: Final = "Told elsewhere from now on"
GONE: Final = "the channel led here until now"


def leads_elsewhere(channel: Channel, kind: str, config: Mapping[str, Any]) -> bool:
    """Whether alerts would stay open at the channel's address where it became this."""
    if not channel.is_enabled or channel.kind not in KEEPS_ALERTS:
        return False
    return channel.kind != kind or _address(channel.config) != _address(config)


def held_open(channel: Channel) -> list[Incident]:
    """The incidents that the channel's receiver has open, locked in the order of their ids. Before the channel is:
    who writes a message has the incident when it refers to the channel."""
    later = Notification.objects.filter(
        incident=OuterRef("incident"), channel=channel, event=Event.RESOLVED, pk__gt=OuterRef("pk")
    )
    # One that was tried may have arrived, whatever was answered.
    told = Notification.objects.filter(
        ~Exists(later.exclude(state=State.PENDING)),
        Q(state=State.DELIVERED) | Q(state=State.PENDING, attempts_made__gt=0),
        channel=channel,
        event__in=OPENINGS,
    )
    ends = Notification.objects.filter(channel=channel, event=Event.RESOLVED, state=State.PENDING)
    found = Incident.objects.filter(
        ~Q(state=Incident.State.RESOLVED) | Q(pk__in=ends.values("incident_id")),
        pk__in=told.values("incident_id"),
    )
    return list(found.select_for_update(of=("self",)).select_related("feature", "component").order_by("pk"))


def relocate(
    *, channel: Channel, kind: str, config: Mapping[str, Any], incidents: Sequence[Incident], now: datetime
) -> None:
    """Ends these incidents at the address that the channel had, by its former kind and config, and begins those that
    are not over where it leads now. In the transaction of the change; the caller holds the incidents' locks.

    The former address stays as a deleted channel, with its secrets until the last end has arrived or was given up.
    """
    if not incidents:
        return
    former = Channel.objects.create(
        team=channel.team,
        owner=channel.owner,
        name=channel.name,
        kind=kind,
        config=dict(config),
        min_severity=channel.min_severity,
        is_enabled=False,
        created_at=channel.created_at,
        deleted_at=now,
    )
    for incident in incidents:
        waiting = Notification.objects.filter(channel=channel, incident=incident, state=State.PENDING)
        sending_until = waiting.aggregate(at=Max("leased_until"))["at"]
        free = waiting.filter(Q(leased_until=None) | Q(leased_until__lte=now))
        has_end = waiting.filter(event=Event.RESOLVED).exists()
        written = [] if has_end else _end(incident, former, now)
        # What is over goes there whole, its beginning too: here nobody would tell of its end.
        parting = list(free.order_by("pk")) if has_end else written
        part(parting, to=former, not_before=max(now, sending_until or now))
        if incident.state != Incident.State.RESOLVED and channel.is_enabled:
            # What is being sent just now arrives at the former address.
            written += _begin(incident, channel, now, is_waiting=free.filter(event__in=OPENINGS).exists())
        if written:
            # What the receivers are told; the incident itself goes on.
            note_told(incident, Event.OPENED, now, written, left_out=[])


def _end(incident: Incident, former: Channel, now: datetime) -> list[Notification]:
    return write(
        incident=incident, event=Event.RESOLVED, recipients=[(former, GONE)], now=now, words=TOLD_ELSEWHERE
    )


def _begin(incident: Incident, channel: Channel, now: datetime, *, is_waiting: bool) -> list[Notification]:
    """Who has it is told too. An opening that still waits goes to the new address by itself."""
    events = [] if is_waiting else [Event.OPENED]
    if incident.state == Incident.State.ACKNOWLEDGED:
        events.append(Event.ACKNOWLEDGED)
    return [
        one
        for event in events
        for one in write(incident=incident, event=event, recipients=[(channel, HERE)], now=now)
    ]


def _address(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _SIGNS}
