"""Histograms of several stretches of time, side by side in the same bands of duration. Pure.

A band is a whole number of histogram buckets, so that no count is estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .histogram import LatencyHistogram

MAX_BANDS: Final = 40
LEFT_BELOW_RATIO: Final = 0.001
"""At most this share of the durations lies below the first band's bounds: a few that are far shorter than all others
would make every band too wide to tell anything. Nothing is left out above, where what is slow is."""
_BANDS_PER_OCTAVE: Final = 8
"""No band is narrower than 2^(1/8), 9 %: finer ones would be lines."""


@dataclass(frozen=True, eq=False)
class Bands:
    """`counts` has a row for each histogram and a column for each band.

    Band k holds what took over `bounds_ms[k]` and up to `bounds_ms[k + 1]`; where `is_open_below`, the first one also what
    took less. Without any duration both are empty.
    """

    bounds_ms: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    is_open_below: bool = False


def count_by_band(histograms: Sequence[LatencyHistogram | None], *, at_most: int = MAX_BANDS) -> Bands:
    """The counts of histograms in at most so many bands of equal width on a logarithmic scale.

    Histograms of different scales are counted at the coarsest. None stands for an empty one.

    >>> bands = count_by_band([LatencyHistogram.from_values([100, 100, 400]), None], at_most=4)
    >>> bands.bounds_ms.round(1).tolist(), bands.counts.tolist()
    ([66.1, 105.3, 167.8, 267.3, 425.9], [[2, 0, 0, 1], [0, 0, 0, 0]])
    """
    found = [(n, one) for n, one in enumerate(histograms) if one is not None and one.total]
    if not found:
        return Bands(np.empty(0), np.zeros((len(histograms), 0), dtype=np.int64))
    scale = min(one.scale for _, one in found)
    buckets = np.concatenate([one.buckets >> (one.scale - scale) for _, one in found]).astype(np.int64)
    counts = np.concatenate([one.counts for _, one in found])
    owners = np.repeat([n for n, _ in found], [one.buckets.size for _, one in found])
    zeros = np.zeros(len(histograms), dtype=np.int64)
    for n, one in found:
        zeros[n] = one.zero_count
    if not buckets.size:
        # Nothing took any time: one band up to what a bucket of 1 ms begins with.
        return Bands(np.array([0.5, 1.0]), zeros[:, None], is_open_below=True)

    first = _first_bucket(buckets, counts, int(zeros.sum()))
    last = int(buckets.max())
    narrowest = max(1, 2**scale // _BANDS_PER_OCTAVE)
    width = max(narrowest, -(-(last - first + 1) // max(1, at_most - 1)))
    # On whole multiples of the width, so that they stay where they are when a shorter or longer one comes.
    lowest = first // width * width
    size = (last - lowest) // width + 1
    band = np.maximum((buckets - lowest) // width, 0)
    table = np.zeros((len(histograms), size), dtype=np.int64)
    np.add.at(table, (owners, band), counts)
    table[:, 0] += zeros
    bounds_ms = np.exp2(np.ldexp((lowest + width * np.arange(size + 1)).astype(float), -scale))
    return Bands(bounds_ms, table, is_open_below=bool(zeros.any() or buckets.min() < lowest))


def _first_bucket(buckets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], zeros: int) -> int:
    """The highest bucket below which no more than LEFT_BELOW_RATIO of the durations lie."""
    order = np.argsort(buckets, kind="stable")
    reached = zeros + np.cumsum(counts[order])
    allowed = LEFT_BELOW_RATIO * (zeros + int(counts.sum()))
    return int(buckets[order][np.searchsorted(reached, allowed, side="right")])
