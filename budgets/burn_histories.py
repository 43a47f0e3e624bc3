"""How fast an error budget was spent at each moment of the past, as the tiers of its burn rates saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from .burn_rates import BURN_RATE_WINDOWS, Objective, Tier, error_budget_ratio, window_bounds
from .models import Feature, Series
from .status import finest_kept
from .tiles import HOUR, Counts, Range, read_group_counts, read_group_steps

MINUTE: Final = timedelta(minutes=1)
SPANS: Final = {
    "1h": timedelta(hours=12),
    "6h": timedelta(days=3),
    "1d": timedelta(days=7),
    "3d": timedelta(days=28),
}
"""How far back a tier is told, by its long window: some tens of times its short one."""
_EVERY: Final = {"1h": MINUTE, "6h": 5 * MINUTE, "1d": HOUR, "3d": HOUR}
"""How often its windows are computed anew: at most 865 times in all."""


@dataclass(frozen=True, eq=False)
class BurnHistory:
    """The burn rates of a tier's two windows up to each of the instants `at`, NaN where nothing was judged.

    The last instant is the end of the minute that is shown. Empty where rollups that are fine enough are not kept.
    """

    tier: Tier
    at: list[datetime]
    long: npt.NDArray[np.float64]
    short: npt.NDArray[np.float64]

    @property
    def is_over(self) -> npt.NDArray[np.bool_]:
        """Where both burnt faster than the tier's factor."""
        over: npt.NDArray[np.bool_] = (self.long > self.tier.factor) & (self.short > self.tier.factor)
        return over

    @property
    def times_over(self) -> list[tuple[datetime, datetime]]:
        """From the first to the last instant of each stretch over which both did."""
        padded = np.concatenate([[False], self.is_over, [False]]).astype(np.int8)
        begins, ends = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
        return [(self.at[first], self.at[last - 1]) for first, last in zip(begins, ends, strict=True)]


def get_burn_history(
    feature: Feature,
    *,
    milestone: str,
    environment: str,
    objective: Objective,
    tier: Tier,
    at: datetime,
    now: datetime,
) -> BurnHistory:
    """The last of SPANS of a milestone's tier as of `at`, over all releases."""
    long, short = BURN_RATE_WINDOWS[tier.long], BURN_RATE_WINDOWS[tier.short]
    every = _EVERY[tier.long]
    step = HOUR if every == HOUR else MINUTE
    end = window_bounds(at, MINUTE).end
    if finest_kept(end, now) > MINUTE:
        end = end.replace(minute=0)
    first = end - SPANS[tier.long] - long
    if step == HOUR:
        first = first.replace(minute=0)
    if finest_kept(first, now) > step:
        return BurnHistory(tier, [], np.empty(0), np.empty(0))
    series = Series.objects.ids_of(feature, f"milestone:{milestone}", environment=environment)
    groups = dict.fromkeys(series, 0)
    last = end.replace(minute=0) if step == HOUR else end
    judged, bad = _cumulated(read_group_steps(groups, first, last, step) if groups else (), first, last, step)
    allowed_ratio = error_budget_ratio(objective)
    # The ends of windows, counted in steps from `first`; the last one is the last step's end.
    size = (last - first) // step
    ends = np.arange(size, long // step - 1, -(every // step))[::-1]
    rates = [
        _rates(
            judged[ends] - judged[ends - length // step],
            bad[ends] - bad[ends - length // step],
            allowed_ratio,
        )
        for length in (long, short)
    ]
    instants = [first + int(n) * step for n in ends]
    if end > last:
        # The hour that still runs: up to the minute that is shown, as the page's figures are.
        instants.append(end)
        found = read_group_counts(groups, [Range(end - long, end), Range(end - short, end)])
        for n, counts in enumerate(one.get(0, Counts()) for one in found):
            newest = _rates(np.array([counts.judged]), np.array([counts.bad]), allowed_ratio)
            rates[n] = np.concatenate([rates[n], newest])
    return BurnHistory(tier, instants, *rates)


def _cumulated(
    rows: Sequence[tuple[int, int, int, int]], first: datetime, last: datetime, step: timedelta
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What was judged, and what of it was bad, before each step and after the last."""
    size = (last - first) // step
    counts = np.zeros((2, size + 1), dtype=np.int64)
    if rows:
        _, at, judged, good = np.array(rows, dtype=np.int64).T
        place = (at - int(first.astimezone(UTC).timestamp())) // int(step.total_seconds())
        np.add.at(counts[0], place + 1, judged)
        np.add.at(counts[1], place + 1, judged - good)
    cumulated = counts.cumsum(axis=1)
    return cumulated[0], cumulated[1]


def _rates(
    judged: npt.NDArray[np.int64], bad: npt.NDArray[np.int64], allowed_ratio: float
) -> npt.NDArray[np.float64]:
    """Burn rates, NaN where nothing was judged."""
    rates = np.full(len(judged), np.nan)
    np.divide(bad, judged * allowed_ratio, out=rates, where=judged > 0)
    return rates
