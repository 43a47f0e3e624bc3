"""Rules that watch how much of an error budget is left, and how long it lasts.

Both look at the milestone's objective window, in whole hours and the running one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from budgets.burn_rates import Objective, Severity, burn_rate, error_budget, error_budget_ratio
from budgets.exhaustion import PACE_HOURS, HourArray, count_interval, moved_on

from .rules import MIN_BAD_FOR_PAGE, NOTHING, Finding, Previous, Reason, Rule, Status, Verdict, WindowCounts

REMAINING_PERCENTS: Final = (50, 25, 10, 0)
"""Thresholds that an error budget is told of, once each."""

SWING_RATIO: Final = 0.02
"""An error budget that is up by less than this from its lowest has not recovered: at the threshold, requests
that roll off and requests that come would open and end the same incident all day."""

HORIZON_HOURS: Final = 48
"""How far a forecast looks ahead."""

FORECAST_HOURS: Final = PACE_HOURS
"""The burn that a forecast goes on with is that of the last six hours: shorter ones are noise at this range."""

Ratio = Any
"""A float, or an array of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudgetRule(Rule):
    """Less than `remaining_percent` of a milestone's error budget is left; at 0 all of it is gone.

    It holds below the threshold, and clears only once the error budget is above the threshold and up by 2
    points from the lowest it has been meanwhile: what came in at 20 % leaves "below 25" above 25, what came
    in at 24.5 above 26.5. "Exhausted" is left above 2 %, from wherever it comes.
    """

    objective: Objective
    window_days: int
    remaining_percent: int

    @property
    def long_window(self) -> timedelta:
        return timedelta(days=self.window_days)

    def judge(self, observation: WindowCounts, previous: Previous, now: datetime) -> Finding:
        """`observation` is what the objective's window counts."""
        counts, threshold = observation, self.remaining_percent / 100
        left = error_budget(counts.bad, counts.judged, self.objective).remaining_ratio
        evidence: dict[str, Any] = {
            "threshold_ratio": threshold,
            "remaining_ratio": left,
            "judged": counts.judged,
            "bad": counts.bad,
        }
        if left is None:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        is_exhausting = self.remaining_percent == 0
        if left < threshold or (is_exhausting and left <= 0):
            evidence["lowest_ratio"] = min(left, _lowest(previous, left))
            if counts.bad < MIN_BAD_FOR_PAGE:
                return Finding(Verdict.BETWEEN, Reason.BUDGET_FEW_BAD, evidence)
            severity = self.severity or (Severity.PAGE if is_exhausting else Severity.TICKET)
            reason = Reason.BUDGET_EXHAUSTED if is_exhausting else Reason.BUDGET_LOW
            return Finding(Verdict.HOLDS, reason, evidence, severity=severity)
        if previous.status != Status.INACTIVE:
            evidence["lowest_ratio"] = lowest = _lowest(previous, left)
            if not left > self.leaves_above(lowest):
                return Finding(Verdict.BETWEEN, Reason.BUDGET_LOW, evidence)
        return Finding(Verdict.CLEAR, Reason.BUDGET_LEFT, evidence)

    def leaves_above(self, lowest_ratio: Ratio) -> Ratio:
        """Of how much must be left for the condition to be over, by the least that was left: one ratio or many."""
        threshold = self.remaining_percent / 100
        if self.remaining_percent == 0:
            return threshold + SWING_RATIO
        return np.maximum(threshold, lowest_ratio + SWING_RATIO)


