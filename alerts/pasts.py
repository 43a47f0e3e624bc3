"""What a target did in the past, from what is stored, as a replay of rules takes it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from budgets.burn_rates import BURN_RATE_WINDOWS
from budgets.minute_counts import MinuteCounts, minute_counts
from budgets.minute_histograms import MinuteHistograms, minute_histograms
from budgets.models import Feature, Milestone

from .latency_rules import ThresholdRule, TrendRule
from .lookbacks import looks_back
from .minutes import COUNTERS, Minutes, TimeTaken
from .percentiles import Histograms
from .rules import Rule
from .series_rules import NoDataRule, UnallocatedComponentRule
from .sights import MILESTONE

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Past:
    """`minutes` reach as far back as the rules look. Before `exact_from` only hours are kept; `measured_from` is
    when anything was measured first, None where nothing was."""

    minutes: Minutes
    exact_from: datetime
    measured_from: datetime | None

    def shown_to(self, rule: Rule) -> Minutes:
        """What the rule may be shown: to one that asks in which minutes anything was measured, hours tell nothing."""
        if not isinstance(rule, NoDataRule):
            return self.minutes
        kept = np.arange(len(self.minutes)) >= (self.exact_from - self.minutes.start) // _MINUTE
        return replace(self.minutes, total=np.where(kept, self.minutes.total, 0))

    def replayed_from(self, rule: Rule, start: datetime) -> datetime:
        """From when on, at `start` or later, the rule can be replayed."""
        return max(start, self.exact_from) if needs_minutes(rule) else start


def needs_minutes(rule: Rule) -> bool:
    """Whether hours are nothing to the rule: counters are spread over them, percentiles and pauses cannot be."""
    match rule:
        case ThresholdRule():
            return BURN_RATE_WINDOWS[rule.window] < _HOUR
        case NoDataRule():
            return True
    return False


def past_of(
    *,
    feature: Feature,
    environment: str,
    target: str,
    rules: Collection[Rule],
    start: datetime,
    now: datetime,
) -> Past:
    """What "milestone:first_token" or "component:<name>" did from `start` on, and before it as far as these rules look
    back. Two statements; two more for percentiles, and two for each milestone for the time of components."""
    begins = start - max((looks_back(rule) for rule in rules), default=_HOUR)
    counts = minute_counts(
        feature=feature, environment=environment, target=target, start=begins, end=now, now=now
    )
    minutes = as_judged(counts)
    if any(isinstance(rule, ThresholdRule | TrendRule) for rule in rules):
        found = minute_histograms(
            feature=feature,
            environment=environment,
            target=target,
            counts=counts,
            with_minutes=not all(isinstance(rule, TrendRule) for rule in rules),
            with_hours=not any(needs_minutes(rule) for rule in rules),
        )
        minutes = replace(minutes, percentiles=_percentiles(found, len(minutes)))
    if any(isinstance(rule, UnallocatedComponentRule) for rule in rules):
        minutes = replace(minutes, time_taken=_time_taken(feature, environment, counts, begins, now))
    return Past(minutes, counts.exact_from, counts.measured_from)


def as_judged(counts: MinuteCounts) -> Minutes:
    """The minutes of which these are the counters."""
    judged, good, over, total, errors, timeouts = (counts.counters[name] for name in COUNTERS)
    return Minutes(counts.start, judged, good, over, total, errors, timeouts)


def _percentiles(found: MinuteHistograms, length: int) -> Histograms:
    return Histograms(
        minutes=length,
        row_minute=found.minute,
        row_scale=found.scale,
        row_offset=found.offset,
        zero_count=found.zero_count,
        measured=found.measured,
        timeouts=found.timeouts,
        max_ok_ms=found.max_ok_ms,
        min_timeout_ms=found.min_timeout_ms,
        buckets=found.buckets,
        counts=found.counts,
    )


def _time_taken(
    feature: Feature, environment: str, counts: MinuteCounts, begins: datetime, now: datetime
) -> TimeTaken:
    milestones = {
        str(milestone): minute_counts(
            feature=feature,
            environment=environment,
            target=f"{MILESTONE}{milestone}",
            start=begins,
            end=now,
            now=now,
        )
        for milestone in reversed(Milestone.values)
    }
    return TimeTaken(
        component_ms=counts.counters["sum_us"] / 1e3,
        measured=counts.counters["total"] - counts.counters["errors"],
        milestones_ms={name: one.counters["sum_us"] / 1e3 for name, one in milestones.items()},
    )
