"""What a report reads, written as rows: rollups by the hour, and incidents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from alerts.models import Incident
from budgets.models import Component, DayRollup, DirtyDay, Feature, HourRollup, Series


def utc(text: str) -> datetime:
    """2026-11-16 08:00 → that instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def series_of(feature: Feature, environment: str = "production", **target: Any) -> Series:
    if "component" in target:
        target["component"] = Component.objects.get(feature=feature, name=target["component"])
    found, _ = Series.objects.get_or_create(
        feature=feature,
        environment=environment,
        release="",
        defaults={"last_seen_on": utc("2026-11-01").date()},
        **target,
    )
    return found


def rolled_up(
    feature: Feature,
    counts: Mapping[datetime, tuple[int, int]],
    *,
    model: type[HourRollup] | type[DayRollup] = HourRollup,
    environment: str = "production",
    **target: Any,
) -> None:
    """Hour (or day) → (judged, good) of a milestone, "first_token" unless another or a component is named; what is not
    good was over its limit."""
    series = series_of(feature, environment, **(target or {"milestone": "first_token"}))
    model.objects.bulk_create(
        model(
            series_id=series.pk,
            start=start,
            total=judged,
            judged=judged,
            good=good,
            over=judged - good,
            errors=0,
            timeouts=0,
            sum_us=0,
            scale=6,
            zero_count=0,
            histogram=b"",
        )
        for start, (judged, good) in counts.items()
    )
    if model is HourRollup:  # no day was derived from them yet
        days = {start.replace(hour=0) for start in counts}
        DirtyDay.objects.bulk_create(
            [DirtyDay(series_id=series.pk, start=day) for day in days], ignore_conflicts=True
        )


def incident(feature: Feature, opened_at: datetime, lasting: timedelta | None, **overrides: Any) -> Incident:
    """An incident of first_token that was open for so long; None is one that still is."""
    values: dict[str, Any] = {
        "environment": "production",
        "milestone": "first_token",
        "severity": "page",
        "rule": "burn_rate first_token",
        "summary": "burns",
        "opened_at": opened_at,
    }
    if lasting is not None:
        values |= {"state": "resolved", "resolved_at": opened_at + lasting, "resolved_reason": "recovered"}
    return Incident.objects.create(feature=feature, **{**values, **overrides})
