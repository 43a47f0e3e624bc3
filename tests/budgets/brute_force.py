"""The numbers that roll-ups must arrive at, computed the slow and obvious way from a list of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from budgets.histogram import AtLeast, LatencyHistogram
from budgets.models import Feature, Milestone, Rollup, Series
from budgets.tiles import Counts

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
BEYOND_ALL_MS = 1e300  # where a timeout ranks; infinities cannot be interpolated


class Sample(NamedTuple):
    """One measurement of a component, or of a milestone."""

    name: str
    ended_us: int
    duration_ms: float
    status: str = "ok"
    trace_id: str | None = None
    release: str = ""

    @property
    def minute_us(self) -> int:
        return self.ended_us // MINUTE_US * MINUTE_US

    def item(self, feature: Feature) -> dict[str, Any]:
        """As it is posted."""
        started_us = self.ended_us - round(self.duration_ms * 1e3)
        return {
            "feature": feature.slug,
            "milestone" if self.name in Milestone.values else "component": self.name,
            "started_at": instant(started_us).isoformat(),
            "duration_ms": self.duration_ms,
            "status": self.status,
            "trace_id": self.trace_id,
            "release": self.release,
        }


Limit = Callable[[str, int], float | None]
"""The limit of a component or milestone in the minute that starts at so many microseconds."""


def instant(us: int) -> datetime:
    # Whole seconds first: the float of a microsecond timestamp is not exact.
    return datetime.fromtimestamp(us // 1_000_000, tz=UTC).replace(microsecond=us % 1_000_000)


def us(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, tz=UTC)) // timedelta(microseconds=1)


def counts_of(samples: Iterable[Sample], limit: Limit) -> Counts:
    total = errors = timeouts = judged = good = over = 0
    for sample in samples:
        limit_ms = limit(sample.name, sample.minute_us)
        is_over = sample.status == "timeout" or (
            sample.status == "ok" and limit_ms is not None and sample.duration_ms > limit_ms
        )
        total += 1
        errors += sample.status == "error"
        timeouts += sample.status == "timeout"
        judged += limit_ms is not None
        over += limit_ms is not None and is_over
        good += limit_ms is not None and sample.status == "ok" and not is_over
    return Counts(total=total, errors=errors, timeouts=timeouts, judged=judged, good=good, over=over)


def slowest(samples: Iterable[Sample]) -> tuple[float | None, UUID | None]:
    """The longest duration of ok and timeout, and its trace: the greatest where several are as long."""
    found = [(s.duration_ms, s.trace_id or "") for s in samples if s.status != "error"]
    if not found:
        return None, None
    duration_ms, trace_id = max(found)
    return duration_ms, UUID(trace_id) if trace_id else None


def row_of(samples: Iterable[Sample], limit: Limit) -> dict[str, Any]:
    """The columns of a rollup of these samples."""
    samples = list(samples)
    ok = [s.duration_ms for s in samples if s.status == "ok"]
    timeouts = [s.duration_ms for s in samples if s.status == "timeout"]
    histogram = LatencyHistogram.from_values(ok)
    counts = counts_of(samples, limit)
    max_ms, max_trace_id = slowest(samples)
    return {
        **{name: getattr(counts, name) for name in ("total", "errors", "timeouts", "judged", "good", "over")},
        "sum_us": sum(round(ms * 1e3) for ms in [*ok, *timeouts]),
        "max_ms": max_ms,
        "max_trace_id": max_trace_id,
        "max_ok_ms": max(ok, default=None),
        "min_timeout_ms": min(timeouts, default=None),
        "scale": 6,
        "zero_count": histogram.zero_count,
        "histogram": histogram.to_bytes(),
    }


Rows = dict[tuple[str, str, int], dict[str, Any]]


def rows_of(samples: Iterable[Sample], width_us: int, limit: Limit) -> Rows:
    """(component or milestone, release, start) -> the columns of its rollup."""
    grouped: dict[tuple[str, str, int], list[Sample]] = {}
    for sample in samples:
        start_us = sample.ended_us // width_us * width_us
        grouped.setdefault((sample.name, sample.release, start_us), []).append(sample)
    return {key: row_of(several, limit) for key, several in grouped.items()}


def stored_rows(feature: Feature, model: type[Rollup]) -> Rows:
    """What a table holds of a feature, in the shape of `rows_of`."""
    names = {
        pk: (component or milestone, release)
        for pk, component, milestone, release in Series.objects.filter(feature=feature).values_list(
            "pk", "component__name", "milestone", "release"
        )
    }
    columns = list(row_of([], lambda name, minute_us: None))
    return {
        (*names[row["series_id"]], us(row["start"])): {
            name: bytes(row[name]) if name == "histogram" else row[name] for name in columns
        }
        for row in model.objects.filter(series_id__in=names).values()
    }


def percentile_of(samples: Iterable[Sample], q: float) -> float | AtLeast | None:
    """numpy's percentile of ok and timeout together, where a timeout ranks above all that finished."""
    samples = list(samples)
    ok = [s.duration_ms for s in samples if s.status == "ok"]
    timeouts = [s.duration_ms for s in samples if s.status == "timeout"]
    if not ok and not timeouts:
        return None
    found = np.quantile([*ok, *[BEYOND_ALL_MS] * len(timeouts)], q, method="inverted_cdf")
    if found == BEYOND_ALL_MS:
        return AtLeast(max(min(timeouts), max(ok, default=0.0)))
    return float(found)


def is_close(found: float | AtLeast | None, expected: float | AtLeast | None) -> bool:
    """Whether a percentile is what numpy says, within the histogram's 1.1 %."""
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= 0.011 * expected
    return found == expected
