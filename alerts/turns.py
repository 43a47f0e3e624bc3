"""Even traffic that turns bad, of the sort that a rule watches for: what an explanation replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from budgets import formats
from budgets.histogram import MAX_SCALE, bucket_indexes

from .latency_rules import TREND_PERCENTILE, ThresholdRule, TrendRule
from .lookbacks import looks_back
from .minutes import Minutes, TimeTaken
from .percentiles import Histograms, StatedPercentiles
from .rules import Rule
from .series_rules import NoDataRule, UnallocatedComponentRule

BAD_RATIOS: Final = (0.02, 0.05, 0.20, 1.00)
_TIME_RATIOS: Final = (0.02, 0.05, 0.20, 0.50)
# How much more than what is allowed at the least: below, just over, and well over what a trend's rule asks.
_GROWTHS: Final = (0.5, 1.25, 2.0, 5.0)
_COMPLETE_MS: Final = 1000.0
_USUAL_MS: Final = 100.0

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Turn:
    """`minutes` are as long a time without anything bad as rules look back, then as long a one with, from `began`
    on. `level` says how bad, `words` what and how bad: "5 % bad"."""

    level: float
    words: str
    began: datetime
    minutes: Minutes


def turns(rules: Mapping[str, Rule], requests_per_hour: float) -> list[Turn]:
    """The turns that rules of one kind watch for, the least bad first."""
    horizon = max((looks_back(rule) + rule.for_ for rule in rules.values()), default=_MINUTE)
    half = max(horizon, timedelta(days=1)) // _MINUTE
    arrived = np.floor(np.arange(2 * half + 1) * requests_per_hour / 60 + 1e-9)
    requests = np.diff(arrived).astype(np.int64)
    rule = next(iter(rules.values()), None)
    made: list[tuple[float, str, Minutes]]
    match rule:
        case ThresholdRule(threshold_ms=threshold_ms):
            limit = formats.limit(threshold_ms).replace(formats.NBSP, " ")
            made = [
                (ratio, f"{ratio * 100:g} % over {limit}", _over(requests, bad, threshold_ms))
                for ratio, bad in _bad(arrived, half)
            ]
        case TrendRule(growth_ratio=growth_ratio):
            levels = [1 + (growth_ratio - 1) * times for times in _GROWTHS]
            made = [
                (level, f"{TREND_PERCENTILE} {level:.3g} times as long", _slower(requests, half, level))
                for level in levels
            ]
        case NoDataRule():
            made = [(1.0, "silence", _of(np.where(np.arange(2 * half) < half, requests, 0)))]
        case UnallocatedComponentRule(share_ratio=share_ratio):
            ratios = [*_TIME_RATIOS, *([(1 + share_ratio) / 2] if share_ratio >= _TIME_RATIOS[-1] else [])]
            made = [
                (ratio, f"{ratio * 100:.3g} % of the time", _taking(requests, half, ratio))
                for ratio in ratios
            ]
        case _:
            made = [
                (ratio, "everything bad" if ratio == 1 else f"{ratio * 100:g} % bad", _of(requests, bad))
                for ratio, bad in _bad(arrived, half)
            ]
    began = _START + half * _MINUTE
    return [Turn(level, words, began, minutes) for level, words, minutes in made]


def _bad(arrived: NDArray[np.float64], half: int) -> list[tuple[float, Integers]]:
    """How many of what arrived in each minute are bad, by the share that is bad from the half on."""
    of_half = (arrived - arrived[half]).clip(0)
    return [(ratio, np.diff(np.floor(of_half * ratio + 1e-9)).astype(np.int64)) for ratio in BAD_RATIOS]


def _of(requests: Integers, bad: Any = 0) -> Minutes:
    """Whatever is bad is a timeout: it is over any limit, and rules about timeouts see it too."""
    bad = np.broadcast_to(np.asarray(bad, dtype=np.int64), requests.shape)
    return replace(Minutes.of(_START, good=requests - bad, bad=bad), timeouts=bad)


def _over(requests: Integers, bad: Integers, threshold_ms: float) -> Minutes:
    """Half as long as the threshold, and what is bad twice as long."""
    length, nothing = len(requests), np.zeros_like(requests)
    durations = bucket_indexes([threshold_ms / 2, threshold_ms * 2]).astype(np.int64)
    percentiles = Histograms(
        minutes=length,
        row_minute=np.arange(length),
        row_scale=np.full(length, MAX_SCALE),
        row_offset=2 * np.arange(length + 1),
        zero_count=nothing,
        measured=requests,
        timeouts=nothing,
        max_ok_ms=np.where(bad > 0, threshold_ms * 2, threshold_ms / 2),
        min_timeout_ms=np.full(length, np.nan),
        buckets=np.tile(durations, length),
        counts=np.stack([requests - bad, bad], axis=1).reshape(-1),
    )
    return replace(_of(requests), percentiles=percentiles)


def _slower(requests: Integers, half: int, growth_ratio: float) -> Minutes:
    ms = np.where(np.arange(2 * half) < half, _USUAL_MS, _USUAL_MS * growth_ratio)
    return replace(_of(requests), percentiles=StatedPercentiles({TREND_PERCENTILE: ms}, requests))


def _taking(requests: Integers, half: int, ratio: float) -> Minutes:
    milestone_ms = requests.astype(np.float64) * _COMPLETE_MS
    component_ms = np.where(np.arange(2 * half) < half, 0.0, milestone_ms * ratio)
    return replace(_of(requests), time_taken=TimeTaken(component_ms, requests, {"complete": milestone_ms}))
