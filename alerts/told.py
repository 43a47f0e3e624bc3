"""What is written down with an incident of each telling: who was told and why, who was left out, what held it back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .models import Incident, IncidentEvent, Notification

Event = Notification.Event


def note_told(
    incident: Incident,
    event: Event,
    now: datetime,
    written: Sequence[Notification],
    *,
    left_out: Sequence[dict[str, Any]],
    **about: Any,
) -> None:
    """Which messages were written for a step, also where that were none; `about` is the policy's step, if any."""
    told = [
        {
            "notification": one.pk,
            "channel": one.channel_id,
            "name": one.channel.name,
            "because": one.because,
        }
        for one in written
    ]
    _write(incident, event, now, {"told": told, "left_out": left_out, **about})


def note_held(
    incident: Incident, event: Event, now: datetime, *, held_by: str, until: datetime | None = None
) -> None:
    """What held a step back, and until when, where that is known."""
    details = {"held_by": held_by}
    if until is not None:
        details["until"] = until.isoformat()
    _write(incident, event, now, details)


def _write(incident: Incident, event: Event, now: datetime, details: dict[str, Any]) -> None:
    IncidentEvent.objects.create(
        incident=incident,
        kind=IncidentEvent.Kind.TOLD,
        at=max(now, incident.opened_at),
        reason=str(event),
        details=details,
    )
