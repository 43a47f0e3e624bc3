"""When an error budget will be gone, or is there again, if requests go on as bad as they were of late. Pure.

The objective's window is moved on hour by hour: its oldest hour rolls off with what was bad in it, and an hour comes that
is as busy as the same hour of the day before (of a service that is younger, as the last six) and as bad as the last six.
How bad these were is known within the 95 % interval of a Poisson count. Source of the interval: Garwood, "Fiducial limits
for the Poisson distribution", 1936 (the chi-squared form).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from .burn_rates import Objective, error_budget_ratio

PACE_HOURS: Final = 6
"""The burn that a forecast goes on with is that of the last six hours: shorter ones are noise at this range."""

_CONFIDENCE: Final = 0.95

HourArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Forecast:
    """What becomes of an error budget over the hours of one more window, at the pace of the last PACE_HOURS.

    `remaining_ratio` holds what is left after each of the coming hours. After `turns_in_hours` nothing of it is left any
    more, or, where `is_exhausted` now, something is again; None where that does not come within the window. The 95 %
    interval of that is `earliest_hours` to `latest_hours`, of which either may be None as well. `judged` and `bad` are
    what the pace was taken from.
    """

    is_exhausted: bool
    remaining_ratio: npt.NDArray[np.float64]
    turns_in_hours: int | None
    earliest_hours: int | None
    latest_hours: int | None
    judged: int
    bad: int


def forecast(
    judged: HourArray, bad: HourArray, *, recent_judged: int, recent_bad: int, objective: Objective
) -> Forecast | None:
    """The forecast of a milestone of which each hour of the objective's window counts so many, the running hour last.

    None where nothing was judged in the last PACE_HOURS: there is no pace then.
    """
    if not recent_judged or not judged.sum():
        return None
    allowed_ratio = error_budget_ratio(objective)
    hours = len(judged) - 1
    least, most = count_interval(recent_bad)
    left = [
        _remaining(judged, bad, recent_judged, min(count / recent_judged, 1.0), allowed_ratio, hours)
        for count in (least, float(recent_bad), most)
    ]
    is_exhausted = bool(int(bad.sum()) >= allowed_ratio * int(judged.sum()))
    turns = [_first(ratio > 0 if is_exhausted else ratio <= 0) for ratio in left]
    # The fewer are bad, the later it is gone and the sooner it is there again.
    earliest, latest = (turns[0], turns[2]) if is_exhausted else (turns[2], turns[0])
    return Forecast(is_exhausted, left[1], turns[1], earliest, latest, recent_judged, recent_bad)


def _remaining(
    judged: HourArray,
    bad: HourArray,
    recent_judged: int,
    bad_ratio: float,
    allowed_ratio: float,
    hours: int,
) -> npt.NDArray[np.float64]:
    window_judged, window_bad = moved_on(
        judged=np.array(judged.sum()),
        bad=np.array(bad.sum()),
        oldest_judged=np.cumsum(judged[:hours]),
        oldest_bad=np.cumsum(bad[:hours]),
        day_before=judged[-25:-1],  # the hours that were over
        recent_judged=np.array(recent_judged),
        bad_ratio=np.array(bad_ratio),
    )
    allowed = allowed_ratio * window_judged
    remaining: npt.NDArray[np.float64] = 1 - np.divide(
        window_bad, allowed, out=np.zeros_like(window_bad), where=allowed > 0
    )
    return remaining


def moved_on(
    *,
    judged: npt.NDArray[Any],
    bad: npt.NDArray[Any],
    oldest_judged: HourArray,
    oldest_bad: HourArray,
    day_before: HourArray,
    recent_judged: npt.NDArray[Any],
    bad_ratio: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How many the window will have judged, and how many of them bad, after each of the coming hours, the last axis.

    For one moment or for many of one hour, whose axes are those of what the window holds now (`judged`, `bad`), of
    the last PACE_HOURS (`recent_judged`) and of the share that goes on being bad. The hour has what rolls off up to
    each coming hour (`oldest_…`), and how busy the hours of the day before were (24).
    """
    hours = len(oldest_judged)
    if day_before.all():
        coming = np.cumsum(np.resize(day_before.astype(float), hours))
    else:
        coming = recent_judged[..., None] / PACE_HOURS * np.arange(1, hours + 1)
    window_judged: npt.NDArray[np.float64] = judged[..., None] - oldest_judged + coming
    window_bad: npt.NDArray[np.float64] = bad[..., None] - oldest_bad + coming * bad_ratio[..., None]
    return window_judged, window_bad


def count_interval(count: int) -> tuple[float, float]:
    """The means between which a Poisson count lies with 95 %.

    >>> [round(bound, 2) for bound in count_interval(10)]
    [4.8, 18.39]
    >>> count_interval(0)[0]
    0.0
    """
    tail = (1 - _CONFIDENCE) / 2
    lower = float(chdtri(2 * count, 1 - tail)) / 2 if count else 0.0
    return lower, float(chdtri(2 * count + 2, tail)) / 2


def _first(claims: npt.NDArray[np.bool_]) -> int | None:
    """The number of the first hour of which it is true, counted from one."""
    return int(np.argmax(claims)) + 1 if claims.any() else None
