"""The slowest requests of a range, and what slow requests have in common, out of raw measurements.

A request stands here for a milestone that it reached, or for the time that one of its components took: `target` is
"milestone:first_token" or "component:tools". Both answers cover only what is kept of single requests; how much is read
is bounded, whatever the traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from .commonalities import Commonality, Value, commonalities
from .limits import ALWAYS, LimitHistory, limit_histories
from .models import Feature, Series, Status
from .partitions import oldest_kept_day
from .tiles import Range, read_counts
from .traced_requests import MAX_REQUESTS_OF_TRACE, NO_ID, Roots, Slices, parts_of, ranges_of, read_calls

MAX_REQUESTS: Final = 200_000
"""That are compared; of more, a sample by a hash of their trace ids."""
MAX_ROWS: Final = 1_200_000
"""That are read for it, of all features, because those of one lie among the others'; of more, slices of time."""
MAX_VALUES: Final = 500
_SLICES: Final = 24
_GOLDEN: Final = 0.6180339887498949
_ROW_BYTES: Final = 116  # with labels of two values
_HASHES: Final = 65_536
_AROUND: Final = timedelta(minutes=2)
_AROUND_WHOLE: Final = timedelta(hours=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)


def kept_since(now: datetime) -> datetime:
    """When the oldest single requests that are kept ended, at least."""
    return datetime.combine(oldest_kept_day(now, settings.RAW_RETENTION_DAYS), time.min, tzinfo=UTC)


# -- the slowest ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """`waited_for` is the component on whose critical path most of it was, None where no component was measured under its
    trace id; `limit_ms` the latency budget in force, None where there was none. `trace_id` is empty for none."""

    trace_id: str
    ended_at: datetime
    duration_ms: float
    status: Status
    limit_ms: float | None
    release: str
    waited_for: str | None
    waited_ratio: float | None


@dataclass(frozen=True)
class SlowestRequests:
    """The slowest that ended in [start, end), of what is kept."""

    requests: tuple[SlowRequest, ...]
    start: datetime
    end: datetime


def slowest_requests(
    feature: Feature,
    *,
    target: str,
    environment: str,
    start: datetime,
    end: datetime,
    now: datetime,
    count: int = 10,
) -> SlowestRequests:
    """The slowest requests of a target that ended in [start, end), errors left out, exactly.

    Rollups know the maximum of each hour and each minute: the slowest n requests lie in the n slowest minutes, and these
    in the n slowest hours. Of raw measurements no others are read.
    """
    start = max(start, kept_since(now))
    series_ids = Series.objects.ids_of(feature, target, environment=environment)
    minutes = _slowest_minutes(series_ids, start, end, count) if series_ids and start < end else []
    if not minutes:
        return SlowestRequests((), start, end)
    kind = target.partition(":")[0]
    series = Series.objects.filter(feature=feature, environment=environment, component__isnull=False)
    components = dict(series.values_list("pk", "component__name"))
    with transaction.atomic(), connection.cursor() as cursor:
        # A minute is a narrow range of its partition, as in budgets.groups.read_raw.
        cursor.execute("SET LOCAL enable_seqscan = off")
        roots, series_of_rows = _read_slowest(series_ids, minutes, start, end, count)
        longest = timedelta(microseconds=int(roots.duration_us.max(initial=0)))
        slices = Slices(
            [(at, at + timedelta(microseconds=1)) for at in sorted(_instants(roots.ended_us))],
            before=longest,
            after=longest,
            is_whole=False,
        )
        traced = np.flatnonzero(roots.trace_id.view(np.uint64).reshape(-1, 2).any(axis=1))
        # What a component waited for is itself.
        asked = list(components) if kind == "milestone" else []
        calls = read_calls(roots.take(traced), asked, slices)
        cursor.execute("SET LOCAL enable_seqscan = on")
    names = sorted(set(components.values()))
    part_us = np.zeros((len(roots.ended_us), len(names)), dtype=np.int64)
    part_us[traced], _ = parts_of(roots.take(traced), calls, components, names)
    releases = dict(Series.objects.filter(pk__in=series_of_rows.tolist()).values_list("pk", "release"))
    found = []
    for row, instant in enumerate(_instants(roots.ended_us)):
        most = int(part_us[row].argmax()) if names else 0
        waited_us = int(part_us[row, most]) if names else 0
        duration_us = int(roots.duration_us[row])
        limit_ms = float(roots.limit_ms[row])
        trace_id = roots.trace_id[row].tobytes().hex()
        found.append(
            SlowRequest(
                trace_id=trace_id if trace_id.strip("0") else "",
                ended_at=instant,
                duration_ms=duration_us / 1e3,
                status=Status.TIMEOUT if roots.is_timeout[row] else Status.OK,
                limit_ms=None if np.isnan(limit_ms) else limit_ms,
                release=releases[int(series_of_rows[row])],
                waited_for=names[most] if waited_us else None,
                waited_ratio=waited_us / duration_us if waited_us else None,
            )
        )
    return SlowestRequests(tuple(found), start, end)


def _slowest_minutes(series_ids: list[int], start: datetime, end: datetime, count: int) -> list[datetime]:
    """The minutes in which the slowest lie. Hours at the edges of the range, and those that changed since they were
    derived, are looked into whatever their maximum."""
    first, last = _hour_of(start), _hour_of(end)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH hours AS (
                (SELECT h.series_id, h.start FROM budgets_rollup_hour h
                 WHERE h.series_id = ANY(%(series)s) AND h.start > %(first)s AND h.start < %(last)s
                 ORDER BY h.max_ms DESC NULLS LAST, h.start, h.series_id LIMIT %(count)s)
                UNION
                SELECT d.series_id, d.start FROM budgets_dirtyhour d
                WHERE d.series_id = ANY(%(series)s) AND d.start >= %(first)s AND d.start < %(end)s
                UNION
                SELECT series_id, hour FROM unnest(%(series)s) series_id, unnest(%(edges)s::timestamptz[]) hour
            )
            SELECT m.start FROM hours h JOIN budgets_rollup_minute m
              ON m.series_id = h.series_id AND m.start >= h.start AND m.start < h.start + interval '1 hour'
            WHERE m.start >= %(start)s AND m.start < %(end)s AND m.max_ms IS NOT NULL
            ORDER BY m.max_ms DESC, m.start, m.series_id LIMIT %(count)s
            """,
            {
                "series": series_ids,
                "first": first,
                "last": last,
                "edges": [first, last],
                "start": start.replace(second=0, microsecond=0),
                "end": end,
                "count": count,
            },
        )
        return sorted({row[0] for row in cursor.fetchall()})


