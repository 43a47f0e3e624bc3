"""The rules that somebody asks for: when each fires, when it clears, and what it makes of little data."""

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import chi2

from alerts.error_budget_rules import ErrorBudgetRule, ForecastRule, HourlyCounts
from alerts.latency_rules import HourPair, Measured, ThresholdRule, TrendRule
from alerts.rules import Observation, Previous, Reason, Rule, Status, Verdict, WindowCounts, decide
from alerts.series_rules import Heard, NoDataRule, TimeoutsRule, TimeShare, UnallocatedComponentRule
from budgets.burn_rates import Severity
from budgets.exhaustion import count_interval
from budgets.histogram import AtLeast

NOW = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
INACTIVE = Previous(Status.INACTIVE, NOW - 24 * HOUR)
FIRING = Previous(Status.FIRING, NOW - HOUR, Severity.TICKET)


def counts(bad: int, judged: int = 1000) -> WindowCounts:
    return WindowCounts(judged=judged, good=judged - bad, over=bad, total=judged)


def verdict(rule: Rule, observation, previous: Previous = INACTIVE) -> tuple[Verdict, Reason]:
    finding = rule.judge(observation, previous, NOW)
    json.dumps(finding.evidence)
    return finding.verdict, finding.reason


# Timeouts


def timed_out(timeouts: int, total: int) -> Observation:
    return Observation({"5m": WindowCounts(total=total, timeouts=timeouts)})


@pytest.mark.parametrize(
    ("timeouts", "total", "expected"),
    [
        (11, 1000, (Verdict.HOLDS, Reason.TIMEOUTS)),
        (10, 1000, (Verdict.CLEAR, Reason.WITHIN_SHARE)),
        (3, 100, (Verdict.HOLDS, Reason.TIMEOUTS)),
        (2, 100, (Verdict.BETWEEN, Reason.FEW_TIMEOUTS)),
        (0, 100, (Verdict.CLEAR, Reason.WITHIN_SHARE)),
        (0, 0, (Verdict.NO_DATA, Reason.NO_DATA)),
    ],
)
def test_timeouts_fire_over_their_share_and_from_three_on(timeouts, total, expected):
    assert verdict(TimeoutsRule(), timed_out(timeouts, total)) == expected


def test_the_share_of_timeouts_is_the_rules_own():
    assert verdict(TimeoutsRule(share_ratio=0.2), timed_out(20, 100))[0] is Verdict.CLEAR
    assert verdict(TimeoutsRule(share_ratio=0.2), timed_out(21, 100))[0] is Verdict.HOLDS


# Severity


@pytest.mark.parametrize(
    ("rule", "observation", "own"),
    [
        (TimeoutsRule, timed_out(50, 100), Severity.TICKET),
        (
            lambda **k: ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=0, **k),
            counts(20),
            Severity.PAGE,
        ),
        (
            lambda **k: ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=10, **k),
            counts(20),
            Severity.TICKET,
        ),
    ],
)
def test_a_severity_that_somebody_chose_stands_in_for_the_kinds(rule, observation, own):
    assert decide(rule(), observation, INACTIVE, NOW).severity == own
    for chosen in Severity:
        assert decide(rule(severity=chosen), observation, INACTIVE, NOW).severity == chosen


# Error budget: of 1000 at 99 % 10 may be bad


def budget(percent: int) -> ErrorBudgetRule:
    return ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=percent)


def left(percent: float) -> WindowCounts:
    return counts(round(1000 - 10 * percent), 100_000)


@pytest.mark.parametrize("percent", [50, 25, 10])
def test_an_error_budget_is_told_of_below_each_threshold(percent):
    assert verdict(budget(percent), left(percent)) == (Verdict.CLEAR, Reason.BUDGET_LEFT)
    assert verdict(budget(percent), left(percent - 0.1)) == (Verdict.HOLDS, Reason.BUDGET_LOW)


def test_an_error_budget_is_exhausted_when_nothing_is_left():
    assert verdict(budget(0), left(0.1)) == (Verdict.CLEAR, Reason.BUDGET_LEFT)
    assert verdict(budget(0), left(0)) == (Verdict.HOLDS, Reason.BUDGET_EXHAUSTED)
    assert verdict(budget(0), left(-50)) == (Verdict.HOLDS, Reason.BUDGET_EXHAUSTED)


