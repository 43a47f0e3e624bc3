"""How much of a promise is left and how fast it is being spent: SLI, error budget, burn rate, states.

An objective of 0.99 promises that 99 % of what is judged will be good; the error budget is the other 1 %.
Objectives are decimal numbers and are computed with as such: 1 − 0.99 is 0.01, and every ratio below is the
exact quotient rounded once, so comparing it with a limit never turns on a rounding error.

Source of the burn-rate tiers: The Site Reliability Workbook, chapter 5, "Alerting on SLOs".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

Objective = float | Decimal
"""The share of what is judged that must be good, between 0 and 1, both excluded."""

BURN_RATE_WINDOWS: Final[Mapping[str, timedelta]] = {
    "5m": timedelta(minutes=5),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "2h": timedelta(hours=2),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "3d": timedelta(days=3),
}
"""Every window over which burn rates are computed and shown, shortest first."""

AT_RISK_BELOW: Final = 0.25
"""A milestone is at risk when less than this share of its error budget is left."""

MIN_OVER_TO_BREACH: Final = 3
"""Fewer measurements over their allocation than this breach nothing: one slow call is no trend."""

CEILING_RATIO: Final = Fraction(8, 10)
"""No tier asks for more than this share of the highest possible burn rate: four bad in five fire it."""

_MINUTE = timedelta(minutes=1)


# Error budget


@lru_cache(maxsize=1024)
def _error_budget_fraction(objective: Objective) -> tuple[int, int]:
    """1 − objective as numerator and denominator. Integers divide with a single, correct rounding."""
    ratio = 1 - Fraction(str(objective))
    if not 0 < ratio < 1:
        raise ValueError(f"an objective lies between 0 and 1, both excluded, got {objective}")
    return ratio.numerator, ratio.denominator


def error_budget_ratio(objective: Objective) -> float:
    """The share that may miss, 1 − objective in decimal. Raises ValueError for an objective outside (0, 1).

    >>> error_budget_ratio(0.99), 1 - 0.99
    (0.01, 0.010000000000000009)
    """
    numerator, denominator = _error_budget_fraction(objective)
    return numerator / denominator


def sli_ratio(good: int, judged: int) -> float | None:
    """The share of what was judged that was good; None where nothing was."""
    return good / judged if judged else None


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """What a window allowed and how much of it is gone. Both ratios are None where nothing was judged."""

    allowed_bad: float
    consumed_ratio: float | None
    remaining_ratio: float | None
    """1 − consumed, signed: −0.5 where one and a half times the error budget is gone."""


def error_budget(bad: int, judged: int, objective: Objective) -> ErrorBudget:
    """The error budget of a window in which `bad` of `judged` missed the objective.

    >>> error_budget(400, 1_000_000, 0.999)
    ErrorBudget(allowed_bad=1000.0, consumed_ratio=0.4, remaining_ratio=0.6)
    """
    numerator, denominator = _error_budget_fraction(objective)
    if not judged:
        return ErrorBudget(allowed_bad=0.0, consumed_ratio=None, remaining_ratio=None)
    allowed, spent = numerator * int(judged), denominator * int(bad)
    return ErrorBudget(
        allowed_bad=allowed / denominator,
        consumed_ratio=spent / allowed,
        remaining_ratio=(allowed - spent) / allowed,
    )


def burn_rate(bad: int, judged: int, objective: Objective) -> float | None:
    """How fast the error budget is being spent: 1.0 spends it exactly over the objective's window.

    None where nothing was judged.

    >>> burn_rate(144, 1000, 0.99)
    14.4
    """
    if not judged:
        return None
    numerator, denominator = _error_budget_fraction(objective)
    return (int(bad) * denominator) / (int(judged) * numerator)


def max_burn_rate(objective: Objective) -> float:
    """The burn rate when everything is bad; no factor at or above it can ever fire.

    >>> max_burn_rate(0.9), max_burn_rate(0.999)
    (10.0, 1000.0)
    """
    numerator, denominator = _error_budget_fraction(objective)
    return denominator / numerator


# Tiers


class Severity(StrEnum):
    """Whom it concerns: a page wakes somebody up, a ticket waits for the morning."""

    PAGE = "page"
    TICKET = "ticket"


class FactorChange(StrEnum):
    """Why a tier's factor is not the one that its share and windows give."""

    LOWERED = "lowered"
    """At a lax objective the table's factor is out of reach: 14.4 can never be burnt at 90 %."""
    RAISED = "raised"
    """A factor below 1 would fire while on target."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A pair of windows that must both burn faster than `factor`, strictly, for it to fire.

    The long window says that it matters, the short one that it still goes on.
    """

    severity: Severity
    spent_ratio: float
    """The share of the error budget that burning at `table_factor` spends within the long window."""
    long: str
    short: str
    window_days: int
    table_factor: float
    """spent_ratio × the objective's window / the long window."""
    factor: float
    """The factor in use: max(1, min(table_factor, 0.8 × the highest possible burn rate))."""
    change: FactorChange | None
    change_note: str
    """Where the factor was changed: from what and why, for a person. Else empty."""

    @property
    def name(self) -> str:
        """Names the tier among those of its objective: "1h/5m"."""
        return f"{self.long}/{self.short}"

    @property
    def meaning(self) -> str:
        """What burning at the table's factor does, for a person."""
        return f"spends {self.spent_ratio * 100:g} % of a {self.window_days}-day error budget in {self.long}"


