"""Latency histograms: golden numbers of the OpenTelemetry data model, and the laws of merging."""

import math
import re
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.histogram import (
    MAX_SCALE,
    MAX_VALUE_MS,
    MIN_SCALE,
    PACKED,
    ZERO_BUCKET,
    ZERO_THRESHOLD_MS,
    AtLeast,
    LatencyHistogram,
    bucket_indexes,
    merge_groups,
    pack_groups,
    percentile,
)

BASE = 2 ** (1 / 64)
SEVEN_DAYS_MS = 7 * 24 * 3600 * 1000.0

durations = st.one_of(
    st.just(0.0),
    st.floats(min_value=0, max_value=SEVEN_DAYS_MS),
    st.floats(min_value=0.1, max_value=30_000),
    st.integers(min_value=1, max_value=10_000).map(float),
    st.integers(min_value=-20, max_value=29).map(lambda exponent: 2.0**exponent),
)
some_durations = st.lists(durations, max_size=60)
scales = st.integers(min_value=MIN_SCALE, max_value=MAX_SCALE)
histograms = st.builds(LatencyHistogram.from_values, some_durations, scales)
shares = st.floats(min_value=0, max_value=1)


def inverted_cdf(values: list[float], q: float) -> float:
    return float(np.quantile(np.asarray(values), q, method="inverted_cdf"))


# Which bucket


def test_indexes_are_those_of_the_opentelemetry_data_model():
    """Source: OpenTelemetry metrics data model, exponential histogram: (base^i, base^(i+1)], scale 6."""
    values = [0.5, 1, 1.5, 2, 3, 100, 1000, 1024, 12345.678]
    assert bucket_indexes(values).tolist() == [-65, -1, 37, 63, 101, 425, 637, 639, 869]


def test_indexes_at_scale_0_and_below_are_whole_powers():
    """Source: OpenTelemetry metrics data model, scale zero and negative scales."""
    values = [0.25, 0.5, 0.75, 1, 1.5, 2, 4, 4.5, 16, 17]
    assert bucket_indexes(values, scale=0).tolist() == [-3, -2, -1, -1, 0, 0, 1, 2, 3, 4]
    assert bucket_indexes(values, scale=-1).tolist() == [-2, -1, -1, -1, 0, 0, 0, 1, 1, 2]


def test_every_power_of_two_is_the_upper_bound_of_its_bucket():
    exponents = np.arange(-511, 513)
    powers = np.ldexp(1.0, exponents)
    assert np.array_equal(bucket_indexes(powers), exponents * 64 - 1)
    assert np.array_equal(bucket_indexes(np.nextafter(powers, 0)), exponents * 64 - 1)
    assert np.array_equal(bucket_indexes(np.nextafter(powers[:-1], np.inf)), exponents[:-1] * 64)


@given(st.floats(min_value=1e-6, max_value=SEVEN_DAYS_MS))
def test_a_duration_lies_between_the_bounds_of_its_bucket(value):
    index = int(bucket_indexes([value])[0])
    assert 2.0 ** (index / 64) * (1 - 1e-14) < value <= 2.0 ** ((index + 1) / 64) * (1 + 1e-14)


@given(durations, scales)
def test_an_index_at_a_lower_scale_is_the_shifted_one(value, scale):
    fine, coarse = int(bucket_indexes([value])[0]), int(bucket_indexes([value], scale)[0])
    assert coarse == (ZERO_BUCKET if fine == ZERO_BUCKET else fine >> (MAX_SCALE - scale))


def test_the_extremes_that_are_counted_fit_an_int16():
    smallest, largest = bucket_indexes([np.nextafter(ZERO_THRESHOLD_MS, 1), MAX_VALUE_MS])
    assert (smallest, largest) == (np.iinfo(np.int16).min, np.iinfo(np.int16).max)


