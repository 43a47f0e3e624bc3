"""What minutes would have been judged under another limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from budgets.minute_counts import MinuteCounts, minute_counts
from budgets.models import Feature
from budgets.rejudged_minutes import RejudgedMinutes, rejudged_minutes
from budgets.tiles import Range, read_ranges
from tests.factories import NOW, feature_document, make_feature, make_traffic, measure, measurement, redeclare

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
END = NOW.replace(second=0)
TARGET = "milestone:first_token"


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=NOW - 3 * HOUR)


def counts_of(feature: Feature, *, days: int = 1, now: datetime = NOW) -> MinuteCounts:
    return minute_counts(
        feature=feature,
        environment="production",
        target=TARGET,
        start=now - timedelta(days=days),
        end=now,
        now=now,
    )


def rejudged(feature: Feature, limit_ms: float, counts: MinuteCounts | None = None) -> RejudgedMinutes:
    return rejudged_minutes(
        feature=feature,
        environment="production",
        target=TARGET,
        counts=counts or counts_of(feature),
        limit_ms=limit_ms,
    )


def good(found: RejudgedMinutes) -> int:
    return int(found.good.sum())


def test_the_limit_that_was_in_force_gives_the_exact_counters(feature: Feature) -> None:
    make_traffic(feature, at=END - HOUR, count=50, over=7, over_ms=3000.5, milestone="first_token", now=NOW)
    counts = counts_of(feature)
    found = rejudged(feature, 3000.0, counts)
    assert not found.is_estimated
    np.testing.assert_array_equal(found.good, counts.counters["good"])
    np.testing.assert_array_equal(found.judged, counts.counters["judged"])


def test_another_limit_is_asked_of_histograms_minute_by_minute(feature: Feature) -> None:
    for minutes, over in ((60, 7), (30, 0), (20, 3)):
        make_traffic(
            feature,
            at=END - minutes * MINUTE,
            count=20,
            over=over,
            over_ms=2_000,
            milestone="first_token",
            now=NOW,
        )
    found = rejudged(feature, 1_000.0)
    assert found.is_estimated
    assert [int(n) for n in found.good[found.judged > 0]] == [13, 20, 17]
    assert good(rejudged(feature, 2_500.0)) == 60


def test_errors_and_timeouts_are_bad_under_any_limit(feature: Feature) -> None:
    at = {"milestone": "first_token", "now": NOW, "count": 10, "over": 2, "over_ms": 500.0}
    make_traffic(feature, at=END - 60 * MINUTE, over_status="error", **at)
    make_traffic(feature, at=END - 50 * MINUTE, over_status="timeout", **at)
    found = rejudged(feature, 1_000_000.0)
    assert (int(found.judged.sum()), good(found)) == (20, 16)


def test_the_longest_duration_is_known_exactly_within_its_bucket(feature: Feature) -> None:
    """1003 and 1010 ms share a bucket; by it alone either limit would divide both."""
    measure(
        feature.team,
        [
            measurement(feature, ended_at=END - HOUR, duration_ms=1_003.0, milestone="first_token"),
            measurement(feature, ended_at=END - 2 * HOUR, duration_ms=1_010.0, milestone="first_token"),
        ],
        now=NOW,
    )
    assert good(rejudged(feature, 1_003.0)) == 1
    assert good(rejudged(feature, 1_010.0)) == 2


def test_fractions_of_buckets_add_up_over_the_minutes(feature: Feature) -> None:
    for n in range(10):
        make_traffic(
            feature,
            at=END - (60 + n) * MINUTE,
            count=5,
            over=5,
            over_ms=1_008.0,
            milestone="first_token",
            now=NOW,
        )
    limit_ms = 1_005.0
    pk = feature.series.get().pk
    [totals] = read_ranges({pk: 0}, [Range(END - DAY, END, with_histogram=True)])
    histogram = totals[0].histogram
    assert histogram is not None
    whole = histogram.count_above(limit_ms)
    assert 10 < whole < 50
    assert good(rejudged(feature, limit_ms)) == pytest.approx(50 - whole, abs=1)


def test_minutes_before_a_change_are_estimated_and_those_after_it_are_exact(feature: Feature) -> None:
    make_traffic(
        feature, at=END - 2 * HOUR, count=10, over=4, over_ms=2_500, milestone="first_token", now=NOW
    )
    [budget] = feature_document()["latency_budgets"]
    redeclare(feature, now=END - HOUR, latency_budgets=[{**budget, "budget_ms": 2_000, "allocations": {}}])
    make_traffic(
        feature, at=END - 30 * MINUTE, count=10, over=2, over_ms=2_001, milestone="first_token", now=NOW
    )
    found = rejudged(feature, 2_000.0)
    assert found.is_estimated
    assert [int(n) for n in found.good[found.judged > 0]] == [6, 8]


def test_where_only_hours_are_kept_they_are_spread_evenly(feature: Feature, settings: Any) -> None:
    hour = (END - 2 * DAY).replace(minute=0)
    make_traffic(
        feature,
        at=hour + 5 * MINUTE,
        count=60,
        over=30,
        over_ms=2_000,
        milestone="first_token",
        now=hour + 10 * MINUTE,
    )
    settings.MINUTE_RETENTION_DAYS = 1
    counts = counts_of(feature, days=3)
    assert counts.exact_from > hour.astimezone(UTC) + HOUR
    found = rejudged(feature, 1_000.0, counts)
    first = (hour - counts.start) // MINUTE
    assert (int(found.judged[first : first + 60].sum()), good(found)) == (60, 30)
    assert set(found.judged[first : first + 60]) == {1}
    assert found.good[first : first + 60].max() == 1