@pytest.mark.parametrize(
    ("percent", "lowest", "stays_at", "leaves_at"),
    [
        (25, 20, 25, 25.1),  # far below: out as soon as it is above the threshold
        (25, 24.5, 26.5, 26.6),  # hardly below: not before it is up by two points
        (50, 49.9, 51.9, 52),
        (10, 3, 10, 10.1),
        (0, -40, 2, 2.1),
        (0, 0, 2, 2.1),
    ],
)
def test_an_error_budget_has_recovered_when_it_is_above_the_threshold_and_not_by_a_swing(
    percent, lowest, stays_at, leaves_at
):
    rule = budget(percent)
    fired = decide(rule, left(lowest), INACTIVE, NOW)
    assert fired.status == Status.FIRING
    stays = decide(rule, left(stays_at), fired.remembered(), NOW + HOUR)
    assert stays.status == Status.FIRING
    assert decide(rule, left(leaves_at), stays.remembered(), NOW + 2 * HOUR).status == Status.RECOVERING


def test_two_bad_of_a_handful_are_no_exhausted_error_budget():
    assert verdict(budget(0), counts(2, 20)) == (Verdict.BETWEEN, Reason.BUDGET_FEW_BAD)
    assert verdict(budget(0), counts(3, 20))[0] is Verdict.HOLDS


def test_an_error_budget_of_nothing_judged_is_no_data():
    assert verdict(budget(50), counts(0, 0)) == (Verdict.NO_DATA, Reason.NO_DATA)


# Forecast: 28 days of 1000 requests an hour at 99 %


HOURS = 28 * 24 + 1


def history(
    bad_by_hour: dict[int, int], *, recent_bad: int, base: int = 8, judged: int = 1000
) -> HourlyCounts:
    """Eight of a thousand are bad every hour, but for those that `bad_by_hour` names, counted from the oldest."""
    bad = np.full(HOURS, base)
    for hour, number in bad_by_hour.items():
        bad[hour] = number
    return HourlyCounts(np.full(HOURS, judged), bad, counts(recent_bad, 6 * judged))


FORECAST = ForecastRule(objective=0.99, window_days=28)


def test_an_error_budget_that_is_gone_within_two_days_is_foretold():
    # 20 % of 6730 are left: 1346. A burn of 5 spends 50 an hour, of which 8 roll off: gone in 32.05 hours.
    found = FORECAST.judge(history({}, recent_bad=300), INACTIVE, NOW)
    assert (found.verdict, found.reason) == (Verdict.HOLDS, Reason.EXHAUSTS_SOON)
    assert found.evidence["likely_hours"] == 33
    assert found.evidence["earliest_hours"] < 33 < found.evidence["latest_hours"] <= 48


def test_a_burn_that_the_window_forgets_as_fast_exhausts_nothing():
    """A line through the present burn would reach zero in 36 hours: but as much rolls off as comes."""
    old_outage = dict.fromkeys(range(48), 40)
    seen = history(old_outage, recent_bad=240, base=7)
    spent = int(seen.bad.sum())
    assert 0 < 6730 - spent < 40 * 48
    assert verdict(FORECAST, seen) == (Verdict.CLEAR, Reason.LASTS)


def test_a_burn_that_chance_may_have_raised_neither_starts_a_forecast_nor_ends_one():
    """Two bad of six: a count of two comes of means between 0.24 and 7.2."""
    bad = np.zeros(HOURS, dtype=int)
    bad[-3:-1] = 1
    seen = HourlyCounts(np.ones(HOURS, dtype=int), bad, counts(2, 6))
    assert verdict(FORECAST, seen) == (Verdict.BETWEEN, Reason.MAY_EXHAUST_SOON)
    assert decide(FORECAST, seen, FIRING, NOW).status == Status.FIRING
    assert decide(FORECAST, seen, INACTIVE, NOW).status == Status.INACTIVE


def test_an_exhausted_error_budget_keeps_a_forecast_and_starts_none():
    gone = history({}, recent_bad=600, base=11)
    assert verdict(FORECAST, gone) == (Verdict.STALE, Reason.BUDGET_EXHAUSTED)
    assert decide(FORECAST, gone, FIRING, NOW).status == Status.FIRING
    assert decide(FORECAST, gone, INACTIVE, NOW).status == Status.INACTIVE


