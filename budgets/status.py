"""How slow a feature is against what was promised: status, overview, time series, and counts for rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from django.conf import settings

from .burn_rates import (
    BURN_RATE_WINDOWS,
    ErrorBudget,
    State,
    WindowBounds,
    burn_rate,
    component_state,
    error_budget,
    milestone_state,
    tiers_for,
    window_bounds,
)
from .errors import Refusal
from .limits import BudgetInForce, budgets_in_force, limit_history
from .models import Component, Feature, Milestone, Series
from .tiles import (
    NOTHING,
    Counts,
    Percentile,
    Percentiles,
    Range,
    Totals,
    read_buckets,
    read_group_counts,
    read_ranges,
)

WINDOWS = {**BURN_RATE_WINDOWS, "7d": timedelta(days=7), "28d": timedelta(days=28)}
"""The ranges that percentiles and components can be asked for."""
DEFAULT_WINDOW_DAYS = 28
"""Of a milestone without a latency budget, which has no objective to take it from."""
MAX_POINTS = 1000
STEPS = {60: timedelta(minutes=1), 3600: timedelta(hours=1), 86400: timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class BurnRate:
    """`burn_rate` is None where nothing was judged. A window of which the minutes are gone has none."""

    window: str
    start: datetime
    end: datetime
    total: int
    bad: int
    burn_rate: float | None


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    component: str
    allocated_ms: float | None
    counts: Counts
    percentiles_ms: Percentiles
    mean_ms: float | None
    state: State


@dataclass(frozen=True, slots=True)
class FeatureStatus:
    """A milestone against its latency budget.

    `counts`, the error budget and the burn rates are of the objective's window; percentiles and components
    are of [range_start, range_end).
    """

    feature: str
    milestone: str
    environment: str
    as_of: datetime
    state: State
    latency_budget: BudgetInForce | None
    window_start: datetime
    window_end: datetime
    range_start: datetime
    range_end: datetime
    counts: Counts
    error_budget: ErrorBudget | None
    burn_rates: list[BurnRate] | None
    percentiles_ms: Percentiles
    mean_ms: float | None
    slowest_trace_id: UUID | None
    components: list[ComponentStatus]


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """Columns of equal length, one entry a step; a step without data has total 0 and None percentiles."""

    target: str
    step: timedelta
    start: list[datetime]
    total: list[int]
    good: list[int]
    over: list[int]
    errors: list[int]
    timeouts: list[int]
    judged: list[int]
    limit_ms: list[float | None]
    p50: list[Percentile]
    p95: list[Percentile]
    p99: list[Percentile]


def get_feature_status(
    feature: Feature,
    *,
    milestone: str,
    environment: str = "production",
    release: str | None = None,
    now: datetime,
    at: datetime | None = None,
    window: str | timedelta | None = None,
) -> FeatureStatus:
    """The status of one milestone as of `at` (default: now).

    `window`, one of WINDOWS or whole minutes, is the range of percentiles and components; default the objective's.
    Long ago minutes are no longer kept, and longer ago hours: windows then begin and end on the hour, or on the
    day, and burn rates over windows that are shorter are left out. Raises Refusal("invalid_window") for a window
    that is not one of WINDOWS, and Refusal("window_not_kept") for one that is shorter.
    """
    check_window(window)
    found = _statuses(
        [feature],
        environment=environment,
        release=release,
        at=at or now,
        now=now,
        window=window,
        only=milestone,
    )
    return found[feature.pk][milestone]


def get_overview(
    features: Iterable[Feature],
    *,
    environment: str = "production",
    now: datetime,
    at: datetime | None = None,
    window: str | timedelta | None = None,
    with_component_percentiles: bool = True,
) -> dict[int, dict[str, FeatureStatus]]:
    """Feature id -> milestone -> status, for milestones that are declared or measured; the number of queries
    does not grow with the number of features.

    Without their percentiles, which are most of the work where features are many, components have counts and
    states alone.
    """
    return _statuses(
        list(features),
        environment=environment,
        release=None,
        at=at or now,
        now=now,
        window=window,
        only=None,
        with_component_percentiles=with_component_percentiles,
    )


def get_timeseries(
    feature: Feature,
    *,
    target: str,
    environment: str = "production",
    release: str | None = None,
    start: datetime,
    end: datetime,
    step: int | None = None,
    now: datetime,
) -> TimeSeries:
    """Counts and percentiles of one component or milestone over time, every step present.

    Bounds are aligned outwards to the step. Without `step`: the finest that is retained and gives at most
    1000 points. Raises Refusal for a target, a step or a range that cannot be.
    """
    kind, name = split_target(feature, target)
    length = _choose_step(start, end, step, now)
    first, last = _aligned_outwards(start, end, length)
    if (last - first) / length > 10 * MAX_POINTS:
        raise Refusal(
            "too_many_points",
            f"That range holds {(last - first) // length} steps, over {10 * MAX_POINTS}. Ask for a longer step.",
            fields={"step": ["Ask for a longer step or a shorter range."]},
        )
    if step is not None and not _is_kept(step, start, now):
        raise Refusal(
            "step_not_kept",
            f"Steps of {step} s are not kept since {start.isoformat()}. Ask for a longer step or a later range.",
            fields={"step": ["Ask for a longer step or a later range."]},
        )
    ids = Series.objects.ids_of(feature, target, environment=environment, release=release)
    found = read_buckets(ids, first, last, length) if ids else {}
    starts = [first + n * length for n in range((last - first) // length)]
    totals = [found.get(at, NOTHING) for at in starts]
    return TimeSeries(
        target=target,
        step=length,
        start=starts,
        total=[t.counts.total for t in totals],
        good=[t.counts.good for t in totals],
        over=[t.counts.over for t in totals],
        errors=[t.counts.errors for t in totals],
        timeouts=[t.counts.timeouts for t in totals],
        judged=[t.counts.judged for t in totals],
        limit_ms=_limits_over_time(feature, kind, name, starts),
        p50=[t.quantile(0.50) for t in totals],
        p95=[t.quantile(0.95) for t in totals],
        p99=[t.quantile(0.99) for t in totals],
    )


def range_bounds(*, window: str | timedelta | None, days: int, at: datetime, now: datetime) -> WindowBounds:
    """The range of percentiles and components of a status: the one asked for, else the objective's of so many days.

    Raises Refusal("window_not_kept") as `get_feature_status` does.
    """
    return _objective_bounds(at, days, now) if window is None else _shown_bounds(at, window, now)


def split_target(feature: Feature, target: str) -> tuple[str, str]:
    """("component" or "milestone", its name). Raises Refusal for what the feature does not have."""
    kind, _, name = target.partition(":")
    is_known = (
        name in Milestone.values
        if kind == "milestone"
        else kind == "component" and feature.components.filter(name=name).exists()
    )
    if not is_known:
        raise Refusal(
            "unknown_target",
            f"target must be milestone:first_token, milestone:complete or component:<name of a component of "
            f"{feature.slug}>, got {target!r:.100}.",
            fields={"target": ["Expected milestone:<name> or component:<name>."]},
        )
    return kind, name


def kept_range(start: datetime, end: datetime, now: datetime) -> WindowBounds:
    """A range by what is kept of it: each bound is moved outwards to whole minutes, or to an hour or a day where
    nothing finer is kept around it."""
    first, last = _floored(start, finest_kept(start, now)), _floored(end, step := finest_kept(end, now))
    return WindowBounds(first, last if last == end else last + step)


def check_window(window: str | timedelta | None) -> None:
    if isinstance(window, str) and window not in WINDOWS:
        raise Refusal(
            "invalid_window",
            f"window must be one of {', '.join(WINDOWS)}, got {window!r:.100}.",
            fields={"window": [f"Expected one of {', '.join(WINDOWS)}."]},
        )


# -- status -----------------------------------------------------------------------------------------


def _statuses(
    features: list[Feature],
    *,
    environment: str,
    release: str | None,
    at: datetime,
    now: datetime,
    window: str | timedelta | None,
    only: str | None,
    with_component_percentiles: bool = True,
) -> dict[int, dict[str, FeatureStatus]]:
    """The statuses of many features in a constant number of statements."""
    budgets = budgets_in_force([feature.pk for feature in features], at)
    groups, group_of_series = _targets(features, environment, release)
    burning = {
        name: Range(*bounds)
        for name, length in BURN_RATE_WINDOWS.items()
        if (bounds := _kept_bounds(at, length, now)) is not None
    }
    # Objectives have windows of 7, 28 or 30 days: each that occurs is read for all, which costs nothing extra,
    # because ranges share what they have in common.
    days = sorted({budget.window_days for budget in budgets.values()} | {DEFAULT_WINDOW_DAYS})
    objectives = {n: Range(*_objective_bounds(at, n, now), with_histogram=window is None) for n in days}
    chosen = Range(*_shown_bounds(at, window, now), with_histogram=True) if window else None
    # Burn rates first: what is rolled up between the two is then in the longer window and not in the shorter alone.
    # And by a statement of their own: by one, each of many pieces would carry the histograms of all components, which
    # are asked for over the longest alone.
    of_milestones = {number for (_, kind, _), number in groups.items() if kind == "milestone"}
    milestones = {pk: group for pk, group in group_of_series.items() if group in of_milestones}
    by_window = dict(zip(burning, read_group_counts(milestones, list(burning.values())), strict=True))
    ranges = [*objectives.values(), *([chosen] if chosen else [])]
    totals = read_ranges(group_of_series if with_component_percentiles else milestones, ranges)
    if not with_component_percentiles:
        rest = {pk: group for pk, group in group_of_series.items() if group not in of_milestones}
        for in_one, counted in zip(totals, read_group_counts(rest, ranges), strict=True):
            in_one.update({number: Totals(counts=one, sum_us=None) for number, one in counted.items()})
    by_days = dict(zip(objectives, totals, strict=False))

    components: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for (feature_id, kind, name), number in groups.items():
        if kind == "component":
            components[feature_id].append((name, number))
    statuses: dict[int, dict[str, FeatureStatus]] = {}
    for feature in features:
        statuses[feature.pk] = {}
        for milestone in Milestone.values:
            budget = budgets.get((feature.pk, milestone))
            group = groups.get((feature.pk, "milestone", milestone))
            if only not in (None, milestone) or (only is None and budget is None and group is None):
                continue
            objective = objectives[budget.window_days if budget else DEFAULT_WINDOW_DAYS]
            in_objective = by_days[budget.window_days if budget else DEFAULT_WINDOW_DAYS]
            shown, in_range = (chosen, totals[-1]) if chosen else (objective, in_objective)
            counts = in_objective.get(group, NOTHING).counts if group is not None else Counts()
            of_range = in_range.get(group, NOTHING) if group is not None else NOTHING
            rates = _burn_rates(budget, group, by_window, burning) if budget else None
            spent = error_budget(counts.bad, counts.judged, budget.objective) if budget else None
            statuses[feature.pk][milestone] = FeatureStatus(
                feature=feature.slug,
                milestone=milestone,
                environment=environment,
                as_of=at,
                state=_milestone_state(budget, counts, spent, rates),
                latency_budget=budget,
                window_start=objective.start,
                window_end=objective.end,
                range_start=shown.start,
                range_end=shown.end,
                counts=counts,
                error_budget=spent,
                burn_rates=rates,
                percentiles_ms=of_range.percentiles_ms,
                mean_ms=of_range.mean_ms,
                slowest_trace_id=of_range.max_trace_id,
                components=_components(feature, milestone, budgets, components[feature.pk], in_range),
            )
    return statuses


def _kept_bounds(at: datetime, length: timedelta, now: datetime) -> WindowBounds | None:
    """The window of `length` up to the end of the minute containing `at`, by what is kept of it.

    Each bound is moved back to an hour or a day where nothing finer is kept around it. None where that would be
    longer than the window: no rollups tell what happened in it.
    """
    end = window_bounds(at, length).end
    end = _floored(end, finest_kept(end, now))
    step = finest_kept(end - length, now)
    return WindowBounds(_floored(end - length, step), end) if step <= length else None


def _objective_bounds(at: datetime, days: int, now: datetime) -> WindowBounds:
    bounds = _kept_bounds(at, timedelta(days=days), now)
    assert bounds is not None
    return WindowBounds(_floored(bounds.start, timedelta(hours=1)), bounds.end)


def _shown_bounds(at: datetime, window: str | timedelta, now: datetime) -> WindowBounds:
    length = WINDOWS[window] if isinstance(window, str) else window
    bounds = _kept_bounds(at, length, now)
    if bounds is not None and not isinstance(window, str):
        # A range has ends of its own: none of it is left out, and nothing before it is shown in its place.
        bounds = kept_range(*window_bounds(at, length), now)
    if bounds is None:
        raise Refusal(
            "window_not_kept",
            f"No rollups are kept that are fine enough for a window of {window} up to {at.isoformat()}. "
            "Ask for a longer window or a later instant.",
            fields={"window": ["Ask for a longer window or a later instant."]},
        )
    return bounds


_Groups = dict[tuple[int, str, str], int]


def _targets(
    features: list[Feature], environment: str, release: str | None
) -> tuple[_Groups, dict[int, int]]:
    """Groups of series by (feature, "component" or "milestone", name), and the group of each series.

    Declared components have a group also where they were never measured.
    """
    ids = [feature.pk for feature in features]
    groups: _Groups = {}
    for feature_id, name in Component.objects.filter(
        feature_id__in=ids, state=Component.State.DECLARED
    ).values_list("feature_id", "name"):
        groups[feature_id, "component", name] = len(groups)
    series = Series.objects.filter(feature_id__in=ids, environment=environment).order_by(
        "component__position", "component_id", "pk"
    )
    if release is not None:
        series = series.filter(release=release)
    group_of_series = {}
    for pk, feature_id, milestone, component in series.values_list(
        "pk", "feature_id", "milestone", "component__name"
    ):
        key = (feature_id, "component", component) if component else (feature_id, "milestone", str(milestone))
        group_of_series[pk] = groups.setdefault(key, len(groups))
    return groups, group_of_series


def _burn_rates(
    budget: BudgetInForce,
    group: int | None,
    by_window: dict[str, dict[int, Counts]],
    bounds: dict[str, Range],
) -> list[BurnRate]:
    rates = []
    for name, one in bounds.items():
        counts = by_window[name].get(group, Counts()) if group is not None else Counts()
        rates.append(
            BurnRate(
                name,
                one.start,
                one.end,
                counts.judged,
                counts.bad,
                burn_rate(counts.bad, counts.judged, budget.objective),
            )
        )
    return rates


def _milestone_state(
    budget: BudgetInForce | None, counts: Counts, spent: ErrorBudget | None, rates: list[BurnRate] | None
) -> State:
    if budget is None or spent is None or rates is None:
        # Without a promise there is none to break.
        return State.OK if counts.total else State.NO_DATA
    rate_of = {rate.window: rate.burn_rate or 0.0 for rate in rates}
    is_firing = any(
        min(rate_of.get(tier.long, 0.0), rate_of.get(tier.short, 0.0)) > tier.factor
        for tier in tiers_for(budget.objective, budget.window_days)
    )
    return milestone_state(spent.remaining_ratio, is_firing)


def _components(
    feature: Feature,
    milestone: str,
    budgets: dict[tuple[int, str], BudgetInForce],
    measured: Iterable[tuple[str, int]],
    totals: dict[int, Totals],
) -> list[ComponentStatus]:
    """Those allocated under the milestone, and those that are allocated under none."""
    here = budgets.get((feature.pk, milestone))
    allocated = {
        name: ms
        for one in Milestone.values
        if (feature.pk, one) in budgets
        for name, ms in budgets[feature.pk, one].allocations.items()
    }
    components = []
    for name, group in measured:
        is_here = here is not None and name in here.allocations
        if name in allocated and not is_here:
            continue
        found = totals.get(group, NOTHING)
        if not is_here and not found.counts.total:
            continue
        components.append(
            ComponentStatus(
                component=name,
                allocated_ms=here.allocations[name] if is_here and here else None,
                counts=found.counts,
                percentiles_ms=found.percentiles_ms,
                mean_ms=found.mean_ms,
                state=component_state(
                    found.counts.over,
                    found.counts.judged,
                    found.counts.total,
                    here.objective if here else None,
                    is_here,
                ),
            )
        )
    # As the budget lists them, then what nobody allocated.
    order = {name: position for position, name in enumerate(here.allocations)} if here else {}
    return sorted(components, key=lambda c: (order.get(c.component, len(order)), -(c.mean_ms or 0.0)))


# -- time series ------------------------------------------------------------------------------------


def _choose_step(start: datetime, end: datetime, step: int | None, now: datetime) -> timedelta:
    if end <= start:
        raise Refusal("invalid_range", "to must come after from.", fields={"to": ["Must come after from."]})
    if step is not None:
        if step not in STEPS:
            raise Refusal(
                "invalid_step",
                f"step must be 60, 3600 or 86400, got {step}.",
                fields={"step": ["60, 3600 or 86400."]},
            )
        return STEPS[step]
    for seconds, length in STEPS.items():
        first, last = _aligned_outwards(start, end, length)
        if _is_kept(seconds, start, now) and (last - first) / length <= MAX_POINTS:
            return length
    return STEPS[86400]


def _is_kept(step: int, start: datetime, now: datetime) -> bool:
    """Whether rollups of this step are kept since `start`: what has been dropped must not look like no data."""
    kept_days = {60: settings.MINUTE_RETENTION_DAYS, 3600: settings.HOUR_RETENTION_DAYS}
    return step not in kept_days or start >= now - timedelta(days=kept_days[step])


def finest_kept(at: datetime, now: datetime) -> timedelta:
    """The shortest step of which rollups are kept around an instant."""
    return next(length for seconds, length in STEPS.items() if _is_kept(seconds, at, now))


def _floored(at: datetime, step: timedelta) -> datetime:
    """The start of the whole step, counted from 1970, that holds an instant."""
    seconds = int(step.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, tz=UTC)


def _aligned_outwards(start: datetime, end: datetime, step: timedelta) -> tuple[datetime, datetime]:
    """The bounds of whole steps, counted from 1970, that hold [start, end)."""
    first, last = _floored(start, step), _floored(end, step)
    return first, last if last == end else last + step


def _limits_over_time(feature: Feature, kind: str, name: str, starts: list[datetime]) -> list[float | None]:
    """The limit in force at the beginning of each step."""
    history = limit_history(feature.pk, kind, name)
    limits = history.at(np.array([round(at.timestamp() * 1e6) for at in starts], dtype=np.int64))
    return [None if limit != limit else float(limit) for limit in limits.tolist()]
