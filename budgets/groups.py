"""Rollups as columns: made from raw measurements, added up, read and written, without a loop over measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
from django.db import connection

from .columns import POSTGRES_EPOCH_US, fetch_arrays
from .histogram import MAX_SCALE, merge_groups, pack_groups
from .limits import limit_histories
from .models import Status

MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000
DAY_US = 86_400_000_000


@dataclass
class Groups:
    """Rollups as columns, sorted by (series, start); `start_us` in microseconds since 1970."""

    series_id: np.ndarray
    start_us: np.ndarray
    total: np.ndarray
    errors: np.ndarray
    timeouts: np.ndarray
    judged: np.ndarray
    good: np.ndarray
    over: np.ndarray
    sum_us: np.ndarray
    max_ms: np.ndarray  # NaN: neither ok nor timeout
    max_trace_id: np.ndarray  # V16, zero: none
    max_ok_ms: np.ndarray  # NaN: no ok
    min_timeout_ms: np.ndarray  # NaN: no timeout
    scale: np.ndarray
    zero_count: np.ndarray
    histogram: list[bytes]

    def __len__(self) -> int:
        return len(self.series_id)

    def take(self, keep: np.ndarray) -> Groups:
        """The rows at which `keep` is true."""
        histogram = [packed for packed, kept in zip(self.histogram, keep.tolist(), strict=True) if kept]
        return groups_of((getattr(self, name)[keep] for name in NAMES[:-1]), histogram)


# In the order of the arguments of Groups; the last is the histogram, a list and not an array.
NAMES = [column.name for column in fields(Groups)]
COUNTERS = ("total", "errors", "timeouts", "judged", "good", "over", "sum_us", "zero_count")


def groups_of(columns: Iterable[Any], histogram: list[bytes]) -> Groups:
    """Groups out of arrays in the order of NAMES, and their histograms."""
    return Groups(*[*columns, histogram])


# -- from raw ---------------------------------------------------------------------------------------


def read_raw(condition: str, parameters: list[Any], start: datetime, end: datetime) -> tuple[np.ndarray, ...]:
    """Columns of the raw measurements in [start, end): series, ended (µs since 1970), ms, status, trace."""
    with connection.cursor() as cursor:
        # A batch is a narrow range of its partition: the BRIN index skips the rest, but the planner, which knows
        # nothing yet of a partition that is being filled, would rather read all of it.
        cursor.execute("SET LOCAL enable_seqscan = off")
    arrays = fetch_arrays(
        f"""
        SELECT array_agg(series_id), array_agg(ended_at), array_agg(duration_ms), array_agg(status),
               array_agg(coalesce(trace_id, '00000000-0000-0000-0000-000000000000'::uuid))
        FROM budgets_measurement m
        WHERE ended_at >= %s AND ended_at < %s AND {condition}
        """,
        [start, end, *parameters],
    )
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = on")
    if arrays[0] is None:
        empty = np.empty(0)
        return (
            empty.astype(np.int32),
            empty.astype(np.int64),
            empty,
            empty.astype(np.int16),
            empty.astype("V16"),
        )
    series_id, ended, duration_ms, status, trace_id = arrays
    return series_id, ended + POSTGRES_EPOCH_US, duration_ms, status, trace_id


def group_measurements(
    series_id: np.ndarray,
    ended_us: np.ndarray,
    duration_ms: np.ndarray,
    status: np.ndarray,
    trace_id: np.ndarray,
) -> Groups:
    """Groups measurements by series and minute, judges them, and counts."""
    if not len(series_id):
        return no_groups()
    minute = ended_us // MINUTE_US
    base = int(minute.min())
    width = int(minute.max()) - base + 1
    key, group = np.unique(series_id.astype(np.int64) * width + (minute - base), return_inverse=True)
    size = len(key)
    group_series = (key // width).astype(np.int32)
    start_us = (key % width + base) * MINUTE_US

    is_ok, is_error, is_timeout = status == Status.OK, status == Status.ERROR, status == Status.TIMEOUT
    limit_ms = limits_of(group_series, start_us)
    has_limit = ~np.isnan(limit_ms)
    with np.errstate(invalid="ignore"):
        is_over = is_timeout | (is_ok & (duration_ms > limit_ms[group]))
    is_over &= has_limit[group]
    total = np.bincount(group, minlength=size)
    errors = np.bincount(group[is_error], minlength=size)
    timeouts = np.bincount(group[is_timeout], minlength=size)
    over = np.bincount(group[is_over], minlength=size)
    judged = np.where(has_limit, total, 0)

    counts = ~is_error
    max_ms, max_trace_id = _slowest(group[counts], duration_ms[counts], trace_id[counts], size)
    zero_count, histogram = pack_groups(group[is_ok], duration_ms[is_ok], size)
    sum_us = np.zeros(size, dtype=np.int64)
    np.add.at(sum_us, group[counts], np.rint(duration_ms[counts] * 1e3).astype(np.int64))
    return Groups(
        series_id=group_series,
        start_us=start_us,
        total=total,
        errors=errors,
        timeouts=timeouts,
        judged=judged,
        good=np.where(has_limit, judged - over - errors, 0),
        over=over,
        sum_us=sum_us,
        max_ms=max_ms,
        max_trace_id=max_trace_id,
        max_ok_ms=_extreme(np.fmax, group[is_ok], duration_ms[is_ok], size),
        min_timeout_ms=_extreme(np.fmin, group[is_timeout], duration_ms[is_timeout], size),
        scale=np.full(size, MAX_SCALE, dtype=np.int16),
        zero_count=zero_count,
        histogram=histogram,
    )


def limits_of(series_id: np.ndarray, start_us: np.ndarray) -> np.ndarray:
    """The limit in force in each minute, in ms; NaN where there was none. Rows of a series stand together."""
    histories = limit_histories(np.unique(series_id).tolist())
    limit_ms = np.full(len(series_id), np.nan)
    edges = np.flatnonzero(np.diff(series_id, prepend=-1))
    for first, last in zip(edges, [*edges[1:], len(series_id)], strict=True):
        history = histories.get(int(series_id[first]))
        if history is not None:
            limit_ms[first:last] = history.at(start_us[first:last])
    return limit_ms


def _slowest(
    group: np.ndarray, duration_ms: np.ndarray, trace_id: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The longest duration of each group and its trace; of several as long, the greatest trace id."""
    max_ms = _extreme(np.fmax, group, duration_ms, size)
    is_slowest = duration_ms == max_ms[group]
    slowest_trace = np.zeros(size, dtype="V16")
    candidates, traces = group[is_slowest], trace_id[is_slowest]
    # As text, so that they can be ordered; few rows are left here.
    order = np.lexsort((traces.view("S16") if len(traces) else traces, candidates))
    slowest_trace[candidates[order]] = traces[order]
    return max_ms, slowest_trace


