"""Counters of a target minute by minute, and of hours where minutes are no longer kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from budgets import rollups
from budgets.minute_counts import MinuteCounts, minute_counts
from budgets.models import Feature, HourRollup
from tests.factories import NOW, make_feature, make_traffic

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def feature() -> Feature:
    return make_feature()


def read(
    feature: Feature,
    *,
    start: datetime,
    target: str = "milestone:first_token",
    environment: str = "production",
) -> MinuteCounts:
    return minute_counts(
        feature=feature, environment=environment, target=target, start=start, end=NOW, now=NOW
    )


def at(found: MinuteCounts, instant: datetime, name: str = "total") -> int:
    return int(found.counters[name][(instant - found.start) // MINUTE])


def keep_only_hours(feature: Feature, instant: datetime, *, total: int, good: int) -> None:
    """An hour whose minutes are beyond the retention."""
    make_traffic(feature, at=instant, count=1, over=0, milestone="first_token", now=NOW)
    series_id = feature.series.get(milestone="first_token").pk
    hour = instant.replace(minute=0, second=0, microsecond=0)
    HourRollup.objects.create(
        series_id=series_id,
        start=hour - 20 * DAY,
        total=total,
        errors=0,
        timeouts=0,
        judged=total,
        good=good,
        over=total - good,
        sum_us=0,
        scale=5,
        zero_count=0,
        histogram=b"",
    )


def test_every_counter_stands_at_its_minute(feature: Feature) -> None:
    when = NOW - 3 * HOUR
    make_traffic(feature, at=when, count=5, over=2, over_status="timeout", milestone="first_token", now=NOW)
    make_traffic(feature, at=when, count=1, over=0, milestone="first_token", release="v2", now=NOW)
    make_traffic(feature, at=when, count=9, over=0, component="tools", now=NOW)
    make_traffic(feature, at=when, count=9, over=0, milestone="first_token", environment="staging", now=NOW)
    found = read(feature, start=NOW - DAY)
    values = {name: at(found, when, name) for name in found.counters}
    assert values == {
        "judged": 6,
        "good": 4,
        "over": 2,
        "total": 6,
        "errors": 0,
        "timeouts": 2,
        "sum_us": 4 * 100_000 + 2 * 9_000_000,
    }
    assert {name: int(counter.sum()) for name, counter in found.counters.items()} == values
    assert found.measured_from == when.replace(second=0)
    assert found.exact_from == found.start == (NOW - DAY).replace(minute=0, second=0)
    assert len(found.counters["total"]) == (NOW.replace(second=0) + MINUTE - found.start) // MINUTE
    assert at(read(feature, start=NOW - DAY, target="component:tools"), when) == 9
    assert at(read(feature, start=NOW - DAY, environment="staging"), when) == 9


def test_an_hour_without_minutes_is_spread_evenly_and_adds_up(feature: Feature) -> None:
    keep_only_hours(feature, NOW - HOUR, total=100, good=90)
    found = read(feature, start=NOW - 28 * DAY)
    hour = (NOW - HOUR).replace(minute=0, second=0) - 20 * DAY
    first = (hour - found.start) // MINUTE
    spread = found.counters["total"][first : first + 60]
    assert spread.sum() == 100
    assert set(spread.tolist()) == {1, 2}
    assert found.counters["over"][first : first + 60].sum() == 10
    assert found.counters["judged"][:first].sum() == 0
    assert (found.counters["total"] >= found.counters["judged"]).all()
    assert found.measured_from == hour
    # Two weeks of whole days are kept.
    assert found.exact_from == (NOW - 14 * DAY).replace(hour=0, minute=0, second=0)


def test_an_hour_that_waits_to_be_derived_is_read_from_its_minutes(feature: Feature, settings) -> None:
    when = NOW - 3 * DAY
    make_traffic(feature, at=when, count=6, over=1, milestone="first_token", now=NOW)
    settings.MINUTE_RETENTION_DAYS = 1  # the partition is there until what is dirty is derived
    assert read(feature, start=NOW - 5 * DAY).counters["over"].sum() == 1
    rollups.compact(now=NOW)
    found = read(feature, start=NOW - 5 * DAY)
    assert (found.counters["total"].sum(), found.counters["over"].sum()) == (6, 1)


def test_what_was_never_measured_is_all_nothing(feature: Feature) -> None:
    found = read(feature, start=NOW - DAY)
    assert found.measured_from is None
    assert not any(counter.any() for counter in found.counters.values())


def test_reading_takes_two_statements_for_the_counters(feature: Feature, django_assert_num_queries) -> None:
    make_traffic(feature, at=NOW - HOUR, count=5, over=2, milestone="first_token", now=NOW)
    with django_assert_num_queries(3):  # and one for the series
        read(feature, start=NOW - 28 * DAY)
