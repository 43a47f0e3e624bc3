"""Error budgets, burn rates and their tiers against the figures of the SRE Workbook; windows and states."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.burn_rates import (
    BURN_RATE_WINDOWS,
    ErrorBudget,
    FactorChange,
    Severity,
    State,
    burn_rate,
    component_state,
    error_budget,
    error_budget_ratio,
    last_full_minute,
    max_burn_rate,
    milestone_state,
    objective_window,
    sli_ratio,
    tiers_for,
    window_bounds,
)

objectives = st.decimals(min_value="0.5", max_value="0.99999", places=5)
judged_counts = st.integers(min_value=1, max_value=10**9)


# Error budget


@pytest.mark.parametrize(
    ("objective", "ratio"),
    [(0.99, 0.01), (0.999, 0.001), (0.9, 0.1), (0.95, 0.05), (0.9999, 0.0001), (0.5, 0.5), (0.93, 0.07)],
)
def test_the_error_budget_ratio_is_the_decimal_difference(objective, ratio):
    assert error_budget_ratio(objective) == ratio
    assert error_budget_ratio(Decimal(str(objective))) == ratio
    assert error_budget_ratio(Decimal(f"{objective:.6f}")) == ratio


@pytest.mark.parametrize("objective", [0, 1, 1.01, -0.5, 99])
def test_an_objective_outside_0_to_1_is_refused(objective):
    with pytest.raises(ValueError, match="between 0 and 1"):
        error_budget_ratio(objective)


@pytest.mark.parametrize(
    ("bad", "remaining_ratio"), [(0, 1.0), (400, 0.6), (1000, 0.0), (1500, -0.5), (1_000_000, -999.0)]
)
def test_what_remains_of_an_error_budget_is_signed(bad, remaining_ratio):
    """400 bad of a million at 99.9 % leave 60 %; 1500 are half an error budget too many."""
    assert error_budget(bad, 1_000_000, 0.999).remaining_ratio == remaining_ratio


def test_an_error_budget_says_what_it_allowed_and_what_is_gone():
    assert error_budget(900, 120_000, 0.99) == ErrorBudget(1200.0, 0.75, 0.25)


def test_without_data_nothing_is_allowed_and_every_ratio_is_none():
    assert error_budget(0, 0, 0.99) == ErrorBudget(0.0, None, None)
    assert sli_ratio(0, 0) is None
    assert burn_rate(0, 0, 0.99) is None


@given(objectives, st.integers(min_value=1, max_value=10**6))
def test_an_error_budget_spent_to_the_last_event_has_exactly_nothing_left(objective, thousands):
    judged = 100_000 * thousands
    allowed = int((1 - objective) * judged)
    assert error_budget(allowed, judged, objective).remaining_ratio == 0
    assert error_budget(allowed + 1, judged, objective).remaining_ratio < 0
    assert burn_rate(allowed, judged, objective) == 1


def test_the_sli_is_the_share_of_good():
    assert sli_ratio(119_100, 120_000) == 0.9925


# Burn rate


def test_burn_rate_is_one_when_bad_share_equals_the_error_budget():
    assert burn_rate(10, 1000, 0.99) == burn_rate(7, 100, 0.93) == burn_rate(1, 1000, 0.999) == 1


@pytest.mark.parametrize(
    ("error_rate", "rate", "exhausted_in"),
    [
        (Fraction("0.001"), 1, timedelta(days=30)),
        (Fraction("0.002"), 2, timedelta(days=15)),
        (Fraction("0.01"), 10, timedelta(days=3)),
        (Fraction(1), 1000, timedelta(minutes=43.2)),
    ],
)
def test_burn_rates_and_times_to_exhaustion_are_those_of_the_workbook(error_rate, rate, exhausted_in):
    """Source: SRE Workbook, "Alerting on SLOs", burn rates for a 99.9 % objective over 30 days."""
    assert burn_rate(int(error_rate * 10**6), 10**6, 0.999) == rate
    assert timedelta(days=30) / rate == exhausted_in


def test_the_contracts_example_burns_at_two_and_a_quarter():
    assert burn_rate(9, 400, 0.99) == 2.25


@given(objectives, judged_counts)
def test_no_burn_rate_exceeds_the_highest_possible_one(objective, judged):
    assert burn_rate(judged, judged, objective) == max_burn_rate(objective)


@given(objectives, judged_counts, st.data())
def test_consumed_share_and_burn_rate_are_one_number_over_the_objectives_window(objective, judged, data):
    bad = data.draw(st.integers(min_value=0, max_value=judged))
    assert error_budget(bad, judged, objective).consumed_ratio == burn_rate(bad, judged, objective)


# Tiers


def test_the_windows_of_the_contract_are_all_there_in_order():
    assert list(BURN_RATE_WINDOWS) == ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
    assert list(BURN_RATE_WINDOWS.values()) == sorted(BURN_RATE_WINDOWS.values())


def test_thirty_days_have_the_factors_of_the_workbook():
    """Source: SRE Workbook, "Alerting on SLOs", multiwindow, multi-burn-rate alerts: 2 % in 1 h, 5 % in 6 h,
    10 % in 3 d. The tier between, 10 % in 1 d, is one of those that Sloth generates."""
    tiers = [(t.severity, t.spent_ratio, t.long, t.short, t.factor, t.change) for t in tiers_for(0.999, 30)]
    assert tiers == [
        (Severity.PAGE, 0.02, "1h", "5m", 14.4, None),
        (Severity.PAGE, 0.05, "6h", "30m", 6.0, None),
        (Severity.TICKET, 0.10, "1d", "2h", 3.0, None),
        (Severity.TICKET, 0.10, "3d", "6h", 1.0, None),
    ]


@pytest.mark.parametrize(
    ("window_days", "table_factors"), [(28, [13.44, 5.6, 2.8, 2.8 / 3]), (7, [13.44, 3.5, 1.4, 0.98])]
)
def test_shorter_windows_have_their_own_factors_and_none_below_one(window_days, table_factors):
    tiers = tiers_for(0.999, window_days)
    assert [tier.table_factor for tier in tiers] == pytest.approx(table_factors, rel=1e-15)
    assert [tier.factor for tier in tiers] == [*table_factors[:3], 1.0]
    assert [tier.change for tier in tiers] == [None, None, None, FactorChange.RAISED]


def test_a_raised_factor_says_so():
    assert tiers_for(0.999, 28)[3].change_note == "raised from 0.933: a burn rate below 1 keeps the objective"
    assert tiers_for(0.999, 28)[0].change_note == ""


@pytest.mark.parametrize(
    ("objective", "factors"),
    [
        (0.95, [14.4, 6.0, 3.0, 1.0]),
        (0.9, [8.0, 6.0, 3.0, 1.0]),
        (0.5, [1.6, 1.6, 1.6, 1.0]),
        (0.1, [1.0] * 4),
    ],
)
def test_a_factor_stays_below_the_highest_possible_burn_rate(objective, factors):
    tiers = tiers_for(objective, 30)
    assert [tier.factor for tier in tiers] == factors
    for tier in tiers:
        assert (tier.change == FactorChange.LOWERED) == (tier.factor < tier.table_factor)


def test_a_lowered_factor_says_so():
    note = tiers_for(Decimal("0.900000"), 30)[0].change_note
    assert note == "lowered from 14.4: at an objective of 90 % nothing burns faster than 10"


@given(st.decimals(min_value="0.01", max_value="0.99999", places=5), st.sampled_from([7, 28, 30]))
def test_every_tier_can_fire_and_none_fires_on_target(objective, window_days):
    for tier in tiers_for(objective, window_days):
        assert 1 <= tier.factor < max_burn_rate(objective)


@pytest.mark.parametrize("window_days", [7, 28, 30])
def test_burning_at_a_tiers_table_factor_spends_its_share_in_the_long_window(window_days):
    for tier in tiers_for(0.999, window_days):
        share_of_window = BURN_RATE_WINDOWS[tier.long] / timedelta(days=window_days)
        assert tier.table_factor * share_of_window == pytest.approx(tier.spent_ratio)


def test_a_tier_has_a_name_and_a_meaning():
    tiers = tiers_for(0.999, 7)
    assert [tier.name for tier in tiers] == ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]
    assert tiers[1].meaning == "spends 12.5 % of a 7-day error budget in 6h"


@pytest.mark.parametrize("window_days", [0, 14, 90])
def test_other_windows_have_no_tiers(window_days):
    with pytest.raises(ValueError, match=f"7, 28 or 30 days, got {window_days}"):
        tiers_for(0.99, window_days)


# Which minutes a window holds


@pytest.mark.parametrize(("second", "microsecond"), [(0, 0), (0, 1), (59, 999_999)])
def test_a_window_ends_with_the_minute_that_still_runs(second, microsecond):
    at = datetime(2026, 11, 21, 20, 7, second, microsecond, tzinfo=UTC)
    assert window_bounds(at, timedelta(minutes=5)) == (
        datetime(2026, 11, 21, 20, 3, tzinfo=UTC),
        datetime(2026, 11, 21, 20, 8, tzinfo=UTC),
    )


def test_the_objectives_window_starts_on_the_hour():
    at = datetime(2026, 11, 21, 20, 7, 30, tzinfo=UTC)
    assert objective_window(at, 28) == (
        datetime(2026, 10, 24, 20, 0, tzinfo=UTC),
        datetime(2026, 11, 21, 20, 8, tzinfo=UTC),
    )


def test_the_objectives_window_starts_an_hour_later_once_its_end_is_on_the_hour():
    at = datetime(2026, 11, 21, 20, 59, 30, tzinfo=UTC)
    assert objective_window(at, 7) == (
        datetime(2026, 11, 14, 21, 0, tzinfo=UTC),
        datetime(2026, 11, 21, 21, 0, tzinfo=UTC),
    )


def test_the_last_full_minute_was_over():
    assert last_full_minute(datetime(2026, 11, 21, 20, 0, 0, tzinfo=UTC)) == (
        datetime(2026, 11, 21, 19, 59, tzinfo=UTC),
        datetime(2026, 11, 21, 20, 0, tzinfo=UTC),
    )


def test_windows_are_cut_in_utc_wherever_the_instant_comes_from():
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    at = datetime(2026, 11, 22, 1, 52, 30, tzinfo=kathmandu)
    assert objective_window(at, 7) == objective_window(at.astimezone(UTC), 7)
    assert objective_window(at, 7).start == datetime(2026, 11, 14, 20, 0, tzinfo=UTC)
    assert objective_window(at, 7).start.tzinfo is UTC


def test_an_instant_without_a_zone_is_refused():
    naive = datetime(2026, 11, 21, 20, 0)  # noqa: DTZ001
    for refused in (lambda: window_bounds(naive, timedelta(minutes=5)), lambda: last_full_minute(naive)):
        with pytest.raises(ValueError, match="time zone"):
            refused()


@pytest.mark.parametrize("length", [timedelta(seconds=90), timedelta(0), timedelta(minutes=-5)])
def test_a_window_of_no_whole_minutes_is_refused(length):
    with pytest.raises(ValueError, match="whole minutes"):
        window_bounds(datetime(2026, 11, 21, tzinfo=UTC), length)


# States


@pytest.mark.parametrize(
    ("remaining_ratio", "is_tier_firing", "state"),
    [
        (None, False, State.NO_DATA),
        (None, True, State.NO_DATA),
        (1.0, False, State.OK),
        (0.25, False, State.OK),
        (0.2499, False, State.AT_RISK),
        (0.0, False, State.AT_RISK),
        (1.0, True, State.AT_RISK),
        (-1e-9, False, State.BREACHED),
        (-0.5, True, State.BREACHED),
    ],
)
def test_a_milestones_state_follows_its_error_budget_and_tiers(remaining_ratio, is_tier_firing, state):
    assert milestone_state(remaining_ratio, is_tier_firing) == state


@pytest.mark.parametrize(
    ("over", "judged", "state"),
    [
        (0, 1000, State.OK),
        (5, 1000, State.OK),
        (6, 1000, State.AT_RISK),
        (10, 1000, State.AT_RISK),
        (11, 1000, State.BREACHED),
        (2, 10, State.AT_RISK),
        (3, 10, State.BREACHED),
        (1, 1, State.AT_RISK),
    ],
)
def test_a_components_state_follows_its_share_over_the_allocation(over, judged, state):
    assert component_state(over, judged, judged, 0.99, is_allocated=True) == state


def test_a_share_of_exactly_what_is_allowed_breaches_nothing():
    """In binary, 1 − 0.93 is less than 7 / 100."""
    assert component_state(7, 100, 100, 0.93, is_allocated=True) == State.AT_RISK
    assert component_state(7, 200, 200, 0.93, is_allocated=True) == State.OK


def test_a_component_that_is_measured_but_not_allocated_is_unallocated():
    assert component_state(0, 0, 10, None, is_allocated=False) == State.UNALLOCATED


@pytest.mark.parametrize("is_allocated", [True, False])
def test_a_component_that_was_not_measured_has_no_data(is_allocated):
    assert component_state(0, 0, 0, 0.99, is_allocated=is_allocated) == State.NO_DATA


def test_a_component_that_was_measured_but_never_judged_has_no_data():
    assert component_state(0, 0, 100, 0.99, is_allocated=True) == State.NO_DATA


def test_an_allocated_component_needs_an_objective():
    with pytest.raises(ValueError, match="objective"):
        component_state(0, 1, 1, None, is_allocated=True)
