"""The page of a feature: verdict, figures, components, burn rates, versions, and where its charts stand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.urls import reverse

from budgets import charts, formats
from budgets.burn_histories import SPANS
from budgets.burn_rates import (
    State,
    Tier,
    WindowBounds,
    error_budget_ratio,
    tiers_for,
)
from budgets.errors import Refusal
from budgets.exhaustion import PACE_HOURS, Forecast
from budgets.forecasts import get_forecast
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Annotation, Feature, LatencyBudget, Milestone
from budgets.status import DEFAULT_WINDOW_DAYS, ComponentStatus, FeatureStatus, range_bounds
from budgets.tiles import Counts, Percentiles

from .frame import View, page_url, with_query
from .parts import (
    BAD,
    FEW,
    Bullet,
    ChartPlace,
    bullet,
    milestone_name,
    over_ratio,
    plural,
    worst_component,
    worst_state,
)

ANNOTATIONS_SHOWN = 6


@dataclass(frozen=True)
class Verdict:
    """The page in two sentences."""

    state: str
    lead: str
    more: str = ""


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Pointer:
    """Where to find what is not here."""

    text: str
    url: str
    label: str


@dataclass(frozen=True)
class Tab:
    milestone: str
    name: str
    state: str


@dataclass(frozen=True)
class ComponentRow:
    """A component's numbers over the range that is shown."""

    component: str
    state: str
    allocated_ms: float | None
    percentiles_ms: Percentiles
    counts: Counts
    over_ratio: float | None
    is_few: bool


@dataclass(frozen=True)
class TierWindow:
    name: str
    rate: float | None
    bullet: Bullet


@dataclass(frozen=True)
class TierRow:
    """A burn-rate tier with its two windows."""

    severity_word: str
    windows: list[TierWindow]
    factor: float
    change_note: str
    state: str
    state_word: str


@dataclass(frozen=True)
class VersionRow:
    version: int
    effective_from: datetime
    budget_ms: Decimal | None
    objective: Decimal | None
    window_days: int | None
    allocations: list[tuple[str, Decimal]]
    note: str
    created_by: str
    created_at: datetime
    is_in_force: bool
    is_ahead: bool


@dataclass(frozen=True)
class FeaturePage:
    """Everything the feature page shows but the charts' figures, which it fetches."""

    feature: Feature
    environment: str
    as_of: datetime
    title: str = ""
    milestone: str = ""
    status: FeatureStatus | None = None
    tabs: list[Tab] = field(default_factory=list)
    verdict: Verdict | None = None
    needs_attention: bool = False
    tiles: list[Tile] = field(default_factory=list)
    range_words: str = ""
    window_words: str = ""
    window_words_plain: str = ""
    allowed_ratio: float | None = None
    allowed_words: str = ""
    components: list[ComponentRow] = field(default_factory=list)
    component_unit: str = "ms"
    allocated_elsewhere: Pointer | None = None
    tiers: list[TierRow] = field(default_factory=list)
    tier_notes: list[str] = field(default_factory=list)
    versions: list[VersionRow] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    tail_path_chart: ChartPlace | None = None
    allocation_chart: ChartPlace | None = None
    heatmap: ChartPlace | None = None
    component_charts: list[ChartPlace] = field(default_factory=list)
    burn_down_chart: ChartPlace | None = None
    burn_rate_charts: list[ChartPlace] = field(default_factory=list)


def chosen_milestone(statuses: dict[str, FeatureStatus], asked: str | None) -> str | None:
    """The milestone that the URL names, else the first that the feature has; None where it has none."""
    if asked in statuses:
        return asked
    return next((m for m in Milestone.values if m in statuses), None)


