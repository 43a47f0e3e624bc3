"""What an incident says about itself: what, how bad against the budget, since when, how long the error
budget lasts, and the cause, in this order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from budgets.histogram import AtLeast
from budgets.models import Milestone
from budgets.status import ComponentStatus, FeatureStatus

from .models import Incident, Notification
from .rules import Decision, Reason
from .wording import (
    Figures,
    Step,
    Story,
    burning,
    clock,
    count_of,
    how_attributed,
    outlook,
    p99_of_limit,
)

ENDINGS = {
    "recovered": "Recovered",
    "no_data_timeout": "Silent, not recovered: no more data came",
    "milestone_retired": "Ended, because the milestone was retired",
    "component_allocated": "Ended, because the component was given an allocation",
    "allocation_removed": "Ended, because the component has no allocation any more",
    "feature_archived": "Ended, because the feature was archived",
    "rule_disabled": "Ended, because its rule was switched off",
    "rule_removed": "Ended, because its rule was removed",
}


def milestone_figures(status: FeatureStatus, decision: Decision) -> Figures:
    """Of a milestone that burns."""
    long = decision.evidence["long"]
    budget, p99 = status.latency_budget, status.percentiles_ms.p99
    left = status.error_budget.remaining_ratio if status.error_budget and budget else None
    is_outage = decision.reason == Reason.OUTAGE
    return Figures(
        p99_ms=p99.ms if isinstance(p99, AtLeast) else p99,
        is_p99_at_least=isinstance(p99, AtLeast),
        limit_ms=float(budget.budget_ms) if budget else None,
        window=long["window"],
        burn_rate=decision.burn_rate,
        bad=long["bad"] if is_outage else None,
        judged=long["judged"] if is_outage else None,
        remaining_ratio=left,
        exhausted_in_s=(
            left * budget.window_days * 86_400 / decision.burn_rate
            if left and left > 0 and budget and decision.burn_rate
            else None
        ),
    )


def component_figures(component: ComponentStatus, decision: Decision) -> Figures:
    """Of a component over its allocation."""
    counts, p99 = decision.evidence, component.percentiles_ms.p99
    return Figures(
        p99_ms=p99.ms if isinstance(p99, AtLeast) else p99,
        is_p99_at_least=isinstance(p99, AtLeast),
        limit_ms=None if component.allocated_ms is None else float(component.allocated_ms),
        window=counts["window"],
        bad=counts["over"],
        judged=counts["judged"],
    )


def milestone_summary(
    *,
    feature_name: str,
    milestone: str,
    figures: Figures,
    cause: str,
    since: datetime | None,
) -> str:
    """Of a milestone that burns, or of which another rule found what `figures.clause` says. `cause` is a sentence.

    "Support chat, first token: p99 4.2 s of 3 s, burning 15.2× over 1 h since 02:51 UTC. 11 % of the error
    budget left, gone in 5 h. Tools +1.3 s since v412 (02:49 UTC)."
    """
    counted = count_of(figures, "bad")
    found = filter(
        None, [figures.clause, counted and f"outage, {counted}", p99_of_limit(figures), burning(figures)]
    )
    target = Milestone(milestone).label.lower()
    sentences = [
        f"{feature_name}, {target}: {', '.join(found)}{_since(since)}.",
        outlook(figures),
        cause,
    ]
    return " ".join(filter(None, sentences))


def component_summary(*, feature_name: str, component: str, figures: Figures, since: datetime | None) -> str:
    """Of a component over its allocation.

    "Support chat, tools: p99 2.1 s of 800 ms allocated, 41 of 63 over in 5 min since 02:51 UTC."
    """
    p99 = p99_of_limit(figures)
    found = filter(None, [figures.clause, p99 and f"{p99} allocated", count_of(figures, "over")])
    return f"{feature_name}, {component}: {', '.join(found)}{_since(since)}."


def _since(at: datetime | None) -> str:
    """Nothing where the clause says it itself."""
    return "" if at is None else f" since {clock(at)}"


def cause_of(component: ComponentStatus) -> dict[str, Any] | None:
    """A component's p99 beside its allocation, of which it may have none; None where there is no p99."""
    observed = observed_ms(component)
    if observed is None:
        return None
    return {
        "component": component.component,
        "allocated_ms": None if component.allocated_ms is None else _number(component.allocated_ms),
        "observed_ms": _number(round(observed, 1)),
    }


def observed_ms(component: ComponentStatus) -> float | None:
    """A component's p99. Where it falls among timeouts, the least it can be."""
    p99 = component.percentiles_ms.p99
    return p99.ms if isinstance(p99, AtLeast) else p99


def announcement(incident: Incident, event: str) -> str:
    """The summary as a message about `event` tells it: what changed stands before what was known."""
    words = _step_words(incident, event)
    return f"{words}. {incident.summary}" if words else incident.summary


def ending(incident: Incident) -> str:
    """How a resolved incident ended, in words."""
    if incident.resolved_by:
        return f"Resolved by {incident.resolved_by}"
    if incident.merged_into_id is not None:
        return f"Merged into incident {incident.merged_into_id}"
    return ENDINGS.get(incident.resolved_reason, "Resolved")


def story(incident: Incident, event: str, *, note: str, now: datetime) -> Story:
    """What people are told of a step that was just taken. Reads the incident's feature."""
    opened = Story(
        step="opened",
        feature_name=incident.feature.name,
        figures=Figures.read(incident.figures),
        cause=how_attributed(incident.cause, incident.attribution, incident.changes),
        note=note,
    )
    lasted_s = (now - incident.opened_at).total_seconds()
    step = cast(Step, event.removeprefix("incident."))
    told = replace(opened, step=step, step_words=_step_words(incident, event))
    if event in (Notification.Event.ACKNOWLEDGED, Notification.Event.REMINDER):
        return replace(told, lasted_s=lasted_s)
    if event == Notification.Event.RESOLVED:
        return replace(told, reason=incident.resolved_reason, lasted_s=lasted_s)
    return told


def _step_words(incident: Incident, event: str) -> str:
    """What happened, before what the incident is about; nothing for an opening."""
    kinds = Notification.Event
    match event:
        case kinds.ACKNOWLEDGED:
            return f"Acknowledged by {incident.acknowledged_by}"
        case kinds.REMINDER:
            return f"Still acknowledged by {incident.acknowledged_by}, not resolved"
        case kinds.RESOLVED:
            return ending(incident)
        case kinds.REOPENED:
            times = f", {incident.reopenings} times now" if incident.reopenings > 1 else ""
            return f"Came back{times}"
        case kinds.UPDATED:
            return "Update"
        case kinds.REPEATED:
            return "Still open"
        case kinds.UNACKNOWLEDGED:
            return "Nobody has it any more"
    return ""


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value
