"""Reading: whatever was measured, in whatever order, a range reads as if it were computed from raw just now."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budgets import rollups
from budgets.models import Feature, Series
from budgets.partitions import ensure_partitions
from budgets.tiles import Counts, Range, Totals, read_buckets, read_counts, read_ranges
from tests.budgets.brute_force import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Sample,
    counts_of,
    instant,
    is_close,
    percentile_of,
    row_of,
)
from tests.budgets.histories import (
    END_US,
    LIMITS_MS,
    START_US,
    Post,
    Step,
    histories,
    limit,
    lived,
    ranges_us,
    samples_of,
)
from tests.factories import NOW

pytestmark = pytest.mark.django_db
NAMES = sorted(LIMITS_MS)
MIDNIGHT_US = END_US // DAY_US * DAY_US


@pytest.fixture
def days() -> None:
    """The partitions of these days, so that no example has to make them."""
    found = [instant(day).date() for day in range(START_US - DAY_US, END_US + DAY_US, DAY_US)]
    for table in ("budgets_measurement", "budgets_rollup_minute"):
        ensure_partitions(table, found)


def read(feature: Feature, ranges: list[tuple[int, int]]) -> list[dict[str, Totals]]:
    """For each range the totals of each component and milestone, over all releases."""
    groups = {
        pk: NAMES.index(component or milestone)
        for pk, component, milestone in Series.objects.filter(feature=feature).values_list(
            "pk", "component__name", "milestone"
        )
    }
    found = read_ranges(
        groups, [Range(instant(start), instant(end), with_histogram=True) for start, end in ranges]
    )
    return [{NAMES[group]: totals for group, totals in one.items()} for one in found]


def within(samples: list[Sample], start_us: int, end_us: int) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if start_us <= sample.ended_us < end_us:
            found.setdefault(sample.name, []).append(sample)
    return found


def assert_is(totals: Totals, samples: list[Sample]) -> None:
    """Everything that totals say is what the samples give: counts exactly, percentiles within 1.1 %."""
    expected = row_of(samples, limit)
    assert totals.counts == counts_of(samples, limit)
    assert {name: getattr(totals, name) for name in ("sum_us", "max_ms", "max_trace_id")} == {
        name: expected[name] for name in ("sum_us", "max_ms", "max_trace_id")
    }
    for name, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        found = getattr(totals.percentiles_ms, name)
        assert is_close(found, percentile_of(samples, q)), (name, found, percentile_of(samples, q))


@pytest.mark.usefixtures("days")
@settings(max_examples=60, deadline=None)
@example(
    # Just as slow on both sides of midnight, of which one has no trace.
    history=[
        Post(
            [
                Sample("model", MIDNIGHT_US - 1, 5.0, trace_id="0" * 31 + "1"),
                Sample("model", MIDNIGHT_US, 5.0),
            ]
        )
    ],
    ranges=[(MIDNIGHT_US - MINUTE_US, MIDNIGHT_US + MINUTE_US)],
)
@example(  # Whole hours and days alone, of which no minutes are read.
    history=[Post([Sample("model", MIDNIGHT_US, 5.0)])],
    ranges=[(MIDNIGHT_US, MIDNIGHT_US + HOUR_US), (MIDNIGHT_US - DAY_US, MIDNIGHT_US + DAY_US)],
)
@given(history=histories, ranges=st.lists(ranges_us, min_size=1, max_size=5))
def test_every_range_reads_as_computed_from_raw_whatever_happened_in_whatever_order(
    history: list[Step], ranges: list[tuple[int, int]]
):
    with lived(history) as feature:
        samples = samples_of(history)
        for _ in ("before", "after"):
            for found, (start, end) in zip(read(feature, ranges), ranges, strict=True):
                expected = within(samples, start, end)
                assert found.keys() == expected.keys()
                for name, several in expected.items():
                    assert_is(found[name], several)
            assert read_counts_by_name(feature, ranges) == [
                {name: counts_of(several, limit) for name, several in within(samples, *one).items()}
                for one in ranges
            ]
            rollups.compact(now=NOW)


def read_counts_by_name(feature: Feature, ranges: list[tuple[int, int]]) -> list[dict[str, Counts]]:
    """For each range the counters of each component and milestone, over all releases, by the faster reader."""
    names = {
        pk: component or milestone
        for pk, component, milestone in Series.objects.filter(feature=feature).values_list(
            "pk", "component__name", "milestone"
        )
    }
    found: list[dict[str, Counts]] = []
    for one in read_counts(list(names), [Range(instant(start), instant(end)) for start, end in ranges]):
        found.append({})
        for pk, counts in one.items():
            found[-1][names[pk]] = found[-1].get(names[pk], Counts()) + counts
    return found


@pytest.mark.usefixtures("days")
@settings(max_examples=30, deadline=None)
@given(history=histories, width_us=st.sampled_from([MINUTE_US, HOUR_US, DAY_US]), range_us=ranges_us)
def test_every_bucket_of_a_time_series_reads_as_computed_from_raw(
    history: list[Step], width_us: int, range_us: tuple[int, int]
):
    start = range_us[0] // width_us * width_us
    end = -(-range_us[1] // width_us) * width_us
    with lived(history) as feature:
        series = Series.objects.filter(feature=feature, component__name="model")
        if not series:
            return
        found = read_buckets(
            list(series.values_list("pk", flat=True)),
            instant(start),
            instant(end),
            timedelta(microseconds=width_us),
        )
        expected: dict[int, list[Sample]] = {}
        for sample in within(samples_of(history), start, end).get("model", []):
            expected.setdefault(sample.ended_us // width_us * width_us, []).append(sample)
        assert {instant(bucket) for bucket in expected} == found.keys()
        for bucket, several in expected.items():
            assert_is(found[instant(bucket)], several)