def feature_page(
    feature: Feature,
    statuses: dict[str, FeatureStatus],
    status: FeatureStatus | None,
    *,
    view: View,
) -> FeaturePage:
    """The page of a feature: `statuses` of all its milestones, and `status` of the one that is shown."""
    environment, now = view.environment, view.as_of
    if status is None:
        return FeaturePage(
            feature=feature, environment=environment, as_of=now, title=f"{feature.name} – Latency Dashboard"
        )
    budget = status.latency_budget
    states = {milestone: each.state for milestone, each in statuses.items()} | {
        status.milestone: status.state
    }
    overall = worst_state(states.values())
    icon = {State.BREACHED: "✕ ", State.AT_RISK: "▲ "}.get(overall, "")
    tiers = _tier_rows(status)
    return FeaturePage(
        feature=feature,
        environment=environment,
        as_of=now,
        title=f"{icon}{feature.name} – Latency Dashboard",
        milestone=status.milestone,
        status=status,
        tabs=[Tab(m, milestone_name(m), str(states[m])) for m in Milestone.values if m in states],
        verdict=feature_verdict(status, view),
        needs_attention=overall in BAD,
        tiles=_tiles(
            status, forecast_of(feature, budget, view) if budget and status.counts.judged else None, view
        ),
        range_words=range_words(status, view),
        window_words=formats.between(status.window_start, status.window_end),
        window_words_plain=f"{budget.window_days} days" if budget else "",
        allowed_ratio=error_budget_ratio(budget.objective) if budget else None,
        allowed_words=formats.objective(1 - budget.objective) if budget else "",
        components=[_component_row(c) for c in status.components],
        component_unit=formats.column_unit(
            v for c in status.components for v in (c.allocated_ms, c.percentiles_ms.p99)
        ),
        allocated_elsewhere=_allocated_elsewhere(feature, statuses, status, view),
        tiers=[row for row, _ in tiers],
        tier_notes=[
            f"The threshold of {tier.long} was {tier.change_note}." for _, tier in tiers if tier.change_note
        ],
        versions=_version_rows(feature, status.milestone, budget.version if budget else None, now),
        annotations=list(Annotation.objects.of_feature(feature, environment)[:ANNOTATIONS_SHOWN]),
        **_chart_places(feature, status, view),
    )


def range_words(status: FeatureStatus, view: View) -> str:
    """The range of percentiles and components: "last hour"; one between two instants by what is kept of it."""
    if view.start is not None:
        return formats.between(status.range_start, status.range_end)
    return view.range_words(_days(status))


def within_words(status: FeatureStatus, view: View) -> str:
    """That range within a sentence: "in the last hour"."""
    if view.start is not None:
        return f"between {formats.instant(status.range_start)} and {formats.instant(status.range_end)}"
    return view.within_words(_days(status))


def _days(status: FeatureStatus) -> int:
    return status.latency_budget.window_days if status.latency_budget else DEFAULT_WINDOW_DAYS


def feature_verdict(status: FeatureStatus, view: View) -> Verdict:
    """Whether the milestone keeps its promise, and which component is to blame if one is."""
    name = milestone_name(status.milestone)
    budget, counts = status.latency_budget, status.counts
    if budget is None:
        measured = f"{formats.count(counts.total)} measured" if counts.total else "nothing measured"
        return Verdict(
            "no_data",
            f"{name} has no latency budget in force, {measured} {within_words(status, view)}.",
        )
    promise = f"{formats.objective(budget.objective)} within {formats.limit(budget.budget_ms)} over {budget.window_days} days"
    if not counts.judged:
        return Verdict(
            "no_data",
            f"Nothing was measured for {name.lower()} in the last {budget.window_days} days. Promised: {promise}.",
        )
    achieved = (
        f"{formats.percent(counts.sli_ratio, near=budget.objective, decimals=2)} of {formats.count(counts.judged)} "
        f"{plural('request', counts.judged)} {'was' if counts.judged == 1 else 'were'} in time"
    )
    burning = _fastest_burn(status)
    lead = {
        State.BREACHED: f"{name} has overspent its error budget. {achieved}, promised are {promise}.",
        State.AT_RISK: f"{name} may break its promise{burning}. {achieved}, promised are {promise}.",
        State.OK: f"{name} keeps its promise. {achieved}, promised are {promise}.",
    }.get(status.state, f"{achieved}.")
    few = (
        f"n{formats.NBSP}={formats.NBSP}{counts.judged}: too few requests to judge by. "
        if counts.judged < FEW
        else ""
    )
    return Verdict(str(status.state), lead, f"{few}{_component_sentence(status, view)}".strip())