def test_a_forecast_expects_the_traffic_of_the_day_before():
    """At night ten requests an hour burn as fast as a thousand by day, and spend next to nothing."""
    night_now = history({}, recent_bad=300)
    quiet = night_now.judged.copy()
    quiet[-25:-1] = 10
    seen = HourlyCounts(quiet, night_now.bad, counts(30, 600))
    assert verdict(FORECAST, seen)[0] is Verdict.CLEAR


def test_without_recent_requests_there_is_nothing_to_forecast_by():
    seen = HourlyCounts(np.full(HOURS, 10), np.zeros(HOURS, dtype=int), counts(0, 0))
    assert verdict(FORECAST, seen) == (Verdict.NO_DATA, Reason.NO_DATA)


@pytest.mark.parametrize("count", [1, 3, 10, 250])
def test_the_interval_of_a_count_is_the_chi_squared_one(count):
    lower, upper = chi2.ppf(0.025, 2 * count) / 2, chi2.ppf(0.975, 2 * count + 2) / 2
    assert count_interval(count) == pytest.approx((lower, upper))


# Threshold


SLOW_TTFT = ThresholdRule(percentile="p95", threshold_ms=300, window="5m")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Measured(300.0, 100), (Verdict.CLEAR, Reason.BELOW_THRESHOLD)),
        (Measured(300.1, 100), (Verdict.HOLDS, Reason.ABOVE_THRESHOLD)),
        (Measured(300.1, 19), (Verdict.BETWEEN, Reason.FEW_MEASURED)),
        (Measured(AtLeast(30_000.0), 100), (Verdict.HOLDS, Reason.ABOVE_THRESHOLD)),
        # Nobody got an answer, though they gave up early.
        (Measured(AtLeast(200.0), 100), (Verdict.HOLDS, Reason.ABOVE_THRESHOLD)),
        (Measured(), (Verdict.NO_DATA, Reason.NO_DATA)),
    ],
)
def test_a_threshold_fires_above_it_and_among_timeouts(seen, expected):
    assert verdict(SLOW_TTFT, seen) == expected


def test_a_threshold_waits_for_as_many_minutes_as_it_is_told():
    rule = ThresholdRule(percentile="p95", threshold_ms=300, window="5m", for_=10 * MINUTE)
    pending = decide(rule, Measured(500.0, 100), INACTIVE, NOW)
    assert pending.status == Status.PENDING
    at_nine = decide(rule, Measured(500.0, 100), pending.remembered(), NOW + 9 * MINUTE)
    assert at_nine.status == Status.PENDING
    assert decide(rule, Measured(500.0, 100), at_nine.remembered(), NOW + 10 * MINUTE).status == Status.FIRING


# Trend


def pairs(*growths: float, measured: int = 100) -> list[HourPair]:
    return [HourPair(Measured(1000.0 * growth, measured), Measured(1000.0, measured)) for growth in growths]


def test_a_day_that_is_a_fifth_slower_in_every_hour_is_a_trend():
    assert verdict(TrendRule(), pairs(*[1.21] * 24)) == (Verdict.HOLDS, Reason.SLOWER)
    assert verdict(TrendRule(), pairs(*[1.19] * 24))[0] is Verdict.BETWEEN
    assert verdict(TrendRule(), pairs(*[1.05] * 24)) == (Verdict.CLEAR, Reason.NOT_SLOWER)


def test_a_ramp_must_go_on_over_the_last_six_hours():
    assert verdict(TrendRule(), pairs(*[1.4] * 18, *[1.0] * 6)) == (Verdict.CLEAR, Reason.SLOWER_NO_MORE)
    late = pairs(*[1.0] * 14, *np.linspace(1.05, 1.6, 10))
    assert verdict(TrendRule(), late) == (Verdict.CLEAR, Reason.SLOWER_SINCE_LATELY)
    assert verdict(TrendRule(), pairs(*np.linspace(0.95, 1.6, 24))) == (Verdict.HOLDS, Reason.SLOWER)


