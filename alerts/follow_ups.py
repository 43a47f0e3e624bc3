"""What becomes due for an incident by the clock alone: escalation, updates, repetitions, reminders, releases."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from . import incidents, telling
from .directory import Directory
from .escalation import Action, next_step
from .models import FollowUp, Incident, Notification

Event = Notification.Event


def due(*, now: datetime, limit: int) -> list[int]:
    """The incidents that are to be looked at, longest due first."""
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
        plan = next_step(telling.standing_of(incident, row, hold), now)
        match plan.action:
            case Action.RELEASE:
                telling.release(incident=incident, now=now)
            case Action.ANNOUNCE:
                if not telling.announce(incident=incident, now=now):
                    return Action.NOTHING
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
            case Action.NOTHING if hold and _is_step_held(incident, row, now):
                # Once, so that the incident's page says why the step was not taken.
                telling.release(incident=incident, now=now)
            case Action.NOTHING:
                FollowUp.objects.filter(pk=incident_id).update(next_at=plan.look_at)
        return plan.action


def _is_step_held(incident: Incident, row: FollowUp, now: datetime) -> bool:
    """Whether a step of the policy is due that has not been noted as held back."""
    is_due = row.next_step_at is not None and row.next_step_at <= now
    return incident.state == Incident.State.OPEN and is_due and row.held_since is None
