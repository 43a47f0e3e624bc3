"""Whose fault it is that a milestone burns: by the requests themselves, or by the components' allocations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np

from budgets.attribution import Excess, Requests, attribute
from budgets.burn_rates import window_bounds
from budgets.features import instant
from budgets.models import Feature, Milestone
from budgets.status import WINDOWS, ComponentStatus, FeatureStatus
from budgets.traced_requests import TracedRequests, read_requests

from .summaries import cause_of, observed_ms

MIN_OVER: Final = 3
MIN_WITHIN: Final = 10
"""So many requests over the latency budget and within it must carry trace ids, under which a component was measured,
for them to tell the cause; as many bad ones are needed for a page."""
LONGEST: Final = timedelta(hours=6)
"""Requests that are older are not looked at, however long an incident has been open."""
BASELINE: Final = timedelta(hours=6)
"""In an outage there are no requests within the latency budget: those of so long before are what was usual."""

OUTWEIGHS: Final = 1.5
"""Another component is called the cause only where it weighs so many times as much as the one that people were told:
two that are about as slow change places with every minute."""

By = Literal["requests", "allocations"]
Why = Literal["", "few_traces", "unmeasured", "many_incidents"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one component has to do with it; `component` is None for the time in no component that is measured.

    By requests: see budgets.attribution.Share. `observed_ms` is the p99 in the rule's window. What is not known is None.
    """

    component: str | None
    allocated_ms: float | None
    observed_ms: float | None
    excess_ms: float | None = None
    share_ratio: float | None = None
    but_for_ratio: float | None = None

    def document(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "allocated_ms": self.allocated_ms,
            "observed_ms": _rounded(self.observed_ms, 1),
            "excess_ms": _rounded(self.excess_ms, 3),
            "share_ratio": _rounded(self.share_ratio, 4),
            "but_for_ratio": _rounded(self.but_for_ratio, 4),
        }


@dataclass(frozen=True, slots=True)
class Attribution:
    """How the components share in what is wrong, the worst first.

    `why` says why it is by allocations. Of requests: those that ended in [start, end), so many of them over the latency
    budget and within it; `is_sampled` where these are not all. `cause` is what the contract calls so, None where no
    component is to blame.
    """

    by: By
    why: Why
    at: datetime
    start: datetime
    end: datetime
    contributions: tuple[Contribution, ...]
    cause: dict[str, Any] | None
    over: int = 0
    within: int = 0
    is_sampled: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "by": self.by,
            "why": self.why,
            "at": instant(self.at),
            "from": instant(self.start),
            "to": instant(self.end),
            "over": self.over,
            "within": self.within,
            "is_sampled": self.is_sampled,
            "components": [one.document() for one in self.contributions],
        }


def causes(
    *,
    feature: Feature,
    environment: str,
    milestone: str,
    since: datetime,
    now: datetime,
    window: str,
    statuses: Mapping[str, FeatureStatus],
    reads_requests: bool = True,
) -> Attribution | None:
    """Who makes the requests slow that ended within `window` or since `since`, whichever is longer, up to LONGEST.

    `statuses` are the feature's milestones over the window, of which the components' figures are taken. The requests
    tell where enough of them carry trace ids and the time is spent in components that are measured; else the
    components' p99 beside their allocations. None where no component is known.
    """
    components = _components(milestone, statuses)
    if not components:
        return None
    end = window_bounds(now, WINDOWS[window]).end
    start = max(min(since, end - WINDOWS[window]), end - LONGEST)
    by_allocations = _by_allocations(components, start=start, end=end, now=now)
    if not reads_requests:
        return replace(by_allocations, why="many_incidents")
    read = read_requests(feature=feature, milestone=milestone, environment=environment, start=start, end=end)
    if not _has_enough(read, is_over=True):
        return by_allocations
    requests, is_sampled = read.requests, read.is_sampled
    if not _has_enough(read, is_over=False):
        usual = read_requests(
            feature=feature,
            milestone=milestone,
            environment=environment,
            start=start - BASELINE,
            end=start,
        )
        if not _has_enough(usual, is_over=False):
            return by_allocations
        requests, is_sampled = _with_usual(requests, usual.requests), is_sampled or usual.is_sampled
    allocations = {name: one.allocated_ms for name, one in components.items() if one.allocated_ms is not None}
    excess = attribute(requests, allocations)
    assert excess is not None
    by_requests = _by_requests(excess, components, start=start, end=end, now=now)
    if by_requests.cause is None and by_allocations.cause is not None:
        return replace(by_allocations, why="unmeasured")
    return replace(by_requests, is_sampled=is_sampled)


def _components(milestone: str, statuses: Mapping[str, FeatureStatus]) -> dict[str, ComponentStatus]:
    """The milestone's components and those of the milestones before it, whose latency budgets are part of its own."""
    found: dict[str, ComponentStatus] = {}
    for one in Milestone.values[: Milestone.values.index(milestone) + 1]:
        for component in statuses[one].components if one in statuses else ():
            if component.component not in found or component.allocated_ms is not None:
                found[component.component] = component
    return found


