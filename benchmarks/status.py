"""What status and time series over 28 days cost, beside percentiles of one day straight from raw measurements."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from . import fills
from .bench import TEAM, Bench
from .report import Aim, Figure, Section, number, percentile

AIM_STATUS_MS = 50.0

# The quantiles that status gives, in PostgreSQL's own words.
_FROM_RAW = """
SELECT series_id, percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms), count(*)
FROM budgets_measurement
WHERE ended_at >= %s AND ended_at < %s AND series_id = ANY(%s) AND status <> 1
GROUP BY series_id
"""


def run(bench: Bench) -> Section:
    """One feature is filled; then each question is asked again and again, all in turns."""
    from django.db import connection

    from budgets.models import Team
    from budgets.status import get_feature_status, get_timeseries

    size, now = bench.scale.status, datetime.now(tz=UTC)
    bench.empty()
    team = Team.objects.create(slug=TEAM, name=TEAM)
    population = fills.fill(team, "status", size, now=now, say=bench.say)
    yesterday = now.replace(hour=0, minute=0, second=0, microsecond=0) - fills.DAY
    fills.check(yesterday + 12 * fills.HOUR, yesterday + 13 * fills.HOUR, now)
    [feature] = population.features
    target = population.targets[0]

    def from_raw() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                _FROM_RAW, [yesterday, yesterday + fills.DAY, population.series_ids.ravel().tolist()]
            )
            assert len(cursor.fetchall()) == size.series

    def timeseries(lasting: timedelta, step: int) -> Callable[[], object]:
        return lambda: get_timeseries(
            feature, target=target, start=now - lasting, end=now, step=step, now=now
        )

    questions = {
        "status, 28 days": lambda: get_feature_status(
            feature, milestone="first_token", now=now, window="28d"
        ),
        "time series of a series, 28 days by hour": timeseries(28 * fills.DAY, 3600),
        "time series of a series, 1 day by minute": timeseries(fills.DAY, 60),
        "percentile_cont on raw, 1 day": from_raw,
    }
    asked = ask(questions, bench.scale.repetitions)
    per_day = size.measurements * fills.DAY / (now - yesterday + (size.raw_days - 1) * fills.DAY)
    rows = {
        label: {
            "": Figure.median_of(samples_ms, "ms"),
            "p95": Figure(percentile(samples_ms, 95), "ms"),
            "queries": Figure(count_queries(questions[label]), ""),
        }
        for label, samples_ms in asked.items()
    }
    return Section(
        title=f"Status: {size.series} series over {size.history_days} days, {number(round(per_day))} measurements a "
        f"day (median of {bench.scale.repetitions})",
        rows=rows,
        aims=[Aim("status of 28 days", rows["status, 28 days"][""].value, "≤", AIM_STATUS_MS, "ms")],
        notes=[
            "Status reads 28 days of all series from rollups: counters, error budget, burn rates, percentiles. The last",
            "row gives the three percentiles of the same series from raw measurements of a single day, and no more.",
        ],
    )


def ask(questions: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """How long each took, in ms, asked in turns; once before that, unmeasured."""
    taken_ms: dict[str, list[float]] = {label: [] for label in questions}
    for turn in range(repetitions + 1):
        for label, question in questions.items():
            began = time.perf_counter()
            question()
            if turn:
                taken_ms[label].append((time.perf_counter() - began) * 1e3)
    return taken_ms


def count_queries(question: Callable[[], object]) -> int:
    """How many statements it sends to PostgreSQL."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        question()
    return len(captured)
