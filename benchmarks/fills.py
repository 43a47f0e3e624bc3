"""Databases full of history: set-based, through the product's own tables, partitions and arithmetic.

1. Features are declared: one by the product, the others as copies of its rows.
2. Requests are drawn with numpy and written by binary COPY, as ingest writes them, in batches that are marked as
   rolled up.
3. Their minutes are grouped by what a roll-up groups by, and written by COPY; then `compact` derives their hours
   and days. `check` has the product compare a part of it with raw measurements.
4. Older days are copies of one of these days, shifted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from . import copies
from .scale import Fill
from .traffic import ENVIRONMENT, RELEASE

if TYPE_CHECKING:
    from budgets.groups import Groups
    from budgets.models import Feature, Team

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

_BATCH_REQUESTS = 100
# What is drawn at once: 130 MB of columns.
_CHUNK_MEASUREMENTS = 1_500_000
# Of what is allowed. With the spread below one in a thousand is over: nothing fires that nobody wants to fire.
_MEDIAN_SHARE = 0.3
_SIGMA = 0.38
# Of ok, error and timeout.
STATUS_RATIOS = (0.9985, 0.001, 0.0005)
_COMPACT_AT_ONCE = 5000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Population:
    """Features of equal shape. `series_ids` has a row for each feature: its components, then its milestones."""

    features: Sequence[Feature]
    components: Sequence[str]
    series_ids: np.ndarray
    limits_ms: np.ndarray  # of each column of series_ids

    @property
    def targets(self) -> list[str]:
        """As the API names them, in the order of the columns."""
        return [
            *(f"component:{name}" for name in self.components),
            "milestone:first_token",
            "milestone:complete",
        ]

    @cached_property
    def names(self) -> list[tuple[str, dict[str, str]]]:
        """What names each series in a body of ingest, row by row."""
        named = (target.split(":") for target in self.targets)
        kinds = [{kind: name} for kind, name in named]
        return [(feature.slug, kind) for feature in self.features for kind in kinds]


# -- 1. features ------------------------------------------------------------------------------------


def document(name: str, components: int) -> dict[str, Any]:
    """What declares a feature with so many components, which share 2400 ms to the first token."""
    return {
        "name": name.replace("-", " ").capitalize(),
        "kind": "interactive_chat",
        "components": [f"component-{n}" for n in range(components)],
        "latency_budgets": [
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {f"component-{n}": 2400 // components for n in range(components)},
            },
            {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
        ],
    }


def declare(team: Team, prefix: str, *, features: int, components: int, now: datetime) -> Population:
    """Features with their series in production, declared since 40 days."""
    from budgets.features import declare_feature
    from budgets.models import Allocation, Component, Feature, LatencyBudget, Milestone, Series

    since = now - timedelta(days=40)
    first = declare_feature(
        team=team,
        slug=f"{prefix}-0",
        document=document(f"{prefix}-0", components),
        actor="benchmark",
        now=since,
    ).feature
    others = Feature.objects.bulk_create(
        [_another(first, slug=f"{prefix}-{n}", name=f"{prefix} {n}".capitalize()) for n in range(1, features)]
    )
    its_components = list(first.components.order_by("position"))
    copied = Component.objects.bulk_create(
        [_another(one, feature=feature) for feature in others for one in its_components]
    )
    component_of = {(one.feature_id, one.name): one for one in (*its_components, *copied)}
    for version in LatencyBudget.objects.filter(feature=first).prefetch_related("allocations__component"):
        versions = LatencyBudget.objects.bulk_create(
            [_another(version, feature=feature) for feature in others]
        )
        Allocation.objects.bulk_create(
            [
                _another(one, latency_budget=its, component=component_of[its.feature_id, one.component.name])
                for its in versions
                for one in version.allocations.all()
            ]
        )
    everyone = [first, *others]
    names = [one.name for one in its_components]
    series = Series.objects.bulk_create(
        [
            Series(
                feature=feature,
                component=component,
                milestone=milestone,
                environment=ENVIRONMENT,
                release=RELEASE,
                last_seen_on=now.date(),
            )
            for feature in everyone
            for component, milestone in [
                *((component_of[feature.pk, name], None) for name in names),
                *((None, milestone) for milestone in Milestone.values),
            ]
        ]
    )
    limits_ms = [2400 // components] * components + [3000, 8000]
    series_ids = np.array([one.pk for one in series], dtype=np.int32).reshape(features, components + 2)
    return Population(everyone, names, series_ids, np.array(limits_ms, dtype=float))


def _another(row: Any, **changes: Any) -> Any:
    """Another row of the same model that is not stored yet."""
    values = {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if not field.primary_key and field.name not in changes
    }
    return type(row)(**values, **changes)


# -- 2. and 3. what was measured --------------------------------------------------------------------


def fill(team: Team, prefix: str, size: Fill, *, now: datetime, say: Say) -> Population:
    """Features, with measurements since `raw_days` before midnight and rollups of `history_days` before that."""
    population = declare(team, prefix, features=size.features, components=size.components, now=now)
    weights = 1 / np.arange(1, size.features + 1) if size.is_skewed else np.ones(size.features)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - size.raw_days * DAY
    measure(
        population,
        team,
        requests=size.requests,
        start=start,
        end=now,
        weights=weights,
        say=lambda line: say(f"{prefix}: {line}"),
    )
    derive(now, say=lambda line: say(f"{prefix}: {line}"))
    for back in range(1, size.history_days - size.raw_days + 1):
        for table in ("budgets_rollup_hour", "budgets_rollup_day"):
            repeat(table, start, start + DAY, -back * DAY, population.series_ids)
    say(f"{prefix}: hours and days reach back {size.history_days} days")
    settle()
    return population


def measure(
    population: Population,
    team: Team,
    *,
    requests: int,
    start: datetime,
    end: datetime,
    weights: np.ndarray | None = None,
    slowness: float = 1.0,
    status_ratios: tuple[float, float, float] = STATUS_RATIOS,
    is_pending: bool = False,
    seed: int = 1,
    say: Say = lambda line: None,
) -> None:
    """Raw measurements of requests that ended in [start, end), and their minutes, which must be new.

    `slowness` multiplies every duration. What is pending has no minutes yet: it waits to be rolled up.
    """
    from django.db import connection

    weights = np.ones(len(population.features)) if weights is None else weights
    cumulated = np.cumsum(weights / weights.sum())
    lasting_s = (end - start).total_seconds()
    width = population.series_ids.shape[1]
    pieces = _pieces(start, end, requests * width)
    edges = np.array([0, *((after - start).total_seconds() for _, after in pieces)]) / lasting_s
    counts = np.diff(np.rint(edges * requests).astype(int)).tolist()

    def write(number: int) -> int:
        if counts[number]:
            rng = np.random.default_rng([seed, number])
            drawn = _draw(
                rng, population, cumulated, counts[number], *pieces[number], slowness, status_ratios
            )
            with closing(connection):  # each thread has its own
                _write(team, drawn, width, is_pending=is_pending)
        return counts[number] * width

    # While PostgreSQL takes one piece in, the next is drawn.
    with ThreadPoolExecutor(2) as threads:
        written = 0
        for number, count in enumerate(threads.map(write, range(len(pieces))), start=1):
            written += count
            if number % 10 == 0 or number == len(pieces):
                say(f"{written:,} measurements".replace(",", " "))


def _pieces(start: datetime, end: datetime, measurements: int) -> list[tuple[datetime, datetime]]:
    """[start, end) in pieces of whole minutes that lie within a day each and hold no more than a chunk."""
    minutes = (end - start).total_seconds() / 60
    at_once = max(1, int(_CHUNK_MEASUREMENTS / max(measurements / minutes, 1)))
    pieces = []
    while start < end:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        after = min(end, midnight, start + timedelta(minutes=at_once))
        pieces.append((start, after))
        start = after
    return pieces


@dataclass(frozen=True)
class _Drawn:
    """Measurements in the order in which they ended; times in microseconds since 1970."""

    series_id: np.ndarray
    ended_us: np.ndarray
    duration_ms: np.ndarray
    status: np.ndarray
    trace_id: np.ndarray
    requests: int


def _draw(
    rng: np.random.Generator,
    population: Population,
    cumulated: np.ndarray,
    requests: int,
    start: datetime,
    end: datetime,
    slowness: float,
    status_ratios: tuple[float, float, float],
) -> _Drawn:
    """Requests of features by weight at even times, each of which measures every series of its feature."""
    width = population.series_ids.shape[1]
    size = requests * width
    start_us, end_us = (round(at.timestamp() * 1e6) for at in (start, end))
    # A request's measurements end within half a second, as far as that lies in the piece.
    latest = max(start_us + 1, end_us - 500_000)
    at_us = np.sort(rng.integers(start_us, latest, requests))[:, None] + rng.integers(
        0, 500_000, (requests, width)
    )
    feature = np.searchsorted(cumulated, rng.random(requests)).clip(max=len(cumulated) - 1)
    spread = np.exp(rng.standard_normal((requests, width), dtype=np.float32) * np.float32(_SIGMA))
    duration_ms = np.round(spread * population.limits_ms * (_MEDIAN_SHARE * slowness), 3)
    return _Drawn(
        series_id=population.series_ids[feature].ravel(),
        ended_us=np.minimum(at_us, end_us - 1).ravel(),
        duration_ms=duration_ms.ravel().astype(np.float64),
        status=np.searchsorted(np.cumsum(status_ratios[:2]), rng.random(size)).astype(np.int16),
        trace_id=np.repeat(np.frombuffer(os.urandom(16 * requests), dtype="V16"), width),
        requests=requests,
    )


def _write(team: Team, drawn: _Drawn, width: int, *, is_pending: bool) -> None:
    """Writes raw measurements, their batches and their minutes in one transaction, as one roll-up would."""
    from django.db import transaction

    from budgets.columns import POSTGRES_EPOCH_US
    from budgets.groups import as_instant, group_measurements
    from budgets.models import Batch
    from budgets.partitions import make_partitions
    from budgets.rollups import mark_dirty

    days = {as_instant(int(us)).date() for us in (drawn.ended_us.min(), drawn.ended_us.max())}
    for table in ("budgets_measurement", "budgets_rollup_minute"):
        make_partitions(table, days)
    batch_of_request = np.arange(drawn.requests) // _BATCH_REQUESTS
    firsts = np.arange(0, drawn.requests, _BATCH_REQUESTS) * width
    earliest = np.minimum.reduceat(drawn.ended_us, firsts).tolist()
    latest = np.maximum.reduceat(drawn.ended_us, firsts).tolist()
    sizes = np.diff(firsts, append=len(drawn.ended_us)).tolist()
    with transaction.atomic():
        batches = Batch.objects.bulk_create(
            [
                Batch(
                    team=team,
                    state=Batch.State.PENDING if is_pending else Batch.State.ROLLED_UP,
                    received_at=_instant(to),
                    rolled_up_at=None if is_pending else _instant(to),
                    measurement_count=count,
                    ended_from=_instant(since),
                    ended_to=_instant(to),
                )
                for since, to, count in zip(earliest, latest, sizes, strict=True)
            ]
        )
        ids = np.array([batch.pk for batch in batches])
        _copy(
            "budgets_measurement",
            raw := {
                "ended_at": (drawn.ended_us - POSTGRES_EPOCH_US).astype(">i8"),
                "duration_ms": drawn.duration_ms.astype(">f8"),
                "batch_id": np.repeat(ids[batch_of_request], width).astype(">i8"),
                "series_id": drawn.series_id.astype(">i4"),
                "status": drawn.status.astype(">i2"),
                "trace_id": drawn.trace_id,
            },
            copies.of_numbers(raw),
        )
        if is_pending:
            return
        minutes = group_measurements(
            drawn.series_id, drawn.ended_us, drawn.duration_ms, drawn.status, drawn.trace_id
        )
        _copy_minutes(minutes)
        mark_dirty(minutes)


def _instant(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, tz=UTC)


def _copy_minutes(minutes: Groups) -> None:
    """Writes new minute rollups, one minute after the other as they come to be.

    By COPY, which takes a fraction of the time of what merges into rollups that may be there.
    """
    from budgets.columns import POSTGRES_EPOCH_US

    order = np.lexsort((minutes.series_id, minutes.start_us))
    columns = {
        "start": (minutes.start_us[order] - POSTGRES_EPOCH_US).astype(">i8"),
        **{
            name: getattr(minutes, name)[order].astype(kind)
            for kind, names in _MINUTE_COLUMNS.items()
            for name in names
        },
    }
    _copy(
        "budgets_rollup_minute",
        [*columns, "histogram"],
        copies.of_numbers_and_bytes(columns, [minutes.histogram[row] for row in order.tolist()]),
    )


_MINUTE_COLUMNS = {
    ">i2": ("scale",),
    ">i4": ("series_id", "total", "errors", "timeouts", "judged", "good", "over", "zero_count"),
    ">i8": ("sum_us",),
    ">f8": ("max_ms", "max_ok_ms", "min_timeout_ms"),
    "V16": ("max_trace_id",),
}


def _copy(table: str, columns: Iterable[str], payload: bytes) -> None:
    from django.db import connection

    with psycopg.Cursor(connection.connection).copy(
        f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    ) as copy:
        copy.write(payload)


def derive(now: datetime, *, say: Say = lambda line: None) -> None:
    """Derives every hour and day that is over and has changed."""
    from budgets.rollups import compact

    done = compact(now=now, limit=_COMPACT_AT_ONCE)
    say(f"{done.hours} hours and {done.days} days derived")


# -- 4. what is older -------------------------------------------------------------------------------


def repeat(table: str, start: datetime, end: datetime, shift: timedelta, series_ids: np.ndarray) -> None:
    """Copies the rollups of [start, end) of these series to another time."""
    from django.db import connection

    from budgets.groups import NAMES
    from budgets.partitions import make_partitions

    if table == "budgets_rollup_minute":
        make_partitions(table, {(start + shift).date(), (end + shift - timedelta(seconds=1)).date()})
    columns = ", ".join(name for name in NAMES if name != "start_us")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (start, {columns}) SELECT start + %s, {columns} FROM {table}"
            " WHERE start >= %s AND start < %s AND series_id = ANY(%s) ON CONFLICT DO NOTHING",
            [shift, start, end, series_ids.ravel().tolist()],
        )


def derive_days(series_ids: np.ndarray, now: datetime) -> None:
    """Derives the days of all hours that there are of these series."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO budgets_dirtyday (series_id, start) SELECT DISTINCT series_id, date_trunc('day', start, 'UTC')"
            " FROM budgets_rollup_hour WHERE series_id = ANY(%s) ON CONFLICT DO NOTHING",
            [series_ids.ravel().tolist()],
        )
    derive(now)


def settle() -> None:
    """Does what autovacuum will have done by the time that somebody looks: statistics and visibility."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")


def check(start: datetime, end: datetime, now: datetime) -> None:
    """Has the product compare the rollups of a range with its raw measurements. Raises AssertionError."""
    from budgets.rebuild import rebuild

    found = rebuild(start=start, end=end, now=now, only_check=True)
    assert found.minutes, f"there are no minutes from {start} to {end}"
    assert not found.differences, f"{len(found.differences)} rollups differ, first: {found.differences[0]}"