class _Row(NamedTuple):
    severity: Severity
    long: str
    short: str
    spent_ratio: Mapping[int, float]
    """By the days of the objective's window."""


# The long windows stay at three days for a 7-day objective, so each tier spends a larger share of it. The
# resulting factors: 30 days 14.4, 6, 3, 1; 28 days 13.44, 5.6, 2.8, 0.933; 7 days 13.44, 3.5, 1.4, 0.98.
_TABLE: Final = (
    _Row(Severity.PAGE, "1h", "5m", {30: 0.02, 28: 0.02, 7: 0.08}),
    _Row(Severity.PAGE, "6h", "30m", {30: 0.05, 28: 0.05, 7: 0.125}),
    _Row(Severity.TICKET, "1d", "2h", {30: 0.10, 28: 0.10, 7: 0.20}),
    _Row(Severity.TICKET, "3d", "6h", {30: 0.10, 28: 0.10, 7: 0.42}),
)

OBJECTIVE_WINDOW_DAYS: Final = (7, 28, 30)
"""The windows an objective may have."""


@lru_cache(maxsize=1024)
def tiers_for(objective: Objective, window_days: int) -> tuple[Tier, ...]:
    """The burn-rate tiers of an objective, most urgent first.

    Raises ValueError for a window that is not 7, 28 or 30 days and an objective outside (0, 1).

    >>> [(tier.name, tier.factor) for tier in tiers_for(0.99, 30)]
    [('1h/5m', 14.4), ('6h/30m', 6.0), ('1d/2h', 3.0), ('3d/6h', 1.0)]
    >>> [(tier.factor, tier.change_note) for tier in tiers_for(0.9, 30)][0]
    (8.0, 'lowered from 14.4: at an objective of 90 % nothing burns faster than 10')
    """
    if window_days not in OBJECTIVE_WINDOW_DAYS:
        raise ValueError(f"an objective's window is 7, 28 or 30 days, got {window_days}")
    return tuple(_tier(row, objective, window_days) for row in _TABLE)