@pytest.mark.parametrize("scale", [MAX_SCALE, 0, MIN_SCALE])
def test_durations_up_to_the_zero_threshold_are_zeros_at_every_scale(scale):
    assert bucket_indexes([0.0, -0.0, 5e-324, ZERO_THRESHOLD_MS], scale).tolist() == [ZERO_BUCKET] * 4
    assert LatencyHistogram.from_values([0, 5e-324, 1.0], scale).zero_count == 2


@pytest.mark.parametrize("unusable", [-1.0, -5e-324, math.nan, math.inf, MAX_VALUE_MS * 2])
def test_what_is_no_duration_is_refused_by_name(unusable):
    with pytest.raises(ValueError, match=re.escape(f"between 0 and 2^512 ms, got {unusable}")):
        bucket_indexes([1.0, unusable, 2.0])


@pytest.mark.parametrize("scale", [MIN_SCALE - 1, MAX_SCALE + 1])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be"):
        LatencyHistogram.from_values([1.0], scale)


# Adding up


@given(some_durations, scales)
def test_every_duration_is_counted_once(values, scale):
    histogram = LatencyHistogram.from_values(values, scale)
    assert histogram.total == len(values)
    assert np.all(np.diff(histogram.buckets) > 0)
    assert np.all(histogram.counts > 0)


@given(some_durations, some_durations)
def test_merging_is_the_histogram_of_all_durations(some, others):
    merged = LatencyHistogram.from_values(some).merge(LatencyHistogram.from_values(others))
    assert merged == LatencyHistogram.from_values(some + others)


@given(histograms, histograms)
def test_merging_is_commutative(one, other):
    assert one.merge(other) == other.merge(one)


@given(histograms, histograms, histograms)
def test_merging_is_associative(one, two, three):
    assert one.merge(two).merge(three) == one.merge(two.merge(three)) == one.merge(two, three)


@given(histograms)
def test_merging_with_nothing_changes_nothing(histogram):
    assert histogram.merge() == histogram == histogram.merge(LatencyHistogram.from_values([]))


@given(some_durations, some_durations, scales)
def test_downscaling_commutes_with_merging(some, others, scale):
    one, other = LatencyHistogram.from_values(some), LatencyHistogram.from_values(others)
    assert one.merge(other).downscale(scale) == one.downscale(scale).merge(other.downscale(scale))
    assert one.merge(other.downscale(scale)) == one.merge(other).downscale(scale)


@given(some_durations, scales)
def test_downscaling_is_the_histogram_at_that_scale(values, scale):
    assert LatencyHistogram.from_values(values).downscale(scale) == LatencyHistogram.from_values(
        values, scale
    )


def test_a_histogram_cannot_be_refined():
    with pytest.raises(ValueError, match="scale 3 cannot be refined to scale 4"):
        LatencyHistogram.from_values([1.0], scale=3).downscale(4)


# Quantiles


@given(st.lists(durations, min_size=1, max_size=80), shares)
def test_a_quantile_is_within_base_minus_one_of_the_sorted_durations(values, q):
    actual = inverted_cdf(values, q)
    estimate = LatencyHistogram.from_values(values).quantile(q)
    if actual <= ZERO_THRESHOLD_MS:
        assert estimate == 0
    else:
        assert abs(estimate / actual - 1) <= (BASE - 1) * (1 + 1e-9)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99, 0.999])
def test_quantiles_of_long_tailed_latencies_are_far_inside_the_bound(q):
    """A million log-normal durations: interpolation within the bucket leaves less than 0.1 %."""
    values = np.random.default_rng(2026).lognormal(6.5, 0.8, 1_000_000)
    histogram = LatencyHistogram.from_values(values)
    assert histogram.quantile(q) == pytest.approx(np.quantile(values, q, method="inverted_cdf"), rel=0.001)


