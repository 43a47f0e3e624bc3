"""Parts that the regions of several pages share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from budgets import charts
from budgets.burn_rates import Objective, State
from budgets.histogram import AtLeast
from budgets.models import Milestone
from budgets.status import ComponentStatus

# Worst first; what is silent comes before what is well, because nobody would scroll down to it.
WORST_FIRST: Final = {
    State.BREACHED: 0,
    State.AT_RISK: 1,
    State.NO_DATA: 2,
    State.UNALLOCATED: 2,
    State.OK: 3,
}
BAD: Final = (State.BREACHED, State.AT_RISK)
# A p99 of fewer requests than this is one of the slowest two.
FEW: Final = 100
# The latency budget stands at this share of a bullet's width, so that bullets of one column compare.
_LIMIT_AT: Final = 62.0


@dataclass(frozen=True)
class Bullet:
    """A bar against its limit; `value` and `limit` in percent of the width."""

    value: float | None
    limit: float | None
    state: str
    label: str

    @property
    def width(self) -> str:
        """As SVG takes it. Made here: an overview draws hundreds, and a template's filter costs fifteen times this."""
        return "" if self.value is None else f"{self.value:.2f}%"

    @property
    def limit_x(self) -> str:
        return "" if self.limit is None else f"{self.limit:.2f}%"


@dataclass(frozen=True)
class ChartPlace:
    """Where a chart will stand: its height is kept free before it is drawn."""

    name: str
    title: str
    label: str
    url: str
    csv_url: str
    height: int
    size: charts.Size = "large"
    state: str = ""


@dataclass(frozen=True)
class Fact:
    """Something known; `at` is an instant that stands before the text, `url` where the text leads."""

    label: str
    text: str = ""
    at: datetime | None = None
    url: str = ""


def bullet(value: float | AtLeast | None, limit: float | None, state: str, label: str) -> Bullet:
    """A value beside its limit, which always stands at the same place; without one the bar has no scale."""
    if value is None or not limit:
        return Bullet(None, _LIMIT_AT if limit else None, state, label)
    if isinstance(value, AtLeast):
        return Bullet(100.0, _LIMIT_AT, state, label)
    return Bullet(min(100.0, value / limit * _LIMIT_AT), _LIMIT_AT, state, label)


def percentile_of(objective: Objective | None) -> str:
    """The percentile that an objective speaks of: at 99 % the p99 meets the budget exactly when it is kept.

    Only p50, p95 and p99 are computed: the p95 stands for objectives below 99 %, the p99 for those above.
    """
    return "p95" if objective is not None and Decimal(str(objective)) < Decimal("0.99") else "p99"


def worst_component(components: Iterable[ComponentStatus]) -> ComponentStatus | None:
    """The component that is furthest over its allocation; None where none is breached or at risk."""
    bad = [c for c in components if c.state in BAD]
    return min(bad, key=lambda c: (WORST_FIRST[c.state], -(over_ratio(c) or 0.0), c.component), default=None)


def over_ratio(component: ComponentStatus) -> float | None:
    counts = component.counts
    return counts.over / counts.judged if counts.judged else None


def milestone_name(milestone: str) -> str:
    return str(Milestone(milestone).label)


def worst_state(states: Iterable[State]) -> State:
    """A feature's state: its worst milestone's. A silent milestone beside a measured one changes nothing."""
    found = list(states)
    measured = [state for state in found if state != State.NO_DATA]
    return min(measured, key=lambda state: WORST_FIRST[state], default=State.NO_DATA)


def plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
