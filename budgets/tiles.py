"""Reading any range of minutes from the fewest rollups: whole days, then whole hours, then minutes.

A day that is dirty is read from its hours, an hour that is dirty from its minutes (budgets.rollups), so the
sums are exact at every moment, also over the hour that still runs and where late data has just arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection

from .histogram import MAX_SCALE, AtLeast, LatencyHistogram, percentile

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_LEVELS = {timedelta(minutes=1): "minute", HOUR: "hour", DAY: "day"}
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Counts:
    """The exact counters of a range. Over and good, like judged, count only where a limit was in force."""

    total: int = 0
    errors: int = 0
    timeouts: int = 0
    judged: int = 0
    good: int = 0
    over: int = 0

    @property
    def bad(self) -> int:
        return self.judged - self.good

    @property
    def sli_ratio(self) -> float | None:
        return self.good / self.judged if self.judged else None

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.total + other.total,
            self.errors + other.errors,
            self.timeouts + other.timeouts,
            self.judged + other.judged,
            self.good + other.good,
            self.over + other.over,
        )


Percentile = float | AtLeast | None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In ms; `AtLeast` where one falls among timeouts, None where there is neither ok nor timeout."""

    p50: Percentile = None
    p95: Percentile = None
    p99: Percentile = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything that the rollups of a range add up to."""

    counts: Counts = Counts()
    sum_us: int | None = 0  # None: counters alone were read
    max_ms: float | None = None
    max_trace_id: UUID | None = None
    max_ok_ms: float | None = None
    min_timeout_ms: float | None = None
    histogram: LatencyHistogram | None = None

    @property
    def mean_ms(self) -> float | None:
        """Over ok and timeout, as percentiles are."""
        measured = self.counts.total - self.counts.errors
        return self.sum_us / 1e3 / measured if measured and self.sum_us is not None else None

    @property
    def at_least_ms(self) -> float | None:
        """What a percentile among the timeouts is known to reach."""
        known = [ms for ms in (self.max_ok_ms, self.min_timeout_ms) if ms is not None]
        return max(known) if self.counts.timeouts else None if not known else known[0]

    def quantile(self, q: float) -> Percentile:
        if self.histogram is None:
            return None
        found = percentile(self.histogram, self.counts.timeouts, q, self.at_least_ms)
        # A bucket is known to 1.1 %, the largest duration exactly: no percentile lies above it.
        return (
            min(found, self.max_ok_ms) if isinstance(found, float) and self.max_ok_ms is not None else found
        )

    @property
    def percentiles_ms(self) -> Percentiles:
        return Percentiles(**{name: self.quantile(q) for name, q in QUANTILES.items()})


@dataclass(frozen=True, slots=True)
class Range:
    """[start, end) in whole minutes. Histograms are read only where they are wanted."""

    start: datetime
    end: datetime
    with_histogram: bool = False


NOTHING = Totals()


def read_ranges(group_of_series: dict[int, int], ranges: Sequence[Range]) -> list[dict[int, Totals]]:
    """For each range the totals of each group of series that has any, in one statement.

    `group_of_series` maps series ids to the number of the group they count in. Ranges may overlap: what lies
    between two neighbouring bounds is read once and added to every range that holds it.
    """
    if not group_of_series or not ranges:
        return [{} for _ in ranges]
    cuts = sorted({cut for one in ranges for cut in (one.start, one.end)})
    pieces = [
        Range(start, end, any(r.with_histogram and r.start <= start and end <= r.end for r in ranges))
        for start, end in pairwise(cuts)
        if any(r.start <= start and end <= r.end for r in ranges)
    ]
    found = _read(group_of_series, _segments(pieces), "r.piece")
    totals: list[dict[int, Totals]] = []
    for one in ranges:
        inside = [n for n, piece in enumerate(pieces) if one.start <= piece.start and piece.end <= one.end]
        rows: dict[int, list[Any]] = {}
        for n in inside:
            for row in found.get(n, ()):
                rows.setdefault(row[1], []).append(row)
        totals.append({group: _added_up(several, one.with_histogram) for group, several in rows.items()})
    return totals


def read_counts(series_ids: Sequence[int], ranges: Sequence[Range]) -> list[dict[int, Counts]]:
    """For each range the counters of each series that has any, in one statement.

    What `read_ranges` reads, without histograms and many times faster: for thousands of series every few
    seconds. Histograms of the ranges are not read, whatever they say.
    """
    if not series_ids or not ranges:
        return [{} for _ in ranges]
    cuts = sorted({cut for one in ranges for cut in (one.start, one.end)})
    pieces = [
        Range(start, end)
        for start, end in pairwise(cuts)
        if any(r.start <= start and end <= r.end for r in ranges)
    ]
    rows = _read_counters(series_ids, _segments(pieces))
    place = {series_id: n for n, series_id in enumerate(series_ids)}
    counters = np.zeros((len(pieces), len(series_ids), 6), dtype=np.int64)
    if rows:
        table = np.array(rows, dtype=np.int64)
        where = np.array([place[series_id] for series_id in table[:, 1].tolist()])
        np.add.at(counters, (table[:, 0], where), table[:, 2:])
    found: list[dict[int, Counts]] = []
    for one in ranges:
        inside = [n for n, piece in enumerate(pieces) if one.start <= piece.start and piece.end <= one.end]
        sums = counters[inside].sum(axis=0)
        present = np.flatnonzero(sums[:, 0])
        found.append(
            {
                series_ids[n]: Counts(*values)
                for n, values in zip(present.tolist(), sums[present].tolist(), strict=True)
            }
        )
    return found


def read_group_counts(group_of_series: dict[int, int], ranges: Sequence[Range]) -> list[dict[int, Counts]]:
    """For each range the counters of each group of series that has any, in one statement; see `read_counts`."""
    found: list[dict[int, Counts]] = []
    for by_series in read_counts(list(group_of_series), ranges):
        by_group: dict[int, Counts] = {}
        for series_id, counts in by_series.items():
            before = by_group.get(group_of_series[series_id])
            by_group[group_of_series[series_id]] = counts if before is None else before + counts
        found.append(by_group)
    return found


def read_buckets(
    series_ids: Sequence[int], start: datetime, end: datetime, step: timedelta
) -> dict[datetime, Totals]:
    """The totals of every step in [start, end) that has any, with histograms; bounds are aligned to the step.

    `step` is a minute, an hour or a day.
    """
    level = _LEVELS[step]
    found = _read(
        dict.fromkeys(series_ids, 0),
        [(0, level, start, end, True)],
        f"extract(epoch FROM date_trunc('{level}', r.start))::bigint",
    )
    return {datetime.fromtimestamp(bucket, tz=UTC): _added_up(rows, True) for bucket, rows in found.items()}


def read_columns(series_ids: Sequence[int], edges: Sequence[datetime]) -> list[Totals]:
    """The totals of each stretch of time between two neighbouring edges, with histograms, in one statement.

    Edges ascend and are whole minutes.
    """
    if not series_ids:
        return [NOTHING] * (len(edges) - 1)
    # Whole hours and days are read where none is cut in two by an edge.
    inner = edges[1:-1]
    if all(_floor(edge, DAY) == edge for edge in inner):
        segments = _segments([Range(edges[0], edges[-1], True)])
    elif all(_floor(edge, HOUR) == edge for edge in inner):
        segments = _hours_and_minutes(Range(edges[0], edges[-1], True))
    else:
        segments = [(0, "minute", edges[0], edges[-1], True)]
    instants = ",".join(f'"{edge.astimezone(UTC).isoformat()}"' for edge in edges)
    found = _read(
        dict.fromkeys(series_ids, 0), segments, f"width_bucket(r.start, '{{{instants}}}'::timestamptz[])"
    )
    return [_added_up(found[n], True) if n in found else NOTHING for n in range(1, len(edges))]


def read_group_buckets(
    group_of_series: dict[int, int], start: datetime, end: datetime, step: timedelta
) -> dict[tuple[int, datetime], Totals]:
    """(group, start of the step) → its totals, with histograms; see `read_buckets`."""
    if not group_of_series:
        return {}
    level = _LEVELS[step]
    found = _read(
        group_of_series,
        [(0, level, start, end, True)],
        f"extract(epoch FROM date_trunc('{level}', r.start))::bigint",
    )
    by_group: dict[tuple[int, datetime], list[Any]] = {}
    for bucket, rows in found.items():
        for row in rows:
            by_group.setdefault((row[1], datetime.fromtimestamp(bucket, tz=UTC)), []).append(row)
    return {key: _added_up(rows, True) for key, rows in by_group.items()}


def read_group_hours(
    group_of_series: dict[int, int], start: datetime, end: datetime
) -> list[tuple[int, int, int, int]]:
    """(group, hour in seconds since 1970, judged, good) of each hour in [start, end) that has any.

    Bounds are whole hours.
    """
    return read_group_steps(group_of_series, start, end, HOUR)


def read_group_steps(
    group_of_series: dict[int, int], start: datetime, end: datetime, step: timedelta
) -> list[tuple[int, int, int, int]]:
    """(group, start of the step in seconds since 1970, judged, good) of each step in [start, end) that has any.

    `step` is a minute, an hour or a day; bounds are aligned to it.
    """
    level = _LEVELS[step]
    query = f"""
        SELECT grp, extract(epoch FROM date_trunc('{level}', r.start))::bigint, sum(judged)::bigint, sum(good)::bigint
        FROM r JOIN unnest(%(series)s::int[], %(groups)s::int[]) AS k (series_id, grp) USING (series_id)
        GROUP BY 1, 2
    """
    rows = _select(
        list(group_of_series),
        [(0, level, start, end, False)],
        ("series_id", "start", "judged", "good"),
        query,
        {"groups": list(group_of_series.values())},
    )
    return [(group, at, judged, good) for group, at, judged, good in rows]


def read_group_cells(
    group_of_series: dict[int, int], cuts: Sequence[datetime], step: timedelta
) -> list[tuple[int, int, int, int]]:
    """(group, n, judged, good) of each cell [cuts[n], cuts[n + 1]) that has any, in one statement.

    Cuts ascend and are whole hours, or whole days: `step` is what is read, an hour or a day.
    """
    if not group_of_series:
        return []
    level = {HOUR: "hour", DAY: "day"}[step]
    query = """
        SELECT grp, width_bucket(r.start, %(cuts)s::timestamptz[]) - 1, sum(judged)::bigint, sum(good)::bigint
        FROM r JOIN unnest(%(series)s::int[], %(groups)s::int[]) AS k (series_id, grp) USING (series_id)
        GROUP BY 1, 2
    """
    rows = _select(
        list(group_of_series),
        [(0, level, cuts[0], cuts[-1], False)],
        ("series_id", "start", "judged", "good"),
        query,
        {"groups": list(group_of_series.values()), "cuts": list(cuts)},
    )
    return [(group, cell, judged, good) for group, cell, judged, good in rows]


# piece, level, start, end, whether its histograms are wanted
_Segment = tuple[int, str, datetime, datetime, bool]


def _segments(pieces: Sequence[Range]) -> list[_Segment]:
    """Each piece cut into minutes, hours and days."""
    segments: list[_Segment] = []

    def add(number: int, level: str, start: datetime, end: datetime, with_histogram: bool) -> None:
        if start < end:
            segments.append((number, level, start, end, with_histogram))

    for number, piece in enumerate(pieces):
        inner = _ceil(piece.start, HOUR), _floor(piece.end, HOUR)
        if inner[0] >= inner[1]:
            add(number, "minute", piece.start, piece.end, piece.with_histogram)
            continue
        add(number, "minute", piece.start, inner[0], piece.with_histogram)
        add(number, "minute", inner[1], piece.end, piece.with_histogram)
        days = _ceil(inner[0], DAY), _floor(inner[1], DAY)
        if days[0] >= days[1]:
            add(number, "hour", *inner, piece.with_histogram)
            continue
        add(number, "hour", inner[0], days[0], piece.with_histogram)
        add(number, "hour", days[1], inner[1], piece.with_histogram)
        add(number, "day", *days, piece.with_histogram)
    return segments


def _hours_and_minutes(piece: Range) -> list[_Segment]:
    """A piece cut into whole hours and the minutes before and after them."""
    first, last = _ceil(piece.start, HOUR), _floor(piece.end, HOUR)
    if first >= last:
        return [(0, "minute", piece.start, piece.end, piece.with_histogram)]
    parts = [("minute", piece.start, first), ("hour", first, last), ("minute", last, piece.end)]
    return [(0, level, start, end, piece.with_histogram) for level, start, end in parts if start < end]


def _floor(at: datetime, unit: timedelta) -> datetime:
    at = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return at.replace(hour=0) if unit == DAY else at


def _ceil(at: datetime, unit: timedelta) -> datetime:
    floor = _floor(at, unit)
    return floor if floor == at else floor + unit


# What each level is read from. Bounds stand in the text, so that the planner sees how much each part reads:
# a scan of a few days' partitions for all series, the index for one.
_SOURCES = {
    "minute": """