def test_a_quantile_interpolates_geometrically_within_its_bucket():
    """Source: Prometheus, histogram_quantile on native histograms: 2^((i + f)/2^scale)."""
    histogram = LatencyHistogram.from_values([3.0] * 4, scale=0)  # the bucket (2, 4]
    assert histogram.quantile(0.25) == pytest.approx(2**1.25)
    assert histogram.quantile(0.5) == pytest.approx(2**1.5)
    assert histogram.quantile(1) == 4


def test_a_rank_at_the_end_of_a_bucket_stays_in_it():
    histogram = LatencyHistogram.from_values([1.0] * 50 + [1000.0] * 50)
    assert histogram.quantile(0.5) == 1.0


def test_zeros_are_the_lowest_ranks():
    histogram = LatencyHistogram.from_values([0.0] * 90 + [1000.0] * 10)
    assert histogram.quantile(0) == histogram.quantile(0.9) == 0
    assert histogram.quantile(0.91) == pytest.approx(1000, rel=BASE - 1)
    assert LatencyHistogram.from_values([0.0, 0.0]).quantile(1) == 0


def test_a_quantile_of_nothing_is_none():
    assert LatencyHistogram.from_values([]).quantile(0.5) is None


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(q):
    with pytest.raises(ValueError, match="q must be 0 to 1"):
        LatencyHistogram.from_values([1.0]).quantile(q)


# Counts above a limit


@given(some_durations, st.integers(min_value=-20, max_value=30))
def test_the_count_above_a_bound_of_a_bucket_is_exact(values, exponent):
    limit_ms = 2.0**exponent
    above = LatencyHistogram.from_values(values).count_above(limit_ms)
    assert above == sum(value > limit_ms for value in values)


@given(some_durations, st.floats(min_value=0, max_value=SEVEN_DAYS_MS))
def test_the_count_above_any_limit_errs_within_one_bucket(values, limit_ms):
    above = LatencyHistogram.from_values(values).count_above(limit_ms)
    measured = [value for value in values if value > ZERO_THRESHOLD_MS]
    assert above <= sum(value > limit_ms / (BASE * 1.0001) for value in measured) + 1e-9
    assert above >= sum(value > limit_ms * (BASE * 1.0001) for value in measured) - 1e-9


@given(st.lists(st.floats(min_value=0.1, max_value=30_000), min_size=1, max_size=60), shares)
def test_the_count_above_a_quantile_is_the_share_beyond_it(values, q):
    histogram = LatencyHistogram.from_values(values)
    assert histogram.count_above(histogram.quantile(q)) == pytest.approx((1 - q) * len(values), abs=1e-6)


def test_counts_above_the_edges():
    histogram = LatencyHistogram.from_values([0.0, 1.0, 10.0])
    assert histogram.count_above(0) == 2
    assert histogram.count_above(MAX_VALUE_MS) == histogram.count_above(math.inf) == 0
    assert LatencyHistogram.from_values([]).count_above(10) == 0
    for limit_ms in (-1.0, math.nan):
        with pytest.raises(ValueError, match="limit_ms must be ≥ 0"):
            histogram.count_above(limit_ms)


# Timeouts


def test_a_timeout_ranks_above_every_finished_duration():
    finished = LatencyHistogram.from_values([100.0] * 98)
    assert percentile(finished, 2, 0.98, 30_000.0) == pytest.approx(100, rel=BASE - 1)
    assert percentile(finished, 2, 0.99, 30_000.0) == AtLeast(30_000.0)
    assert percentile(finished, 2, 0.5, 30_000.0) == finished.at_rank(50)


@given(
    st.lists(durations, min_size=1, max_size=60),
    st.integers(min_value=0, max_value=40),
    st.sampled_from([0.01, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0]),
)
def test_a_percentile_with_timeouts_is_that_of_the_sorted_durations_and_infinities(values, timeouts, q):
    actual = inverted_cdf(values + [math.inf] * timeouts, q)
    answer = percentile(LatencyHistogram.from_values(values), timeouts, q, 123.0)
    if math.isinf(actual):
        assert answer == AtLeast(123.0)
    else:
        assert answer == pytest.approx(actual, rel=(BASE - 1) * (1 + 1e-9), abs=ZERO_THRESHOLD_MS)


