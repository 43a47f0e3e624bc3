"""The requests behind an incident: what the slow ones have in common, and the slowest of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from alerts.models import Incident
from budgets.contexts.frame import page_url
from budgets.contexts.slow_requests import CommonPart, SlowestPart, common_part, slowest_part
from budgets.instants import rfc3339
from budgets.slow_requests import compare_requests, slowest_requests

TRACES_SHOWN: Final = 5
BEFORE: Final = timedelta(minutes=10)
"""So long before it opened: what made it open, and requests as they usually are."""
LONGEST: Final = timedelta(hours=6)
"""Of an incident that has been open for days, its latest hours."""


@dataclass(frozen=True)
class IncidentRequests:
    incident: Incident
    common: CommonPart
    slowest: SlowestPart
    start: datetime
    end: datetime
    all_url: str
    """The same of the feature over the incident's range, where it is about a milestone."""


def incident_requests(incident: Incident, *, now: datetime) -> IncidentRequests:
    """Of the milestone or component that the incident is about; reads its feature and component."""
    start, end = requests_range(incident, now)
    if incident.component:
        target = f"component:{incident.component.name}"
    else:
        target = f"milestone:{incident.milestone}"
    compared = compare_requests(
        incident.feature, target=target, environment=incident.environment, start=start, end=end, now=now
    )
    slowest = slowest_requests(
        incident.feature,
        target=target,
        environment=incident.environment,
        start=start,
        end=end,
        now=now,
        count=TRACES_SHOWN,
    )
    return IncidentRequests(
        incident=incident,
        common=common_part(compared, target=target, asked_from=start, now=now),
        slowest=slowest_part(incident.feature, slowest, target=target, asked_from=start, now=now),
        start=start,
        end=end,
        all_url=page_url(
            "feature-slow-requests",
            incident.feature.slug,
            milestone=incident.milestone,
            environment=incident.environment,
            **{"from": rfc3339(start), "to": rfc3339(end)},
        )
        if incident.milestone
        else "",
    )


def requests_range(incident: Incident, now: datetime) -> tuple[datetime, datetime]:
    """From shortly before it opened, or from where its cause was sought, to its end, or to now, in whole minutes."""
    end = min(now, incident.resolved_at or now).replace(second=0, microsecond=0) + timedelta(minutes=1)
    start = incident.opened_at.replace(second=0, microsecond=0) - BEFORE
    if incident.attribution:
        start = min(start, datetime.fromisoformat(incident.attribution["from"]))
    return max(start, end - LONGEST), end