SELECT {selected} FROM budgets_rollup_minute r
WHERE r.start >= {lower} AND r.start < {upper} AND r.series_id = ANY({series})
""",
    "hour": """
SELECT {selected} FROM budgets_rollup_hour r
WHERE r.start >= {lower} AND r.start < {upper} AND r.series_id = ANY({series})
  AND NOT EXISTS (SELECT 1 FROM dirty_hour h WHERE h.series_id = r.series_id AND h.start = r.start)
UNION ALL {dirty_hours}
""",
    "day": """
SELECT {selected} FROM budgets_rollup_day r
WHERE r.start >= {lower} AND r.start < {upper} AND r.series_id = ANY({series})
  AND NOT EXISTS (SELECT 1 FROM dirty_day d WHERE d.series_id = r.series_id AND d.start = r.start)
UNION ALL
SELECT {selected} FROM dirty_day d JOIN budgets_rollup_hour r
  ON r.series_id = d.series_id AND r.start >= d.start AND r.start < d.start + interval '1 day'
WHERE d.start >= {lower} AND d.start < {upper}
  AND NOT EXISTS (SELECT 1 FROM dirty_hour h WHERE h.series_id = r.series_id AND h.start = r.start)
UNION ALL {dirty_hours}
""",
}
_DIRTY_HOURS = """
SELECT {selected} FROM dirty_hour h JOIN budgets_rollup_minute r
  ON r.series_id = h.series_id AND r.start >= h.start AND r.start < h.start + interval '1 hour'
 AND r.start >= {lower} AND r.start < {upper}
