"""What a condition found, as an incident tells it: how bad, against what, and the component behind it.

One function a kind of rule makes the figures of its decision; the rest is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from budgets.status import ComponentStatus, FeatureStatus

from . import clauses, incidents
from .causes import Attribution, causes, is_by_requests
from .conditions import Condition, Watch
from .models import AlertRule, Incident
from .rules import OVERRUN_WINDOW
from .summaries import (
    cause_of,
    component_figures,
    component_summary,
    milestone_figures,
    milestone_summary,
)
from .wording import Figures, attributed

Kind = AlertRule.Kind

MAX_RULE_CHARACTERS: Final = 300
"""As Incident.rule keeps it."""

_OTHER_WINDOW: Final = "1h"
"""What the components of a milestone are compared over, where the rule has no window of its own."""


class Statuses(Protocol):
    """What the features look like over a window."""

    def of(self, watch: Watch, window: str) -> Mapping[str, FeatureStatus]: ...


def finding_of(
    condition: Condition,
    watch: Watch,
    statuses: Statuses,
    *,
    since: datetime,
    changed: Sequence[Mapping[str, Any]],
    reads_requests: bool,
    known: Incident | None = None,
) -> incidents.Finding:
    """What the incident says that opens or rises by this condition.

    `since` is when it opened, `changed` what changed before. `known` is the incident where there is one: what it
    knows from the requests themselves is not given up for less.
    """
    assert condition.decision is not None
    case = _Case(condition, watch, statuses)
    figures, cause = _DESCRIBED[condition.rule.kind](case)
    said_since = None if condition.rule.kind == Kind.NO_DATA else since
    attribution: Mapping[str, Any] | None = None
    if condition.milestone is not None and condition.rule.kind != Kind.NO_DATA:
        found = case.attribution(since, reads_requests=reads_requests)
        cause, attribution = (found.cause, found.document()) if found else (None, None)
        if known is not None and is_by_requests(known.attribution) and not is_by_requests(attribution):
            cause, attribution = known.cause, known.attribution
        summary = milestone_summary(
            feature_name=watch.feature.name,
            milestone=condition.milestone,
            figures=figures,
            cause=attributed(cause, attribution, changed),
            since=said_since,
        )
    else:
        summary = component_summary(
            feature_name=watch.feature.name,
            component=str(condition.component),
            figures=figures,
            since=said_since,
        )
    return incidents.Finding(
        severity=condition.severity,
        # A name and a key of 200 characters each are more than the row holds.
        rule=condition.name[:MAX_RULE_CHARACTERS],
        reason=str(condition.decision.reason),
        summary=summary,
        cause=cause,
        # Other rules burn as well, and by no tier.
        burn_rate=condition.decision.burn_rate if condition.rule.kind == Kind.BURN_RATE else None,
        figures=figures.document(),
        attribution=attribution,
        changes=changed,
        decided_by={
            "condition": condition.name,
            "reason": str(condition.decision.reason),
            "evidence": condition.decision.evidence,
        },
    )


_Described = tuple[Figures, dict[str, Any] | None]
"""And the cause, where it is a component's: a milestone's is found by another way."""


@dataclass(frozen=True, slots=True)
class _Case:
    condition: Condition
    watch: Watch
    statuses: Statuses

    @property
    def evidence(self) -> Mapping[str, Any]:
        assert self.condition.decision is not None
        return self.condition.decision.evidence

    @property
    def window(self) -> str:
        """What the components of a milestone are compared over: the long window of a tier."""
        if self.condition.rule.kind == Kind.BURN_RATE:
            return str(self.evidence["long"]["window"])
        return _OTHER_WINDOW

    def milestone(self) -> FeatureStatus | None:
        """The milestone over that window; None where it has neither a latency budget nor was measured."""
        return self.statuses.of(self.watch, self.window).get(str(self.condition.milestone))

    def attribution(self, since: datetime, *, reads_requests: bool) -> Attribution | None:
        """Which component is behind it, among the requests since."""
        return causes(
            feature=self.watch.feature,
            environment=self.watch.environment,
            milestone=str(self.condition.milestone),
            since=since,
            now=self.condition.now,
            window=self.window,
            statuses=self.statuses.of(self.watch, self.window),
            reads_requests=reads_requests,
        )

    def component(self, window: str) -> ComponentStatus | None:
        """The component over a window, under the milestone that allocates it, or under any."""
        statuses = self.statuses.of(self.watch, window)
        name = self.condition.component
        own = self.watch.milestone_of(str(name))
        found: Iterable[ComponentStatus] = (
            component
            for milestone in ([own] if own else statuses)
            if milestone in statuses
            for component in statuses[milestone].components
            if component.component == name
        )
        return next(iter(found), None)

    def against_the_error_budget(self, clause: str, **known: Any) -> _Described:
        """A clause about a milestone, and how much of its error budget is left."""
        status = self.milestone()
        left = status.error_budget.remaining_ratio if status and status.error_budget else None
        return Figures(**{"clause": clause, "remaining_ratio": left, **known}), None

    def about_either(self, clause: str, window: str) -> _Described:
        if self.condition.milestone is not None:
            return self.against_the_error_budget(clause)
        component = self.component(window)
        return Figures(clause=clause), cause_of(component) if component else None


def _burn_rate(case: _Case) -> _Described:
    status = case.milestone()
    assert status is not None
    assert case.condition.decision is not None
    return milestone_figures(status, case.condition.decision), None


def _component_overrun(case: _Case) -> _Described:
    observed = case.component(OVERRUN_WINDOW)
    assert observed is not None
    assert case.condition.decision is not None
    return component_figures(observed, case.condition.decision), cause_of(observed)


def _timeouts(case: _Case) -> _Described:
    evidence = case.evidence
    clause = clauses.timeouts(evidence["timeouts"], evidence["total"], evidence["window"])
    figures, cause = case.about_either(clause, evidence["window"])
    return replace(figures, window=evidence["window"]), cause


def _error_budget(case: _Case) -> _Described:
    evidence = case.evidence
    status = case.milestone()
    left, lasts_s = evidence["remaining_ratio"], None
    rates = {one.window: one.burn_rate for one in (status.burn_rates or ())} if status else {}
    budget = status.latency_budget if status else None
    if (rate := rates.get("6h")) and budget is not None and left > 0:
        lasts_s = left * budget.window_days * 86_400 / rate
    return case.against_the_error_budget(
        clauses.error_budget(evidence["threshold_ratio"]), remaining_ratio=left, exhausted_in_s=lasts_s
    )


def _threshold(case: _Case) -> _Described:
    evidence = case.evidence
    clause = clauses.threshold(
        evidence["percentile"],
        evidence["percentile_ms"],
        is_at_least=evidence["is_at_least"],
        threshold_ms=evidence["threshold_ms"],
        window=evidence["window"],
    )
    return case.about_either(clause, evidence["window"])


def _trend(case: _Case) -> _Described:
    evidence = case.evidence
    return case.about_either(clauses.trend(evidence["percentile"], evidence["day_ratio"]), _OTHER_WINDOW)


def _forecast(case: _Case) -> _Described:
    evidence = case.evidence
    clause = clauses.forecast(evidence["earliest_hours"], evidence["latest_hours"])
    return case.against_the_error_budget(
        clause,
        remaining_ratio=evidence["remaining_ratio"],
        exhausted_in_s=evidence["likely_hours"] * 3600.0,
    )


def _no_data(case: _Case) -> _Described:
    at = datetime.fromisoformat(case.evidence["last_measured_at"])
    return Figures(clause=clauses.no_data(at)), None


def _unallocated_component(case: _Case) -> _Described:
    evidence = case.evidence
    clause = clauses.unallocated(evidence["share_ratio"], evidence["milestone"], evidence["window"])
    return Figures(clause=clause), None


_DESCRIBED: Final[Mapping[str, Callable[[_Case], _Described]]] = {
    Kind.BURN_RATE: _burn_rate,
    Kind.COMPONENT_OVERRUN: _component_overrun,
    Kind.TIMEOUTS: _timeouts,
    Kind.ERROR_BUDGET: _error_budget,
    Kind.THRESHOLD: _threshold,
    Kind.TREND: _trend,
    Kind.FORECAST: _forecast,
    Kind.NO_DATA: _no_data,
    Kind.UNALLOCATED_COMPONENT: _unallocated_component,
}