def _extreme(choose: np.ufunc, group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    found = np.full(size, np.nan)
    choose.at(found, group, values)
    return found


# -- adding up --------------------------------------------------------------------------------------


def added_together(one: Groups, other: Groups) -> Groups:
    """Two sets of rollups as one: rows of the same series and start are added up."""
    if not len(one):
        return other
    series_id = np.concatenate([one.series_id, other.series_id])
    start_us = np.concatenate([one.start_us, other.start_us])
    return add_up(concatenated(one, other), series_id, start_us)


def concatenated(*several: Groups) -> Groups:
    columns = [np.concatenate([getattr(one, name) for one in several]) for name in NAMES[:-1]]
    return groups_of(columns, [packed for one in several for packed in one.histogram])


def add_up(rows: Groups, series_id: np.ndarray, start_us: np.ndarray) -> Groups:
    """Rollups added up to one for each (series, start) given with them; sorted by these."""
    order = np.lexsort((start_us, series_id))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(series_id[order]) != 0) | (np.diff(start_us[order]) != 0)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(is_first) - 1
    firsts = order[is_first]
    size = len(firsts)
    summed: dict[str, np.ndarray] = {}
    for name in COUNTERS:
        summed[name] = np.zeros(size, dtype=np.int64)
        np.add.at(summed[name], group, getattr(rows, name))
    max_ms, max_trace_id = _slowest(group, rows.max_ms, rows.max_trace_id, size)
    histogram, scale = merge_rollup_histograms(group, rows.scale, rows.histogram, size)
    return Groups(
        series_id=series_id[firsts],
        start_us=start_us[firsts],
        max_ms=max_ms,
        max_trace_id=max_trace_id,
        max_ok_ms=_extreme(np.fmax, group, rows.max_ok_ms, size),
        min_timeout_ms=_extreme(np.fmin, group, rows.min_timeout_ms, size),
        scale=scale,
        histogram=histogram,
        **summed,
    )


