"""What holds notifications back: silences and open maintenance windows. Neither hides an incident."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from . import maintenance
from .matchers import fits
from .models import Incident, MaintenanceWindow, Silence

# As FollowUp.held_by keeps it.
MAX_TEXT_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds an incident's messages back, for people, e.g. `silence “Index rebuild” of ada@example.com`."""

    text: str
    until: datetime


def facts_of(incident: Incident) -> dict[str, str]:
    """What matchers compare. Reads the incident's feature and component.

    `component` is that of a component's own incident: one about a milestone has none, whatever its cause is.
    """
    return {
        "feature": incident.feature.slug,
        "milestone": incident.milestone or "",
        "component": incident.component.name if incident.component else "",
        "environment": incident.environment,
        "severity": str(incident.severity),
    }


def holds(incidents: Collection[Incident], *, now: datetime) -> dict[int, Hold]:
    """Incident's id → what holds its messages back now; of several that which ends last. Others are left out.

    Reads the incidents' features and components, and makes two queries however many incidents there are.
    """
    teams = {incident.feature.team_id for incident in incidents}
    silences = list(Silence.objects.in_force(now).filter(team__in=teams))
    windows = MaintenanceWindow.objects.filter(team__in=teams, is_enabled=True)
    open_windows = [
        (window, one) for window in windows if (one := maintenance.open_at(window, now)) is not None
    ]
    found: dict[int, Hold] = {}
    for incident in incidents:
        facts, team_id = facts_of(incident), incident.feature.team_id
        candidates = [
            Hold(_of_silence(silence), silence.ends_at)
            for silence in silences
            if silence.team_id == team_id and fits(silence.matchers, facts)
        ]
        candidates += [
            Hold(_of_window(window), occurrence.ends_at)
            for window, occurrence in open_windows
            if window.team_id == team_id and fits(window.matchers, facts)
        ]
        if candidates:
            found[incident.pk] = max(candidates, key=lambda one: one.until)
    return found


def _of_silence(silence: Silence) -> str:
    by = f"” of {silence.author}"
    text = f"silence “{' '.join(silence.reason.split())}"
    return f"{text[: MAX_TEXT_CHARACTERS - len(by)]}{by}"[:MAX_TEXT_CHARACTERS]


def _of_window(window: MaintenanceWindow) -> str:
    return f"maintenance window “{window.name}”"
