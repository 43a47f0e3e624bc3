"""What the minutes of a target would have been judged under another limit than the one that was in force.

Where the limit is the one that was in force, exact counters say it. Elsewhere errors and timeouts are exact, which
are bad under any limit, and what was slower is estimated from histograms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .limits import limit_history
from .minute_counts import MinuteCounts
from .minute_histograms import Floats, Integers, MinuteHistograms, minute_histograms
from .models import Feature

_US_PER_MINUTE = 60_000_000
# What sums of fractions of a bucket may lack of a whole number.
_NOISE = 1e-6


@dataclass(frozen=True)
class RejudgedMinutes:
    """Arrays of the minutes that the counters have. All that was measured is judged."""

    judged: Integers
    good: Integers
    """Whole numbers: what the estimates of minutes leave over is carried into the next."""
    is_estimated: bool
    """Whether anything had to be estimated."""


def rejudged_minutes(
    *, feature: Feature, environment: str, target: str, counts: MinuteCounts, limit_ms: float
) -> RejudgedMinutes:
    """Under `limit_ms`. One statement; two more where it was not in force all along."""
    judged = counts.counters["total"]
    is_exact = _was_in_force(feature, target, counts, limit_ms)
    is_exact |= judged == 0
    if is_exact.all():
        return RejudgedMinutes(judged, counts.counters["good"], is_estimated=False)
    finished = judged - counts.counters["errors"] - counts.counters["timeouts"]
    histograms = minute_histograms(
        feature=feature, environment=environment, target=target, counts=counts, slower_than_ms=limit_ms
    )
    slower = _spread_over_hours(slower_in_minutes(histograms, len(judged), limit_ms), counts)
    good = np.where(is_exact, counts.counters["good"], finished - slower)
    added_up = np.floor(np.cumsum(good) + _NOISE).astype(np.int64)
    return RejudgedMinutes(judged, np.diff(added_up, prepend=0), is_estimated=True)


def slower_in_minutes(histograms: MinuteHistograms, minutes: int, limit_ms: float) -> Floats:
    """How many durations of each minute are estimated to exceed the limit.

    A bucket that holds the limit is shared by it, as in `LatencyHistogram.count_above`; but the longest of each row
    is known exactly, so that a row has none or at least one.
    """
    sizes = np.diff(histograms.offset)
    row = np.repeat(np.arange(len(sizes)), sizes)
    position = np.ldexp(np.log2(limit_ms), histograms.scale)
    # Of each record the share above the limit: nothing, all, or what lies above it within the bucket.
    share = np.clip(histograms.buckets + 1 - position[row], 0.0, 1.0)
    slower = np.bincount(row, weights=share * histograms.counts, minlength=len(sizes))
    slower = np.where(histograms.max_ok_ms > limit_ms, np.maximum(slower, 1.0), 0.0)
    return np.bincount(histograms.minute, weights=slower, minlength=minutes).astype(np.float64)


def _was_in_force(feature: Feature, target: str, counts: MinuteCounts, limit_ms: float) -> NDArray[np.bool_]:
    """Of each minute whether all of it was judged by this limit; of an hour of which no minutes are kept, all of it."""
    kind, name = target.split(":", 1)
    length = len(counts.counters["total"])
    starts = round(counts.start.timestamp() * 1e6) + _US_PER_MINUTE * np.arange(length, dtype=np.int64)
    was: NDArray[np.bool_] = limit_history(feature.pk, kind, name).at(starts) == limit_ms
    was &= counts.counters["judged"] == counts.counters["total"]
    hourly = _hourly_minutes(counts)
    was[:hourly] = np.repeat(was[:hourly].reshape(-1, 60).all(axis=1), 60)
    return was


def _spread_over_hours(values: Floats, counts: MinuteCounts) -> Floats:
    """What stands in the last minute of hours evenly over their minutes, as counters are."""
    hourly = _hourly_minutes(counts)
    spread = values.copy()
    spread[:hourly] = np.repeat(values[:hourly].reshape(-1, 60).sum(axis=1) / 60, 60)
    return spread


def _hourly_minutes(counts: MinuteCounts) -> int:
    """Of how many minutes only hours are kept."""
    return int((counts.exact_from - counts.start).total_seconds()) // 3600 * 60