# -- against what was known before -------------------------------------------------------------------


def is_by_requests(attribution: Mapping[str, Any] | None) -> bool:
    """Whether an attribution, as JSON keeps it, is by the requests themselves."""
    return attribution is not None and attribution["by"] == "requests"


def was_put_off(attribution: Mapping[str, Any] | None) -> bool:
    """Whether there was no time to read the requests."""
    return attribution is not None and attribution["why"] == "many_incidents"


def is_other_cause(
    cause: Mapping[str, Any] | None, attribution: Mapping[str, Any] | None, *, known: Mapping[str, Any] | None
) -> bool:
    """Whether `cause`, found with `attribution`, is to be told those who were told of `known`.

    >>> components = [{"component": "tools", "excess_ms": 300.0}, {"component": "model", "excess_ms": 250.0}]
    >>> attribution = {"by": "requests", "components": components}
    >>> is_other_cause({"component": "tools"}, attribution, known={"component": "model"})
    False
    >>> is_other_cause({"component": "tools"}, attribution, known={"component": "retrieval"})
    True
    """
    if cause is None or attribution is None:
        return False
    if known is None:
        return True
    if cause["component"] == known["component"]:
        return False
    weights = {one["component"]: _weight(one, attribution["by"]) for one in attribution["components"]}
    return weights[cause["component"]] > OUTWEIGHS * max(0.0, weights.get(known["component"], 0.0))


def _weight(contribution: Mapping[str, Any], by: str) -> float:
    """In ms: how much longer it took than usual, or than its allocation."""
    if by == "requests":
        return contribution["excess_ms"] or 0.0
    observed_ms, allocated_ms = contribution["observed_ms"], contribution["allocated_ms"]
    return 0.0 if observed_ms is None or allocated_ms is None else observed_ms - allocated_ms


# -- by requests ------------------------------------------------------------------------------------


def _has_enough(read: TracedRequests, *, is_over: bool) -> bool:
    known = int((read.with_components & (read.requests.is_over == is_over)).sum())
    return known >= (MIN_OVER if is_over else MIN_WITHIN)


def _with_usual(requests: Requests, usual: Requests) -> Requests:
    """Requests with those of another time that were within their limit."""
    columns = {name: column for column, name in enumerate(usual.components)}
    names = list(dict.fromkeys([*requests.components, *usual.components]))
    keep = ~usual.is_over
    parts = [
        np.column_stack([part_ms[:, of[name]] if name in of else np.zeros(len(part_ms)) for name in names])
        for part_ms, of in (
            (requests.part_ms, {name: column for column, name in enumerate(requests.components)}),
            (usual.part_ms[keep], columns),
        )
    ]
    return Requests(
        duration_ms=np.concatenate([requests.duration_ms, usual.duration_ms[keep]]),
        limit_ms=np.concatenate([requests.limit_ms, usual.limit_ms[keep]]),
        is_timeout=np.concatenate([requests.is_timeout, usual.is_timeout[keep]]),
        components=names,
        part_ms=np.concatenate(parts),
    )


def _by_requests(
    excess: Excess,
    components: Mapping[str, ComponentStatus],
    *,
    start: datetime,
    end: datetime,
    now: datetime,
) -> Attribution:
    contributions = []
    for share in excess.shares:
        of = components.get(share.component) if share.component is not None else None
        contributions.append(
            Contribution(
                component=share.component,
                allocated_ms=of.allocated_ms if of else None,
                observed_ms=observed_ms(of) if of else None,
                excess_ms=share.excess_ms,
                share_ratio=share.share_ratio,
                but_for_ratio=share.but_for_ratio,
            )
        )
    worst = excess.shares[0]
    # Where most of it is in no component, a component that is named all the same would be looked into in vain.
    blamed = components.get(worst.component) if worst.component is not None and worst.excess_ms > 0 else None
    return Attribution(
        by="requests",
        why="",
        at=now,
        start=start,
        end=end,
        contributions=tuple(contributions),
        cause=cause_of(blamed) if blamed else None,
        over=excess.over,
        within=excess.within,
    )


# -- by allocations ---------------------------------------------------------------------------------


def _by_allocations(
    components: Mapping[str, ComponentStatus], *, start: datetime, end: datetime, now: datetime
) -> Attribution:
    """The component whose p99 exceeds its allocation by the most milliseconds; no cause where none does."""
    ranked = sorted(components.values(), key=_over_allocation_ms, reverse=True)
    return Attribution(
        by="allocations",
        why="few_traces",
        at=now,
        start=start,
        end=end,
        contributions=tuple(
            Contribution(one.component, one.allocated_ms, observed_ms(one)) for one in ranked
        ),
        cause=cause_of(ranked[0]) if _over_allocation_ms(ranked[0]) > 0 else None,
    )


def _over_allocation_ms(component: ComponentStatus) -> float:
    observed = observed_ms(component)
    if observed is None or component.allocated_ms is None:
        return float("-inf")
    return observed - component.allocated_ms


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