WHERE h.start >= {lower} AND h.start < {upper}
"""


def _select(
    series_ids: Sequence[int],
    segments: Sequence[_Segment],
    columns: Sequence[str],
    query: str,
    parameters: Mapping[str, Any],
) -> list[tuple[Any, ...]]:
    """The rows of a query over `r`: of each segment its number, whether histograms are wanted, and these columns."""
    # Written once and repeated: to adapt thousands of ids again for each part takes longer than some parts do.
    series = f"'{{{','.join(map(str, series_ids))}}}'::int[]"
    parts = []
    for number, level, start, end, with_histogram in segments:
        source = _SOURCES[level].replace("{dirty_hours}", _DIRTY_HOURS)
        selected = [
            f"{number} AS piece",
            f"{with_histogram} AS with_histogram",
            *(f"r.{name}" for name in columns),
        ]
        bounds = [f"'{at.astimezone(UTC).isoformat()}'::timestamptz" for at in (start, end)]
        parts.append(
            source.format(selected=", ".join(selected), lower=bounds[0], upper=bounds[1], series=series)
        )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH dirty_hour AS MATERIALIZED (
                SELECT series_id, start FROM budgets_dirtyhour
                WHERE start >= %(first)s AND start < %(last)s AND series_id = ANY({series})
            ), dirty_day AS MATERIALIZED (
                SELECT series_id, start FROM budgets_dirtyday
                WHERE start >= %(first)s AND start < %(last)s AND series_id = ANY({series})
            ), r AS ({" UNION ALL ".join(parts)})
            {query}
            """,
            {
                "series": list(series_ids),
                "first": _floor(min(segment[2] for segment in segments), DAY),
                "last": max(segment[3] for segment in segments),
                **parameters,
            },
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


