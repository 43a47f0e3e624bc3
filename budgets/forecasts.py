"""When the error budget of a milestone will be gone: what the objective's window counts, for budgets.exhaustion."""

from __future__ import annotations

from datetime import datetime, timedelta

from .burn_rates import Objective, window_bounds
from .exhaustion import PACE_HOURS, Forecast, forecast
from .histories import hourly_counts
from .models import Feature
from .status import series_of
from .tiles import Counts, Range, read_group_counts


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
    series = series_of(feature, "milestone", milestone, environment=environment)
    [recent] = read_group_counts(
        dict.fromkeys(series, 0), [Range(*window_bounds(at, timedelta(hours=PACE_HOURS)))]
    )
    counts = recent.get(0, Counts())
    judged, bad = hours[target]
    return forecast(judged, bad, recent_judged=counts.judged, recent_bad=counts.bad, objective=objective)
