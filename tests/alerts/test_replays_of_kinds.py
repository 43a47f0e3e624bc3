"""Replays of the rules that look at more than counters over windows: percentiles, hours, error budgets, silence, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from alerts.error_budget_rules import ErrorBudgetRule, ForecastRule
from alerts.latency_rules import Measured, ThresholdRule, TrendRule
from alerts.lookbacks import looks_back, observed
from alerts.minutes import Minutes, TimeTaken
from alerts.percentiles import Histograms, StatedPercentiles
from alerts.replays import replay
from alerts.rules import Rule, Status
from alerts.series_rules import NoDataRule, UnallocatedComponentRule
from budgets.burn_rates import Severity
from budgets.histogram import AtLeast, LatencyHistogram

START = datetime(2026, 11, 1, 20, 13, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
INACTIVE, FIRING, RECOVERING = Status.INACTIVE, Status.FIRING, Status.RECOVERING


def counted(*runs: tuple[int, int, int]) -> Minutes:
    """Runs of (minutes, good in each, bad in each)."""
    good = [good for minutes, good, _ in runs for _ in range(minutes)]
    bad = [bad for minutes, _, bad in runs for _ in range(minutes)]
    return Minutes.of(START, good=good, bad=bad)


def histograms(
    several: list[list[float]], *, scales: list[int] | None = None, timeouts: int = 0
) -> Histograms:
    """One row a minute in which anything was measured; of every one with durations so many timeouts."""
    rows = [
        (n, LatencyHistogram.from_values(values, (scales or [6])[n % len(scales or [6])]), values)
        for n, values in enumerate(several)
        if values
    ]
    sizes = [len(one.buckets) for _, one, _ in rows]
    return Histograms(
        minutes=len(several),
        row_minute=np.array([n for n, _, _ in rows], dtype=np.int64),
        row_scale=np.array([one.scale for _, one, _ in rows], dtype=np.int64),
        row_offset=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        zero_count=np.array([one.zero_count for _, one, _ in rows], dtype=np.int64),
        measured=np.array([len(values) + timeouts for _, _, values in rows], dtype=np.int64),
        timeouts=np.full(len(rows), timeouts, dtype=np.int64),
        max_ok_ms=np.array([max(values) for _, _, values in rows]),
        min_timeout_ms=np.full(len(rows), 30_000.0 if timeouts else np.nan),
        buckets=np.concatenate([one.buckets for _, one, _ in rows]).astype(np.int64),
        counts=np.concatenate([one.counts for _, one, _ in rows]).astype(np.int64),
    )


def measured(several: list[list[float]], **options: object) -> Minutes:
    counts = [len(values) for values in several]
    minutes = Minutes.of(START, good=counts, bad=[0] * len(counts))
    return replace(minutes, percentiles=histograms(several, **options))  # type: ignore[arg-type]


def stated(values: list[float], each: int = 100) -> Minutes:
    minutes = Minutes.of(START, good=[each] * len(values), bad=[0] * len(values))
    several = StatedPercentiles(
        {"p95": np.array(values, dtype=float)}, np.full(len(values), each, dtype=np.int64)
    )
    return replace(minutes, percentiles=several)


def told(rule: Rule, minutes: Minutes, **options: object) -> list[tuple[timedelta, Status, str]]:
    return [
        (one.at - START, one.status, str(one.decision.reason))
        for one in replay(rule, minutes, **options)  # type: ignore[arg-type]
    ]


# -- what each judge is shown --------------------------------------------------------------------------


def test_a_percentile_is_that_of_all_durations_of_the_window():
    rng = np.random.default_rng(1)
    several = [list(rng.lognormal(6, 0.5, rng.integers(0, 12))) for _ in range(20)]
    minutes = measured(several, scales=[6, 5])
    rule = ThresholdRule(percentile="p95", threshold_ms=700, window="5m")
    # As minute 12 ends, its five minutes are 8 to 12; as it begins, nothing of it is known.
    for moment, inside in ((25, several[8:13]), (24, several[8:12])):
        together = [one for values in inside for one in values]
        expected = min(LatencyHistogram.from_values(together, 5).quantile(0.95) or 0, max(together))
        assert observed(rule, minutes, moment) == Measured(pytest.approx(expected), len(together))


def test_a_percentile_among_timeouts_is_at_least_the_longest_that_is_known():
    minutes = measured([[100.0] * 18] * 5, timeouts=2)
    rule = ThresholdRule(percentile="p95", threshold_ms=700, window="5m")
    assert observed(rule, minutes, 9) == Measured(AtLeast(30_000.0), 100)


def test_an_objective_window_begins_on_the_hour():
    """7 days before the end of minute 20:13 of the eighth day is 20:14, so it begins at 20:00."""
    minutes = counted((8 * 1440, 1, 0))
    rule = ErrorBudgetRule(objective=0.99, window_days=7, remaining_percent=50)
    at = minutes.moment(START + 7 * DAY + 60 * MINUTE + 59 * SECOND)
    assert minutes.instant(at).minute == 13
    assert observed(rule, minutes, at).judged == 7 * 1440 + 14
    hours = observed(ForecastRule(objective=0.99, window_days=7), minutes, at)
    assert len(hours.judged) == 7 * 24 + 1
    assert hours.judged.tolist() == [60] * 168 + [14]
    assert hours.recent.judged == 360


def test_a_trend_compares_whole_hours_with_those_of_the_day_before():
    day, hour = 1440, 60
    values = [100.0] * day + [150.0] * (2 * day)
    minutes = stated(values)
    at = minutes.moment(START + 2 * DAY - 13 * MINUTE)  # on the hour
    pairs = observed(TrendRule(), minutes, at)
    assert len(pairs) == 24
    assert {(pair.now.percentile_ms, pair.before.percentile_ms) for pair in pairs[1:]} == {(150.0, 100.0)}
    assert pairs[-1].now.measured == 100 * hour


def test_silence_is_told_from_the_minutes_in_which_anything_was_measured():
    minutes = counted((120, 1, 0), (60, 0, 0))
    heard = observed(NoDataRule(silent_minutes=15), minutes, minutes.moment(START + 150 * MINUTE))
    assert heard.last_at == START + 119 * MINUTE
    assert heard.minutes[0] == START + (119 - 75) * MINUTE
    assert len(heard.minutes) == 76


def test_what_the_minutes_do_not_have_is_asked_for():
    for rule in (
        ThresholdRule(percentile="p95", threshold_ms=1, window="5m"),
        TrendRule(),
        UnallocatedComponentRule(),
    ):
        with pytest.raises(ValueError, match="needs"):
            list(replay(rule, counted((2, 1, 0))))


# -- when they fire ------------------------------------------------------------------------------------


def test_a_threshold_fires_when_enough_of_the_window_is_slow_and_ends_with_it():
    """Of 20 durations in five minutes more than one is over 300 ms as the first slow minute ends."""
    several = [[100.0] * 4] * 30 + [[900.0] * 4] * 10 + [[100.0] * 4] * 30
    rule = ThresholdRule(percentile="p95", threshold_ms=300, window="5m", keep_firing_for=timedelta(0))
    assert told(rule, measured(several)) == [
        (30 * MINUTE + 59 * SECOND, FIRING, "above_threshold"),
        # Its window reaches to the end of the running minute: of 40 to 44 none is slow.
        (44 * MINUTE, INACTIVE, "below_threshold"),
    ]


def test_an_error_budget_is_told_of_once_for_each_threshold_and_leaves_with_hysteresis():
    minutes = counted((3 * 1440, 100, 0), (60, 0, 100), (6 * 1440, 100, 0))
    rules = {
        percent: ErrorBudgetRule(objective=0.99, window_days=7, remaining_percent=percent)
        for percent in (50, 25, 0)
    }
    fired = {percent: told(rule, minutes) for percent, rule in rules.items()}
    # 1 % of three days is 43 minutes of them: 21.6 bad minutes leave half, 43.2 nothing.
    for percent, minute in ((50, 21), (25, 32), (0, 43)):
        first = fired[percent][0]
        assert first[1] == FIRING
        assert 3 * DAY + minute * MINUTE < first[0] < 3 * DAY + (minute + 2) * MINUTE
    assert [status for _, status, _ in fired[0]] == [FIRING, RECOVERING, INACTIVE]
    assert next(replay(rules[0], minutes)).decision.severity == Severity.PAGE


def test_a_forecast_comes_before_the_error_budget_is_gone():
    """5 % bad at 99 % spends a week's error budget in 33 hours."""
    minutes = counted((8 * 1440, 100, 0), (2 * 1440, 95, 5))
    [(at, status, reason), *_] = told(ForecastRule(objective=0.99, window_days=7), minutes)
    exhausted = told(ErrorBudgetRule(objective=0.99, window_days=7, remaining_percent=0), minutes)[0][0]
    assert (status, reason) == (FIRING, "exhausts_soon")
    assert 8 * DAY < at < 8 * DAY + 6 * HOUR < exhausted


