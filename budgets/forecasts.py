"""When the error budget of a milestone will be gone: what the objective's window counts, for budgets.exhaustion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from .burn_rates import Objective, window_bounds
from .exhaustion import PACE_HOURS, Forecast, forecast
from .histories import Target, hourly_counts
from .models import Feature, Series
from .status import FeatureStatus
from .tiles import Counts, Range, read_group_counts

_PACE_WINDOW: Final = f"{PACE_HOURS}h"


def get_forecast(
    feature: Feature,
    *,
    milestone: str,
    environment: str,
    objective: Objective,
    window_days: int,
    at: datetime,
) -> Forecast | None:
    """The forecast of a milestone as of `at`; None where nothing was judged in the last PACE_HOURS."""
    target = (feature.pk, f"milestone:{milestone}")
    hours = hourly_counts({target: window_days}, environment=environment, now=at)
    if target not in hours:
        return None
    series = Series.objects.ids_of(feature, target[1], environment=environment)
    [recent] = read_group_counts(
        dict.fromkeys(series, 0), [Range(*window_bounds(at, timedelta(hours=PACE_HOURS)))]
    )
    counts = recent.get(0, Counts())
    judged, bad = hours[target]
    return forecast(judged, bad, recent_judged=counts.judged, recent_bad=counts.bad, objective=objective)


def get_forecasts(
    statuses: Mapping[int, Mapping[str, FeatureStatus]], *, environment: str, at: datetime
) -> dict[Target, Forecast]:
    """(feature id, "milestone:<name>") → the forecast, of those milestones alone that spend what they have left of their
    error budget faster than evenly; by feature id and milestone, statuses as of `at`. Two statements at most."""
    burning = {}
    for feature_id, by_milestone in statuses.items():
        for milestone, status in by_milestone.items():
            left = status.error_budget.remaining_ratio if status.error_budget else None
            pace = next((rate for rate in status.burn_rates or () if rate.window == _PACE_WINDOW), None)
            if status.latency_budget and left and left > 0 and pace and (pace.burn_rate or 0) > 1:
                burning[feature_id, f"milestone:{milestone}"] = (status.latency_budget, pace)
    days_of = {target: budget.window_days for target, (budget, _) in burning.items()}
    found = {}
    for target, (judged, bad) in hourly_counts(days_of, environment=environment, now=at).items():
        budget, pace = burning[target]
        its = forecast(judged, bad, recent_judged=pace.total, recent_bad=pace.bad, objective=budget.objective)
        if its is not None:
            found[target] = its
    return found