def _fastest_burn(status: FeatureStatus) -> str:
    budget, rates = status.latency_budget, {b.window: b.burn_rate for b in status.burn_rates or []}
    assert budget is not None
    for tier in tiers_for(budget.objective, budget.window_days):
        if _is_over(tier, rates):
            rate = formats.burn_rate(rates[tier.long], near=tier.factor)
            return f": over the {formats.last(tier.long)} its error budget burned {rate} too fast"
    remaining = status.error_budget.remaining_ratio if status.error_budget else None
    return f": {formats.percent(remaining)} of its error budget is left" if remaining is not None else ""


def _component_sentence(status: FeatureStatus, view: View) -> str:
    worst = worst_component(status.components)
    within = within_words(status, view)
    if worst is not None and worst.allocated_ms is not None:
        p99 = worst.percentiles_ms.p99
        share = formats.percent(over_ratio(worst))
        return (
            f"Worst component: {formats.name(worst.component)}, p99 {formats.duration(p99, near=worst.allocated_ms)} against its "
            f"allocation of {formats.limit(worst.allocated_ms)}; {share} of its calls were over {within}."
        )
    if any(c.allocated_ms is not None and c.counts.judged for c in status.components):
        return f"No component is over its allocation {within}."
    return ""


def _tiles(status: FeatureStatus, forecast: Forecast | None, view: View) -> list[Tile]:
    budget, counts, error_budget = status.latency_budget, status.counts, status.error_budget
    p = status.percentiles_ms
    tiles = []
    limit_ms = budget.budget_ms if budget else None
    if budget and error_budget:
        tiles = [
            Tile(
                "Objective",
                formats.objective(budget.objective),
                f"within {formats.limit(budget.budget_ms)}, over {budget.window_days} days",
            ),
            Tile(
                "Achieved",
                formats.percent(counts.sli_ratio, near=budget.objective, decimals=2),
                f"{formats.count(counts.good)} good of {formats.count(counts.judged)}"
                if counts.judged
                else "nothing was judged",
            ),
            Tile("Error budget left", formats.percent(error_budget.remaining_ratio), _left_words(status)),
            _exhaustion_tile(forecast, status.as_of),
        ]
    few = f", from {counts.total} {plural('request', counts.total)} only" if 0 < counts.total < FEW else ""
    others = f"p50 {formats.duration(p.p50, near=limit_ms)}, p95 {formats.duration(p.p95, near=limit_ms)}"
    tiles.append(
        Tile(
            f"p99, {range_words(status, view)}",
            formats.duration(p.p99, near=limit_ms),
            f"{others}{few}" if p.p99 is not None else "nothing was measured",
        )
    )
    return tiles


def _exhaustion_tile(forecast: Forecast | None, at: datetime) -> Tile:
    """When the error budget is used up if it goes on like this."""
    label, pace = "Exhaustion", f"at the pace of the last {PACE_HOURS} hours"
    if forecast is None:
        return Tile(label, formats.NONE, f"nothing was judged in the last {PACE_HOURS} hours")
    when = charts.turning(forecast, at)
    if when is None or forecast.turns_in_hours is None:
        return (
            Tile(label, "used up", f"stays so {pace}")
            if forecast.is_exhausted
            else Tile(label, "none ahead", pace)
        )
    within = formats.lasting(forecast.turns_in_hours * 3600)
    if forecast.is_exhausted:
        return Tile(label, "used up", f"until {formats.coming(when)}, in {within}, {pace}")
    return Tile(label, f"in {within}", f"{formats.coming(when)}, {pace}")


