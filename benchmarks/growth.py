"""What becomes slower as the tables grow: the same questions to a small database, then to the same one grown large.

1. A small fill is measured: ingest, roll-up, status, time series, evaluation, and the oldest day's partition dropped.
2. The large fill is put beside it, and all of that is measured again: what was asked about the small features
   is asked about the same ones, and what was asked about the busiest feature about the busiest of all.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from . import fills
from .bench import TEAM, Bench
from .posts import Poster
from .report import Figure, Section, number, percentile
from .scale import Fill
from .stack import connect
from .status import ask
from .traffic import Named, batches

if TYPE_CHECKING:
    from budgets.models import Team

_BATCH_SIZE = 1000
_ROUNDS = 3
_BACKLOG_LASTS = timedelta(minutes=20)
_READER = (
    "SELECT count(*), sum(duration_ms) FROM budgets_measurement"
    " WHERE ended_at >= %s AND ended_at < %s AND series_id = %s"
)
_WRITER = (
    "INSERT INTO budgets_measurement (ended_at, duration_ms, batch_id, series_id, status)"
    " VALUES (%s, 1, 0, %s, 0)"
)


@dataclass(frozen=True)
class Case:
    """A database as it is now. Of `populations`, all rules are evaluated; the last one is the newest."""

    bench: Bench
    team: Team
    token: str
    populations: Sequence[fills.Population]
    now: datetime


def run(bench: Bench) -> Section:
    """Measures a database twice, before and after it has grown."""
    from budgets.keys import create_key

    small, large = bench.scale.growth
    now = datetime.now(tz=UTC)
    bench.empty()
    key, token = create_key(
        team_slug=TEAM, name="benchmark", scopes=["ingest"], actor="the benchmark", now=now
    )
    team: Team = key.team
    measured: list[dict[str, Figure]] = []
    facts: list[dict[str, Figure]] = []
    populations: list[fills.Population] = []
    for name, size in (("small", small), ("large", large)):
        began = time.monotonic()
        now = datetime.now(tz=UTC)
        populations.append(fills.fill(team, name, size, now=now, say=bench.say))
        _check(now, size)
        filled_s = time.monotonic() - began
        bench.say(f"{name}: filled in {filled_s:.0f} s")
        case = Case(bench, team, token, tuple(populations), now)
        facts.append(_facts(filled_s))
        measured.append(_measure(case, name))
    rows: dict[str, dict[str, Figure]] = {
        label: {"small": facts[0][label], "large": facts[1][label]} for label in facts[0]
    }
    for label, before in measured[0].items():
        after = measured[1][label]
        rows[label] = {
            "small": before,
            "large": after,
            "large ÷ small": Figure(after.value / before.value if before.value else 0, "×"),
        }
    return Section(
        title=f"Growth: {_described(small)} – and {_described(large)} beside them",
        rows=rows,
        notes=[
            "Large holds small: the same features are asked about in both. Raw measurements and minutes are there for",
            f"{large.raw_days} days and today, hours and days for {large.history_days}. A request measures every series of its "
            "feature.",
            f"The machine's load at the end was {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.",
        ],
    )


def _described(size: Fill) -> str:
    return f"{number(size.measurements)} raw measurements of {number(size.series)} series"


def _check(now: datetime, size: Fill) -> None:
    """Compares an hour with raw measurements, in the middle of the last whole day."""
    hour = now.replace(hour=12, minute=0, second=0, microsecond=0) - fills.DAY
    fills.check(hour, hour + fills.HOUR, now)


def _facts(filled_s: float) -> dict[str, Figure]:
    """What the database holds."""
    from django.db import connection

    rows = {"filled in": Figure(filled_s, "s")}
    tables = {
        "raw measurements": "budgets_measurement",
        "minutes": "budgets_rollup_minute",
        "hours": "budgets_rollup_hour",
        "days": "budgets_rollup_day",
    }
    with connection.cursor() as cursor:
        for label, table in tables.items():
            cursor.execute(
                "SELECT sum(greatest(c.reltuples, 0)), sum(pg_total_relation_size(c.oid)) FROM pg_class c"
                " WHERE c.relkind = 'r' AND c.oid = %s::regclass OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)",
                [table, table],
            )
            count, size = cursor.fetchone()
            rows[label] = Figure(int(count), "")
            rows[f"{label}, on disk"] = Figure(int(size) / 1e6, "MB")
    return rows


def _measure(case: Case, name: str) -> dict[str, Figure]:
    rows: dict[str, Figure] = {}
    same, everyone = case.populations[0], case.populations[-1]
    for label, names in (("of the same series", same.names), ("of all series in turn", everyone.names)):
        ingest, rolled_up = _ingest_and_roll_up(case, names)
        rows[f"ingest over HTTP, {label}"], rows[f"roll-up, {label}"] = ingest, rolled_up
        case.bench.say(f"{name}: ingest and roll-up {label}")
    fills.derive(case.now)
    rows |= _questions(case)
    case.bench.say(f"{name}: status, time series, evaluation")
    rows |= _drop(case)
    case.bench.say(f"{name}: a partition is dropped")
    return rows


def _ingest_and_roll_up(case: Case, names: Sequence[Named]) -> tuple[Figure, Figure]:
    """Measurements a second that one client posts, and that one worker then rolls up."""
    from budgets.rollups import roll_up

    count = case.bench.scale.rollup_batches
    posts, roll_ups = [], []
    port = case.bench.stack.serve_product()
    for turn in range(_ROUNDS):
        made = list(
            batches(
                count=min(count, 60),
                size=_BATCH_SIZE,
                until=datetime.now(tz=UTC),
                lasting=_BACKLOG_LASTS,
                seed=turn,
                names=names,
            )
        )
        in_turn = [made[position * len(made) // count] for position in range(count)]
        with closing(Poster(port, "/api/v1/measurements", case.token, in_turn)) as post:
            post()  # unmeasured: it may be the first that this server has seen
            began = time.perf_counter()
            for _ in range(count):
                post()
            posts.append(count * _BATCH_SIZE / (time.perf_counter() - began))
        began, rolled_up, is_more = time.perf_counter(), 0, True
        while is_more:
            done = roll_up(now=datetime.now(tz=UTC))
            rolled_up, is_more = rolled_up + done.measurements, done.is_more
        roll_ups.append(rolled_up / (time.perf_counter() - began))
    return Figure.median_of(posts, "/s"), Figure.median_of(roll_ups, "/s")


def _questions(case: Case) -> dict[str, Figure]:
    from alerts.evaluation import evaluate
    from budgets.status import get_feature_status, get_overview, get_timeseries

    same, busiest = case.populations[0].features[0], case.populations[-1].features[0]
    now = datetime.now(tz=UTC)
    target = case.populations[0].targets[0]
    few = case.populations[0].features

    def timeseries(lasting: timedelta, step: int) -> Callable[[], object]:
        return partial(get_timeseries, same, target=target, start=now - lasting, end=now, step=step, now=now)

    def status(feature: object) -> Callable[[], object]:
        return lambda: get_feature_status(feature, milestone="first_token", now=now, window="28d")  # type: ignore[arg-type]

    in_ms = {
        "status of the same feature, 28 days": status(same),
        "status of the busiest feature, 28 days": status(busiest),
        "time series of the same series, 28 days by hour": timeseries(28 * fills.DAY, 3600),
        "time series of the same series, 1 day by minute": timeseries(fills.DAY, 60),
        f"overview of the same {len(few)} features": lambda: get_overview(
            few, now=now, with_component_percentiles=False
        ),
    }
    rows = {
        label: Figure.median_of(samples_ms, "ms")
        for label, samples_ms in ask(in_ms, case.bench.scale.repetitions).items()
    }
    evaluate(feature_ids=None, now=now)  # makes the default rules
    [all_rules] = ask({"": lambda: evaluate(feature_ids=None, now=now)}, 3).values()
    conditions = evaluate(feature_ids=None, now=now).conditions
    rows["evaluation of all rules"] = Figure.median_of(all_rules, "ms")
    rows["evaluation, a condition"] = Figure(percentile(all_rules, 50) * 1e3 / conditions, "µs")
    [one_feature] = ask(
        {"": lambda: evaluate(feature_ids=[same.pk], now=now)}, case.bench.scale.repetitions
    ).values()
    rows["evaluation of the same feature"] = Figure.median_of(one_feature, "ms")
    return rows


# -- retention --------------------------------------------------------------------------------------


def _drop(case: Case) -> dict[str, Figure]:
    """The oldest day's raw measurements and minutes go, as their sweep lets them go, while others read and write."""
    from django.test import override_settings

    from budgets.partitions import GRACE, RETENTION_SETTINGS, drop_expired, existing_days

    rows: dict[str, Figure] = {}
    for label, table in (("raw measurements", "budgets_measurement"), ("minutes", "budgets_rollup_minute")):
        oldest = min(existing_days(table))
        name = f"{table}_{oldest:%Y%m%d}"
        size, rows_there = _partition(name)
        # Nothing but this table is beyond its retention, and nothing of it but this day.
        kept_days = dict.fromkeys(RETENTION_SETTINGS.values(), 10_000) | {RETENTION_SETTINGS[table]: 1}
        midnight = datetime.combine(oldest, datetime.min.time(), tzinfo=UTC)
        with override_settings(**kept_days), _others_at_work(case) as longest_ms:
            began = time.perf_counter()
            dropped = drop_expired(midnight + 2 * fills.DAY + GRACE)
            taken_ms = (time.perf_counter() - began) * 1e3
        assert dropped == [name], f"expected {name} to be dropped, got {dropped}"
        rows[f"dropping a day of {label}"] = Figure(taken_ms, "ms")
        rows[f"… of {label}: on disk"] = Figure(size / 1e6, "MB")
        rows[f"… of {label}: rows"] = Figure(rows_there, "")
        rows[f"… of {label}: longest read or write meanwhile"] = Figure(longest_ms[0], "ms")
    rows["locks that dropping a day of raw measurements takes"] = Figure(
        _locks(case, "budgets_measurement"), ""
    )
    return rows