_COUNTERS = ("total", "errors", "timeouts", "judged", "good", "over")
_OF_HISTOGRAMS = (
    "start",
    "sum_us",
    "max_ms",
    "max_trace_id",
    "max_ok_ms",
    "min_timeout_ms",
    "scale",
    "zero_count",
)
_SLOWEST = "(array_agg(max_trace_id ORDER BY max_ms DESC NULLS LAST, max_trace_id DESC NULLS LAST))[1]"


def _read(group_of_series: dict[int, int], segments: list[_Segment], piece: str) -> dict[int, list[Any]]:
    """One row for each (piece, group, scale); `piece` is what rows are told apart by."""
    wants_histograms = any(segment[4] for segment in segments)
    # Only who wants a histogram wants the exemplar, and sorting for it is not free.
    query = f"""
        SELECT {piece} AS piece, grp, scale, {", ".join(f"sum({name})" for name in _COUNTERS)}, sum(sum_us), max(max_ms),
               {_SLOWEST if wants_histograms else "NULL"}, max(max_ok_ms), min(min_timeout_ms), sum(zero_count),
               string_agg(CASE WHEN with_histogram THEN histogram END, ''::bytea)
        FROM r JOIN unnest(%(series)s::int[], %(groups)s::int[]) AS k (series_id, grp) USING (series_id)
        GROUP BY 1, grp, scale
    """
    rows = _select(
        list(group_of_series),
        segments,
        ("series_id", *_COUNTERS, *_OF_HISTOGRAMS, "histogram"),
        query,
        {"groups": list(group_of_series.values())},
    )
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return found