def _left_words(status: FeatureStatus) -> str:
    """How many slow requests the rest of the error budget is."""
    counts, error_budget = status.counts, status.error_budget
    if error_budget is None or error_budget.remaining_ratio is None:
        return "nothing was judged"
    left = error_budget.allowed_bad - counts.bad
    if error_budget.allowed_bad < 1 and not counts.bad:
        return "too few requests to allow a slow one"
    if left >= 0:
        return f"{formats.count(left)} more may be slow or fail, of {formats.count(error_budget.allowed_bad)} allowed"
    if error_budget.allowed_bad < 1:
        return (
            f"{formats.count(counts.bad)} bad {plural('request', counts.bad)}, where less than one is allowed"
        )
    over = math.ceil(-left)
    return (
        f"{formats.count(over)} bad {plural('request', over)} more than the "
        f"{formats.count(error_budget.allowed_bad)} allowed"
    )


def _allocated_elsewhere(
    feature: Feature, statuses: dict[str, FeatureStatus], status: FeatureStatus, view: View
) -> Pointer | None:
    """The other milestone, where it is the one under which the components are allocated."""
    for milestone, other in statuses.items():
        if milestone != status.milestone and other.latency_budget and other.latency_budget.allocations:
            name = milestone_name(milestone)
            query = {"milestone": milestone, **view.query}
            return Pointer(
                text=f"The components of this feature have their share of {name.lower()}.",
                url=page_url("feature", feature.slug, **query),
                label=f"See {name.lower()}",
            )
    return None


def _component_row(component: ComponentStatus) -> ComponentRow:
    return ComponentRow(
        component=component.component,
        state=str(component.state),
        allocated_ms=component.allocated_ms,
        percentiles_ms=component.percentiles_ms,
        counts=component.counts,
        over_ratio=over_ratio(component),
        is_few=0 < component.counts.total < FEW,
    )


def _is_over(tier: Tier, rates: dict[str, float | None]) -> bool:
    return all((rates.get(window) or 0.0) > tier.factor for window in (tier.long, tier.short))


def _tier_rows(status: FeatureStatus) -> list[tuple[TierRow, Tier]]:
    budget = status.latency_budget
    if budget is None:
        return []
    rates = {burn.window: burn.burn_rate for burn in status.burn_rates or []}
    rows = []
    for tier in tiers_for(budget.objective, budget.window_days):
        is_over = _is_over(tier, rates)
        has_data = all(rates.get(window) is not None for window in (tier.long, tier.short))
        state = "firing" if is_over else "ok" if has_data else "no_data"
        rows.append(
            (
                TierRow(
                    severity_word=tier.severity.value.capitalize(),
                    windows=[
                        _tier_window(window, rates.get(window), tier.factor)
                        for window in (tier.long, tier.short)
                    ],
                    factor=tier.factor,
                    change_note=tier.change_note,
                    state=state,
                    state_word={"firing": "Over", "ok": "Below", "no_data": "No data"}[state],
                ),
                tier,
            )
        )
    return rows


def _tier_window(window: str, rate: float | None, factor: float) -> TierWindow:
    state = "no_data" if rate is None else "breached" if rate > factor else "ok"
    label = f"{formats.window_words(window)}: burn rate {formats.burn_rate(rate, near=factor)}, threshold {formats.burn_rate(factor)}"
    return TierWindow(window, rate, bullet(rate, factor, state, label))


def _version_rows(feature: Feature, milestone: str, in_force: int | None, now: datetime) -> list[VersionRow]:
    versions = LatencyBudget.objects.filter(feature=feature, milestone=milestone).order_by("-version")
    return [
        VersionRow(
            version=v.version,
            effective_from=v.effective_from,
            budget_ms=v.budget_ms,
            objective=v.objective,
            window_days=v.window_days,
            allocations=[(a.component.name, a.allocated_ms) for a in v.allocations.all()],
            note=v.note,
            created_by=v.created_by,
            created_at=v.created_at,
            is_in_force=v.version == in_force,
            is_ahead=v.version > 1 and v.effective_from > now,
        )
        for v in versions.prefetch_related("allocations__component")
    ]


