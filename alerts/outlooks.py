"""At which moments of a replay a rule has to be asked: those at which what is counted does not show the answer.

An outlook decides nothing. It is sure or asks, and what is asked is decided by alerts.rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from budgets.burn_rates import Severity, error_budget_ratio
from budgets.exhaustion import count_interval

from .error_budget_rules import HORIZON_HOURS, ErrorBudgetRule, ForecastRule, excess_bad
from .latency_rules import ThresholdRule, TrendRule
from .lookbacks import RECENT_WINDOW, hour_pairs, objective_begins
from .minutes import MOMENTS_PER_MINUTE, Booleans, Minutes, at_moments, minutes_of
from .rules import (
    MIN_BAD_FOR_PAGE,
    OUTAGE_MIN_BAD,
    OUTAGE_WINDOW,
    OVERRUN_MAX_CHANCE,
    OVERRUN_MIN_MEASURED,
    OVERRUN_MIN_OVER,
    OVERRUN_WINDOW,
    BurnRateRule,
    ComponentOverrunRule,
    OutageRule,
    Previous,
    Rule,
    Status,
    Verdict,
)
from .series_rules import (
    GIVES_UP_AFTER,
    STEADY_FOR,
    TIMEOUTS_WINDOW,
    UNALLOCATED_MIN_MEASURED,
    UNALLOCATED_WINDOW,
    NoDataRule,
    TimeoutsRule,
    UnallocatedComponentRule,
)

# The quotients that rules compare are rounded once; what lies this near to a bound is asked for.
_CLOSE: Final = 1e-9
_MINUTE: Final = timedelta(minutes=1)


class Outlook:
    """At which moments a rule has to be asked.

    Of each moment: `may_hold` is true at least wherever the condition holds. `surely_stays` is true at most where
    a rule that fires with `severity`, its highest, goes on firing: its condition holds, is merely stale, or
    between. `surely_holds` is true at most where it holds or is between, `surely_clear` where it is clear: a rule
    that waits, or recovers, is asked again when its time has come. Without them it is asked at each moment.
    """

    def __init__(
        self,
        rule: Rule,
        minutes: Minutes,
        *,
        may_hold: Booleans,
        surely_stays: Booleans,
        severity: Severity,
        surely_holds: Booleans | None = None,
        surely_clear: Booleans | None = None,
    ) -> None:
        self._rule, self._minutes = rule, minutes
        self._may_start = np.flatnonzero(may_hold)
        self._may_end = np.flatnonzero(~surely_stays)
        self._may_interrupt = None if surely_holds is None else np.flatnonzero(~surely_holds)
        self._may_return = None if surely_clear is None else np.flatnonzero(~surely_clear)
        self._severity = severity

    def next(self, previous: Previous, moment: int) -> int:
        """The first moment from this one on at which something may change."""
        if previous.status == Status.INACTIVE:
            return self._first(self._may_start, moment)
        if previous.no_data_since is not None:
            return moment
        if previous.status == Status.FIRING and previous.severity == self._severity:
            return self._first(self._may_end, moment)
        if previous.status == Status.PENDING and self._may_interrupt is not None:
            return self._waits(self._may_interrupt, previous, moment, self._rule.for_)
        if previous.status == Status.RECOVERING and self._may_return is not None:
            return self._waits(self._may_return, previous, moment, self._rule.keep_firing_for)
        return moment

    def _waits(self, moments: NDArray[np.intp], previous: Previous, moment: int, lasts: timedelta) -> int:
        over = self._minutes.moment(previous.since + lasts)
        return max(moment, min(self._first(moments, moment), over))

    def _first(self, moments: NDArray[np.intp], moment: int) -> int:
        place = int(np.searchsorted(moments, moment))
        return int(moments[place]) if place < len(moments) else self._minutes.moments


class _ErrorBudgetOutlook:
    """Of the least that was left while it fired, which the rule remembers, each new one is asked for."""

    def __init__(self, rule: ErrorBudgetRule, minutes: Minutes) -> None:
        self._rule, self._moments = rule, minutes.moments
        running = np.arange(minutes.moments) // MOMENTS_PER_MINUTE
        first = np.maximum(objective_begins(minutes, running, rule.window_days), 0)
        known = minutes.minutes_known
        judged, good = (
            minutes.added_up[name][known] - minutes.added_up[name][np.minimum(first, known)]
            for name in ("judged", "good")
        )
        bad = judged - good
        allowed = error_budget_ratio(rule.objective) * judged
        with np.errstate(invalid="ignore", divide="ignore"):
            self._left = 1 - bad / allowed
        threshold = rule.remaining_percent / 100
        self._is_below = self._left < threshold + _CLOSE
        self._may_start = np.flatnonzero(self._is_below & (bad >= MIN_BAD_FOR_PAGE))

    def next(self, previous: Previous, moment: int) -> int:
        if previous.status == Status.INACTIVE:
            place = int(np.searchsorted(self._may_start, moment))
            return int(self._may_start[place]) if place < len(self._may_start) else self._moments
        lowest = float(previous.evidence.get("lowest_ratio", np.nan))
        is_known = previous.status in (Status.FIRING, Status.RECOVERING) and not np.isnan(lowest)
        if not is_known or previous.no_data_since is not None or moment >= self._moments:
            return moment
        left = self._left[moment:]
        so_far = np.minimum.accumulate(np.where(self._is_below[moment:], left, np.inf))
        may_change = ~(left <= self._rule.leaves_above(np.minimum(lowest, so_far)) - _CLOSE)
        if previous.status == Status.RECOVERING:
            may_change |= self._is_below[moment:]
        ahead = int(np.argmax(may_change)) if may_change.any() else len(left)
        if not ahead:
            return moment
        if previous.status == Status.FIRING and so_far[ahead - 1] < lowest:
            return moment + int(np.argmin(so_far[:ahead]))
        # A recovery begins anew with the last moment at which the condition was not over.
        return moment + (ahead - 1 if previous.status == Status.RECOVERING else ahead)


def _burn_rate_outlook(rule: BurnRateRule, minutes: Minutes, since: int) -> Outlook:
    tier = rule.tier
    allowed_ratio = tier.factor * error_budget_ratio(rule.objective)
    may_hold, surely_stays, is_data = np.ones((3, minutes.moments), dtype=bool)
    is_slow = np.zeros(minutes.moments, dtype=bool)
    for name in rule.windows:
        judged = minutes.window(name, "judged")
        bad, allowed = judged - minutes.window(name, "good"), allowed_ratio * judged
        may_hold &= bad > allowed * (1 - _CLOSE)
        if name in (tier.long, tier.short):  # without the last hour it is merely stale
            surely_stays &= bad > allowed * (1 + _CLOSE)
            is_slow |= bad < allowed * (1 - _CLOSE)
            is_data &= judged > 0
    return Outlook(
        rule,
        minutes,
        may_hold=may_hold,
        surely_stays=surely_stays,
        severity=rule.severity or tier.severity,
        surely_clear=is_data & is_slow,
    )


def _outage_outlook(rule: OutageRule, minutes: Minutes, since: int) -> Outlook:
    judged, good = minutes.window(OUTAGE_WINDOW, "judged"), minutes.window(OUTAGE_WINDOW, "good")
    last_judged, last_good = minutes.last_minute("judged"), minutes.last_minute("good")
    holds = (
        (2 * (judged - good) > judged)
        & (2 * (last_judged - last_good) > last_judged)
        & (judged - good >= OUTAGE_MIN_BAD)
    )
    return Outlook(
        rule,
        minutes,
        may_hold=holds,
        surely_stays=holds,
        severity=rule.severity or Severity.PAGE,
        surely_clear=(judged > 0) & (last_judged > 0) & ~holds,
    )


def _component_overrun_outlook(rule: ComponentOverrunRule, minutes: Minutes, since: int) -> Outlook:
    judged, over = minutes.window(OVERRUN_WINDOW, "judged"), minutes.window(OVERRUN_WINDOW, "over")
    allowed_ratio = error_budget_ratio(rule.objective)
    may_hold = (
        (over > allowed_ratio * (1 - _CLOSE) * judged)
        & (judged >= OVERRUN_MIN_MEASURED)
        & (over >= OVERRUN_MIN_OVER)
    )
    surely_stays = may_hold & (over > allowed_ratio * (1 + _CLOSE) * judged)
    at = np.flatnonzero(may_hold)
    chance = bdtrc(over[at] - 1, judged[at], allowed_ratio)
    may_hold[at] &= chance < OVERRUN_MAX_CHANCE * (1 + _CLOSE)
    surely_stays[at] &= chance < OVERRUN_MAX_CHANCE * (1 - _CLOSE)
    return Outlook(
        rule, minutes, may_hold=may_hold, surely_stays=surely_stays, severity=rule.severity or Severity.TICKET
    )


def _timeouts_outlook(rule: TimeoutsRule, minutes: Minutes, since: int) -> Outlook:
    total, timeouts = minutes.window(TIMEOUTS_WINDOW, "total"), minutes.window(TIMEOUTS_WINDOW, "timeouts")
    holds = (timeouts > rule.share_ratio * total) & (timeouts >= rule.min_timeouts)
    return Outlook(
        rule, minutes, may_hold=holds, surely_stays=holds, severity=rule.severity or Severity.TICKET
    )


def _forecast_outlook(rule: ForecastRule, minutes: Minutes, since: int) -> Outlook:
    """Of all moments of an hour at once: within it the same rolls off, and the day before is the same."""
    holds, stays, clear = np.zeros((3, minutes.moments), dtype=bool)
    allowed_ratio = error_budget_ratio(rule.objective)
    judged, good = (minutes.added_up[name] for name in ("judged", "good"))
    bad = judged - good
    known = minutes.minutes_known
    recent_judged = minutes.window(RECENT_WINDOW, "judged")
    recent_bad = recent_judged - minutes.window(RECENT_WINDOW, "good")
    counts, place = np.unique(recent_bad, return_inverse=True)
    least = np.array([count_interval(int(count))[0] for count in counts])[place]
    ratios = np.stack([least, recent_bad]) / np.maximum(recent_judged, 1)
    day = 60 * np.arange(-24, 1)
    rolls_off = 60 * np.arange(-24 * rule.window_days, -24 * rule.window_days + HORIZON_HOURS + 1)
    moment = since
    while moment < minutes.moments:
        hour = minutes.hour_begins(moment // MOMENTS_PER_MINUTE)
        at = slice(moment, min((hour + 60) * MOMENTS_PER_MINUTE, minutes.moments))
        oldest = np.maximum(hour + rolls_off, 0)
        window_judged = judged[known[at]] - judged[oldest[0]]
        window_bad = bad[known[at]] - bad[oldest[0]]
        excess = excess_bad(
            judged=window_judged,
            bad=window_bad,
            oldest_judged=judged[oldest[1:]] - judged[oldest[0]],
            oldest_bad=bad[oldest[1:]] - bad[oldest[0]],
            day_before=np.diff(judged[np.maximum(hour + day, 0)]),
            recent_judged=recent_judged[at],
            bad_ratio=ratios[:, at],
            allowed_ratio=allowed_ratio,
        ).max(axis=-1)
        close = _CLOSE * (1 + window_judged + 8 * recent_judged[at])
        is_data = (window_judged > 0) & (recent_judged[at] > 0)
        excess_now = window_bad - allowed_ratio * window_judged
        holds[at] = is_data & (excess[0] >= -close)
        stays[at] = is_data & ((excess_now > close) | (excess[1] > close))
        clear[at] = is_data & (excess_now < -close) & (excess[1] < -close)
        moment = at.stop
    return Outlook(
        rule,
        minutes,
        may_hold=holds,
        surely_stays=stays,
        severity=rule.severity or Severity.TICKET,
        surely_clear=clear,
    )


def _threshold_outlook(rule: ThresholdRule, minutes: Minutes, since: int) -> Outlook:
    first = np.arange(minutes.moments) // MOMENTS_PER_MINUTE + 1 - minutes_of(rule.window)
    end = minutes.minutes_known
    above = minutes.known_percentiles.above(np.minimum(first, end), end, rule.percentile, rule.threshold_ms)
    return Outlook(
        rule,
        minutes,
        may_hold=above.may & (above.measured >= rule.min_measured),
        surely_stays=above.surely,
        severity=rule.severity or Severity.TICKET,
        surely_holds=above.surely,
        surely_clear=(above.measured > 0) & ~above.may,
    )


def _trend_outlook(rule: TrendRule, minutes: Minutes, since: int) -> Outlook:
    """Within an hour its judge sees the same, so each hour is judged once."""
    verdicts = np.full(minutes.moments, Verdict.NO_DATA, dtype=object)
    nothing = Previous(Status.INACTIVE, minutes.start)
    moment = since
    while moment < minutes.moments:
        hour = minutes.hour_begins(moment // MOMENTS_PER_MINUTE)
        end = (hour + 60) * MOMENTS_PER_MINUTE
        finding = rule.judge(hour_pairs(minutes, hour), nothing, minutes.instant(moment))
        verdicts[moment:end] = finding.verdict
        moment = end
    holds, between = verdicts == Verdict.HOLDS, verdicts == Verdict.BETWEEN
    return Outlook(
        rule,
        minutes,
        may_hold=holds,
        surely_stays=holds | between,
        severity=rule.severity or Severity.TICKET,
        surely_holds=holds | between,
        surely_clear=verdicts == Verdict.CLEAR,
    )


def _no_data_outlook(rule: NoDataRule, minutes: Minutes, since: int) -> Outlook:
    end = minutes.minutes_known
    present = np.concatenate(([-1], np.where(minutes.total > 0, np.arange(len(minutes)), -1)))
    last = np.maximum.accumulate(present)[end]
    silent_minutes = end - (last + 1)  # up to a second of the running one
    is_silent = (last >= 0) & (silent_minutes >= rule.silent_minutes)
    # Measurements without a pause that long, up to each minute that has any, lasted from the first of them.
    at = minutes.measured_minutes
    is_first = np.diff(at, prepend=-rule.silent_minutes - 2) > rule.silent_minutes
    began = np.zeros(len(minutes) + 1, dtype=np.int64)
    began[at] = np.maximum.accumulate(np.where(is_first, at, -1))
    is_steady = last - began[last] >= STEADY_FOR // _MINUTE
    gives_up_minutes = GIVES_UP_AFTER // _MINUTE + rule.silent_minutes
    return Outlook(
        rule,
        minutes,
        may_hold=is_silent & is_steady & (end - last <= gives_up_minutes + 1),
        surely_stays=is_silent & (silent_minutes > rule.silent_minutes) & (end - last < gives_up_minutes),
        severity=rule.severity or Severity.TICKET,
        surely_clear=(last >= 0) & (silent_minutes < rule.silent_minutes),
    )


def _unallocated_outlook(rule: UnallocatedComponentRule, minutes: Minutes, since: int) -> Outlook:
    taken = minutes.known_time_taken

    def over_an_hour(values: Any) -> Any:
        return at_moments(np.concatenate(([0], np.cumsum(values))), minutes_of(UNALLOCATED_WINDOW))

    component_ms, milestone_ms = over_an_hour(taken.component_ms), np.zeros(minutes.moments)
    for ms in reversed(list(taken.milestones_ms.values())):
        # What is left of a sum of floats is no measurement.
        of_milestone = over_an_hour(ms)
        milestone_ms = np.where(
            of_milestone > _CLOSE * (1 + abs(of_milestone).max()), of_milestone, milestone_ms
        )
    may_exceed = component_ms > rule.share_ratio * milestone_ms * (1 - 1e-6)
    surely_exceeds = component_ms > rule.share_ratio * milestone_ms * (1 + 1e-6)
    is_enough = over_an_hour(taken.measured) >= UNALLOCATED_MIN_MEASURED
    holds = surely_exceeds & (milestone_ms > 0)
    return Outlook(
        rule,
        minutes,
        may_hold=may_exceed & is_enough,
        surely_stays=holds,
        severity=rule.severity or Severity.TICKET,
        surely_holds=holds,
    )


def outlook_of(rule: Rule, minutes: Minutes, since: int) -> Outlook | _ErrorBudgetOutlook:
    """The outlook from this moment on."""
    if isinstance(rule, ErrorBudgetRule):
        return _ErrorBudgetOutlook(rule, minutes)
    return _OUTLOOKS[type(rule)](rule, minutes, since)


_OUTLOOKS: Final[Mapping[type[Rule], Callable[[Any, Minutes, int], Outlook]]] = {
    BurnRateRule: _burn_rate_outlook,
    OutageRule: _outage_outlook,
    ComponentOverrunRule: _component_overrun_outlook,
    TimeoutsRule: _timeouts_outlook,
    ForecastRule: _forecast_outlook,
    ThresholdRule: _threshold_outlook,
    TrendRule: _trend_outlook,
    NoDataRule: _no_data_outlook,
    UnallocatedComponentRule: _unallocated_outlook,
}