def _lowest(previous: Previous, left: float) -> float:
    """The least that was left since the condition began to hold."""
    if previous.status == Status.INACTIVE:
        return left
    return float(previous.evidence.get("lowest_ratio", left))


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """What a milestone's objective window holds, hour by hour, the running hour last: two arrays of one length,
    (window_days × 24 + 1,). `recent` is what the last FORECAST_HOURS counted."""

    judged: HourArray
    bad: HourArray
    recent: WindowCounts = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRule(Rule):
    """A milestone's error budget will be gone within 48 hours.

    The window is moved on hour by hour: its oldest hour rolls off with what was bad in it, and an hour comes that
    is as busy as the same hour of the day before (of a service that is younger, as the last six) and as
    bad as the last six. How bad these were is known within the 95 % interval of a Poisson count.

    1. It holds where even the lower bound of the interval exhausts the error budget: then chance is no excuse.
    2. Where only the count as it is does, it neither starts nor clears.
    3. What is exhausted already is no forecast: it goes on firing, and starts nothing.
    """

    objective: Objective
    window_days: int

    @property
    def long_window(self) -> timedelta:
        return timedelta(hours=FORECAST_HOURS)

    def judge(self, observation: HourlyCounts, previous: Previous, now: datetime) -> Finding:
        recent = observation.recent
        judged, bad = int(observation.judged.sum()), int(observation.bad.sum())
        left = error_budget(bad, judged, self.objective).remaining_ratio
        evidence: dict[str, Any] = {
            "horizon_hours": HORIZON_HOURS,
            "remaining_ratio": left,
            "window": f"{FORECAST_HOURS}h",
            "judged": recent.judged,
            "bad": recent.bad,
            "burn_rate": burn_rate(recent.bad, recent.judged, self.objective),
        }
        if left is None or not recent.judged:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        severity = self.severity or Severity.TICKET
        if left <= 0:
            return Finding(Verdict.STALE, Reason.BUDGET_EXHAUSTED, evidence, severity=severity)
        least, most = count_interval(recent.bad)
        hours = {
            name: self._exhausted_in_hours(observation, count / recent.judged)
            for name, count in (("latest", least), ("likely", float(recent.bad)), ("earliest", most))
        }
        evidence |= {f"{name}_hours": within for name, within in hours.items()}
        if hours["latest"] is not None:
            return Finding(Verdict.HOLDS, Reason.EXHAUSTS_SOON, evidence, severity=severity)
        if hours["likely"] is not None:
            return Finding(Verdict.BETWEEN, Reason.MAY_EXHAUST_SOON, evidence)
        return Finding(Verdict.CLEAR, Reason.LASTS, evidence)

    def _exhausted_in_hours(self, seen: HourlyCounts, bad_ratio: float) -> int | None:
        """After how many hours nothing is left where this share goes on being bad; None beyond the horizon."""
        excess = excess_bad(
            judged=np.array(seen.judged.sum()),
            bad=np.array(seen.bad.sum()),
            oldest_judged=np.cumsum(seen.judged[:HORIZON_HOURS]),
            oldest_bad=np.cumsum(seen.bad[:HORIZON_HOURS]),
            day_before=seen.judged[-25:-1],  # the hours that were over
            recent_judged=np.array(seen.recent.judged),
            bad_ratio=np.array(bad_ratio),
            allowed_ratio=error_budget_ratio(self.objective),
        )
        is_gone = excess >= 0
        return int(np.argmax(is_gone)) + 1 if is_gone.any() else None


def excess_bad(
    *,
    judged: npt.NDArray[Any],
    bad: npt.NDArray[Any],
    oldest_judged: HourArray,
    oldest_bad: HourArray,
    day_before: HourArray,
    recent_judged: npt.NDArray[Any],
    bad_ratio: npt.NDArray[Any],
    allowed_ratio: float,
) -> npt.NDArray[np.float64]:
    """How many more than the error budget allows will be bad, after each of the coming HORIZON_HOURS, the last axis.

    For one moment or for many of one hour, whose axes are those of what the window holds now (`judged`, `bad`), of
    the last FORECAST_HOURS (`recent_judged`) and of the share that goes on being bad. The hour has what rolls off up to
    each hour (`oldest_…`, HORIZON_HOURS), and how busy the hours of the day before were (24).
    """
    left_judged, left_bad = moved_on(
        judged=judged,
        bad=bad,
        oldest_judged=oldest_judged,
        oldest_bad=oldest_bad,
        day_before=day_before,
        recent_judged=recent_judged,
        bad_ratio=bad_ratio,
    )
    excess: npt.NDArray[np.float64] = left_bad - allowed_ratio * left_judged
    return excess
