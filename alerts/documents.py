"""An incident as programs outside see it: in answers of the API and in every message to a channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from budgets.features import instant

from .models import Incident, IncidentEvent

_TOLD: Final = IncidentEvent.Kind.TOLD


def incident_document(incident: Incident) -> dict[str, Any]:
    """What a message carries as `data.incident`. Reads the incident's feature and component."""
    return {
        "id": incident.pk,
        "feature": incident.feature.slug,
        "environment": incident.environment,
        "milestone": incident.milestone,
        "component": incident.component.name if incident.component else None,
        "severity": str(incident.severity),
        "rule": incident.rule,
        "summary": incident.summary,
        "cause": incident.cause,
        "burn_rate": incident.burn_rate,
        "runbook_url": incident.feature.runbook_url or None,
        "opened_at": instant(incident.opened_at),
        "url": incident.public_url,
    }


# Of an incident in a list: a page of a hundred that were open for days would be many megabytes.
LATEST_IN_LIST: Final = 20


def incident_answer(incident: Incident, *, latest: int | None = None) -> dict[str, Any]:
    """What the API answers: the message's document, how far the incident has come, its steps, and of each that
    was to be told who was told and what held it back. With `latest`, of either the first and so many of the last, and
    how many were left out between."""
    events = list(incident.events.all())
    steps, steps_left_out = _shortened([one for one in events if one.kind != _TOLD], latest)
    told, told_left_out = _shortened([one for one in events if one.kind == _TOLD], latest)
    return {
        **incident_document(incident),
        "state": str(incident.state),
        "acknowledged_at": instant(incident.acknowledged_at),
        "resolved_at": instant(incident.resolved_at),
        "reopened_at": instant(incident.reopened_at),
        "is_flapping": incident.is_flapping,
        "attribution": incident.attribution,
        "changes": incident.changes,
        "events": [event_document(event) for event in steps],
        "events_left_out": steps_left_out,
        "told": [told_document(event) for event in told],
        "told_left_out": told_left_out,
    }


def _shortened(events: list[IncidentEvent], latest: int | None) -> tuple[list[IncidentEvent], int]:
    """In their order, and how many are missing behind the first."""
    if latest is None or len(events) <= latest + 1:
        return events, 0
    return [events[0], *events[-latest:]], len(events) - latest - 1


def told_document(event: IncidentEvent) -> dict[str, Any]:
    """Who was told of a step and why, who was left out and why, or what held it back until when."""
    details = event.details
    return {
        "at": instant(event.at),
        "event": event.reason,
        "told": [{"channel": one["name"], "because": one["because"]} for one in details.get("told", [])],
        "left_out": details.get("left_out", []),
        "held_by": details.get("held_by"),
        "held_until": instant(datetime.fromisoformat(details["until"])) if "until" in details else None,
    }


def event_document(event: IncidentEvent) -> dict[str, Any]:
    """One step of an incident; `actor` is null where the rules took it."""
    return {
        "kind": str(event.kind),
        "at": instant(event.at),
        "actor": event.actor or None,
        "reason": event.reason,
        "note": event.note,
        "details": event.details,
    }
