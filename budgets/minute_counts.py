"""The counters of one target minute by minute: what a replay of rules reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
from django.conf import settings
from django.db import connection
from numpy.typing import NDArray

from .models import Feature, Series
from .partitions import oldest_kept_day

COUNTERS = ("judged", "good", "over", "total", "errors", "timeouts", "sum_us")
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_MINUTES_PER_HOUR = 60


@dataclass(frozen=True)
class MinuteCounts:
    """`counters` by name, int64 arrays of consecutive minutes from `start` on.

    Before `exact_from` only hours are kept: each is spread evenly over its minutes, to whole numbers that add up
    to the hour's. `measured_from` is the first minute, or hour, in which anything was measured; None: nothing was.
    """

    start: datetime
    exact_from: datetime
    measured_from: datetime | None
    counters: Mapping[str, NDArray[np.int64]]


def minute_counts(
    *, feature: Feature, environment: str, target: str, start: datetime, end: datetime, now: datetime
) -> MinuteCounts:
    """Of "milestone:first_token" or "component:<name>" over [start, end), in two statements.

    Bounds are aware; the start is moved back to its hour, the end on to its minute.
    """
    start = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    length = -((start - end) // _MINUTE)
    kept_day = oldest_kept_day(now, settings.MINUTE_RETENTION_DAYS)
    exact_from = min(max(start, datetime.combine(kept_day, time(), tzinfo=UTC)), start + length * _MINUTE)
    series_ids = Series.objects.ids_of(feature, target, environment=environment)
    table = np.zeros((len(COUNTERS), length), dtype=np.int64)
    starts: list[int] = []
    if series_ids:
        hours = _read(_HOURS, series_ids, start, exact_from)
        minutes = _read(_MINUTES, series_ids, exact_from, start + length * _MINUTE)
        first = round(start.timestamp())
        if len(hours):
            # The n-th minute of an hour has what the first n + 1 are due, less what the first n are.
            shares = np.arange(_MINUTES_PER_HOUR + 1)
            due = hours[:, 1:, None] * shares // _MINUTES_PER_HOUR
            at = ((hours[:, 0] - first) // 60)[:, None] + np.arange(_MINUTES_PER_HOUR)
            table[:, at] = np.moveaxis(np.diff(due, axis=2), 1, 0)
        if len(minutes):
            table[:, (minutes[:, 0] - first) // 60] = minutes[:, 1:].T
        starts = [int(found[:, 0].min()) for found in (hours, minutes) if len(found)]
    return MinuteCounts(
        start=start,
        exact_from=exact_from,
        measured_from=datetime.fromtimestamp(min(starts), tz=UTC) if starts else None,
        counters=dict(zip(COUNTERS, table, strict=True)),
    )


_MINUTES = """
SELECT extract(epoch FROM start)::bigint, {sums} FROM budgets_rollup_minute
WHERE series_id = ANY(%(series)s) AND start >= %(start)s AND start < %(end)s GROUP BY start
"""
# An hour whose minutes changed since is read from them: they are kept until it is derived.
_HOURS = """
SELECT extract(epoch FROM date_trunc('hour', start, 'UTC'))::bigint, {sums} FROM (
    SELECT start, {names} FROM budgets_rollup_hour h
    WHERE series_id = ANY(%(series)s) AND start >= %(start)s AND start < %(end)s
      AND NOT EXISTS (SELECT 1 FROM budgets_dirtyhour d WHERE d.series_id = h.series_id AND d.start = h.start)
    UNION ALL
    SELECT m.start, {names} FROM budgets_dirtyhour d JOIN budgets_rollup_minute m
      ON m.series_id = d.series_id AND m.start >= d.start AND m.start < d.start + interval '1 hour'
    WHERE d.series_id = ANY(%(series)s) AND d.start >= %(start)s AND d.start < %(end)s
      AND m.start >= %(start)s AND m.start < %(end)s
) AS r GROUP BY 1
"""


def _read(query: str, series_ids: list[int], start: datetime, end: datetime) -> NDArray[np.int64]:
    """(rows, 1 + counters): the start in seconds since 1970, then what COUNTERS names."""
    with connection.cursor() as cursor:
        cursor.execute(
            query.format(
                sums=", ".join(f"sum({name})::bigint" for name in COUNTERS), names=", ".join(COUNTERS)
            ),
            {"series": series_ids, "start": start, "end": end},
        )
        return np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 1 + len(COUNTERS))
