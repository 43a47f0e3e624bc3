"""Incidents of which somebody was not paged, one for each reason that there is; and the words that its page must say.

Each maker takes a team with a feature and makes what kept people from hearing, then the incident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from alerts import incidents
from alerts.incidents import Finding, Target
from alerts.models import (
    DeliveryAttempt,
    EscalationPolicy,
    Incident,
    MaintenanceWindow,
    Notification,
    Schedule,
    Silence,
)
from budgets.models import Component, Feature
from tests.factories import make_channel

MINUTE: Final = timedelta(minutes=1)
SUMMARY: Final = (
    "Support chat, first token: p99 4.20 s of 3 s, burning 15.2× over 1 h since 19:30 UTC. 11 % of the error budget "
    "left, gone in 5 h. Tools +1.30 s since v412 (19:10 UTC)."
)
CAUSE: Final = {"component": "tools", "allocated_ms": 800, "observed_ms": 2100.0}
_WINDOW: Final = {"judged": 60, "bad": 40, "burn_rate": 66.67}
DECIDED_BY: Final = {
    "condition": "burn_rate 1h/5m",
    "reason": "burning",
    "evidence": {
        "factor": 14.4,
        "long": {"window": "1h", **_WINDOW},
        "short": {"window": "5m", **_WINDOW, "bad": 30, "burn_rate": 50.0},
    },
}


def share(component: str | None, excess_ms: float, share_ratio: float, **values: Any) -> dict[str, Any]:
    """How one component shares in an incident, as the incident keeps it."""
    known = {"allocated_ms": None, "observed_ms": None, "but_for_ratio": 0.0, **values}
    return {"component": component, "excess_ms": excess_ms, "share_ratio": share_ratio, **known}


def attribution(*components: Mapping[str, Any], by: str = "requests", why: str = "") -> dict[str, Any]:
    at = "2026-11-21T20:00:00+00:00"
    return {
        "by": by,
        "why": why,
        "at": at,
        "from": at,
        "to": at,
        "over": 40,
        "within": 160,
        "is_sampled": False,
        "components": list(components),
    }


BY_REQUESTS: Final = attribution(
    share("tools", 1300.042, 0.812, allocated_ms=800, observed_ms=2104.3, but_for_ratio=0.92),
    share("model", 251.4, 0.157, allocated_ms=1500, observed_ms=1320.0, but_for_ratio=0.05),
    share(None, 12.1, 0.0076, but_for_ratio=None),
    share("retrieval", 0.011, 0.0, allocated_ms=400, observed_ms=120.0),
    share("overhead", -0.011, 0.0, allocated_ms=300, observed_ms=14.0),
)


def open_incident(feature: Feature, *, now: datetime, component: str = "", **finding: Any) -> Incident:
    """An incident of the feature's first token, or of a component, with all that is known of a page."""
    about: dict[str, Any] = (
        {"component": Component.objects.get(feature=feature, name=component)}
        if component
        else {"milestone": "first_token"}
    )
    values: dict[str, Any] = {
        "severity": "page",
        "rule": "burn_rate 1h/5m",
        "reason": "burning",
        "summary": SUMMARY,
        "cause": CAUSE,
        "attribution": BY_REQUESTS,
        "burn_rate": 15.2,
        "decided_by": DECIDED_BY,
        **finding,
    }
    opened = incidents.open_incident(
        target=Target(feature=feature, environment="production", **about),
        finding=Finding(**values),
        evidence=[values["rule"]],
        now=now,
    )
    assert opened is not None
    return opened


def by_the_rule(feature: Feature, now: datetime) -> Incident:
    """The rule made a ticket of it, and the pager takes pages alone."""
    make_channel(feature.team, name="pager", min_severity="page")
    return open_incident(
        feature,
        now=now,
        severity="ticket",
        reason="burning_few_bad",
        decided_by={**DECIDED_BY, "reason": "burning_few_bad"},
    )


def by_a_silence(feature: Feature, now: datetime) -> Incident:
    make_channel(feature.team, name="pager")
    Silence.objects.create(
        team=feature.team,
        matchers=[{"name": "feature", "operator": "=", "value": feature.slug}],
        reason="Load test",
        author="kim@example.com",
        starts_at=now - 60 * MINUTE,
        ends_at=now + 180 * MINUTE,
    )
    return open_incident(feature, now=now)


def by_a_window(feature: Feature, now: datetime) -> Incident:
    make_channel(feature.team, name="pager")
    begins = (now - 60 * MINUTE).astimezone(UTC)
    MaintenanceWindow.objects.create(
        team=feature.team,
        name="Index rebuild",
        matchers=[],
        time_zone="UTC",
        starts_on=begins.date(),
        starts_at=begins.time().replace(second=0, microsecond=0),
        duration_minutes=180,
    )
    return open_incident(feature, now=now)


def by_a_gap(feature: Feature, now: datetime) -> Incident:
    """Nobody is on call in the one schedule that the policy names, and the team has no channel."""
    Schedule.objects.create(
        team=feature.team,
        name="primary",
        time_zone="UTC",
        starts_on=date(2026, 1, 5),
        hands_over_at=time(9),
    )
    EscalationPolicy.objects.create(
        team=feature.team,
        name="Nights",
        steps=[{"notify": [{"kind": "schedule", "name": "primary"}], "wait_minutes": 5}],
    )
    return open_incident(feature, now=now)


def by_a_delivery_error(feature: Feature, now: datetime, *, tries: int = 4) -> Incident:
    make_channel(feature.team, name="pager")
    incident = open_incident(feature, now=now)
    fail(Notification.objects.get(incident=incident), tries=tries, now=now)
    return incident


def fail(notification: Notification, *, tries: int, now: datetime) -> None:
    """So many tries that the receiver turned down, and the next to come."""
    for number in range(1, tries + 1):
        DeliveryAttempt.objects.create(
            notification=notification,
            number=number,
            started_at=now + number * MINUTE,
            duration_ms=184.0,
            status_code=503,
            outcome="failed",
            error="The receiver answered 503.",
            excerpt='{"error": "upstream is away"}',
        )
    notification.attempts_made = tries
    notification.next_attempt_at = now + (tries + 4) * MINUTE
    notification.save()


REASONS: Final[Mapping[str, tuple[Callable[[Feature, datetime], Incident], list[str]]]] = {
    "rule": (
        by_the_rule,
        [
            "✕ Nobody has been told.",
            "pager takes only pages, and this is a ticket by the rule burn rate 1h/5m: both windows burn, by too few "
            "bad events for a page. Channels",
        ],
    ),
    "silence": (
        by_a_silence,
        ["‖ Nobody has been told.", "Silence “Load test” of kim@example.com holds its messages back, until"],
    ),
    "window": (
        by_a_window,
        ["‖ Nobody has been told.", "Maintenance window “Index rebuild” holds its messages back, until"],
    ),
    "gap": (
        by_a_gap,
        [
            "✕ Nobody has been told.",
            "primary: nobody was on call, the rotation is empty (step 1 of Nights), at",
        ],
    ),
    "error": (
        by_a_delivery_error,
        ["✕ Nobody was reached yet.", "pager: 4 tries failed: The receiver answered 503. Next try:"],
    ),
}
"""Why nobody was paged, and what the incident's page says first of it."""