def test_a_percentile_of_timeouts_alone_is_a_lower_bound_at_every_rank():
    nothing = LatencyHistogram.from_values([])
    assert percentile(nothing, 3, 0.0, 8000.0) == percentile(nothing, 3, 0.5, 8000.0) == AtLeast(8000.0)


def test_a_percentile_of_nothing_is_none():
    assert percentile(LatencyHistogram.from_values([]), 0, 0.99, None) is None


def test_a_percentile_among_timeouts_asks_for_its_lower_bound():
    with pytest.raises(ValueError, match="at_least_ms is needed"):
        percentile(LatencyHistogram.from_values([1.0]), 99, 0.99, None)


# Packed records


def test_a_packed_record_is_an_int16_index_and_a_uint32_count_in_little_endian():
    assert PACKED.itemsize == 6
    packed = LatencyHistogram.from_values([1.0, 3.0, 3.0]).to_bytes()
    assert packed == bytes.fromhex("ffff 01000000 6500 02000000")


@given(histograms)
def test_packing_and_unpacking_gives_the_histogram_back(histogram):
    assert (
        LatencyHistogram.from_bytes(histogram.scale, histogram.zero_count, histogram.to_bytes()) == histogram
    )


@given(st.lists(some_durations, max_size=5), st.randoms(use_true_random=False))
def test_joined_bytes_in_any_order_are_the_merged_histogram(groups, random):
    parts = [LatencyHistogram.from_values(values) for values in groups]
    blobs = [part.to_bytes() for part in parts]
    random.shuffle(blobs)
    read = LatencyHistogram.from_bytes(6, sum(part.zero_count for part in parts), b"".join(blobs))
    assert read == LatencyHistogram.from_values([]).merge(*parts)


def test_a_memoryview_is_read_as_bytes_are():
    histogram = LatencyHistogram.from_values([1.0, 20.0])
    assert LatencyHistogram.from_bytes(6, 0, memoryview(histogram.to_bytes())) == histogram


def test_large_counts_survive_packing_and_adding_up():
    full = LatencyHistogram(6, 0, np.array([7], dtype=np.int32), np.array([2**32 - 1]))
    assert LatencyHistogram.from_bytes(6, 0, full.to_bytes() * 3).counts.tolist() == [3 * (2**32 - 1)]
    with pytest.raises(OverflowError, match="32 bits, got 8589934590"):
        full.merge(full).to_bytes()


@pytest.mark.parametrize("size", [1, 5, 7])
def test_bytes_that_are_not_whole_records_are_refused(size):
    with pytest.raises(ValueError, match=f"records of 6 bytes, got {size} bytes"):
        LatencyHistogram.from_bytes(6, 0, b"\0" * size)


# Groups

grouped_durations = st.lists(st.tuples(st.integers(min_value=0, max_value=4), durations), max_size=80)


def by_group(pairs: list[tuple[int, float]]) -> list[LatencyHistogram]:
    values = defaultdict(list)
    for group, value in pairs:
        values[group].append(value)
    return [LatencyHistogram.from_values(values[group]) for group in range(5)]


@given(grouped_durations)
def test_packing_groups_gives_each_its_own_histogram(pairs):
    zero_counts, blobs = pack_groups([group for group, _ in pairs], [value for _, value in pairs], 5)
    assert zero_counts.tolist() == [histogram.zero_count for histogram in by_group(pairs)]
    assert blobs == [histogram.to_bytes() for histogram in by_group(pairs)]


