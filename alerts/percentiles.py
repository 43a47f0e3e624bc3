"""Percentiles of one target over any of its minutes: from histograms, or as a scenario states them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from budgets.histogram import LatencyHistogram, percentile

from .latency_rules import NOT_MEASURED, Measured

QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# A rank is a product of floats: one this near to a bound may be on either side of it.
_CLOSE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Above:
    """After each number of minutes whether a percentile of the last so many exceeds a threshold: true at least
    where it does (`may`), at most where it does (`surely`); and of how many."""

    may: Booleans
    surely: Booleans
    measured: Integers


class Percentiles(ABC):
    """By minutes, counted from the first of the counters that they belong to."""

    @abstractmethod
    def over(self, first: int, end: int, name: str) -> Measured:
        """The percentile "p50", "p95" or "p99" of the minutes in [first, end)."""

    @abstractmethod
    def above(self, first: Integers, end: Integers, name: str, threshold_ms: float) -> Above:
        """Of many ranges at once whether the percentile of each exceeds the threshold."""


@dataclass(frozen=True)
class StatedPercentiles(Percentiles):
    """Percentiles as somebody states them for each minute, by their names: what rules see when it is over, whatever
    their window. NaN where there is none. `measured` are the durations and timeouts of each minute."""

    stated_ms: Mapping[str, Floats]
    measured: Integers

    def over(self, first: int, end: int, name: str) -> Measured:
        first = max(first, 0)
        measured = int(self.measured[first:end].sum())
        stated = self.stated_ms[name][first:end]
        known = np.flatnonzero(~np.isnan(stated))
        if not measured or not len(known):
            return NOT_MEASURED
        return Measured(float(stated[known[-1]]), measured)

    def above(self, first: Integers, end: Integers, name: str, threshold_ms: float) -> Above:
        first = np.maximum(first, 0)
        added_up = np.concatenate(([0], np.cumsum(self.measured)))
        measured = added_up[end] - added_up[first]
        # At n: the last of the first n minutes that states one; −1 where none does.
        stated = self.stated_ms[name]
        known = np.concatenate(([-1], np.where(np.isnan(stated), -1, np.arange(len(stated)))))
        last = np.maximum.accumulate(known)[end]
        is_above = (last >= first) & (measured > 0) & (stated[last] > threshold_ms)
        return Above(is_above, is_above, np.where(last >= first, measured, 0))


@dataclass(frozen=True)
class Histograms(Percentiles):
    """Histograms of consecutive minutes. A row is one of them; several rows may be of one minute.

    `row_minute` is sorted. Row n has the buckets [row_offset[n], row_offset[n + 1]). Bounds that are not known are
    NaN: `max_ok_ms` is the largest duration of a row, `min_timeout_ms` the smallest timeout.
    """

    minutes: int
    row_minute: Integers
    row_scale: Integers
    row_offset: Integers
    zero_count: Integers
    measured: Integers
    timeouts: Integers
    max_ok_ms: Floats
    min_timeout_ms: Floats
    buckets: Integers
    counts: Integers

    def over(self, first: int, end: int, name: str) -> Measured:
        low, high = np.searchsorted(self.row_minute, (first, end))
        measured = int(self.measured[low:high].sum())
        if not measured:
            return NOT_MEASURED
        start, stop = self.row_offset[low], self.row_offset[high]
        scales = self.row_scale[low:high]
        scale = int(scales.min())
        buckets = self.buckets[start:stop]
        if scale != scales.max():
            buckets = buckets >> np.repeat(scales - scale, np.diff(self.row_offset[low : high + 1]))
        histogram = LatencyHistogram(
            scale, int(self.zero_count[low:high].sum()), *_add_up(buckets, self.counts[start:stop])
        )
        timeouts = int(self.timeouts[low:high].sum())
        max_ok_ms, min_timeout_ms = (
            _largest(self.max_ok_ms[low:high]),
            _smallest(self.min_timeout_ms[low:high]),
        )
        known = [ms for ms in (max_ok_ms, min_timeout_ms) if ms is not None]
        found = percentile(histogram, timeouts, QUANTILES[name], max(known, default=None))
        if isinstance(found, float) and max_ok_ms is not None:
            found = min(found, max_ok_ms)  # as of any range: budgets.tiles
        return Measured(found, measured)

    def above(self, first: Integers, end: Integers, name: str, threshold_ms: float) -> Above:
        """By ranks: a percentile exceeds a threshold where its rank exceeds that of the threshold."""
        position = math.ldexp(math.log2(threshold_ms), self._scale)
        bucket = math.ceil(position) - 1
        # A histogram that is coarser than another is merged at its own scale, so each is told apart at the coarsest.
        by_row = np.repeat(np.arange(len(self.row_minute)), np.diff(self.row_offset))
        places = self.buckets >> (self.row_scale - self._scale)[by_row]
        below = self._sums(self.row_minute[by_row], np.where(places < bucket, self.counts, 0), first, end)
        below += self._sums(self.row_minute, self.zero_count, first, end)
        within = self._sums(self.row_minute[by_row], np.where(places == bucket, self.counts, 0), first, end)
        beyond = self._sums(self.row_minute[by_row], np.where(places > bucket, self.counts, 0), first, end)
        timeouts = self._sums(self.row_minute, self.timeouts, first, end)
        measured = self._sums(self.row_minute, self.measured, first, end)
        finished = below + within + beyond
        rank = QUANTILES[name] * (finished + timeouts)
        is_even = bool(len(self.row_scale)) and self._scale == self.row_scale.max()
        share = position - bucket
        at_least, at_most = (below + share * within,) * 2 if is_even else (below, below + within)
        # Where nothing lies beyond the threshold's bucket, the largest duration may be below the threshold.
        is_known = (beyond > 0) | (rank > finished * (1 + _CLOSE))
        return Above(
            may=(measured > 0) & (rank >= at_least * (1 - _CLOSE)),
            surely=(measured > 0) & (rank > at_most * (1 + _CLOSE)) & is_known,
            measured=measured,
        )

    @cached_property
    def _scale(self) -> int:
        return int(self.row_scale.min()) if len(self.row_scale) else 0

    def _sums(self, minute: Integers, values: Integers, first: Integers, end: Integers) -> Integers:
        added_up = np.zeros(self.minutes + 1, dtype=np.int64)
        added_up[1:] = np.cumsum(np.bincount(minute, weights=values, minlength=self.minutes)).astype(np.int64)
        return added_up[end] - added_up[np.maximum(first, 0)]


def _add_up(buckets: Integers, counts: Integers) -> tuple[NDArray[np.int32], Integers]:
    """Each bucket once, in order."""
    if not len(buckets):
        return buckets.astype(np.int32), counts
    low = int(buckets.min())
    added = np.bincount(buckets - low, weights=counts).astype(np.int64)
    occupied = np.flatnonzero(added)
    return (occupied + low).astype(np.int32), added[occupied]


def _largest(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else None


def _smallest(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.min()) if len(known) else None