def _read_slowest(
    series_ids: list[int], minutes: Sequence[datetime], start: datetime, end: datetime, count: int
) -> tuple[Roots, np.ndarray]:
    ranges = [(max(start, at), min(end, at + _MINUTE)) for at in minutes]
    selected, parameters = ranges_of("budgets_measurement", series_ids, ranges, "status <> 1")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT series_id, (extract(epoch FROM ended_at) * 1000000)::bigint, round(duration_ms * 1000)::bigint,"
            f" status, trace_id, coalesce(span_id, {NO_ID}) FROM ({selected}) AS m"
            " ORDER BY duration_ms DESC, ended_at DESC, trace_id LIMIT %s",
            [*parameters, count],
        )
        rows = cursor.fetchall()
    trace_id = np.array([(UUID(int=0) if row[4] is None else row[4]).bytes for row in rows], dtype="V16")
    series_id = np.array([row[0] for row in rows], dtype=np.int64)
    ended_us = np.array([row[1] for row in rows], dtype=np.int64)
    histories = limit_histories(series_ids)
    limit_ms = [
        float(histories[int(one)].at(np.array([at]))[0]) if int(one) in histories else np.nan
        for one, at in zip(series_id, ended_us, strict=True)
    ]
    return (
        Roots(
            ended_us=ended_us,
            duration_us=np.array([row[2] for row in rows], dtype=np.int64),
            is_timeout=np.array([row[3] == Status.TIMEOUT for row in rows], dtype=bool),
            limit_ms=np.array(limit_ms, dtype=np.float64),
            trace_id=trace_id,
            span_id=np.array([row[5] for row in rows], dtype=np.int64),
        ),
        series_id,
    )


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _instants(us: np.ndarray) -> list[datetime]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [epoch + timedelta(microseconds=one) for one in us.tolist()]


