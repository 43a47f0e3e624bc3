"""What becomes due for an incident by the clock alone: escalation, updates, repetitions, reminders, releases."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from . import incidents, telling
from .directory import Directory
from .escalation import Action, next_step
from .models import FollowUp, Incident, Notification
from .silences import Holds, teams_that_hold

Event = Notification.Event


def due(*, now: datetime, limit: int) -> list[int]:
    """The incidents that are to be looked at, longest due first.

    Also those on which a silence or a maintenance window has begun since they were told, and those of which every
    message was given up: no clock of theirs knows of either.
    """
    _look_at_once(now)
    found = FollowUp.objects.filter(next_at__lte=now).order_by("next_at", "pk")
    return list(found.values_list("pk", flat=True)[:limit])


def follow_up(*, incident_id: int, now: datetime) -> Action:
    """Does the one thing that is due for an incident and notes when to look again.

    Two at once, or one that was killed, change nothing: what was done is written in one transaction under the
    incident's lock. An incident that somebody else holds is left to the next look.
    """
    with transaction.atomic():
        # Who evaluates locks in the order of ids; a clock that waited for them would only be late.
        incident = (
            Incident.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("feature", "component")
            .filter(pk=incident_id, follow_up__next_at__lte=now)
            .first()
        )
        if incident is None:
            return Action.NOTHING
        row = telling.follow_up_of(incident)
        hold = None if incident.state == Incident.State.RESOLVED else Directory(now=now).hold_on(incident)
        is_unheard = telling.is_unheard(incident)
        plan = next_step(telling.standing_of(incident, row, hold, is_unheard=is_unheard), now)
        match plan.action:
            case Action.RELEASE:
                telling.release(incident=incident, now=now)
            case Action.ANNOUNCE:
                if not telling.announce(incident=incident, now=now):
                    return Action.NOTHING
            case Action.REROUTE:
                telling.reroute(incident=incident, now=now)
            case Action.ESCALATE:
                telling.escalate(incident=incident, now=now)
            case Action.UPDATE:
                telling.tell(incident=incident, event=Event.UPDATED, now=now)
            case Action.REPEAT:
                telling.tell(incident=incident, event=Event.REPEATED, now=now)
            case Action.REMIND:
                telling.tell(incident=incident, event=Event.REMINDER, now=now)
            case Action.END:
                telling.tell_end(incident=incident, now=now)
            case Action.UNACKNOWLEDGE:
                incidents.unacknowledge(incident=incident, now=now)
            case Action.NOTHING if hold and row.held_since is None and incident.state == Incident.State.OPEN:
                # Once: so the incident's page says it, and what was not told is told when nothing holds it any more.
                telling.hold(incident=incident, now=now)
            case Action.NOTHING:
                FollowUp.objects.filter(pk=incident_id).update(next_at=plan.look_at)
        return plan.action


def _look_at_once(now: datetime) -> None:
    told = FollowUp.objects.filter(
        incident__state=Incident.State.OPEN, told_at__isnull=False, held_since=None
    ).exclude(next_at__lte=now)
    ids = set(told.filter(pk__in=telling.unheard()).values_list("pk", flat=True))
    if teams := teams_that_hold(now):
        holds = Holds(teams, now=now)
        silenced = told.filter(incident__feature__team__in=teams)
        for row in silenced.select_related("incident__feature", "incident__component"):
            if holds.on(row.incident):
                ids.add(row.pk)
    if ids:
        with transaction.atomic():
            # Who writes one just now is found again by the next sweep. To wait for them, in another order than theirs,
            # could be to wait for each other.
            free = FollowUp.objects.filter(pk__in=ids).select_for_update(of=("self",), skip_locked=True)
            FollowUp.objects.filter(pk__in=list(free.order_by("pk").values_list("pk", flat=True))).update(
                next_at=now
            )
