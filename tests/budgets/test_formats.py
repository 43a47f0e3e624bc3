from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets import formats
from budgets.histogram import AtLeast

NOW = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)


def spaced(text: str) -> str:
    return text.replace(formats.NBSP, " ")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (0.1234, "0.123 ms"),
        (231.5, "232 ms"),
        (999.4, "999 ms"),
        (999.7, "1.00 s"),
        (1840, "1.84 s"),
        (9.996, "10.0 ms"),
        (62_100, "62.1 s"),
        (124_800, "2.08 min"),
        (7_200_000, "2.00 h"),
        (AtLeast(30_000.0), "≥ 30.0 s"),
        (None, "–"),
    ],
)
def test_durations_have_three_significant_digits_and_a_unit_that_suits(ms: float, text: str) -> None:
    assert spaced(formats.duration(ms)) == text


@given(
    limit=st.sampled_from([1.0, 400.0, 1000.0, 1500.0, 3000.0, 8000.0, 1_200_000.0]),
    ratio=st.floats(0.99, 1.01).filter(lambda r: abs(r - 1) > 1e-9),
)
def test_a_duration_beside_its_limit_never_reads_as_if_it_were_equal(limit: float, ratio: float) -> None:
    value = limit * ratio
    for unit in ("ms", "s"):
        shown = float(formats.duration(value, unit=unit, near=limit).split(formats.NBSP)[0].replace(",", ""))
        assert (shown > limit / formats.UNIT_MS[unit]) == (value > limit)


def test_a_duration_that_is_its_limit_reads_as_the_limit() -> None:
    assert spaced(formats.duration(3000.0, near=3000)) == "3.00 s"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(3000, "3 s"), (Decimal("1500.000"), "1.5 s"), (400, "400 ms"), (1_200_000, "20 min"), (None, "–")],
)
def test_limits_read_as_they_were_declared(ms: float, text: str) -> None:
    assert spaced(formats.limit(ms)) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "100 %"),
        (0.99999, "99.999 %"),
        (0.0, "0 %"),
        (0.0000012, "0.000120 %"),
        (0.25, "25.0 %"),
        (-0.5, f"{formats.MINUS}50.0 %"),
        (None, "–"),
    ],
)
def test_percentages_never_round_to_all_or_nothing(ratio: float, text: str) -> None:
    assert spaced(formats.percent(ratio)) == text


@given(st.integers(1, 10**7), st.sampled_from([Decimal("0.9"), Decimal("0.99"), Decimal("0.999")]))
def test_a_share_beside_its_objective_is_on_the_side_on_which_it_is(judged: int, objective: Decimal) -> None:
    good = int(judged * objective)
    for n in (good - 1, good, good + 1):
        if not 0 < n <= judged:
            continue
        shown = Decimal(formats.percent(n / judged, near=objective, decimals=2).split(formats.NBSP)[0]) / 100
        if Decimal(n) != judged * objective:
            assert (shown > objective) == (Decimal(n) > judged * objective)


def test_an_objective_keeps_all_its_digits() -> None:
    assert spaced(formats.objective(Decimal("0.999500"))) == "99.95 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "just now"),
        (12, "12 s ago"),
        (300, "5 min ago"),
        (7300, "2 h ago"),
        (90_000, "1 day ago"),
        (200_000, "2 days ago"),
    ],
)
def test_how_long_ago_is_told_in_the_largest_unit(seconds: float, text: str) -> None:
    assert spaced(formats.ago(NOW - timedelta(seconds=seconds), NOW)) == text


def test_what_is_ahead_is_told_as_such() -> None:
    assert spaced(formats.ago(NOW + timedelta(minutes=5), NOW)) == "in 5 min"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (9, "9 s"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (190_800, "2 d 5 h"),
        (-3, "0 s"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert spaced(formats.lasting(seconds)) == text


def test_an_instant_names_its_zone() -> None:
    assert formats.instant(NOW) == "21 Nov 2026, 20:00 UTC"
    assert formats.instant(NOW, seconds=True) == "21 Nov 2026, 20:00:30 UTC"


def test_a_column_has_one_unit_and_keeps_ms_for_as_long_as_they_can_be_read() -> None:
    assert formats.column_unit([400, 1500.0, AtLeast(3000.0), None]) == "ms"
    assert formats.column_unit([400, 40_000.0]) == "s"
    assert formats.column_unit([]) == "ms"


def test_counts_round_down_because_half_a_request_cannot_be_spared() -> None:
    assert formats.count(1199.99) == "1,199"