def _tier(row: _Row, objective: Objective, window_days: int) -> Tier:
    spent_ratio = row.spent_ratio[window_days]
    long_windows = Fraction(timedelta(days=window_days) // _MINUTE, BURN_RATE_WINDOWS[row.long] // _MINUTE)
    table_factor = Fraction(str(spent_ratio)) * long_windows
    numerator, denominator = _error_budget_fraction(objective)
    ceiling = CEILING_RATIO * Fraction(denominator, numerator)
    factor = max(Fraction(1), min(table_factor, ceiling))
    change, change_note = None, ""
    if factor < table_factor:
        change = FactorChange.LOWERED
        change_note = (
            f"lowered from {float(table_factor):.4g}: at an objective of {float(objective) * 100:g} % "
            f"nothing burns faster than {max_burn_rate(objective):.4g}"
        )
    elif factor > table_factor:
        change = FactorChange.RAISED
        change_note = f"raised from {float(table_factor):.3g}: a burn rate below 1 keeps the objective"
    return Tier(
        severity=row.severity,
        spent_ratio=spent_ratio,
        long=row.long,
        short=row.short,
        window_days=window_days,
        table_factor=float(table_factor),
        factor=float(factor),
        change=change,
        change_note=change_note,
    )


# Which minutes a window holds


class WindowBounds(NamedTuple):
    """Half-open, aware UTC: `start` belongs to the window, `end` does not."""

    start: datetime
    end: datetime


def window_bounds(at: datetime, length: timedelta) -> WindowBounds:
    """The window of `length` up to the end of the minute containing `at`, though that minute still runs.

    Raises ValueError for a naive `at` and a length that is not whole minutes.

    >>> start, end = window_bounds(datetime(2026, 11, 21, 20, 0, tzinfo=UTC), timedelta(minutes=5))
    >>> f"{start:%H:%M}–{end:%H:%M}"
    '19:56–20:01'
    """
    if length <= timedelta(0) or length % _MINUTE:
        raise ValueError(f"a window lasts whole minutes, got {length}")
    end = _start_of_minute(at) + _MINUTE
    return WindowBounds(end - length, end)


def objective_window(at: datetime, days: int) -> WindowBounds:
    """The window of an objective: `days` up to the end of the minute containing `at`, begun on the hour.

    Starting on the hour lets it be read from whole hours and days but for its last one.
    """
    start, end = window_bounds(at, timedelta(days=days))
    return WindowBounds(start.replace(minute=0), end)


def last_full_minute(at: datetime) -> WindowBounds:
    """The last minute that was over by `at`."""
    end = _start_of_minute(at)
    return WindowBounds(end - _MINUTE, end)


def _start_of_minute(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ValueError(f"an instant needs its time zone, got {at.isoformat()}")
    return at.astimezone(UTC).replace(second=0, microsecond=0)


# States


class State(StrEnum):
    """How a milestone or a component is doing; a milestone is never `unallocated`."""

    OK = "ok"
    AT_RISK = "at_risk"
    BREACHED = "breached"
    NO_DATA = "no_data"
    UNALLOCATED = "unallocated"


def milestone_state(remaining_ratio: float | None, is_tier_firing: bool) -> State:
    """The state of a milestone by the error budget that is left and by its burn-rate tiers."""
    if remaining_ratio is None:
        return State.NO_DATA
    if remaining_ratio < 0:
        return State.BREACHED
    if remaining_ratio < AT_RISK_BELOW or is_tier_firing:
        return State.AT_RISK
    return State.OK


def component_state(
    over: int, judged: int, total: int, objective: Objective | None, is_allocated: bool
) -> State:
    """The state of a component over a range, in which it was measured `total` times.

    Breached when the share over the allocation exceeds 1 − objective with at least 3 over, at risk above
    half of that share, whatever the count. Measured but never judged, as where its allocation is younger
    than the range's data, is no data: there is nothing to say. `objective` may be None where it is not
    allocated.
    """
    if not total:
        return State.NO_DATA
    if not is_allocated:
        return State.UNALLOCATED
    if not judged:
        return State.NO_DATA
    if objective is None:
        raise ValueError("an allocated component needs the objective of its milestone")
    numerator, denominator = _error_budget_fraction(objective)
    over_scaled, allowed_scaled = int(over) * denominator, int(judged) * numerator
    if over_scaled > allowed_scaled and over >= MIN_OVER_TO_BREACH:
        return State.BREACHED
    if 2 * over_scaled > allowed_scaled:
        return State.AT_RISK
    return State.OK