def _read_counters(series_ids: Sequence[int], segments: Sequence[_Segment]) -> list[tuple[Any, ...]]:
    """(piece, series, total, errors, timeouts, judged, good, over), one row a piece and series."""
    sums = ", ".join(f"sum({name})" for name in _COUNTERS)
    query = f"SELECT piece, series_id, {sums} FROM r GROUP BY piece, series_id"
    return _select(series_ids, segments, ("series_id", *_COUNTERS), query, {})


def _added_up(rows: list[Any], with_histogram: bool) -> Totals:
    """Rows of `_read`, which may differ in scale, as one."""
    slowest = max(
        rows, key=lambda row: (row[10] is not None, row[10] or 0.0, row[11] is not None, str(row[11]))
    )
    histogram = None
    if with_histogram:
        by_scale: dict[int, tuple[int, list[bytes]]] = {}
        for row in rows:
            zero_count, packed = by_scale.setdefault(row[2], (0, []))
            if row[15] is not None:
                packed.append(bytes(row[15]))
            by_scale[row[2]] = (zero_count + int(row[14]), packed)
        parts = [
            LatencyHistogram.from_bytes(scale, zero_count, b"".join(packed))
            for scale, (zero_count, packed) in by_scale.items()
        ]
        histogram = parts[0].merge(*parts[1:]) if parts else LatencyHistogram.from_bytes(MAX_SCALE, 0, b"")
    sums = (
        np.array([[int(value) for value in row[3:10]] for row in rows], dtype=np.int64).sum(axis=0).tolist()
    )
    return Totals(
        counts=Counts(*sums[:6]),
        sum_us=sums[6],
        max_ms=slowest[10],
        max_trace_id=slowest[11],
        max_ok_ms=max((row[12] for row in rows if row[12] is not None), default=None),
        min_timeout_ms=min((row[13] for row in rows if row[13] is not None), default=None),
        histogram=histogram,
    )
