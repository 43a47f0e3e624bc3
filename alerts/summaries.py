"""What an incident says about itself: what, how bad against the budget, since when, how long the error
budget lasts, and the cause, in this order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from budgets import formats
from budgets.histogram import AtLeast
from budgets.models import Milestone
from budgets.status import ComponentStatus, FeatureStatus

from .models import Incident, Notification
from .rules import Decision, Reason

_ENDINGS = {
    "recovered": "Recovered",
    "no_data_timeout": "Silent, not recovered: no more data came",
    "milestone_retired": "Ended, because the milestone was retired",
    "allocation_removed": "Ended, because the component has no allocation any more",
    "feature_archived": "Ended, because the feature was archived",
    "rule_disabled": "Ended, because its rule was switched off",
    "rule_removed": "Ended, because its rule was removed",
}


def milestone_summary(
    *,
    feature_name: str,
    status: FeatureStatus,
    decision: Decision,
    cause: dict[str, Any] | None,
    since: datetime,
) -> str:
    """Of a burning milestone.

    "Support chat, first token: p99 4.2 s of 3 s, burning 15.2× over 1 h since 02:51 UTC. 11 % of the error
    budget left, gone in 5 h. tools: p99 2.1 s of 800 ms allocated."
    """
    long = decision.evidence["long"]
    parts = [f"burning {formats.burn_rate(decision.burn_rate)} over {_window(long['window'])}"]
    budget = status.latency_budget
    p99 = status.percentiles_ms.p99
    if budget is not None and p99 is not None:
        parts.insert(
            0, f"p99 {formats.duration(p99, near=budget.budget_ms)} of {formats.limit(budget.budget_ms)}"
        )
    if decision.reason == Reason.OUTAGE:
        parts.insert(0, f"outage, {_of(long['bad'], long['judged'])} bad in {_window(long['window'])}")
    what = f"{feature_name}, {_milestone(status.milestone)}: {', '.join(parts)} since {_clock(since)}."
    sentences = [what, _outlook(status, decision.burn_rate)]
    if cause is not None:
        sentences.append(
            f"{cause['component']}: p99 {formats.duration(cause['observed_ms'], near=cause['allocated_ms'])} "
            f"of {formats.limit(cause['allocated_ms'])} allocated."
        )
    return _plain(" ".join(sentence for sentence in sentences if sentence))


def component_summary(
    *, feature_name: str, component: ComponentStatus, decision: Decision, since: datetime
) -> str:
    """Of a component over its allocation.

    "Support chat, tools: p99 2.1 s of 800 ms allocated, 41 of 63 over in 5 min since 02:51 UTC."
    """
    counts = decision.evidence
    allocated_ms = component.allocated_ms
    p99 = formats.duration(component.percentiles_ms.p99, near=allocated_ms)
    return _plain(
        f"{feature_name}, {component.component}: p99 {p99} of {formats.limit(allocated_ms)} allocated, "
        f"{_of(counts['over'], counts['judged'])} over in {_window(counts['window'])} "
        f"since {_clock(since)}."
    )


def cause_among(components: list[ComponentStatus]) -> dict[str, Any] | None:
    """The component whose p99 exceeds its allocation by the most milliseconds; None where none does."""
    causes = [
        (cause["observed_ms"] - cause["allocated_ms"], cause) for cause in map(cause_of, components) if cause
    ]
    excess_ms, worst = max(causes, key=lambda pair: pair[0], default=(0.0, None))
    return worst if excess_ms > 0 else None


def cause_of(component: ComponentStatus) -> dict[str, Any] | None:
    """A component's p99 beside its allocation. Where the p99 falls among timeouts, the least it can be."""
    p99 = component.percentiles_ms.p99
    if p99 is None or component.allocated_ms is None:
        return None
    observed_ms = p99.ms if isinstance(p99, AtLeast) else p99
    return {
        "component": component.component,
        "allocated_ms": _number(component.allocated_ms),
        "observed_ms": _number(round(observed_ms, 1)),
    }


def announcement(incident: Incident, event: str) -> str:
    """The summary as a message about `event` tells it: what changed stands before what was known."""
    if event == Notification.Event.ACKNOWLEDGED:
        return f"Acknowledged by {incident.acknowledged_by}. {incident.summary}"
    if event == Notification.Event.RESOLVED:
        return f"{ending(incident)}. {incident.summary}"
    return incident.summary


def ending(incident: Incident) -> str:
    """How a resolved incident ended, in words."""
    if incident.resolved_by:
        return f"Resolved by {incident.resolved_by}"
    return _ENDINGS.get(incident.resolved_reason, "Resolved")


def _outlook(status: FeatureStatus, burn_rate: float | None) -> str:
    """How much of the error budget is left, and how long it lasts at this rate."""
    left = status.error_budget.remaining_ratio if status.error_budget else None
    if left is None or status.latency_budget is None:
        return ""
    if left <= 0:
        return f"The error budget is exhausted, {formats.percent(-left)} over."
    text = f"{formats.percent(left)} of the error budget left"
    if burn_rate:
        seconds = left * status.latency_budget.window_days * 86_400 / burn_rate
        text += f", gone in {_roughly(seconds)}"
    return f"{text}."


def _roughly(seconds: float) -> str:
    for name, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or name == "min":
            return f"{max(1, round(seconds / size))} {name}"
    raise AssertionError("unreachable: minutes take everything")


def _window(name: str) -> str:
    """ "1h" as it reads in a sentence: "1 h"."""
    amount, unit = int(name[:-1]), name[-1]
    return f"{amount} {({'m': 'min', 'h': 'h', 'd': 'days'})[unit]}" if unit != "d" or amount > 1 else "1 day"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M} UTC"


def _of(part: int, whole: int) -> str:
    return f"{formats.count(part)} of {formats.count(whole)}"


def _milestone(milestone: str) -> str:
    return Milestone(milestone).label.lower()


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _plain(text: str) -> str:
    """Channels carry plain text, in which a no-break space only gets in the way of a search."""
    return text.replace(formats.NBSP, " ")