def test_growth_that_changes_its_sign_from_hour_to_hour_is_chance():
    wild = pairs(*[1.3, 0.4] * 9, *[1.3, 1.3, 0.4] * 2)
    assert float(np.median([pair.growth(20) for pair in wild])) > math.log(1.2)
    assert verdict(TrendRule(), wild) == (Verdict.BETWEEN, Reason.SLOWER_BY_CHANCE)


def test_hours_of_few_measurements_are_not_compared():
    few = pairs(*[1.5] * 13, measured=19) + pairs(*[1.5] * 11)
    assert verdict(TrendRule(), few) == (Verdict.BETWEEN, Reason.FEW_PAIRS)
    assert verdict(TrendRule(), pairs(*[1.5] * 24, measured=5)) == (Verdict.NO_DATA, Reason.NO_DATA)


def test_an_hour_among_timeouts_grew_at_least_so_much_and_one_before_it_tells_nothing():
    now, before = Measured(AtLeast(3000.0), 50), Measured(1000.0, 50)
    assert HourPair(now, before).growth(20) == pytest.approx(math.log(3))
    assert HourPair(before, now).growth(20) is None


# No data


def heard(last: timedelta, *, every: timedelta = MINUTE, for_: timedelta = 2 * HOUR) -> Heard:
    """Reported every so often, for so long, up to so long ago."""
    minute = NOW.replace(second=0)
    steps = range(int(for_ / every) + 1)
    minutes = [minute - last - step * every for step in steps]
    return Heard(minutes[0], minutes)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (heard(14 * MINUTE), (Verdict.CLEAR, Reason.REPORTING)),
        (heard(16 * MINUTE), (Verdict.HOLDS, Reason.SILENT)),
        (heard(16 * MINUTE, every=14 * MINUTE), (Verdict.HOLDS, Reason.SILENT)),
        (heard(16 * MINUTE, every=20 * MINUTE), (Verdict.CLEAR, Reason.NEVER_STEADY)),
        (heard(16 * MINUTE, for_=50 * MINUTE), (Verdict.CLEAR, Reason.NEVER_STEADY)),
        (heard(16 * MINUTE, for_=60 * MINUTE), (Verdict.HOLDS, Reason.SILENT)),
        (heard(25 * HOUR), (Verdict.CLEAR, Reason.NO_DATA_TIMEOUT)),
        (Heard(), (Verdict.CLEAR, Reason.NO_DATA_TIMEOUT)),
    ],
)
def test_silence_is_of_what_reported_steadily_for_an_hour(seen, expected):
    assert verdict(NoDataRule(), seen) == expected


def test_silence_goes_on_firing_though_its_beginning_is_out_of_sight_and_ends_as_silence_after_a_day():
    rule = NoDataRule(keep_firing_for=timedelta(0))
    hours_later = decide(rule, Heard(NOW - 20 * HOUR), FIRING, NOW)
    assert (hours_later.status, hours_later.reason) == (Status.FIRING, Reason.SILENT)
    a_day_later = decide(rule, Heard(), FIRING, NOW)
    assert (a_day_later.status, a_day_later.reason) == (Status.INACTIVE, Reason.NO_DATA_TIMEOUT)


def test_silence_is_over_with_the_first_measurement():
    assert verdict(NoDataRule(), heard(MINUTE, for_=MINUTE), FIRING) == (Verdict.CLEAR, Reason.REPORTING)


# Unallocated component


@pytest.mark.parametrize(
    ("ms", "measured", "expected"),
    [
        (51, 100, (Verdict.HOLDS, Reason.UNALLOCATED)),
        (50, 100, (Verdict.BETWEEN, Reason.WITHIN_SHARE)),
        (40, 100, (Verdict.CLEAR, Reason.WITHIN_SHARE)),
        (51, 19, (Verdict.BETWEEN, Reason.FEW_MEASURED)),
        (0, 0, (Verdict.CLEAR, Reason.WITHIN_SHARE)),
    ],
)
def test_a_component_without_an_allocation_is_told_of_above_a_twentieth_of_the_time(ms, measured, expected):
    assert verdict(UnallocatedComponentRule(), TimeShare(ms, measured, 1000.0, "complete")) == expected


def test_without_a_milestone_there_is_no_time_to_take_a_share_of():
    assert verdict(UnallocatedComponentRule(), TimeShare(10.0, 5))[0] is Verdict.NO_DATA