# -- what they have in common -----------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Requests over their limit beside those within it, that ended in [start, end), errors left out.

    `total` is how many there are; `slow` and `others` were compared, a sample where `is_sampled`. `found` are the values
    that they differ in, the clearest first; `compared` is among how many, `with_labels` how many requests had any.
    """

    found: tuple[Commonality, ...]
    slow: int
    others: int
    total: int
    with_labels: int
    compared: int
    is_sampled: bool
    start: datetime
    end: datetime


def compare_requests(
    feature: Feature, *, target: str, environment: str, start: datetime, end: datetime, now: datetime
) -> Comparison:
    """Which values of labels, releases and components' statuses requests over their limit have more often than others.

    Labels are those of the request and those of calls under its trace id, unless MAX_REQUESTS_OF_TRACE others share it;
    each request counts once for a value. What ended while no limit was in force is left out.
    """
    start = max(start, kept_since(now))
    series_ids = Series.objects.ids_of(feature, target, environment=environment)
    limits = limit_histories(series_ids) if series_ids and start < end else {}
    if not limits:
        return Comparison((), 0, 0, 0, 0, 0, False, start, end)
    last = (end + _MINUTE - _MICROSECOND).replace(second=0, microsecond=0)
    [counts] = read_counts(list(limits), [Range(start.replace(second=0, microsecond=0), last)])
    total = sum(one.judged - one.errors for one in counts.values())
    slices, share = _slices(start, end, now)
    expected = total * share
    hashes = _HASHES if expected <= MAX_REQUESTS else int(_HASHES * MAX_REQUESTS / expected)
    components = list(
        Series.objects.filter(feature=feature, environment=environment, component__isnull=False)
        .exclude(pk__in=series_ids)
        .values_list("pk", flat=True)
    )
    rows = _counted(limits, components, slices, hashes, is_whole=share == 1)
    slow, others = next(((over, within) for kind, *_, over, within, _ in rows if kind == "total"), (0, 0))
    with_labels = sum(over + within for kind, *_, over, within, _ in rows if kind == "labelled")
    merged: Counter[tuple[str, str, str, bool]] = Counter()
    compared = 0
    for kind in ("label", "call label", "release", "status"):
        of_kind = [row for row in rows if row[0] == kind]
        # Before the rest of them was left out.
        compared += max((row[5] for row in of_kind), default=0)
        for _, name, value, over, within, _ in of_kind:
            as_value = "label" if kind == "call label" else kind
            merged[as_value, name, value, True] += over
            merged[as_value, name, value, False] += within
    names = dict.fromkeys(key[:3] for key in merged)
    found = commonalities(
        [
            Value(kind, name, value, merged[kind, name, value, True], merged[kind, name, value, False])  # type: ignore[arg-type]
            for kind, name, value in names
        ],
        slow=slow,
        others=others,
        compared=compared,
    )
    return Comparison(
        found=tuple(found),
        slow=slow,
        others=others,
        total=total,
        with_labels=with_labels,
        compared=compared,
        is_sampled=share < 1 or hashes < _HASHES,
        start=start,
        end=end,
    )


def _slices(start: datetime, end: datetime, now: datetime) -> tuple[list[tuple[datetime, datetime]], float]:
    """What is read of a range, and which share of it that is: slices as wide as each other, spread evenly."""
    length = end - start
    rows = _rows_between(start, end, now)
    if rows <= MAX_ROWS:
        return [(start, end)], 1.0
    share = MAX_ROWS / rows
    stride = length / _SLICES
    width = stride * share
    # At changing places of their strides: what happens on the hour is met by neither all nor none.
    begins = [
        start + number * stride + (number * _GOLDEN % 1) * (stride - width) for number in range(_SLICES)
    ]
    return [(one, one + width) for one in begins], share


def _rows_between(start: datetime, end: datetime, now: datetime) -> float:
    """About how many measurements of all features there are, by the size of each day's partition: of today's, of so much
    of the day as there was."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right(c.relname, 8), pg_relation_size(c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'budgets_measurement'::regclass"
        )
        sizes = dict(cursor.fetchall())
    found, day = 0.0, start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        following = day + timedelta(days=1)
        filled = max(_MINUTE, min(following, now) - day)
        share = min(1.0, (min(end, following) - max(start, day)) / filled)
        found += share * sizes.get(f"{day:%Y%m%d}", 0) / _ROW_BYTES
        day = following
    return found


_Row = tuple[str, str, str, int, int, int]
_COUNTS: Final = "count(DISTINCT n) FILTER (WHERE is_over), count(DISTINCT n) FILTER (WHERE NOT is_over)"


