"""The objectives in /metrics: how each milestone stands against its latency budget, in each environment.

Counters alone, in a number of statements that does not grow with the number of features.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Count
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from alerts.models import Incident, Severity
from budgets.burn_rates import BURN_RATE_WINDOWS, burn_rate, error_budget, objective_window, window_bounds
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Series
from budgets.tiles import Counts, Range, read_group_counts

_LABELS = ("feature", "environment", "milestone")
_Target = tuple[str, str, str]


def objectives(now: datetime) -> Iterable[Metric]:
    """Latency budgets, objectives, SLIs, error budgets, burn rates, and what was good and bad.

    Of every milestone that has a latency budget and was ever measured in an environment. Where nothing was judged there
    is no SLI, no error budget and no burn rate: a missing value, and never a 0 that would be one.
    """
    targets = _targets(now)
    numbers = {target: number for number, target in enumerate(targets)}
    group_of_series = {pk: numbers[target] for target, (_, ids) in targets.items() for pk in ids}
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    days = sorted({budget.window_days for budget, _ in targets.values()})
    ranges = {
        "month": Range(month, window_bounds(now, BURN_RATE_WINDOWS["5m"]).end),
        **{name: Range(*window_bounds(now, length)) for name, length in BURN_RATE_WINDOWS.items()},
        **{f"{n} days": Range(*objective_window(now, n)) for n in days},
    }
    counted = dict(
        zip(
            ranges, read_group_counts(group_of_series, list(ranges.values())) if targets else (), strict=False
        )
    )

    def counts(target: _Target, name: str) -> Counts:
        return counted[name].get(numbers[target], Counts())

    budget_s = _gauge("latency_budget_seconds", "The latency budget in force.")
    objective = _gauge("objective_ratio", "The share of requests that are to meet the latency budget.")
    sli = _gauge("sli_ratio", "Good of judged over the objective's window.")
    remaining = _gauge(
        "error_budget_remaining_ratio",
        "What is left of the error budget over the objective's window, below 0 where it is overspent.",
    )
    rate = _gauge(
        "burn_rate", "How fast the error budget is spent; 1 spends it exactly over its window.", "window"
    )
    good = _counter("good_requests", "Requests that met the latency budget.")
    bad = _counter("bad_requests", "Requests that missed the latency budget: too slow, timed out or failed.")
    for target, (budget, _) in targets.items():
        in_objective, in_month = counts(target, f"{budget.window_days} days"), counts(target, "month")
        budget_s.add_metric(target, budget.budget_ms / 1e3)
        objective.add_metric(target, float(budget.objective))
        good.add_metric(target, in_month.good)
        bad.add_metric(target, in_month.bad)
        if (ratio := in_objective.sli_ratio) is not None:
            sli.add_metric(target, ratio)
        left = error_budget(in_objective.bad, in_objective.judged, budget.objective).remaining_ratio
        if left is not None:
            remaining.add_metric(target, left)
        for name in BURN_RATE_WINDOWS:
            of_window = counts(target, name)
            burns = burn_rate(of_window.bad, of_window.judged, budget.objective)
            if burns is not None:
                rate.add_metric([*target, name], burns)
    return [budget_s, objective, sli, remaining, rate, good, bad, _open_incidents()]


def _targets(now: datetime) -> dict[_Target, tuple[BudgetInForce, list[int]]]:
    """The latency budget of each milestone in each environment, and its series."""
    series = Series.objects.filter(milestone__isnull=False, feature__archived_at=None).order_by(
        "feature__slug", "environment", "milestone"
    )
    rows = list(series.values_list("pk", "feature_id", "feature__slug", "environment", "milestone"))
    budgets = budgets_in_force({feature_id for _, feature_id, *_ in rows}, now)
    targets: dict[_Target, tuple[BudgetInForce, list[int]]] = {}
    for pk, feature_id, slug, environment, milestone in rows:
        budget = budgets.get((feature_id, str(milestone)))
        if budget is not None:
            targets.setdefault((slug, environment, str(milestone)), (budget, []))[1].append(pk)
    return targets


def _open_incidents() -> Metric:
    found = GaugeMetricFamily(
        "latency_dashboard_open_incidents", "Incidents that are not resolved.", labels=["severity"]
    )
    numbers = dict(Incident.objects.unresolved().order_by().values_list("severity").annotate(Count("pk")))
    for severity in Severity.values:
        found.add_metric([severity], numbers.get(severity, 0))
    return found


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"latency_dashboard_{name}", documentation, labels=[*_LABELS, *labels])


def _counter(name: str, documentation: str) -> CounterMetricFamily:
    return CounterMetricFamily(
        f"latency_dashboard_{name}",
        f"{documentation} Since the start of the month, UTC, at which it begins at 0 again.",
        labels=_LABELS,
    )
