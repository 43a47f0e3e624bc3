"""What each rule's judge looks at, from what a target did minute by minute; alerts.observations reads the same of
what is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import numpy as np

from budgets.burn_rates import BURN_RATE_WINDOWS

from .error_budget_rules import FORECAST_HOURS, ErrorBudgetRule, ForecastRule, HourlyCounts
from .latency_rules import TREND_PAIRS, TREND_PERCENTILE, HourPair, ThresholdRule, TrendRule
from .minutes import Minutes, minutes_of
from .rules import Observation, Rule
from .series_rules import (
    GIVES_UP_AFTER,
    STEADY_FOR,
    UNALLOCATED_WINDOW,
    Heard,
    NoDataRule,
    TimeShare,
    UnallocatedComponentRule,
)

RECENT_WINDOW: Final = f"{FORECAST_HOURS}h"
_MINUTE: Final = timedelta(minutes=1)
_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 1440


def observed(rule: Rule, minutes: Minutes, moment: int) -> Any:
    """What the rule's judge is shown at a moment. Raises ValueError where the minutes do not have it."""
    minute, end = minutes.known(moment)
    match rule:
        case ErrorBudgetRule():
            return minutes.counts(objective_begins(minutes, minute, rule.window_days), end)
        case ForecastRule():
            return _hourly(minutes, minute, end, rule.window_days)
        case ThresholdRule():
            first = minute + 1 - minutes_of(rule.window)
            return minutes.known_percentiles.over(first, end, rule.percentile)
        case TrendRule():
            return hour_pairs(minutes, minutes.hour_begins(minute))
        case NoDataRule():
            return _heard(rule, minutes, end)
        case UnallocatedComponentRule():
            return _time_share(minutes, minute + 1 - minutes_of(UNALLOCATED_WINDOW), end)
    return Observation(
        {name: minutes.counts(minute + 1 - minutes_of(name), end) for name in rule.windows},
        minutes.counts(minute - 1, minute),
    )


def looks_back(rule: Rule) -> timedelta:
    """How far back the judge looks."""
    match rule:
        case ErrorBudgetRule() | ForecastRule():
            return timedelta(days=rule.window_days, hours=1)
        case ThresholdRule():
            return BURN_RATE_WINDOWS[rule.window]
        case TrendRule():
            return timedelta(hours=2 * TREND_PAIRS + 1)
        case NoDataRule():
            return GIVES_UP_AFTER + 2 * timedelta(minutes=rule.silent_minutes) + STEADY_FOR
        case UnallocatedComponentRule():
            return BURN_RATE_WINDOWS[UNALLOCATED_WINDOW]
    return max(BURN_RATE_WINDOWS[name] for name in rule.windows)


def objective_begins(minutes: Minutes, minute: Any, days: int) -> Any:
    """The first minute of the objective's window that reaches to the end of this one; it begins on the hour."""
    return minutes.hour_begins(minute + 1 - days * _DAY_MINUTES)


def _hourly(minutes: Minutes, minute: int, end: int, days: int) -> HourlyCounts:
    bounds = minutes.hour_begins(minute) + _HOUR_MINUTES * np.arange(-24 * days, 2)
    bounds = np.minimum(np.maximum(bounds, 0), end)
    judged, good = (np.diff(minutes.added_up[name][bounds]) for name in ("judged", "good"))
    recent = minutes.counts(minute + 1 - minutes_of(RECENT_WINDOW), end)
    return HourlyCounts(judged, judged - good, recent)


def hour_pairs(minutes: Minutes, hour: int) -> tuple[HourPair, ...]:
    """The last whole hours before the one that begins with this minute, each with the same hour of the day before."""
    measured = [
        minutes.percentile_of_hour(hour - n * _HOUR_MINUTES, TREND_PERCENTILE)
        for n in range(2 * TREND_PAIRS, 0, -1)
    ]
    return tuple(
        HourPair(now, before)
        for before, now in zip(measured[:TREND_PAIRS], measured[TREND_PAIRS:], strict=True)
    )


def _heard(rule: NoDataRule, minutes: Minutes, end: int) -> Heard:
    """To the minute: as if what the running one holds had come by now."""
    silent = rule.silent_minutes
    present = minutes.measured_minutes
    last_place = int(np.searchsorted(present, end)) - 1
    if last_place < 0:
        return Heard()
    last = int(present[last_place])
    if end - last > GIVES_UP_AFTER // _MINUTE + silent:
        return Heard()
    if end - last <= silent:
        return Heard(minutes.start + last * _MINUTE)
    first = int(np.searchsorted(present, last - STEADY_FOR // _MINUTE - silent))
    return Heard(
        minutes.start + last * _MINUTE,
        tuple(minutes.start + int(at) * _MINUTE for at in present[first : last_place + 1]),
    )


def _time_share(minutes: Minutes, first: int, end: int) -> TimeShare:
    taken, first = minutes.known_time_taken, max(first, 0)
    for milestone, ms in taken.milestones_ms.items():
        milestone_ms = float(ms[first:end].sum())
        if milestone_ms:
            return TimeShare(
                float(taken.component_ms[first:end].sum()),
                int(taken.measured[first:end].sum()),
                milestone_ms,
                milestone,
            )
    return TimeShare()