def _counted(
    limits: dict[int, LimitHistory],
    components: list[int],
    slices: list[tuple[datetime, datetime]],
    hashes: int,
    *,
    is_whole: bool,
) -> list[_Row]:
    """(kind, name, value, slow requests that have it, others that do, number of values of the kind)."""
    since_us, until_us, series_ids, limit_ms = _intervals(limits)
    requests, request_parameters = ranges_of("budgets_measurement", list(limits), slices, "status <> 1")
    around = _AROUND_WHOLE if is_whole else _AROUND
    calls, call_parameters = ranges_of(
        "budgets_measurement",
        components,
        _apart([(one - around, other + around) for one, other in slices]),
        f"trace_id IS NOT NULL AND (status <> {Status.OK:d} OR labels IS NOT NULL)",
    )
    query = f"""
        WITH limits AS MATERIALIZED (
            SELECT series_id, to_timestamp(since / 1e6) AS since, to_timestamp(until / 1e6) AS until, limit_ms
            FROM unnest(%s::int[], %s::float8[], %s::float8[], %s::float8[]) AS l (series_id, since, until, limit_ms)
        ), requests AS MATERIALIZED (
            SELECT row_number() OVER () AS n, m.trace_id, m.series_id, m.labels,
                   (m.status = {Status.TIMEOUT} OR m.duration_ms > l.limit_ms) AS is_over
            FROM ({requests}) AS m
            JOIN limits l ON l.series_id = m.series_id AND m.ended_at >= l.since AND m.ended_at < l.until
            WHERE coalesce(
                uuid_hash_extended(m.trace_id, 0), hashint8extended((extract(epoch FROM m.ended_at) * 1e6)::bigint, 0)
            ) & {_HASHES - 1} < %s
        ), labelled AS MATERIALIZED (
            SELECT labels, count(*) FILTER (WHERE is_over) AS over, count(*) FILTER (WHERE NOT is_over) AS within
            FROM requests WHERE labels IS NOT NULL GROUP BY labels
        ), crowded AS MATERIALIZED (
            SELECT trace_id FROM requests WHERE trace_id IS NOT NULL GROUP BY trace_id
            HAVING count(*) > {MAX_REQUESTS_OF_TRACE}
        ), calls AS MATERIALIZED (
            SELECT r.n, r.is_over, c.series_id, c.status, c.labels, r.labels AS known
            FROM requests r JOIN ({calls}) AS c ON c.trace_id = r.trace_id
            WHERE (c.status <> {Status.OK} OR (c.labels IS NOT NULL AND c.labels IS DISTINCT FROM r.labels))
              AND NOT EXISTS (SELECT 1 FROM crowded WHERE crowded.trace_id = r.trace_id)
        ), found (kind, name, value, over, within) AS (
            SELECT 'label', e.key, e.value, sum(over)::bigint, sum(within)::bigint
            FROM labelled, jsonb_each_text(labels) AS e GROUP BY e.key, e.value
            UNION ALL
            SELECT 'call label', e.key, e.value, {_COUNTS}
            FROM calls, jsonb_each_text(labels) AS e
            WHERE known ->> e.key IS DISTINCT FROM e.value GROUP BY e.key, e.value
            UNION ALL
            SELECT 'release', '', s.release, {_COUNTS}
            FROM requests r JOIN budgets_series s ON s.id = r.series_id GROUP BY s.release
            UNION ALL
            SELECT 'status', o.name, c.status::text, {_COUNTS}
            FROM calls c JOIN budgets_series s ON s.id = c.series_id JOIN budgets_component o ON o.id = s.component_id
            WHERE c.status <> {Status.OK} GROUP BY o.name, c.status
        ), total AS (
            SELECT count(*) FILTER (WHERE is_over) AS over, count(*) FILTER (WHERE NOT is_over) AS within FROM requests
        )
        SELECT 'total', '', '', over, within, 1 FROM total
        UNION ALL
        SELECT 'labelled', '', '', coalesce(sum(over), 0)::bigint, coalesce(sum(within), 0)::bigint, 1 FROM labelled
        UNION ALL
        SELECT kind, name, value, over, within, size FROM (
            SELECT f.*, count(*) OVER (PARTITION BY kind) AS size,
                   row_number() OVER (
                       PARTITION BY kind
                       ORDER BY f.over::float8 / greatest(t.over, 1) - f.within::float8 / greatest(t.within, 1) DESC,
                                name, value
                   ) AS place
            FROM found f, total t
        ) AS ranked WHERE place <= %s
        """
    with transaction.atomic(), connection.cursor() as cursor:
        # Its estimates are far too high, and compiling would take longer than the query.
        cursor.execute("SET LOCAL jit = off")
        if not is_whole:
            # A slice is a narrow range of its partition, as in budgets.groups.read_raw.
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            query,
            [
                series_ids,
                since_us,
                until_us,
                limit_ms,
                *request_parameters,
                hashes,
                *call_parameters,
                MAX_VALUES,
            ],
        )
        rows: list[_Row] = cursor.fetchall()
        cursor.execute("SET LOCAL enable_seqscan = on; RESET jit")
    return rows


def _intervals(
    limits: dict[int, LimitHistory],
) -> tuple[list[float], list[float], list[int], list[float]]:
    """From when until when each series had which limit, in µs since 1970; those in which it had none are left out."""
    since_us: list[float] = []
    until_us: list[float] = []
    series_ids: list[int] = []
    limit_ms: list[float] = []
    for series_id, history in limits.items():
        for begins, ends, limit in zip(
            history.from_us, [*history.from_us[1:], None], history.limit_ms, strict=True
        ):
            if limit == limit:
                since_us.append(-1e15 if begins == ALWAYS else float(begins))
                until_us.append(1e16 if ends is None else float(ends))
                series_ids.append(series_id)
                limit_ms.append(limit)
    return since_us, until_us, series_ids, limit_ms


def _apart(ranges: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Ranges that overlap as one: no row may be read twice."""
    merged: list[tuple[datetime, datetime]] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
