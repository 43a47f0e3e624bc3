"""What the requests near a milestone's p99 waited for, on average: parts that add up, as percentiles do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Final

from django.conf import settings

from .histogram import MAX_SCALE, ZERO_BUCKET, AtLeast, bucket_indexes
from .models import Feature, Series
from .partitions import oldest_kept_day
from .status import kept_range
from .tiles import NOTHING, Range, Totals, read_ranges
from .traced_requests import Between, read_requests

MIN_REQUESTS: Final = 30
"""Of fewer, the mean of a component is mostly chance."""
RANKS: Final = ((0.98, 0.995), (0.97, 1.0), (0.90, 1.0))
"""What is near the p99: the closest of these that holds MIN_REQUESTS, and where none does, the last."""


class Missing(StrEnum):
    """Why there is nothing to tell of a range."""

    NOTHING_MEASURED = "nothing_measured"
    NOT_KEPT = "not_kept"
    """Raw measurements of it are past their retention."""
    NO_TRACES = "no_traces"
    """Its requests carry no trace ids, or nothing was measured under theirs."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Which requests are near the p99: from one rank (as a ratio) to another, by rollups `count` of them.

    They took over `over_ms` and up to `up_to_ms`, bounds of histogram buckets; None where they lie among timeouts.
    """

    from_rank: float
    to_rank: float
    over_ms: float | None
    up_to_ms: float | None
    with_timeouts: bool
    count: int


@dataclass(frozen=True, slots=True)
class TailPath:
    """The mean of what each component took of the requests near the p99 that ended in [start, end).

    `parts_ms` and `in_none_ms` add up to `mean_ms`. `is_shortened`: older requests of the range that was asked for are not
    kept. `is_sampled`: of `tail.count` no more than `requests` were looked at, because there are too many to read.
    """

    start: datetime
    end: datetime
    is_shortened: bool
    missing: Missing | None = None
    tail: Tail | None = None
    requests: int = 0
    timeouts: int = 0
    is_sampled: bool = False
    mean_ms: float = 0.0
    parts_ms: tuple[tuple[str, float], ...] = ()
    in_none_ms: float = 0.0

    @property
    def is_few(self) -> bool:
        return self.requests < MIN_REQUESTS


def get_tail_path(
    feature: Feature, *, milestone: str, environment: str, start: datetime, end: datetime, now: datetime
) -> TailPath:
    """The path of the requests near the p99 of [start, end), as far as raw measurements of it are kept."""
    kept_from = datetime.combine(oldest_kept_day(now, settings.RAW_RETENTION_DAYS), time.min, tzinfo=UTC)
    asked = kept_range(start, end, now)
    bounds = kept_range(max(asked.start, kept_from), asked.end, now)
    is_shortened = bounds.start > asked.start
    nothing = TailPath(*bounds, is_shortened=is_shortened)
    if bounds.start >= bounds.end:
        return replace(nothing, missing=Missing.NOT_KEPT)
    series = Series.objects.ids_of(feature, f"milestone:{milestone}", environment=environment)
    [found] = read_ranges(dict.fromkeys(series, 0), [Range(*bounds, with_histogram=True)])
    tail = near_p99(found.get(0, NOTHING))
    if tail is None:
        # Of what was measured before, nothing is kept but its rollups.
        missing = Missing.NOT_KEPT if is_shortened else Missing.NOTHING_MEASURED
        return replace(nothing, missing=missing)
    traced = read_requests(
        feature=feature,
        milestone=milestone,
        environment=environment,
        start=bounds.start,
        end=bounds.end,
        between=Between(tail.over_ms, tail.up_to_ms, tail.with_timeouts),
    )
    rows = traced.with_components
    requests = traced.requests
    if not rows.any():
        return replace(nothing, missing=Missing.NO_TRACES)
    mean_ms = float(requests.duration_ms[rows].mean())
    parts_ms = requests.part_ms[rows].mean(axis=0).tolist()
    return TailPath(
        *bounds,
        is_shortened=is_shortened,
        tail=tail,
        requests=int(rows.sum()),
        timeouts=int(requests.is_timeout[rows].sum()),
        is_sampled=traced.is_sampled,
        mean_ms=mean_ms,
        parts_ms=tuple((name, ms) for name, ms in zip(requests.components, parts_ms, strict=True) if ms > 0),
        in_none_ms=max(0.0, mean_ms - sum(parts_ms)),
    )


def near_p99(totals: Totals) -> Tail | None:
    """Which requests are near the p99 of what these rollups count; None where there are none.

    Bounds are those of the histogram's buckets, so that how many lie between them is known.
    """
    histogram, timeouts = totals.histogram, totals.counts.timeouts
    measured = totals.counts.total - totals.counts.errors
    if histogram is None or measured <= 0:
        return None
    low, top = next((one for one in RANKS if (one[1] - one[0]) * measured >= MIN_REQUESTS), RANKS[-1])
    first, last = totals.quantile(low), totals.quantile(top)
    if first is None or isinstance(first, AtLeast):
        return Tail(low, 1.0, None, None, with_timeouts=True, count=timeouts)
    bucket = int(bucket_indexes(first)[0])
    over_ms = -1.0 if bucket == ZERO_BUCKET else _bound(bucket)
    # What timed out is beyond all durations: it is near where durations do not reach up to the upper rank.
    with_timeouts = isinstance(last, AtLeast)
    up_to_ms = (
        None
        if top == 1.0 or last is None or isinstance(last, AtLeast)
        else _bound(int(bucket_indexes(last)[0]) + 1)
    )
    above = histogram.total if over_ms < 0 else histogram.count_above(over_ms)
    if up_to_ms is not None:
        above -= histogram.count_above(up_to_ms)
    return Tail(
        low,
        1.0 if up_to_ms is None else top,
        over_ms,
        up_to_ms,
        with_timeouts=with_timeouts,
        count=round(above) + (timeouts if with_timeouts else 0),
    )


def _bound(bucket: int) -> float:
    """What a bucket of the finest scale begins above."""
    return float(2.0 ** (max(bucket, -(2**15)) / 2**MAX_SCALE))
