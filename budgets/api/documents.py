"""What the API answers, as JSON documents."""

from __future__ import annotations

from typing import Any

from budgets.documents import as_number
from budgets.features import instant
from budgets.histogram import AtLeast
from budgets.status import FeatureStatus, TimeSeries
from budgets.tiles import Percentile, Percentiles


def status_document(status: FeatureStatus) -> dict[str, Any]:
    """The status of a milestone."""
    budget, spent = status.latency_budget, status.error_budget
    return {
        "feature": status.feature,
        "milestone": status.milestone,
        "environment": status.environment,
        "as_of": instant(status.as_of),
        "state": status.state,
        "latency_budget": budget
        and {
            "budget_ms": as_number(budget.budget_ms),
            "objective": float(budget.objective),
            "window_days": budget.window_days,
            "version": budget.version,
            "effective_from": instant(budget.effective_from),
            "unallocated_ms": as_number(budget.unallocated_ms),
        },
        "window": {"from": instant(status.window_start), "to": instant(status.window_end)},
        "total": status.counts.total,
        "judged": status.counts.judged,
        "good": status.counts.good,
        "bad": status.counts.bad,
        "errors": status.counts.errors,
        "timeouts": status.counts.timeouts,
        "sli_ratio": status.counts.sli_ratio,
        "error_budget": spent
        and {
            "allowed_bad": spent.allowed_bad,
            "consumed_ratio": spent.consumed_ratio,
            "remaining_ratio": spent.remaining_ratio,
        },
        "burn_rates": None
        if status.burn_rates is None
        else [
            {
                "window": rate.window,
                "from": instant(rate.start),
                "to": instant(rate.end),
                "total": rate.total,
                "bad": rate.bad,
                "burn_rate": rate.burn_rate,
            }
            for rate in status.burn_rates
        ],
        "range": {"from": instant(status.range_start), "to": instant(status.range_end)},
        "percentiles_ms": percentiles_document(status.percentiles_ms),
        "components": [
            {
                "component": component.component,
                "allocated_ms": as_number(component.allocated_ms),
                "total": component.counts.total,
                "judged": component.counts.judged,
                "over": component.counts.over,
                "errors": component.counts.errors,
                "timeouts": component.counts.timeouts,
                "percentiles_ms": percentiles_document(component.percentiles_ms),
                "state": component.state,
            }
            for component in status.components
        ],
    }


def timeseries_document(series: TimeSeries) -> dict[str, Any]:
    """A time series as columns."""
    return {
        "target": series.target,
        "step": int(series.step.total_seconds()),
        "start": [instant(at) for at in series.start],
        "total": series.total,
        "good": series.good,
        "over": series.over,
        "errors": series.errors,
        "timeouts": series.timeouts,
        "limit_ms": [as_number(limit) for limit in series.limit_ms],
        "p50": [percentile_document(value) for value in series.p50],
        "p95": [percentile_document(value) for value in series.p95],
        "p99": [percentile_document(value) for value in series.p99],
    }


def percentiles_document(percentiles: Percentiles) -> dict[str, Any]:
    return {name: percentile_document(getattr(percentiles, name)) for name in ("p50", "p95", "p99")}


def percentile_document(value: Percentile) -> float | dict[str, float] | None:
    """A number of ms; `{"at_least": ms}` where it falls among timeouts; null without data."""
    return {"at_least": value.ms} if isinstance(value, AtLeast) else value
