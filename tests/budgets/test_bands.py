from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.bands import LEFT_BELOW_RATIO, MAX_BANDS, count_by_band
from budgets.histogram import LatencyHistogram

durations = st.lists(
    st.sampled_from([0.0, 0.001, 1.0, 1024.0]) | st.floats(0.01, 1e7, allow_nan=False), max_size=60
)


def test_each_duration_is_counted_in_its_own_row_and_band() -> None:
    # Buckets 37, 101 and 115, of which three bands are 40 wide: 0, 40 and 80 to 120.
    bands = count_by_band(
        [LatencyHistogram.from_values([1.5, 1.5, 3.0]), None, LatencyHistogram.from_values([3.5])], at_most=3
    )

    assert bands.counts.tolist() == [[2, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert bands.bounds_ms == pytest.approx([1.0, 2 ** (40 / 64), 2 ** (80 / 64), 2 ** (120 / 64)])


def test_bounds_are_bounds_of_buckets_so_that_no_count_is_estimated() -> None:
    bands = count_by_band([LatencyHistogram.from_values([100.0, 350.0, 900.0])])

    buckets = np.log2(bands.bounds_ms) * 64
    assert buckets == pytest.approx(np.rint(buckets))


def test_a_few_that_took_far_less_make_no_band_wider() -> None:
    many = LatencyHistogram.from_values([1000.0] * 2000 + [0.001])

    bands = count_by_band([many])

    assert bands.counts.tolist() == [[2001]]
    assert bands.is_open_below
    assert 900 < bands.bounds_ms[0] < 1000 <= bands.bounds_ms[1] < 1100


def test_what_is_slow_is_never_left_out_however_rare() -> None:
    bands = count_by_band(
        [LatencyHistogram.from_values([100.0] * 100_000), LatencyHistogram.from_values([60_000.0])]
    )

    assert bands.counts[1, -1] == 1
    assert bands.bounds_ms[-2] < 60_000 <= bands.bounds_ms[-1]


def test_histograms_of_different_scales_are_counted_at_the_coarsest() -> None:
    fine, coarse = LatencyHistogram.from_values([100.0]), LatencyHistogram.from_values([100.0], scale=2)

    bands = count_by_band([fine, coarse])

    assert bands.counts.tolist() == [[1], [1]]


@pytest.mark.parametrize("nothing", [[], [None, None], [LatencyHistogram.from_values([])]])
def test_without_a_duration_there_are_no_bands(nothing: list[LatencyHistogram | None]) -> None:
    bands = count_by_band(nothing)

    assert bands.counts.shape == (len(nothing), 0)
    assert not bands.bounds_ms.size


def test_where_nothing_took_any_time_one_band_holds_it() -> None:
    bands = count_by_band([LatencyHistogram.from_values([0.0, 0.0])])

    assert bands.counts.tolist() == [[2]]
    assert bands.is_open_below


@given(st.lists(durations, min_size=1, max_size=5))
def test_nothing_is_lost_whatever_was_measured(rows: list[list[float]]) -> None:
    bands = count_by_band([LatencyHistogram.from_values(row) for row in rows])

    assert bands.counts.sum(axis=1).tolist() == [len(row) for row in rows]
    assert bands.counts.shape[1] <= MAX_BANDS
    if bands.bounds_ms.size:
        assert len(bands.bounds_ms) == bands.counts.shape[1] + 1
        assert (np.diff(bands.bounds_ms) > 0).all()
        every = [ms for row in rows for ms in row]
        assert max(every) <= bands.bounds_ms[-1] * (1 + 1e-9)
        below = sum(ms < bands.bounds_ms[0] * (1 - 1e-9) for ms in every)
        zeros = sum(ms == 0 for ms in every)
        assert below <= max(zeros, LEFT_BELOW_RATIO * len(every))
