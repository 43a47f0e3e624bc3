"""How many bytes a raw measurement, a minute and an hour take, indexes and all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from . import copies, fills
from .bench import TEAM, Bench
from .report import Figure, Section, number

if TYPE_CHECKING:
    from budgets.models import Team

ROLL_UPS_A_MINUTE = 20

_HOURS = 2
_COMPONENTS = 4
_WIDTH = _COMPONENTS + 2
_MOST_FEATURES = 40
_LABELS = {"model": "small-2026-05", "region": "eu-west-1", "cache": "miss"}


def run(bench: Bench) -> Section:
    """Fills a day's partition with each kind of row, and asks PostgreSQL for its size."""
    bench.empty()
    rows: dict[str, dict[str, Figure]] = {}
    midnight = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    size = bench.scale.storage_measurements
    kinds: dict[str, Sequence[str]] = {
        "raw measurement": (),
        "raw measurement with a trace id": ("trace_id",),
        "raw measurement with trace id, span ids": ("trace_id", "span_id", "parent_span_id"),
        "raw measurement with all of these and labels": ("trace_id", "span_id", "parent_span_id", "labels"),
    }
    for back, (label, optional) in enumerate(kinds.items(), start=20):
        partition = _raw(midnight - back * fills.DAY, optional, size)
        rows[label] = {"": Figure(_bytes(partition) / size, "B")}
        bench.say(f"storage: {label}")
    for back, rate in enumerate(bench.scale.storage_rates, start=30):
        called = f"{rate} measurement{'s' if rate > 1 else ''} a minute"
        features = max(1, min(_MOST_FEATURES, size // (rate * _HOURS * 60 * _WIDTH)))
        minute, hour = _rollups(f"rate-{rate}", midnight - back * fills.DAY, features, rate)
        rows[f"minute rollup, {called}"], rows[f"hour rollup, {called}"] = minute, hour
        bench.say(f"storage: {called}")
    rate = min(100, bench.scale.storage_rates[-1])
    rows[f"minute rollup, {rate} a minute in {ROLL_UPS_A_MINUTE} roll-ups"] = _merged(
        midnight - 40 * fills.DAY, max(1, size // (rate * _HOURS * 60 * _WIDTH)), rate
    )
    return Section(
        title=f"Storage: bytes a row, with indexes and after a vacuum ({number(size)} raw measurements of each kind)",
        rows=rows,
        notes=[
            "A rollup's histogram holds six bytes for each of its occupied buckets, however many fall into one."
        ],
    )


def _raw(day: datetime, optional: Sequence[str], size: int) -> str:
    """Fills the partition of a day; its name."""
    import psycopg
    from django.db import connection, transaction

    from budgets.columns import POSTGRES_EPOCH_US
    from budgets.partitions import make_partitions

    make_partitions("budgets_measurement", [day.date()])
    rng = np.random.default_rng(1)
    start_us = round(day.timestamp() * 1e6) - POSTGRES_EPOCH_US
    columns = {
        "ended_at": (start_us + np.sort(rng.integers(0, 86_400_000_000, size))).astype(">i8"),
        "duration_ms": np.round(400 * rng.lognormal(0, 0.5, size), 3).astype(">f8"),
        "batch_id": (np.arange(size) // 1000 + 1).astype(">i8"),
        "series_id": rng.integers(1, 25, size).astype(">i4"),
        "status": np.zeros(size, dtype=">i2"),
    }
    if "trace_id" in optional:
        columns["trace_id"] = np.frombuffer(rng.bytes(16 * size), dtype="V16")
    for name in ("span_id", "parent_span_id"):
        if name in optional:
            columns[name] = rng.integers(1, 2**62, size).astype(">i8")
    with transaction.atomic():
        if "labels" in optional:
            # A byte for the version of jsonb, then its text.
            labels = b"\x01" + json.dumps(_LABELS).encode()
            payload = copies.of_numbers_and_bytes(columns, [labels] * size)
            names = [*columns, "labels"]
        else:
            payload, names = copies.of_numbers(columns), [*columns]
        cursor = psycopg.Cursor(connection.connection)
        statement = f"COPY budgets_measurement ({', '.join(names)}) FROM STDIN (FORMAT binary)"
        with cursor.copy(statement) as copy:
            copy.write(payload)
    return f"budgets_measurement_{day:%Y%m%d}"


def _rollups(
    prefix: str, start: datetime, features: int, rate: int
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """A minute and an hour of series with so many measurements a minute.

    Two hours are measured; copies of them fill a day with minutes, and many days with hours.
    """
    population, requests = _declare(prefix, start, features), rate * _HOURS * 60 * features
    end = start + _HOURS * fills.HOUR
    fills.measure(population, _team(), requests=requests, start=start, end=end)
    for slot in range(1, 24 // _HOURS):
        shift = slot * _HOURS * fills.HOUR
        fills.repeat("budgets_rollup_minute", start, end, shift, population.series_ids)
    before, rows_before = _bytes("budgets_rollup_hour"), _rows("budgets_rollup_hour")
    # Of the measured hours alone: nobody has said that the copies are there.
    fills.derive(start + 2 * fills.DAY)
    for days in range(1, 2000 // population.series_ids.size + 2):
        fills.repeat("budgets_rollup_hour", start, end, -days * fills.DAY, population.series_ids)
    minutes, hours = f"budgets_rollup_minute_{start:%Y%m%d}", "budgets_rollup_hour"
    return (
        _rollup_figures(minutes, _bytes(minutes), _rows(minutes), population),
        _rollup_figures(hours, _bytes(hours) - before, _rows(hours) - rows_before, population),
    )


def _merged(start: datetime, features: int, rate: int) -> dict[str, Figure]:
    """A minute that grew with every roll-up, as minutes do while they run."""
    from budgets.rollups import roll_up

    population = _declare("merged", start, features)
    requests = rate * _HOURS * 60 * features // ROLL_UPS_A_MINUTE
    for turn in range(ROLL_UPS_A_MINUTE):
        fills.measure(
            population,
            _team(),
            requests=requests,
            start=start,
            end=start + _HOURS * fills.HOUR,
            is_pending=True,
            seed=turn,
        )
        while roll_up(now=start + fills.DAY).is_more:
            pass
    partition = f"budgets_rollup_minute_{start:%Y%m%d}"
    return _rollup_figures(partition, _bytes(partition), _rows(partition), population)


def _declare(prefix: str, start: datetime, features: int) -> fills.Population:
    return fills.declare(_team(), prefix, features=features, components=_COMPONENTS, now=start)


def _team() -> Team:
    from budgets.models import Team

    return Team.objects.get_or_create(slug=TEAM, defaults={"name": TEAM})[0]


def _rollup_figures(table: str, size: int, rows: int, population: fills.Population) -> dict[str, Figure]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT avg(length(histogram)) FROM {table} WHERE series_id = ANY(%s)",
            [population.series_ids.ravel().tolist()],
        )
        [[histogram]] = cursor.fetchall()
    return {"": Figure(size / rows, "B"), "of which histogram": Figure(float(histogram), "B")}


def _bytes(table: str) -> int:
    """What a table and its indexes take on disk, after a vacuum."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")
        cursor.execute("SELECT pg_total_relation_size(%s)", [table])
        return int(cursor.fetchone()[0])


def _rows(table: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])