def _partition(name: str) -> tuple[int, int]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_total_relation_size(oid), greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass",
            [name],
        )
        size, rows = cursor.fetchone()
    return int(size), int(rows)


def _locks(case: Case, table: str) -> int:
    """How many tables and indexes are locked against everybody while the oldest partition goes; it stays."""
    from budgets.partitions import existing_days

    name = f"{table}_{min(existing_days(table)):%Y%m%d}"
    with connect(case.bench.stack.data_dir) as database:
        database.execute("BEGIN")
        database.execute(f"DROP TABLE {name}")
        row = database.execute(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'"
            " AND locktype = 'relation'"
        ).fetchone()
        database.execute("ROLLBACK")
    assert row is not None
    return int(row[0])


@contextmanager
def _others_at_work(case: Case) -> Iterator[list[float]]:
    """A reader of today's measurements and a writer go on; the list holds the longest that either took, in ms."""
    is_over, longest_ms = threading.Event(), [0.0]
    has_begun = threading.Semaphore(0)
    midnight = case.now.replace(hour=0, minute=0, second=0, microsecond=0)
    series_id = int(case.populations[0].series_ids[0, 0])
    start = case.now - timedelta(minutes=1)

    def loop(statement: str, parameters: list[object]) -> None:
        with connect(case.bench.stack.data_dir) as database:
            while not is_over.is_set():
                began = time.perf_counter()
                database.execute(statement, parameters)
                longest_ms[0] = max(longest_ms[0], (time.perf_counter() - began) * 1e3)
                has_begun.release()

    with ThreadPoolExecutor(2) as threads:
        others = [
            threads.submit(loop, _READER, [start, start + timedelta(seconds=1), series_id]),
            threads.submit(loop, _WRITER, [max(midnight, start), series_id]),
        ]
        try:
            for _ in range(20):
                has_begun.acquire(timeout=10)
            longest_ms[0] = 0.0
            yield longest_ms
        finally:
            is_over.set()
        for other in others:
            other.result()
