"""Which limit was in force when: the latency budget of a milestone or the allocation of a component.

A limit is constant within a minute, because versions take effect at minute boundaries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import numpy as np
from django.db import connection

from .models import Allocation, LatencyBudget, Milestone

ALWAYS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class BudgetInForce:
    """A version of a milestone's latency budget, as of some instant. Milliseconds are floats."""

    milestone: str
    budget_ms: float
    objective: Decimal
    window_days: int
    version: int
    effective_from: datetime
    allocations: dict[str, float]
    unallocated_ms: float
    note: str = ""


@dataclass
class LimitHistory:
    """The limits of one series over time, in ms; NaN where none was in force."""

    from_us: list[int] = field(default_factory=list)
    limit_ms: list[float] = field(default_factory=list)

    def at(self, instants_us: np.ndarray) -> np.ndarray:
        """The limit at each instant (microseconds since 1970), in ms."""
        if not self.from_us:
            return np.full(len(instants_us), np.nan)
        position = np.searchsorted(np.array(self.from_us, dtype=np.int64), instants_us, side="right") - 1
        limits = np.array(self.limit_ms)
        return np.where(position >= 0, limits[np.maximum(position, 0)], np.nan)


def limit_histories(series_ids: Collection[int]) -> dict[int, LimitHistory]:
    """The limit of each series over all time. A series without any is left out.

    A component may have stood in versions of both milestones; at an instant at which both would apply, the
    version that was saved first holds: what was judged is not rewritten by a milestone that came later.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.id, b.milestone, b.id,
                   CASE WHEN b.version = 1 THEN NULL ELSE (extract(epoch FROM b.effective_from) * 1000000)::bigint END,
                   CASE WHEN s.milestone IS NOT NULL THEN b.budget_ms ELSE a.allocated_ms END
            FROM budgets_series s
            JOIN budgets_latencybudget b
              ON b.feature_id = s.feature_id AND (s.milestone IS NULL OR b.milestone = s.milestone)
            LEFT JOIN budgets_allocation a ON a.latency_budget_id = b.id AND a.component_id = s.component_id
            WHERE s.id = ANY(%s)
            ORDER BY s.id, b.milestone, b.version
            """,
            [list(series_ids)],
        )
        rows = cursor.fetchall()
    timelines: dict[int, dict[str, list[tuple[int, int, float]]]] = {}
    for series_id, milestone, version_id, from_us, limit_ms in rows:
        steps = timelines.setdefault(series_id, {}).setdefault(milestone, [])
        limit = float("nan") if limit_ms is None else float(limit_ms)
        steps.append((ALWAYS if from_us is None else from_us, version_id, limit))
    return {series_id: _combine(list(by_milestone.values())) for series_id, by_milestone in timelines.items()}


def limit_history(feature_id: int, kind: str, name: str) -> LimitHistory:
    """The limit of a "milestone" or a "component" over all time, also of one that was never measured."""
    versions = LatencyBudget.objects.filter(feature_id=feature_id).order_by("milestone", "version")
    if kind == "milestone":
        versions = versions.filter(milestone=name)
    timelines: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    for version in versions.prefetch_related("allocations__component"):
        limit_ms = version.budget_ms
        if kind == "component":
            allocated = {a.component.name: a.allocated_ms for a in version.allocations.all()}
            limit_ms = allocated.get(name)
        from_us = ALWAYS if version.version == 1 else round(version.effective_from.timestamp() * 1e6)
        limit = float("nan") if limit_ms is None else float(limit_ms)
        timelines[version.milestone].append((from_us, version.pk, limit))
    return _combine(list(timelines.values()))


def _combine(timelines: list[list[tuple[int, int, float]]]) -> LimitHistory:
    history = LimitHistory()
    for at in sorted({step[0] for steps in timelines for step in steps}):
        in_force = [max(past) for steps in timelines if (past := [step for step in steps if step[0] <= at])]
        limits = [(version_id, limit) for _, version_id, limit in in_force if limit == limit]
        history.from_us.append(at)
        history.limit_ms.append(min(limits)[1] if limits else float("nan"))
    return history


def budgets_in_force(feature_ids: Iterable[int], at: datetime) -> dict[tuple[int, str], BudgetInForce]:
    """(feature, milestone) -> the version in force at an instant; retired and undeclared ones are left out."""
    versions = {
        (version.feature_id, version.milestone): version
        for version in LatencyBudget.objects.filter(feature_id__in=list(feature_ids)).in_force(at)
        if not version.is_retired
    }
    # Rows and not models: a sweep reads those of thousands of features every few seconds.
    allocations: dict[int, dict[str, Decimal]] = defaultdict(dict)
    for version_id, component, allocated_ms in (
        Allocation.objects.filter(latency_budget_id__in=[version.pk for version in versions.values()])
        .order_by("id")
        .values_list("latency_budget_id", "component__name", "allocated_ms")
    ):
        allocations[version_id][component] = allocated_ms
    in_force: dict[tuple[int, str], BudgetInForce] = {}
    for (feature_id, milestone), version in versions.items():
        assert version.budget_ms is not None
        assert version.objective is not None
        assert version.window_days is not None
        # The budget of first_token is the first block of complete's.
        first = versions.get((feature_id, Milestone.FIRST_TOKEN)) if milestone == Milestone.COMPLETE else None
        block = first.budget_ms if first is not None and first.budget_ms is not None else Decimal(0)
        in_force[feature_id, milestone] = BudgetInForce(
            milestone=milestone,
            budget_ms=float(version.budget_ms),
            objective=version.objective,
            window_days=version.window_days,
            version=version.version,
            effective_from=version.effective_from,
            allocations={name: float(allocated_ms) for name, allocated_ms in allocations[version.pk].items()},
            # A first_token that was declared later, and so for always, may not fit an older version's allocations.
            unallocated_ms=max(0.0, float(version.budget_ms - block - sum(allocations[version.pk].values()))),
            note=version.note,
        )
    return in_force
