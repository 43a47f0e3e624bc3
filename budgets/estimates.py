"""What was observed of a feature, and what other numbers would have made of it.

Exact counters say it where the limit is the one that was in force all along; else it is estimated from histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

import numpy as np
from django.db.models import Min

from .burn_rates import objective_window
from .limits import LimitHistory, limit_histories
from .models import DayRollup, DirtyDay, Feature, Series
from .tiles import NOTHING, Range, Totals, read_ranges


@dataclass(frozen=True)
class Observed:
    """What the milestones and components of a feature did, by target ("milestone:complete", "component:tools")
    and the number of days back from now. What was never measured is left out."""

    by_days: Mapping[int, Mapping[str, Totals]] = field(default_factory=dict)
    first_day: date | None = None
    """The first day (UTC) of which anything is kept; None where nothing was measured."""
    since: Mapping[int, datetime] = field(default_factory=dict)
    """When the window of so many days begins."""
    limits: Mapping[str, LimitHistory] = field(default_factory=dict)
    """By target, what was in force."""

    def totals(self, target: str, days: int) -> Totals:
        return self.by_days.get(days, {}).get(target, NOTHING)

    def components(self) -> set[str]:
        """The components that were measured."""
        targets = {target for found in self.by_days.values() for target in found}
        return {target.removeprefix("component:") for target in targets if target.startswith("component:")}

    def good_share(self, target: str, days: int, limit_ms: Decimal | float) -> Share | None:
        """The share of all measurements that would have been good under a limit: ok, and not over it. None without
        data."""
        totals = self.totals(target, days)
        ratio = good_ratio(totals, limit_ms)
        if ratio is None or not self._was_in_force(target, days, limit_ms):
            return None if ratio is None else Share(ratio, is_estimated=True)
        return Share(totals.counts.good / totals.counts.total, is_estimated=False)

    def over_share(self, target: str, days: int, limit_ms: Decimal | float) -> Share | None:
        """The share that would have been over a limit: slower than it, or a timeout. None without data."""
        totals = self.totals(target, days)
        ratio = over_ratio(totals, limit_ms)
        if ratio is None or not self._was_in_force(target, days, limit_ms):
            return None if ratio is None else Share(ratio, is_estimated=True)
        return Share(totals.counts.over / totals.counts.total, is_estimated=False)

    def _was_in_force(self, target: str, days: int, limit_ms: Decimal | float) -> bool:
        """Whether everything of the window was judged by this limit."""
        counts, limits = self.totals(target, days).counts, self.limits.get(target)
        if limits is None or counts.judged != counts.total:
            return False
        start_us = round(self.since[days].timestamp() * 1e6)
        instants = [start_us, *(at for at in limits.from_us if at > start_us)]
        return bool((limits.at(np.array(instants)) == float(limit_ms)).all())


@dataclass(frozen=True, slots=True)
class Share:
    """A share of what was measured; estimated from histograms, or by exact counters."""

    ratio: float
    is_estimated: bool


def observe(feature: Feature, *, environment: str, days: Iterable[int], now: datetime) -> Observed:
    """Everything measured over the last so many days, in a constant number of statements."""
    targets: dict[str, int] = {}
    group_of_series: dict[int, int] = {}
    series = Series.objects.filter(feature=feature, environment=environment)
    for pk, milestone, component in series.values_list("pk", "milestone", "component__name"):
        target = f"component:{component}" if milestone is None else f"milestone:{milestone}"
        group_of_series[pk] = targets.setdefault(target, len(targets))
    if not targets:
        return Observed()
    windows = {n: objective_window(now, n) for n in sorted(set(days))}
    found = read_ranges(group_of_series, [Range(*one, with_histogram=True) for one in windows.values()])
    histories = limit_histories(group_of_series)
    target_of = {group: target for target, group in targets.items()}
    return Observed(
        by_days={
            n: {target: totals[group] for target, group in targets.items() if group in totals}
            for n, totals in zip(windows, found, strict=True)
        },
        first_day=_first_day(group_of_series),
        since={n: window.start for n, window in windows.items()},
        limits={target_of[group_of_series[pk]]: history for pk, history in histories.items()},
    )


def good_ratio(totals: Totals, limit_ms: Decimal | float) -> float | None:
    """The share that would have been good under a limit, estimated: ok, and not over it. None without data.

    The histogram knows a duration to 1.1 %, so a limit within a bucket shares the bucket's count; errors and
    timeouts, which are never good, are counted exactly.
    """
    over = _count_over(totals, limit_ms)
    counts = totals.counts
    return None if over is None else max(0.0, counts.total - counts.errors - over) / counts.total


def over_ratio(totals: Totals, limit_ms: Decimal | float) -> float | None:
    """The share that would have been over a limit, estimated: slower than it, or a timeout. None without data."""
    over = _count_over(totals, limit_ms)
    return None if over is None else over / totals.counts.total


def _count_over(totals: Totals, limit_ms: Decimal | float) -> float | None:
    """How many were slower than the limit, or timed out."""
    if not totals.counts.total or totals.histogram is None:
        return None
    # The longest is known exactly, and nothing is above it.
    is_above_all = totals.max_ok_ms is not None and totals.max_ok_ms <= limit_ms
    slower = 0.0 if is_above_all else totals.histogram.count_above(float(limit_ms))
    return slower + totals.counts.timeouts


def _first_day(series_ids: Iterable[int]) -> date | None:
    ids = list(series_ids)
    starts = [
        model.objects.filter(series_id__in=ids).aggregate(at=Min("start"))["at"]
        for model in (DayRollup, DirtyDay)
    ]
    return min((at.date() for at in starts if at is not None), default=None)
