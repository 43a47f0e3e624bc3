"""What the judges of rules look at, read for all of them at once.

Counters over burn-rate windows are there for every target. What else a judge wants is read here, for the
targets of such rules alone: a constant number of statements for each kind that occurs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

from budgets import histories
from budgets.backlogs import backlogs_reach
from budgets.burn_rates import BURN_RATE_WINDOWS
from budgets.histories import Target
from budgets.models import Milestone
from budgets.tiles import Counts
from budgets.windows import LAST_FULL_MINUTE

from .error_budget_rules import FORECAST_HOURS, ErrorBudgetRule, ForecastRule, HourlyCounts
from .latency_rules import (
    NOT_MEASURED,
    TREND_PAIRS,
    TREND_PERCENTILE,
    HourPair,
    Measured,
    ThresholdRule,
    TrendRule,
)
from .rules import NOTHING, Observation, Rule, WindowCounts
from .series_rules import (
    GIVES_UP_AFTER,
    STEADY_FOR,
    UNALLOCATED_WINDOW,
    Heard,
    NoDataRule,
    TimeShare,
    UnallocatedComponentRule,
)
from .sights import MILESTONE, Sight

_NO_COUNTS: Final[Mapping[str, WindowCounts]] = dict.fromkeys(BURN_RATE_WINDOWS, NOTHING)
_NO_PAIRS: Final = (HourPair(),) * TREND_PAIRS


class Observations:
    """Of one environment. `asked` is (feature id, sight) of each condition that will be decided, `counts` the
    counters of budgets.windows.window_counts."""

    def __init__(
        self,
        asked: Iterable[tuple[int, Sight]],
        counts: Mapping[Target, Mapping[str, Counts]],
        *,
        environment: str,
        now: datetime,
    ) -> None:
        self._counts = counts
        by_judge: dict[type[Rule], list[tuple[Target, Any]]] = {}
        for feature_id, sight in asked:
            of_kind = by_judge.setdefault(type(sight.judge), [])
            of_kind.append(((feature_id, sight.target), sight.judge))
        at: dict[str, Any] = {"environment": environment, "now": now}

        def targets(judge: type[Rule]) -> list[tuple[Target, Any]]:
            return by_judge.get(judge, [])

        self._objectives = histories.objective_counts(
            {target: judge.window_days for target, judge in targets(ErrorBudgetRule)}, **at
        )
        self._hours = histories.hourly_counts(
            {target: judge.window_days for target, judge in targets(ForecastRule)}, **at
        )
        self._percentiles = histories.percentiles(
            {(target, judge.window, judge.percentile) for target, judge in targets(ThresholdRule)}, **at
        )
        self._two_days = histories.hourly_percentiles(
            {target for target, _ in targets(TrendRule)},
            percentile=TREND_PERCENTILE,
            hours=2 * TREND_PAIRS,
            **at,
        )
        silences: dict[int, dict[Target, timedelta]] = {}
        for target, judge in targets(NoDataRule):
            silences.setdefault(judge.silent_minutes, {})[target] = timedelta(minutes=judge.silent_minutes)
        self._heard = {
            silent_minutes: histories.last_minutes(silent_for, back=GIVES_UP_AFTER, before=STEADY_FOR, **at)
            for silent_minutes, silent_for in silences.items()
        }
        self._backlogs = backlogs_reach({feature_id for (feature_id, _), _ in targets(NoDataRule)}, now=now)
        self._time_spent = histories.time_spent(
            {feature_id for (feature_id, _), _ in targets(UnallocatedComponentRule)},
            window=UNALLOCATED_WINDOW,
            **at,
        )

    def of(self, feature_id: int, sight: Sight) -> Any:
        """What the sight's judge looks at."""
        target, judge = (feature_id, sight.target), sight.judge
        match judge:
            case ErrorBudgetRule():
                return self._objectives.get(target, NOTHING)
            case ForecastRule():
                return self._hourly(target)
            case ThresholdRule():
                return Measured(*self._percentiles.get((target, judge.window, judge.percentile), (None, 0)))
            case TrendRule():
                return self._pairs(target)
            case NoDataRule():
                heard = self._heard[judge.silent_minutes].get(target)
                until = self._backlogs.get(feature_id)
                if heard is None:
                    return Heard(backlog_until=until)
                return Heard(heard.last_at, heard.minutes, until)
            case UnallocatedComponentRule():
                return self._time_share(target)
        # Counts has what rules read of WindowCounts; they are two classes so that rules stay free of a database.
        windows = cast("Mapping[str, WindowCounts]", self._counts.get(target, {}))
        return Observation({**_NO_COUNTS, **windows}, windows.get(LAST_FULL_MINUTE, NOTHING))

    def _hourly(self, target: Target) -> HourlyCounts:
        windows = cast("Mapping[str, WindowCounts]", self._counts.get(target, {}))
        judged, bad = self._hours.get(target, (histories.NO_HOURS, histories.NO_HOURS))
        return HourlyCounts(judged, bad, windows.get(f"{FORECAST_HOURS}h", NOTHING))

    def _pairs(self, target: Target) -> tuple[HourPair, ...]:
        hours = self._two_days.get(target)
        if hours is None:
            return _NO_PAIRS
        measured = [Measured(*hour) if hour[1] else NOT_MEASURED for hour in hours]
        before, now = measured[:TREND_PAIRS], measured[TREND_PAIRS:]
        return tuple(HourPair(*pair) for pair in zip(now, before, strict=True))

    def _time_share(self, target: Target) -> TimeShare:
        feature_id, _ = target
        spent = self._time_spent.get(target)
        for milestone in reversed(Milestone.values):
            of_milestone = self._time_spent.get((feature_id, f"{MILESTONE}{milestone}"))
            if of_milestone is not None and of_milestone.ms:
                return TimeShare(
                    spent.ms if spent else 0.0, spent.measured if spent else 0, of_milestone.ms, milestone
                )
        return TimeShare()
