"""The counters that rules decide by are those that every other answer is made of."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from budgets import rollups
from budgets.burn_rates import BURN_RATE_WINDOWS, last_full_minute, window_bounds
from budgets.models import Feature, Series, Team
from budgets.tiles import Counts, Range, read_counts, read_ranges
from budgets.windows import LAST_FULL_MINUTE, window_counts
from tests.factories import NOW, make_feature, make_team, measure, measurement

pytestmark = pytest.mark.django_db

STATUSES = ["ok", "ok", "ok", "error", "timeout"]


def scatter(feature: Feature, seed: int, *, count: int, back: timedelta) -> None:
    """Measurements of everything, anywhere within `back` of NOW."""
    chance = np.random.default_rng(seed)
    wheres = [{"milestone": "first_token"}, {"component": "tools"}, {"component": "model", "release": "v2"}]
    measure(
        feature.team,
        [
            measurement(
                feature,
                ended_at=NOW - back * chance.random(),
                duration_ms=float(chance.choice([100.0, 5000.0])),
                status=str(chance.choice(STATUSES)),
                **wheres[int(chance.integers(len(wheres)))],
            )
            for _ in range(count)
        ],
    )


@pytest.mark.parametrize("seed", range(4))
def test_counters_read_alone_are_those_read_with_histograms(seed: int) -> None:
    feature = make_feature()
    scatter(feature, seed, count=600, back=timedelta(days=4))
    rollups.compact(now=NOW)
    scatter(feature, seed + 100, count=60, back=timedelta(days=4))  # late: some hours and days are dirty
    series_ids = list(Series.objects.values_list("pk", flat=True))
    chance = np.random.default_rng(seed)
    ranges = []
    for _ in range(6):
        first, last = sorted(chance.integers(0, 4 * 24 * 60, size=2).tolist())
        start = NOW.replace(second=0) - timedelta(minutes=last + 1)
        ranges.append(Range(start, start + timedelta(minutes=last - first + 1)))
    expected = read_ranges({pk: pk for pk in series_ids}, ranges)
    assert read_counts(series_ids, ranges) == [
        {pk: totals.counts for pk, totals in one.items()} for one in expected
    ]


def test_windows_add_up_releases_and_hold_the_minutes_they_should() -> None:
    feature = make_feature()
    minute = NOW.replace(second=0)

    def at(start: datetime, **where: str) -> dict:
        return measurement(feature, ended_at=start, duration_ms=5000, **where)

    measure(
        feature.team,
        [
            at(minute, milestone="first_token", release="v1"),
            at(minute, milestone="first_token", release="v2"),
            at(minute - timedelta(minutes=1), milestone="first_token"),
            at(minute - timedelta(minutes=4), milestone="first_token"),
            at(minute - timedelta(minutes=5), milestone="first_token"),
            at(minute - timedelta(minutes=4), component="tools"),
            at(minute - timedelta(minutes=5), component="tools"),
        ],
    )
    counts = window_counts([feature.pk], now=NOW)
    milestone = counts[feature.pk, "milestone:first_token"]
    assert {name: one.bad for name, one in milestone.items()} == {
        LAST_FULL_MINUTE: 1,
        "5m": 4,
        **dict.fromkeys(["30m", "1h", "2h", "6h", "1d", "3d"], 5),
    }
    assert counts[feature.pk, "component:tools"] == {"5m": Counts(total=1, judged=1, over=1)}
    assert window_bounds(NOW, BURN_RATE_WINDOWS["5m"]).start == minute - timedelta(minutes=4)
    assert last_full_minute(NOW).end == minute


def test_a_target_that_was_measured_long_ago_is_known_and_counts_nothing() -> None:
    feature = make_feature()
    measure(
        feature.team,
        [measurement(feature, ended_at=NOW - timedelta(days=5), duration_ms=1, component="tools")],
    )
    assert window_counts([feature.pk], now=NOW) == {(feature.pk, "component:tools"): {}}


def test_the_number_of_statements_does_not_grow_with_the_features() -> None:
    def statements(team: Team) -> int:
        ids = list(Feature.objects.filter(team=team).values_list("pk", flat=True))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            window_counts(ids, now=NOW)
        return len(queries)

    few, many = make_team(), make_team()
    for team, number in ((few, 1), (many, 6)):
        for _ in range(number):
            scatter(make_feature(team=team), number, count=20, back=timedelta(days=4))
    assert statements(many) == statements(few) <= 3
