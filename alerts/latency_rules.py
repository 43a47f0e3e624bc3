"""Rules that watch a percentile of a milestone or a component: over a threshold, or growing.

Percentiles come from histograms and are known to 1.1 %. One that falls among timeouts is known to be at least
so long (`AtLeast`) and counts as over any threshold: nobody got an answer in that time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from budgets.burn_rates import BURN_RATE_WINDOWS, Severity
from budgets.histogram import AtLeast

from .rules import Finding, Previous, Reason, Rule, Verdict

MIN_MEASURED: Final = 20
"""A percentile of fewer measurements says little about the next."""

TREND_PERCENTILE: Final = "p95"
TREND_PAIRS: Final = 24
TREND_LATE_PAIRS: Final = 6
TREND_MIN_PAIRS: Final = 12
"""Hours that can be compared, of 24; and half of the late ones. Fewer tell no trend from a bad hour."""
TREND_MAX_CHANCE: Final = 0.01
DEFAULT_GROWTH_RATIO: Final = 1.2


@dataclass(frozen=True, slots=True)
class Measured:
    """A percentile in ms of `measured` durations and timeouts; None where there were none."""

    percentile_ms: float | AtLeast | None = None
    measured: int = 0


NOT_MEASURED: Final = Measured()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRule(Rule):
    """A percentile over the last `window` is above `threshold_ms`; `for_` says for how long it must be."""

    percentile: str
    threshold_ms: float
    window: str
    min_measured: int = MIN_MEASURED

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[self.window]

    def judge(self, observation: Measured, previous: Previous, now: datetime) -> Finding:
        percentile_ms = observation.percentile_ms
        is_at_least = isinstance(percentile_ms, AtLeast)
        ms = percentile_ms.ms if isinstance(percentile_ms, AtLeast) else percentile_ms
        evidence: dict[str, Any] = {
            "percentile": self.percentile,
            "percentile_ms": ms,
            "is_at_least": is_at_least,
            "threshold_ms": self.threshold_ms,
            "window": self.window,
            "measured": observation.measured,
        }
        if ms is None:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        if not is_at_least and ms <= self.threshold_ms:
            return Finding(Verdict.CLEAR, Reason.BELOW_THRESHOLD, evidence)
        if observation.measured < self.min_measured:
            return Finding(Verdict.BETWEEN, Reason.FEW_MEASURED, evidence)
        return Finding(
            Verdict.HOLDS, Reason.ABOVE_THRESHOLD, evidence, severity=self.severity or Severity.TICKET
        )


@dataclass(frozen=True, slots=True)
class HourPair:
    """The p95 of an hour that is over and of the same hour of the day before."""

    now: Measured = NOT_MEASURED
    before: Measured = NOT_MEASURED

    def growth(self, min_measured: int) -> float | None:
        """log(now / before); None where one of them says too little.

        An hour that falls among timeouts took at least so long, so it grew at least so much. Of a day before
        that did, nobody knows what it grew from.
        """
        if min(self.now.measured, self.before.measured) < min_measured:
            return None
        now_ms, before_ms = self.now.percentile_ms, self.before.percentile_ms
        if now_ms is None or not isinstance(before_ms, float) or before_ms <= 0:
            return None
        now_ms = now_ms.ms if isinstance(now_ms, AtLeast) else now_ms
        return math.log(now_ms / before_ms) if now_ms > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRule(Rule):
    """The p95 has grown against the day before, hour by hour, by `growth_ratio` or more.

    It holds where all three are true:

    1. The median of log(p95 / p95 of the same hour a day before) over the last 24 whole hours is at least
       log 1.2. Comparing like hours leaves the day's rhythm out.
    2. Wilcoxon's signed-rank test finds growth of that sign by chance in less than one case of a hundred.
    3. The median of the last six pairs is as large: the ramp goes on, late as it may have begun. Six pairs alone are no
       proof, for the test cannot go below 1/64 with them.

    It clears where the median of the day or of the last six hours is below half of that growth. A level that stays
    is no trend: a day after a step, the hours compare equal again.
    """

    growth_ratio: float = DEFAULT_GROWTH_RATIO
    min_measured: int = MIN_MEASURED

    @property
    def long_window(self) -> timedelta:
        return timedelta(hours=TREND_PAIRS)

    def judge(self, observation: Sequence[HourPair], previous: Previous, now: datetime) -> Finding:
        """`observation` are TREND_PAIRS pairs, the latest hour last."""
        grown = [pair.growth(self.min_measured) for pair in observation]
        day = [one for one in grown if one is not None]
        late = [one for one in grown[-TREND_LATE_PAIRS:] if one is not None]
        evidence: dict[str, Any] = {
            "percentile": TREND_PERCENTILE,
            "growth_ratio": self.growth_ratio,
            "pairs": len(day),
            "late_pairs": len(late),
        }
        if not day:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        if len(day) < TREND_MIN_PAIRS or 2 * len(late) < TREND_LATE_PAIRS:
            return Finding(Verdict.BETWEEN, Reason.FEW_PAIRS, evidence)
        of_day, of_late = float(np.median(day)), float(np.median(late))
        evidence |= {"day_ratio": math.exp(of_day), "late_ratio": math.exp(of_late)}
        wanted = math.log(self.growth_ratio)
        if of_day < wanted and of_late < wanted:
            is_over = min(of_day, of_late) < wanted / 2
            return Finding(Verdict.CLEAR if is_over else Verdict.BETWEEN, Reason.NOT_SLOWER, evidence)
        if of_late < wanted:
            verdict = Verdict.CLEAR if of_late < wanted / 2 else Verdict.BETWEEN
            return Finding(verdict, Reason.SLOWER_NO_MORE, evidence)
        if of_day < wanted:
            verdict = Verdict.CLEAR if of_day < wanted / 2 else Verdict.BETWEEN
            return Finding(verdict, Reason.SLOWER_SINCE_LATELY, evidence)
        # Read only here: scipy.stats takes every process that starts a second, and most of them ask for no chance.
        from scipy.stats import wilcoxon

        evidence["chance"] = chance = float(wilcoxon(day, alternative="greater").pvalue)
        if not chance < TREND_MAX_CHANCE:
            return Finding(Verdict.BETWEEN, Reason.SLOWER_BY_CHANCE, evidence)
        return Finding(Verdict.HOLDS, Reason.SLOWER, evidence, severity=self.severity or Severity.TICKET)