def _chart_places(feature: Feature, status: FeatureStatus, view: View) -> dict[str, Any]:
    within = range_words(status, view)
    name = milestone_name(status.milestone)

    def place(
        kind: str, title: str, label: str, *, key: str = "", target: str = "", tier: str = "", **rest: object
    ) -> ChartPlace:
        address = {"slug": feature.slug, "name": kind}
        query = {"milestone": status.milestone, **view.query, "target": target, "tier": tier}
        return ChartPlace(
            name=f"{feature.slug}-{key or kind}",
            title=title,
            label=label,
            url=with_query(reverse("feature-chart", kwargs=address | {"form": "json"}), **query),
            csv_url=with_query(reverse("feature-chart", kwargs=address | {"form": "csv"}), **query),
            **rest,  # type: ignore[arg-type]
        )

    places: dict[str, Any] = {
        "tail_path_chart": place(
            "tail-path",
            f"{name}: {formats.limit(status.latency_budget.budget_ms)} as promised, and as requests near the p99 spend it"
            if status.latency_budget
            else f"{name}: what requests near the p99 wait for",
            f"Latency budget over the mean time of components in requests near the p99, {within}",
            height=charts.TAIL_PATH_HEIGHT_PX,
        ),
        "allocation_chart": place(
            "allocation",
            "Each component's own p99 against its allocation",
            f"Allocation against observed p99 of each component, {within}",
            height=charts.allocation_height(status),
        ),
        "heatmap": place(
            "heatmap",
            name,
            f"Durations of {name.lower()} over time, how many of each, {within}",
            height=charts.HEATMAP_HEIGHT_PX,
            state=str(status.state),
        ),
        "component_charts": [
            place(
                "percentiles",
                c.component,
                f"Percentiles of {formats.name(c.component)} over time, {within}",
                key=f"component-{number}",
                target=f"component:{c.component}",
                height=charts.HEIGHT_PX["small"],
                size="small",
                state=str(c.state),
            )
            for number, c in enumerate(status.components, start=1)
        ],
    }
    if status.latency_budget is not None:
        places["burn_down_chart"] = place(
            "burn-down",
            "Error budget left",
            f"Error budget left over the last {status.latency_budget.window_days} days, and ahead",
            height=charts.HEIGHT_PX["large"],
        )
        places["burn_rate_charts"] = [
            place(
                "burn-rate",
                f"{tier.severity.value.capitalize()}: {formats.window_words(tier.long)} and "
                f"{formats.window_words(tier.short)}",
                f"Burn rates over {formats.window_words(tier.long)} and {formats.window_words(tier.short)}, "
                f"{formats.lasting(SPANS[tier.long].total_seconds())} back",
                key=f"burn-rate-{tier.long}",
                height=charts.HEIGHT_PX["small"],
                size="small",
                tier=tier.long,
            )
            for tier in tiers_for(status.latency_budget.objective, status.latency_budget.window_days)
        ]
    return places


# What the charts cover


def shown_range(feature: Feature, milestone: str, view: View) -> WindowBounds:
    """The range of percentiles and components: the one asked for, else the objective's window."""
    budget = budgets_in_force([feature.pk], view.as_of).get((feature.pk, milestone))
    days = budget.window_days if budget else DEFAULT_WINDOW_DAYS
    return range_bounds(window=view.length, days=days, at=view.as_of, now=view.now)


def budget_in_force(feature: Feature, milestone: str, view: View) -> BudgetInForce:
    """The latency budget of a milestone. Raises Refusal where it has none."""
    budget = budgets_in_force([feature.pk], view.as_of).get((feature.pk, milestone))
    if budget is None:
        raise Refusal(
            "no_latency_budget", f"{milestone} of {feature.slug} has no latency budget in force.", status=404
        )
    return budget


def forecast_of(feature: Feature, budget: BudgetInForce, view: View) -> Forecast | None:
    """What becomes of the error budget; None where nothing was judged of late."""
    return get_forecast(
        feature,
        milestone=budget.milestone,
        environment=view.environment,
        objective=budget.objective,
        window_days=budget.window_days,
        at=view.as_of,
    )