def merge_rollup_histograms(
    group: np.ndarray, scale: np.ndarray, histogram: list[bytes], size: int
) -> tuple[list[bytes], np.ndarray]:
    """Packed histograms merged group by group, each at the lowest scale in its group."""
    lowest = np.full(size, MAX_SCALE, dtype=np.int16)
    np.minimum.at(lowest, group, scale)
    return merge_groups(group, histogram, size, downscale_by=scale - lowest[group]), lowest


# -- reading and writing ----------------------------------------------------------------------------

_ARRAY_COLUMNS = (
    "series_id",
    "start",
    "total",
    "errors",
    "timeouts",
    "judged",
    "good",
    "over",
    "sum_us",
    "coalesce(max_ms, 'NaN')",
    "coalesce(max_trace_id, '00000000-0000-0000-0000-000000000000'::uuid)",
    "coalesce(max_ok_ms, 'NaN')",
    "coalesce(min_timeout_ms, 'NaN')",
    "scale",
    "zero_count",
)


def fetch_groups(query: str, parameters: list[Any]) -> Groups:
    """Rollup rows as columns. `{columns}` in the query stands for what is selected."""
    names = [f"c{n}" for n in range(len(_ARRAY_COLUMNS))]
    selected = ", ".join(f"{column} AS {name}" for column, name in zip(_ARRAY_COLUMNS, names, strict=True))
    inner = query.replace("{columns}", f"{selected}, histogram")
    arrays = fetch_arrays(
        f"SELECT {', '.join(f'array_agg({name})' for name in names)}, array_agg(length(histogram)),"
        f" string_agg(histogram, ''::bytea) FROM (SELECT * FROM ({inner}) AS r ORDER BY c0, c1) AS r",
        parameters,
    )
    if arrays[0] is None:
        return no_groups()
    *columns, lengths, joined = arrays
    ends = np.cumsum(lengths)
    joined = bytes(joined)
    histogram = [
        joined[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    ]
    columns[1] = columns[1] + POSTGRES_EPOCH_US
    return groups_of(columns, histogram)


def no_groups() -> Groups:
    empty = np.empty(0, dtype=np.int64)
    nothing = [np.empty(0), np.empty(0, "V16"), np.empty(0), np.empty(0)]
    return groups_of([*[empty] * 9, *nothing, empty, empty], [])


def upsert(table: str, groups: Groups) -> None:
    """Writes rollups over what was there, in (series, start) order."""
    if not len(groups):
        return
    names = ["start" if name == "start_us" else name for name in NAMES]
    updates = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
    with connection.wrap_database_errors:
        psycopg.Cursor(connection.connection).execute(
            f"""
            INSERT INTO {table} ({", ".join(names)})
            SELECT series_id, start, total, errors, timeouts, judged, good, over, sum_us,
                   nullif(max_ms, 'NaN'), nullif(max_trace_id, '00000000-0000-0000-0000-000000000000'::uuid),
                   nullif(max_ok_ms, 'NaN'), nullif(min_timeout_ms, 'NaN'), scale, zero_count, histogram
            FROM unnest(%s::int[], %s::timestamptz[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[],
                        %s::bigint[], %s::float8[], %s::uuid[], %s::float8[], %s::float8[], %s::smallint[], %s::int[],
                        %s::bytea[])
                 AS r ({", ".join(names)})
            ORDER BY series_id, start
            ON CONFLICT (series_id, start) DO UPDATE SET {updates}
            """,
            [
                groups.series_id.tolist(),
                as_instants(groups.start_us),
                *(
                    getattr(groups, name).tolist()
                    for name in ("total", "errors", "timeouts", "judged", "good", "over", "sum_us", "max_ms")
                ),
                [trace.tobytes().hex() for trace in groups.max_trace_id],
                groups.max_ok_ms.tolist(),
                groups.min_timeout_ms.tolist(),
                groups.scale.tolist(),
                groups.zero_count.tolist(),
                groups.histogram,
            ],
        )


def as_instant(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, tz=UTC)


def as_instants(us: np.ndarray) -> list[datetime]:
    return [as_instant(one) for one in us.tolist()]