def test_a_trend_fires_once_most_of_the_day_is_slower_and_ends_a_day_after_the_step():
    minutes = stated([100.0] * (3 * 1440) + [150.0] * (3 * 1440))
    [fired, *_, ended] = told(TrendRule(), minutes)
    assert (fired[1], ended[1]) == (FIRING, INACTIVE)
    assert 3 * DAY + 11 * HOUR < fired[0] < 3 * DAY + 14 * HOUR
    assert 4 * DAY < ended[0] < 5 * DAY


def test_silence_fires_after_its_minutes_and_ends_with_a_measurement():
    minutes = counted((120, 1, 0), (60, 0, 0), (60, 1, 0))
    rule = NoDataRule(silent_minutes=15, keep_firing_for=timedelta(0))
    assert told(rule, minutes) == [
        (135 * MINUTE, FIRING, "silent"),
        (180 * MINUTE + 59 * SECOND, INACTIVE, "reporting"),
    ]


def test_a_component_that_takes_its_share_without_an_allocation_fires():
    length = 240
    component = np.repeat([0.0, 100.0], 120)
    milestone = np.full(length, 1000.0)
    taken = TimeTaken(component, np.full(length, 5, dtype=np.int64), {"complete": milestone})
    minutes = replace(counted((length, 5, 0)), time_taken=taken)
    rule = UnallocatedComponentRule(share_ratio=0.05)
    # As minute 150 begins, 30 of the 59 that are known in its hour took a tenth.
    assert told(rule, minutes) == [(150 * MINUTE, FIRING, "unallocated")]


