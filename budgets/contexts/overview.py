"""The overview: what every feature promised and kept, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from budgets import formats
from budgets.burn_rates import State, error_budget_ratio
from budgets.exhaustion import Forecast
from budgets.histogram import AtLeast
from budgets.histories import Target
from budgets.models import Feature, Milestone
from budgets.sparklines import HOURS
from budgets.status import ComponentStatus, FeatureStatus
from budgets.tiles import Counts

from .frame import View, page_url
from .parts import (
    BAD,
    FEW,
    WORST_FIRST,
    Bullet,
    bullet,
    milestone_name,
    percentile_of,
    plural,
    worst_component,
    worst_state,
)


@dataclass(frozen=True)
class OverviewLine:
    """One milestone of a feature."""

    feature: Feature
    feature_url: str
    url: str
    name: str
    status: FeatureStatus
    percentile_name: str
    percentile: float | AtLeast | None
    unit: str
    bullet: Bullet
    worst: ComponentStatus | None
    sparkline: Sparkline | None
    forecast: Forecast | None

    @property
    def budget_ms(self) -> float | None:
        return self.status.latency_budget.budget_ms if self.status.latency_budget else None

    @property
    def objective(self) -> Decimal | None:
        return self.status.latency_budget.objective if self.status.latency_budget else None

    @property
    def is_few(self) -> bool:
        return 0 < self.status.counts.judged < FEW

    @property
    def sli_ratio(self) -> float | None:
        return self.status.counts.sli_ratio if self.status.latency_budget else None

    @property
    def gone_in(self) -> str:
        """How long the error budget lasts at its present pace, in words; nothing where it may outlast its window."""
        if self.forecast is None or not self.forecast.turns_in_hours or self.forecast.latest_hours is None:
            return ""
        return f"gone in {formats.lasting(self.forecast.turns_in_hours * 3600, parts=1)}"

    @property
    def remaining_ratio(self) -> float | None:
        return self.status.error_budget.remaining_ratio if self.status.error_budget else None


@dataclass(frozen=True)
class Sparkline:
    """The share of bad requests in each of 24 hours, drawn into 120 × 32; gaps where nothing was judged.

    Its dashed line is what the objective allows: below it, the error budget lasts.
    """

    runs: list[str]
    limit_y: str
    label: str


_WIDTH, _TOP, _BOTTOM = 120.0, 2.0, 30.0


def sparkline(hours: Sequence[Counts], allowed_ratio: float) -> Sparkline | None:
    """None where nothing was judged in 24 hours."""
    shares = [counts.bad / counts.judged if counts.judged else None for counts in hours]
    worst = max((share for share in shares if share is not None), default=None)
    if worst is None:
        return None
    # At least four times what is allowed fits, so that a calm day looks calm.
    scale = (_BOTTOM - _TOP) / max(worst, 4 * allowed_ratio)

    def y(share: float) -> str:
        return f"{_BOTTOM - share * scale:.1f}"

    runs: list[str] = []
    for is_gap, group in groupby(enumerate(shares), key=lambda point: point[1] is None):
        if not is_gap:
            points = [
                f"{i * _WIDTH / HOURS:.1f},{y(share)} {(i + 1) * _WIDTH / HOURS:.1f},{y(share)}"
                for i, share in group
                if share is not None
            ]
            runs.append(" ".join(points))
    label = f"Bad requests by the hour, last 24 hours: at most {formats.percent(worst)}, {formats.percent(allowed_ratio)} allowed"
    return Sparkline(runs, y(allowed_ratio), label)


@dataclass(frozen=True)
class OverviewRow:
    feature: Feature
    url: str
    state: State
    lines: list[OverviewLine]


@dataclass(frozen=True)
class Overview:
    """The features a person sees, worst first."""

    environment: str
    as_of: datetime
    url: str
    all_rows: list[OverviewRow]
    chosen_state: str = ""
    bad_states: tuple[str, ...] = tuple(str(state) for state in BAD)

    @property
    def total(self) -> int:
        return len(self.all_rows)

    @property
    def rows(self) -> list[OverviewRow]:
        return [row for row in self.all_rows if not self.chosen_state or row.state == self.chosen_state]

    @property
    def by_state(self) -> list[tuple[str, int]]:
        return [
            (str(state), self._count(state))
            for state in (State.BREACHED, State.AT_RISK, State.NO_DATA, State.OK)
        ]

    @property
    def needs_attention(self) -> int:
        return sum(self._count(state) for state in BAD)

    @property
    def sentence(self) -> str:
        if not self.total:
            return "No feature is declared yet"
        bad, silent = self.needs_attention, self._count(State.NO_DATA)
        if bad:
            verb = "needs" if bad == 1 else "need"
            return f"{bad} of {self.total} {plural('feature', self.total)} {verb} attention"
        if silent == self.total:
            return (
                "Nothing has been measured yet" if silent == 1 else f"None of {silent} features was measured"
            )
        return (
            "All features that were measured keep their promise"
            if silent
            else "All features keep their promise"
        )

    @property
    def detail(self) -> str:
        words = {
            State.BREACHED: "breached",
            State.AT_RISK: "at risk",
            State.NO_DATA: "without data",
            State.OK: "OK",
        }
        counted = [f"{self._count(state)} {word}" for state, word in words.items() if self._count(state)]
        return ", ".join(counted)

    @property
    def title(self) -> str:
        bad = self.needs_attention
        return f"✕ {bad} of {self.total} – Latency Dashboard" if bad else "Overview – Latency Dashboard"

    @property
    def all_clear(self) -> str:
        return (
            "All clear: no feature is breached."
            if self.chosen_state == State.BREACHED
            else "All clear: no feature is at risk."
        )

    def _count(self, state: State) -> int:
        return sum(row.state == state for row in self.all_rows)


def overview(
    features: Sequence[Feature],
    statuses: dict[int, dict[str, FeatureStatus]],
    hourly: dict[tuple[int, str], list[Counts]],
    forecasts: Mapping[Target, Forecast],
    *,
    view: View,
    chosen_state: str,
) -> Overview:
    """The overview of features by their statuses and their last hours; it asks the database nothing."""
    found = [(feature, statuses.get(feature.pk, {})) for feature in features]
    query = view.query
    rows = [_overview_row(feature, by_milestone, hourly, forecasts, query) for feature, by_milestone in found]
    rows.sort(key=_badness)
    return Overview(
        environment=view.environment,
        as_of=view.as_of,
        url=page_url("overview", **query),
        all_rows=rows,
        chosen_state=chosen_state if chosen_state in (str(state) for state in WORST_FIRST) else "",
    )


def _overview_row(
    feature: Feature,
    by_milestone: dict[str, FeatureStatus],
    hourly: dict[tuple[int, str], list[Counts]],
    forecasts: Mapping[Target, Forecast],
    query: dict[str, str | None],
) -> OverviewRow:
    url = page_url("feature", feature.slug, **query)
    lines = [
        _overview_line(
            feature,
            url,
            by_milestone[milestone],
            hourly.get((feature.pk, milestone), ()),
            forecasts.get((feature.pk, f"milestone:{milestone}")),
            query,
        )
        for milestone in Milestone.values
        if milestone in by_milestone
    ]
    return OverviewRow(feature, url, worst_state(line.status.state for line in lines), lines)


def _overview_line(
    feature: Feature,
    feature_url: str,
    status: FeatureStatus,
    hours: Sequence[Counts],
    forecast: Forecast | None,
    query: dict[str, str | None],
) -> OverviewLine:
    name = milestone_name(status.milestone)
    budget = status.latency_budget
    percentile_name = percentile_of(budget.objective if budget else None)
    percentile = getattr(status.percentiles_ms, percentile_name)
    limit_ms = budget.budget_ms if budget else None
    unit = formats.column_unit([limit_ms or percentile])
    label = f"{name}: {percentile_name} {formats.duration(percentile, near=limit_ms)}"
    if limit_ms:
        label += f" against a latency budget of {formats.limit(limit_ms)}"
    return OverviewLine(
        feature=feature,
        feature_url=feature_url,
        url=page_url("feature", feature.slug, milestone=status.milestone, **query),
        name=name,
        status=status,
        percentile_name=percentile_name,
        percentile=percentile,
        unit=unit,
        bullet=bullet(percentile, limit_ms, str(status.state), label),
        worst=worst_component(status.components),
        sparkline=sparkline(hours, error_budget_ratio(budget.objective)) if budget else None,
        forecast=forecast,
    )


def _badness(row: OverviewRow) -> tuple[int, float, str]:
    remaining = [line.remaining_ratio for line in row.lines if line.remaining_ratio is not None]
    return WORST_FIRST[row.state], min(remaining, default=1.0), row.feature.name.casefold()
