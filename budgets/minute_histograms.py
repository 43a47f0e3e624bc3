"""The histograms of one target minute by minute, in arrays: what a replay of rules about percentiles reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import fetch_binary
from .histogram import PACKED
from .minute_counts import MinuteCounts
from .models import Feature, Series

_MINUTE = timedelta(minutes=1)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MinuteHistograms:
    """One row for each rollup: a minute of a release, and before `exact_from` an hour of one, which stands in its last
    minute, when it is whole.

    `minute` counts from the start of the counters, sorted. Row n has the buckets [offset[n], offset[n + 1]).
    `max_ok_ms` and `min_timeout_ms` are NaN where there are none.
    """

    minute: Integers
    scale: Integers
    offset: Integers
    zero_count: Integers
    measured: Integers
    timeouts: Integers
    max_ok_ms: Floats
    min_timeout_ms: Floats
    buckets: Integers
    counts: Integers


def minute_histograms(
    *,
    feature: Feature,
    environment: str,
    target: str,
    counts: MinuteCounts,
    with_minutes: bool = True,
    with_hours: bool = True,
    slower_than_ms: float = 0.0,
) -> MinuteHistograms:
    """Those of the minutes that the counters have, in two statements.

    Hours are for who asks for no shorter range: where minutes are not kept, or of all of it without minutes, which
    is sixty times as fast. `slower_than_ms`: rows of which no `ok` duration was slower are left out.
    """
    series_ids = Series.objects.ids_of(feature, target, environment=environment)
    end = counts.start + len(counts.counters["total"]) * _MINUTE
    exact_from = counts.exact_from if with_minutes else end
    rows: list[tuple[Any, ...]] = []
    if series_ids and with_hours:
        rows += _read(_HOURS, series_ids, counts.start, exact_from.replace(minute=0), slower_than_ms)
    if series_ids:
        rows += _read(_MINUTES, series_ids, exact_from, end, slower_than_ms)
    return _as_arrays(rows, counts.start)


_COLUMNS = "{minute}, scale, zero_count, total - errors, timeouts, max_ok_ms, min_timeout_ms, histogram"
_MINUTES = f"""
SELECT {_COLUMNS.format(minute="extract(epoch FROM start)::bigint")} FROM budgets_rollup_minute
WHERE series_id = ANY(%(series)s) AND start >= %(start)s AND start < %(end)s {{slower}}
ORDER BY 1
"""
# An hour whose minutes changed since is read from them, as everywhere (budgets.tiles).
_HOURS = f"""
SELECT * FROM (
    SELECT {_COLUMNS.format(minute="extract(epoch FROM h.start)::bigint + 59 * 60")} FROM budgets_rollup_hour h
    WHERE series_id = ANY(%(series)s) AND start >= %(start)s AND start < %(end)s {{slower}}
      AND NOT EXISTS (SELECT 1 FROM budgets_dirtyhour d WHERE d.series_id = h.series_id AND d.start = h.start)
    UNION ALL
    SELECT {_COLUMNS.format(minute="extract(epoch FROM d.start)::bigint + 59 * 60")}
    FROM budgets_dirtyhour d JOIN budgets_rollup_minute m
      ON m.series_id = d.series_id AND m.start >= d.start AND m.start < d.start + interval '1 hour'
    WHERE d.series_id = ANY(%(series)s) AND d.start >= %(start)s AND d.start < %(end)s
      AND m.start >= %(start)s AND m.start < %(end)s {{slower}}
) AS r ORDER BY 1
"""


def _read(
    query: str, series_ids: list[int], start: datetime, end: datetime, slower_than_ms: float
) -> list[tuple[Any, ...]]:
    if start >= end:
        return []
    slower = "AND max_ok_ms > %(slower)s" if slower_than_ms else ""
    return fetch_binary(
        query.replace("{slower}", slower),
        {"series": series_ids, "start": start, "end": end, "slower": slower_than_ms},
    )


def _as_arrays(rows: list[tuple[Any, ...]], start: datetime) -> MinuteHistograms:
    numbers = np.array([row[:5] for row in rows], dtype=np.int64).reshape(-1, 5)
    bounds = np.array([row[5:7] for row in rows], dtype=np.float64).reshape(-1, 2)
    packed = [bytes(row[7]) for row in rows]
    records = np.frombuffer(b"".join(packed), dtype=PACKED)
    sizes = np.array([len(one) for one in packed], dtype=np.int64) // PACKED.itemsize
    return MinuteHistograms(
        minute=(numbers[:, 0] - round(start.timestamp())) // 60,
        scale=numbers[:, 1],
        offset=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        zero_count=numbers[:, 2],
        measured=numbers[:, 3],
        timeouts=numbers[:, 4],
        max_ok_ms=bounds[:, 0],
        min_timeout_ms=bounds[:, 1],
        buckets=records["bucket"].astype(np.int64),
        counts=records["count"].astype(np.int64),
    )