# -- what is skipped -----------------------------------------------------------------------------------


def some_traffic(seed: int, days: float) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """(rng, requests, bad share) of runs of minutes: silent, sparse, busy; healthy, near a bound, bad."""
    rng = np.random.default_rng(seed)
    rates: list[float] = []
    shares: list[float] = []
    while len(rates) < days * 1440:
        length = int(rng.choice([1, 7, 61, 400, 1000]))
        rates += [float(rng.choice([0, 0.05, 2, 10, 10]))] * length
        shares += [float(rng.choice([0, 0, 0.002, 0.01, 0.012, 0.05, 0.5]))] * length
    length = round(days * 1440)
    return rng, rng.poisson(rates)[:length], np.array(shares)[:length]


def budgets_of(seed: int) -> Minutes:
    rng, requests, shares = some_traffic(seed, 9)
    bad = rng.binomial(requests, shares)
    return Minutes.of(START, good=requests - bad, bad=bad)


def durations_of(seed: int) -> Minutes:
    rng, requests, shares = some_traffic(seed, 4)
    several = [
        list(np.round(rng.lognormal(5, 0.3, count) * (3 if rng.random() < share else 1), 3))
        for count, share in zip(requests, shares, strict=True)
    ]
    return measured(several, scales=[6, 6, 5] if seed % 2 else [6], timeouts=seed % 3 // 2)


def times_of(seed: int) -> Minutes:
    rng, requests, shares = some_traffic(seed, 2)
    milestone = requests * rng.uniform(900, 1100, len(requests))
    taken = TimeTaken(
        milestone * np.minimum(1, shares * 5),
        requests,
        {"complete": np.where(rng.random(len(requests)) < 0.3, 0, milestone), "first_token": milestone / 2},
    )
    return replace(Minutes.of(START, good=requests, bad=requests * 0), time_taken=taken)


def timing(seed: int) -> dict[str, timedelta]:
    rng = np.random.default_rng([seed, 1])
    return {
        "for_": timedelta(minutes=int(rng.choice([0, 0, 1, 5, 90]))),
        "keep_firing_for": timedelta(minutes=int(rng.choice([0, 1, 5, 120]))),
    }


KINDS: dict[str, tuple[Callable[[int], Minutes], Callable[[int], Rule]]] = {
    "error_budget": (
        budgets_of,
        lambda seed: ErrorBudgetRule(
            objective=0.99, window_days=7, remaining_percent=[50, 25, 10, 0][seed % 4], **timing(seed)
        ),
    ),
    "forecast": (budgets_of, lambda seed: ForecastRule(objective=0.97, window_days=7, **timing(seed))),
    "threshold": (
        durations_of,
        lambda seed: ThresholdRule(
            percentile=["p50", "p95", "p99"][seed % 3],
            threshold_ms=[150.0, 220.0, 256.0][seed % 3],
            window=["5m", "30m", "2h"][seed // 3 % 3],
            **timing(seed),
        ),
    ),
    "trend": (durations_of, lambda seed: TrendRule(growth_ratio=1.02, **timing(seed))),
    "no_data": (
        budgets_of,
        lambda seed: NoDataRule(silent_minutes=[2, 15, 60][seed % 3], **timing(seed)),
    ),
    "unallocated_component": (
        times_of,
        lambda seed: UnallocatedComponentRule(share_ratio=0.05, **timing(seed)),
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_skipped_changes_nothing(kind: str, seed: int) -> None:
    make_minutes, make_rule = KINDS[kind]
    minutes, rule = make_minutes(seed), make_rule(seed)
    # Asked at every moment, a day of forecasts takes a second.
    since = minutes.end - min(DAY, len(minutes) * MINUTE)
    assert list(replay(rule, minutes, since=since)) == list(
        replay(rule, minutes, since=since, is_every_moment_asked=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_would_have_been_skipped_does_change_somewhere(kind: str) -> None:
    """The test before this one compares something."""
    make_minutes, make_rule = KINDS[kind]
    assert any(list(replay(make_rule(seed), make_minutes(seed))) for seed in range(4))


@pytest.mark.parametrize("kind", ["error_budget", "forecast", "no_data"])
def test_a_rule_looks_back_no_further_than_it_says(kind: str) -> None:
    minutes, rule = budgets_of(1), KINDS[kind][1](1)
    before = len(minutes) - looks_back(rule) // MINUTE
    bad = minutes.judged - minutes.good
    later = Minutes.of(START + before * MINUTE, good=minutes.good[before:], bad=bad[before:])
    assert before > 0
    seen, of_all = observed(rule, later, later.moments - 1), observed(rule, minutes, minutes.moments - 1)
    np.testing.assert_equal(vars_of(seen), vars_of(of_all))


def vars_of(observation: object) -> dict[str, object]:
    return {name: getattr(observation, name) for name in observation.__slots__}  # type: ignore[attr-defined]
