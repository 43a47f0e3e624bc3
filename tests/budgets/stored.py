"""What the database holds of a feature, as names and plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from budgets.models import Feature, Measurement, Span


@dataclass(frozen=True)
class Stored:
    """A measurement, or a span, which has no labels."""

    component: str | None
    milestone: str | None
    environment: str
    release: str
    ended_at: datetime
    duration_ms: float
    status: str
    trace_id: UUID | None
    span_id: str | None
    parent_span_id: str | None
    labels: dict[str, Any] | None = None


_STATUSES = ("ok", "error", "timeout")


def measurements(feature: Feature) -> list[Stored]:
    """By the end, then by the name of what was measured, then by the release."""
    return _read(Measurement.objects.filter(series__feature=feature).select_related("series__component"))


def spans(feature: Feature) -> list[Stored]:
    return _read(Span.objects.filter(series__feature=feature).select_related("series__component"))


def _read(rows: Any) -> list[Stored]:
    found = [
        Stored(
            component=row.series.component and row.series.component.name,
            milestone=row.series.milestone,
            environment=row.series.environment,
            release=row.series.release,
            ended_at=row.ended_at,
            duration_ms=row.duration_ms,
            status=_STATUSES[row.status],
            trace_id=row.trace_id,
            span_id=_hex(row.span_id),
            parent_span_id=_hex(row.parent_span_id),
            labels=getattr(row, "labels", None),
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.ended_at, one.component or one.milestone or "", one.release))


def _hex(number: int | None) -> str | None:
    return None if number is None else number.to_bytes(8, "big", signed=True).hex()