@given(st.lists(st.tuples(st.integers(min_value=0, max_value=4), some_durations), max_size=12))
def test_merging_groups_merges_each_by_itself(parts):
    packed = [LatencyHistogram.from_values(values).to_bytes() for _, values in parts]
    merged = merge_groups([group for group, _ in parts], packed, 5)
    expected = by_group([(group, value) for group, values in parts for value in values])
    assert merged == [histogram.to_bytes() for histogram in expected]


@given(st.lists(st.tuples(st.integers(min_value=0, max_value=4), histograms), max_size=12))
def test_merging_groups_of_mixed_scales_goes_to_the_lowest_of_each(parts):
    lowest = [
        min((histogram.scale for group, histogram in parts if group == wanted), default=6)
        for wanted in range(5)
    ]
    merged = merge_groups(
        [group for group, _ in parts],
        [histogram.to_bytes() for _, histogram in parts],
        5,
        downscale_by=[histogram.scale - lowest[group] for group, histogram in parts],
    )
    for wanted in range(5):
        own = [histogram for group, histogram in parts if group == wanted]
        expected = own[0].merge(*own[1:]).to_bytes() if own else b""
        assert merged[wanted] == expected


def test_joined_histograms_count_as_one_blob():
    minute = LatencyHistogram.from_values([1.0, 2.0]).to_bytes()
    assert merge_groups([0], [minute + minute], 1) == merge_groups([0, 0], [minute, minute], 1)


def test_more_groups_than_sixteen_bits_can_number_keep_apart():
    n_groups = 2**16 + 3
    groups = np.arange(n_groups)
    _, blobs = pack_groups(groups, groups + 1.0, n_groups)
    assert {len(blob) for blob in blobs} == {PACKED.itemsize}
    assert np.array_equal(np.frombuffer(b"".join(blobs), PACKED)["bucket"], bucket_indexes(groups + 1.0))
    assert merge_groups(groups, blobs, n_groups) == blobs


def test_groups_without_anything_are_empty():
    zero_counts, blobs = pack_groups([], [], 3)
    assert (zero_counts.tolist(), blobs) == ([0, 0, 0], [b"", b"", b""])
    assert merge_groups([], [], 2) == [b"", b""]
    assert merge_groups([1], [b""], 2) == [b"", b""]


@pytest.mark.parametrize("group", [-1, 2])
def test_a_group_id_out_of_range_is_refused(group):
    with pytest.raises(ValueError, match="group ids must be 0 to 1"):
        pack_groups([0, group], [1.0, 2.0], 2)
    with pytest.raises(ValueError, match="group ids must be 0 to 1"):
        merge_groups([group], [b""], 2)


def test_groups_and_values_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="1 group ids came for 2 values"):
        pack_groups([0], [1.0, 2.0], 1)
    with pytest.raises(ValueError, match="2 group ids came for 1 packed histograms"):
        merge_groups([0, 0], [b""], 1)


def test_a_torn_blob_is_refused_even_where_the_sum_is_whole():
    with pytest.raises(ValueError, match="records of 6 bytes"):
        merge_groups([0, 0], [b"\0" * 4, b"\0" * 8], 1)


def test_a_merged_count_over_32_bits_is_refused():
    full = LatencyHistogram(6, 0, np.array([7], dtype=np.int32), np.array([2**32 - 1])).to_bytes()
    with pytest.raises(OverflowError, match="32 bits"):
        merge_groups([0, 0], [full, full], 1)


# Values


def test_histograms_compare_by_what_they_hold():
    assert LatencyHistogram.from_values([1.0, 2.0]) == LatencyHistogram.from_values([2.0, 1.0])
    assert LatencyHistogram.from_values([1.0]) != LatencyHistogram.from_values([1.0], scale=5)
    assert LatencyHistogram.from_values([1.0]) != LatencyHistogram.from_values([1.0, 0.0])
    assert LatencyHistogram.from_values([1.0]) != "a histogram"


def test_buckets_and_counts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        LatencyHistogram(6, 0, np.array([1, 2], dtype=np.int32), np.array([1]))
